"""`nail list`: the names that other commands take, in less than a second: neither JAX nor a figure is loaded."""

import dataclasses
from dataclasses import dataclass

from nail.cli.theory_command import QUANTITIES
from nail.envs.noises import NOISES
from nail.envs.tasks import TASKS
from nail.methods import METHOD, trained_methods


@dataclass(frozen=True)
class List:
    """What there is: methods, tasks, quantities of the theory, figures, and the cost of their presets."""

    def run(self) -> None:
        from nail.counting.rows import level_methods
        from nail.figures import experiment

        label = max(len(method.label) for method in trained_methods()) + 2
        methods = {m.name: f"{m.label:<{label}}{m.summary}" for m in trained_methods()}
        _section("methods (nail train --method NAME)", methods)
        options = {t.name: ", ".join(f.name for f in dataclasses.fields(t.options)) for t in TASKS.values()}
        tasks = {n: TASKS[n].summary + (f" (options: {has})" if has else "") for n, has in options.items()}
        _section("\ntasks (nail train --task NAME)", tasks)
        _section("\nnoise laws (nail train --noise NAME)", {law.name: law.summary for law in NOISES.values()})
        _section("\nquantities (nail theory QUANTITY)", {found.name: found.meaning for found in QUANTITIES})
        tabular = {"instances:": ", ".join(name for name, task in TASKS.items() if task.instance)}
        counted = tabular | {name: METHOD[name].label for name in level_methods()}
        _section("\nmeasured sample complexities (nail n-star --instance NAME --method NAME)", counted)
        figures = {}
        for name in experiment.names():
            summary, cost = experiment.about(name)
            figures[name] = "\n".join([summary, *(f"{'':<16}{preset:<7}{takes}" for preset, takes in cost.items())])
        _section("\nfigures (nail figure NAME --preset PRESET)", figures)


def _section(title: str, lines: dict[str, str]) -> None:
    """Names, and what they are in a second column."""
    width = max(map(len, lines), default=0) + 2
    print(title, *(f"  {name:<{width}}{what}" for name, what in lines.items()), sep="\n")
