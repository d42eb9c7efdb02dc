"""Three processes at once, on every command that writes into a folder: all end well, with the table of one."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from damaging import BEFORE, COMMANDS, EXPERT, SWEEP, USER, damage, toy
from sweeping import SOURCE, parts, prepared_once, table

from nail.cli.main import main
from nail.figures import experiment
from nail.sweep.store import read_csv
from nail.sweep.trained_expert import load_expert

PROCESSES = 3
RACER = (
    SOURCE
    + """
import json, time, traceback
from pathlib import Path
from damaging import toy
from nail.cli.main import main
from nail.figures import experiment
experiment.FIGURES["toy"] = toy
me, at, commands = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
codes = []
for i, command in enumerate(commands):
    (at / f"{i}-{me}").touch()
    while len(list(at.glob(f"{i}-*"))) < 3:
        time.sleep(0.001)
    try:
        codes.append(main(command))
    except BaseException:
        codes.append(traceback.format_exc())
print(json.dumps(codes))
"""
)


def race(at, commands):
    """Each command in three processes at once; their exit codes."""
    at.mkdir()
    arguments = [str(at), json.dumps([list(map(str, command)) for command in commands])]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(i), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for i in range(PROCESSES)
    ]
    ended = [racer.communicate(timeout=300) for racer in racers]
    return [json.loads(said.splitlines()[-1]) if said else errors for said, errors in ended]


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiment.FIGURES, "toy", toy)
        yield


@pytest.mark.slow
def test_three_processes_at_every_command(tmp_path):
    """And at a folder in which each kind of file is damaged."""
    alone, one, two, broken = (tmp_path / name for name in ("alone", "one", "two", "broken"))
    for i, part in enumerate((one, two)):
        assert main([*SWEEP, "--shard", f"{i + 1}/2", "--out", str(part)]) == 0
    assert main([*SWEEP, "--out", str(alone)]) == 0
    shutil.copytree(alone, broken)
    for path in (
        parts(broken)[0],
        parts(broken)[-1],
        *list(broken.glob("runs/*/lot.json"))[:1],
        *broken.glob("asked/*"),
    ):
        damage(broken, path, "halved")
    staged = COMMANDS["staged"][:-1]
    together = {name: tmp_path / name for name in ("sweep", "train", "figure", "expert", "merge", "first", "staged")}
    commands = [
        [*SWEEP, "--out", together["sweep"]],
        [*COMMANDS["trained"], "--out", together["train"]],
        [*COMMANDS["points"], "--out", together["figure"]],
        [*EXPERT, "--out", together["expert"]],
        ["sweep", "merge", one, two, "--out", together["merge"]],
        [*SWEEP, "--out", broken],
        ["sweep", "status", broken],
        [*BEFORE["staged"][0], "--out", together["first"]],
        [*staged, "--start", together["first"], "--out", together["staged"]],
    ]
    ended = race(tmp_path / "race", commands)
    assert ended == [[0] * len(commands)] * PROCESSES
    for out in (together["sweep"], together["merge"], broken):
        assert table(read_csv(out / "rows.csv")) == table(read_csv(alone / "rows.csv"))
    for kind, name, out in (("trained", "rows.csv", "train"), ("points", "toy_rows.csv", "figure")):
        assert main([*COMMANDS[kind], "--out", str(tmp_path / kind)]) == 0
        assert table(read_csv(together[out] / name)) == table(read_csv(tmp_path / kind / name))
    own = [str(tmp_path / name) for name in ("own first", "own staged")]
    assert main([*BEFORE["staged"][0], "--out", own[0]]) == 0
    assert main([*staged, "--start", own[0], "--out", own[1]]) == 0
    assert table(read_csv(together["staged"] / "rows.csv")) == table(read_csv(tmp_path / "own staged" / "rows.csv"))
    assert main([*EXPERT, "--out", str(tmp_path / "own")]) == 0
    experts = (
        load_expert(dataclasses.replace(USER, expert=str(out))) for out in (tmp_path / "own", together["expert"])
    )
    np.testing.assert_array_equal(*experts)
