"""Stages: runs that begin with the final parameters of others; what they compute, and what is refused."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pandas as pd
import pytest
from programs import equal, one
from staging import CHAINS, FIRST, RUNS, SECOND, SHORT, THIRD, finished, lot_of
from sweeping import QUICK, Killed, dying, parts, prepared_once, table, times

from nail.checks import BadInput
from nail.sweep import program
from nail.sweep.engine import sweep
from nail.sweep.folder import Folder
from nail.sweep.grid import grid, shard
from nail.sweep.lot import Lot
from nail.sweep.merge import merge
from nail.sweep.plan import asked, load_params
from nail.sweep.run import run
from nail.sweep.stages import flat, stages
from nail.sweep.starts import known_runs, refuse_other_network
from nail.sweep.status import status
from nail.sweep.store import open_folder
from nail.sweep.table import chains_in, read_rows, typed
from nail.training.config import TrainConfig, group_key, run_id
from nail.training.devices import pad_runs
from nail.training.problem import make_setup, numbers_of
from nail.training.train import make_train
from nail.training.update import update

DECODER = TrainConfig(
    p=2, m=2, width=8, heads=2, batch=4, steps=3, warmup=0, lr=1e-2, eval_every=2, n_validation=2, init_std=0.3
)


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


@pytest.fixture
def out(tmp_path):
    return open_folder(tmp_path / "out")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """A folder of chains that nothing happened to."""
    out = open_folder(tmp_path_factory.mktemp("whole") / "out")
    finished(out)
    return out


@pytest.fixture(scope="module")
def unbroken(whole):
    return table(finished(whole))


def test_fresh_runs_keep_their_ids_and_programs():
    """Ids that the code without stages gave; a folder says nothing of a start where there is none."""
    table_run = TrainConfig(task="poison-chain", method="dagger", A=3, H=2, eta=0.3, batch=4, steps=30, seed=3)
    assert (run_id(TrainConfig()), group_key(TrainConfig())) == ("f82b4d908286", "7c948aa2ddb6")
    assert (run_id(table_run), group_key(table_run)) == ("f53744ab6113", "3dae6b312a0e")
    assert "start" not in table_run.stored
    assert "start" not in table_run.columns()
    assert table_run.stream == 3
    stage = dataclasses.replace(table_run, start=run_id(table_run))
    assert stage.columns()["start"] == run_id(table_run)
    assert group_key(stage) == group_key(table_run)


def test_an_id_says_all_that_came_before():
    """A chain whose first stage differs differs in each of its ids; its streams are no fresh run's and differ too."""
    other = stages(dataclasses.replace(FIRST[0], lr=0.3), SECOND[0], THIRD[0])
    first = stages(*CHAINS[0])
    assert not {*map(run_id, first)} & {*map(run_id, other)}
    configs = (*RUNS, *other[1:], dataclasses.replace(first[1], seed=1))  # the last: another seed from one start
    found = [config.stream for config in configs]
    assert len(set(found)) == 3 + 6 + 2 + 1
    assert all((stream < 0) == bool(config.start) for stream, config in zip(found, configs, strict=True))
    assert all(-(2**31) <= stream < 2**31 for stream in found)
    keys = {tuple(jax.random.key_data(jax.random.key(np.int32(stream))).tolist()) for stream in found}
    assert len(keys) == len(found)
    with pytest.raises(BadInput, match="start must be left out in a chain"):
        stages(FIRST[0], dataclasses.replace(SECOND[0], start="0123456789ab"))


def by_hand(configs, params=None):
    """Final state and evaluations of a batch of runs that begin with `params`."""
    prepared = program.prepare(configs)
    state, rows = prepared.init(prepared.numbers, params), []
    while not rows or int(rows[-1].step[0]) < configs[0].steps:
        state, row = prepared.segment(state, prepared.numbers)
        rows.append(jax.device_get(row))
    return jax.device_get(state), rows


@pytest.mark.parametrize("base", [SHORT, pytest.param(DECODER, marks=pytest.mark.slow)], ids=lambda base: base.task)
def test_two_stages_are_what_the_training_functions_make_of_them(out, base):
    """Bit for bit: parameters are handed over, everything else begins anew."""
    firsts = grid(dataclasses.replace(base, method="loglossbc"), seed=(5, 6))
    seconds = grid(dataclasses.replace(base, method="dagger"), seed=(5, 6))
    rows = typed(finished(out, zip(firsts, seconds, strict=True), keep_params=True))
    links = [stages(*chain)[1] for chain in zip(firsts, seconds, strict=True)]
    before, _ = by_hand(firsts)
    numbers = numbers_of(firsts)._replace(seed=np.array([link.stream for link in links], np.int32))
    prepared = program.prepare(seconds)
    state = prepared.init(pad_runs(numbers), before.params)
    assert equal(state.params, before.params)
    assert not np.any(state.step)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.moments))
    for _ in range(-(-base.steps // base.eval_every)):
        state, _ = prepared.segment(state, pad_runs(numbers))
    for i, link in enumerate(links):
        assert equal(load_params(out, link), one(state.params, i))
        mine, last = rows[rows.run == run_id(link)], rows[rows.run == link.start].iloc[-1]
        assert mine.step.tolist() == sorted({*range(0, base.steps, base.eval_every), base.steps})
        assert mine.episodes.tolist() == [base.batch * step for step in mine.step]
        seen = ["full_exact", "answer_exact", "val_loss"]
        assert mine.iloc[0][seen].tolist() == last[seen].tolist()
        assert set(mine.start) == {link.start}


def test_the_first_update_of_a_stage_draws_from_its_own_stream(out):
    """One update by hand, at the stage's stream and at the seed of its start: only the first is what the sweep has."""
    first, second = chain = stages(FIRST[0], dataclasses.replace(THIRD[0], steps=1))
    finished(out, [chain], keep_params=True)
    setup, params = make_setup(second), load_params(out, first)
    begun = make_train(second).init(pad_runs(numbers_of((second,))), pad_runs(params[None]))
    numbers, step = one(numbers_of((second,))), jax.jit(functools.partial(update, setup))
    seeds = (second.stream, second.seed)
    found = {seed: step(numbers._replace(seed=np.int32(seed)), one(begun)).params for seed in seeds}
    mine = load_params(out, second)
    np.testing.assert_allclose(mine, found[second.stream], atol=1e-6)
    assert np.abs(mine - found[second.seed]).max() > 1e-3


def test_a_stage_of_the_same_method_is_not_a_longer_run(out):
    """Its stream, its moments and its warm-up are its own; the same chain again is the same."""
    config = dataclasses.replace(FIRST[0], steps=4)
    twice, long = (config, config), dataclasses.replace(config, steps=8)
    rows = typed(finished(out, [twice, long], keep_params=True))
    last = stages(*twice)[1]
    assert not equal(load_params(out, last), load_params(out, long))
    assert rows[rows.run == run_id(last)].train_loss.iloc[-1] != rows[rows.run == last.start].train_loss.iloc[-1]


def test_chains_share_their_first_stages(out, unbroken):
    """Computed once, in programs that stages and fresh runs share; a new last stage leaves all others as they are."""
    worked = sweep(CHAINS, out, QUICK)
    assert (len(worked.lots), worked.programs) == (6, 2)
    assert table(worked.rows) == unbroken
    before = times(parts(out))
    again = sweep([*CHAINS, *((first, third) for first, _, third in CHAINS)], out, QUICK)
    assert len(again.lots) == 2
    assert len(flat([*CHAINS, *((first, third) for first, _, third in CHAINS)])) == 12
    assert before.items() <= times(parts(out)).items()
    lots = [seen.lot for seen in Folder.read(out).lots]
    assert sum(len(lot.ids) for lot in lots) == 12
    assert all(len({bool(config.start) for config in lot.configs}) == 1 for lot in lots)
    assert {bool(lot.has(params=True)) for lot in lots if not lot.configs[0].start} == {True}
    assert not lot_of(out, stages(*CHAINS[0])[2]).has(params=True)


def test_status_counts_runs_that_wait(out):
    """Of the missing: those whose start is not done."""
    with dying(1 + 6 + 3), pytest.raises(Killed):  # asked, six lots, amid the rows of the first
        finished(out)
    found = status(out)
    assert (found.asked, found.done, found.missing, found.waiting) == (9, 0, 9, 6)
    finished(out, FIRST)
    assert (status(out).done, status(out).missing, status(out).waiting) == (3, 6, 3)
    finished(out)
    assert (status(out).done, status(out).missing, status(out).waiting) == (9, 0, 0)


def test_shares_hold_whole_chains_and_are_merged_to_the_whole(tmp_path, unbroken):
    """Whatever the order; a share needs nothing of another one."""
    shares = [shard(CHAINS[::-1], i, 2) for i in (1, 2)]
    assert sorted(map(run_id, RUNS)) == sorted(run_id(config) for share in shares for config in share)
    assert sorted(len(share) for share in shares) == [3, 6]
    assert {*map(run_id, shares[0])} == {*map(run_id, shard(RUNS, 1, 2))}
    folders = [open_folder(tmp_path / str(i)) for i in (1, 2)]
    for share, folder in zip(shares, folders, strict=True):
        sweep(share, folder, QUICK, whole=CHAINS)
    assert set(asked(folders[0])) == {*map(run_id, RUNS)}
    joined = tmp_path / "joined"
    merge(folders, joined)
    assert table(finished(joined)) == unbroken
    assert sweep(CHAINS, joined, QUICK).lots == []
    more = [(*chain, THIRD[i]) for i, chain in enumerate(CHAINS)]
    assert len(finished(joined, more)) == 3 * (3 + 4 + 3 + 3)


BAD = [
    ({"H": 3}, "same task and network, and the run .* has H 2 where its stage has 3"),
    ({"A": 4}, "has A 3 where its stage has 4"),
    ({"bank_seed": 1}, "start must hold out the same prompts"),
    ({"n_validation": 5}, "has n_validation 4 where its stage has 5"),
]


@pytest.mark.parametrize(("fields", "sentence"), BAD)
def test_a_start_of_another_network_is_refused(out, monkeypatch, fields, sentence):
    """Before anything is compiled or asked for."""
    monkeypatch.setattr(program, "make_train", lambda *_: pytest.fail("a program is made"))
    with pytest.raises(BadInput, match=sentence):
        sweep([(FIRST[0], dataclasses.replace(SECOND[0], **fields))], out, QUICK)
    assert not list(out.glob("asked/*"))


def test_a_start_that_there_is_not(out, monkeypatch):
    monkeypatch.setattr(program, "make_train", lambda *_: pytest.fail("a program is made"))
    garnet = TrainConfig(task="garnet", S=2, A=3, H=2, n_validation=4)
    decoder = dataclasses.replace(DECODER, width=16)
    for config, sentence in [
        (dataclasses.replace(SECOND[0], start="0123456789ab"), "it holds no run 0123456789ab"),
        (dataclasses.replace(SECOND[0], start="there"), "12 hexadecimal digits"),
        ((FIRST[0], garnet), "has task poison-chain where its stage has garnet"),
        ((DECODER, decoder), "has width 8 where its stage has 16"),
        ((DECODER, dataclasses.replace(DECODER, heads=1)), "has heads 2 where its stage has 1"),
    ]:
        with pytest.raises(BadInput, match=sentence):
            sweep([config], out, QUICK)


def test_a_task_may_change_where_the_network_does_not():
    """Another recovery of the same chain of thought: shapes say whether parameters fit."""
    refuse_other_network(dataclasses.replace(DECODER, recovery="follow"), DECODER)
    with pytest.raises(BadInput, match="has m 2 where its stage has 3"):
        refuse_other_network(dataclasses.replace(DECODER, m=3), DECODER)


def test_a_table_of_chains(tmp_path):
    """What `run` returns is what it leaves behind; rows say what came before them."""
    rows = run(CHAINS[:1], tmp_path / "out")
    pd.testing.assert_frame_equal(rows, read_rows(tmp_path / "out"))
    assert chains_in(rows).unique().tolist() == ["loglossbc", "loglossbc > dagger", "loglossbc > dagger > loglossbc"]
    assert chains_in(rows[rows.start != ""]).iloc[0] == f"{run_id(FIRST[0])} > dagger"
    assert chains_in(rows[rows.start == ""].drop(columns="start")).unique().tolist() == ["loglossbc"]
    assert "start" not in run(SECOND[0], tmp_path / "out")
    both = read_rows(tmp_path / "out")
    assert set(both.run) == {*rows.run, run_id(SECOND[0])}
    assert typed([{"run": "a", "start": "012345678901"}]).start.tolist() == ["012345678901"]


def test_what_a_folder_knows_of_its_runs(out):
    """Also of another revision, whose fields may be others."""
    finished(out, FIRST[:1])
    there = Folder.read(out)
    other = {**FIRST[0].stored, "gone": 1}
    known = known_runs(there, {"0123456789ab": other, "0123456789ac": FIRST[1].stored, "point": {"figure": "toy"}})
    assert known == {run_id(FIRST[0]): FIRST[0]}
    manifest = json.loads((lot_of(out, FIRST[0]).folder / "lot.json").read_text())
    assert "start" not in manifest["runs"][run_id(FIRST[0])]
    assert isinstance(Lot.read(lot_of(out, FIRST[0]).folder), Lot)
