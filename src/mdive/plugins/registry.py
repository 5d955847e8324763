"""What is installed: every plugin loaded in isolation, every name with its owner, and an answer that helps when a name is not there.

Nothing is asked of a plugin before somebody needs it: modules are imported when the registry is built, and each of their hooks runs
when its noun is first asked for. A plugin that fails is remembered with its reason and never takes another one along.
"""

from __future__ import annotations

import os
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from threading import RLock
from typing import Any

import pluggy

from mdive.errors import PluginError, nearest
from mdive.model.event_class import EventClass, resolve
from mdive.plugins import hookspecs
from mdive.plugins.conflicts import GROUP, Conflict, is_builtin
from mdive.plugins.declare import AlgorithmSpec
from mdive.plugins.offers import HOOKS, Failure, Noun, Offer, Plugin, check_plugin, named, plugin_of, reason_of, spec_of
from mdive.plugins.taxonomy import find_event_class, normal


class Registry:
    """The plugins that are there, and what they provide. Use :func:`registry` for the one of this process.

    Parameters
    ----------
    found
        Entry points to load.
    off
        Names of entry points or packages to leave out; ``*`` leaves out all but mdive's own.
    strict
        Raise at the first plugin that fails and the first name with two owners, instead of when the name is asked for.
    """

    def __init__(self, found: Iterable[EntryPoint], *, off: Iterable[str] = (), strict: bool = False) -> None:
        self.plugins: dict[str, Plugin] = {}
        self.disabled: list[Plugin] = []
        self.failures: list[Failure] = []
        self.strict = strict
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._offers: dict[Noun, dict[str, list[Offer]]] = {}
        self._lock = RLock()
        without = frozenset(map(_canonical, off))
        # Sorted, so that messages read the same whatever the order of sys.path. Nothing else depends on the order.
        for plugin, entry in sorted(((plugin_of(e), e) for e in found), key=lambda pair: str(pair[0])):
            if not is_builtin(plugin) and not without.isdisjoint({"*", _canonical(plugin.name), _canonical(plugin.package)}):
                self.disabled.append(plugin)
            else:
                with self._isolated(plugin):
                    self._register(plugin, entry.load())

    def _register(self, plugin: Plugin, module: Any) -> None:
        check_plugin(module)
        try:
            self._manager.register(module, str(plugin))
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError):
            # pluggy before 1.7 registers hook by hook and stops at the first bad one.
            if self._manager.get_plugin(str(plugin)) is module:
                self._manager.unregister(module, str(plugin))
            raise
        self.plugins[str(plugin)] = plugin

    @contextmanager
    def _isolated(self, plugin: Plugin) -> Iterator[None]:
        """Remember whatever a plugin raises, ``sys.exit`` included; only the user's own Ctrl-C passes."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failure = Failure(plugin, reason_of(error))
            if failure not in self.failures:
                self.failures.append(failure)
            if self.strict:
                raise PluginError(f"plugin {failure}.", "MDIVE_STRICT_PLUGINS is set; unset it to go on without this plugin.") from error

    def offers(self, noun: Noun) -> Mapping[str, list[Offer]]:
        """Return who provides each name of a noun; each plugin is asked once."""
        with self._lock:
            if noun in self._offers:
                return self._offers[noun]
            collected: dict[str, list[Offer]] = {}
            for implementation in getattr(self._manager.hook, HOOKS[noun]).get_hookimpls():
                plugin = self.plugins[implementation.plugin_name]
                # All that a hook gives is read before any of it counts: a hook that fails half-way provides nothing.
                with self._isolated(plugin):
                    for name, value in named(noun, implementation.function(), plugin).items():
                        collected.setdefault(name, []).append(Offer(value, plugin))
            if self.strict:
                for name, owners in collected.items():
                    _only(noun, name, owners)
            self._offers[noun] = collected
            return collected

    def find(self, noun: Noun, name: str) -> Offer:
        """Return what has this name, with its owner.

        Raises
        ------
        PluginError
            When nothing has it (it says near names, what there is, and which plugins failed), or two packages claim it.
        """
        found = self.offers(noun)
        if name in found:
            return self._settled(noun, name, _only(noun, name, found[name]))
        raise PluginError(f"no {noun} {name!r}.{nearest(name, found)}", f"Available: {', '.join(sorted(found)) or 'none'}.{self.missing()}")

    def all(self, noun: Noun) -> dict[str, Any]:
        """Return name -> value for a noun, sorted by name; without the names that several packages claim, which :meth:`conflicts` tells."""
        found: dict[str, Any] = {}
        for name, owners in sorted(self.offers(noun).items()):
            if len(owners) == 1:
                with self._isolated(owners[0].plugin):
                    found[name] = self._settled(noun, name, owners[0]).value
        return found

    def _settled(self, noun: Noun, name: str, offer: Offer) -> Offer:
        """Return an offer with the thing itself: an algorithm that was given by its place is imported now, once.

        Raises
        ------
        PluginError
            If it cannot be imported, or another algorithm is found there.
        """
        if noun != "algorithm" or not isinstance(offer.value, str):
            return offer
        spec = spec_of(_import(noun, name, offer), offer.plugin)
        if spec.name != name:
            raise PluginError(f"{offer.plugin} gives {offer.value!r} as algorithm {name!r}, but it is declared as {spec.name!r}.")
        with self._lock:
            owners = self.offers(noun)[name]
            # Two threads may import it at once: the first one's declaration is everybody's.
            if isinstance(owners[0].value, str):
                owners[0] = Offer(spec, offer.plugin)
            return owners[0]

    def conflicts(self) -> list[Conflict]:
        """Return every name that several packages claim, after asking all plugins for all that they provide."""
        claimed = [(noun, name, owners) for noun in HOOKS for name, owners in sorted(self.offers(noun).items())]
        return [_conflict(noun, name, owners) for noun, name, owners in claimed if len(owners) > 1]

    def missing(self) -> str:
        """Return the sentences that say which plugins are not there and why (with a space in front), or an empty string."""
        text = ""
        if self.failures:
            text += f" These plugins failed to load: {'; '.join(map(str, self.failures))}."
        if self.disabled:
            text += f" Switched off by MDIVE_DISABLE_PLUGINS: {'; '.join(map(str, self.disabled))}."
        if not any(map(is_builtin, self.plugins.values())) and not any(is_builtin(failure.plugin) for failure in self.failures):
            text += " mdive's own plugin was not found: mdive is not installed in this environment."
        return text


def _canonical(name: str) -> str:
    """Return a package name as package indexes compare it: case, dots, hyphens and underscores do not matter."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _only(noun: Noun, name: str, owners: list[Offer]) -> Offer:
    if len(owners) == 1:
        return owners[0]
    raise _conflict(noun, name, owners).error()


def _conflict(noun: Noun, name: str, owners: list[Offer]) -> Conflict:
    return Conflict(noun, name, tuple(sorted({offer.plugin for offer in owners}, key=str)))


@lru_cache(maxsize=1)
def _process_registry() -> Registry:
    off = os.environ.get("MDIVE_DISABLE_PLUGINS", "")
    strict = os.environ.get("MDIVE_STRICT_PLUGINS", "") not in {"", "0"}
    return Registry(entry_points(group=GROUP), off=off.replace(",", " ").split(), strict=strict)


@lru_cache(maxsize=1)
def _unambiguous(of: Registry) -> dict[str, EventClass]:
    files = [owners[0].value for _, owners in sorted(of.offers("event class").items()) if len(owners) == 1]
    return {name: event_class for file in files for name, event_class in resolve(file).items()}


def registry(*, refresh: bool = False) -> Registry:
    """Return the registry of this process, built once.

    Parameters
    ----------
    refresh
        Look again: a package was installed, or ``MDIVE_DISABLE_PLUGINS`` / ``MDIVE_STRICT_PLUGINS`` changed.
    """
    if refresh:
        _process_registry.cache_clear()
    return _process_registry()


def algorithms() -> dict[str, AlgorithmSpec]:
    """Return all algorithms by name, but those that several packages claim; ``package`` of each says who owns it."""
    return registry().all("algorithm")


def algorithm_spec(name: str) -> AlgorithmSpec:
    """Return one algorithm; see :meth:`Registry.find` for the errors."""
    spec: AlgorithmSpec = registry().find("algorithm", name).value
    return spec


def providers() -> dict[str, Path]:
    """Return the datasource document of each provider."""
    return registry().all("provider")


def provider_file(name: str) -> Path | None:
    """Return the datasource document of one provider, None where nobody has the name; see :meth:`Registry.find` for a name that several have."""
    file: Path | None = registry().find("provider", name).value if name in registry().offers("provider") else None
    return file


def runtimes() -> dict[str, str]:
    """Return ``module:factory`` of each runtime."""
    return registry().all("runtime")


def runtime_factory(name: str) -> Callable[..., Any]:
    """Import and return the factory of a runtime; see :meth:`Registry.find` for the errors."""
    return _imported("runtime", name)


def writers() -> dict[str, str]:
    """Return ``module:function`` of each product writer."""
    return registry().all("writer")


def writer(name: str) -> Callable[..., Any]:
    """Import and return a product writer; see :meth:`Registry.find` for the errors."""
    return _imported("writer", name)


def _imported(noun: Noun, name: str) -> Callable[..., Any]:
    return _import(noun, name, registry().find(noun, name))


def _import(noun: Noun, name: str, offer: Offer) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = pkgutil.resolve_name(offer.value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what a stranger's module raises when it is imported, ``sys.exit`` included
        raise PluginError(
            f"{noun} {name!r} of {offer.plugin} cannot be imported from {offer.value!r}: {reason_of(error)}.",
            f"Reinstall {offer.plugin.package} with what it needs.",
        ) from error
    return found


def event_classes() -> dict[str, EventClass]:
    """Return all event classes by full name, each with what it inherits; without those that several packages claim."""
    return dict(_unambiguous(registry()))


def event_class(name: str) -> EventClass:
    """Return the event class that a name, in any spelling, or a synonym means.

    Raises
    ------
    InputError
        For a name that is not known; it says its parent, the parent's children and near names.
    PluginError
        When two packages claim the class.
    """
    root = normal(name).partition(".")[0]
    if root in registry().offers("event class"):
        registry().find("event class", root)
    return find_event_class(_unambiguous(registry()), name, also=registry().missing())
