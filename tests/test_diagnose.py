"""What a student's rollouts meet, by position (docs/post_training.md §1.6)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import UNOPTIMISED, finished, one

import nail
from nail.training.config import TrainConfig, run_id
from nail.training.diagnose import Diagnosis, diagnose
from nail.training.problem import make_instance, make_setup, numbers_of

CONFIG = TrainConfig(
    task="poison-chain", A=3, H=4, eta=0.5, batch=8, steps=12, lr=0.1, warmup=0, eval_every=6, n_validation=4,
    diagnose=True,
)  # fmt: skip
RIGHT, WRONG = 0.5 + 0.5 / 3, 0.5 / 3


def met(config, logits):
    """The diagnosis of a table of logits."""
    setup, numbers = make_setup(config), one(numbers_of((config,)))
    return jax.device_get(jax.jit(lambda params: diagnose(setup, numbers, params))(logits))


def test_greedy_rollouts_by_hand():
    """All logits equal: token 0 at every step, p = 1/3; q is noisy on the path and uniform after the first mistake."""
    found = met(dataclasses.replace(CONFIG, method="nail-f"), jnp.zeros((4, 2, 3)))
    right = make_instance(CONFIG).expert[:, 0].argmax(-1)
    still = np.cumprod(right == 0) == 1
    on_path = np.concatenate([[True], still[:-1]])
    q = np.where(on_path, np.where(right == 0, RIGHT, WRONG), 1 / 3)
    for name in ("advantage_mean", "advantage_low"):
        np.testing.assert_allclose(getattr(found, name), np.log(3 * q), atol=1e-5)
    np.testing.assert_array_equal(found.advantage_negative[on_path], (right != 0)[on_path])
    np.testing.assert_array_equal(found.repeated, [0, 1, 1, 1])
    np.testing.assert_array_equal(found.off_support, 0)


def test_sampled_rollouts_and_the_mass_off_the_support():
    """First position of 512 rollouts of a student that knows which action is wrong, p = (0.5, 0.3, 0.2) with the right
    one last: 6 standard errors; and the mass off the one or two most likely tokens of q exactly."""
    right = int(make_instance(CONFIG).expert[0, 0].argmax())
    order = [a for a in range(3) if a != right] + [right]
    law = np.zeros(3)
    law[order] = [0.5, 0.3, 0.2]
    logits = jnp.zeros((4, 2, 3)).at[0].set(jnp.log(jnp.asarray(law, jnp.float32)))
    base = dataclasses.replace(CONFIG, method="lsm", rule_number=1.0)
    one_token, two = (met(dataclasses.replace(base, top_k_teacher=k), logits) for k in (1, 2))
    r = np.log(np.array([WRONG, WRONG, RIGHT]) / [0.5, 0.3, 0.2])
    mean = np.array([0.5, 0.3, 0.2]) @ r
    spread = np.sqrt(np.array([0.5, 0.3, 0.2]) @ (r - mean) ** 2 / 512)
    assert abs(one_token.advantage_mean[0] - mean) < 6 * spread
    assert abs(one_token.advantage_negative[0] - 0.8) < 6 * np.sqrt(0.16 / 512)
    assert one_token.advantage_low[0] == pytest.approx(r[0], abs=1e-5)
    assert one_token.off_support[0] == pytest.approx(0.8, abs=1e-5)
    assert two.off_support[0] == pytest.approx(law[max(order[:2])], abs=1e-5)
    greedy = met(dataclasses.replace(base, rule_number=0.0), logits)
    assert greedy.advantage_low[0] == pytest.approx(r[0], abs=1e-5)
    assert greedy.advantage_mean[0] == pytest.approx(r[0], abs=1e-5)


@pytest.mark.slow
def test_a_diagnosis_is_in_the_rows_and_changes_nothing_else(tmp_path):
    plain = dataclasses.replace(CONFIG, method="lsm", diagnose=False)
    state = finished(plain, options=UNOPTIMISED)[0]
    watched = dataclasses.replace(plain, diagnose=True)
    assert run_id(watched) != run_id(plain)
    np.testing.assert_array_equal(finished(watched, options=UNOPTIMISED)[0].params, state.params)
    nail.run([plain, watched], tmp_path)
    rows = nail.read_rows(tmp_path)
    for name in Diagnosis._fields:
        assert [len(cell.split()) for cell in rows[rows.diagnose == "True"][name]] == [4, 4, 4]
        assert (rows[rows.diagnose == ""][name] == "").all()
