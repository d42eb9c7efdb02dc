r"""Word problems of 2 to 4 steps that the package makes itself: a function of a seed, in a closed vocabulary.

A template is the sequence of what happens to somebody's things ("buys", "eats", "doubles", …). Who it is, what things
and how many are drawn. Templates of training and of test are disjoint; each single step occurs in both. All numbers are
whole and between 1 and `Limits.largest`, and each number is a word of the vocabulary, as are `\boxed{` and `}`.
"""

import itertools
import zlib
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from nail.checks import MAX_COUNT, require
from nail.lm.answers import BOX, MARK
from nail.lm.questions import Question

STEPS = (2, 3, 4)
HELD_OUT = 5
"""one template of so many is for test"""

Split = Literal["train", "test"]


class Limits(NamedTuple):
    """How large the numbers of a problem may be."""

    largest: int = 99
    at_once: int = 20
    """most things that are there at first, or come or go at a step"""


DEFAULT = Limits()


class Step(NamedTuple):
    """What happens to x things: a sentence with an amount b, and the number of things after it."""

    name: str
    sentence: str
    """with {name}, {friend}, {item} and the amount {b}"""
    sign: str
    after: Callable[[int, int], int]
    amounts: Callable[[int, Limits], range]
    """of b, that keep the result within the limits"""


class Problem(NamedTuple):
    """A question, a chain of thought that ends in a box, the true answer, and the template's steps."""

    question: str
    chain: str
    answer: int
    template: tuple[str, ...]

    def as_question(self) -> Question:
        """As a line of a file: the chain, "####", the answer."""
        return Question(self.question, f"{self.chain} {MARK} {self.answer}")


NAMES = tuple("Ann Ben Carla Dan Ella Finn Gina Hugo Ida Jon Kim Leo Mia Ned Olga Paul".split())
ITEMS = tuple("apples books coins dolls eggs flags games hats marbles nuts pens shells stamps toys".split())


def _more(x: int, limits: Limits) -> range:
    return range(1, min(limits.at_once, limits.largest - x) + 1)


def _fewer(x: int, limits: Limits) -> range:
    return range(1, min(limits.at_once, x - 1) + 1)


def _times(x: int, limits: Limits) -> range:
    return range(2, min(3, limits.largest // x) + 1)


_KINDS = {"+": (int.__add__, _more), "-": (int.__sub__, _fewer), "*": (int.__mul__, _times)}
_SENTENCES = (
    ("buys", "Then {name} buys {b} more {item} .", "+"),
    ("finds", "{name} finds {b} {item} in a box .", "+"),
    ("gets", "{friend} gives {b} {item} to {name} .", "+"),
    ("gives", "{name} gives {b} of the {item} to {friend} .", "-"),
    ("loses", "On the way {name} loses {b} {item} .", "-"),
    ("sells", "{name} sells {b} {item} at the market .", "-"),
    ("grows", "Now {name} wins until there are {b} times as many {item} .", "*"),
)
ALL_STEPS = tuple(Step(name, sentence, sign, *_KINDS[sign]) for name, sentence, sign in _SENTENCES)
_START, _END = "{name} has {b} {item} .", "How many {item} does {name} have in the end ?"
_BEGIN, _DONE = "{name} has {b} .", f"The answer is {BOX}{{ {{b}} }}}} ."


def templates(split: Split) -> list[tuple[Step, ...]]:
    """The sequences of 2 to 4 steps of one part: a checksum of the steps' names says which part has a sequence."""
    every = itertools.chain.from_iterable(itertools.product(ALL_STEPS, repeat=n) for n in STEPS)
    wanted = split == "test"
    return [steps for steps in every if (_checksum(steps) % HELD_OUT == 0) == wanted]


def problems(n: int, seed: int, split: Split, limits: Limits = DEFAULT) -> list[Problem]:
    """`n` problems, the same for the same seed; the first ones of more are the same too.

    Raises `BadInput` for n < 1, a seed outside 0 ≤ seed < 2^31, another split than "train" or "test", and limits
    outside 32 ≤ largest ≤ 999, 5 ≤ at_once ≤ largest, in which some template has no numbers.
    """
    require(1 <= n <= MAX_COUNT, "number of problems", n, f"in 1..{MAX_COUNT}")
    require(0 <= seed < 2**31, "seed", seed, "an integer of at least 0 and below 2^31")
    require(split in ("train", "test"), "split", split, "train or test")
    require(32 <= limits.largest <= 999, "largest", limits.largest, "an integer in 32..999")
    require(5 <= limits.at_once <= limits.largest, "at_once", limits.at_once, f"an integer in 5..{limits.largest}")
    known, rng = templates(split), np.random.default_rng([seed, split == "test"])
    return [_problem(known[rng.integers(len(known))], rng, limits) for _ in range(n)]


def vocabulary(limits: Limits = DEFAULT) -> list[str]:
    """Every word that a problem or its chain may hold, each once, in a fixed order."""
    frames = (_START, _END, _BEGIN, _DONE.replace("{{", "{").replace("}}", "}"), *(step.sentence for step in ALL_STEPS))
    words = [word for frame in frames for word in frame.split() if not (word[0] == "{" and word[-1] == "}")]
    signs = [*_KINDS, "=", "####"]
    numbers = [str(x) for x in range(limits.largest + 1)]
    return list(dict.fromkeys([*words, *signs, *NAMES, *ITEMS, *numbers]))


def _checksum(steps: tuple[Step, ...]) -> int:
    return zlib.crc32(" ".join(step.name for step in steps).encode())


def _problem(steps: tuple[Step, ...], rng: np.random.Generator, limits: Limits) -> Problem:
    name, friend = rng.choice(NAMES, 2, replace=False)
    words = {"name": name, "friend": friend, "item": rng.choice(ITEMS)}
    first, amounts = _amounts(steps, rng, limits)
    sentences, x = [_START.format(b=first, **words)], first
    chain = [_BEGIN.format(b=first, **words)]
    for step, b in zip(steps, amounts, strict=True):
        sentences.append(step.sentence.format(b=b, **words))
        chain.append(f"{x} {step.sign} {b} = {step.after(x, b)} .")
        x = step.after(x, b)
    question = " ".join([*sentences, _END.format(**words)])
    return Problem(question, " ".join([*chain, _DONE.format(b=x)]), x, tuple(step.name for step in steps))


def _amounts(steps: tuple[Step, ...], rng: np.random.Generator, limits: Limits) -> tuple[int, list[int]]:
    """(number at first, amount of each step), drawn anew until each step has an amount it may take."""
    while True:
        first = x = int(rng.integers(2, limits.at_once + 1))
        amounts: list[int] = []
        for step in steps:
            allowed = step.amounts(x, limits)
            if not allowed:
                break
            amounts.append(int(rng.choice(allowed)))
            x = step.after(x, amounts[-1])
        else:
            return first, amounts
