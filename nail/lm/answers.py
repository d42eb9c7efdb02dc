r"""Answers of word problems: what a completion says, what is true, whether the two are the same; intervals of counts.

The rules are those of the paper's release for GSM8K (arXiv 2606.30923, `gsm/`): the last \boxed{…} whose braces match,
else the last number; equal within 1e−5 as numbers, else as texts. A second, lenient reading takes a number out of what
stands around it: \text{…}, \$, \%, units.
"""

import re

from scipy import stats

from nail.checks import BadInput
from nail.stats import Interval, proportion_interval

BOX = r"\boxed{"
MARK = "####"
"""stands before the true answer"""
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")
WRAPPED = re.compile(r"\\(?:text|math|mbox)[a-z]*\s*\{([^{}]*)\}")
r"""\text{…}, \textbf{…}, \mathrm{…} and others of these kinds"""
GROUPED = re.compile(r"(?<=\d)(?:\{,\}|\\[,!;: ]|[~\u00a0\u2009\u202f])(?=\d{3}(?!\d))")
"""what stands between groups of three digits beside a comma"""
PLAIN = re.compile(r"-?\s*(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|-?\s*\.\d+")
MANY = re.compile(r"hundred|thousand|[mbtr]illion|dozen|\dk\b", re.IGNORECASE)
"""words that make another number of the one before"""
CLOSE = 1e-5
"""numbers that are nearer than this are the same answer"""


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{…} of a text whose braces match; None if there is none."""
    at = text.rfind(BOX)
    while at >= 0:
        start, depth = at + len(BOX), 1
        for end in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[start:end]
        at = text.rfind(BOX, 0, at)
    return None


def extracted(completion: str) -> str | None:
    """The answer that a completion gives: its last box, else its last number without commas, else None."""
    found = boxed(completion)
    if found is not None:
        return found
    numbers = NUMBER.findall(completion)
    return numbers[-1].replace(",", "") if numbers else None


def normalised(answer: str) -> str:
    """An answer without outer blanks, $, %, commas and one final full stop."""
    return re.sub(r"[$%,]", "", answer.strip()).removesuffix(".").strip()


def same(answer: str | None, truth: str) -> bool:
    """Whether an answer is the true one: |Δ| < 1e−5 if both are numbers, else the same text, both `normalised`."""
    if answer is None:
        return False
    found, wanted = normalised(answer), normalised(truth)
    try:
        return abs(float(found) - float(wanted)) < CLOSE
    except ValueError:
        return found == wanted


def lenient(completion: str) -> str | None:
    """The number that a completion gives in the lenient reading: the only one in its last box, else its last one.

    None for a box with no number, with several (1 8, 3/4), or with a word like thousand.
    """
    text, before = completion.replace("−", "-"), ""
    while text != before:
        before, text = text, WRAPPED.sub(r" \1 ", text)
    text = re.sub(r"\\[,!;: ]|\\?[$%€£]", " ", GROUPED.sub(",", text))
    found = boxed(text)
    if found is None:
        return extracted(text)
    numbers = PLAIN.findall(found)
    return re.sub(r"[\s,]", "", numbers[0]) if len(numbers) == 1 and not MANY.search(found) else None


def same_leniently(completion: str, truth: str) -> bool:
    """Whether a completion gives the true answer in the protocol's reading or in the lenient one."""
    return same(extracted(completion), truth) or same(lenient(completion), truth)


def truth(answer: str) -> str:
    """The true answer: what follows the last "####"; raises `BadInput` if nothing does."""
    _, mark, found = answer.rpartition(MARK)
    if not (mark and normalised(found)):
        raise BadInput(f"an answer must end with {MARK} and the true answer, got {answer[-40:]!r}")
    return normalised(found)


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Interval of a probability from `successes` in `trials`: Wilson's, by inverting the score test (SciPy's).

    Raises `BadInput` for trials < 1, successes outside 0..trials, a level outside (0, 1).
    """
    share = proportion_interval(successes, trials, level).estimate
    found = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(share, found.low, found.high)
