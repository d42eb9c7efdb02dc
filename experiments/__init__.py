"""One module per figure or claim: its runs per preset, its analysis, its claims, its drawing.

Importing this package adds its figures to `nail figure`; a new file here is a new figure.
"""

import ast
import functools
import importlib
import pkgutil
from pathlib import Path

from nail.figures.experiment import Experiment, add_figure

ORDER = (
    "fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "theory_horizon", "theory_online_exact", "theory_offline_best",
    "theory_sampling", "theory_noise", "theory_bursts", "theory_unknown_noise", "theory_compounding",
    "theory_rare_action", "theory_drivers", "theory_general_bound", "theory_garnet", "estimator_variance",
    "opd_fixes", "s5", "stages", "routing", "self_distillation",
)  # fmt: skip
"""in which the figures are read; others come after them"""


def _load(name: str) -> Experiment:
    return importlib.import_module(f"{__name__}.{name}").EXPERIMENT


def _about(name: str) -> tuple[str, dict[str, str]]:
    """Summary and cost of a figure as its source has them, whose last statement is `EXPERIMENT = …(name, summary, cost,
    …)`: a list of figures needs none of what their modules import."""
    made = ast.parse(Path(__path__[0], f"{name}.py").read_text(encoding="utf-8")).body[-1].value
    _, summary, cost = made.args[:3]
    return ast.literal_eval(summary), ast.literal_eval(cost)


_found = [module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"]
for _name in sorted(_found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
    add_figure(_name, functools.partial(_load, _name), functools.partial(_about, _name))
