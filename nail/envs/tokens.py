"""Token tasks: an autoregressive chain whose state is the prefix, and how a finished chain is scored."""

from typing import Literal, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from nail.registry import document_fields

Recovery = Literal["none", "follow", "echo"]


class Score(NamedTuple):
    """How an emitted chain compares with the clean chain of its prompt."""

    full_exact: Bool[Array, "..."]
    """every token is right"""
    answer_exact: Bool[Array, "..."]
    """the answer is right: the last token, or what the task takes for it"""
    position_exact: Float[Array, "... H"]
    """1 where the token at that position is right"""


def exact_match(emitted: Int[Array, "... H"], clean: Int[Array, "... H"]) -> Score:
    """Compare an emitted chain with the clean one, position by position."""
    right = emitted == clean
    return Score(right.all(-1), right[..., -1], right.astype("float32"))


document_fields(__name__)
