"""The questions that mdive asks a plugin: one verb per noun.

A plugin is a module with ``mdive_api = 1`` and some of these functions, marked ``@hookimpl``; an entry point of the group ``mdive``
names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pluggy

from mdive.plugins.declare import AlgorithmSpec

MDIVE_API = 1
"""Version of these hooks. A plugin says which one it was written for; it rises when a hook changes its meaning."""

hookspec = pluggy.HookspecMarker("mdive")
hookimpl = pluggy.HookimplMarker("mdive")


@hookspec
def mdive_algorithms() -> Iterable[Callable[..., Any] | AlgorithmSpec] | Mapping[str, str]:  # type: ignore[empty-body]
    """Functions declared with ``@algorithm``; or name -> ``module:function``, imported when it is asked for."""


@hookspec
def mdive_providers() -> Iterable[Path]:  # type: ignore[empty-body]
    """Datasource YAML files, one per provider; the file's stem is the provider's name."""


@hookspec
def mdive_runtimes() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Name of each runtime -> ``module:factory``, imported when it is asked for."""


@hookspec
def mdive_writers() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Name of each product writer -> ``module:function``, imported when it is asked for."""


@hookspec
def mdive_event_classes() -> Iterable[Path]:  # type: ignore[empty-body]
    """Event class YAML files."""
