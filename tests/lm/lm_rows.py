"""Each method row's update on language models against an exact expectation, by going through all completions.

A vocabulary of 12 tokens and completions of at most two: the player's law of all 157 of them is written out, and with
it the mean of the loss and of its gradient over completions, labels and actions.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import adapted, config_of, keys, nothing, placed, plain_logits, shaken

from nail.lm.fresh import sizes_of, write_fresh
from nail.lm.objective import Batch
from nail.lm.rollout import rollout
from nail.lm.update import begin, evaluated, make_update

WORDS = ("a", "b", "c", "d")
STOPS = (1, 5)
VOCABULARY = 12
T, BETA, DRAWS = 3.0, 0.3, 1500
ROWS = ["nail-f", "nail-r", "nail-beta", "opd-f", "opd-r", "loglossbc"]
PROMPT = (np.array([[2, 8, 9, 4]], np.int32), np.ones((1, 4), bool))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Folders and models of a student with adapters that are not at their start, and of an expert."""
    path = tmp_path_factory.mktemp("small")
    folders = [write_fresh(path / n, sizes_of(16, 1, 2, WORDS), WORDS, seed) for n, seed in (("s", 5), ("e", 6))]
    student = adapted(folders[0], rank=2)
    return folders, student._replace(trained=shaken(student, 0.3)), nothing(folders[1])


def completions(ends):
    """(tokens, counted) of all completions of at most two tokens; `ends`: each ends with the end of a turn."""
    found = []
    for first in range(VOCABULARY):
        for row in [(first,)] if first in STOPS else [(first, second) for second in range(VOCABULARY)]:
            stopped = row[-1] in STOPS
            found.append(((*(row[:-1] if stopped else row), STOPS[-1]) if ends else row, row))
    tokens, counted = np.zeros((len(found), 3), np.int32), np.zeros((len(found), 3), bool)
    for i, (row, _) in enumerate(found):
        tokens[i, : len(row)], counted[i, : len(row)] = row, True
    return tokens, counted, [row for _, row in found]


def law_of(model, weights, rows, temperature):
    """Probability of each completion when the model plays; greedy at temperature 0."""
    tokens, counted, _ = completions(ends=False)
    prompts = tuple(np.repeat(x, len(rows), 0) for x in PROMPT)
    z = np.asarray(plain_logits(model, weights, Batch(*map(jnp.asarray, (*prompts, tokens, counted)))), np.float64)
    if temperature:
        p = np.exp(z / temperature)
        p /= p.sum(-1, keepdims=True)
    else:
        p = (z == z.max(-1, keepdims=True)).astype(float)
    law = np.array([np.prod([p[i, h, token] for h, token in enumerate(row)]) for i, row in enumerate(rows)])
    np.testing.assert_allclose(law.sum(), 1)
    return law


def expected(name, student, expert):
    """weights → mean of the update's loss, as a formula whose gradient is the mean gradient."""
    by_expert, forward = name == "loglossbc", name in ("nail-f", "opd-f")
    tokens, counted, rows = completions(ends=by_expert)
    player, its = (expert, expert.weights()) if by_expert else (student, student.weights())
    law = law_of(player, its, rows, T if by_expert else float(name.startswith("opd")))
    batch = Batch(*map(jnp.asarray, (*(np.repeat(x, len(rows), 0) for x in PROMPT), tokens, counted)))
    t = jax.nn.softmax(plain_logits(expert, expert.weights(), batch) / T)
    q = jax.nn.softmax(plain_logits(student, student.weights(), batch))
    each = jnp.asarray(law / counted.sum(-1))[:, None] * counted
    picked = functools.partial(jnp.take_along_axis, indices=batch.tokens[..., None], axis=-1)

    def mean(trained):
        logp = jax.nn.log_softmax(plain_logits(student, student.weights(trained), batch))
        score = -jnp.exp(logp - jnp.log(q)) * (jnp.log(t) - jnp.log(q))
        if by_expert:
            loss = -picked(logp)[..., 0]
        elif name == "opd-r":
            loss = picked(score)[..., 0]
        else:
            share = 0.0 if forward else BETA if name == "nail-beta" else 1.0
            loss = (1 - share) * -(t * logp).sum(-1) + share * (q * score).sum(-1)
        return (each * loss).sum()

    return mean


@pytest.mark.parametrize("name", ROWS)
def test_an_update_is_unbiased_for_the_exact_mean_of_its_row(small, name):
    """Loss and gradient of 1,500 updates from the same weights: means within 5 standard errors (1e-6 a number).

    Of the gradient, which is what Adam's first moment took up, the part along the exact one; its standard error is
    below a sixth of that one's length, so that a gradient of 0 would be seen.
    """
    folders, student, expert = small
    config = config_of(
        *folders, method=name, batch=1, micro=1, new_tokens=2, expert_temperature=T, beta=BETA, lr=1e-30, clip=0.0
    )
    update = make_update(config, student, expert, STOPS)
    value, slope = jax.jit(jax.value_and_grad(expected(name, student, expert)))(student.trained)
    length = float(optax.tree.norm(slope))
    look = jax.jit(lambda moment: optax.tree.vdot(moment, slope) / length)
    state, given = begin(config, student), placed(config, student, expert, PROMPT)
    seen, before = [], 0.0
    for _ in range(DRAWS):
        state = update(state, *given)
        moment = float(look(optax.tree_utils.tree_get(state.moments, "mu")))
        seen.append((float(state.loss_sum), (moment - 0.9 * before) / 0.1))
        before, state = moment, evaluated(state)
    found = np.array(seen)
    wanted, errors = [float(value), length], found.std(0) / np.sqrt(DRAWS)
    print(name, found.mean(0), wanted, errors)
    assert 1e-4 < errors[0] < 0.1
    assert 1e-4 < errors[1] < length / 6
    assert (np.abs(found.mean(0) - wanted) < 5 * errors).all()
    jax.tree.map(np.testing.assert_array_equal, state.trained, student.trained)


def test_each_row_of_a_batch_has_draws_of_its_own(small):
    """One prompt 40 times: more than 5 different completions of 4 sampled tokens; three rows alone have the same."""
    _, _, expert = small
    prompts = tuple(jnp.asarray(np.repeat(x, 40, 0)) for x in PROMPT)
    play = functools.partial(rollout, expert, expert.weights(), *prompts, new=4, temperature=1.0, stops=STOPS)
    found = np.asarray(play(keys(40)).tokens)
    assert len({tuple(row) for row in found.tolist()}) > 5
    alone = tuple(x[:3] for x in prompts)
    few = rollout(expert, expert.weights(), *alone, keys(40)[:3], new=4, temperature=1.0, stops=STOPS)
    np.testing.assert_array_equal(few.tokens, found[:3])
