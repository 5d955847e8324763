"""Water level from the edge of the water: each flooded pixel takes the height of the nearest place where water meets dry land.

Exact in any tiling, since the edge is looked for within a declared distance, and equally near places are decided by their height alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Final

import numba
import numpy as np

from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_sizes
from mdive.plugins import Focal, Local, Metres, Window, operation

FAR: Final = 1 << 30
"""Rows to a place that is not there."""


def _depth(parameters: Mapping[str, Any], grid: Grid) -> int:
    dx, dy = pixel_sizes(grid, 0, grid.shape[0])
    # One pixel more: whether a pixel lies at the edge, its neighbours tell.
    reach: int = ceil(parameters["distance"] / min(float(dx.min()), float(dy.min())) - 1e-9)
    return reach + 1


@operation(Focal(_depth), dtype="float32", units="m")
def boundary_level(
    wet: np.ndarray, dry: np.ndarray, height: np.ndarray, /, *, window: Window, grid: Grid, distance: Metres = 3000.0
) -> np.ndarray:
    """Return the height of the nearest edge of the water.

    Parameters
    ----------
    wet, dry
        Where there is water, and where it was seen that there is none, (y, x) bool. An edge lies where the two touch, also at corners: where water
        ends because a cloud begins, nothing is known of its level.
    height
        Terrain height in m, (y, x), NaN where not known.
    distance
        How far away an edge may be; wider water has no level in its middle. The halo is as wide: 300 pixels at 10 m.

    Returns
    -------
    Terrain height, in m, of the nearest wet pixel at an edge; of several equally near ones the lowest. NaN where there is no water, or no edge
    within ``distance``. Distances are measured with the size of the pixels in the row of the pixel that asks.

    References
    ----------
    Cohen et al. (2019), 10.5194/nhess-19-2053-2019: FwDET. Their smoothing of the level afterwards is left out.
    """
    rows = window.height
    dx, dy = pixel_sizes(grid, window.row, rows)
    out = np.full(height.shape, np.nan, dtype="float32")
    edge = _edges(np.ascontiguousarray(wet), np.ascontiguousarray(dry), height)
    if edge.any():
        up, above, down, below = _columns(edge, height.astype("float32"))
        _across(np.ascontiguousarray(wet), up, above, down, below, dx, dy, float(distance), out)
    return out


@operation(Local(), dtype="float32", units="m")
def level_depth(level: np.ndarray, height: np.ndarray, /) -> np.ndarray:
    """Return how far a water level lies above the ground, at least 0; both (y, x) in m, NaN where either is not known."""
    depth: np.ndarray = np.maximum(level - height, 0.0)
    return depth


@numba.njit(nogil=True, cache=True)
def _edges(wet: np.ndarray, dry: np.ndarray, height: np.ndarray) -> np.ndarray:
    rows, cols = wet.shape
    edge = np.zeros((rows, cols), dtype=np.bool_)
    for r in range(rows):
        for c in range(cols):
            if not wet[r, c] or np.isnan(height[r, c]):
                continue
            for i in range(max(r - 1, 0), min(r + 2, rows)):
                for j in range(max(c - 1, 0), min(c + 2, cols)):
                    if dry[i, j]:
                        edge[r, c] = True
    return edge


@numba.njit(nogil=True, cache=True)
def _columns(edge: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows to the nearest edge upwards and its height, and the same downwards, of every pixel."""
    rows, cols = edge.shape
    up, down = np.full((rows, cols), FAR, dtype=np.int32), np.full((rows, cols), FAR, dtype=np.int32)
    above, below = np.empty((rows, cols), dtype=np.float32), np.empty((rows, cols), dtype=np.float32)
    for r in range(rows):
        for c in range(cols):
            if edge[r, c]:
                up[r, c], above[r, c] = 0, height[r, c]
            elif r > 0 and up[r - 1, c] < FAR:
                up[r, c], above[r, c] = up[r - 1, c] + 1, above[r - 1, c]
    for r in range(rows - 1, -1, -1):
        for c in range(cols):
            if edge[r, c]:
                down[r, c], below[r, c] = 0, height[r, c]
            elif r < rows - 1 and down[r + 1, c] < FAR:
                down[r, c], below[r, c] = down[r + 1, c] + 1, below[r + 1, c]
    return up, above, down, below


@numba.njit(nogil=True, cache=True)
def _across(
    wet: np.ndarray,
    up: np.ndarray,
    above: np.ndarray,
    down: np.ndarray,
    below: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
    distance: float,
    out: np.ndarray,
) -> None:
    rows, cols = wet.shape
    limit = distance * distance
    for r in range(rows):
        for c in range(cols):
            if not wet[r, c]:
                continue
            nearest, level = np.inf, np.float32(np.nan)
            for away in range(cols):
                across = (away * dx[r]) * (away * dx[r])
                if across > nearest or across > limit:
                    break
                for side in range(2 if away else 1):
                    at = c + away if side == 0 else c - away
                    if at < 0 or at >= cols:
                        continue
                    for way in range(2):
                        steps = up[r, at] if way == 0 else down[r, at]
                        if steps == FAR:
                            continue
                        square = across + (steps * dy[r]) * (steps * dy[r])
                        found = above[r, at] if way == 0 else below[r, at]
                        if square <= limit and (square < nearest or (square == nearest and found < level)):
                            nearest, level = square, found
            out[r, c] = level
