"""Tasks to outcomes, here or elsewhere."""

from mdive.config import profile, worker_count
from mdive.runtime.base import Outcome, Runtime, Task, attempt
from mdive.runtime.local import Serial, Threads

__all__ = ["Outcome", "Runtime", "Serial", "Task", "Threads", "attempt", "serial", "threads"]


def serial(workers: int | None = None) -> Serial:  # noqa: ARG001 - all factories share one signature
    """Return the runtime that runs one task after the other."""
    return Serial()


def threads(workers: int | None = None) -> Threads:
    """Return a pool of threads; without a number, as many as the environment and the cores that this process may use allow."""
    return Threads(worker_count(profile(), workers))
