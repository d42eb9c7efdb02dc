"""Answers of word problems: what is extracted, what is equal, and Wilson's interval."""

import numpy as np
import pytest
from scipy import stats

from nail.checks import BadInput
from nail.lm.answers import boxed, extracted, normalised, same, same_leniently, truth, wilson_interval


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"so \boxed{18}", "18"),
        (r"so \boxed{ 18 } .", " 18 "),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} no, \boxed{2}.", "2"),
        (r"\boxed{1} and then \boxed{2", "1"),
        (r"\boxed{1{2} 7", "7"),
        (r"\boxed{} but 5", ""),
        (r"\boxed{1,234.50}", "1,234.50"),
        (r"\boxed{18 dollars}", "18 dollars"),
        (r"\boxed{a \boxed{3} b} 9", "3"),
        ("first 3, then 1,234.50 dollars", "1234.50"),
        ("it is -7.", "-7."),
        ("it costs $12", "12"),
        ("3 - 5 = -2", "-2"),
        ("a range of 3-5", "-5"),
        ("no number at all", None),
        ("", None),
    ],
)
def test_what_a_completion_answers(completion, answer):
    assert extracted(completion) == answer


def test_the_last_box_whose_braces_match():
    assert boxed(r"\boxed{\text{a {b} c}} x") == r"\text{a {b} c}"
    assert boxed("{18}") is None


@pytest.mark.parametrize(
    ("answer", "true", "equal"),
    [
        ("18", "18", True),
        ("18.0", "18", True),
        ("18.", "18", True),
        (" $1,234.50 ", "1234.5", True),
        ("50%", "50", True),
        ("-3", "-3", True),
        ("-3", "3", False),
        ("18.000009", "18", True),
        ("18.00002", "18", False),
        ("18 dollars", "18", False),
        ("eighteen", "eighteen", True),
        ("nan", "18", False),
        ("", "18", False),
        (None, "18", False),
        ("7.", "-7", False),
    ],
)
def test_what_is_equal(answer, true, equal):
    assert same(answer, true) is equal


@pytest.mark.parametrize(
    ("completion", "true", "protocol", "leniently"),
    [
        (r"\boxed{18}", "18", True, True),
        (r"\boxed{18.0}", "18", True, True),
        (r"\boxed{1,800}", "1800", True, True),
        (r"\boxed{$18}", "18", True, True),
        (r"\boxed{18%}", "18", True, True),
        (r"\boxed{\$18}", "18", False, True),
        (r"\boxed{18\%}", "18", False, True),
        (r"\boxed{\text{18}}", "18", False, True),
        (r"\boxed{\textbf{18}}", "18", False, True),
        (r"\boxed{\mathbf{\text{18}}}", "18", False, True),
        (r"\boxed{18 dollars}", "18", False, True),
        (r"\boxed{18 \text{ dollars}}", "18", False, True),
        (r"\boxed{x = 18}", "18", False, True),
        (r"\boxed{1{,}800}", "1800", False, True),
        (r"\boxed{1\,800 \text{ m}}", "1800", False, True),
        (r"\boxed{-\$18}", "-18", False, True),
        ("\\boxed{−18}", "-18", False, True),
        (r"\boxed{\$0.50}", "0.5", False, True),
        ("so he pays 18 dollars", "18", True, True),
        (r"so he pays $1{,}800$", "1800", False, True),
        (r"\boxed{81}", "18", False, False),
        (r"\boxed{\text{81}}", "18", False, False),
        (r"\boxed{1 8}", "18", False, False),
        (r"\boxed{\text{1}\text{8}}", "18", False, False),
        (r"\boxed{$18 or $20}", "18", False, False),
        (r"\boxed{\$18 or \$20}", "20", False, False),
        (r"\boxed{18, 20}", "20", False, False),
        (r"\boxed{}", "18", False, False),
        (r"\boxed{} but 18", "18", False, False),
        (r"\boxed{\text{none}}", "18", False, False),
        ("", "18", False, False),
        (r"\boxed{-18}", "18", False, False),
        (r"\boxed{-\$18}", "18", False, False),
        (r"\boxed{\$18}", "-18", False, False),
        (r"\boxed{50\%}", "0.5", False, False),
        (r"\boxed{\frac{1}{2}}", "1", False, False),
        (r"\boxed{3/4}", "3", False, False),
        (r"\boxed{18 \text{ thousand}}", "18", False, False),
        (r"\boxed{18k}", "18", False, False),
        (r"\boxed{18.00002 \text{ m}}", "18", False, False),
    ],
)
def test_the_protocols_reading_and_the_lenient_one(completion, true, protocol, leniently):
    assert (same(extracted(completion), true), same_leniently(completion, true)) == (protocol, leniently)


def test_the_truth_follows_the_last_mark():
    assert truth("a #### b\n#### 1,234") == "1234"
    assert truth("#### $-5.") == "-5"
    assert normalised(" 12 .") == "12"
    for wrong in ("18", "18 ####", "#### ."):
        with pytest.raises(BadInput, match="must end with #### and the true answer"):
            truth(wrong)


def test_wilson_in_closed_form_and_its_coverage():
    """(k + z²/2 ± z √(k(n−k)/n + z²/4)) / (n + z²); at p = 0.3, n = 50 it covers with probability 0.93 to 0.98."""
    k, n, z = 7, 20, stats.norm.ppf(0.975)
    root = z * np.sqrt(k * (n - k) / n + z**2 / 4)
    found = wilson_interval(k, n)
    np.testing.assert_allclose(found, [k / n, (k + z**2 / 2 - root) / (n + z**2), (k + z**2 / 2 + root) / (n + z**2)])
    held = [wilson_interval(k, 50).low <= 0.3 <= wilson_interval(k, 50).high for k in range(51)]
    assert 0.93 < stats.binom.pmf(np.arange(51), 50, 0.3)[held].sum() < 0.98
    for wrong in ((1, 0, 0.95), (3, 2, 0.95), (1, 2, 1.0)):
        with pytest.raises(BadInput):
            wilson_interval(*wrong)
