"""What a command costs: wall time, CPU-seconds and memory of its whole tree of processes, and what it asked of a server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SAMPLE = 0.05
"""Seconds between two looks at the memory of a tree of processes."""

START = 10.0
"""Seconds that a server may take until it answers."""

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took."""

    wall: float
    """Seconds from start to end of the process."""
    cpu: float
    """Seconds of user and system time of the process and all that it waited for."""
    rss: float
    """Peak resident memory of the tree, MiB, as seen every ``SAMPLE`` seconds."""


def measure(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Cost:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        If it fails; with the end of what it said, all of which is in ``log``.
    """
    with log.open("wb") as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, **env}, cwd=cwd, stdout=said, stderr=subprocess.STDOUT)
        with _watched(process.pid) as peak:
            # Popen.wait would throw the resource usage away.
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{log.read_text(errors='replace')[-2000:]}")
    # Not ru_maxrss: a process inherits the peak of the one that started it.
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak[0])


@contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    peak, ended = [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE):
            peak[0] = max(peak[0], _resident(pid) / MIB)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _resident(pid: int) -> int:
    total = 0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a server was asked for."""

    requests: int
    heads: int
    megabytes: float
    repeated: float
    """Megabytes that were sent before in the same run."""


class Server:
    """The workload's range server in a process of its own, which counts requests and answers late."""

    def __init__(self, python: str, script: Path, data: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [python, str(script), str(data), "--port", str(port)], stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": ""}
        )
        deadline = time.monotonic() + START
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.close()
                raise RuntimeError(f"{script} did not start")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self._ask("/__stats")
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()

    def reset(self, latency_ms: float) -> None:
        """Count from 0, and answer so late."""
        self._ask(f"/__config?latency_ms={latency_ms}")
        self._ask("/__reset")

    def traffic(self) -> Traffic:
        """Return what has been asked since the last reset."""
        said = self._ask("/__stats")
        repeated = sum(_repeated([(int(a), int(b)) for a, b in ranges]) for ranges in said["ranges"].values())
        return Traffic(said["requests"], said["methods"].get("HEAD", 0), said["bytes"] / 1e6, repeated / 1e6)

    def _ask(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return dict(json.loads(answer.read()))


def _repeated(ranges: Sequence[tuple[int, int]]) -> int:
    """Return how many bytes of ranges [first, end) are in an earlier one."""
    reached, again = 0, 0
    for start, end in sorted(ranges):
        again += max(0, min(reached, end) - start)
        reached = max(reached, end)
    return again
