"""`nail.load`: the policy that a run ended with is the one that its rows measured."""

import dataclasses

import jax
import numpy as np
import pytest
from outside import make_parity
from sweeping import BASE

import nail
from nail.checks import BadInput
from nail.sweep.lot import Lot
from nail.training.config import TrainConfig, run_id

NETWORK = dict(width=16, heads=2, batch=16, lr=1e-2, warmup=2, init_std=0.2)
MODADD = TrainConfig(task="modadd", method="loglossbc", p=3, m=5, eta=0.1, steps=160, eval_every=160, n_validation=24,
                     **NETWORK)  # fmt: skip
GARNET = TrainConfig(
    task="garnet", method="nail-f", S=3, A=3, H=4, eta=0.5, batch=16, steps=12, eval_every=6, n_validation=700, lr=0.3,
    warmup=0,
)  # fmt: skip


def scores(policy):
    """Of the greedy chains on all held-out prompts, and the cross-entropy of the clean chains under the law."""
    prompts = policy.prompts()
    found = jax.vmap(policy.env.score)(prompts, policy(prompts))
    clean = np.asarray(jax.vmap(policy.env.clean_actions)(prompts))
    law = np.take_along_axis(policy.law(prompts, clean), clean[..., None], -1)
    return found, -np.log(law).mean()


def check(config, out):
    """The rows' full_exact bit for bit, their accuracy by position as they show it, their loss up to rounding."""
    last = nail.run(config, out, keep_params=True).iloc[-1]
    policy = nail.load(out)
    assert policy.config == config
    found, loss = scores(policy)
    right, n = np.asarray(found.full_exact).sum(dtype=np.float32), int(last.validation_contexts)
    assert 0 < right < n
    assert last.full_exact == float(jax.jit(lambda count: count / n)(right))
    shown = [f"{x:.6g}" for x in np.asarray(found.position_exact).mean(0)]
    assert shown == [f"{x:.6g}" for x in last[[f"position_{h}" for h in range(1, 1 + len(shown))]]]
    np.testing.assert_allclose(loss, last.val_loss, rtol=1e-5)
    return policy


def test_the_chains_of_a_network_are_those_of_its_evaluation(tmp_path):
    policy = check(MODADD, tmp_path)
    assert policy.table is None
    assert policy.prompts(3).shape == (3, 5)
    np.testing.assert_array_equal(policy(policy.prompts(3)), policy(policy.prompts())[:3])
    for prompts, sentence in (
        ([[0, 1, 2, 0, 9]], r"prompts must be tokens in 0\.\.3, got \[9\]"),
        ([0, 1, 2, 0, 0], r"prompts must be an array of shape \(B, 5\), B ≥ 1, got \(5,\)"),
        ([[0.0] * 5], "prompts must be integers, got numbers of type float64"),
    ):
        with pytest.raises(BadInput, match=sentence):
            policy(prompts)
    with pytest.raises(BadInput, match=r"chains must be an array of shape \(B, 5\)"):
        policy.law(policy.prompts(2), policy(policy.prompts(1)))
    with pytest.raises(BadInput, match=r"n must be an integer in 1\.\.24"):
        policy.prompts(25)
    for n in ("a", 2.0, True):
        with pytest.raises(BadInput, match=rf"n must be an integer in 1\.\.24.*, got {n}"):
            policy.prompts(n)
    assert repr(policy) == f"TrainedPolicy(run={run_id(MODADD)}, task=modadd, method=loglossbc, eta=0.1, seed=0)"


def test_the_chains_of_a_table_are_those_of_its_evaluation(tmp_path):
    """700 contexts, more than are rolled out at once; the law of a chain is read off the table at its states."""
    policy = check(GARNET, tmp_path)
    prompts = policy.prompts(5)
    chains = policy(prompts)
    states = jax.vmap(policy.env.observations)(prompts, chains)
    at = policy.table[np.arange(4), states]
    np.testing.assert_allclose(policy.law(prompts, chains), at, rtol=1e-6)
    np.testing.assert_array_equal(chains, at.argmax(-1))
    assert len(policy(policy.prompts())) == 700
    with pytest.raises(BadInput, match="prompts must be contexts of the task"):
        policy(np.zeros((5, 4), int))


@pytest.mark.slow
def test_the_chains_of_a_task_from_outside_are_those_of_its_evaluation(tables, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Options:
        m: int = 6

        def check(self) -> None:
            pass

    nail.add_task("parity", "running parity of m bits", make_parity, Options)
    check(TrainConfig(task="parity", method="loglossbc", eta=0.1, steps=560, eval_every=560, n_validation=6, **NETWORK),
          tmp_path)  # fmt: skip


def test_which_run_is_said_and_what_keeps_parameters(tmp_path, monkeypatch):
    configs = [dataclasses.replace(BASE, steps=2, seed=seed) for seed in range(3)]
    ids = [run_id(config) for config in configs]
    nail.run(configs[:1], tmp_path)
    with pytest.raises(BadInput, match=r"no parameters: nail train keeps them, .*keep_params=True"):
        nail.load(tmp_path)
    nail.run(configs[1:], tmp_path, keep_params=True)
    with pytest.raises(BadInput) as refused:
        nail.load(tmp_path)
    assert f"one of the 2 in {tmp_path} with parameters: {ids[1]} (seed=1), {ids[2]} (seed=2)" in str(refused.value)
    with pytest.raises(BadInput, match=f"no final parameters of the run {ids[0]}"):
        nail.load(tmp_path, ids[0])
    with pytest.raises(BadInput, match="it holds none"):
        nail.load(tmp_path, "0" * 12)
    policy = nail.load(tmp_path, ids[2])
    assert policy.config == configs[2]
    lot = next(lot for lot in (Lot.read(path.parent) for path in tmp_path.glob("runs/*/lot.json")) if ids[2] in lot.ids)
    like = jax.ShapeDtypeStruct(policy.params.shape, policy.params.dtype)
    np.testing.assert_array_equal(policy.params, lot.load_params([ids[2]], like)[ids[2]])
    assert (nail.load(tmp_path, ids[1]).params != policy.params).any()
    monkeypatch.setattr("nail.sweep.folder.source_hash", lambda: "f" * 12)
    with pytest.raises(BadInput, match="another revision of the source computed it"):
        nail.load(tmp_path, ids[2])
    np.testing.assert_array_equal(nail.load(tmp_path, ids[2], any_revision=True).params, policy.params)
