"""The runtimes of one process: no ports, no pickling, no ``__main__`` trap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from mdive.errors import UsageError
from mdive.runtime.base import Outcome, Task, attempt


class Serial:
    """One task after the other, in this thread: for debugging, and the reference for all others."""

    name = "serial"
    workers = 1
    in_process = True

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield outcomes in the order of the tasks."""
        return (attempt(task) for task in tasks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


class Threads:
    """A pool of threads: the default of a laptop, because decoding and kernels release the GIL.

    Parameters
    ----------
    workers
        Number of tiles in the making at once; each holds one tile's memory.
    """

    name = "threads"
    in_process = True

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise UsageError(f"threads need at least one worker, not {workers}.", "Leave --workers out to use all cores.")
        self.workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield outcomes as they come; never more than ``workers`` tasks are submitted and unfinished.

        When the consumer stops early (an interrupt), running tasks end and write their results, waiting ones never start.
        """
        pool = self._pool or ThreadPoolExecutor(self.workers, thread_name_prefix="mdive")
        running: set[Future[Outcome]] = set()
        pending = iter(tasks)
        try:
            while True:
                while len(running) < self.workers and (task := next(pending, None)) is not None:
                    running.add(pool.submit(attempt, task))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            if self._pool is None:
                pool.shutdown(wait=True, cancel_futures=True)
            else:
                wait(running)

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="mdive")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
