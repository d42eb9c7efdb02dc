"""Questions with their answers: JSON lines {"question": …, "answer": …}, as GSM8K has them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nail.checks import BadInput
from nail.lm.answers import truth
from nail.sweep.store import write_text


class Question(NamedTuple):
    """A question; `answer` is a chain of thought, "####" and the true answer, or empty where only prompts are asked."""

    question: str
    answer: str = ""


def read_questions(path: Path, answered: bool = False) -> list[Question]:
    """The questions of a file of JSON lines; empty lines are skipped.

    Raises `BadInput`, one sentence that names the file and the line, for a line that is not a JSON object with a text
    "question" (and, if `answered`, an "answer" that ends with "####" and the truth), or a file without questions.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path} must be a file of JSON lines, and there is no such file")
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} must be a file of JSON lines in UTF-8, and it cannot be read as one") from error
    found = [_question(line, f"line {n} of {path}", answered) for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise BadInput(f"{path} must hold at least one question, and it is empty")
    return found


def write_questions(path: Path, questions: Sequence[Question]) -> Path:
    """Write questions as JSON lines, whole or not at all."""
    write_text(Path(path), "".join(json.dumps(question._asdict(), ensure_ascii=False) + "\n" for question in questions))
    return Path(path)


def _question(line: str, where: str, answered: bool) -> Question:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} must be a JSON object, and it is not JSON") from error
    if not isinstance(value, dict):
        raise BadInput(f'{where} must be a JSON object with a "question", got {line.strip()[:40]!r}')
    question, answer = value.get("question"), value.get("answer", "")
    if not (isinstance(question, str) and question.strip()):
        raise BadInput(f'{where} must have a "question" that is a text, got {question!r}')
    if not isinstance(answer, str):
        raise BadInput(f'{where} must have an "answer" that is a text, got {answer!r}')
    if answered:
        try:
            truth(answer)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
    return Question(question, answer)
