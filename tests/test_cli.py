import csv
import platform
import subprocess
import sys
from importlib import metadata

import pytest

import nail
from nail.cli.main import main
from nail.cli.theory_command import QUANTITIES
from nail.envs.noises import NOISES
from nail.envs.tasks import TASKS
from nail.figures import experiment
from nail.methods import trained_methods

SMALL = "--p 3 --m 3 --eta 0.2 --width 16 --heads 2 --layers 1 --batch 8 --lr 1e-3 --warmup 2 --n-validation 20".split()


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_the_package_and_the_theory_load_no_jax():
    """In a fresh process: opening the doors' room, and a closed form by the command."""
    script = """
import sys
import nail
from nail.cli.main import main
sys.exit(main("theory survival --H 3 --A 4 --eta 0.1".split()) or 3 * ("jax" in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0.791453125" in done.stdout


def test_list_names_every_method_task_and_figure(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {row.name}  " in printed and f"  {row.label}  " in printed for row in trained_methods())
    assert all(f"  {row.name}  " in printed for row in (*TASKS.values(), *NOISES.values(), *QUANTITIES))
    for name in experiment.names():
        found = experiment.load(name)
        assert experiment.about(name) == (found.summary, found.cost)
        assert f"  {name}  " in printed
        assert all(words in printed for words in (found.summary, *found.cost.values()))


def test_the_list_and_the_version_load_nothing_that_computes():
    """In fresh processes; the version needs no plug-in either."""
    script = "import sys\nfrom nail.cli.main import main\nassert main(sys.argv[1:]) == 0\nprint(*sorted(sys.modules))"
    heavy = {"jax", "pandas", "matplotlib", "scipy", "flax", "optax"}
    for words, loaded in (("list", True), ("--version", False)):
        done = subprocess.run([sys.executable, "-c", script, words], capture_output=True, text=True)
        *printed, modules = done.stdout.splitlines()
        assert printed, done.stderr
        assert not heavy & set(modules.split())
        assert ("nail_experiments" in modules.split()) == loaded
    numbers = (metadata.version("nail"), platform.python_version(), metadata.version("jax"))
    assert nail.__version__ == numbers[0]
    assert len(printed) == 1
    assert all(number in printed[0] for number in numbers)


@pytest.mark.quick
def test_train_writes_tidy_rows_and_resumes(tmp_path, capsys):
    arguments = ["train", *SMALL, "--method", "nail-f", "--steps", "6", "--eval-every", "3", "--seeds", "2"]
    arguments += ["--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    rows = rows_of(tmp_path / "out" / "rows.csv")
    assert [(r["seed"], r["step"]) for r in rows] == [(s, k) for s in "01" for k in "036"]
    columns = "method seed step episodes expert_queries full_exact answer_exact val_loss train_loss".split()
    assert set(columns) <= set(rows[0])
    before = (tmp_path / "out" / "rows.csv").read_bytes()
    drawn = [tmp_path / "out" / f"plot.{kind}" for kind in ("png", "pdf", "csv")]
    assert all(path.stat().st_size for path in drawn)
    drawn[0].unlink()
    assert main([*arguments, "--no-plot"]) == 0
    assert not drawn[0].exists()
    assert (tmp_path / "out" / "rows.csv").read_bytes() == before
    capsys.readouterr()
    assert main([*arguments, "--lr", "2e-3"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_trained_expert_is_kept_measured_and_used(tmp_path, capsys):
    """Trained long enough it is perfect and taken, by a run of its own task alone. At this size each of 16 seeds is
    perfect after 400 updates, so that the rounding of another processor does not decide."""
    size = ["--p", "2", "--m", "8", "--width", "16", "--heads", "2", "--warmup", "10", "--n-validation", "20"]
    train = ["expert", *size, "--lr", "5e-3", "--batch", "16", "--eval-every", "600", "--steps", "600"]
    expert = str(tmp_path / "expert")
    assert main([*train, "--out", expert]) == 0
    assert "full-chain accuracy 1.0000" in capsys.readouterr().out
    use = ["train", "--batch", "8", "--steps", "2", "--method", "loglossbc", "--expert", expert]
    assert main([*use, *size, "--out", str(tmp_path / "one")]) == 0
    capsys.readouterr()
    assert main([*use, *size, "--p", "3", "--out", str(tmp_path / "two")]) == 2
    assert "was trained with p 2, this run has p 3" in capsys.readouterr().err
    assert main([*use, "--task", "garnet", "--out", str(tmp_path / "three")]) == 2
    assert "was trained with task modadd, this run has task garnet" in capsys.readouterr().err


def test_an_imperfect_expert_is_refused_unless_asked_for(tmp_path, capsys):
    """After one update of a table most states have not been seen."""
    expert, common = str(tmp_path / "expert"), "--task garnet --batch 2 --n-validation 20".split()
    assert main(["expert", *common, "--steps", "1", "--out", expert]) == 0
    use = ["train", *common, "--steps", "2", "--expert", expert]
    capsys.readouterr()
    assert main([*use, "--out", str(tmp_path / "one")]) == 2
    assert "% of the validation prompts" in capsys.readouterr().err
    assert main([*use, "--allow-imperfect-expert", "--out", str(tmp_path / "two")]) == 0
    assert "% of the validation prompts" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_smoke(tmp_path):
    """One row; its rates are those of its times."""
    out = tmp_path / "bench.csv"
    assert main(["bench", "--preset", "smoke", "--methods", "nail-f", "--seconds", "0.01", "--out", str(out)]) == 0
    (row,) = rows_of(out)
    assert row["method"] == "nail-f"
    value = {name: float(cell) for name, cell in row.items() if name.startswith(("ms_", "gflop_", "traj", "products_"))}
    assert min(value.values()) > 0
    assert value["trajectories_per_s"] == pytest.approx(16e3 / value["ms_per_step"])
    assert value["gflop_per_s"] == pytest.approx(value["gflop_per_step"] / value["ms_per_step"] * 1e3)
    assert float(row["step_over_products"]) == pytest.approx(value["products_gflop_per_s"] / value["gflop_per_s"])
