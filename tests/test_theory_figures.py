"""The theory figures at their smallest size: tables against closed forms, claims, and nothing computed twice.

Also what they rest on: points that survive a kill, the policy simulator, and laws learned behind a known channel.
"""

import importlib
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import theory_garnet, theory_unknown_noise
from experiments._theory import fit_n_star, log_sd, run_points, simulate
from nail.checks import BadInput
from nail.cli.bench.counts import bench_steps
from nail.counting.laws import clean_estimate, learned_laws
from nail.envs.instances import garnet, hidden_path
from nail.envs.mdp import soft_optimal_policy, value
from nail.figures import experiment
from nail.noise import Huber
from nail.sweep.store import read_csv
from nail.theory import bounds, exact

NAMES = ("theory_horizon", "theory_noise", "theory_compounding", "theory_rare_action", "theory_unknown_noise",
         "theory_garnet")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every figure at `smoke`, made once: name → folder."""
    folders = {}
    for name in NAMES:
        folders[name] = tmp_path_factory.mktemp(name)
        experiment.make(name, "smoke", folders[name])
    return folders


def table(made, name, suffix=""):
    return read_csv(made[name] / f"{name}{suffix}.csv")


@pytest.mark.parametrize("name", NAMES)
def test_figure_is_complete_and_a_second_call_computes_nothing(made, name):
    out = made[name]
    assert all((out / f"{name}.{kind}").stat().st_size > 5_000 for kind in ("png", "pdf"))
    claims = table(made, name, "_claims")
    assert {row["holds"] for row in claims} <= {"holds", "does not hold"}
    assert all(row["measured"] and row["source"] for row in claims)
    parts = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/rows.csv")}
    files = {path: path.read_bytes() for path in out.glob(f"{name}*") if path.suffix != ".pdf"}
    assert parts
    experiment.make(name, "smoke", out)
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/rows.csv")} == parts
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.parametrize("name", NAMES)
def test_costs_and_presets(name):
    found = experiment.load(name)
    assert found.name == name
    assert set(found.cost) == set(experiment.PRESETS)
    assert set(importlib.import_module(f"experiments.{name}").SIZES) == set(experiment.PRESETS)


def test_horizon_and_noise_overlay_the_closed_forms(made):
    known = {"n_offline": exact.n_offline, "n_bc": exact.n_bc, "phased": bounds.phased_nail}
    for name in ("theory_horizon", "theory_noise"):
        rows = [row for row in table(made, name) if row["method"] in known]
        assert {row["method"] for row in rows} == set(known)
        for row in rows:
            numbers = int(row["horizon"]), int(row["n_actions"]), float(row["eta"]), float(row["delta"])
            assert float(row["episodes"]) == known[row["method"]](*numbers)
    for row in table(made, "theory_noise"):
        assert float(row["kappa"]) == bounds.kappa(4, float(row["eta"]))


def test_horizon_stops_at_the_budget_and_leaves_censored_points_out(made):
    rows = table(made, "theory_horizon")
    offline = [r for r in rows if r["method"] == "loglossbc" and r["instance"] == "poison-chain"]
    assert [int(r["censored"]) for r in offline[:-1]] == [0] * (len(offline) - 1)
    flat = [r for r in rows if r["method"] == "nail-f"]
    assert {r["form"] for r in flat} == {"polynomial"}
    assert all(float(r["slope_low"]) <= float(r["slope"]) <= float(r["slope_high"]) for r in flat)
    assert {float(r["theory_slope"]) for r in offline if r["theory_slope"]} <= {-math.log(0.625)}


def test_fits_recover_a_known_curve_and_ignore_censored_points():
    def row(horizon, n, censored=0):
        return {"horizon": str(horizon), "n_star": str(n), "low": str(n * 0.9), "high": str(n * 1.1),
                "censored": str(censored), "resolution": "1"}  # fmt: skip

    rows = [row(h, 5 * math.exp(0.4 * h)) for h in (2, 4, 6, 8)] + [row(10, 1e5, 1)]
    fit = fit_n_star(rows)
    assert fit.exponential.slope == pytest.approx(0.4)
    assert fit.verdict == "exponential"
    np.testing.assert_allclose(log_sd(rows[3:4]), math.log(1.1 / 0.9) / 2 / 1.959964)
    assert fit_n_star(rows[2:]) is None


def test_compounding_is_exact_bounded_and_simulated(made):
    for row in table(made, "theory_compounding"):
        recovery = int(row["recovery"]) or None
        cost = exact.compounding_cost(int(row["horizon"]), float(row["error"]), recovery)
        assert float(row["exact"]) == cost
        assert cost <= float(row["bound"])
        half = (float(row["high"]) - float(row["low"])) / 2
        assert abs(float(row["simulated"]) - cost) <= 3 * half + 1e-9
    assert {row["holds"] for row in table(made, "theory_compounding", "_claims")[:3]} == {"holds"}


def test_rare_action_episodes_are_the_smallest(made):
    cases = importlib.import_module("experiments.theory_rare_action").CASE
    for row in table(made, "theory_rare_action"):
        noise, domination, _ = cases[row["case"]]
        n, delta = int(row["episodes"]), float(row["delta"])
        setting = int(row["horizon"]), float(row["c"]), float(row["eta"])
        assert exact.lrt_error(*setting, n, noise, domination) == float(row["error"]) <= delta
        assert exact.lrt_error(*setting, n - 1, noise, domination) > delta
    simulated = [c for c in table(made, "theory_rare_action", "_claims") if "simulated test" in c["claim"]]
    assert [c["holds"] for c in simulated] == ["holds"]


def test_unknown_noise_bound_and_its_end(made):
    for row in table(made, "theory_unknown_noise"):
        eta = float(row["eta"])
        if row["noise"] == "adversarial":
            assert theory_unknown_noise.gap("adversarial", eta) == pytest.approx(1 - 2 * eta)
            assert math.isinf(float(row["bound"])) == (eta >= 0.5)
        if row["noise"] == "adversarial" and row["method"] == "nailgun":
            assert int(row["censored"]) == (eta > 0.5)


def test_garnet_means_and_bound(made):
    rows, small = table(made, "theory_garnet", "_rows"), table(made, "theory_garnet")
    for row in small[:: len(small) // 5]:
        same = [float(r["loss"]) for r in rows if all(r[k] == row[k] for k in ("expert", "method", "episodes"))]
        assert len(same) == int(row["instances"])
        assert float(row["loss"]) == pytest.approx(np.mean(same))
        assert float(row["low"]) <= float(row["loss"]) <= float(row["high"])
    limit = theory_garnet.bound(small[0], np.array([100.0]))[0]
    horizon, n_states, n_actions = (int(small[0][k]) for k in ("horizon", "n_states", "n_actions"))
    size = horizon * n_states * math.log(n_actions)
    assert bounds.general_bound(horizon, size, float(small[0]["eta"]), limit) == pytest.approx(100)


def test_a_killed_figure_goes_on_where_it_was(tmp_path):
    """Also: a series stops when it is told to, other settings are other points, a damaged part is measured again."""
    calls = []

    def measure(point):
        calls.append(point["x"])
        if point["x"] == 3 and calls.count(3) == 1:
            raise KeyboardInterrupt
        return [{**point, "y": point["x"] ** 2}]

    series = [[{"x": x} for x in range(6)]]

    def run():
        return run_points("figure", tmp_path, series, measure, lambda rows: float(rows[0]["y"]) >= 16)

    with pytest.raises(KeyboardInterrupt):
        run()
    rows = run()
    assert [int(row["y"]) for row in rows] == [0, 1, 4, 9, 16]
    assert calls == [0, 1, 2, 3, 3, 4]
    assert "git_revision" in rows[0]
    part = next(path for path in Path(tmp_path).glob("runs/*/rows.csv") if "\n2,4" in path.read_text())
    part.write_text(part.read_text()[:-5])
    assert [int(row["y"]) for row in run()] == [0, 1, 4, 9, 16]
    assert calls[6:] == [2]
    assert [row["x"] for row in run_points("other", tmp_path, [[{"x": 0}]], measure)] == ["0"]
    assert calls[7:] == [0]


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


def test_learned_laws_find_the_stochastic_expert():
    """Reverse KL reads probabilities: exact wherever every action was queried. Labels: within 6 standard errors."""
    instance = garnet(0, 2, 3, 2, 3, "soft", 0.2)
    laws = learned_laws(instance, "nail-r", 0.4, 150, 2, 4, 0)
    assert laws.shape == (4, 2, 2, 3, 2)
    np.testing.assert_allclose(laws[:, -1, 0], np.broadcast_to(instance.expert[0], (4, 3, 2)), atol=1e-5)
    counted = learned_laws(instance, "nail-f", 0.4, 600, 1, 4, 1)[:, 0, 0]
    assert np.abs(counted - instance.expert[0]).max() < 6 * math.sqrt(0.25 / 150) / 0.6
    np.testing.assert_allclose(counted.sum(-1), 1.0)
    unseen = learned_laws(hidden_path(3, 3), "nail-f", 0.0, 1, 1, 2, 0)
    assert np.isclose(unseen, 1 / 3).any(-1).any()


def test_bad_input_of_learned_laws():
    instance = garnet(0, 2, 3, 2, 2)
    for call in (
        lambda: learned_laws(instance, "nail", 0.4, 1, 1, 1, 0),
        lambda: learned_laws(instance, "nail-class", 0.4, 1, 1, 1, 0),
        lambda: learned_laws(instance, "nail-f", 1.0, 1, 1, 1, 0),
        lambda: learned_laws(instance, "nail-f", 0.5, 0, 1, 1, 0),
    ):
        with pytest.raises(BadInput):
            call()


def test_bench_steps_reports_rates(capsys):
    row = bench_steps(0.01)
    assert row["steps_over_numpy"] == pytest.approx(row["steps_per_s"] / row["numpy_labels_per_s"])
    assert min(row["steps_per_s"], row["numpy_labels_per_s"], row["numpy_choice_per_s"]) > 0
    assert "simulated steps/s" in capsys.readouterr().out
