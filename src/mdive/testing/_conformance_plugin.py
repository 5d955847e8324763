"""The checks of an installed plugin: that it loads, that its names are its own, its event classes, and everything that it computes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from mdive.engine.named import operations
from mdive.engine.specs import product_names
from mdive.errors import UsageError, nearest
from mdive.model.event_class import resolve
from mdive.pipeline import Operation
from mdive.plugins import AlgorithmSpec
from mdive.plugins.offers import HOOKS, Plugin
from mdive.plugins.registry import Registry, registry
from mdive.testing._conformance import FINE, check_algorithm, shape_for, trial_of
from mdive.testing._conformance_report import Check, CheckFailed, NotChecked, expecting, parametrize


def check_plugin(name: str, *, expected_failures: Mapping[str, str] | None = None, **options: Any) -> Iterator[Check]:
    """Yield the checks of an installed plugin: of the plugin itself, its event classes, its algorithms, and operations beside them.

    Parameters
    ----------
    name
        Of its entry point or of its package.
    expected_failures
        Why a check is known to fail, by ``subject::check``, or by the name of the check for all subjects. Strict.
    **options
        ``tilings`` and ``seed`` of :func:`check_algorithm`.

    Raises
    ------
    UsageError
        If no such plugin is installed, or it is switched off.
    """
    found = registry()
    plugins = find_plugins(name, found)
    return expecting(_all(plugins, found, options), expected_failures)


def parametrize_plugin(name: str, **options: Any) -> Any:
    """Return a decorator that makes one test of pytest of each check of :func:`check_plugin`; the test takes ``check`` and calls it.

    Parameters
    ----------
    name, **options
        As for :func:`check_plugin`.
    """
    return parametrize(check_plugin(name, **options))


def find_plugins(name: str, found: Registry) -> list[Plugin]:
    """Return the plugins that an entry point or a package means, those that failed to load among them.

    Raises
    ------
    UsageError
        If there is none.
    """
    broken = [failure.plugin for failure in found.failures]
    known = list(dict.fromkeys([*found.plugins.values(), *broken]))
    plugins = [p for p in known if _canonical(name) in {_canonical(p.name), _canonical(p.package)}]
    if plugins:
        return sorted(plugins, key=str)
    if any(_canonical(name) in {_canonical(p.name), _canonical(p.package)} for p in found.disabled):
        raise UsageError(f"the plugin {name!r} is switched off.", "Unset MDIVE_DISABLE_PLUGINS.")
    names = sorted({n for p in known for n in (p.name, p.package)})
    raise UsageError(
        f"no plugin {name!r} is installed here.{nearest(name, names)}",
        f"Installed: {', '.join(sorted(str(p) for p in known)) or 'none'}. A plugin has an entry point of the group 'mdive'.",
    )


def plugin_loads(plugin: Plugin, found: Registry) -> None:
    """Check that the plugin is imported, and each of its hooks gives what it should."""
    for noun in HOOKS:
        found.all(noun)
    for failure in found.failures:
        if failure.plugin == plugin:
            raise CheckFailed(
                f"{plugin} is a plugin of mdive.",
                failure.reason,
                "Import its module in Python for the traceback; declare in its package what it needs.",
            )


def names_are_its_own(plugin: Plugin, found: Registry) -> None:
    """Check that no other plugin claims a name that it brings."""
    for conflict in found.conflicts():
        if plugin in conflict.owners:
            raise CheckFailed(f"the names that {plugin} brings.", str(conflict), f"Choose another name. {conflict.way_out}")


def event_class_works(name: str, found: Registry) -> None:
    """Check that each step of an event class names an algorithm that is there and makes its products; its sensors are among its needs."""
    specs = found.all("algorithm")
    file = found.offers("event class")[name][0].value
    for kind in resolve(file).values():
        kinds = {sensor for need in kind.needs for sensor in need.any_of}
        made: set[str] = set()
        for step in kind.recipe:
            declared = f"the recipe of event class {kind.name!r}: {step.algorithm}."
            if step.algorithm not in specs:
                raise CheckFailed(
                    declared, f"nobody brings this algorithm.{nearest(step.algorithm, specs)}", "Name one of `mdive algorithms`."
                )
            spec = specs[step.algorithm]
            made |= set(product_names(spec))
            if spec.sensor not in kinds:
                raise CheckFailed(
                    declared, f"it works on {spec.sensor}; the class needs {sorted(kinds)}.", f"Add {spec.sensor} to needs, with its phase."
                )
        if lacking := sorted(set(kind.products) - made) if kind.recipe else []:
            raise CheckFailed(
                f"event class {kind.name!r} promises the products {list(kind.products)}.",
                f"no algorithm of its recipe makes {', '.join(lacking)}.",
                f"They make: {', '.join(sorted(made))}.",
            )


def _all(plugins: list[Plugin], found: Registry, options: Mapping[str, Any]) -> Iterator[Check]:
    for plugin in plugins:
        for promise in (plugin_loads, names_are_its_own):
            yield Check(promise.__name__, plugin.name, partial(promise, plugin, found), (promise.__doc__ or "").strip())
        for name, offers in sorted(found.offers("event class").items()):
            if plugin in {o.plugin for o in offers}:
                yield Check("event_class_works", name, partial(event_class_works, name, found), (event_class_works.__doc__ or "").strip())
        offered = {name for name, offers in found.offers("algorithm").items() if plugin in {o.plugin for o in offers}}
        specs = [spec for name, spec in found.all("algorithm").items() if name in offered]
        for spec in specs:
            yield from check_algorithm(spec, **options)
        for operation in _beside(specs):
            try:
                shape_for(operation, {}, FINE)
            except NotChecked:
                # One line that says so, and not one for each check.
                yield next(c for c in check_algorithm(operation, **options) if c.name == "computes")
            else:
                yield from check_algorithm(operation, **options)


def _beside(specs: list[AlgorithmSpec]) -> list[Operation]:
    """Return the operations of a plugin that none of its algorithms uses: the others are checked there, on the rasters that they really get."""
    used: set[str] = set()
    for spec in specs:
        try:
            used |= {n.operation.qualified for n in trial_of(spec, "full", FINE).graph if n.operation is not None}
        except Exception:  # noqa: BLE001 - its own checks say why it has no pipeline; nobody knows what it uses
            return []
    homes = {spec.function.__module__.partition(".")[0] for spec in specs}
    return [o for o in operations().values() if o.__module__.partition(".")[0] in homes and o.qualified not in used]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
