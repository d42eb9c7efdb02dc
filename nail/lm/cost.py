"""What an update on language models costs: counted from its own program, without weights and without running it.

Operations are those of matrix products, 2·m·k·n each, as they stand in the program, with the number of times that its
loops go round. Bytes are those of the arrays that are held. Both are estimates of what a compiler makes of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nail.lm.config import LmConfig
from nail.lm.folders import Sizes
from nail.lm.lora import with_lora
from nail.lm.model import Body, Model, engine_config, frozen, whole
from nail.lm.objective import Batch, method_scores, visited_states
from nail.lm.rollout import empty_cache, rollout
from nail.lm.update import tool
from nail.training.products import products

GEMMA_270M = Sizes(18, 262_144, 640, 2048, 4, 256, 1, 512, 10_000, 1_000_000)
GEMMA_1B = Sizes(26, 262_144, 1152, 6912, 4, 256, 1, 512, 10_000, 1_000_000)
"""sizes in the engine's presets for gemma-3-270m-it and gemma-3-1b-it"""


class Cost(NamedTuple):
    """Operations and bytes of one update on one device."""

    rollout: float
    expert: float
    """hidden states of the expert; its logits are counted with those of the student"""
    student: float
    """hidden states of the student, logits of both"""
    gradient: float
    """what the gradient takes beside that"""
    weights: int
    """bytes of both models as they are kept"""
    trained: int
    """bytes of what is trained, its two moments and two gradients, as float32"""
    cache: int
    """bytes of keys and values of the rollouts"""
    kept: int
    """bytes that are kept of one micro-batch for its gradient, as JAX lists them"""


def cost_of(config: LmConfig, student: Sizes, expert: Sizes, length: int, devices: int = 1) -> Cost:
    """Cost of an update in which the student plays to the end, on one of `devices`; prompts have `length` tokens."""
    kind = jnp.dtype(config.kind)
    ours, theirs = abstract(student, kind, config.lora_rank, config.lora_alpha), abstract(expert, kind, None)
    share = config.batch // devices
    micro = min(config.micro, share)
    parts, new = share // micro, config.new_tokens
    weights, its = ours.weights(), theirs.weights()
    prompts, batch = _prompts(share, length), Batch(*_prompts(micro, length), *_prompts(micro, new))

    def play(weights: Any, prompts: Any, real: Any) -> Any:
        keys = jax.random.split(jax.random.key(0), share)
        return rollout(ours, weights, prompts, real, keys, new=new, temperature=config.row.temperature, stops=(1,))

    def loss(trained: Any, fixed: Any, its: Any, batch: Batch) -> Any:
        keys = jax.random.split(jax.random.key(0), micro)
        return method_scores(
            config.row, ours, theirs, trained, fixed, its, batch, keys,
            beta=config.beta, temperature=config.expert_temperature, chunk=config.chunk,
        ).total  # fmt: skip

    see = operations(lambda its, batch: visited_states(theirs, its, batch), new, its, batch)
    forward = operations(loss, new, *weights, its, batch)
    both = operations(jax.value_and_grad(loss), new, *weights, its, batch)
    saved = jax.eval_shape(lambda w, f, i, b: jax.vjp(lambda w: loss(w, f, i, b), w)[1], *weights, its, batch)
    return Cost(
        rollout=operations(play, new, weights, *prompts),
        expert=parts * see,
        student=parts * (forward - see),
        gradient=parts * (both - forward),
        weights=_bytes((ours.fixed, its)),
        trained=3 * _bytes(ours.trained) + _bytes(jax.eval_shape(tool(config).init, ours.trained)),
        cache=_bytes(jax.eval_shape(lambda: empty_cache(ours, share, length + new))),
        kept=_bytes(saved) - _bytes((weights, its, batch)),
    )


def abstract(sizes: Sizes, kind: Any, rank: int | None, alpha: float = 1.0) -> Model:
    """A model whose weights are shapes only: with adapters of rank `rank`, trained whole (0), or fixed (None)."""
    made = []

    def make() -> tuple[Any, Any]:
        module = Body(engine_config(sizes, kind), rngs=nnx.Rngs(0))
        if rank:
            model = with_lora(module, sizes, rank, alpha, jax.random.key(0))
        else:
            model = frozen(module, sizes) if rank is None else whole(module, sizes)
        made.append(model)
        return model.weights()

    trained, fixed = jax.eval_shape(make)
    return made[0]._replace(trained=trained, fixed=fixed)


def operations(function: Callable, trips: int, *given: Any) -> float:
    """Operations of the matrix products in a function's program; loops without a fixed end go round `trips` times."""
    total = 0.0
    for equation, times in products(jax.make_jaxpr(function)(*given).jaxpr, trips):
        (contracted, _), _ = equation.params["dimension_numbers"]
        inner = np.prod([equation.invars[0].aval.shape[i] for i in contracted], dtype=float)
        total += times * 2 * inner * np.prod(equation.outvars[0].aval.shape, dtype=float)
    return total


def _prompts(rows: int, length: int) -> tuple[Any, Any]:
    """Tokens and what is real of them, as shapes."""
    return jax.ShapeDtypeStruct((rows, length), jnp.int32), jax.ShapeDtypeStruct((rows, length), jnp.bool)


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
