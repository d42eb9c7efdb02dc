"""Options → a command: built for the task that is named, errors of the option parser as one sentence."""

import contextlib
import difflib
import importlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import tyro

from nail.checks import BadInput, one_line
from nail.cli.programs import all_cores_for_plugins
from nail.envs.tasks import TASKS
from nail.training.config import TrainConfig

Out = Annotated[Path, tyro.conf.arg(help="output folder: new, empty, or one that nail made")]
imported: list[str] = []
"""modules given by --import: other processes that this one starts import them too"""

_KINDS = {"INT": "an integer", "FLOAT": "a number", "STR": "a text", "{None}": "None"}
"""how the parser calls types"""


def load_plugins(arguments: Sequence[str]) -> list[str]:
    """Import the modules of --import MODULE and of the entry points `nail.plugins`; returns the other arguments.

    They may run JAX.
    Raises `BadInput` with one sentence for a module that cannot be imported.
    """
    if any("\0" in argument for argument in arguments):
        raise BadInput("an argument must hold no zero byte")
    left, modules, given = [], [], iter(arguments)
    for argument in given:
        if argument == "--import":
            modules.append(next(given, ""))
        elif argument.startswith("--import="):
            modules.append(argument.removeprefix("--import="))
        else:
            left.append(argument)
    with all_cores_for_plugins():
        for plugin in entry_points(group="nail.plugins"):
            _guarded(f"the plugin {plugin.value}", plugin.load)
        if modules:
            _look_here()
        for module in modules:
            _guarded(f"--import {module}", lambda module=module: importlib.import_module(module))
    imported[:] = modules
    return left


def _look_here() -> None:
    """Have modules of the working directory found, after all that is installed: it may hold a random.py too."""
    try:
        here = os.getcwd()
    except FileNotFoundError as error:
        raise BadInput("--import looks in the working directory, and this one is gone") from error
    if here not in sys.path:
        sys.path.append(here)


def _guarded(what: str, load: Callable[[], Any]) -> None:
    try:
        load()
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        sentence = next(iter(str(error).splitlines()), "")
        raise BadInput(f"{what} must be a module that can be imported ({type(error).__name__}: {sentence})") from error


def named(option: str, arguments: Sequence[str], default: str) -> str:
    """The last value of `option` among the arguments, read before the parser is built; `default` without one."""
    for here, after in zip(arguments, [*arguments[1:], ""], strict=False):
        if here == option:
            default = after
        elif here.startswith(f"{option}="):
            default = here.removeprefix(f"{option}=")
    return default


def require_file(out: Path | None) -> None:
    """Raise `BadInput` unless a file can be written to `out`, whose folders are made where they are missing."""
    if out is None:
        return
    from nail.sweep.store import require_place

    require_place(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise BadInput(f"out must be a file that can be written, and {out} is not ({error.strerror})") from error


def with_config(command: type, config: type) -> type:
    """`command` with the fields of a configuration (or the options of a task) as options."""
    made = type(command.__name__, (command, config), {"__doc__": command.__doc__, "__module__": command.__module__})
    return dataclass(frozen=True)(made)


def parse(commands: dict[str, type], arguments: list[str], about: str) -> Any:
    """The command that the arguments spell; raises `BadInput` with one sentence where the parser draws a box."""
    _refuse_renamed(arguments)

    def parser(words: list[str]) -> Any:
        return tyro.extras.subcommand_cli_from_dict(
            commands, prog="nail", description=about, args=words, config=(tyro.conf.OmitArgPrefixes,)
        )

    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return parser(arguments)
    except SystemExit as end:
        if end.code != 2:
            raise
    except RecursionError as error:
        raise BadInput(f"a command must have fewer words than the {len(arguments):,} that were given") from error
    raise BadInput(sentence(_plain_box(lambda: parser([_tame(word) for word in arguments])) or box.getvalue()))


def _plain_box(parser: Callable[[], Any]) -> str:
    """What the parser draws where there is room and no terminal that shows colours."""
    kept = {name: os.environ.pop(name, None) for name in ("COLUMNS", "FORCE_COLOR")}
    os.environ["COLUMNS"] = "2000"
    plain = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(plain), contextlib.redirect_stdout(plain):
            parser()
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({name: value for name, value in kept.items() if value is not None})
    plain.seek(0)
    return plain.read()


def _tame(word: str) -> str:
    """An argument as it may stand in the parser's box: printable, without its frame, and not over-long."""
    return one_line(re.sub("[│╭╮╰╯─|]", "?", word))


def sentence(box: str) -> str:
    """What a box of the option parser says, as one sentence."""
    lines = [line.strip(" │|╭╮╰╯─-") if "--" not in line else line.strip(" │") for line in box.splitlines()]
    text = "\n".join(line for line in lines if line.strip("- ─"))
    if bad := re.search(r"Error parsing (?:--)?(\S+?): (.*)", text):
        kinds = re.search(rf"^(?:--)?{re.escape(bad[1])} (\S+)$", text, re.MULTILINE)
        named = [_KINDS.get(kind, kind) for kind in kinds[1].split("|")] if kinds else ["of another type"]
        value = re.search(r"""(['"].*['"])\]?\.?$""", bad[2])
        return f"{bad[1].replace('-', '_')} must be {' or '.join(named)}, got {value[1] if value else bad[2]}"
    if missing := re.search(r"Missing from (.*):", text):
        part = re.split("Unrecognized|For full", text[missing.end() :])[0]
        wanted = re.findall(r"^(--\S+)|^([A-Z]+)\n(.*?) \(required\)", part, re.MULTILINE)
        names = (option or f"{'an' if what[0] in 'aeiou' else 'a'} {what}" for option, _, what in wanted)
        return f"{missing[1]} needs {', '.join(names)}"
    if unknown := re.search(r"Unrecognized (?:or misplaced )?options:\s*(\S+?),?(?:\s|$)", text):
        near = re.search(r"Perhaps you meant:?\n?.*?(--\S+?),?(?:\s|$)", text)
        known = re.search(r"Available subcommands: (.*)", text)
        alike = near and near[1] != unknown[1] and difflib.get_close_matches(unknown[1], [near[1]], cutoff=0.75)
        hint = f"; did you mean {near[1]}?" if alike else f" (known: {known[1]})" if known else ""
        return f"unknown option or command {unknown[1]}{hint}"
    if choice := re.search(r"nvalid choice ('.*?') for argument '(\S+?)'\. Expected one of \((.*?)\)", text):
        name, known = choice[2].lstrip("-").replace("-", "_"), choice[3].replace("'", "")
        return f"{name} must be one of {known}, got {choice[1]}"
    if lacking := re.search(r"Missing value for argument '(\S+)'", text):
        return f"{lacking[1]} needs a value"
    if expected := re.search(r"Expected one of \{(.*)\}", text):
        return f"a command must follow, one of {expected[1]}"
    return text.replace("\n", " ")


def _refuse_renamed(arguments: Sequence[str]) -> None:
    """Raise `BadInput` that names an option's name where a task calls it differently."""
    if not {"train", "expert", "grid", "n-star"} & set(arguments[:2]):
        return
    option = "--instance" if arguments[0] == "n-star" else "--task"
    row = TASKS.get(named(option, arguments, TrainConfig().task))
    if row is None:
        return
    renamed = dict(row.renamed)
    for argument in arguments:
        name = argument.removeprefix("--").split("=")[0]
        if argument.startswith("--") and name in renamed:
            raise BadInput(f"--{name} is called --{renamed[name]} in the task {row.name}")
