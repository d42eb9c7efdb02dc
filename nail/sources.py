"""Where code lies: files of modules, and which modules are a definition's own code and not a library's.

Folders alone do not tell: a library may lie in a site-packages folder of the environment or of the user, on PYTHONPATH,
in a folder of `pip install --target`, or where a .pth file points to.
"""

import functools
import importlib.util
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

HOUSES = ("nail", "nail_experiments")
"""the packages of this repository"""


def own_code(packages: Iterable[str]) -> Callable[[str], bool]:
    """Which top-level modules are the code of a definition from these packages (or single modules): the packages, and
    what lies in one folder with one of them, unless that is a folder of installed packages (or the package is ours).
    """
    packages = frozenset(packages)
    places = {folder_of(name) for name in packages.difference(HOUSES)}
    beside = {place for place in places if place and not holds_installed(place)}
    return functools.cache(lambda top: top in packages or (bool(beside) and folder_of(top) in beside))


@functools.cache
def holds_installed(folder: Path) -> bool:
    """Whether packages are installed in a folder: it is called so, or an installer has left its notes there."""
    return folder.name in ("site-packages", "dist-packages") or any(folder.glob("*.dist-info"))


def is_library(top: str) -> bool:
    """Whether a top-level module lies in a folder of installed packages."""
    folder = folder_of(top)
    return folder is not None and holds_installed(folder)


def installed(path: Path | str) -> bool:
    """Whether a file belongs to an installed package, to Python, or to this package; so does what has no file."""
    if str(path).startswith("<"):
        return True
    place = Path(path).resolve()
    ours = (Path(__file__).parent.resolve(), Path(sysconfig.get_path("stdlib")).resolve())
    return any(place.is_relative_to(folder) for folder in ours) or any(map(holds_installed, place.parents))


def folder_of(top: str) -> Path | None:
    """The folder that holds a top-level module, found without importing it; None if it has no file.

    A notebook or a session lies in the working directory.
    """
    if top == "__main__":
        file = getattr(sys.modules[top], "__file__", None)
        return Path(file).resolve().parent if file else Path.cwd()
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        # made without a file
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]).resolve().parent
    return Path(spec.origin).resolve().parent if spec.has_location else None


def file_of(name: str) -> Path | None:
    """The source file of a module, found without importing it; None if it has none."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        # the program that Python was started with
        own = getattr(sys.modules[top], "__file__", None)
        return None if own is None or rest else Path(own)
    if spec is None or not spec.submodule_search_locations:
        return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") and not rest else None
    at = Path(spec.submodule_search_locations[0], *rest)
    return next((path for path in (at.parent / f"{at.name}.py", at / "__init__.py") if path.exists()), None)
