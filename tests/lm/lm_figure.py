"""Figure 6 at its smallest; what it builds on: runs that share programs, log loss on the answers of a file."""

import dataclasses

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from nail_experiments import _language
from nail_experiments.fig6 import BETAS, OTHERS, SEEDS, TEMPERATURES
from tiny import config_of, left_in, plain_logits, train_command

from nail.checks import BadInput
from nail.cli.main import main
from nail.lm import train as training
from nail.lm.config import check, run_id
from nail.lm.inputs import folders_of
from nail.lm.problems import problems
from nail.lm.questions import write_questions
from nail.lm.update import begin, numbers
from nail.sweep.store import read_csv
from nail.sweep.table import read_rows

RUNS = (len(BETAS["smoke"]) + len(OTHERS["smoke"])) * len(TEMPERATURES["smoke"]) * len(SEEDS["smoke"])


def draw(out):
    assert main(["figure", "fig6", "--preset", "smoke", "--out", str(out)]) == 0


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("figure") / "out"
    draw(out)
    return out


def test_the_figure_leaves_every_file(drawn):
    for end in (".png", ".pdf", ".csv", "_claims.csv", "_rows.csv"):
        assert (drawn / f"fig6{end}").stat().st_size > 0
    rows = read_rows(drawn / "fig6_rows.csv")
    assert set(rows.preset) == {"smoke"}
    runs = rows[rows.part == "run"]
    assert runs.run.nunique() == RUNS
    assert len(runs) == 3 * RUNS
    assert rows[rows.part == "expert"].temperature.tolist() == [0.0, *TEMPERATURES["smoke"]]
    assert (runs.groupby("run").expert_queries.max() > 0).all()
    assert {"expert made", "student made"} < set(rows.part)


def test_the_figure_goes_on_where_it_ended(drawn, monkeypatch):
    """Runs and an evaluation whose rows are lost or cut are computed again; the rows are the same text."""
    before, trained = (drawn / "fig6_rows.csv").read_text(), []
    (work,) = (drawn / "runs").iterdir()
    one, other = sorted(path for path in work.iterdir() if path.name.startswith("nail-beta-"))[:2]
    (one / "rows.csv").unlink()
    lines = (other / "rows.csv").read_text().splitlines(keepends=True)
    (other / "rows.csv").write_text("".join(lines[:-1]))
    (work / "expert-at-4" / "rows.csv").write_text("cut")
    train = training.train
    monkeypatch.setattr(training, "train", lambda setup, out: trained.append(out) or train(setup, out))
    draw(drawn)
    assert trained == [one, other]
    after = (drawn / "fig6_rows.csv").read_text()
    different = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if len(set(pair)) > 1]
    assert [line.split(",")[0] for line, _ in different] == ["expert"]  # the seconds that an evaluation took
    before = after
    monkeypatch.setattr(training, "set_up", lambda *_: pytest.fail("models are loaded"))
    draw(drawn)
    assert (drawn / "fig6_rows.csv").read_text() == before


def test_a_run_that_another_process_computes_is_waited_for(folders, tmp_path, monkeypatch):
    configs = [config_of(*folders, seed=seed, steps=2) for seed in (0, 1)]
    where, trained = {config: tmp_path / str(config.seed) for config in configs}, []
    where[configs[0]].mkdir()
    lock = filelock.FileLock(where[configs[0]] / "run.lock")
    lock.acquire()
    monkeypatch.setattr(_language.time, "sleep", lambda _: trained.append("waits") or lock.release())
    train = training.train
    monkeypatch.setattr(training, "train", lambda setup, out: trained.append(out.name) or train(setup, out))
    rows = _language.computed(configs, where)
    assert trained == ["0", "1", "waits", "0"]
    assert [row["seed"] for row in rows if int(row["step"]) == 2] == [0, 1]


def test_a_sibling_is_the_run_that_is_set_up_alone(folders, tmp_path):
    """Another seed, β and T, and another method, by the programs and models of a first run: bit for bit."""
    first = config_of(*folders, beta=0.5)
    setup = training.set_up(first, *folders, run_id(first))
    for i, changes in enumerate([{"seed": 3, "beta": 0.25, "expert_temperature": 2.0}, {"method": "opd-r", "seed": 1}]):
        config = dataclasses.replace(first, **changes)
        run, alone, beside = run_id(config), tmp_path / f"alone{i}", tmp_path / f"beside{i}"
        kept = setup.update
        setup = training.sibling(setup, config, run)
        assert (setup.update is kept) == ("method" not in changes)
        for path, how in ((alone, training.set_up(config, *folders, run)), (beside, setup)):
            path.mkdir()
            training.train(how, path)
        assert left_in(beside) == left_in(alone)
    with pytest.raises(ValueError, match="siblings may differ in method, seed, beta, expert_temperature only"):
        training.sibling(setup, dataclasses.replace(config, lr=1.0), "x")


def test_log_loss_on_the_answers_of_a_file(folders, tmp_path):
    """Loss and gradient of an update without an expert are those of −Σ log p of the answers, over their tokens."""
    known = problems(300, 0, "train")
    some = [next(p for p in known if len(p.template) == steps) for steps in (2, 3, 4, 2)]
    asked = write_questions(tmp_path / "train.jsonl", [p.as_question() for p in some])
    config = config_of(folders[0], None, method="loglossbc", lora_rank=0, lr=1e-30, prompts=asked)
    setup = training.set_up(config, *folders_of(config), run_id(config))
    batch, student = training.given(setup, 0), setup.student
    answers = [setup.answers[setup.prompts.index(row[real].tolist())] for row, real in
               zip(np.asarray(batch.prompts), np.asarray(batch.real), strict=True)]  # fmt: skip
    assert [row[kept].tolist() for row, kept in
            zip(np.asarray(batch.tokens), np.asarray(batch.counted), strict=True)] == answers  # fmt: skip
    assert len({len(answer) for answer in answers}) == 3

    def plain(trained):
        logp = jax.nn.log_softmax(plain_logits(student, student.weights(trained), batch))
        chosen = jnp.take_along_axis(logp, batch.tokens[..., None], -1)[..., 0]
        return -jnp.where(batch.counted, chosen, 0).sum() / batch.counted.sum()

    value, slope = jax.jit(jax.value_and_grad(plain))(student.trained)
    state = setup.update(begin(config, student), numbers(config), student.fixed, (), batch)
    np.testing.assert_allclose(state.loss_sum, value, rtol=1e-5)
    assert training.asked_since(state) == sum(map(len, answers))
    moment = optax.tree_utils.tree_get(state.moments, "mu")
    jax.tree.map(lambda m, g: np.testing.assert_allclose(m / 0.1, g, atol=2e-5), moment, slope)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(slope)) > 0.01


def test_only_log_loss_does_without_an_expert(folders, tmp_path, capsys):
    with pytest.raises(BadInput, match="expert must be a folder of a model for nail-f"):
        check(config_of(folders[0], None, method="nail-f"))
    command = [word for word in train_command(*folders, tmp_path / "out") if not word.startswith("--expert=")]
    assert main(command) == 2
    assert "only loglossbc does without" in capsys.readouterr().err
    assert main([*command, "--method=loglossbc", "--steps=2", "--lora-rank=0"]) == 0
    last = read_csv(tmp_path / "out" / "rows.csv")[-1]
    assert (last["step"], last["expert"], last["expert_queries"]) == ("2", "", "0")
