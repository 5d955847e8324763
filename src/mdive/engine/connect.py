"""Connect to a runtime by name."""

from __future__ import annotations

from mdive.plugins.registry import runtime_factory
from mdive.runtime import Runtime


def connect(name: str = "threads", *, workers: int | None = None) -> Runtime:
    """Return a runtime, to be used in a ``with`` statement.

    Parameters
    ----------
    name
        ``serial``, ``threads``, or what a plugin provides.
    workers
        Tiles in the making at once. Default: the runtime's own.

    Raises
    ------
    PluginError
        If no runtime has this name.
    """
    runtime: Runtime = runtime_factory(name)(workers)
    return runtime
