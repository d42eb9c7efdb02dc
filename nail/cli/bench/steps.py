"""`nail bench`: how fast a step is, beside the matrix products that it consists of, measured in the same process.

Every time is the best of a few repetitions of a compiled loop, after a warm-up. "Products" is the time of the step's
own products, plain and back to back, in the order of operands that is fastest; "peak" is the rate of one large square
product in the same precision on one device. On a CPU such a product takes all cores, so that its rate is the machine's.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier, stop_gradient
from tqdm import tqdm

from nail.cli.bench import tell
from nail.cli.bench.products import Product, products_of, total_flops
from nail.policies.transformer import compute_dtype, product_precision
from nail.sweep.identity import provenance
from nail.training.config import TrainConfig
from nail.training.devices import over_runs, pad_runs, place
from nail.training.evaluate import evaluate
from nail.training.problem import Setup, make_channel, make_setup, numbers_of
from nail.training.ranges import check
from nail.training.rollout import Players, draw, fixed_point
from nail.training.train import make_train
from nail.training.update import collect, dagger_share, objective, update

REPEATS = 5
RUNS_PER_ACCELERATOR = 6
"""runs of one method that are timed together on an accelerator: as many as two noise levels with three seeds"""
PEAK_SIDE = {"cpu": 2048}
"""side of the square product of the peak rate; on accelerators 8192"""

SIZES = {
    "smoke": TrainConfig(p=3, m=3, eta=0.5, width=16, heads=2, batch=16, steps=1_000, lr=1e-3, n_validation=50),
    "small": TrainConfig(p=7, m=10, eta=0.5, width=64, heads=4, steps=1_000, lr=1e-3),
    "paper": TrainConfig(steps=1_000, n_validation=512),
}


def bench(
    size: str, methods: tuple[str, ...], precision: str, reuse: str, seconds: float, out: Path | None
) -> list[dict[str, Any]]:
    """Print a column per method and return them as rows; also write them to `out` as CSV.

    `products_gflop_per_s` is the rate of the step's own matrix products alone, `step_over_products` the step's time
    over theirs, `share_of_peak` the step's rate over that of a large product; `ms_per_pass` is one forward pass over
    the chains, and `batch_` stands for `runs_in_batch` runs at once.
    """
    base = check(dataclasses.replace(SIZES[size], precision=precision, reuse=reuse))
    clock = ProductClock(precision, seconds / 20)
    settings = [dataclasses.replace(base, method=method) for method in methods]
    rows = [{"size": size, **_measure(config, clock, seconds)} for config in tqdm(settings)]
    tell(rows, provenance(), out)
    return rows


class ProductClock:
    """Seconds that a plain product of each shape takes on one device, measured once a shape."""

    def __init__(self, precision: str, seconds: float):
        self.dtype, self.precision = compute_dtype(precision), product_precision(precision)
        self.seconds = seconds
        self.known: dict[Product, float] = {}

    def peak(self) -> float:
        """Floating-point operations per second of a large square product."""
        side = PEAK_SIDE.get(jax.default_backend(), 8192)
        square = Product(1, side, side, side)
        return square.flops / self(square)

    def total(self, products: Counter[Product]) -> float:
        """Seconds for all of `products`, one after the other."""
        return sum(self(product) * times for product, times in products.items())

    def __call__(self, product: Product) -> float:
        """Seconds of one product: the better of a·b and bᵀ·aᵀ, timed in a loop of dependent products."""
        if product not in self.known:
            turned = product._replace(rows=product.columns, columns=product.rows)
            self.known[product] = min(self._time(order) for order in {product, turned})
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
                c = jnp.matmul(a, b, precision=self.precision, preferred_element_type=jnp.float32)
                corner = (0,) * a.ndim
                return a.at[corner].add((c[corner] * 1e-30).astype(a.dtype))

            return jax.lax.fori_loop(0, count, once, a)

        return best_seconds(loop, a, b, seconds=self.seconds) / count


def best_seconds(function: Callable, *args: Any, seconds: float) -> float:
    """The shortest of at least `REPEATS` calls, repeated until `seconds` have passed."""
    return best_in_turn({"": lambda: function(*args)}, seconds)[""]


def best_in_turn(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The shortest of at least `REPEATS` rounds of each call, in turn, repeated until `seconds` have passed."""
    jax.block_until_ready([call() for call in calls.values()])
    best, begun, rounds = dict.fromkeys(calls, float("inf")), time.perf_counter(), 0
    while rounds < REPEATS or time.perf_counter() - begun < seconds:
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            best[name] = min(best[name], time.perf_counter() - start)
        rounds += 1
    return best


def runs_at_once() -> int:
    """Runs of the measured batch: one a core on a CPU, figure 2's runs of a method on an accelerator."""
    return jax.local_device_count() * (1 if jax.default_backend() == "cpu" else RUNS_PER_ACCELERATOR)


def _measure(config: TrainConfig, clock: ProductClock, seconds: float) -> dict[str, Any]:
    setup, runs = make_setup(config), runs_at_once()
    numbers = pad_runs(numbers_of(tuple(dataclasses.replace(config, seed=seed) for seed in range(runs))))
    state = make_train(config).init(numbers)
    one_state, one_numbers = jax.tree.map(lambda x: jnp.asarray(x[0]), (state, numbers))

    def step(state, numbers):
        return update(setup, numbers, state)

    products = products_of(step, one_state, one_numbers)
    flops = total_flops(products)
    updates = max(1, min(50, int(5e9 * seconds) // flops))

    def many(state, numbers):
        return jax.lax.fori_loop(0, updates, lambda _, s: step(s, numbers), state)

    parts = _parts(setup, one_numbers, one_state, updates, seconds)
    one = parts["update"]
    state = place(state)
    all_runs = over_runs(many).lower(state, numbers).compile()
    batch = best_seconds(all_runs, state, numbers, seconds=seconds) / updates / runs
    plain, peak = clock.total(products), clock.peak()
    chips = 1 if jax.default_backend() == "cpu" else jax.local_device_count()
    return {
        "method": config.method,
        "precision": config.precision,
        "reuse": config.reuse,
        "ms_per_step": one * 1e3,
        "trajectories_per_s": config.batch / one,
        "gflop_per_step": flops / 1e9,
        "gflop_per_s": flops / one / 1e9,
        "peak_gflop_per_s": peak / 1e9,
        "share_of_peak": flops / one / peak,
        "products_gflop_per_s": flops / plain / 1e9,
        "step_over_products": one / plain,
        **_shares(parts),
        **_beside(setup, one_numbers, one_state, seconds),
        "runs_in_batch": runs,
        "batch_trajectories_per_s": config.batch / batch,
        "batch_over_one": one / batch,
        "batch_share_of_peak": flops / batch / peak / chips,
        "memory_mib": _memory(all_runs) / 2**20,
    }


def _memory(program: Any) -> float:
    """Peak bytes on one device: as the device counted them, or else the compiled program's arguments and scratch."""
    counted = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    plan = program.memory_analysis()
    return float(counted or plan.argument_size_in_bytes + plan.temp_size_in_bytes)


def _parts(setup: Setup, numbers: Any, state: Any, updates: int, seconds: float) -> dict[str, float]:
    """Seconds of the beginnings of a step, each with all that comes before it: the rollout, the expert's laws and
    labels, loss and gradient, the whole update.

    Each is a loop of `updates` like the step's own, and all are timed in turn, so that differences are parts of one
    step and add up to it. Barriers make each iteration depend on the one before, and all that a later part would read
    count as read.
    """

    def beginning(part: str, state: Any, numbers: Any) -> Any:
        def once(_, carry):
            state, mark = optimization_barrier(carry)
            if part == "update":
                return update(setup, numbers, state), mark
            channel, key = make_channel(setup, numbers), jax.random.fold_in(jax.random.key(0), state.step)
            visited = stop_gradient(collect(setup, channel, numbers, state.params, state.step, key))
            made = [visited.observations, visited.actions, visited.known]
            if part != "rollout":
                made += [visited.laws, visited.labels]
            if part == "gradient":
                loss = lambda params: objective(setup, channel, numbers, params, visited, key)  # noqa: E731
                made.append(jax.value_and_grad(loss)(state.params))
            mark += sum(x.ravel()[0].astype(jnp.float32) for x in jax.tree.leaves(optimization_barrier(made)))
            return state._replace(step=state.step + 1), mark

        return jax.lax.fori_loop(0, updates, once, (state, jnp.float32(0)))

    loops = {part: jax.jit(partial(beginning, part)) for part in ("rollout", "expert", "gradient", "update")}
    calls = {part: partial(loop, state, numbers) for part, loop in loops.items()}
    return {part: took / updates for part, took in best_in_turn(calls, 4 * seconds).items()}


def _shares(parts: dict[str, float]) -> dict[str, float]:
    """Shares of a step from `_parts`; the update's is the optimiser's and the data set's. Beside them a rollout."""
    ends = [0.0, *parts.values()]
    shares = {f"{part}_share": (end - ends[i]) / ends[-1] for i, (part, end) in enumerate(parts.items())}
    return {**shares, "ms_per_rollout": parts["rollout"] * 1e3}


def _beside(setup: Setup, numbers: Any, state: Any, seconds: float) -> dict[str, float]:
    """What a step does not hold: an evaluation, a forward pass over the chains, and how many of them a rollout by
    passes takes."""
    config, method, env, policy, expert = setup
    channel, key = make_channel(setup, numbers), jax.random.key(0)
    contexts = jax.vmap(env.train_context)(jnp.arange(config.batch, dtype=jnp.uint32))
    observations = jax.vmap(env.observations)(contexts, jax.vmap(env.clean_actions)(contexts))
    draws = draw(key, config.batch, env, config.sampled, method.driver == "mixture")
    share = dagger_share(config, state.step)

    def passes(params, contexts, _):
        players = Players(
            policy, params, method.driver, draws, numbers.temperature, method.rule, numbers.rule_number, expert,
            channel, share,
        )  # fmt: skip
        return fixed_point(env, players, contexts)[1]

    evaluation = jax.jit(lambda params: evaluate(env, policy, params))
    one_pass = jax.jit(lambda *inputs: policy.forward(*inputs)[0])
    chains = (state.params, contexts, observations)
    return {
        "ms_per_evaluation": best_seconds(evaluation, state.params, seconds=seconds / 4) * 1e3,
        "ms_per_pass": best_seconds(one_pass, *chains, seconds=seconds / 4) * 1e3,
        "passes_untrained": float(jax.jit(passes)(*chains)),
    }
