"""Finite MDPs in the learner loop, against their exact tables and dynamic programmes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import finished, one

import nail
from nail.checks import BadInput
from nail.cli.main import main
from nail.envs.environment import Environment
from nail.envs.instances import garnet
from nail.envs.mdp import regret, value
from nail.envs.tasks import TASKS
from nail.methods import METHOD, trained_methods
from nail.noise import at_states
from nail.policies.softmax_table import deterministic, frequencies
from nail.sweep.table import read_rows
from nail.theory import exact
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_environment, make_instance, make_setup, numbers_of
from nail.training.train import make_train
from nail.training.update import collect, objective, optimiser, update

COMMON = dict(eta=0.3, batch=16, steps=300, lr=0.1, warmup=0, clip=1e9, eval_every=300, n_validation=40, bank_seed=3)
CONFIG = TrainConfig(task="poison-chain", A=3, H=4, **COMMON)
GARNET = TrainConfig(task="garnet", S=3, A=3, H=4, **COMMON)
TABULAR = {c.task: c for c in (CONFIG, TrainConfig(task="hidden-path", A=3, H=4, **COMMON), GARNET)}


def with_(base=CONFIG, **changes):
    return dataclasses.replace(base, **changes)


def test_labels_have_the_kernel_of_the_instance(tables):
    """ν by state: the laws of an update at the states that it visits are those of the instance; bursts refuse it."""
    instance = garnet(0, 4, 3, 3, 2, noise="adversarial")
    nail.add_instance("adversarial", "all noise on one action a state", lambda options, seed: instance)
    setup = make_setup(TrainConfig(task="adversarial", eta=0.3))
    states = jnp.array([[0, 1, 2, 0], [2, 2, 1, 1]])
    channel = at_states(make_channel(setup, one_run(setup)), states)
    clean = jnp.asarray(instance.expert, jnp.float32)[jnp.arange(4), states]
    expected = instance.noisy(0.3)[np.arange(4), np.asarray(states)]
    np.testing.assert_allclose(channel.probs(clean), expected, atol=1e-6)
    with pytest.raises(BadInput, match=r"uniform \(or one of your own\) where the kernel"):
        make_train(TrainConfig(task="adversarial", eta=0.3, noise="bursts"))


def one_run(setup):
    """The numbers of one run."""
    return jax.tree.map(lambda number: number[0], numbers_of((setup.config,)))


def trained(config):
    """Final logits and final evaluation of one run."""
    state, rows = finished(config)
    assert (int(state.step[0]), int(state.bad_step[0])) == (config.steps, -1)
    return np.asarray(state.params[0], np.float64), one(rows[-1].evaluation)


def greedy(params):
    return np.asarray(deterministic(jnp.argmax(jnp.asarray(params), -1), params.shape[-1]), np.float64)


def softmax(params):
    weight = np.exp(params - params.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def test_every_task_makes_an_environment():
    for task in TASKS:
        config = TrainConfig(task=task)
        assert isinstance(make_environment(config), Environment)
    assert set(TABULAR) == {name for name, row in TASKS.items() if row.instance is not None}


@pytest.mark.parametrize("task", TABULAR)
def test_laws_in_parallel_equal_laws_step_by_step(task):
    """Random actions from 30 contexts: observations are possible successors, and both ways to ask the expert agree."""
    env, instance = make_environment(TABULAR[task]), make_instance(TABULAR[task])
    actions = jax.random.randint(jax.random.key(0), (30, 4), 0, 3)

    @jax.jit
    @jax.vmap
    def walk(index, actions):
        context = env.train_context(index)

        def step(state, action):
            return env.advance(state, action), (env.observe(state), env.law(state), env.lost(state))

        seen, laws, lost = jax.lax.scan(step, env.start(context), actions)[1]
        return seen, laws, lost, env.laws(context, seen), env.poisoned(context, seen)

    seen, laws, lost, parallel, poisoned = walk(jnp.arange(30, dtype=jnp.uint32), actions)
    np.testing.assert_array_equal(laws, parallel)
    np.testing.assert_array_equal(lost, poisoned)
    np.testing.assert_allclose(laws, instance.expert[np.arange(4), seen], atol=1e-7)
    assert lost.any() == (task != "garnet")
    steps = instance.mdp.P[np.arange(3), seen[:, :-1], actions[:, :-1], seen[:, 1:]]
    assert (steps > 0).all()


def test_transitions_and_first_states_have_the_law_of_the_mdp():
    """4,000 contexts at one (h, s, a): every frequency within 5 standard errors, error probability 1e-5."""
    env, mdp = make_environment(GARNET), make_instance(GARNET).mdp

    def end(index):
        start = env.start(env.train_context(index))
        return start.state, env.advance(start._replace(state=jnp.int32(1)), jnp.int32(2)).state

    first, after = jax.jit(jax.vmap(end))(jnp.arange(4000, dtype=jnp.uint32))
    for drawn, law in ((first, mdp.rho), (after, mdp.P[0, 1, 2])):
        share = np.bincount(np.asarray(drawn), minlength=3) / 4000
        assert (np.abs(share - law) <= 5 * np.sqrt(law * (1 - law) / 4000)).all()


def test_clean_path_is_the_experts_own():
    env, instance = make_environment(GARNET), make_instance(GARNET)

    @jax.jit
    @jax.vmap
    def clean(index):
        context = env.validation_context(index)
        clean = env.clean_actions(context)
        return context.first, env.observations(context, clean), clean

    for first, states, actions in zip(*map(np.asarray, clean(jnp.arange(8, dtype=jnp.uint32))), strict=True):
        assert states[0] == first
        np.testing.assert_array_equal(actions, instance.expert[np.arange(4), states].argmax(-1))
        assert (instance.mdp.P[np.arange(3), states[:-1], actions[:-1], states[1:]] > 0).all()


def test_contexts_are_functions_of_index_stream_and_bank_seed():
    env, other = (make_environment(with_(GARNET, bank_seed=seed)) for seed in (3, 4))
    index = jnp.arange(20, dtype=jnp.uint32)
    streams = (env.train_context, env.validation_context, other.train_context)
    drawn = np.concatenate([jax.jit(jax.vmap(stream))(index).bits for stream in streams])
    assert len({tuple(u) for u in drawn.tolist()}) == 60
    np.testing.assert_array_equal(jax.jit(env.train_context)(jnp.uint32(7)).bits, drawn[7])
    assert env.n_validation == 40
    assert make_environment(CONFIG).n_validation == 1


@pytest.mark.parametrize("method", [row.name for row in trained_methods()])
def test_every_method_trains_a_softmax_table(method):
    """20 updates from Monte Carlo objectives move the table away from uniform, and every loss is finite."""
    # who asks no expert takes no noise
    config = with_(method=method, steps=20, eta=CONFIG.eta if METHOD[method].asks else TrainConfig.eta)
    setup, numbers = make_setup(config), numbers_of((config,) * jax.local_device_count())
    state = one(jax.device_get(make_train(config).init(numbers)))

    @jax.jit
    def run(state):
        def step(state, _):
            after = update(setup, one(numbers), state)
            return after, after.loss_sum - state.loss_sum

        return jax.lax.scan(step, state, length=20)

    state, losses = run(state)
    assert state.params.shape == (4, 2, 3)
    assert np.abs(state.params[0, 0]).max() > 0.1
    assert np.isfinite(losses).all()
    assert (int(state.step), int(state.loss_count), int(state.bad_step)) == (20, 20, -1)


def test_nail_f_reaches_the_optimal_policy_of_the_chain():
    """Greedy regret is 0 by the exact dynamic programme; sampled, the fitted law survives like the noisy expert."""
    params, seen = trained(with_(estimator="full"))
    chain = make_instance(CONFIG)
    assert regret(chain.mdp, greedy(params), chain.expert) == 0.0
    assert seen.full_exact == value(chain.mdp, greedy(params)) == 1.0
    np.testing.assert_allclose(softmax(params)[:, 0], chain.noisy(0.3)[:, 0], atol=5e-3)
    assert value(chain.mdp, softmax(params)) == pytest.approx(exact.survival(4, 3, 0.3), abs=0.02)
    np.testing.assert_array_equal(params[:, 1], 0.0)


def test_nail_f_reaches_the_optimal_policy_of_a_random_mdp():
    config = with_(GARNET, estimator="full")
    params, seen = trained(config)
    garnet = make_instance(config)
    assert abs(regret(garnet.mdp, greedy(params), garnet.expert)) < 1e-12
    assert seen.full_exact == 1.0
    assert regret(garnet.mdp, greedy(np.zeros_like(params)), garnet.expert) > 0.01


def test_loglossbc_fits_the_noisy_law_wherever_the_expert_goes():
    config = with_(method="loglossbc", estimator="full", eta=0.6, lr=0.03, steps=1000, eval_every=1000)
    params, _ = trained(config)
    noisy = make_instance(config).noisy(0.6)
    np.testing.assert_allclose(softmax(params)[1:], noisy[1:], atol=5e-3)
    np.testing.assert_allclose(softmax(params)[0, 0], noisy[0, 0], atol=5e-3)


def test_loglossbc_at_convergence_is_maximum_likelihood():
    """1,500 full-batch Adam steps on 64 fixed episodes: the table equals the label frequencies to 1e-3, the log loss
    their entropy to 1e-6 nats."""
    config = with_(method="loglossbc", eta=0.6, batch=64, H=3)
    setup, numbers = make_setup(config), one(numbers_of((config,)))
    channel = make_channel(setup, numbers)
    start = setup.policy.init(jax.random.key(0))
    data = jax.jit(lambda key: collect(setup, channel, numbers, start, jnp.int32(0), key))(jax.random.key(5))
    counts = np.zeros((3, 2, 3))
    np.add.at(counts, (np.arange(3), np.asarray(data.observations), np.asarray(data.labels)), 1)
    assert (counts.sum(-1).ravel()[[0, 2, 3, 4, 5]] > 5).all()

    def loss(params):
        return objective(setup, channel, numbers, params, data, jax.random.key(0))

    @jax.jit
    def fit(params):
        adam = optimiser(1e9, 0.0)

        def step(carry, rate):
            params, moments = carry
            direction, moments = adam.update(jax.grad(loss)(params), moments, params)
            return (params - rate * direction, moments), None

        (params, _), _ = jax.lax.scan(step, (params, adam.init(params)), jnp.geomspace(0.1, 1e-4, 1500))
        return params, loss(params)

    params, last = fit(start)
    shares = np.asarray(frequencies(jnp.asarray(counts)))
    np.testing.assert_allclose(softmax(np.asarray(params, np.float64)), shares, atol=1e-3)
    entropy = -(counts * np.log(np.where(counts > 0, shares, 1.0))).sum() / counts.sum()
    assert float(last) == pytest.approx(entropy, abs=1e-6)


def test_train_command_on_a_table(tmp_path):
    words = "train --task poison-chain --A 3 --H 6 --eta 0.3 --method nail-f --batch 16 --steps 500 --lr 0.1 --warmup 0"
    assert main([*words.split(), "--clip", "1e9", "--out", str(tmp_path / "out")]) == 0
    rows = read_rows(tmp_path / "out")
    assert rows.task.tolist() == ["poison-chain"] * 2
    assert rows.step.tolist() == [0, 500]
    assert rows.full_exact.tolist() == [0.0, 1.0]
