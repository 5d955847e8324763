"""How much a process bears from servers: how often it tries again in all, and when it leaves a host alone that does not answer.

Each read has its own few attempts. Without a bound on their sum, a dead server costs every tile its full time, and a sick one gets its load
multiplied just when it can bear it least.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

RETRIES: Final = 1000
"""Pauses that a process may make before another attempt."""

EARNED: Final = 0.1
"""Of a pause, given back for each range that comes: a long run may try one request in ten again, whatever its length."""

FAILURES: Final = 8
"""Failures in a row after which a host counts as down."""

STREAK_SECONDS: Final = 5.0
"""Seconds that they must span: a server that restarts cuts all connections at one moment, and the second attempts cure it."""

COOL_DOWN: Final = 30.0
"""Seconds for which a host that is down is asked nothing. Then one request is let through; the others wait for what becomes of it."""


@dataclass(slots=True)
class _Host:
    failures: int = 0
    since: float = 0.0
    """When the first failure of the streak was."""
    closed_until: float | None = None


class Patience:
    """The retries that a process has left, and the hosts that it leaves alone; shared by its threads.

    Parameters
    ----------
    retries
        Pauses that may be made; ranges that come give some back, never more than this.
    clock, sleep
        Seconds that only grow, and what waits for some of them.
    """

    def __init__(
        self, retries: int = RETRIES, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._most = self._left = float(retries)
        self._clock, self._sleep = clock, sleep
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def admits(self, host: str) -> bool:
        """Return whether a host may be asked now; after a cool-down, only the first who wants to know may."""
        with self._lock:
            state = self._hosts.get(host)
            if state is None or state.closed_until is None:
                return True
            if self._clock() < state.closed_until:
                return False
            # A probe that never reports (its thread was stopped) must not keep the host closed for ever.
            state.closed_until = self._clock() + COOL_DOWN
            return True

    def answered(self, host: str) -> None:
        """Note that a host has answered, whatever it said."""
        with self._lock:
            self._hosts.pop(host, None)

    def served(self) -> None:
        """Note that bytes have come that were asked for."""
        with self._lock:
            self._left = min(self._most, self._left + EARNED)

    def silent(self, host: str) -> None:
        """Note that a host could not be reached, hung up, or sent nothing."""
        with self._lock:
            state, now = self._hosts.setdefault(host, _Host()), self._clock()
            if not state.failures:
                state.since = now
            state.failures += 1
            if state.closed_until is not None or (state.failures >= FAILURES and now - state.since >= STREAK_SECONDS):
                state.closed_until = now + COOL_DOWN

    def pause(self, seconds: float) -> bool:
        """Wait before another attempt; return False at once where the process has made too many."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
        self._sleep(seconds)
        return True
