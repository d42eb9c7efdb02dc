"""Teachers that are the student's own network, slots of the prompt, what is kept (docs/post_training.md §5)."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import UNOPTIMISED

from nail.checks import BadInput
from nail.envs.defclass import NAME, PAD
from nail.envs.play import check_task
from nail.noise import over
from nail.sweep.bring import chains_from
from nail.sweep.lot import Lot
from nail.sweep.memory import least_bytes
from nail.sweep.plan import read_requests
from nail.sweep.run import run
from nail.sweep.stages import stages
from nail.training.config import TrainConfig, run_id
from nail.training.evaluate import evaluate
from nail.training.privileged import follow, privileged
from nail.training.problem import make_channel, make_environment, make_setup, numbers_of
from nail.training.ranges import check
from nail.training.train import make_train
from nail.training.update import collect, objective, update

A, H = 3, 2
TABLE = TrainConfig(
    task="poison-chain", A=A, H=H, method="opd-f", batch=4, steps=4, eval_every=2, warmup=0, lr=0.1, n_validation=4,
    teacher="live",
)  # fmt: skip
SLOTS = TrainConfig(
    task="defclass", epsilon=0.5, eta=0.3, slots="demonstration", width=8, heads=2, layers=1, init_std=0.5, batch=8,
    steps=6, eval_every=2, warmup=0, lr=1e-2, n_validation=8, method="opd-f", teacher="live",
    teacher_sees="demonstration",
)  # fmt: skip
START = "0123456789ab"


def made(config):
    """(setup, numbers of one run, channel)."""
    setup, numbers = make_setup(config), jax.tree.map(lambda x: x[0], numbers_of((config,)))
    return setup, numbers, make_channel(setup, numbers)


def visited_by(config, params, reference=None, step=3):
    setup, numbers, channel = made(config)
    call = jax.jit(lambda p, r: collect(setup, channel, numbers, p, jnp.int32(step), jax.random.key(1), r))
    return setup, call.lower(params, reference).compile(dict(UNOPTIMISED))(params, reference)


def networks(config, n=2):
    init = jax.jit(make_setup(config).policy.init)
    return [init(jax.random.key(i)) for i in range(n)]


def prompts_of(setup, n, which="train"):
    """The first n prompts of a stream."""
    return jax.jit(jax.vmap(getattr(setup.env, f"{which}_context")))(jnp.arange(n, dtype=jnp.uint32))


def filled_in(setup):
    """`privileged` as one program of (channel, prompts, key)."""
    return jax.jit(lambda channel, prompts, key: privileged(setup, over(channel, prompts), prompts, key))


@pytest.mark.parametrize("estimator", ["mc", "full"])
@pytest.mark.parametrize("method", ["opd-f", "opd-r"])
def test_mean_gradients_are_those_to_the_teachers_law_by_enumeration(method, estimator):
    """∇KL(q‖π) and ∇KL(π‖q), prefixes stopped, summed over all chains of 3 actions and 2 steps that the student plays
    and all labels of the teacher; float64."""
    config = dataclasses.replace(TABLE, method=method, estimator=estimator)
    with jax.enable_x64(True):
        setup, numbers, channel = made(config)
        shape = jax.eval_shape(setup.policy.init, jax.random.key(0)).shape
        rng = np.random.default_rng(0)
        mine, other = (jnp.asarray(rng.normal(size=shape)) for _ in range(2))
        context = jax.tree.map(lambda x: x[None], setup.env.train_context(jnp.uint32(0)))
        _, example = visited_by(config, mine, other)
        chains = np.array(list(itertools.product(range(A), repeat=H)), np.int32)

        def terms(z, chain, labels):
            seen = jax.vmap(setup.env.observations)(context, chain[None])
            at = jnp.arange(H), seen[0]
            law, student = jax.nn.softmax(other[at]), jax.nn.softmax(mine[at])
            chance = student[jnp.arange(H), chain].prod() * law[jnp.arange(H), labels].prod()
            visited = example._replace(
                contexts=context,
                observations=seen,
                actions=chain[None],
                laws=law[None],
                labels=labels[None],
                known=None,
            )
            lp = jax.nn.log_softmax(z[at])
            p, lq, lp = (law, lp, jnp.log(law)) if method == "opd-f" else (jnp.exp(lp), jnp.log(law), lp)
            value = objective(setup, channel, numbers, z, visited, jax.random.key(0))
            return chance * value, chance * (p * (lp - lq)).sum(-1).mean()

        pairs = map(jnp.asarray, map(np.stack, zip(*itertools.product(chains, chains), strict=True)))
        slope = jax.jit(jax.vmap(jax.jacrev(terms), (None, 0, 0)))
        total, exact = (np.asarray(part).sum(0) for part in slope(mine, *pairs))
    np.testing.assert_allclose(total, exact, atol=1e-7)
    assert np.abs(exact).max() > 1e-2


@pytest.mark.parametrize("driver", ["loglossbc", pytest.param("opd-f", marks=pytest.mark.slow)])
def test_a_teachers_law_is_its_networks_at_the_prompt_that_it_sees(driver):
    """Not the student's, not the noisy expert's, and the labels are drawn from it: those of chains that it plays are
    the chains."""
    config = dataclasses.replace(SLOTS, method=driver, teacher="frozen", start=START)
    mine, other = networks(config)
    setup, visited = visited_by(config, mine, other)
    seen = filled_in(setup)(made(config)[2], visited.contexts, jax.random.key(1))
    laws = jax.jit(lambda *at: jax.nn.softmax(setup.policy.forward(*at, visited.observations)[0]))
    np.testing.assert_allclose(visited.laws, laws(other, seen), atol=1e-5)
    for params, prompts in ((mine, seen), (other, visited.contexts)):
        assert np.abs(laws(params, prompts) - visited.laws).max() > 1e-2
    if driver == "loglossbc":
        np.testing.assert_array_equal(visited.actions, visited.labels)


def test_a_demonstration_is_a_chain_of_the_noisy_expert_and_an_answer_the_right_one():
    setup, numbers, channel = made(SLOTS)
    contexts, key, fill = prompts_of(setup, 8), jax.random.key(5), filled_in(setup)
    seen = np.asarray(fill(channel, contexts, key))
    np.testing.assert_array_equal(seen[:, :13], contexts[:, :13])
    again = fill(channel, contexts, jax.random.key(6))
    clean = np.asarray(jax.jit(jax.vmap(setup.env.clean_actions))(contexts))
    assert (seen != again).any()
    assert (seen[:, 13:] != clean).any()
    assert (seen[:, 13:] == clean).mean() > 0.5
    quiet = numbers._replace(eta=jnp.float32(0))
    np.testing.assert_array_equal(fill(make_channel(setup, quiet), contexts, key)[:, 13:], clean)
    config = dataclasses.replace(SLOTS, slots="answer", teacher_sees="answer")
    setup, _, channel = made(config)
    seen = filled_in(setup)(channel, prompts_of(setup, 8), key)
    np.testing.assert_array_equal(seen[:, 13], clean[:, -1])
    assert seen.shape == (8, 14)


def test_frozen_is_the_starts_law_live_the_students_and_an_average_its_recursion():
    """Three updates of each: θ̄ ← (1−ρ)θ̄ + ρθ exactly, a rate of 1 is the live teacher bit for bit."""
    first = jnp.asarray(np.random.default_rng(0).normal(size=networks(TABLE, 1)[0].shape), jnp.float32)
    ends, averages = {}, []
    for teacher, rate in (("frozen", None), ("live", None), ("average", 0.25), ("average", 1.0)):
        config = dataclasses.replace(TABLE, teacher=teacher, teacher_rate=rate)
        setup, numbers, _ = made(config)
        state = jax.tree.map(lambda x: x[0], make_train_state(config, first))
        step = (
            jax.jit(lambda s, setup=setup, numbers=numbers: update(setup, numbers, s))
            .lower(state)
            .compile(dict(UNOPTIMISED))
        )
        for _ in range(3):
            before, state = state, step(state)
            if rate == 0.25:
                averages.append((before.average, state.params, state.average))
        ends[teacher, rate] = state
    frozen = ends["frozen", None]
    jax.tree.map(np.testing.assert_array_equal, frozen.reference, first)
    assert frozen.average is None
    for before, params, after in averages:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), after, follow(before, params, 0.25))
        by_hand = jax.tree.map(lambda a, b: 0.75 * np.asarray(a) + 0.25 * np.asarray(b), before, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after, by_hand)
    jax.tree.map(np.testing.assert_array_equal, ends["average", 1.0].params, ends["live", None].params)
    moved = [jax.tree.leaves(ends[key].params) for key in (("frozen", None), ("live", None), ("average", 0.25))]
    for one, other in itertools.combinations(moved, 2):
        assert any((a != b).any() for a, b in zip(one, other, strict=True))


def make_train_state(config, params):
    """The state that a run with these parameters begins with; frozen teachers as if they had a start."""
    given = dataclasses.replace(config, start=START) if config.teacher == "frozen" else config
    runs = jax.local_device_count()
    return make_train(given).init(numbers_of((given,) * runs), jax.tree.map(lambda x: jnp.stack([x] * runs), params))


def test_live_has_no_forward_kl_to_itself_where_both_see_the_same():
    config = dataclasses.replace(SLOTS, teacher_sees="prompt", estimator="full")
    params = networks(config, 1)[0]
    setup, visited = visited_by(config, params)
    _, numbers, channel = made(config)
    loss = lambda p, visited: objective(setup, channel, numbers, p, visited, jax.random.key(0))  # noqa: E731
    value, slope = jax.jit(jax.value_and_grad(loss))(params, visited)
    assert abs(float(value)) < 1e-6
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) < 1e-5
    setup, visited = visited_by(SLOTS, params)
    assert float(jax.jit(loss)(params, visited)) > 1e-3


def test_no_slot_reaches_the_student():
    """Held-out prompts are empty at any share, so are those of updates; what a teacher saw is in no visited context,
    and the student's logits and its evaluation do not change with the share."""
    config = dataclasses.replace(SLOTS, shown=1.0)
    setup, plain = make_setup(config), make_setup(SLOTS)
    held, own = (np.asarray(prompts_of(each, 8, "validation")) for each in (setup, plain))
    np.testing.assert_array_equal(held, own)
    assert (held[:, 13:] == PAD).all()
    params = networks(config, 1)[0]
    found = (jax.jit(lambda p, e=each.env: evaluate(e, setup.policy, p))(params) for each in (setup, plain))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    _, visited = visited_by(SLOTS, params)
    assert (visited.contexts[:, 13:] == PAD).all()


@pytest.mark.parametrize("slots", ["demonstration", pytest.param("answer", marks=pytest.mark.slow)])
def test_filled_slots_are_followed(slots):
    """The task is in order; a share of prompts is filled (1,000 prompts, a binomial bound that errs below 1e−6); there
    the expert plays a chain with one Y, the answer's, whatever the item says."""
    check_task("defclass", slots=slots, shown=0.5)
    env = make_environment(dataclasses.replace(SLOTS, slots=slots, teacher_sees=slots, shown=0.3))
    contexts, chains, own = map(np.asarray, jax.jit(jax.vmap(lambda i: shown_and_chains(env, i)))(np.arange(1_000)))
    filled = (contexts[:, 13:] != PAD).any(1)
    assert abs(filled.mean() - 0.3) < 5 * np.sqrt(0.21 / 1_000)
    np.testing.assert_array_equal(filled, (contexts[:, 13:] != PAD).all(1))
    np.testing.assert_array_equal(chains[~filled], own[~filled])
    np.testing.assert_array_equal(chains[filled, -env.size :], contexts[filled, 13:])
    agree = (chains[filled, -1] == own[filled, -1]).mean()
    assert abs(agree - 0.25) < 5 * np.sqrt(0.1875 / filled.sum())
    for chain in chains[filled][:50]:
        blocks = chain[:12].reshape(4, 3)
        assert blocks[blocks[:, 2] == 20, 0].tolist() == [chain[-1]]
        assert chain[-1] - NAME in range(4)
    np.testing.assert_array_equal(chains[:, 1:12:3], own[:, 1:12:3])
    follow_filled = jax.jit(jax.vmap(lambda prompt, chain: env.clean_actions(env.filled(prompt, chain))))
    np.testing.assert_array_equal(follow_filled(contexts[~filled], chains[~filled]), chains[~filled])


def shown_and_chains(env, index):
    """A prompt, the chain of the expert, and that of the task without slots."""
    prompt = env.train_context(index.astype(jnp.uint32))
    return prompt, env.clean_actions(prompt), env.task.clean_actions(prompt[:13])


CUT = {
    "table, average": (dataclasses.replace(TABLE, teacher="average", teacher_rate=0.3, temperature=2.0, lr=0.5),) * 2,
    "slots, average": (dataclasses.replace(SLOTS, shown=0.5, steps=2), dataclasses.replace(SLOTS, teacher="average")),
    "slots, frozen": (dataclasses.replace(SLOTS, shown=0.5, steps=2), dataclasses.replace(SLOTS, teacher="frozen")),
}


@pytest.mark.parametrize(
    "case", [case if case[0] == "t" else pytest.param(case, marks=pytest.mark.slow) for case in CUT]
)
def test_a_cut_run_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, case):
    """Killed after its first rows with a checkpoint, and run again: the rows of a run in one piece."""
    first, second = CUT[case]
    first = dataclasses.replace(first, method="loglossbc", teacher="expert", teacher_sees="prompt", teacher_rate=None)
    first = dataclasses.replace(first, temperature=None)
    old = "" if case[0] == "t" else "epsilon=0"
    chain = stages(first, dataclasses.replace(second, seed=1, old_task=old))
    whole = run([chain], tmp_path / "whole")

    class Killed(BaseException):
        pass

    real = Lot.save_state

    def kill(lot, segment, state):
        real(lot, segment, state)
        if lot.configs[0].start:
            raise Killed

    monkeypatch.setattr(Lot, "save_state", kill)
    with pytest.raises(Killed):
        run([chain], tmp_path / "cut", checkpoint_seconds=0.0)
    monkeypatch.undo()
    again = run([chain], tmp_path / "cut")
    measured = [c for c in whole.columns if whole[c].dtype == float]
    assert {"full_exact", "train_loss", *(["old_kl", "old_answer_exact"] if old else [])} <= set(measured)
    np.testing.assert_array_equal(whole[measured].to_numpy(), again[measured].to_numpy())
    losses = whole[whole.run == run_id(chain[1])].train_loss
    assert losses.nunique() == len(losses.dropna()) > 1


@pytest.mark.slow
def test_what_is_kept_begins_with_the_start_and_counts_queries_by_what_is_asked(tmp_path):
    """At update 0 KL 0 and the start's accuracy; a demonstration asks the expert, an answer does not."""
    first = dataclasses.replace(
        SLOTS, method="loglossbc", teacher="expert", teacher_sees="prompt", steps=2, slots="answer"
    )
    second = dataclasses.replace(first, method="opd-f", teacher="frozen", teacher_sees="answer", negated=1.0,
                                 eta=TrainConfig.eta, old_task="negated=0")  # fmt: skip
    chain = stages(first, second)
    rows = run([chain], tmp_path)
    before, after = (rows[rows.run == run_id(config)] for config in chain)
    assert after.old_kl.iloc[0] == pytest.approx(0, abs=1e-6)
    assert after.old_kl.iloc[-1] > 1e-4
    assert after.old_val_loss.iloc[0] == pytest.approx(before.val_loss.iloc[-1], rel=1e-5)
    assert after.val_loss.iloc[0] != pytest.approx(before.val_loss.iloc[-1], rel=1e-3)
    assert (after.expert_queries == 0).all()
    assert before.expert_queries.iloc[-1] == 2 * 8 * 13
    assert SLOTS.asks


def test_room_counts_the_parameters_of_teachers():
    base = dataclasses.replace(SLOTS, width=64)
    params = sum(
        leaf.size * 4 for leaf in jax.tree.leaves(jax.eval_shape(make_setup(base).policy.init, jax.random.key(0)))
    )
    average = dataclasses.replace(base, teacher="average")
    both = dataclasses.replace(average, old_task="epsilon=0")
    assert least_bytes(average) - least_bytes(base) == params
    assert least_bytes(both) - least_bytes(base) == 2 * params


def test_existing_ids_know_nothing_of_teachers():
    plain = TrainConfig(task="defclass")
    assert not {"teacher", "teacher_sees", "teacher_rate", "old_task", "slots", "shown"} & set(plain.stored)
    assert run_id(plain) != run_id(dataclasses.replace(plain, teacher="live"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"teacher": "oracle"}, "unknown teacher"),
        ({"teacher_sees": "all"}, "unknown teacher_sees"),
        ({"teacher": "average", "teacher_rate": 0.0}, "teacher_rate must be in"),
        ({"teacher": "average", "teacher_rate": 1.5}, "teacher_rate must be in"),
        ({"teacher": "average", "teacher_rate": 1e-60}, "teacher_rate must be above 0"),
        ({"teacher_rate": 0.1}, "teacher_rate must be left out"),
        ({"teacher": "expert"}, "teacher_sees must be prompt"),
        ({"slots": "none"}, "teacher_sees must be what slots"),
        ({"teacher_sees": "answer"}, "teacher_sees must be what slots"),
        ({"method": "grpo"}, "teacher must be expert"),
        ({"method": "dagger"}, "teacher must be expert"),
        ({"channel_aware": True}, "channel_aware must be left out"),
        ({"slots": "two"}, "unknown slots"),
        ({"shown": 1.5}, "shown must be in"),
        ({"slots": "none", "teacher_sees": "prompt", "shown": 0.5}, "shown must be 0"),
        ({"steer": True}, "steer must be left out"),
        ({"old_task": "epsilon"}, "old_task must be options"),
        ({"old_task": "epsilon=x"}, "old_task must have values"),
        ({"old_task": "width=8"}, "unknown option of old_task"),
        ({"old_task": "epsilon=2"}, "epsilon must be in"),
        ({"old_task": "epsilon=0 epsilon=1"}, "old_task must be options that are each given once"),
        ({"old_task": " "}, "old_task must be options as name=value, or left out"),
        ({"diagnose": True}, "diagnose must be left out"),
    ],
)
def test_bad_input_is_one_sentence(fields, said):
    with pytest.raises(BadInput, match=said) as error:
        check(dataclasses.replace(SLOTS, **fields))
    assert "\n" not in str(error.value)


def test_a_frozen_teacher_has_a_start(tmp_path):
    """Once chains have their starts, and before anything of a run is made; with one it trains from Python and from the
    command line."""
    frozen = dataclasses.replace(TABLE, teacher="frozen")
    with pytest.raises(BadInput, match="start must be a run where the teacher is frozen"):
        run([check(frozen)], tmp_path / "none")
    with pytest.raises(BadInput, match="start must be a run where the teacher is frozen"):
        chains_from("", (frozen,), tmp_path / "none")
    first = dataclasses.replace(TABLE, method="loglossbc", teacher="expert")
    assert (run([(first, frozen)], tmp_path / "out").teacher == "frozen").sum() == 3
    linked = chains_from(run_id(first), (check(dataclasses.replace(frozen, seed=2)),), tmp_path / "out")
    assert linked[0][-1].start == run_id(first)


def test_an_old_task_of_another_network_is_refused_before_a_folder_is_asked_for_it(tmp_path):
    plain = dataclasses.replace(SLOTS, slots="none", teacher="expert", teacher_sees="prompt", old_task="slots=answer")
    with pytest.raises(BadInput, match="old_task must be a task of the same network"):
        run([plain], tmp_path)
    assert not read_requests(tmp_path)[0]
    config = dataclasses.replace(SLOTS, old_task="slots=answer")
    with pytest.raises(BadInput, match="old_task must be a task of the same network"):
        make_train(check(config))
