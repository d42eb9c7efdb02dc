"""The loss of the method rows on language models: against plain formulas, exact laws, and by what training does."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from tiny import adapted, config_of, keys, nothing, placed, plain_logits, prompts_of, shaken

import nail
from nail.checks import BadInput
from nail.lm import objective
from nail.lm.config import check
from nail.lm.objective import Batch, drawn, exact_divergence, likelihood_scores, method_scores
from nail.lm.rollout import Rollout, picked, rollout
from nail.lm.train import asked_since
from nail.lm.update import begin, make_update, with_end
from nail.methods import METHOD
from nail.training import losses

STOPS = (1, 5)


@pytest.fixture(scope="module")
def pair(folders):
    """Student with adapters, expert, and a batch that the student played."""
    student, expert, prompts = adapted(folders[0]), nothing(folders[1]), prompts_of(folders[0])
    go = jax.jit(functools.partial(rollout, student, new=7, temperature=1.0, stops=STOPS))
    tokens, real = map(jnp.asarray, prompts)
    played = go(student.weights(), tokens, real, keys(3))
    return student, expert, Batch(tokens, real, *played)


def test_chunks_change_neither_the_loss_nor_its_gradient(pair):
    """−Σ log p of the completions by a plain formula, and by chunks of 4, of 7, and of more than there are."""
    student, _, batch = pair
    trained = shaken(student)

    def plain(w):
        logp = jax.nn.log_softmax(plain_logits(student, (w, student.fixed), batch))
        chosen = jnp.take_along_axis(logp, batch.tokens[..., None], -1)[..., 0]
        return -jnp.where(batch.counted, chosen, 0).sum()

    value, slope = jax.jit(jax.value_and_grad(plain))(trained)
    for chunk in (4, 7, 64):
        score = functools.partial(likelihood_scores, student, fixed=student.fixed, batch=batch, chunk=chunk)
        found, gradient = jax.jit(jax.value_and_grad(lambda w, score=score: score(trained=w).total))(trained)
        np.testing.assert_allclose(found, value, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, slope)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(slope)) > 0.01


def test_the_cut_into_chunks_changes_no_draw(pair):
    """A reverse loss, whose actions are drawn: the same for chunks of 4 and of 64."""
    student, expert, batch = pair
    given = (METHOD["nail-beta"], student, expert, student.trained, student.fixed, expert.weights(), batch)
    found = [
        float(method_scores(*given, keys(3, 3), beta=0.5, temperature=2.0, chunk=chunk).total) for chunk in (4, 64)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


def widest(jaxpr, vocabulary):
    """Most rows of logits in any array of a program: its entries by the vocabulary's length, if it has that axis."""
    most = 0
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            shape = getattr(variable.aval, "shape", ())
            if vocabulary in shape:
                most = max(most, int(np.prod(shape)) // vocabulary)
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                most = max(most, widest(inner, vocabulary))
    return most


def test_logits_of_the_whole_batch_are_never_held(pair):
    """In the program of a gradient no array has more rows of logits than a chunk; a plain loss has batch × length."""
    student, expert, batch = pair
    vocabulary, chunk, width = student.sizes.num_embed, 4, max(student.sizes.embed_dim, expert.sizes.embed_dim)
    wide = jax.tree.map(lambda x: jnp.tile(x, (20, *[1] * (x.ndim - 1))), batch)

    def chunked(w):
        return method_scores(METHOD["nail-beta"], student, expert, w, student.fixed, expert.weights(), wide,
                             keys(len(wide.tokens)), beta=0.5, temperature=1.0, chunk=chunk).total  # fmt: skip

    def plain(w):
        return jax.nn.log_softmax(plain_logits(student, (w, student.fixed), wide)).sum()

    found = widest(jax.make_jaxpr(jax.grad(chunked))(student.trained).jaxpr, vocabulary)
    assert chunk <= found <= max(chunk, width)
    assert widest(jax.make_jaxpr(jax.grad(plain))(student.trained).jaxpr, vocabulary) >= wide.tokens.size > 2 * width


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_the_loss_is_unbiased_for_the_exact_divergence(pair, beta, temperature):
    """Mean of 600 draws of the sums over prefixes, within 5 standard errors of the exact sum (1e-6 a case).

    F has mean KL(t‖p) + H(t), R has mean KL(p‖t), with t = softmax(z_E/T), T = 1 and 4.
    """
    student, expert, batch = pair
    noisy = np.asarray(plain_logits(expert, expert.weights(), batch)) / temperature
    t = np.asarray(jax.nn.softmax(noisy), np.float64)
    entropy = -(t * np.log(t)).sum(-1)[np.asarray(batch.counted)].sum()
    exact = exact_divergence(
        student, expert, student.weights(), expert.weights(), batch, beta=beta, temperature=temperature, chunk=32
    ).total

    @jax.jit
    def draw(keys):
        return method_scores(
            METHOD["nail-beta"], student, expert, student.trained, student.fixed, expert.weights(), batch, keys,
            beta=beta, temperature=temperature, chunk=32,
        ).total  # fmt: skip

    found = np.array([draw(key) for key in jax.random.split(jax.random.key(7), (600, 3))])
    wanted = float(exact) + (entropy if beta == 0 else 0.0)
    assert abs(found.mean() - wanted) < 5 * found.std() / np.sqrt(len(found))
    assert found.std() > 0


def test_the_row_says_whose_action_the_score_function_takes(pair):
    """opd-r takes the rollout's tokens: its loss is a formula of them, and has no draw of its own."""
    student, expert, batch = pair
    theirs = jax.nn.softmax(plain_logits(expert, expert.weights(), batch) / 2.0)
    logp = jax.nn.log_softmax(plain_logits(student, student.weights(), batch))
    each = jax.vmap(jax.vmap(losses.reverse_mc))(logp, theirs, batch.tokens, logp)
    wanted = float(jnp.where(batch.counted, each, 0).sum())

    def loss(name, seed):
        given = (METHOD[name], student, expert, student.trained, student.fixed, expert.weights(), batch)
        return float(method_scores(*given, keys(3, seed), beta=0.5, temperature=2.0, chunk=16).total)

    np.testing.assert_allclose([loss("opd-r", 0), loss("opd-r", 1)], wanted, rtol=1e-4)
    assert abs(loss("nail-r", 0) - loss("nail-r", 1)) > 0.1


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_the_rollouts_token_has_the_reverse_kl_as_mean(pair, temperature, monkeypatch):
    """Each of six tokens at the chance softmax(z/T) that the rollout draws it: value and gradient of KL(p‖t), whatever
    T. Weights are logits here."""
    row, vocabulary = METHOD["opd-r"]._replace(temperature=temperature), 6
    z, expert = np.random.default_rng(0).normal(size=(2, vocabulary)).astype(np.float32)
    monkeypatch.setattr(objective, "visited_states", lambda model, weights, batch: weights[0][None, None])
    monkeypatch.setattr(objective, "head", lambda model, weights: jnp.eye(vocabulary))
    monkeypatch.setattr(objective, "logits_of", lambda h, matrix: h @ matrix)
    true = jnp.ones((1, 1), bool)

    def sampled(z, token):
        batch = Batch(jnp.zeros((1, 1), jnp.int32), true, token[None, None], true)
        return method_scores(row, *pair[:2], z, (), (expert, ()), batch, keys(1), beta=0.5, temperature=2.0,
                             chunk=4).total  # fmt: skip

    tokens, chance = jnp.arange(vocabulary), jax.nn.softmax(z / temperature)
    found = jax.jit(jax.vmap(jax.value_and_grad(sampled), (None, 0)))(jnp.asarray(z), tokens)
    value, slope = jax.tree.map(lambda x: chance @ x, found)
    p, t = (np.exp(x) / np.exp(x).sum() for x in (z.astype(float), expert.astype(float) / 2))
    ratio = np.log(p / t)
    assert float(value) == pytest.approx(p @ ratio, rel=1e-5)
    np.testing.assert_allclose(slope, p * (ratio - p @ ratio), atol=1e-6)


def test_a_row_with_a_greedy_rollout_whose_token_is_scored_is_refused(folders, tables):
    """Its law has no score function."""
    nail.add_method(METHOD["opd-r"]._replace(name="greedy-r", temperature=0.0))
    with pytest.raises(BadInput, match="temperature must be above 0: greedy-r is scored by the law of the rollout's"):
        check(config_of(*folders, method="greedy-r"))


def test_a_completion_of_the_expert_ends_with_the_end_of_the_turn():
    tokens = jnp.array([[7, 8, 9], [7, 1, 0], [5, 0, 0]])
    counted = jnp.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
    found = with_end(Rollout(tokens, counted), (1, 5))
    assert [row[kept].tolist() for row, kept in zip(*map(np.asarray, found), strict=True)] == [
        [7, 8, 9, 5],
        [7, 5],
        [5],
    ]


def trained_by(student, expert, config, prompts, updates):
    update = make_update(config, student, expert, STOPS)
    state = begin(config, student)
    given = placed(config, student, expert, prompts)
    for _ in range(updates):
        state = update(state, *given)
    return state


def divergence(student, expert, trained, prompts, beta):
    """Exact divergence a prefix, in nats, along the student's own greedy completions."""
    weights = student.weights(trained)
    given = tuple(map(jnp.asarray, prompts))
    played = rollout(student, weights, *given, keys(len(given[0])), new=8, temperature=0.0, stops=STOPS)
    found = exact_divergence(
        student, expert, weights, expert.weights(), Batch(*given, *played), beta=beta, temperature=1.0, chunk=64
    )
    return float(found.total / found.count)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_exact_divergence_falls(folders, beta):
    """NAIL-β at β = 0, ½, 1 for 40 updates: what it minimises, exactly, falls below 0.8 of the start."""
    student, expert, prompts = adapted(folders[0]), nothing(folders[1]), prompts_of(folders[0], 4)
    config = config_of(*folders, beta=beta, steps=40, lr=2e-2, lora_rank=8)
    begin_at = divergence(student, expert, adapted(folders[0]).trained, prompts, beta)
    state = trained_by(student, expert, config, prompts, 40)
    end_at = divergence(student, expert, state.trained, prompts, beta)
    print(f"beta {beta}: {begin_at:.3f} to {end_at:.3f}")
    assert end_at < 0.8 * begin_at
    assert int(state.step) == 40


def test_micro_batches_share_one_normaliser(folders):
    """Episodes of a nearly greedy expert are the same whatever the cut: so are the loss and the parameters after.

    Their lengths differ, so a mean of the micro-batches' means would be another number.
    """
    expert, prompts = nothing(folders[1]), prompts_of(folders[0], 4)
    config = config_of(*folders, method="loglossbc", expert_temperature=1e-3)
    given = tuple(map(jnp.asarray, prompts))
    free = rollout(expert, expert.weights(), *given, keys(len(given[0])), new=8, temperature=0.0, stops=(181,))
    stops = (int(free.tokens[0, 1]), 5)
    states = []
    for micro in (4, 1):
        changed = dataclasses.replace(config, micro=micro)
        update = make_update(changed, adapted(folders[0]), expert, stops)
        student = adapted(folders[0])
        states.append(update(begin(changed, student), *placed(changed, student, expert, prompts)))
    np.testing.assert_allclose(states[0].loss_sum, states[1].loss_sum, rtol=1e-5)
    assert asked_since(states[0]) < 4 * 9
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), states[0].moments, states[1].moments)


@pytest.mark.parametrize("name", ["loglossbc", "opd-f"])
def test_other_rows_learn_too(folders, name):
    """The forward KL, exactly, along completions of who plays: the expert (LogLossBC), the sampled student (OPD-F)."""
    student, expert, prompts = adapted(folders[0]), nothing(folders[1]), prompts_of(folders[0], 4)
    config = config_of(*folders, method=name, steps=40, lr=2e-2, lora_rank=8)
    given = tuple(map(jnp.asarray, prompts))

    @jax.jit
    def forward_kl(trained):
        weights = student.weights(trained)
        player, its = (expert, expert.weights()) if config.row.driver == "expert" else (student, weights)
        played = rollout(player, its, *given, keys(4, 9), new=8, temperature=1.0, stops=STOPS)
        found = exact_divergence(
            student, expert, weights, expert.weights(), Batch(*given, *played), beta=0.0, temperature=1.0, chunk=64
        )
        return found.total / found.count

    state = trained_by(student, expert, config, prompts, 40)
    before, after = float(forward_kl(student.trained)), float(forward_kl(state.trained))
    print(f"{name}: {before:.3f} to {after:.3f}")
    assert after < 0.9 * before
    assert 4 * 40 < asked_since(state) <= 40 * 4 * 9


def test_queries_are_counted_beyond_a_word(folders):
    """An update that asks its queries right before 2^32 of them, and at 2^33."""
    student, expert, prompts = adapted(folders[0]), nothing(folders[1]), prompts_of(folders[0], 4)
    config = config_of(*folders, steps=3)
    update = make_update(config, student, expert, STOPS)
    given = placed(config, student, expert, prompts)
    asked = []
    for high, low in ((0, 0), (0, 2**32 - 3), (2, 0)):
        state = begin(config, adapted(folders[0]))._replace(queries=jnp.array([high, low], jnp.uint32))
        asked.append(asked_since(update(state, *given)) - (high * 2**32 + low))
    assert asked[0] == asked[1] == asked[2] > 3


@pytest.mark.parametrize("draw", [drawn, lambda keys, logits: picked(2.0 * logits, jnp.float32(2.0), keys)])
def test_rare_tokens_are_drawn(draw):
    """262,144 tokens, of which all but one share 3 %: 2,000 draws by keys of their own, binomial test at 1e−6."""
    logits = jnp.full(2**18, np.log(0.03 / (2**18 - 1)), jnp.float32).at[777].set(np.log(0.97))
    go = jax.jit(lambda logits, keys: jax.lax.map(lambda some: draw(some, jnp.broadcast_to(logits, (8, 2**18))), keys))
    found = np.asarray(go(logits, jax.random.split(jax.random.key(0), (250, 8))))
    assert stats.binomtest(int((found != 777).sum()), 2_000, 0.03).pvalue > 1e-6
