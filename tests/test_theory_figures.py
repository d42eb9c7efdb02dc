"""The theory figures at their smallest size: tables against closed forms, claims, and nothing computed twice.

Also what they rest on: fits of n*, the policy simulator, and laws learned behind a known channel.
"""

import functools
import importlib
import math

import jax.numpy as jnp
import numpy as np
import pytest
from nail_experiments._nstar import EXPONENTIAL, KNOWN, POLYNOMIAL, fit_n_star, log_sd
from nail_experiments.theory_compounding import simulate
from nail_experiments.theory_rare_action import CASE
from programs import made_once

from nail.checks import BadInput
from nail.cli.bench.counts import bench_steps
from nail.cli.main import main
from nail.counting.drivers import Setting
from nail.counting.layered import deployed, simulation
from nail.counting.learners import clean_estimate
from nail.envs.instances import garnet, hidden_path
from nail.envs.mdp import soft_optimal_policy, value
from nail.figures import experiment
from nail.noise import Huber
from nail.sweep.table import read_rows, typed
from nail.theory import bounds, exact

NAMES = [name for name in experiment.names() if name.startswith("theory_")]
HEAVY = (
    "theory_sampling", "theory_general_bound", "theory_garnet", "theory_offline_best", "theory_unknown_noise",
    "theory_drivers", "theory_online_exact", "theory_bursts",
)  # fmt: skip
"""figures that take longest"""
MARKS = {name: pytest.mark.slow for name in HEAVY} | {"theory_noise": pytest.mark.quick}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """name → folder of the figure at `smoke`, made once for all workers, when a test asks for it."""

    @functools.cache
    def make(name):
        return made_once(tmp_path_factory, name, lambda out: experiment.make(name, "smoke", out))

    return make


@pytest.fixture(scope="session")
def table(made):
    """(name, end of the file's name) → rows of a figure at `smoke`."""
    return lambda name, suffix="": read_rows(made(name) / f"{name}{suffix}.csv")


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS.get(n, ())) for n in NAMES])
def test_figure_is_complete_and_a_second_call_computes_nothing(made, table, name):
    out = made(name)
    assert all((out / f"{name}.{kind}").stat().st_size > 5_000 for kind in ("png", "pdf"))
    claims = table(name, "_claims")
    assert set(claims.holds) <= {"holds", "refuted", "undecided"}
    assert ((claims.measured != "") & (claims.source != "")).all()
    parts = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/rows/*")}
    files = {path: path.read_bytes() for path in out.glob(f"{name}*") if path.suffix != ".pdf"}
    assert parts
    experiment.make(name, "smoke", out)
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/rows/*")} == parts
    assert {path: path.read_bytes() for path in files} == files


def test_a_figure_of_n_star_is_drawn_in_queries_too(made):
    out = made("theory_noise")
    before = (out / "theory_noise.png").read_bytes()
    (out / "theory_noise.png").unlink()
    experiment.make("theory_noise", "smoke", out, redraw=True, unit="queries")
    pictures = [(out / f"theory_noise{unit}.png").read_bytes() for unit in ("", "_queries")]
    assert pictures[0] == before != pictures[1]
    for name in ("theory_garnet", "fig2"):
        with pytest.raises(BadInput, match="unit must be left out"):
            experiment.make(name, "smoke", out, unit="queries")
    with pytest.raises(BadInput, match="unit must be episodes, queries, got hours"):
        experiment.make("theory_noise", "smoke", out, unit="hours")


def test_rows_that_cannot_be_drawn_leave_everything_as_it_was(tmp_path, monkeypatch, capsys):
    """Rows that somebody changed come to their drawing, maybe: then neither table nor claims are another's."""
    found = experiment.Experiment(
        "toy", "a toy", {"smoke": "a second"}, lambda preset, out: [{"x": 1}], lambda rows: rows, lambda rows: [],
        lambda table: 1 / (1 - int(table.x[0])),
    )  # fmt: skip
    monkeypatch.setitem(experiment.FIGURES, "toy", lambda: found)
    with pytest.raises(ZeroDivisionError):
        experiment.make("toy", "smoke", tmp_path)
    assert main(["figure", "toy", "--preset", "smoke", "--redraw", "--out", str(tmp_path)]) == 2
    assert "cannot be read as such (ZeroDivisionError" in capsys.readouterr().err
    assert {path.name for path in tmp_path.glob("toy*")} == {"toy_rows.csv"}


@pytest.mark.parametrize("name", NAMES)
def test_costs_and_presets(name):
    found = experiment.load(name)
    assert found.name == name
    assert tuple(found.cost) == ("smoke", "cpu", "paper")
    assert set(importlib.import_module(f"nail_experiments.{name}").SIZES) == set(found.cost)


def test_horizon_and_noise_overlay_the_closed_forms(table):
    for name in ("theory_horizon", "theory_noise"):
        rows = table(name)
        rows = rows[rows.method.isin(KNOWN)]
        assert set(rows.method) == set(KNOWN)
        for row in rows.itertuples():
            assert row.episodes == KNOWN[row.method][0](row.horizon, row.n_actions, row.eta, row.delta)
    for row in table("theory_noise").itertuples():
        assert row.kappa == bounds.kappa(4, row.eta)


def test_horizon_stops_at_the_budget_and_counts_in_two_units(table):
    rows = table("theory_horizon")
    offline = rows[(rows.method == "loglossbc") & (rows.instance == "poison-chain")]
    assert list(offline.censored) == [0, 0, 0, 1]
    assert set(rows[(rows.method == "nail-f") & (rows.part == "curves")].form) == {"linear"}
    fitted = rows[rows.slope.notna()]
    assert fitted.slope.between(fitted.slope_low, fitted.slope_high).all()
    assert set(offline.theory_slope.dropna()) == {-math.log(0.625)}
    for each in (rows, table("theory_noise")):
        for queries, ends in (("queries", "episodes"), ("queries_low", "low"), ("queries_high", "high")):
            np.testing.assert_allclose(each[queries], each[ends] * each.horizon)
        reads = {"opd-r", "nail-r"}
        assert set(each[each.oracle == "probabilities"].method) == reads
        assert set(each[each.oracle == "labels"].method) == {*EXPONENTIAL, *POLYNOMIAL} - reads


def test_fits_recover_a_known_curve_with_censored_points():
    def row(horizon, n, censored=0):
        return {"horizon": str(horizon), "n_star": "inf" if censored else str(n), "low": str(n * 0.9),
                "high": "inf" if censored else str(n * 1.1), "censored": str(censored), "resolution": "1",
                "allowed": str(n)}  # fmt: skip

    rows = typed([row(h, 5 * math.exp(0.4 * h)) for h in (2, 4, 6, 8)] + [row(10, 200, 1)])
    fit = fit_n_star(rows)
    assert fit.exponential.slope == pytest.approx(0.4, abs=0.01)
    assert fit.verdict == "exponential"
    sd = math.log(1.1 / 0.9) / 2 / 1.959964
    np.testing.assert_allclose(log_sd(rows[3:]), sd)
    open_above = rows[3:4].assign(high=math.inf)
    np.testing.assert_allclose(log_sd(open_above), -math.log(0.9) / 1.959964)
    assert fit_n_star(rows[2:]) is None


def test_compounding_is_exact_bounded_and_simulated(table):
    for row in table("theory_compounding").itertuples():
        cost = exact.compounding_cost(row.horizon, row.error, row.recovery or None)
        assert row.exact == cost <= row.bound
        assert abs(row.simulated - cost) <= 3 * (row.high - row.low) / 2 + 1e-9
    assert set(table("theory_compounding", "_claims").holds[:3]) == {"holds"}


def test_rare_action_episodes_are_the_smallest(table):
    rows = table("theory_rare_action")
    for row in rows[rows.kind == "test"].itertuples():
        noise, domination, _ = CASE[row.case]
        before, error = (
            exact.lrt_error(row.horizon, row.c, row.eta, n, noise, domination) for n in (row.episodes - 1, row.episodes)
        )
        assert error == row.error <= row.delta < before
    claims = table("theory_rare_action", "_claims")
    assert list(claims.holds[claims.claim.str.contains("simulated test")]) == ["holds"]


@pytest.mark.slow
def test_unknown_noise_ends_at_one_half(table):
    rows = table("theory_unknown_noise")
    nailgun = rows[(rows.noise == "adversarial") & (rows.method == "nailgun")]
    assert len(nailgun)
    assert list(nailgun.censored) == list(nailgun.eta > 0.5)


@pytest.mark.slow
def test_garnet_means(table):
    rows, small = table("theory_garnet", "_rows"), table("theory_garnet")
    keys = ["expert", "method", "episodes"]
    loss = rows.groupby(keys).loss.agg(["mean", "count"]).reindex(list(small[keys].itertuples(index=False)))
    np.testing.assert_allclose(small.loss, loss["mean"])
    assert list(small.instances) == list(loss["count"])
    assert small.loss.between(small.low, small.high).all()


def test_simulated_value_is_the_dynamic_programme(tmp_path):
    """5 standard errors: error probability 6e-7."""
    mdp = garnet(3, 5, 4, 3, 2).mdp
    policy = soft_optimal_policy(mdp, 0.1)
    rewards = simulate(mdp, policy, 20_000, np.random.default_rng(0))
    assert abs(rewards.mean() - value(mdp, policy)) < 5 * rewards.std() / math.sqrt(20_000)


def test_clean_estimate_inverts_the_channel():
    clean, channel = jnp.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]]), Huber(0.4, jnp.full(3, 1 / 3))
    np.testing.assert_allclose(clean_estimate(channel.probs(clean), channel), clean, atol=1e-6)
    beyond = clean_estimate(jnp.array([0.9, 0.1, 0.0]), channel)
    np.testing.assert_allclose(beyond, [1, 0, 0], atol=1e-6)


def test_deployed_laws_find_the_stochastic_expert():
    """Reverse KL reads probabilities: exact wherever every action was queried. Labels: within 6 standard errors."""

    def laws(instance, method, eta, n, seed):
        return simulation(deployed, instance, method, Setting(eta, told_kernel=instance.kernel), 4, seed)(n, 1)[:, 0]

    instance = garnet(0, 2, 3, 2, 3, "soft", 0.2)
    read = laws(instance, "nail-r", 0.4, 300, 0)
    assert read.shape == (4, 2, 3, 2)
    np.testing.assert_allclose(read[:, 0], np.broadcast_to(instance.expert[0], (4, 3, 2)), atol=1e-5)
    counted = laws(instance, "nail-f", 0.4, 600, 1)[:, 0]
    assert np.abs(counted - instance.expert[0]).max() < 6 * math.sqrt(0.25 / 150) / 0.6
    np.testing.assert_allclose(counted.sum(-1), 1.0, atol=1e-6)
    unseen = laws(hidden_path(3, 3), "nail-f", 0.0, 1, 0)
    assert np.isclose(unseen, 1 / 3).any(-1).any()


def test_bench_steps_reports_rates(capsys):
    row = bench_steps(0.01)
    assert row["steps_over_numpy"] == pytest.approx(row["steps_per_s"] / row["numpy_labels_per_s"])
    assert min(row["steps_per_s"], row["numpy_labels_per_s"], row["numpy_choice_per_s"]) > 0
    assert "steps_per_s" in capsys.readouterr().out
