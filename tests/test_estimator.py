"""Bias and variance of the return-to-go estimator: recursion, enumeration, differentiation, Monte Carlo, orders."""

from functools import partial

import jax
import numpy as np
import pytest

from nail.checks import BadInput
from nail.figures import experiment
from nail.sweep.store import read_csv
from nail.theory import estimator
from nail.theory.scaling import fit_line

GAMMAS = (0.0, 0.5, 0.9, 1.0)


def random_problem(stale: bool = False) -> estimator.SequenceProblem:
    """Three states, three actions, four shared parameters, all drawn at a fixed seed."""
    rng = np.random.default_rng(7)
    law = rng.dirichlet(np.ones(3), 3) if stale else None
    return estimator.SequenceProblem(
        "random", rng.integers(3, size=(3, 3)), rng.normal(size=(3, 3, 4)), rng.normal(size=4),
        rng.dirichlet(np.ones(3), 3), law,
    )  # fmt: skip


PROBLEMS = [random_problem(), random_problem(stale=True), estimator.early_branch(), estimator.independent_tokens()]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_recursion_is_the_enumeration(problem, gamma):
    """The enumeration applies the definition to every sequence."""
    for horizon in (1, 2, 5):
        found = estimator.exact_moments(problem, gamma, horizon)
        listed = estimator.enumerated_moments(problem, gamma, horizon)
        np.testing.assert_allclose(found.mean, listed.mean, atol=1e-12)
        assert found.variance == pytest.approx(listed.variance, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.driver is None])
def test_whole_return_is_unbiased_for_the_sequence_kl(problem):
    for horizon in (1, 4):
        with jax.enable_x64(True):
            kl = partial(estimator.sequence_kl, problem=problem, horizon=horizon)
            exact = np.asarray(jax.jit(jax.grad(kl))(problem.theta))
        listed = estimator.enumerated_moments(problem, 1.0, horizon)
        np.testing.assert_allclose(listed.mean, exact, atol=1e-10)
        np.testing.assert_allclose(estimator.gradient(problem, horizon), exact, atol=1e-10)


def token_gradient(problem, horizon):
    """Σ_t E_{s_t} ∇KL(p(·|s_t)‖t(·|s_t)) with prefixes from the driver and stopped, from the state occupancies."""
    local = np.einsum(
        "sa,sad,sa->sd", estimator.student(problem), estimator.scores(problem), estimator.rewards(problem)
    )
    mass, total = np.eye(len(local))[0], np.zeros(local.shape[1])
    for _ in range(horizon):
        total += mass @ local
        following = np.zeros_like(mass)
        np.add.at(following, problem.step, mass[:, None] * estimator.driver(problem))
        mass = following
    return total


@pytest.mark.parametrize("problem", [random_problem(), estimator.early_branch()])
def test_no_return_is_the_token_level_gradient(problem):
    """And that is not the gradient of the sequence-level divergence where actions matter for later ones."""
    listed = estimator.enumerated_moments(problem, 0.0, 4)
    np.testing.assert_allclose(listed.mean, token_gradient(problem, 4), atol=1e-12)
    assert np.linalg.norm(listed.mean - estimator.gradient(problem, 4)) > 0.1


def test_scores_have_mean_zero_and_rewards_the_divergence():
    problem = random_problem()
    law = estimator.student(problem)
    np.testing.assert_allclose(np.einsum("sa,sad->sd", law, estimator.scores(problem)), 0, atol=1e-12)
    np.testing.assert_allclose(
        np.sum(law * estimator.rewards(problem), -1), np.sum(law * np.log(law / problem.expert), -1), atol=1e-12
    )


@pytest.mark.parametrize("problem", [random_problem(), random_problem(stale=True)])
def test_simulation_agrees_with_the_enumeration(problem):
    """6 standard errors, 2 × 3 γ × (4 + 1) numbers: error probability below 1e-7, if normal."""
    gammas = np.array([0.0, 0.7, 1.0])
    drawn = estimator.simulate_estimator(problem, gammas, 6, 20_000, np.random.default_rng(0))
    for gamma, g in zip(gammas, drawn, strict=True):
        exact = estimator.enumerated_moments(problem, float(gamma), 6)
        assert np.all(np.abs(g.mean(0) - exact.mean) < 6 * g.std(0) / np.sqrt(len(g)))
        squares = np.sum((g - g.mean(0)) ** 2, -1)
        assert abs(squares.mean() - exact.variance) < 6 * squares.std() / np.sqrt(len(g))


@pytest.mark.parametrize(
    ("problem", "gamma", "order"),
    [
        (estimator.independent_tokens(), 0.0, 1),
        (estimator.independent_tokens(), 1.0, 3),
        (estimator.early_branch(), 0.0, 2),
        (estimator.early_branch(), 1.0, 3),
        (estimator.early_branch(drawn=0.9), 1.0, 4),
    ],
)
def test_orders_of_the_variance(problem, gamma, order):
    horizons = np.array([64, 128, 256, 512])
    found = [estimator.exact_moments(problem, gamma, int(t)).variance for t in horizons]
    assert fit_line(np.log(horizons), np.log(np.array(found))).slope == pytest.approx(order, abs=0.07)


def test_bounds_hold_and_the_derived_one_has_the_lower_order():
    for problem in PROBLEMS:
        for gamma in GAMMAS:
            for horizon in (1, 3, 40):
                found = estimator.exact_moments(problem, gamma, horizon)
                second = found.variance + found.mean @ found.mean
                assert second <= estimator.stated_bound(problem, gamma, horizon) * (1 + 1e-12)
                if problem.driver is None:
                    assert second <= estimator.martingale_bound(problem, gamma, horizon) * (1 + 1e-12)
    ratio = [estimator.martingale_bound(PROBLEMS[0], 1.0, t) / estimator.stated_bound(PROBLEMS[0], 1.0, t)
             for t in (500, 1000)]  # fmt: skip
    assert ratio[1] / ratio[0] == pytest.approx(0.5, rel=0.01)


def test_bad_input():
    problem = random_problem()
    for call in (
        lambda: estimator.exact_moments(problem, 1.1, 3),
        lambda: estimator.exact_moments(problem, 0.5, 0),
        lambda: estimator.enumerated_moments(problem, float("nan"), 3),
        lambda: estimator.enumerated_moments(problem, 0.5, 30),
        lambda: estimator.sequence_kl(problem.theta, problem, 30),
    ):
        with pytest.raises(BadInput):
            call()


@pytest.mark.slow
def test_the_figure_at_its_smallest_size(tmp_path):
    """Pictures, fits beside the theory, claims; a second call computes nothing."""
    claims = experiment.make("estimator_variance", "smoke", tmp_path)
    assert [claim.holds for claim in claims[:4]] == [True] * 4
    table = read_csv(tmp_path / "estimator_variance.csv")
    assert all(float(row["slope_low"]) <= float(row["slope"]) <= float(row["slope_high"]) for row in table)
    assert {(r["gamma"], r["stated_slope"]) for r in table if r["stated_slope"]} == {("0.0", "2"), ("1.0", "4")}
    for row in table:
        if row["enumerated_variance"]:
            assert float(row["enumerated_variance"]) == pytest.approx(float(row["variance"]), rel=1e-9)
    assert all((tmp_path / f"estimator_variance.{kind}").stat().st_size > 5_000 for kind in ("png", "pdf"))
    parts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/rows.csv")}
    rows = experiment.load("estimator_variance").compute("smoke", tmp_path)
    assert [{**row, "preset": "smoke"} for row in rows] == read_csv(tmp_path / "estimator_variance_rows.csv")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/rows.csv")} == parts
