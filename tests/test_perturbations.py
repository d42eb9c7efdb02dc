"""Perturbed definitions of `defclass`, and the answers of a student to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from defining import HELD, prompts, words, world
from readers import NAMES, defclass_chain, defclass_prompt
from scipy import stats

from nail.envs.defclass import answer, make_defclass
from nail.envs.steering import PERTURBATIONS, STEERING, perturbed
from nail.training.steering import answers


@pytest.mark.parametrize("kind", PERTURBATIONS)
@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_a_perturbed_prompt_is_well_formed_and_has_the_readers_chain(kind, epsilon):
    """The item and the places of the names stay; one criterion alone is in the item, and labels move as documented."""
    shown = prompts(epsilon)[:600]
    after = np.asarray(jax.jit(perturbed, static_argnums=2)(shown, jax.random.key(1), kind))
    chain = np.asarray(jax.jit(jax.vmap(make_defclass(1.0, 0.3, 0, 5).clean_actions))(after))
    moves, tempted = [], []
    for old, new, clean in zip(shown, after, chain, strict=True):
        (meaning, item), (meaning_after, item_after) = defclass_prompt(words(old)), defclass_prompt(words(new))
        assert words(clean) == defclass_chain(words(new))
        assert item == item_after
        assert list(meaning) == list(meaning_after)
        assert len(set(meaning_after.values())) == 4
        label, label_after = defclass_chain(words(old))[-1], words(clean)[-1]
        changed = [name for name in NAMES if meaning[name] != meaning_after[name]]
        new_held = [name for name in NAMES if meaning_after[name] in HELD]
        if kind == "swap":
            a, b = changed
            assert (meaning[a], meaning[b]) == (meaning_after[b], meaning_after[a])
            assert label_after == {a: b, b: a}.get(label, label)
        else:
            assert len(new_held) == (kind == "introduce")
        if kind == "introduce":
            tempted.append(bool(set(item) & set(HELD)))
            assert new_held == ([label_after] if tempted[-1] else changed)
            assert tempted[-1] or label_after == label
        moves.append((label, label_after))
    if kind == "swap":
        assert stats.binomtest(sum(a != b for a, b in moves), 600, 1 / 2).pvalue > 1e-6
    kept = [b for (a, b), there in zip(moves, tempted or [True] * 600, strict=True) if there and kind != "swap"]
    if kept:
        assert stats.chisquare([kept.count(name) for name in NAMES]).pvalue > 1e-6
    if tempted:
        assert 0.1 < np.mean(tempted) < 0.9


@pytest.mark.slow
def test_answers_of_a_student_that_is_the_clean_expert():
    """Its greedy chains end with the right class after each perturbation; those of an untrained one not always."""
    setup, _ = world()
    env, shown = setup.env, jnp.asarray(prompts(1.0)[:128])

    class Reader:
        def init(self, key): ...

        def forward(self, params, contexts, observations, known=None): ...

        def start(self, params, contexts, keep=False):
            return jax.vmap(env.start)(contexts)

        def step(self, params, cache, step, observations):
            laws = jax.vmap(env.law)(cache)
            return laws, jax.vmap(env.advance)(cache, laws.argmax(-1))

    @jax.jit
    def all_of(shown, params):
        after = {kind: perturbed(shown, jax.random.key(0), kind) for kind in PERTURBATIONS}
        seen = {
            kind: (answers(STEERING, env, Reader(), None, now), jax.vmap(answer)(now), now)
            for kind, now in after.items()
        }
        return seen, answers(STEERING, env, setup.policy, params, shown), jax.vmap(answer)(shown)

    seen, fresh, right = all_of(shown, setup.policy.init(jax.random.key(0)))
    for given, told, after in seen.values():
        np.testing.assert_array_equal(given, told)
        assert [NAMES[label] for label in told] == [defclass_chain(words(prompt))[-1] for prompt in after]
    assert (np.asarray(fresh) != np.asarray(right)).any()
