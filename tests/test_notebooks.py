"""The notebooks run from top to bottom as they are stored, and were stored with their outputs; names can be added."""

from pathlib import Path

import jax.numpy as jnp
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from nail.checks import BadInput
from nail.envs.instances import poison_chain
from nail.methods import METHOD, Method
from nail.noise import Huber
from nail.training import config as configuration
from nail.training import problem, registry
from nail.training.config import TrainConfig, check
from nail.training.problem import make_channel, make_environment, numbers_of

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def kinds(notebook):
    """Per cell the kinds of its outputs, with the form of the picture where there is one."""
    return [
        [(o.output_type, sorted(o.get("data", {}))) for o in cell.get("outputs", ()) if o.get("name") != "stderr"]
        for cell in notebook.cells
    ]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_gives_what_kinds_are_stored(path, tmp_path):
    """No cell fails, and every cell gives outputs of the kinds that are stored with it."""
    stored = nbformat.read(path, 4)
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert kinds(notebook) == kinds(stored)
    assert any("image/png" in data for cell in kinds(stored) for _, data in cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_small_and_clean(path):
    text = path.read_text()
    assert len(text) < 200_000
    assert not [word for word in ("/tmp/", "/home/", "/root/", "Warning", "Traceback") if word in text]
    for cell in nbformat.read(path, 4).cells:
        assert not [o for o in cell.get("outputs", ()) if o.output_type == "error" or o.get("name") == "stderr"]
        assert cell.cell_type != "code" or cell.execution_count


@pytest.fixture
def tables():
    """The package's tables, put back as they were afterwards."""
    kept = [(t, dict(t)) for t in (configuration.TASKS, configuration.NOISES, problem.INSTANCES, problem.TASK,
                                   problem.CHANNEL, METHOD)]  # fmt: skip
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


def test_what_is_added_is_used(tables):
    config = TrainConfig(task="two", noise="first", method="mine", m=2, p=3, n_validation=1)
    with pytest.raises(BadInput, match="unknown task 'two'"):
        check(config)
    registry.add_tabular_task("two", "", lambda c: poison_chain(c.m, c.p, np.array([2, 1])))
    registry.add_noise("first", "", lambda c, env, numbers: Huber(numbers.eta, jnp.eye(env.n_actions)[0]))
    registry.add_method(Method("mine", "Mine", "student", temperature=0.5))
    assert check(config).rollout_temperature == 0.5
    env = make_environment(config)
    assert env.clean_actions(env.train_context(jnp.uint32(0))).tolist() == [2, 1]
    (numbers,) = [type(n)(*(x[0] for x in n)) for n in [numbers_of((config,))]]
    noisy = make_channel(config, env, numbers).probs(jnp.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(noisy, [config.eta, 0, 1 - config.eta], atol=1e-6)


def test_names_that_are_taken_are_refused(tables):
    for add in (
        lambda: registry.add_tabular_task("garnet", "", lambda c: poison_chain(c.m, c.p)),
        lambda: registry.add_noise("uniform", "", lambda c, env, numbers: Huber(0.0, jnp.ones(3) / 3)),
        lambda: registry.add_method(METHOD["nail-f"]),
    ):
        with pytest.raises(BadInput):
            add()
