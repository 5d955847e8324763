"""mdive's own plugin: what comes with mdive enters by the same hooks as what strangers bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from mdive.plugins.hookspecs import hookimpl
from mdive.plugins.resources import package_files, resource_files

mdive_api = 1


@hookimpl
def mdive_algorithms() -> list[Callable[..., Any]]:
    """Every function declared with ``@algorithm`` in the algorithms' room: a new file is the whole change, and there is no list to edit."""
    room = import_module("mdive.algorithms")
    return [function for module in modules(room) for function in declared(module)]


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


def modules(package: ModuleType) -> Iterator[ModuleType]:
    """Import and yield the modules of a package and its sub-packages, sorted by name; a leading underscore keeps a module out."""
    for info in sorted(iter_modules(package.__path__, package.__name__ + "."), key=lambda info: info.name):
        if info.name.rpartition(".")[2].startswith("_"):
            continue
        module = import_module(info.name)
        yield module
        if info.ispkg:
            yield from modules(module)


def declared(module: ModuleType) -> list[Callable[..., Any]]:
    """Return the algorithms that a module defines itself (not those that it imports), in the order of its source."""
    own = [value for value in vars(module).values() if isfunction(value) and value.__module__ == module.__name__]
    return [function for function in own if hasattr(function, "__mdive_algorithm__")]
