"""Bad input: one clear sentence, raised before anything is compiled.

The command line prints the sentence of a `BadInput` without a traceback and exits with code 2.
"""

import difflib
import sys
from collections.abc import Iterable
from typing import Any

MAX_TREE = 1024
"""largest number of states of a hidden path built as an explicit tree"""
MAX_ENTRIES = 2**24
"""largest number of entries of a transition table"""
MAX_RUNS = 10_000
"""largest number of runs of one command"""
MAX_COUNT = 2**31 - 1
"""largest number of a 32-bit counter"""
SMALL, LARGE = 1e-30, 1e30
"""between these lie positive numbers that a run keeps in 32 bits"""
LONGEST = 200
"""characters of a word of a sentence, from which on it is cut"""


class BadInput(ValueError):
    """A value that a user gave is outside its allowed range; `str()` of it is one sentence for that user."""


def require(ok: Any, name: str, value: Any, allowed: str) -> None:
    """Raise `BadInput` "name must be allowed, got value" unless `ok`, a bool of Python or of numpy."""
    if not ok:
        raise BadInput(f"{name} must be {allowed}, got {value}")


def is_text(text: str) -> bool:
    """Whether UTF-8 can write it: names of files may hold bytes that are no letters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: Any) -> str:
    """Text from a file or a name of one as a terminal may show it, on one line: what is no letter, sign or blank
    (control characters, marks of direction, bytes that are no text) as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: Any) -> str:
    """A sentence about what a user gave: `printable`, over-long words cut."""
    return " ".join(
        word if len(word) <= LONGEST else f"{word[: LONGEST // 2]}…{word[-LONGEST // 4 :]}"
        for word in printable(text).split(" ")
    )


def say(sentence: Any) -> None:
    """Print a sentence of nail on standard error, so that nothing that it cites acts on the terminal."""
    print(f"nail: {one_line(sentence)}", file=sys.stderr)


def require_known(what: str, value: str, known: Iterable[str]) -> None:
    """Raise `BadInput` unless `value` is one of `known`; the sentence offers the nearest name."""
    known = list(known)
    if value in known:
        return
    near = difflib.get_close_matches(str(value)[:LONGEST].lower(), known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise BadInput(f"unknown {what} {value!r}{hint} (known: {', '.join(known)})")
