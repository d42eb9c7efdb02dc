"""Files of a folder that somebody wrote by hand, seals and all: no name in them leads out of it."""

import json
import shutil

import pytest
from damaging import COMMANDS, CONFIGS, EXPERT, SHORT, SWEEP, table
from sweeping import in_time, prepared_once

from nail.checks import one_line, printable
from nail.cli.main import main
from nail.sweep.seal import read_json, write_json
from nail.sweep.store import open_folder
from nail.training.config import content_hash

FIELDS = CONFIGS[0].stored
OUTSIDE = "../../../../pwned"
OTHER = "0123456789ab"


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    assert main([*SWEEP, f"--out={out}"]) == 0
    return out


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made, tmp_path / "a" / "b" / "c" / "out")


def everything(tmp_path):
    return {path for path in tmp_path.rglob("*") if "out" not in path.parts and "joined" not in path.parts}


def forge(out, run=OTHER, source=OTHER, lot=None, **changed):
    """A lot of one unfinished run, sealed."""
    fields = {"source_hash": source, "attempt": 1, "size": 1, "runs": {run: {**FIELDS, **changed}}}
    write_json(out / "runs" / (lot or content_hash([source, 1, [run]])) / "lot.json", fields)


def ask(out, runs):
    write_json(out / "asked" / f"{content_hash(sorted(runs))}.json", {"runs": runs})


FORGED = {
    "a run that leads outside": lambda out: forge(out, run=OUTSIDE),
    "a run of another length": lambda out: forge(out, run="0123"),
    "a source that leads outside": lambda out: forge(out, source=OUTSIDE),
    "a lot of another name": lambda out: forge(out, lot="x"),
    "a start that leads outside": lambda out: forge(out, start=OUTSIDE),
    "a run without a method": lambda out: forge(out, method=None),
    "a request that leads outside": lambda out: ask(out, {OUTSIDE: FIELDS}),
    "a request of nothing": lambda out: ask(out, {OTHER: None}),
    "a request without a method": lambda out: ask(out, {OTHER: {"steps": 1}}),
    "a start that is a list": lambda out: ask(out, {OTHER: {**FIELDS, "start": [1]}}),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_name_is_damage(out, tmp_path, how, capsys):
    """Looked at it is named, joined it is refused, and the sweep goes round it; nothing lies outside afterwards."""
    FORGED[how](out)
    before, right = everything(tmp_path), table(out)
    assert main(["sweep", "status", str(out)]) == 0
    assert "does not say" in capsys.readouterr().err
    assert main(["sweep", "merge", str(out), f"--out={tmp_path / 'joined'}"]) == 2
    assert "does not say" in capsys.readouterr().err
    assert main([*SWEEP, f"--out={out}"]) == 0
    assert table(out) == right
    assert everything(tmp_path) == before


@pytest.mark.parametrize("folder", ["runs", "asked", "runs/*/rows"])
def test_a_file_in_the_place_of_a_folder_is_one_sentence(out, made, folder, capsys):
    """In the folder that another is joined in."""
    for path in out.glob(folder):
        shutil.rmtree(path)
        path.write_text("x")
    capsys.readouterr()
    assert main(["sweep", "merge", str(made), f"--out={out}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_starts_in_a_ring_end(tmp_path):
    """Each names the other as its start."""
    out, there = open_folder(tmp_path / "ring"), "cccccccccccc"
    ask(out, {OTHER: {**FIELDS, "start": there}, there: {**FIELDS, "start": OTHER}})
    with in_time(20):
        assert main(["train", *SHORT, "--method=loglossbc", f"--out={out}"]) == 2


@pytest.mark.parametrize("name", ["../outside", f"../expert-{OTHER}.npz", "expert-x.npz", 7, None])
def test_an_expert_names_a_file_of_its_own(out, tmp_path, name, capsys):
    expert = tmp_path / "expert"
    assert main([*EXPERT, f"--out={expert}"]) == 0
    use = ["train", *EXPERT[1:], f"--expert={expert}", "--allow-imperfect-expert", f"--out={tmp_path / 'use'}"]
    found = read_json(expert / "expert.json")
    write_json(expert / "expert.json", {**found, "params": name})
    if isinstance(name, str):
        # all but its name is right
        shutil.copyfile(expert / found["params"], expert / name)
    assert main(use) == 2
    assert "is damaged" in capsys.readouterr().err
    shutil.copyfile(next(out.glob("runs/*/lot.json")), expert / "expert.json")
    assert main(use) == 2
    assert "holds no configuration" in capsys.readouterr().err


def test_an_error_of_other_types_is_no_error_of_a_run(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*COMMANDS["failed"], f"--out={out}"]) == 1
    for path in out.glob("runs/*/failed/*.json"):
        found = read_json(path)
        write_json(path, {**found, "error": ["x"]})
    capsys.readouterr()
    assert main(["sweep", "status", str(out)]) == 0
    assert "its error was lost" in capsys.readouterr().out


def test_nothing_that_was_stored_acts_on_the_terminal(tmp_path, capsys):
    """Control characters come as escapes, letters as they are; JSON has the text itself."""
    out = tmp_path / "out\x1b[31m"
    assert main([*COMMANDS["failed"], f"--out={out}"]) == 1
    said, error = [capsys.readouterr().err], "η ≤ ½ \x1b]0;title\x07 \x9b31m \u202egnp \r\x08 日本"
    for path in out.glob("runs/*/failed/*.json"):
        found = read_json(path)
        write_json(path, {**found, "error": error})
    (out / "asked" / "\x1b[2J.json").write_text("[null]")
    assert main(["sweep", "status", str(out)]) == 0
    printed = capsys.readouterr()
    assert "η ≤ ½ \\x1b]0;title\\x07 \\x9b31m \\u202egnp \\r\\x08 日本" in printed.out
    assert main(["sweep", "status", str(out), "--json"]) == 0
    as_json = capsys.readouterr()
    assert json.loads(as_json.out)["failures"][0]["error"] == error
    texts = [said[0].rpartition("\r")[2], printed.out, printed.err, as_json.out]
    assert not [c for text in texts for c in text if not c.isprintable() and c != "\n"]


def test_printable_keeps_letters():
    assert printable("η → ½ é 日本 𝛿") == "η → ½ é 日本 𝛿"
    assert printable("\x1b[0m\x9b\u202e\udcff\x00\n\u2028") == r"\x1b[0m\x9b\u202e\udcff\x00\n\u2028"
    assert one_line(f"a {'x' * 1000} \x1b") == f"a {'x' * 100}…{'x' * 50} \\x1b"


def test_many_words_are_one_sentence(capsys):
    assert main(["list", *["--eta", "1"] * 10_000]) == 2
    assert "fewer words" in capsys.readouterr().err
