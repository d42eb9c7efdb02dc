"""Tests that need the extra `lm`: `make test-lm` names these files; `make test` collects test_*.py only."""

import pytest

from nail.lm.fresh import sizes_of, write_fresh
from nail.lm.problems import problems, vocabulary
from nail.lm.questions import write_questions

WORDS = vocabulary()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A student, an expert of another shape, training and test questions."""
    path = tmp_path_factory.mktemp("models")
    student = write_fresh(path / "student", sizes_of(32, 2, 2, WORDS), WORDS, 0)
    expert = write_fresh(path / "expert", sizes_of(24, 2, 4, WORDS), WORDS, 1)
    write_questions(path / "train.jsonl", [p.as_question() for p in problems(20, 0, "train")])
    write_questions(path / "test.jsonl", [p.as_question() for p in problems(6, 0, "test")])
    return student, expert
