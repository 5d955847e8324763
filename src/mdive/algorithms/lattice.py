"""Histograms of backscatter on a lattice that no tiling can move: what thresholds of windows of any size are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Final

import numba
import numpy as np

from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_metres
from mdive.plugins import Metres, Reduction, Window, operation

LOWEST: Final = -35.0
STEP: Final = 0.1
BINS: Final = 450
"""Fixed bins from -35 to 10 dB, so that counts of different tiles add up; what lies outside is counted in the end bins."""

LEAF: Final = 750.0
"""Metres. Edge of the smallest cell of the lattice: half of the smallest window, 1.5 km, which holds enough of a river and its banks."""
MOST_LEAVES: Final = 32_768
"""Leaves double their edge until no more than these cover the grid (18,400 km² at 750 m), so that histograms never need more than 60 MB."""


def leaf_pixels(grid: Grid) -> int:
    """Return the edge of a leaf in pixels of this grid."""
    leaf = max(1, round(LEAF / pixel_metres(grid)))
    while ceil(grid.shape[0] / leaf) * ceil(grid.shape[1] / leaf) > MOST_LEAVES:
        leaf *= 2
    return leaf


def _merge(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Add the leaves of all tiles into one compact array; a leaf that tiles share gets something from each."""
    total = np.zeros((0, 0, BINS), dtype="uint16")
    leaf = 1
    for part in parts:
        i, j, rows, cols, leaf = (int(n) for n in part["place"])
        if total.size == 0:
            # No leaf holds more pixels than it has, so most lattices fit into half the memory.
            total = np.zeros((rows, cols, BINS), dtype="uint16" if leaf * leaf <= np.iinfo("uint16").max else "uint32")
        counts = part["counts"]
        total[i : i + counts.shape[0], j : j + counts.shape[1]] += counts.astype(total.dtype)
    return {"counts": total, "leaf": np.array(leaf)}


@operation(Reduction(merge=_merge), dtype="int64")
def lattice_histogram(
    db: np.ndarray, height: np.ndarray | None, /, *, window: Window, grid: Grid, maximum_height: Metres = 20.0
) -> dict[str, np.ndarray]:
    """Count backscatter in the cells of a lattice that is anchored at the grid's upper left corner.

    Parameters
    ----------
    db
        Backscatter in dB, (y, x), NaN where not valid.
    height
        Height above the nearest drainage in m, or None: pixels above ``maximum_height`` cannot hold flood water and are not counted, so
        that radar shadow on slopes does not pass for a mode. Unknown height counts.

    Returns
    -------
    ``counts`` (rows, columns, bins) of the leaves, and ``leaf``, their edge in pixels.
    """
    leaf = leaf_pixels(grid)
    shape = -(-grid.shape[0] // leaf), -(-grid.shape[1] // leaf)
    first = window.row // leaf, window.col // leaf
    last = (window.row_end - 1) // leaf + 1, (window.col_end - 1) // leaf + 1
    counts = np.zeros((last[0] - first[0], last[1] - first[1], BINS), dtype="uint32")
    good = np.isfinite(db)
    if height is not None:
        with np.errstate(invalid="ignore"):
            good &= ~(height > maximum_height)
    _count(np.ascontiguousarray(db), good, window.row - first[0] * leaf, window.col - first[1] * leaf, leaf, counts)
    return {"counts": counts, "place": np.array([*first, *shape, leaf])}


@numba.njit(nogil=True, cache=True)
def _count(db: np.ndarray, good: np.ndarray, row: int, col: int, leaf: int, counts: np.ndarray) -> None:
    rows, cols = db.shape
    for r in range(rows):
        for c in range(cols):
            if good[r, c]:
                b = int(np.floor((db[r, c] - LOWEST) / STEP))
                counts[(r + row) // leaf, (c + col) // leaf, min(max(b, 0), BINS - 1)] += 1
