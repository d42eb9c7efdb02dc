"""More machines, tried on this one: processes that share a folder, and programs that stand for Slurm's."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from sweeping import OPTIONS, finished, nail, prepared_once, table

from nail.checks import BadInput
from nail.cli.main import main
from nail.sweep import cluster
from nail.sweep.folder import Folder
from nail.sweep.status import status
from nail.sweep.store import open_folder, read_csv

COMMAND = ["sweep", "grid", *OPTIONS, "--vary", "seed=0:4", "--no-plot"]
LAUNCHED = [name for names in cluster.PLACES for name in names]


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    """The table of one process."""
    return table(finished(open_folder(tmp_path_factory.mktemp("unbroken") / "out")))


def test_two_processes_that_share_a_folder(tmp_path, unbroken, monkeypatch):
    """Each takes its share, by its options or as a launcher says; the table is that of one process."""
    command = [*COMMAND, "--out", str(tmp_path), "--distributed"]
    other = nail(*command, "--processes", 2, "--process", 0)
    for name, value in zip(cluster.PLACES[0], "120", strict=True):
        monkeypatch.setenv(name, value)
    assert main(command) == 0
    _, errors = other.communicate(timeout=120)
    assert other.returncode == 0, errors
    assert table(read_csv(tmp_path / "rows.csv")) == unbroken
    assert sorted(len(seen.lot.ids) for seen in Folder.read(tmp_path).lots) == [2, 2]


def test_a_process_whose_other_never_comes_does_all(tmp_path, unbroken):
    assert main([*COMMAND, "--out", str(tmp_path), "--distributed", "--processes", "2", "--process", "1"]) == 0
    assert table(read_csv(tmp_path / "rows.csv")) == unbroken


@pytest.mark.parametrize(
    ("given", "told", "found"),
    [
        ((0, 3), {}, (0, 3)),
        ((None, None), {"SLURM_PROCID": "2", "SLURM_NTASKS": "3", "SLURM_LOCALID": "0"}, (2, 3)),
        ((1, 4), {"SLURM_PROCID": "2", "SLURM_NTASKS": "3", "SLURM_LOCALID": "0"}, (1, 4)),
        ((None, None), dict(zip(cluster.PLACES[1], "120", strict=True)), (1, 2)),
        ((None, None), {"SLURM_PROCID": "0"}, "--process and --processes"),
        ((0, None), {}, "--process and --processes"),
        ((2, 2), {}, "process must be an integer in 0..1, got 2"),
        ((0, 0), {}, "processes must be an integer in 1..10000, got 0"),
    ],
)
def test_which_process_this_is(given, told, found, monkeypatch):
    monkeypatch.setattr(cluster, "_take_one_device", lambda local: None)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    if isinstance(found, tuple):
        assert cluster.place(*given) == found
    else:
        with pytest.raises(BadInput, match=found):
            cluster.place(*given)


TRAP = "raise SystemExit('of the working directory')"


def test_jobs_compute_with_what_is_installed(tmp_path, unbroken, monkeypatch):
    """In a folder with a random.py and a nail of its own; a module that --import finds there is found by the jobs."""
    here = tmp_path / "it's % here"
    (here / "nail").mkdir(parents=True)
    for name in ("random", "colorsys"):
        (here / f"{name}.py").write_text(TRAP)
    (here / "nail" / "__init__.py").write_text(TRAP)
    (here / "mine_of_test.py").write_text("import colorsys; print(__file__, file=open('seen', 'a'))")
    out = tmp_path / "o %j"
    slurm = ["--slurm", "--cluster", "local", "--shards", "2", "--runs-per-lot", "2", "--out", str(out)]
    command = [sys.executable, "-P", "-m", "nail.cli.main", "--import", "mine_of_test", *COMMAND, *slurm]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, (done.stderr, *(log.read_text() for log in out.glob("jobs/*")))
    assert str(out / "jobs") in done.stdout
    assert table(read_csv(out / "rows.csv")) == unbroken
    assert len(list(out.glob("shards/*/rows.csv"))) == 2
    # here, for two shards and for the merge
    assert (here / "seen").read_text().splitlines() == [str(here / "mine_of_test.py")] * 4


def test_a_module_that_jobs_would_not_find_is_refused(monkeypatch):
    cluster.require_same_source(["json"])
    monkeypatch.setitem(sys.modules, "json", SimpleNamespace(__spec__=SimpleNamespace(origin="/elsewhere/json.py")))
    with pytest.raises(BadInput, match="/elsewhere"):
        cluster.require_same_source(["json"])


FAKE = """#!/bin/sh
for word in "$0" "$@"; do printf '%s\\n' "$word"; done >> "$SEEN"
case "$(basename "$0") $*" in
    $REFUSED) printf "$(basename "$0"): error: %s\\n" "invalid partition" "Batch job submission failed" >&2; exit 1;;
    sbatch*) cat > "$SEEN.$$"; echo 17;;
    "scontrol show"*) printf 'MaxArraySize            = 3\\n';;
esac
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs of Slurm's names, which keep what they are given; returns what they were called with."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("sbatch", "scontrol", "scancel"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(folder / "seen"))
    monkeypatch.setenv("REFUSED", "nothing")
    return lambda: (folder / "seen").read_text().splitlines() if (folder / "seen").exists() else []


def test_what_is_submitted(tmp_path, slurm, capsys):
    """An array of shards, and a merge after it; status knows at once what is asked for; a shard that never begins is
    merged as one that did nothing."""
    out = tmp_path / "o%j"
    given = ["--shards", "3", "--time", "5", "--partition", "long", "--slurm-option", "gres=gpu:1", "--out", str(out)]
    assert main([*COMMAND, "--slurm", *given]) == 0
    words = slurm()
    first, second = (i for i, word in enumerate(words) if word.endswith("/sbatch"))
    shards, merge = words[first:second], words[second:]
    assert {
        "--array=0-2",
        "--requeue",
        "--signal=B:USR2@60",
        f"--output={out}/jobs/%A_%a.log".replace("o%j", "o%%j"),
    } <= {*shards}
    assert "--dependency=afterany:17" in merge
    for job in (shards, merge):
        assert {"--partition=long", "--gres=gpu:1", "--cpus-per-task=4", "--time=5"} <= {*job}
    printed = capsys.readouterr().out
    assert "17" in printed
    assert str(out / "jobs") in printed
    found = status(out)
    assert (found.asked, found.missing) == (4, 4)
    parts = sorted(map(str, (out / "shards").iterdir()))
    assert len(parts) == 3
    assert main(["sweep", "merge", *parts, "--out", str(out)]) == 0


@pytest.mark.parametrize(
    ("refused", "given", "sentence"),
    [
        ("sbatch*", [], "invalid partition; Batch job submission failed"),
        ("*dependency*", [], "invalid partition; Batch job submission failed"),
        ("scontrol*", [], "invalid partition; Batch job submission failed"),
        ("", ["--shards", "4"], r"shards must be an integer in 1..3 (Slurm's MaxArraySize), got 4"),
        ("", ["--time", "4"], "time must be minutes in 5..525600, got 4"),
        ("", ["--slurm-option", "array=0-3"], "slurm_option must be another option of sbatch than"),
    ],
)
def test_what_slurm_refuses_is_one_sentence(tmp_path, slurm, monkeypatch, capsys, refused, given, sentence):
    """In its own words; of two jobs that belong together none is left."""
    monkeypatch.setenv("REFUSED", refused)
    assert main([*COMMAND, "--slurm", "--shards", "2", "--out", str(tmp_path / "out"), *given]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert sentence in printed.err
    assert printed.out == ""
    left = [word for word in slurm() if word.endswith(("/sbatch", "/scancel"))]
    assert [os.path.basename(word) for word in left] == (
        ["sbatch", "sbatch", "scancel"] if "dependency" in refused else ["sbatch"] if refused == "sbatch*" else []
    )


@pytest.mark.parametrize(
    ("sent", "restarts", "code", "again"),
    [("USR2", 0, 140, True), ("USR2", cluster.MOST_TIMES, 140, False), ("TERM", 0, 143, False), (None, 0, 3, False)],
)
def test_a_job_that_comes_to_its_limit_is_sent_again(slurm, sent, restarts, code, again):
    """It is told by SIGUSR2; what cancels it, or preempts it (then Slurm itself sends it again), by SIGTERM."""
    ending = "exit 3" if sent is None else "while :; do sleep 0.1; done"
    command = f'sh -c \'trap "exit 140" USR2; trap "exit 143" TERM; sleep 0.3; echo here; {ending}\''
    place = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": str(restarts)}
    script = cluster.SCRIPT.format(command=command, most=cluster.MOST_TIMES)
    job = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, **place})
    assert job.stdout.readline() == "here\n"
    if sent:
        job.send_signal(getattr(signal, f"SIG{sent}"))
    job.communicate(timeout=10)
    assert job.returncode == code
    assert slurm()[1:] == (["requeue", "7_3"] if again else [])


def test_a_job_takes_the_cores_that_it_is_given(tmp_path):
    scripts = cluster.scripts(tmp_path, 2, [], [])
    script = scripts[0].replace(sys.executable, "env; true")
    for own, devices in (({}, "3"), ({"JAX_NUM_CPU_DEVICES": "2"}, "2")):
        environment = {"PATH": os.environ["PATH"], "SLURM_CPUS_PER_TASK": "3", **own}
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
        assert f"JAX_NUM_CPU_DEVICES={devices}" in done.stdout.splitlines()


def test_without_slurm_a_sentence_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*COMMAND, "--slurm", "--out", str(tmp_path / "out")]) == 2
    assert "scontrol" in capsys.readouterr().err
