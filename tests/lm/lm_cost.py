"""The cost of an update, counted from its program, against sums by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from nail.lm.config import LmConfig
from nail.lm.cost import cost_of, operations
from nail.lm.folders import Sizes

STUDENT, EXPERT = (
    Sizes(2, 50, 12, 20, 2, 8, 1, 512, 10_000, 1_000_000),
    Sizes(3, 50, 16, 24, 4, 8, 1, 512, 10_000, 10**6),
)
CONFIG = LmConfig(student=Path("s"), expert=Path("e"), prompts=Path("p"), method="nail-beta", batch=8, micro=2,
                  new_tokens=6, lora_rank=3, chunk=4)  # fmt: skip
LENGTH = 5


def test_loops_count_as_often_as_they_go_round():
    def function(x):
        x = jax.lax.scan(lambda c, _: (c @ c, None), x, length=3)[0]
        return jax.lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c @ c @ c, x @ x)

    assert operations(function, 10, jnp.ones((4, 4))) == (3 + 1 + 10 * 2) * 2 * 4**3


def body(sizes, length, rank=0):
    """Operations of a token's forward pass among `length` others: 2 a weight, scores and values, adapters."""
    d, f, heads, values = sizes.embed_dim, sizes.hidden_dim, sizes.num_heads * sizes.head_dim, sizes.head_dim
    weights = 2 * d * heads + 2 * d * values + 3 * d * f
    adapters = rank * ((d + heads) + (d + 2 * values) + (heads + d) + 3 * (d + f))
    return sizes.num_layers * (2 * (weights + adapters) + 4 * heads * length)


def head(sizes):
    return 2 * sizes.embed_dim * sizes.num_embed


def test_an_update_costs_what_the_formulas_say():
    """docs/language_models.md §9; the gradient of adapters goes back through all products, once for what is fixed."""
    n, total, rank = CONFIG.new_tokens, LENGTH + CONFIG.new_tokens, CONFIG.lora_rank
    found, batch = cost_of(CONFIG, STUDENT, EXPERT, LENGTH), CONFIG.batch
    np.testing.assert_allclose(found.expert, batch * total * body(EXPERT, total))
    prefill, step = LENGTH * body(STUDENT, total, rank), n * (body(STUDENT, total, rank) + head(STUDENT))
    np.testing.assert_allclose(found.rollout, batch * (prefill + step))
    logits = batch * n * (head(STUDENT) + head(EXPERT))
    np.testing.assert_allclose(found.student, batch * total * body(STUDENT, total, rank) + logits)
    again = logits + batch * n * head(STUDENT)
    assert again < found.gradient < again + 2 * batch * total * body(STUDENT, total, rank)
    adapters = STUDENT.num_layers * rank * ((12 + 16) + (12 + 2 * 8) + (16 + 12) + 3 * (12 + 20))
    assert 20 * adapters <= found.trained <= 20 * adapters + 16
    assert found.cache == STUDENT.num_layers * batch * (2 * 2 * total * STUDENT.head_dim + 4)
    halves = cost_of(CONFIG, STUDENT, EXPERT, LENGTH, devices=2)
    np.testing.assert_allclose(halves[:4], np.array(found[:4]) / 2)
    assert (halves.weights, halves.trained, halves.kept) == (found.weights, found.trained, found.kept)
