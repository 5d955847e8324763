"""The operations that algorithms are made of, by name; a name that two modules give to different operations belongs to neither."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import mdive.algorithms
from mdive.errors import PluginError, nearest
from mdive.pipeline import Operation
from mdive.plugins.conflicts import BUILTIN, GROUP, Conflict, is_builtin
from mdive.plugins.offers import Plugin
from mdive.plugins.registry import algorithms, registry

Owned = tuple[Operation, Plugin]


def operations() -> dict[str, Operation]:
    """Return all operations by name, but those whose name several modules claim."""
    return {name: owners[0][0] for name, owners in sorted(_claims().items()) if len(owners) == 1}


def find_operation(name: str) -> Operation:
    """Return the operation that has a name.

    Raises
    ------
    PluginError
        If nothing has it (it says near names and what there is, algorithms included), or several modules claim it.
    """
    owners = _claims().get(name, [])
    if not owners:
        known = [*algorithms(), *operations()]
        raise PluginError(
            f"no operation or algorithm {name!r}.{nearest(name, known)}",
            f"Algorithms: {', '.join(algorithms())}. Operations: {', '.join(operations())}.{registry().missing()}",
        )
    if len(owners) > 1:
        raise Conflict("operation", name, tuple(p for _, p in owners), tuple(o.__module__ for o, _ in owners)).error()
    return owners[0][0]


def _claims() -> dict[str, list[Owned]]:
    claims: dict[str, list[Owned]] = {}
    for module, plugin in sorted(_modules(), key=lambda pair: pair[0].__name__):
        # A second name for the same object is no second operation.
        for operation in dict.fromkeys(v for v in vars(module).values() if isinstance(v, Operation) and v.__module__ == module.__name__):
            claims.setdefault(operation.name, []).append((operation, plugin))
    return claims


def _modules() -> Iterator[tuple[ModuleType, Plugin]]:
    """Yield mdive's own modules, and each one that an algorithm of a plugin is defined in, once."""
    own = next((p for p in registry().plugins.values() if is_builtin(p)), Plugin(BUILTIN, GROUP, "unknown"))
    for info in pkgutil.iter_modules(mdive.algorithms.__path__):
        yield importlib.import_module(f"mdive.algorithms.{info.name}"), own
    offers = [offer for owners in registry().offers("algorithm").values() for offer in owners]
    strangers = {offer.module: offer.plugin for offer in offers if not offer.module.startswith("mdive.")}
    for name, plugin in strangers.items():
        yield importlib.import_module(name), plugin
