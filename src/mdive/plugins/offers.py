"""What plugins are and what their hooks may return: each noun has one reader, which names the things in it or says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from inspect import isfunction, ismodule
from pathlib import Path
from typing import Any, Literal

from mdive.errors import MdiveError, PluginError, nearest
from mdive.model.event_class import EventClassFile
from mdive.plugins.declare import AlgorithmSpec
from mdive.plugins.hookspecs import MDIVE_API

Noun = Literal["algorithm", "provider", "runtime", "writer", "event class"]

HOOKS: Mapping[Noun, str] = {
    "algorithm": "mdive_algorithms",
    "provider": "mdive_providers",
    "runtime": "mdive_runtimes",
    "writer": "mdive_writers",
    "event class": "mdive_event_classes",
}

_ALGORITHM_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MARK = "mdive_impl"
"""Attribute that ``@hookimpl`` hangs on a function (pluggy: the project's name and ``_impl``)."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point and the package that it came with."""

    name: str
    """Of the entry point."""
    package: str
    version: str

    @property
    def label(self) -> str:
        """Package and version, as it stands in plans and provenance."""
        return f"{self.package} {self.version}"

    def __str__(self) -> str:
        return f"{self.label} (entry point {self.name!r})"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a plugin, or one of its hooks, gave nothing."""

    plugin: Plugin
    reason: str

    def __str__(self) -> str:
        return f"{self.plugin}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that a plugin provides."""

    value: Any
    """The thing, or ``module:function`` of one that is imported when it is asked for."""
    plugin: Plugin

    @property
    def module(self) -> str:
        """Name of the module that an algorithm is defined in."""
        return self.value.partition(":")[0] if isinstance(self.value, str) else str(self.value.function.__module__)


def plugin_of(entry: EntryPoint) -> Plugin:
    """Return whose entry point it is; damaged metadata make it *unknown*, never an error."""
    package = version = None
    if entry.dist is not None:
        with suppress(Exception):  # what a damaged METADATA raises differs between Python versions
            package, version = entry.dist.metadata["Name"], entry.dist.metadata["Version"]
    return Plugin(entry.name, package or "unknown", version or "unknown")


def reason_of(error: BaseException) -> str:
    """Return one line that says what went wrong: our own sentence, or the type and text of somebody else's error."""
    if isinstance(error, MdiveError):
        return error.message.removesuffix(".")
    if isinstance(error, SystemExit):
        return f"SystemExit: it called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def check_plugin(module: Any) -> None:
    """Refuse what pluggy would take in silence: another thing than a module, another API, hooks that would never be called.

    Raises
    ------
    PluginError
        With the reason.
    """
    if not ismodule(module):
        raise PluginError(f"its entry point names a {type(module).__name__}, not a module")
    api = getattr(module, "mdive_api", None)
    if api != MDIVE_API:
        raise PluginError(f"it was written for mdive_api {api!r}; this mdive has mdive_api = {MDIVE_API}")
    for name, function in vars(module).items():
        mark = getattr(function, _MARK, None) if isfunction(function) else None
        if isinstance(mark, dict):
            hook = mark.get("specname") or name
            if hook not in HOOKS.values() and not mark.get("optionalhook"):
                raise PluginError(f"unknown hook {hook!r}.{nearest(hook, HOOKS.values())} The hooks are: {', '.join(HOOKS.values())}")
            if mark.get("wrapper") or mark.get("hookwrapper"):
                raise PluginError(f"{name!r} is a hook wrapper; a plugin may add to mdive, not change what others provide")
        elif isfunction(function) and name.startswith("mdive_") and function.__module__ == module.__name__:
            raise PluginError(f"its function {name!r} is not marked with @hookimpl, so nobody would ever call it")


def named(noun: Noun, given: Any, plugin: Plugin) -> dict[str, Any]:
    """Return the things that a hook gave, by name.

    Raises
    ------
    PluginError
        For what is no such thing, or a name given twice.
    """
    found: dict[str, Any] = {}
    for name, value in _READERS[noun](given, plugin):
        if name in found:
            raise PluginError(f"it gives the {noun} {name!r} twice")
        found[name] = value
    return found


def _algorithms(given: Any, plugin: Plugin) -> Iterator[tuple[str, AlgorithmSpec | str]]:
    if isinstance(given, Mapping):
        for name, reference in _references(given, plugin):
            yield _algorithm_name(name), reference
        return
    for item in _items(given, "mdive_algorithms"):
        spec = spec_of(item, plugin)
        yield spec.name, spec


def spec_of(item: Any, plugin: Plugin) -> AlgorithmSpec:
    """Return the declaration of an algorithm, with the plugin that brought it.

    Raises
    ------
    PluginError
        For what is not declared, or has a name that nobody could ask for.
    """
    spec = item if isinstance(item, AlgorithmSpec) else getattr(item, "__mdive_algorithm__", None)
    if not isinstance(spec, AlgorithmSpec):
        raise PluginError(f"mdive_algorithms gave {item!r}, which is not declared with @algorithm")
    return replace(spec, name=_algorithm_name(spec.name), package=plugin.label)


def _algorithm_name(name: str) -> str:
    if not _ALGORITHM_NAME.fullmatch(name):
        raise PluginError(f"the algorithm name {name!r} is not of the form 'family.name' (small letters, digits, underscores)")
    return name


def _files(given: Any, hook: str) -> Iterator[Path]:
    for item in _items(given, hook):
        path = Path(item)
        if path.suffix != ".yaml" or not path.is_file():
            raise PluginError(f"{hook} gave {str(path)!r}, which is not a .yaml file that exists")
        yield path


def _providers(given: Any, plugin: Plugin) -> Iterator[tuple[str, Path]]:  # noqa: ARG001 - one signature for all readers
    for path in _files(given, "mdive_providers"):
        yield path.stem, path


def _event_classes(given: Any, plugin: Plugin) -> Iterator[tuple[str, EventClassFile]]:  # noqa: ARG001
    from mdive.model.load import load_document

    for path in _files(given, "mdive_event_classes"):
        file = load_document(path, EventClassFile)
        yield file.id, file


def _references(given: Any, plugin: Plugin) -> Iterator[tuple[str, str]]:  # noqa: ARG001
    if not isinstance(given, Mapping):
        raise PluginError(f"a hook returned {type(given).__name__} where a mapping of name to 'module:function' is needed")
    for name, reference in given.items():
        if not isinstance(name, str) or not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise PluginError(f"{name!r}: {reference!r} is not of the form 'module:function'")
        yield name, reference


def _items(given: Any, hook: str) -> Iterable[Any]:
    if not isinstance(given, Iterable) or isinstance(given, str | Mapping):
        raise PluginError(f"{hook} returned {type(given).__name__} where a list is needed")
    return given


_READERS: Mapping[Noun, Callable[[Any, Plugin], Iterator[tuple[str, Any]]]] = {
    "algorithm": _algorithms,
    "provider": _providers,
    "runtime": _references,
    "writer": _references,
    "event class": _event_classes,
}
