"""A prompt longer or shorter than the chain: nothing takes one length for the other."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import UNOPTIMISED, finished, one
from scipy import stats

import nail
from nail.envs.bank import Bank, make_bank
from nail.envs.tokens import exact_match
from nail.noise import Huber
from nail.sweep.memory import least_bytes
from nail.training.config import TrainConfig
from nail.training.experts import NetworkExpert
from nail.training.problem import make_channel, make_setup, numbers_of
from nail.training.rollout import draw, rollout

SMALL = dict(width=16, heads=2, batch=8, steps=6, eval_every=3, warmup=2, lr=1e-3, n_validation=5)


class Sums(NamedTuple):
    """Prompt: L residues mod 3; chain: x_1, x_1 + x_2, …, H sums, over the prompt again where it is shorter. The expert
    follows: it adds to the token before ("=", token 3, is 0)."""

    prompt_length: int
    horizon: int
    bank: Bank
    n_actions: int = 4
    n_observations: int = 4
    noise_support: tuple[int, ...] = (0, 1, 2)

    n_validation = property(lambda self: self.bank.n_validation)
    noise_profile = property(lambda self: np.linspace(0, 1, self.horizon, dtype=np.float32))

    def train_context(self, index):
        return self.bank.train(index)

    def validation_context(self, index):
        return self.bank.validation(index)

    def addends(self, prompt):
        return prompt[jnp.arange(self.horizon) % self.prompt_length]

    def clean_actions(self, prompt):
        return jnp.cumsum(self.addends(prompt)) % 3

    def observations(self, prompt, actions):
        return jnp.concatenate([jnp.array([3]), actions[:-1]])

    def start(self, prompt):
        return prompt, jnp.int32(0), jnp.int32(3)

    def observe(self, state):
        return state[2]

    def advance(self, state, action):
        return state[0], state[1] + 1, action.astype(jnp.int32)

    def law(self, state):
        return _law(self.addends(state[0])[state[1]], state[2])

    def laws(self, prompt, observations):
        return jax.vmap(_law)(self.addends(prompt), observations)

    def lost(self, state):
        return jnp.bool_(False)

    def poisoned(self, prompt, observations):
        return jnp.zeros(self.horizon, bool)

    def score(self, prompt, actions):
        return exact_match(actions, self.clean_actions(prompt))


def _law(x, token):
    return (jnp.arange(4) == (jnp.where(token == 3, 0, token) + x) % 3).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class SumsOptions:
    """Options of the sums."""

    L: int = 5
    """residues of a prompt"""
    H: int = 2
    """sums of a chain"""


def make_sums(options, seed, n_validation):
    return Sums(options.L, options.H, make_bank(3, options.L, seed, n_validation))


@pytest.fixture
def sums(tables):
    nail.add_task("sums", "", make_sums, SumsOptions)


LENGTHS = [(5, 2), (2, 5)]


@pytest.mark.parametrize(
    ("lengths", "kinds"),
    [
        ((5, 2), [(1, "on", 16)]), pytest.param((2, 5), [(2, "on", 16)], marks=pytest.mark.slow),
        *(pytest.param(lengths, [(1, "on", 3), (2, "on", 3), (1, "off", 16), (2, "off", 16)], marks=pytest.mark.slow)
          for lengths in LENGTHS),
    ],
)  # fmt: skip
def test_decoders_caches_and_network_experts_agree(lengths, kinds, sums):
    """Token by token and in one pass: the same logits for one and two blocks, with and without tables, the same laws of
    a network as the expert, the same episodes of a mixture."""
    L, H = lengths
    config = TrainConfig(task="sums", L=L, H=H, eta=0.5, **SMALL)
    for layers, reuse, n in kinds:
        setup = make_setup(dataclasses.replace(config, layers=layers, reuse=reuse, init_std=0.5))
        channel = make_channel(setup, one(numbers_of((config,))))
        np.testing.assert_allclose(channel.eta, 0.5 * np.linspace(0, 1, H))

        @jax.jit
        def both(params, setup=setup, channel=channel, n=n):
            shown = jax.vmap(setup.env.train_context)(jnp.arange(n, dtype=jnp.uint32))
            expert = NetworkExpert(setup.env, setup.policy, params)
            who = dict(driver="mixture", draws=draw(jax.random.key(1), n, setup.env, True, True), temperature=1.0,
                         expert=expert, channel=channel, expert_share=0.5)  # fmt: skip
            ways = [rollout(setup.env, setup.policy, params, shown, parallel=p, **who).actions for p in (False, True)]
            rolled = rollout(setup.env, setup.policy, params, shown, keep=True)
            forward = [setup.policy.forward(params, shown, rolled.observations, k)[0] for k in (None, rolled.known)]
            return ways, forward, rolled.actions, expert.laws(shown, rolled.observations)

        ways, forward, actions, laws = both(jax.jit(setup.policy.init)(jax.random.key(0)))
        np.testing.assert_array_equal(*ways)
        assert forward[0].shape == (n, H, 4)
        np.testing.assert_allclose(*forward, atol=1e-5)
        np.testing.assert_array_equal(forward[0].argmax(-1), actions)
        np.testing.assert_allclose(laws, jax.nn.softmax(forward[0]), atol=1e-5)


@pytest.mark.parametrize("lengths", [LENGTHS[0], pytest.param(LENGTHS[1], marks=pytest.mark.slow)])
def test_training_rows_and_memory(lengths, sums, tmp_path):
    """DAgger's data set and both decoders; a row has one accuracy a token of the chain, and H queries an episode."""
    L, H = lengths
    config = TrainConfig(task="sums", L=L, H=H, method="dagger", eta=0.4, **SMALL)
    state, rows = finished(config, options=UNOPTIMISED)
    assert rows[-1].evaluation.position_accuracy.shape[-1] == H
    assert state.buffer.labels.shape[-2:] == (8 * 6, H)
    assert state.params["params"]["positions"].shape[-2] == L + H
    if L < H:
        other = finished(dataclasses.replace(config, decode="parallel"), options=UNOPTIMISED)[1]
        np.testing.assert_allclose(rows[-1].train_loss, other[-1].train_loss, rtol=1e-5)
        table = nail.run(config, tmp_path)
        assert table.expert_queries.tolist() == [0, 24 * H, 48 * H]
        assert [name for name in table if name.startswith("position_")] == [f"position_{h}" for h in range(1, 1 + H)]
    longer = [least_bytes(TrainConfig(task="sums", L=L + more, H=H + also, **{**SMALL, "batch": 64}))
              for more, also in ((0, 0), (40, 0), (0, 40), (40, 40))]  # fmt: skip
    assert longer[0] < longer[1] < longer[3]
    assert longer[0] < longer[2] < longer[3]


def test_token_by_token_noise_has_the_rate_of_its_position(sums):
    """At profile 0, …, 1 the first token of the expert is always clean; the last is uniform for η near 1: of 6,000 a
    third are right, binomial at 1e−6."""
    config = TrainConfig(task="sums", L=5, H=2, **SMALL)
    setup, n = make_setup(config), 6_000
    env, channel = setup.env, Huber(0.999 * setup.env.noise_profile, np.array([1, 1, 1, 0]) / 3)
    shown = jax.vmap(env.train_context)(jnp.arange(n, dtype=jnp.uint32))
    draws = draw(jax.random.key(0), n, env, False, False)
    for parallel in (False, True):
        rolled = rollout(env, setup.policy, None, shown, driver="expert", draws=draws, expert=setup.expert,
                         channel=channel, parallel=parallel)  # fmt: skip
        right = np.asarray(rolled.actions == jax.vmap(env.clean_actions)(shown)).sum(0)
        assert right[0] == n
        assert stats.binomtest(int(right[1]), n, 0.001 + 0.999 / 3).pvalue > 1e-6
