"""mdive's own plugin: what comes with mdive enters by the same hooks as what strangers bring."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mdive.plugins.hookspecs import hookimpl
from mdive.plugins.resources import package_files, resource_files

ROOM: Final = "mdive.algorithms"
"""The package whose modules declare the algorithms."""

_DECLARATION: Final = re.compile(r"""^@algorithm\(\s*"([^"]+)".*?^def (\w+)\(""", re.MULTILINE | re.DOTALL)

mdive_api = 1


@hookimpl
def mdive_algorithms() -> dict[str, str]:
    """Every function declared with ``@algorithm`` in the algorithms' room: a new file is the whole change, and there is no list to edit.

    The files are read, not imported: a run imports the one algorithm that it uses, and numpy's and numba's share of the others never comes.
    """
    return {name: f"{ROOM}.{path.stem}:{function}" for path in package_files("algorithms", "*.py") for name, function in declared(path)}


@hookimpl
def mdive_providers() -> list[Path]:
    """One document per provider."""
    return package_files("providers/datasources", "*.yaml")


@hookimpl
def mdive_runtimes() -> dict[str, str]:
    """Those that need nothing but this machine."""
    return {"serial": "mdive.runtime:serial", "threads": "mdive.runtime:threads"}


@hookimpl
def mdive_writers() -> dict[str, str]:
    """None beside the products that every run writes."""
    return {}


@hookimpl
def mdive_event_classes() -> list[Path]:
    """Every taxonomy that travels with mdive."""
    return resource_files("event_classes", "*.yaml")


def declared(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the function of each algorithm that a file declares, in the order of its source."""
    for found in _DECLARATION.finditer(path.read_text(encoding="utf-8")):
        yield found[1], found[2]
