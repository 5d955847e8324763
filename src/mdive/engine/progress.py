"""Progress as events: whoever watches gets small values, and draws a bar, a log line or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    stage: str
    """``inputs``, ``pass``, ``products`` or ``done``."""
    done: int
    total: int
    """Steps (tiles of all passes, then products)."""
    text: str = ""
    """What is being done, in words."""


Watcher = Callable[[Progress], None]


def nobody(_progress: Progress) -> None:
    """Watch nothing."""
