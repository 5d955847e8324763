"""Connect to a runtime by name."""

from __future__ import annotations

from mdive.engine.given import take_workers, wrong
from mdive.plugins.registry import runtime_factory
from mdive.runtime import Runtime


def connect(name: str = "threads", *, workers: int | None = None) -> Runtime:
    """Return a runtime, to be used in a ``with`` statement.

    Parameters
    ----------
    name
        ``serial``, ``threads``, or what a plugin provides.
    workers
        Tiles in the making at once, 1 or more. Default: the runtime's own.

    Raises
    ------
    PluginError
        If no runtime has this name.
    InputError
        For less than one worker.
    UsageError
        If an argument is of the wrong type.
    """
    if not isinstance(name, str):
        raise wrong(name, "connect", "the name of a runtime", "For instance mdive.connect('threads').")
    runtime: Runtime = runtime_factory(name)(take_workers(workers, "connect"))
    return runtime
