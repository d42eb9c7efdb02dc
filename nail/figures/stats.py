"""Intervals over independent runs: the runs axis comes first, randomness from an explicit numpy Generator."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from nail.checks import require


class Interval(NamedTuple):
    """An estimate between two ends, each a number or an array of the statistic's shape."""

    estimate: Float[np.ndarray, "..."] | float
    low: Float[np.ndarray, "..."] | float
    high: Float[np.ndarray, "..."] | float


def mean_sd(samples: Float[np.ndarray, "runs ..."]) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Mean and standard deviation over runs (divisor runs − 1; NaN for a single run, whose spread is
    unknown).

    Raises `BadInput` without runs.
    """
    samples = _runs(samples, 1)
    if len(samples) == 1:
        return samples[0], np.full(samples.shape[1:], np.nan)
    return samples.mean(0), samples.std(0, ddof=1)


def bootstrap_interval(
    samples: Float[np.ndarray, "runs ..."], rng: np.random.Generator,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    level: float = 0.95, resamples: int = 2000, method: Literal["percentile", "bca"] = "percentile",
) -> Interval:  # fmt: skip
    """Bootstrap interval of a statistic over runs, by resampling whole runs with replacement.

    `statistic` maps (runs, ...) to an array or a number (the mean over runs by default); the interval has
    its shape. `percentile`: the (1±level)/2 quantiles of the resampled statistic. `bca`: those quantiles
    shifted by the bias z_0 = Φ⁻¹(#{resampled < estimate}/resamples) and by the jackknife's acceleration
    (Efron 1987). Raises `BadInput` for fewer than 2 runs, a level outside (0, 1), resamples < 1, an unknown
    method.
    """
    samples = _runs(samples, 2)
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    require(resamples >= 1, "resamples", resamples, "at least 1")
    require(method in ("percentile", "bca"), "method", method, "'percentile' or 'bca'")
    statistic = statistic or (lambda runs: runs.mean(0))
    runs = len(samples)
    estimate = np.asarray(statistic(samples), float)
    draws = np.stack([statistic(samples[rng.integers(0, runs, runs)]) for _ in range(resamples)])
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "percentile":
        low, high = np.quantile(draws, tails, axis=0)
        return Interval(estimate, low, high)
    jackknife = np.stack([statistic(np.delete(samples, i, axis=0)) for i in range(runs)])
    low, high = _bca(estimate, draws, jackknife, tails)
    return Interval(estimate, low, high)


def _bca(estimate, draws, jackknife, tails):
    """BCa quantiles of the resampled statistics `draws` (resamples, ...); the ends, each of the statistic's
    shape."""
    below = (np.sum(draws < estimate, 0) + 0.5 * np.sum(draws == estimate, 0)) / len(draws)
    bias = stats.norm.ppf(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    pull = jackknife.mean(0) - jackknife
    spread = np.sum(pull**2, 0)
    accelerate = np.where(spread > 0, np.sum(pull**3, 0) / (6 * np.where(spread > 0, spread, 1.0) ** 1.5), 0.0)
    ends = []
    for tail in tails:
        z = bias + stats.norm.ppf(tail)
        level = stats.norm.cdf(bias + z / (1 - accelerate * z))
        flat, at = draws.reshape(len(draws), -1), np.ravel(level)
        end = np.array([np.quantile(flat[:, i], at[i]) for i in range(flat.shape[1])])
        ends.append(end.reshape(estimate.shape))
    return ends


def proportion_interval(
    successes: int, trials: int, level: float = 0.95, method: Literal["wilson", "clopper-pearson"] = "wilson"
) -> Interval:
    """Interval of a probability from `successes` in `trials`: Wilson's score, or Clopper and Pearson's,
    which never covers less than `level`.

    Raises `BadInput` for trials < 1, successes outside 0..trials, a level outside (0, 1), an unknown method.
    """
    require(trials >= 1, "trials", trials, "at least 1")
    require(0 <= successes <= trials, "successes", successes, f"in 0..{trials}")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    require(method in ("wilson", "clopper-pearson"), "method", method, "'wilson' or 'clopper-pearson'")
    name = "wilson" if method == "wilson" else "exact"
    found = stats.binomtest(int(successes), int(trials)).proportion_ci(level, method=name)
    return Interval(successes / trials, float(found.low), float(found.high))


def _runs(samples: np.ndarray, least: int) -> np.ndarray:
    samples = np.asarray(samples, float)
    require(samples.ndim >= 1 and len(samples) >= least, "number of runs", samples.shape[:1], f"at least {least}")
    return samples
