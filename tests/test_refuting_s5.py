"""Made-up rows of the figure s5 that turn its claims."""

import itertools

import pandas as pd
import pytest
from nail_experiments.s5 import LAWS, ORDER
from refuting import unturned


def rows():
    """Every method solves the task under the two laws that go on; only NAIL and DAgger under the random suffix."""
    found = []
    for (law, pair), method, seed, episodes in itertools.product(LAWS.items(), ORDER, range(3), range(0, 900, 100)):
        right = law != "random suffix" or method in ("nail-f", "nail-r", "dagger")
        found.append((*pair, law, method, seed, episodes, float(right and episodes > 0)))
    columns = ["noise", "recovery", "law", "method", "seed", "episodes", "full_exact"]
    return pd.DataFrame(found, columns=columns)


def put(value, **where):
    def change(table):
        chosen = (table[list(where)] == where).all(axis=1)
        return table.assign(full_exact=table.full_exact.mask(chosen, value))

    return change


CHANGES = {
    "s5": {
        **{
            f"{law}: {label} solves": put(0.94, law=law, method=method, seed=1)
            for law in LAWS
            for label, method in (("NAIL-F", "nail-f"), ("NAIL-R", "nail-r"))
        },
        **{
            f"{law}: LogLossBC and NAIL-F": put(0.85, law=law, method="loglossbc", seed=2)
            for law in ("distributional", "semantic key")
        },
        **{
            f"random suffix: {label} does not": put(0.5, law="random suffix", method=method, seed=0)
            for label, method in (("LogLossBC", "loglossbc"), ("OPD-F", "opd-f"), ("OPD-R", "opd-r"))
        },
    }
}


@pytest.mark.parametrize("name", CHANGES)
def test_rows_can_refute_every_claim(name):
    assert not unturned(name, rows(), CHANGES[name])
