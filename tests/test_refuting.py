"""No claim without rows that refute it: the tables of changes cover every figure. Also the harness itself."""

import importlib
from pathlib import Path

import pandas as pd
import pytest
from refuting import unturned

from nail.figures import experiment
from nail.figures.experiment import Claim, Experiment


def test_every_figure_has_rows_that_refute_its_claims():
    modules = [path.stem for path in Path(__file__).parent.glob("test_refuting_*.py")]
    covered = [name for module in modules for name in importlib.import_module(module).CHANGES]
    own = [
        name for name in experiment.names() if experiment.load(name).claims.__module__.startswith("nail_experiments")
    ]
    assert sorted(covered) == sorted(own)


@pytest.fixture
def two_claims(monkeypatch):
    """A figure with a claim that can fail and one that cannot."""

    def claims(rows):
        return [Claim("x is small", "arXiv 1011.0686", "x ≥ 1", "", bool((rows.x < 1).all())),
                Claim("y is what it is", "arXiv 1011.0686", "nothing", "", True)]  # fmt: skip

    found = Experiment("two", "", {}, None, None, claims, None)
    monkeypatch.setitem(experiment.FIGURES, "two", lambda: found)


def test_the_harness_sees_a_claim_that_cannot_fail(two_claims):
    rows = pd.DataFrame({"x": [0.1, 0.2]})
    large, same = (lambda rows: rows.assign(x=2.0)), (lambda rows: rows)
    assert unturned("two", rows, {"x is": large, "y is": large}) == [
        "two: not turned by the change for 'y is': y is what it is"
    ]
    assert unturned("two", rows, {"x is": large}) == ["two: no change for: y is what it is"]
    assert len(unturned("two", rows, {"x is": same, "z": large})) == 3
    assert unturned("two", rows.assign(x=2.0), {"x is": lambda rows: rows.assign(x=0.0)})[0].startswith(
        "two: no change"
    )
