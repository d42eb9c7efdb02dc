"""`nail bench`: how fast a step is, beside the matrix products that it consists of, measured in the same process.

Every time is the best of a few repetitions of a compiled loop, after a warm-up. "Products" is the time of the step's
own products, plain and back to back, in the order of operands that is fastest.
"""

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from nail import learner
from nail.config import TrainConfig, check
from nail.devices import over_runs, pad_runs, place
from nail.evaluate import evaluate
from nail.problem import Problem, make_channel, make_problem, numbers_of
from nail.products import Product, products_of, total_flops
from nail.provenance import provenance
from nail.store import to_csv, write_text
from nail.train import make_train

REPEATS = 3

SIZES = {
    "smoke": TrainConfig(p=3, m=3, eta=0.5, width=16, heads=2, batch=16, steps=1_000, lr=1e-3, n_validation=50),
    "small": TrainConfig(p=7, m=10, eta=0.5, width=64, heads=4, steps=1_000, lr=1e-3),
    "paper": TrainConfig(steps=1_000, n_validation=512),
}


def bench(
    size: str, methods: tuple[str, ...], precision: str, seconds: float, out: Path | None
) -> list[dict[str, Any]]:
    """Print a table with one row per method and return it; also write it to `out` as CSV."""
    base = check(dataclasses.replace(SIZES[size], precision=precision))
    clock = ProductClock(jnp.dtype(precision), seconds / 20)
    rows = []
    for method in methods:
        rows.append(_measure(dataclasses.replace(base, method=method), clock, seconds))
        _print_row(rows[-1], header=len(rows) == 1)
    if out is not None:
        write_text(Path(out), to_csv([{"size": size, **row, **provenance()} for row in rows]))
    return rows


class ProductClock:
    """Seconds that a plain product of each shape takes on one device, measured once a shape."""

    def __init__(self, dtype: Any, seconds: float):
        self.dtype, self.seconds = dtype, seconds
        self.known: dict[Product, float] = {}

    def total(self, products: Counter[Product]) -> float:
        """Seconds for all of `products`, one after the other."""
        return sum(self(product) * times for product, times in products.items())

    def __call__(self, product: Product) -> float:
        """Seconds of one product: the better of a·b and bᵀ·aᵀ, timed in a loop of dependent products."""
        if product not in self.known:
            self.known[product] = min(
                self._time(product), self._time(product._replace(rows=product.columns, columns=product.rows))
            )
        return self.known[product]

    def _time(self, product: Product) -> float:
        a = jnp.ones((product.batch, product.rows, product.inner), self.dtype)
        b = jnp.ones((product.batch, product.inner, product.columns), self.dtype)
        if product.batch == 1:
            a, b = a[0], b[0]
        count = max(1, min(1_000, int(2e9 * self.seconds) // product.flops))

        @jax.jit
        def loop(a, b):
            def once(_, a):
                c = jnp.matmul(a, b, preferred_element_type=jnp.float32)
                corner = (0,) * a.ndim
                return a.at[corner].add((c[corner] * 1e-30).astype(a.dtype))

            return jax.lax.fori_loop(0, count, once, a)

        return best_seconds(loop, a, b, seconds=self.seconds) / count


def best_seconds(function: Callable, *args: Any, seconds: float) -> float:
    """The shortest of at least `REPEATS` calls, repeated until `seconds` have passed."""
    jax.block_until_ready(function(*args))
    best, begun, calls = float("inf"), time.perf_counter(), 0
    while calls < REPEATS or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best


def _measure(config: TrainConfig, clock: ProductClock, seconds: float) -> dict[str, Any]:
    problem = make_problem(config)
    devices = jax.local_device_count()
    runs = tuple(dataclasses.replace(config, seed=seed) for seed in range(devices))
    numbers = pad_runs(numbers_of(runs))
    state = make_train(config).init(numbers)
    one_state, one_numbers = jax.tree.map(lambda x: jnp.asarray(x[0]), (state, numbers))

    def step(state, numbers):
        new = learner.update(config, problem, numbers, state.step, state.params, state.moments, state.buffer)
        return state._replace(step=state.step + 1, params=new[0], moments=new[1], buffer=new[2])

    products = products_of(step, one_state, one_numbers)
    flops = total_flops(products)
    updates = max(1, min(50, int(5e9 * seconds) // flops))

    def many(state, numbers):
        return jax.lax.fori_loop(0, updates, lambda _, s: step(s, numbers), state)

    one = best_seconds(jax.jit(many), one_state, one_numbers, seconds=seconds) / updates
    batch = best_seconds(over_runs(many), place(state), numbers, seconds=seconds) / updates / devices
    parts = _parts(config, problem, one_numbers, one_state, seconds)
    plain = clock.total(products)
    return {
        "method": config.method,
        "precision": config.precision,
        "ms_per_step": one * 1e3,
        "trajectories_per_s": config.batch / one,
        "gflop_per_step": flops / 1e9,
        "gflop_per_s": flops / one / 1e9,
        "products_gflop_per_s": flops / plain / 1e9,
        "step_over_products": one / plain,
        "rollout_share": parts["rollout"] / one,
        "gradient_share": parts["gradient"] / one,
        "ms_per_evaluation": parts["evaluation"] * 1e3,
        "runs_in_batch": devices,
        "batch_trajectories_per_s": config.batch / batch,
        "batch_over_one": one / batch,
    }


def _parts(config: TrainConfig, problem: Problem, numbers: Any, state: Any, seconds: float) -> dict[str, float]:
    """Seconds of the rollout with its labels, of loss and gradient, and of an evaluation, each alone."""
    channel, key = make_channel(config, problem.env, numbers), jax.random.key(0)

    def collect(params):
        return learner.collect(config, problem, channel, numbers, params, state.step, key)

    visited = jax.jit(collect)(state.params)
    gradient = jax.jit(
        jax.grad(lambda params: learner.objective(config, problem, channel, numbers, params, visited, key))
    )
    evaluation = jax.jit(lambda params: evaluate(problem.env, problem.policy, params))
    return {
        "rollout": best_seconds(jax.jit(collect), state.params, seconds=seconds / 4),
        "gradient": best_seconds(gradient, state.params, seconds=seconds / 4),
        "evaluation": best_seconds(evaluation, state.params, seconds=0.0),
    }


COLUMNS = (
    ("method", "{:<10}", "method"),
    ("ms_per_step", "{:>9.2f}", "ms/step"),
    ("trajectories_per_s", "{:>9,.0f}", "traj/s"),
    ("gflop_per_step", "{:>9.3f}", "GFLOP"),
    ("gflop_per_s", "{:>9.1f}", "GFLOP/s"),
    ("products_gflop_per_s", "{:>9.1f}", "products"),
    ("step_over_products", "{:>9.2f}", "ratio"),
    ("rollout_share", "{:>9.1%}", "rollout"),
    ("gradient_share", "{:>9.1%}", "gradient"),
    ("batch_trajectories_per_s", "{:>10,.0f}", "all traj/s"),
    ("batch_over_one", "{:>9.2f}", "all/one"),
)


def _print_row(row: dict[str, Any], header: bool) -> None:
    if header:
        device = provenance()["device"]
        print(f"{row['precision']} on {device}; products: rate of the step's own matrix products alone, GFLOP/s;")
        print("ratio: step time over that of its products; all: one run on each device at once")
        widths = [len(form.format(row[name])) for name, form, _ in COLUMNS]
        titles = (title for _, _, title in COLUMNS)
        print(
            " ".join(
                f"{t:<{w}}" if i == 0 else f"{t:>{w}}" for i, (t, w) in enumerate(zip(titles, widths, strict=True))
            )
        )
    print(" ".join(form.format(row[name]) for name, form, _ in COLUMNS))
    sys.stdout.flush()
