"""`nail figure NAME`: compute what is missing of a figure, then draw it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nail.checks import BadInput, require, require_known, say
from nail.cli.parse import Out
from nail.cli.programs import set_up_jax
from nail.lm.config import PATHS


@dataclass(frozen=True)
class FigureCommand:
    """Compute what is missing of a figure, then draw it, its CSV and its claims."""

    name: tyro.conf.Positional[str]
    """figure: see `nail list`; all: every one that can be computed here"""
    preset: str = "cpu"
    """smoke (seconds), cpu (minutes on two cores), laptop (figures 1 to 5: the paper's chain and noise, a smaller
    network, an hour or more on two cores) or paper (the paper's scale, an accelerator)"""
    out: Out = Path("figures")
    redraw: bool = False
    """compute nothing: analyse and draw the rows that are in DIR again, of whatever preset and revision they are"""
    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """an axis of the figure, as AXIS=VALUE,VALUE,… or AXIS=FROM:TO (integers below TO), in place of the preset's
    values, or a setting of it, as NAME=VALUE; may be given again (docs/figures.md); figures 1 to 5 and some of n*"""
    seeds: int | None = None
    """number of seeds (0, 1, …) in place of the preset's; more can be computed later"""
    steps: int | None = None
    """updates of a run in place of the preset's, with as many evaluations"""
    show_config: bool = False
    """compute nothing: print what would be computed, and an estimate of the time"""
    unit: str = ""
    """what n* is counted in: episodes (the default) or queries, drawn to NAME_queries.png; figures of n* have it"""
    student: Path | None = None
    """fig6 at paper: folder of the model that is trained, as the hub stores it"""
    expert: Path | None = None
    """fig6 at paper: folder of the expert"""
    prompts: Path | None = None
    """fig6 at paper: file of JSON lines with a "question" """
    test: Path | None = None
    """fig6 at paper: file of JSON lines with "question" and "answer" """

    def run(self) -> None:
        from nail.figures import experiment

        require_known("figure", self.name, [*experiment.names(), "all"])
        require_known("preset", self.preset, experiment.PRESETS)
        require(not self.unit or self.name != "all", "unit", self.unit, "left out for all figures together")
        files = {name: path for name in PATHS if (path := getattr(self, name)) is not None}
        own = own_grid(self.name, self.preset, self.vary, self.seeds, self.steps)
        wanted = self._wanted(files)
        if self.show_config:
            return self._show(wanted, own)
        require(not (own and self.redraw), "vary, seeds, steps", "given", "left out where nothing is computed")
        set_up_jax()
        for name in wanted:
            experiment.make(name, self.preset, self.out, self.redraw, self.unit, files, **own)
        return None

    def _show(self, wanted: list[str], own: dict[str, Any]) -> None:
        """Print what is to be computed."""
        from nail.figures import experiment
        from nail.figures.configurations import shown
        from nail.figures.own import Own

        require(not self.redraw, "show_config", "given", "left out where nothing is computed")
        for name in wanted:
            found = experiment.load(name)
            size = experiment.size_of(found, self.preset, Own(**own)) if own else self.preset
            print(shown(found, self.preset, size))

    def _wanted(self, files: dict[str, Path]) -> list[str]:
        """The figure named, or all that have the preset and can be computed here."""
        from nail.figures import experiment

        if self.name != "all":
            found = experiment.load(self.name)
            experiment.require_preset(found, self.preset)
            experiment.require_unit(found, self.unit)
            if not self.redraw:
                experiment.require_given(found, self.preset, files)
        for name, path in files.items():
            require(not self.redraw, name, path, "left out where nothing is computed")
            require(self.name != "all", name, path, "left out for all figures together")
        if self.name != "all":
            return [self.name]
        there = [name for name in experiment.names() if self.preset in experiment.load(name).cost]
        return [name for name in there if self._can(name)]

    def _can(self, name: str) -> bool:
        """Whether a figure can be computed without files of the user's, or drawn again; says so where it cannot."""
        from nail.figures import experiment

        found = experiment.load(name)
        if self.redraw and (not found.needs or (self.out / f"{name}_rows.csv").exists()):
            return True
        try:
            experiment.require_given(found, self.preset, {})
            require(not self.redraw, "out", self.out, f"a folder with {name}_rows.csv, to draw from it again")
        except BadInput as error:
            say(f"{name} is left out ({error})")
            return False
        return True


def own_grid(name: str, preset: str, vary: tuple[str, ...], seeds: int | None, steps: int | None) -> dict[str, Any]:
    """The options of a grid of one's own as `nail.figures.experiment.make` takes them, checked; empty without one."""
    if not vary and seeds is None and steps is None:
        return {}
    from nail.figures import experiment
    from nail.figures.own import Own, parse

    require(name != "all", "vary, seeds, steps", "given", "left out for all figures together")
    found = experiment.load(name)
    experiment.require_sizes(found, preset)
    own = {"vary": parse(name, found.sizes[preset], vary), "seeds": seeds, "steps": steps}
    experiment.size_of(found, preset, Own(**own))
    return own
