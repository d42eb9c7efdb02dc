r"""Questions as prompts: the model's own chat template, tokens, left padding.

The rendered text has its begin-of-sequence token from the template and is tokenised without adding another: one such
token. (The paper's release tokenises the rendered text again in the ordinary way, which probably makes two.)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from nail.checks import BadInput
from nail.lm.folders import Folder, require_tokenizer_fits

SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."
"""the paper's system prompt"""
MOST_PROMPT = 4096
"""tokens of a prompt; of a longer one the last are kept"""


class Prompts(NamedTuple):
    """A batch of prompts that end together."""

    tokens: Int[np.ndarray, "batch length"]
    real: Bool[np.ndarray, "batch length"]
    """False where a row is padded on its left"""


def load_tokenizer(folder: Folder, name: str) -> Any:
    """The Hugging Face tokenizer of a folder; raises `BadInput` if it cannot be read, is too large, has no template."""
    from transformers import AutoTokenizer

    require_tokenizer_fits(folder, name)
    try:
        found = AutoTokenizer.from_pretrained(str(folder.path), local_files_only=True)
    except Exception as error:  # whatever a foreign file makes the library raise
        raise BadInput(f"{name} must have a tokenizer that transformers reads, and {folder.path} has not") from error
    if not found.chat_template:
        raise BadInput(f"{name} must have a tokenizer with a chat template, and {folder.path} has none")
    return found


def prompt_tokens(tokenizer: Any, question: str) -> list[int]:
    """Tokens of system prompt, question and the opening of the answer, by the chat template."""
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"][-MOST_PROMPT:]


def pad_left(rows: Sequence[Sequence[int]], length: int) -> Prompts:
    """Rows of tokens as a batch of prompts of one length; padding is token 0, which nothing reads."""
    tokens = np.zeros((len(rows), length), np.int32)
    real = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        tokens[i, length - len(row) :] = row
        real[i, length - len(row) :] = True
    return Prompts(tokens, real)


def answer_tokens(tokenizer: Any, answer: str, stops: Sequence[int]) -> list[int]:
    """Tokens of an answer, with the last of `stops`, the end of a turn."""
    return [*tokenizer(answer, add_special_tokens=False)["input_ids"], stops[-1]]


def pad_right(
    rows: Sequence[Sequence[int]], length: int, kept: int | None = None
) -> tuple[Int[np.ndarray, "batch length"], Bool[np.ndarray, "batch length"]]:
    """Rows of tokens as (tokens, counted) of one length; only the first `kept` rows count (none given: all)."""
    tokens, counted = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
        counted[i, : len(row)] = kept is None or i < kept
    return tokens, counted


def room(rows: Sequence[Sequence[int]], step: int = 8) -> int:
    """Length of the longest row, up to a multiple of `step`: few lengths are compiled."""
    return -(-max(map(len, rows)) // step) * step


def completion_text(tokenizer: Any, tokens: Sequence[int], stops: Sequence[int]) -> str:
    """The text of a completion up to its first stop token."""
    ended = [i for i, token in enumerate(tokens) if token in stops]
    kept = list(tokens[: ended[0] if ended else None])
    return tokenizer.decode(kept, skip_special_tokens=True)
