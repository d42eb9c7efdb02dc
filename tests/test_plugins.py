"""What a user's module adds is there in every command, each in a process of its own: by --import, and by an entry point
of a package's metadata. The module runs JAX when it is imported."""

import doctest
import os
import subprocess
import sys

import pytest

from nail.sweep.table import read_rows
from nail.training import doors

ADD = ("add_task", "add_instance", "add_noise", "add_method")
MODULE = """
import jax.numpy as jnp
from nail import TrainConfig, add_instance, add_method, add_noise, add_task
from nail.figures.experiment import Claim, Experiment, add_figure
from nail.methods import Method
from my_helper import KERNEL

SMALL = dict(batch=4, steps=4, eval_every=2)


def runs(preset):
    return (TrainConfig(task="cliff", noise="kernel", method="nail-warm", **SMALL),)


def compute(preset, out):
    from nail.sweep.run import rows_of
    return rows_of(runs(preset), out)


def draw(table):
    from matplotlib.figure import Figure
    return Figure(figsize=(1, 1))


def claims(rows):
    return [Claim("the task is mine", "here", "another task", str(set(rows.task)), set(rows.task) == {"cliff"})]


COST = {"smoke": "a second"}
FIGURE = Experiment("mine", "a figure of mine", COST, compute, lambda rows: rows[["step"]], claims, draw, runs)
add_figure("mine", lambda: FIGURE)
"""
KERNEL = 'add_noise("kernel", "one in three", lambda c, env, n: Huber(n.eta, KERNEL))\n'
SMALL = "--batch=4 --steps=4 --eval-every=2"
NETWORK = "--width=16 --heads=2 --layers=1 --n-validation=4 --lr=1e-3 --warmup=0"
MINE = f"--task cliff --noise kernel --method nail-warm {SMALL}"
QUICK = (
    ("module", "list", "nail-warm"),
    ("package", f"train {MINE} --out out", "nail-warm seed 0: 16 episodes"),
    ("module", f"sweep grid {MINE} --vary seed=0:1 --out out", "wrote 3 rows"),
    ("package", "figure mine --preset smoke --out out", "holds  the task is mine"),
    ("module", f"expert --task cliff {SMALL} --out out", "expert in out"),
    ("package", "n-star --instance cliff --method nail-f --eta 0.1 --delta 0.4 --instances 1 --replicates 4", "value"),
    ("module", "bench --preset tabular --seconds 0.01", "steps"),
)  # fmt: skip
"""by --import or by an entry point, command, a part of what it prints"""
SLOW = (
    ("module", f"train --task parity --noise stubborn {NETWORK} {SMALL} --out out", "nail-f seed 0: 16 episodes"),
    ("package", "sweep mine --preset smoke --out out", "wrote 3 rows"),
    ("module", f"sweep grid {MINE} --slurm --cluster local --shards 1 --out out", "1 runs in 1 shards"),
    ("package", f"sweep grid {MINE} --distributed --processes 1 --process 0 --out out", "wrote 3 rows"),
    ("package", "bench --preset smoke --methods nail-warm --seconds 0.01", "nail-warm"),
    ("module", "theory survival --H 2 --A 3 --eta 0.2", "value"),
    ("package", "--help", "subcommands"),
)


@pytest.fixture
def nail(tmp_path):
    """Runs `nail` in a new process in a folder that has the module, which sets no number of devices."""
    examples = [e for name in ADD for e in doctest.DocTestParser().get_examples(getattr(doors, name).__doc__)]
    module = MODULE + "".join(example.source for example in examples) + KERNEL
    (tmp_path / "my_additions.py").write_text(module)
    (tmp_path / "my_helper.py").write_text("import jax.numpy as jnp\nKERNEL = jnp.ones(3) / 3\n")
    kept = {name: value for name, value in os.environ.items() if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}

    def run(words, way="module"):
        environment, first = {**kept, "PYTHONWARNINGS": "ignore"}, []
        if way == "package":
            metadata = tmp_path / "additions-1.0.dist-info"
            metadata.mkdir(exist_ok=True)
            (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: additions\nVersion: 1.0\n")
            (metadata / "entry_points.txt").write_text("[nail.plugins]\nmine = my_additions\n")
            environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), kept.get("PYTHONPATH", "")])
        else:
            first = ["--import", "my_additions"]
        return subprocess.run(
            [sys.executable, "-P", "-m", "nail.cli.main", *first, *words.split()], cwd=tmp_path, env=environment,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("way", "words", "said"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)]
)
def test_a_module_that_runs_jax_is_known_to_every_command(way, words, said, nail, tmp_path):
    done = nail(words, way)
    assert done.returncode == 0, done.stderr[-2000:]
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if words.startswith(("train", "sweep")):
        rows = read_rows(tmp_path / "out")
        assert set(rows.device) == {f"cpu x{len(os.sched_getaffinity(0))}"}
        assert set(rows.task) <= {"cliff", "parity"}


def test_a_list_with_additions_loads_no_jax_of_its_own(nail, tmp_path):
    """A module that adds without running anything: neither its definitions nor those of the package are played."""
    (tmp_path / "my_additions.py").write_text(
        "import sys\nimport nail\nfrom nail.methods import Method\n"
        "def make(options, seed): raise ValueError('made')\n"
        "nail.add_instance('mine', 'an instance', make)\n"
        "nail.add_noise('stubborn', 'a law', lambda *given: None)\n"
        "nail.add_method(Method('nail-warm', 'Warm', 'student', temperature=0.3))\n"
        "import atexit\nheavy = {'jax', 'pandas', 'matplotlib', 'scipy'}\n"
        "atexit.register(lambda: print('loaded:', *sorted(heavy & set(sys.modules))))\n"
    )
    done = nail("list")
    assert done.returncode == 0, done.stderr
    assert "mine  " in done.stdout
    assert done.stdout.endswith("loaded:\n")
    for use in ("train --task mine --out out", "n-star --instance mine --eta 0.1 --delta 0.4"):
        wrong = nail(f"{use} --method nail-warm")
        assert wrong.returncode == 2
        assert wrong.stderr == "nail: task mine cannot be made: ValueError: made\n"
