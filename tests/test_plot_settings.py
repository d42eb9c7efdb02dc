"""`nail plot`: settings that differ in any option are told apart, and none of them is lost."""

import math

import pandas as pd
import pytest
from plotting_rows import Line, points, words_of

from nail.figures.picture import draw


def columns_last(rows, *names):
    """With those of the columns `names` that there are behind the others, as in a folder whose first row lacks them."""
    last = [name for name in names if name in rows]
    return rows[[name for name in rows if name not in last] + last]


def test_options_that_the_first_row_lacks_tell_points_apart():
    """Bursts beside Huber's noise, regret beside P(regret ≤ ε), two definitions under one name: none is a seed."""
    few = points(etas=(0.3,))
    bursts = [few.assign(noise="bursts", burst=rho) for rho in (0.6, 0.95)]
    pac = [few.assign(criterion="pac", epsilon=e) for e in (0.05, 0.2)]
    own = [few.assign(definition=found) for found in ("aaa", "bbb")]
    for rows, name, said in (
        (pd.concat([few.assign(noise="huber"), *bursts]), "burst", ("no bursts", "ρ = 0.6", "ρ = 0.95")),
        (pd.concat([few, *pac]), "epsilon", ("mean regret", "ε = 0.05", "ε = 0.2")),
        (pd.concat(own), "definition", ("definition 1 (aaa)", "definition 2 (bbb)")),
    ):
        found = columns_last(rows.assign(point_seed=range(len(rows))), "noise", "criterion", "burst", "definition")
        figure, table = draw(found.reset_index(drop=True))
        assert set(table.kind) == {"point"}
        assert len(table) == len(rows)
        assert table.groupby([name, "method"], dropna=False).ngroups == 2 * len(said)
        assert all(words in words_of(figure) for words in said), words_of(figure)
        assert "seeds" not in words_of(figure)
    bound = Line("mine", lambda rows: rows.H * (2 + rows.burst.fillna(0)))
    table = draw(pd.concat([few, *bursts]), by="burst", bounds=[bound])[1]
    assert (table.kind == "upper").sum() == 3 * len(few)


def test_an_instance_without_an_option_of_another_s_is_drawn():
    """The chain beside a garnet, which alone has `instances` and S; with S on the x axis it is said to be missing."""
    few = points(etas=(0.3,))
    chain = few.assign(instance="poison-chain", instances=math.nan, S=math.nan)
    rows = pd.concat([chain, few.assign(instance="garnet", instances=5, S=3)], ignore_index=True)
    figure, table = draw(rows)
    assert table.groupby("instance").size().to_dict() == {"poison-chain": len(few), "garnet": len(few)}
    assert "S = " not in words_of(figure)
    assert f"Not drawn: {len(few)} of {2 * len(few)} points, as they have no S." in words_of(draw(rows, x="S")[0])


@pytest.mark.parametrize("role", ["x", "by", "panel"])
def test_an_effort_that_is_asked_for_is_an_axis(role):
    rows = pd.concat([points(etas=(0.3,), replicates=n) for n in (50, 100, 200)], ignore_index=True)
    assert len(draw(rows)[1]) == len(rows) / 3
    table = draw(rows, **{role: "replicates"})[1]
    assert sorted(table.replicates.unique()) == [50, 100, 200]
    assert len(table) == len(rows)
