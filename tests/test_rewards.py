"""Reward and preference rows against enumeration, 3 actions and 2 steps (docs/post_training.md §4)."""

import dataclasses
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nail
from nail.checks import BadInput
from nail.methods import Method
from nail.rules import TOP_P, nucleus
from nail.training import rewards
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_instance, make_setup, numbers_of
from nail.training.ranges import check
from nail.training.train import make_train
from nail.training.update import Visited, collect, objective, update

A, H = 3, 2
CONFIG = TrainConfig(
    task="poison-chain", A=A, H=H, method="grpo", batch=2, group=2, steps=4, eval_every=2, warmup=0, lr=0.1,
    n_validation=4,
)  # fmt: skip
MODADD = TrainConfig(
    p=3, m=4, width=8, heads=2, layers=1, init_std=0.5, batch=8, steps=20, n_validation=4, method="dpo", group=4
)
CHAINS = np.array(list(itertools.product(range(A), repeat=H)))


class World(NamedTuple):
    """Everything about all chains of `CONFIG`, in float64."""

    seen: np.ndarray
    """states on the way, (chain, H)"""
    r: np.ndarray
    logits: np.ndarray
    """of the student, (H, S, A)"""
    start: np.ndarray
    """of what pairs are compared with"""
    noisy: np.ndarray
    """law of the noisy expert, (H, S, A)"""


def enumerated(method, **fields):
    """(the world, method → Σ over ordered pairs of chains of chance·gradient of the package's objective)."""
    config = dataclasses.replace(CONFIG, method=method, **fields)
    setup, numbers = make_setup(config), jax.tree.map(lambda x: x[0], numbers_of((config,)))
    channel, env = make_channel(setup, numbers), setup.env
    shape = jax.eval_shape(setup.policy.init, jax.random.key(0)).shape
    logits, start = np.random.default_rng(0).normal(size=(2, *shape))
    context, chains = env.train_context(jnp.uint32(0)), jnp.asarray(CHAINS, jnp.int32)
    seen = jax.vmap(lambda a: env.observations(context, a))(chains)
    r = rewards.verify(env, "chain", jax.tree.map(lambda x: jnp.stack([x] * len(CHAINS)), context), chains)
    world = World(np.asarray(seen), np.asarray(r, float), logits, start, make_instance(config).noisy(config.eta))
    reference, _ = logp_and_slope(world, world.start, config.masked_tokens)

    def one(i, j):
        pick, both = jnp.stack([i, j]), jax.tree.map(lambda x: jnp.stack([x, x]), context)
        laws, d = jnp.full((2, H, A), 1 / A), jnp.asarray(reference)[pick]
        visited = Visited(both, seen[pick], chains[pick], laws, chains[pick], rewards=r[pick], reference=d)
        return jax.grad(lambda z: objective(setup, channel, numbers, z, visited, jax.random.key(0)))(logits)

    def mean(chance):
        i, j = map(jnp.ravel, jnp.indices((len(CHAINS), len(CHAINS))))
        return np.tensordot(chance[i] * chance[j], np.asarray(jax.jit(jax.vmap(one))(i, j)), 1)

    return world, mean


def logp_and_slope(world, logits, masked=()):
    """(log-probability of each chain under logits, its gradient in them), positions left out where a masked token is
    played for the first time."""
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total, slope = np.zeros(len(CHAINS)), np.zeros((len(CHAINS), *logits.shape))
    for n, (chain, states) in enumerate(zip(CHAINS, world.seen, strict=True)):
        for h, (a, s) in enumerate(zip(chain, states, strict=True)):
            if a in masked and a not in chain[:h]:
                continue
            total[n] += logp[h, s, a]
            slope[n, h, s] += np.eye(A)[a] - np.exp(logp[h, s])
    return total, slope


def counted(masked):
    """Positions of each chain that are left."""
    return np.array([H - len(set(chain) & set(masked)) for chain in CHAINS])


@pytest.fixture(autouse=True)
def double(request):
    """Enumeration is in float64."""
    with jax.enable_x64("enumerated" in request.function.__code__.co_names):
        yield


@pytest.mark.parametrize(("method", "factor"), [("grpo", 1.0), ("dr-grpo", 0.5), ("rft-online", 1.0)])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_mean_gradients_are_policy_gradients(method, factor, temperature):
    """−∇E_q[r]/H, q = softmax(z/T) what plays, times 1 − 1/G for Dr. GRPO (G = 2), twice that for GRPO (the standard
    deviation is ½ where rewards differ), and for rejection sampling −E_q[r·∇log p], which at T = 1 is −∇E[r]."""
    world, mean = enumerated(method, temperature=temperature)
    temperature = float(np.float32(temperature))
    logq, slopes = logp_and_slope(world, world.logits / temperature)
    slopes = logp_and_slope(world, world.logits)[1] if method == "rft-online" else slopes / temperature
    slope = np.tensordot(np.exp(logq) * world.r, slopes, 1)
    assert np.abs(slope).max() > 1e-3
    np.testing.assert_allclose(mean(np.exp(logq)), -factor * slope / H, atol=1e-7)


def test_the_policy_gradient_of_a_nucleus_is_that_of_its_own_law(tables):
    """−(1 − 1/G)·∇E_q[r]/H, q the student's law given the nucleus, which the gradient holds fixed. At a mass at which
    the right chain can be played and something else too."""
    nail.add_method(Method("mine", "mine", "student", temperature=1.0, reward="centred", group=2, rule=TOP_P))
    world, mean = enumerated("mine", rule_number=0.8)
    kept = np.asarray(nucleus(jnp.asarray(world.logits), 0.8))
    logq, slopes = logp_and_slope(world, np.where(kept, world.logits, -np.inf))
    slope = np.tensordot(np.exp(logq) * world.r, slopes, 1)
    assert np.abs(slope).max() > 1e-3
    assert not kept.all()
    np.testing.assert_allclose(mean(np.exp(logq)), -0.5 * slope / H, atol=1e-7)


def test_offline_rejection_sampling_learns_the_right_chain_at_its_chance():
    """Chains of the noisy expert, of which the right one has the chance q^H: −q^H·∇log p(right)/H."""
    world, mean = enumerated("rft")
    chance, _ = logp_and_slope(world, np.log(world.noisy))
    (right,) = np.flatnonzero(world.r)
    q = 1 - CONFIG.eta + CONFIG.eta / A
    _, slopes = logp_and_slope(world, world.logits)
    np.testing.assert_allclose(mean(np.exp(chance)), -(q**H) * slopes[right] / H, atol=1e-7)


@pytest.mark.parametrize("mask", ["", "0", "2 1"])
def test_the_gradient_of_preferences_is_the_formula(mask):
    """Σ over w, l with r_w > r_l of 2·p(w)p(l)·(−β)·σ(−β(d_w − d_l))·(∇log p(w) − ∇log p(l)): either of a group's two
    may be w. Masked positions are in neither log-probability, and p is the student at temperature 1, whatever plays."""
    world, mean = enumerated("dpo", mask_first=mask, dpo_beta=0.7, temperature=0.5)
    masked = tuple(map(int, mask.split()))
    chance = np.exp(logp_and_slope(world, world.logits)[0])
    (logp, slopes), (start, _) = (logp_and_slope(world, z, masked) for z in (world.logits, world.start))
    d, expected = logp - start, np.zeros_like(world.logits)
    for w, l in itertools.product(range(len(CHAINS)), repeat=2):
        if world.r[w] > world.r[l]:
            pull = 0.7 / (1 + np.exp(0.7 * (d[w] - d[l])))
            expected -= 2 * chance[w] * chance[l] * pull * (slopes[w] - slopes[l])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(mean(chance), expected, atol=1e-7)


@pytest.mark.parametrize("method", ["grpo", "dr-grpo", "rft", "rft-online"])
@pytest.mark.parametrize("mask", ["2", "0 2"])
def test_masked_tokens_are_in_no_mean_of_a_reward_row(method, mask):
    """Per pair: Σ of weight·(−∇log p) over the positions left, over their number (or 0 where none is left)."""
    world, mean = enumerated(method, mask_first=mask)
    masked = tuple(map(int, mask.split()))
    chance = np.exp(logp_and_slope(world, np.log(world.noisy) if method == "rft" else world.logits)[0])
    _, slopes = logp_and_slope(world, world.logits, masked)
    left, expected = counted(masked), np.zeros_like(world.logits)
    for pair in itertools.product(range(len(CHAINS)), repeat=2):
        r = world.r[list(pair)]
        advantage = r if "rft" in method else (r - r.mean()) / (0.5 if method == "grpo" else 1.0)
        total = sum(w * slopes[n] for w, n in zip(advantage, pair, strict=True))
        expected -= chance[list(pair)].prod() * total / max(1, sum(left[n] for n in pair))
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(mean(chance), expected, atol=1e-7)


def test_the_noisy_expert_plays_for_offline_rejection_sampling():
    """The right chain with chance q^H, within 5.5 standard errors (an error of 4e−8), where the student has 1/9."""
    config = dataclasses.replace(CONFIG, method="rft", batch=4096)
    setup, numbers = make_setup(config), jax.tree.map(lambda x: x[0], numbers_of((config,)))
    params = jnp.zeros(jax.eval_shape(setup.policy.init, jax.random.key(0)).shape)
    found = collected(setup, numbers, params, 0).rewards
    chance = (1 - config.eta + config.eta / A) ** H
    assert abs(float(found.mean()) - chance) < 5.5 * np.sqrt(chance * (1 - chance) / 4096)


def test_an_answer_is_the_last_token_and_a_chain_all_of_them():
    env = make_setup(dataclasses.replace(MODADD, method="grpo")).env

    @jax.jit
    def rewarded():
        context = env.train_context(jnp.uint32(0))
        right = env.clean_actions(context)
        chains = jnp.stack([right, right.at[0].set((right[0] + 1) % 3), right.at[-1].set((right[-1] + 1) % 3)])
        return [rewards.verify(env, kind, jnp.stack([context] * 3), chains) for kind in ("answer", "chain")]

    assert [kind.tolist() for kind in rewarded()] == [[1, 1, 0], [1, 0, 0]]


def collected(setup, numbers, *given):
    """What an update collects, with the parameters, its number and those of the reference."""
    channel = make_channel(setup, numbers)
    call = jax.jit(lambda params, step, reference=None: collect(
        setup, channel, numbers, params, step, jax.random.key(1), reference))  # fmt: skip
    return call(given[0], jnp.int32(given[1]), *given[2:])


def visited_by(method, params, reference=None, step=5):
    """What update `step` of a method collects."""
    config = dataclasses.replace(MODADD, method=method)
    setup, numbers = make_setup(config), jax.tree.map(lambda x: x[0], numbers_of((config,)))
    return collected(setup, numbers, params, step, reference)


def network(seed):
    return jax.jit(make_setup(MODADD).policy.init)(jax.random.key(seed))


def test_a_group_has_one_prompt_and_rollouts_of_its_own():
    visited = jax.device_get(visited_by("grpo", network(0)))
    prompts = visited.contexts.reshape(2, 4, -1)
    assert (prompts == prompts[:, :1]).all()
    assert (prompts[0] != prompts[1]).any()
    for played in visited.actions.reshape(2, 4, -1):
        assert len(np.unique(played, axis=0)) > 1


def test_pairs_are_compared_with_the_reference():
    """Its log-probability of the chains that the student played, and not the student's own."""
    policy = make_setup(MODADD).policy
    params, other = network(0), network(1)
    visited = visited_by("dpo", params, other)
    logp = jax.jit(lambda *at: jax.nn.log_softmax(policy.forward(*at)[0]))
    logp = np.asarray(logp(other, visited.contexts, visited.observations))
    expected = np.take_along_axis(logp, np.asarray(visited.actions)[..., None], -1)[..., 0].sum(-1)
    np.testing.assert_allclose(visited.reference, expected, rtol=1e-5)
    assert not np.allclose(visited.reference, visited_by("dpo", params).reference, rtol=1e-3)


def test_weights_of_groups():
    r = jnp.array([1.0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    centred, scaled = (np.asarray(rewards.weights(kind, r, 4)) for kind in ("centred", "standardised"))
    np.testing.assert_allclose(centred, [0.75, -0.25, -0.25, -0.25] + [0] * 8, atol=1e-7)
    np.testing.assert_allclose(scaled[:4], centred[:4] / np.sqrt(3 / 16), rtol=1e-6)
    assert not scaled[4:].any()
    np.testing.assert_array_equal(rewards.weights("filter", r, 4), r)


def test_preferences_are_the_formula():
    """Groups of (w, l, l) and of equal rewards: the mean over two pairs, and 0."""
    d, r = np.array([0.3, -1.0, 2.0, 1.0, 2.0, 3.0]), np.array([1.0, 0, 0, 1, 1, 1])
    expected = np.mean([np.log1p(np.exp(-0.7 * (0.3 - other))) for other in (-1.0, 2.0)]) / 2
    assert float(rewards.preference(jnp.asarray(d), jnp.asarray(r), 3, 0.7)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", ["grpo", "dr-grpo", "rft", "rft-online", "dpo"])
def test_rows_train_and_dpo_keeps_what_it_began_with(method):
    config = dataclasses.replace(CONFIG, method=method, batch=64, group=8)
    program, numbers = make_train(config), numbers_of((config,) * jax.local_device_count())
    start = 0.5 * jnp.ones_like(program.init(numbers).params)
    state = program.init(numbers, start.at[..., 0].add(0.1))
    first = np.asarray(state.params)
    one = jax.tree.map(lambda x: x[0], numbers)
    setup = make_setup(config)
    step = jax.jit(lambda s: update(setup, one, s))
    state = step(step(jax.tree.map(lambda x: x[0], state)))
    assert np.abs(np.asarray(state.params) - first[0]).max() > 1e-3
    assert (state.reference is not None) == (method == "dpo")
    if method == "dpo":
        np.testing.assert_array_equal(state.reference, first[0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"task": "garnet", "method": "grpo"}, "task must be one with a reward for grpo to read"),
        ({"method": "grpo", "group": 1}, "group must be an integer from 2 to the batch"),
        ({"method": "grpo", "group": 128}, "group must be an integer from 2 to the batch"),
        ({"method": "grpo", "group": 7}, "batch must be a multiple of the group"),
        ({"method": "dpo", "dpo_beta": 0.0}, "dpo_beta must be"),
        ({"method": "grpo", "dpo_beta": 0.1}, "dpo_beta must be left out"),
        ({"group": 8}, "group must be left out"),
        ({"reward": "chain"}, "reward must be left out"),
        ({"method": "grpo", "temperature": 0.0}, "temperature must be above 0"),
        ({"method": "grpo", "channel_aware": True}, "channel_aware must be left out"),
    ],
)
def test_bad_input_is_one_sentence(fields, said):
    with pytest.raises(BadInput, match=said):
        check(TrainConfig(**fields))
