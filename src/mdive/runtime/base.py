"""What every runtime does: tasks in, outcomes out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self


@dataclass(frozen=True, slots=True)
class Task:
    """A small pickleable value: a module-level function and its arguments."""

    key: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task; a failure is data."""

    key: str
    value: Any = None
    error: BaseException | None = None
    trace: str = ""
    seconds: float = 0.0


class Runtime(Protocol):
    """Runs tasks; knows nothing of events, rasters or files.

    One that computes in the process that made it may say so with an attribute ``in_process = True``: then tiles are read ahead for it.
    """

    name: str
    workers: int

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Run each task once, a bounded number at a time, and yield outcomes in any order."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def attempt(task: Task) -> Outcome:
    """Run one task here and now."""
    start = time.perf_counter()
    try:
        value = task.function(*task.arguments)
    except Exception as error:  # noqa: BLE001 - a failure of a task is an outcome, whatever it is
        return Outcome(task.key, error=error, trace=traceback.format_exc(), seconds=time.perf_counter() - start)
    return Outcome(task.key, value=value, seconds=time.perf_counter() - start)
