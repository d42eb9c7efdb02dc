"""Damage to every kind of file of a folder: a clear sentence or a clean recovery, and never another table.

A folder is damaged in one place, then looked at, joined with others, and finished by the command that made it.
Each of these ends by itself with an exit code, and where that is what it is without damage, so is the table.
"""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from damaging import (
    BEFORE,
    CASES,
    COMMANDS,
    CONFIGS,
    DAMAGES,
    EXPERT,
    SOME,
    SWEEP,
    USER,
    damage,
    ends_of,
    kinds_in,
    table,
    toy,
)  # fmt: skip
from sweeping import QUICK, Killed, dying, parts, prepared_once

from nail.checks import BadInput
from nail.cli.main import main
from nail.figures import experiment
from nail.sweep import merge
from nail.sweep.engine import sweep
from nail.sweep.lot import Lot
from nail.sweep.store import open_folder
from nail.sweep.trained_expert import load_expert, save_expert


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiment.FIGURES, "toy", toy)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, cache):
    """Makes one of the folders, the first time that it is asked for, and says what its ends are without damage."""
    root, known = tmp_path_factory.mktemp("made"), {}

    def make(kind):
        out = root / kind
        if kind == "unfinished" and kind not in known:
            with dying(14), pytest.raises(Killed):
                sweep(CONFIGS, open_folder(out), QUICK)
            assert len(parts(out)) == 5
            assert list(out.glob("runs/*/state/*.npz"))
        elif kind not in known:
            for command in (*BEFORE.get(kind, []), EXPERT if kind == "expert" else COMMANDS[kind]):
                main([*command, "--out", str(out)])
        if kind not in known:
            sound = shutil.copytree(out, root / "sound")
            known[kind] = ends_of(sound, COMMANDS[kind], out, root) if kind in COMMANDS else []
            shutil.rmtree(sound)
        return out, known[kind]

    return make


def try_damage(made, tmp_path, capsys, kind, how):
    """All files of a kind of folder with one kind of damage."""
    (whole, sound), command = made(kind), COMMANDS[kind]
    assert sound[-1][1]
    for path in kinds_in(whole):
        out = shutil.copytree(whole, tmp_path / "out")
        if damage(out, out / path.relative_to(whole), how):
            capsys.readouterr()
            for (code, found), (right_code, right) in zip(ends_of(out, command, whole, tmp_path), sound, strict=True):
                case = f"{path.relative_to(whole)} {how}: {capsys.readouterr().err}"
                assert code in {right_code, 1, 2}, case
                assert code != right_code or found == right, case
        shutil.rmtree(out)


@pytest.mark.parametrize(("kind", "how"), SOME)
def test_some_damage(made, tmp_path, capsys, kind, how):
    try_damage(made, tmp_path, capsys, kind, how)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "how"), CASES)
def test_damage(made, tmp_path, capsys, kind, how):
    try_damage(made, tmp_path, capsys, kind, how)


@pytest.fixture
def expert(made, tmp_path):
    """A trained expert, and the configuration of a run that wants it."""
    out = shutil.copytree(made("expert")[0], tmp_path / "expert")
    return out, dataclasses.replace(USER, expert=str(out))


def test_a_damaged_expert_is_a_sentence(expert, tmp_path):
    """Of each of its files; the sentence names the folder, and the file if there is one."""
    out, config = expert
    for path in (out / "expert.json", *out.glob("expert-*.npz")):
        for how in (how for how in DAMAGES if how not in ("a byte order mark", "swapped with its like")):
            copy = shutil.copytree(out, tmp_path / "copy")
            damage(copy, copy / path.name, how)
            named = rf"{copy} is damaged: {copy / path.name}|a folder with a trained expert, got {copy}"
            with pytest.raises(BadInput, match=named):
                load_expert(dataclasses.replace(config, expert=str(copy)))
            shutil.rmtree(copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["expert.json", "expert-*.npz"])
def test_making_an_expert_again_mends_it(expert, name):
    out, config = expert
    right = load_expert(config)
    for how in ("emptied", "an empty object", "a folder", "a pipe"):
        (path,) = out.glob(name)
        damage(out, path, how)
        assert main([*EXPERT, "--out", str(out)]) == 0
        np.testing.assert_array_equal(load_expert(config), right)


def test_another_experts_parameters_are_refused(expert, tmp_path):
    """Of another seed, and of other shapes."""
    out, config = expert
    (mine,) = out.glob("expert-*.npz")
    for changed in ({"seed": 1}, {"S": 5}):
        other = dataclasses.replace(config, expert="oracle", **changed)
        save_expert(open_folder(tmp_path / "other"), other, np.zeros((2, changed.get("S", 4), 2), np.float32))
        (theirs,) = (tmp_path / "other").glob("expert-*.npz")
        mine.write_bytes(theirs.read_bytes())
        with pytest.raises(BadInput, match="belongs elsewhere"):
            load_expert(config)
    with pytest.raises(BadInput, match="trained with S 5"):
        load_expert(dataclasses.replace(config, expert=str(tmp_path / "other")))


def test_rows_of_another_expert_are_not_taken(expert, tmp_path, capsys):
    """The expert was made again with another seed since a run was answered by it: the run is another's."""
    out, config = expert
    right, folder = load_expert(config), open_folder(tmp_path / "runs")
    outcome = sweep([config], folder, QUICK)
    assert outcome.rows
    save_expert(out, dataclasses.replace(config, expert="oracle", seed=1), right + 1)
    with pytest.raises(BadInput, match="has changed since; choose another folder"):
        sweep([config], folder, QUICK)
    save_expert(out, dataclasses.replace(config, expert="oracle"), right)
    assert sweep([config], folder, QUICK).rows == outcome.rows
    shutil.rmtree(out)
    assert sweep([config], folder, QUICK).rows == outcome.rows


def test_parameters_are_computed_again(made, tmp_path, capsys):
    """Those of runs that are done: the table stays, byte for byte."""
    out = shutil.copytree(made("expert")[0], tmp_path / "out")
    (params,) = out.glob("runs/*/params.npz")
    content = params.read_bytes()
    params.write_bytes(content[:-100])
    rows = [path.read_bytes() for path in parts(out)]
    assert main([*EXPERT, "--out", str(out)]) == 0
    assert "params.npz.damaged and computed again" in capsys.readouterr().err
    assert params.read_bytes() == content
    assert [path.read_bytes() for path in parts(out)] == rows


def test_a_lost_error_is_found_again(made, tmp_path):
    """A failed run's rows lie in its lot without its error: they are in no table, and the run fails again."""
    out = shutil.copytree(made("failed")[0], tmp_path / "out")
    errors = list(out.glob("runs/*/failed/*.json"))
    right = (out / "rows.csv").read_bytes()
    for path in errors:
        path.unlink()
    assert main([*COMMANDS["failed"], "--out", str(out)]) == 1
    assert (out / "rows.csv").read_bytes() == right
    assert all(path.exists() for path in errors)


def test_a_foreign_checkpoint_is_left_alone(made, tmp_path, capsys):
    """Another name, another lot's, another segment's."""
    (whole, sound) = made("unfinished")
    (state,) = whole.glob("runs/*/state/1.npz")
    for name in ("abc", "02", "2", "1"):
        out = shutil.copytree(whole, tmp_path / name)
        here = (out / state.relative_to(whole)).with_stem(name)
        if name == "1":
            lot = Lot.read(here.parents[1])
            with np.load(here) as file:
                zeros = [np.zeros_like(file[leaf]) for leaf in file.files]
            here.unlink()
            dataclasses.replace(lot, folder=lot.folder.with_name("other")).save_state(1, zeros)
            shutil.move(lot.folder.with_name("other") / "state" / "1.npz", here)
        else:
            shutil.copyfile(state, here)
        assert main([*SWEEP, "--out", str(out)]) == 0
        assert table(out) == sound[-1][1]


def test_a_checkpoint_of_many_arrays_comes_back_as_it_was(tmp_path):
    """A network's state has more than ten; and one of another number of arrays is set aside, and not taken."""
    lot = Lot.new(open_folder(tmp_path), {"0" * 12: vars(CONFIGS[0])}, "0" * 12).write()
    state = [np.full((1, 2), i, np.float32) for i in range(23)]
    lot.write_rows(0, [{"run": "0" * 12}])
    lot.save_state(1, state)
    segment, found = lot.load_state(lambda: state)
    assert segment == 1
    np.testing.assert_array_equal(found, state)
    assert lot.load_state(lambda: state[:-1]) is None
    assert [path.name for path in lot.folder.glob("state/*")] == ["1.npz.damaged"]


def test_a_joined_folder_keeps_the_times_of_its_parts(made, tmp_path):
    """Of two revisions the newest counts, and a copy is no newer than what it is a copy of."""
    out = made("finished")[0]
    assert main(["sweep", "merge", str(out), "--out", str(tmp_path / "joined")]) == 0
    for path in out.glob("runs/*/lot.json"):
        assert (tmp_path / "joined" / path.relative_to(out)).stat().st_mtime_ns == path.stat().st_mtime_ns


def test_a_checkpoint_that_goes_while_it_is_joined(made, tmp_path, monkeypatch):
    """The process that works on the part has written a newer one; nothing is left half copied."""
    out, real = shutil.copytree(made("unfinished")[0], tmp_path / "out"), merge._copy

    def copy(path, file):
        if path.parent.name == "state":
            path.unlink()
        return real(path, file)

    monkeypatch.setattr(merge, "_copy", copy)
    assert main(["sweep", "merge", str(out), "--out", str(tmp_path / "joined")]) == 0
    assert not list((tmp_path / "joined").glob("runs/*/state/*"))
    assert not list((tmp_path / "joined").glob("runs/*/state/.*"))


def test_what_a_kill_leaves_of_a_plan_goes_away(tmp_path):
    out = open_folder(tmp_path / "out")
    with dying(3), pytest.raises(Killed):
        sweep(CONFIGS, out, QUICK)
    left = shutil.copytree(out, tmp_path / "copy")
    (folder,) = left.glob("runs/*") if not list(left.glob("runs/*/lot.json")) else [next(left.glob("runs/*"))]
    (folder / ".lot.json.k8d_3x1a").write_text("{")
    assert main([*SWEEP, "--out", str(left)]) == 0
    assert not list(left.rglob(".lot.json.*"))


def test_only_the_marker_itself_makes_a_folder_ours(tmp_path):
    (tmp_path / "my-nail-out.json.txt").write_text("precious")
    with pytest.raises(BadInput, match="holds other files"):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", ["rows/00000.csv", "rows", "notes.txt", "../../runs", "../../asked"])
def test_links_are_not_joined(made, tmp_path, name):
    """What they lead to is not copied."""
    out = shutil.copytree(made("finished")[0], tmp_path / "out")
    link = (next(out.glob("runs/*/lot.json")).parent / name).resolve()
    if link.exists():
        shutil.move(link, tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    assert main(["sweep", "merge", str(out), "--out", str(tmp_path / "joined")]) == 2
    assert not list((tmp_path / "joined").glob("runs/*"))


def test_killed_while_mending(made, tmp_path):
    """At every file that is set aside or put in its place, one further each time, until nothing is left to mend."""
    whole, _ = made("finished")
    out, kills = shutil.copytree(whole, tmp_path / "out"), 0
    for path in (*out.glob("runs/*/lot.json"), *out.glob("asked/*"), *out.glob("runs/*/rows/00001.csv")):
        damage(out, path, "halved")
    for at in range(1, 100):
        with dying(at) as calls, contextlib.suppress(Killed):
            main([*SWEEP, "--out", str(out)])
        if len(calls) < at:
            break
        kills += 1
    assert 5 <= kills < 50
    assert table(out) == table(whole)
    assert len(list(out.rglob("*.damaged*"))) >= 5
    assert main(["sweep", "merge", str(out), "--out", str(tmp_path / "joined")]) == 0
    assert table(tmp_path / "joined") == table(whole)


@pytest.mark.parametrize("at", [1, 2])
def test_killed_while_another_expert_is_kept(expert, at):
    """The one that was there is there until the new one is whole."""
    out, config = expert
    right = load_expert(config)
    with dying(at), pytest.raises(Killed):
        save_expert(out, dataclasses.replace(config, expert="oracle", seed=1), right + 1)
    np.testing.assert_array_equal(load_expert(config), right)
    save_expert(out, dataclasses.replace(config, expert="oracle", seed=1), right + 1)
    np.testing.assert_array_equal(load_expert(config), right + 1)
    assert len(list(out.glob("*.npz"))) == 1


@pytest.mark.slow
def test_an_expert_of_two_devices_is_used_on_one(tmp_path):
    """By the commands, in processes with as many."""
    for devices, command in (("2", EXPERT), ("1", [*EXPERT[1:], "--allow-imperfect-expert", f"--expert={tmp_path}/0"])):
        train = [] if command is EXPERT else ["train"]
        done = subprocess.run(
            [sys.executable, "-m", "nail.cli.main", *train, *command, "--out", tmp_path / str(len(train))],
            env={**os.environ, "JAX_NUM_CPU_DEVICES": devices}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
