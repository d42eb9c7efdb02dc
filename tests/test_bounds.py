"""Bounds against n*: formulas that evaluate nothing else, verdicts, and intervals that cover the truth on the chain."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nail.checks import BadInput
from nail.complexity import bounds, expressions, fits, intervals
from nail.complexity.bounds import Bound
from nail.counting.crossing import crossing
from nail.counting.nstar import n_star
from nail.theory.exact import bc_exact, n_bc
from nail.theory.online import episodes_per_level

A, ETA, DELTA, HORIZONS = 4, 0.3, 0.1, (3, 4, 5, 6, 7, 8, 9, 10)
SURE = 1e-4
"""probability with which a right interval fails a test of coverage (one-sided, binomial); seeds are fixed"""
POINT = {"instance": "poison-chain", "method": "loglossbc", "A": A, "eta": ETA, "delta": DELTA, "q": 1 - ETA + ETA / A,
         "R": 1.0, "noise_kernel": "uniform", "oracle": "labels"}  # fmt: skip


def row(horizon, found, **other):
    """A measured n* as a row of a grid."""
    n, queries = (math.inf, math.inf) if found.censored else (found.value, found.queries)
    return {**POINT, "H": horizon, "logPi": horizon * math.log(A), "n_star": n, "low": found.interval[0],
            "high": found.interval[1], "queries": queries, "queries_low": found.query_interval[0],
            "queries_high": found.query_interval[1], "censored": int(found.censored), "resolution": found.resolution,
            "max_episodes": found.budget, "wider": intervals.write_wider(found.wider), **other}  # fmt: skip


def given(n, spread=1.0, **columns):
    """Rows with these n* (H = 4, 8, ..) and intervals [n/spread, n·spread] at every level."""
    n = np.asarray(n, float)
    low, high = n / spread, n * spread
    wider = [intervals.write_wider([end] * 17) for end in zip(low, high, strict=True)]
    each = {"H": 4 * np.arange(1, len(n) + 1), "n_star": n, "low": low, "high": high, "wider": wider, "censored": 0,
            "resolution": 1, "max_episodes": 10**6}  # fmt: skip
    return pd.DataFrame({**POINT, **each, **columns})


@pytest.fixture(scope="module")
def exact():
    """H → (n*, checkpoints, success of LogLossBC there), exact."""
    found = {}
    for horizon in HORIZONS:
        n = n_bc(horizon, A, ETA, DELTA)
        at = np.arange(3 * n + 10)
        found[horizon] = n, at, np.array([bc_exact(horizon, A, ETA, int(k)) for k in at])
    return found


def measured(exact, rng, replicates, budget=10**6):
    """What `n_star` would measure: each of so many runs is right from the n on where the exact success passes its own
    uniform number, so that at each checkpoint as many are right as by independent draws (`crossing` needs no more)."""
    rows = []
    for horizon, (_, at, success) in exact.items():
        wrong = rng.random((replicates, 1)) > success
        parts = ((at[a:b], wrong[:, a:b]) for a, b in itertools.pairwise((0, 1, len(at) // 2, len(at))))
        rows.append(row(horizon, crossing(parts, DELTA, horizon, budget, points=len(HORIZONS))))
    return pd.DataFrame(rows)


def test_constant_and_rate_cover_the_exact_curve(exact):
    """8 points of LogLossBC on the chain, 100 times, against the curve itself (constant 1, rate 0) and against 8·q^−H,
    whose constant and rate are the same functionals of the exact curve (with the intervals of the first time). The
    curve is refuted as a bound in at most 5 % of the times; half of it is, and twice it holds, each time."""
    n, rng, times = np.array([exact[h][0] for h in HORIZONS], float), np.random.default_rng(0), 100
    asked = [Bound("curve", lambda H: exact[int(H)][0]), bounds.parse("pole: 8*q**-H")]
    sure = [Bound("half", lambda H: exact[int(H)][0] / 2), Bound("twice", lambda H: 2 * exact[int(H)][0])]
    truth, hits, refuted = {}, dict.fromkeys(itertools.product(("curve", "pole"), ("constant", "rate")), 0), 0
    for time in range(times):
        rows = measured(exact, rng, 500)
        found = bounds.judge(rows, asked + sure * (time < 5), ["H"]).set_index(["bound", "question"])
        if not time:
            for bound in asked:
                value = bound.values(rows)
                truth[bound.name, "constant"] = (n / value).max()
                truth[bound.name, "rate"] = fits.slopes(rows.assign(n_star=n), ["H"], value).slopes[0]
        for key, true in truth.items():
            low, high = found.loc[key, ["low", "high"]]
            hits[key] += low <= true <= high
        refuted += found.verdict["curve", "holds"] == "refuted"
        if time < 5:
            assert [found.verdict[name, "holds"] for name in ("half", "twice")] == ["refuted", "holds"]
    assert truth["curve", "constant"] == 1
    assert truth["curve", "rate"] == pytest.approx(0, abs=1e-9)
    assert stats.binom.cdf(min(hits.values()), times, 0.95) > SURE, hits
    assert stats.binom.sf(refuted - 1, times, 0.05) > SURE


def test_the_rate_of_a_right_bound_is_not_zero_on_a_short_grid():
    """n* = μH + zσ√H against H on H = 4..32, A = 4, η = 0.5: −0.15; on H = 400..3200 a seventh of that."""
    rows = given(np.ones(29))
    for scale, rate in ((1, -0.147), (100, -0.0202)):
        horizons = scale * np.arange(4, 33)
        n = episodes_per_level(4, 0.5) * horizons + stats.norm.isf(0.1) * 3.10 * np.sqrt(horizons)
        rows = rows.assign(H=horizons, n_star=n, low=n / 1.1, high=n * 1.1)
        (found,) = bounds.judge(rows, [bounds.parse("H")], ["H"]).query("question == 'rate'").value
        assert found == pytest.approx(rate, abs=0.002)


@pytest.mark.parametrize(
    ("side", "ends", "verdict"),
    [
        ("upper", (7, 9), "holds"), ("upper", (11, 12), "refuted"), ("upper", (9, 11), "undecided"),
        ("upper", (9, math.inf), "undecided"), ("upper", (11, math.inf), "refuted"), ("upper", (10, 10), "holds"),
        ("lower", (11, math.inf), "holds"), ("lower", (8, 9), "refuted"), ("lower", (9, 11), "undecided"),
        ("lower", (10, 10), "holds"),
    ],
)  # fmt: skip
def test_verdicts(side, ends, verdict):
    """Bound 10 at one point that decides, beside one that holds well."""
    beside = (1.0, 2.0) if side == "upper" else (90.0, 99.0)
    rows = given([1, 1], low=[9.5, 9.5], high=[10.5, 10.5])
    rows["wider"] = [intervals.write_wider([tuple(map(float, end))] * 2) for end in (ends, beside)]
    found = bounds.judge(rows, [bounds.parse("10", side)], ["H"]).set_index("question")
    assert found.verdict["holds"] == verdict
    touch = max if side == "upper" else min
    assert found.loc["constant", ["low", "high"]].tolist() == [touch(x) / 10 for x in zip(ends, beside, strict=True)]


@pytest.mark.parametrize("side", bounds.SIDES)
def test_points_that_were_left_out(side):
    """They have a share in the 5 %, and a bound does not hold with them; other series are as they were."""
    rows = given([10, 10, 10, 10], method=["a", "a", "b", "b"], H=[4, 8, 4, 8], run=["1", "2", "4", "5"])
    rows["wider"] = intervals.write_wider([(8.0, 12.0), (5.0, 20.0)])
    planned = pd.DataFrame({"instance": "poison-chain", "method": [*"aaabb"], "H": [4, 8, 12, 4, 8], "run": [*"12345"]})
    values = (1, 6, 13, 99) if side == "lower" else (99, 13, 7, 1)
    verdicts_of = (["undecided", "holds"], ["undecided", "holds"], ["undecided", "refuted"], ["refuted", "refuted"])
    for value, verdicts in zip(values, verdicts_of, strict=True):
        asked = [bounds.parse(str(value), side)]
        found = bounds.judge(rows, asked, ["method", "H"], planned)
        assert found[found.question == "holds"].verdict.tolist() == verdicts
        assert found[found.question == "holds"].left_out.tolist() == [1, 0]
        ends = found[found.question == "constant"]
        assert (ends.low * value).tolist() == pytest.approx([5, 8])
        alone = bounds.judge(rows, asked, ["method", "H"])
        assert alone[alone.question == "holds"].verdict.tolist() == verdicts[1:] * 2
    with pytest.raises(BadInput, match="points that were planned"):
        bounds.judge(rows, asked, ["method", "H"], planned[1:])
    with pytest.raises(BadInput, match="with 'run'"):
        bounds.judge(rows, asked, ["method", "H"], planned.drop(columns="run"))


def test_more_points_need_wider_intervals():
    """Of 1, 2, 3 and 5 points the intervals of level 1 − 0.05/k, k = 1, 2, 4, 8."""
    wider = intervals.write_wider([(20.0, 40.0), (15.0, 50.0), (10.0, 80.0), (0.0, math.inf)])
    for points, ends in ((1, (4, 4)), (2, (20, 40)), (3, (15, 50)), (4, (15, 50)), (5, (10, 80)), (9, (0, math.inf))):
        rows = given([4] * points, wider=wider)
        assert intervals.at_once(rows)[["low", "high"]].drop_duplicates().to_numpy().tolist() == [list(ends)]
    with pytest.raises(BadInput, match="at most 16"):
        intervals.at_once(given([4] * 17, wider=wider))
    with pytest.raises(BadInput, match="at most 1"):
        intervals.at_once(given([4, 4], wider=[wider, math.nan]))


def test_labels():
    """Asked for at each step they are H times the episodes at every level; asked for less often, the ends are no nearer
    than H labels an episode allow, and the error of their mean, which is at most 10 here, is half of the error: by the
    normal law's quantiles wider by 2.4977/2.2414 at two points; no more than H labels an episode are asked for."""
    rows = given([30, 30], H=5, low=25, high=40, wider="20:50", queries=150, queries_low=125, queries_high=200)
    assert intervals.at_once(rows, "labels").iloc[0].tolist() == [150, 100, 250]
    rows = rows.assign(queries=40, queries_low=30, queries_high=50, censored=[0, 1], wider="20:50 20:50")
    more = 10 * (2.497705 / 2.241403 - 1)
    assert intervals.at_once(rows, "labels").iloc[0].tolist() == pytest.approx([40, 5 - more, 100 + more], abs=1e-4)
    few = intervals.at_once(rows.assign(replicates=100, instances=3), "labels").high[0]
    assert few == pytest.approx(100 + 10 * (stats.t.ppf(1 - 0.05 / 8, 2) / stats.t.ppf(1 - 0.05 / 4, 2) - 1))
    assert intervals.at_once(rows.assign(queries_high=249), "labels").high[0] == 250
    assert intervals.at_once(rows.iloc[:1], "labels").iloc[0].tolist() == [40, 30, 50]
    open_end = rows.assign(queries=math.inf, queries_high=math.inf, high=math.inf, wider="20:50 20:inf")
    assert intervals.at_once(open_end, "labels").high.tolist() == [math.inf] * 2
    both = bounds.judge(rows, [bounds.parse("x: 60", unit="labels"), bounds.parse("y: 60")], [])
    assert both.query("question == 'holds'").verdict.tolist() == ["undecided", "holds"]


def test_series_and_axes():
    """A learner is judged over all its points, along H and η at once: n* = 2·H·(1−η)^−3 against H/(1−η)² and, for the
    other one, 5·H²; its fits are one a line over H, and one of all."""
    grid = pd.DataFrame(itertools.product(("a", "b"), (0.1, 0.3, 0.5), (4, 8, 16)), columns=["method", "eta", "H"])
    n = np.where(grid.method == "a", 2 * grid.H / (1 - grid.eta) ** 3, 5 * grid.H**2)
    rows = given(n, 1.02, **{name: grid[name].to_numpy() for name in grid})
    found = bounds.judge(rows, [bounds.parse("H/(1-eta)**2")], ["method", "eta", "H"])
    assert found.groupby("method").question.agg(list).tolist() == [["holds", "constant", "rate", "rate"]] * 2
    rates = found[found.question == "rate"].set_index(["method", "axis"])
    for key, rate in {("a", "H"): 0, ("a", "eta"): 1, ("b", "H"): 1, ("b", "eta"): -2}.items():
        assert rates.value[key] == pytest.approx(rate, abs=1e-3)
        assert rates.low[key] < rate < rates.high[key]
    table = fits.fit(rows, ["method", "eta", "H"])
    assert table.fit.value_counts().to_dict() == {"exponential": 6, "power law": 6, "linear": 6, "joint": 4}
    joint = table[table.fit == "joint"].set_index(["method", "axis"]).slope
    assert joint.tolist() == pytest.approx([3, 1, 0, 2], abs=1e-3)
    one = table[(table.method == "b") & (table.eta == 0.3)].set_index("fit")
    assert one.slope["power law"] == pytest.approx(2, abs=1e-3)
    assert one.delta_aic["power law"] == 0 < one.delta_aic["exponential"]


def test_what_cannot_be_fitted_says_so():
    few = fits.fit(given([5, 9]), ["H"])
    assert (few.fit[0], "at least 3" in few.note[0]) == ("none", True)
    together = given([5, 9, 11, 20], S=[4, 8, 12, 16], eta=0.3)
    for rows in (together, given([0, 9, 11, 20], A=[2, 3, 2, 3]), given([5, 9, 11, 20], delta=[0.1, 2.0, 0.1, 2.0])):
        axes = [axis for axis in ("H", "A", "S", "delta") if axis in rows and rows[axis].nunique() > 1]
        assert fits.fit(rows, axes).query("axis == @both", local_dict={"both": " ".join(axes)}).note.notna().all()
        rate = bounds.judge(rows, [bounds.parse("1")], axes).query("question == 'rate'")
        assert (len(rate), rate.value.isna().all(), rate.note.notna().all()) == (1, True, True)


def test_formulas_are_arithmetic():
    """Python's own arithmetic on the same words, with the symbols' numbers; what is too large is infinite at once."""
    values = {"H": np.array([4.0, 6.0]), "eta": np.array([0.3, 0.5])}
    names = {name: getattr(np, name) for name in ("log", "log2", "exp", "sqrt")}
    for text in (
        "2*H*log(8*H/0.1)/(1-eta)**2",
        "-H**2+ -3",
        "max(H, 5, min(2, eta))",
        "exp(-H)*sqrt(log2(H))",
        "2**-1**2",
    ):
        wanted = [eval(text, {**names, "min": min, "max": max}, {k: v[i] for k, v in values.items()}) for i in (0, 1)]
        found = expressions.parse_expression(text, values)(values)
        np.testing.assert_allclose(np.broadcast_to(found, 2), wanted, rtol=1e-15)
    for text in ("9**9**9**9", "1e400", "1" + "0" * 400, "exp(1e9)"):
        assert expressions.parse_expression(text, values)(values) == math.inf


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2*H*foo(A)", "column 5"), ("2 + η", "column 5"), ("H^2", "a power is"), ("(H", "column 1"), ("", "1..1000"),
        ("__import__('os').system('x')", "column 1"), ("H.real", "column 1"), ("(lambda: H)()", "column 1"),
        ("1+[H][0]", "column 3"), ("H if A else 1", "column 1"), ("1j*H", "column 1"), ("True", "column 1"),
        ("f'{H}'", "column 1"), ("log(H, 2)", "one value"), ("max(H)", "two values"), ("log(*H)", "column 5"),
        ("log(x=H)", "column 1"), ("(" * 300 + "H" + ")" * 300, "column"), ("-" * 2000 + "H", "1..1000"),
        ("H; A", "column 2"), ("H := 3", "column"), ("\0", "null"), ("\ud800", "be read"),
    ],
)  # fmt: skip
def test_nothing_else_is_evaluated(text, words):
    with pytest.raises(BadInput) as refused:
        bounds.parse(f"mine: {text}")
    assert words in str(refused.value)
    assert "mine" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bad_bounds_are_refused_before_anything_is_measured():
    """Options and q, R, logPi alone are there then."""
    rows = given([1, 1]).drop(columns=["n_star", "low", "high", "wider", "censored"]).assign(logPi=5.5)
    bounds.check([bounds.parse("kappa*mu*logPi/R"), Bound("own", lambda H, q, scale=2.0: scale * q**-H)], rows)
    worst, bursts = rows.assign(noise_kernel="worst"), rows.assign(noise=["huber", "bursts"])
    for bound, there, words in (
        ("1/(H-8)", rows, "at H=8"), ("3 + 1/(1/(H-4))", rows, "at H=4"), ("log(H-9)", rows, "at H=4"),
        ("H-4", rows, "positive and finite, got 0 at H=4"), ("exp(H**9)", rows, "got inf"), ("S", rows, "poison-chain"),
        ("H/epsilon", rows, "epsilon"), ("mu", worst, "worst"), ("kappa", rows.assign(q=0.7), "q = 0.7"),
        ("kappa", bursts, "bursts"), (lambda H: 1 / (H - 8), rows, "at H=8"), (lambda H: "x", rows, "at H=4"),
        (lambda H: math.nan, rows, "got nan"), (lambda steps: 1.0, rows, "steps"), (3, rows, "a function"),
    ):  # fmt: skip
        with pytest.raises(BadInput) as refused:
            bounds.check([Bound("mine", bound)], there)
        assert words in str(refused.value)
        assert "'mine'" in str(refused.value)
    for asked in (
        [Bound("x", "H"), Bound("x", "A")],
        [Bound("x", "H", "above")],
        [Bound("x", "H", unit="steps")],
        [Bound(" ", "H")],
    ):
        with pytest.raises(BadInput):
            bounds.check(asked, rows)


def test_measured_rows_are_judged():
    """The wide intervals that `n_star` gives suffice to decide; twice and half the exact curve."""
    rows = pd.DataFrame([row(h, n_star("poison-chain", "loglossbc", h, A, ETA, DELTA, points=2)) for h in (6, 8)])
    half = [Bound(str(c), lambda H, c=c: c * n_bc(int(H), A, ETA, DELTA)) for c in (0.5, 2)]
    assert bounds.judge(rows, half, ["H"]).query("question == 'holds'").verdict.tolist() == ["refuted", "holds"]
