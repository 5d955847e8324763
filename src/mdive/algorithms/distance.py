"""How far each pixel is from a mask: the exact Euclidean distance on rasters of any size, and the ground within a distance of a mask.

The nearest pixel of a mask may lie any number of tiles away, but distance falls apart into columns and rows. Along a column the nearest pixel
above a tile is one number. Along a row the distance is the lower envelope of parabolas, one per column; outside of a tile only those matter that
are part of its envelope there, most often a few. So each tile needs one number per column and a few per row from its neighbours (after
Meijster, Roerdink and Hesselink 2000, 10.1007/0-306-47025-X_36). Squares of distances are whole numbers: there is nothing to round before the root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import groupby
from math import isqrt
from typing import Annotated, Any, Final, Literal

import numba
import numpy as np
from pydantic import Field

from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_sizes
from mdive.plugins import Focal, Global, Metres, Window, operation

Unit = Annotated[Literal["metres", "pixels"], Field(description="of the distance: metres on the ground, or pixels of the grid")]

Part = dict[str, np.ndarray]

NONE: Final = 1 << 30
"""Distance along a column that holds no pixel of the mask."""
REACH: Final = 1 << 30
"""Whole-number length that the longest row or column may have, where a pixel is not square: the square of a diagonal has 61 bits."""


def distance(mask: Any, /, *, unit: Unit = "metres") -> Any:
    """Return the Euclidean distance of each pixel to the nearest pixel of a mask, from centre to centre.

    Parameters
    ----------
    mask
        (y, x) bool, as a node, an array or a DataArray. What is beyond the grid is not in the mask.
    unit
        In metres, a pixel is as large everywhere as it is in the middle of the grid. On a grid in degrees that is wrong towards its upper and
        lower edge by the ratio of the cosines of the latitudes (2 % of the width of a pixel for 1 degree at 50 degrees); project it where that is too much.

    Returns
    -------
    (y, x) float32: 0 on the mask, infinite where the grid holds none of it. For square pixels it is the correctly rounded
    number, as in ``scipy.ndimage.distance_transform_edt``; for others the ratio of the sides is rounded first (1e-5 for 10,000 pixels).
    """
    return row_distance(column_distance(mask), unit=unit)


# Along columns ----------------------------------------------------------------------------------------------------------------------------


def _solve_columns(parts: Iterable[tuple[Window, Part]]) -> list[Part]:
    """Carry the distance to the nearest pixel above down the tiles, and that below up."""
    found = list(parts)
    width = max(w.col_end for w, _ in found)
    states: list[Part] = [{} for _ in found]
    for name, edge, order in (("above", "bottom", range(len(found))), ("below", "top", reversed(range(len(found))))):
        nearest = np.full(width, NONE, dtype="int32")
        for i in order:
            window, part = found[i]
            columns = slice(window.col, window.col_end)
            states[i][name] = nearest[columns].copy()
            nearest[columns] = np.minimum(np.minimum(part[edge] + 1, nearest[columns] + window.height), NONE)
    return states


def _apply_columns(kept: np.ndarray, state: Part) -> np.ndarray:
    rows = np.arange(len(kept), dtype="int32")[:, None]
    beyond = np.minimum(state["above"] + rows, state["below"] + rows[::-1])
    found: np.ndarray = np.minimum(np.minimum(kept, beyond), NONE)
    return found


@operation(Global(solve=_solve_columns, apply=_apply_columns), dtype="int32", fill=NONE)
def column_distance(mask: np.ndarray, /) -> tuple[np.ndarray, Part]:
    """Return the distance in pixels to the nearest pixel of a mask (y, x) in the same column; ``NONE`` where it holds none."""
    found = np.empty(mask.shape, dtype="int32")
    _columns(mask, found)
    return found, {"top": found[0].copy(), "bottom": found[-1].copy()}


@numba.njit(nogil=True, cache=True)
def _columns(mask: np.ndarray, found: np.ndarray) -> None:
    rows, cols = mask.shape
    for r in range(rows):
        for c in range(cols):
            found[r, c] = 0 if mask[r, c] else (min(found[r - 1, c] + 1, NONE) if r else NONE)
    for r in range(rows - 2, -1, -1):
        for c in range(cols):
            found[r, c] = min(found[r, c], found[r + 1, c] + 1)


# Along rows -------------------------------------------------------------------------------------------------------------------------------


def _solve_rows(parts: Iterable[tuple[Window, Part]], *, grid: Grid, unit: Unit) -> list[Part]:
    """Carry the envelope of all columns to the left along the tiles of a row, and that of all to the right back."""
    high, wide, _ = _weights(grid, unit)
    states: list[Part] = []
    for _, row in groupby(parts, key=lambda found: found[0].row):
        tiles = list(row)
        last = tiles[-1][0].col_end - 1
        here: list[Part] = [{} for _ in tiles]
        nothing = (np.zeros(tiles[0][0].height, "int64"), np.empty(0, "int32"), np.empty(0, "int32"))
        carried = nothing
        for i, (window, part) in enumerate(tiles):
            here[i] |= _named("left", _envelope(*carried, *nothing, window.col, window.col_end - 1, high, wide))
            carried = _envelope(*carried, *_unnamed("right", part), window.col_end, last, high, wide)
        carried = nothing
        for i, (window, part) in reversed(list(enumerate(tiles))):
            here[i] |= _named("right", _envelope(*carried, *nothing, window.col, window.col_end - 1, high, wide))
            carried = _envelope(*_unnamed("left", part), *carried, 0, window.col - 1, high, wide)
        states += here
    return states


def _apply_rows(kept: np.ndarray, state: Part, *, window: Window, grid: Grid, unit: Unit) -> np.ndarray:
    high, wide, scale = _weights(grid, unit)
    squared = np.empty(kept.shape, dtype="int64")
    _fill(kept, *_unnamed("left", state), *_unnamed("right", state), window.col, high, wide, squared)
    with np.errstate(invalid="ignore"):
        return np.where(squared < 0, np.inf, np.sqrt(squared) * scale)


@operation(Global(solve=_solve_rows, apply=_apply_rows), dtype="float32", fill=np.inf)
def row_distance(columns: np.ndarray, /, *, window: Window, grid: Grid, unit: Unit = "metres") -> tuple[np.ndarray, Part]:
    """Return the Euclidean distance, given that along columns: the second half of ``distance``.

    Parameters
    ----------
    columns
        From ``column_distance``, (y, x).
    unit
        As in ``distance``.
    """
    high, wide, _ = _weights(grid, unit)
    full = np.count_nonzero(columns < NONE, axis=1)
    vertices = np.nonzero(columns < NONE)
    mine = full, (vertices[1] + window.col).astype("int32"), columns[vertices]
    nothing = (np.zeros(len(columns), "int64"), np.empty(0, "int32"), np.empty(0, "int32"))
    left = _envelope(*mine, *nothing, 0, window.col - 1, high, wide)
    right = _envelope(*mine, *nothing, window.col_end, grid.shape[1] - 1, high, wide)
    return columns, {**_named("left", left), **_named("right", right)}


Envelope = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Parabolas row after row: how many each row has, their columns in ascending order, and their distances along the column."""


def _named(side: str, envelope: Envelope) -> Part:
    return {f"{side}_{name}": array for name, array in zip(("count", "column", "height"), envelope, strict=True)}


def _unnamed(side: str, part: Mapping[str, np.ndarray]) -> Envelope:
    return part[f"{side}_count"], part[f"{side}_column"], part[f"{side}_height"]


@numba.njit(nogil=True, cache=True)
def _push(
    used: int, columns: np.ndarray, heights: np.ndarray, starts: np.ndarray, c: int, g: int, low: int, last: int, high: int, wide: int
) -> int:
    """Add a parabola to the lower envelope on columns ``low`` … ``last``; it lies to the right of those that are there."""
    while used:
        i, x = used - 1, starts[used - 1]
        if (wide * (x - columns[i])) ** 2 + (high * heights[i]) ** 2 <= (wide * (x - c)) ** 2 + (high * g) ** 2:
            break
        used -= 1
    start = low
    if used:
        i, h = columns[used - 1], heights[used - 1]
        # The first column where it is the lower one: a division of whole numbers, rounded down.
        start = 1 + (wide * wide * (c - i) * (c + i) + high * high * (g - h) * (g + h)) // (2 * wide * wide * (c - i))
        if start > last:
            return used
    columns[used], heights[used], starts[used] = c, g, start
    return used + 1


@numba.njit(nogil=True, cache=True)
def _envelope(
    count: np.ndarray,
    column: np.ndarray,
    height: np.ndarray,
    more_count: np.ndarray,
    more_column: np.ndarray,
    more_height: np.ndarray,
    low: int,
    last: int,
    high: int,
    wide: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the parabolas that are part of the lower envelope on columns ``low`` … ``last``, of two sets of which the second lies to the right."""
    rows = len(count)
    kept = np.zeros(rows, np.int64)
    out_column = np.empty(len(column) + len(more_column), np.int32)
    out_height = np.empty(len(out_column), np.int32)
    most = 0
    for r in range(rows):
        most = max(most, count[r] + more_count[r])
    columns, heights, starts = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    at, more_at, out = 0, 0, 0
    for r in range(rows):
        used = 0
        if low <= last:
            for i in range(at, at + count[r]):
                used = _push(used, columns, heights, starts, column[i], height[i], low, last, high, wide)
            for i in range(more_at, more_at + more_count[r]):
                used = _push(used, columns, heights, starts, more_column[i], more_height[i], low, last, high, wide)
        at += count[r]
        more_at += more_count[r]
        out_column[out : out + used] = columns[:used]
        out_height[out : out + used] = heights[:used]
        kept[r] = used
        out += used
    return kept, out_column[:out].copy(), out_height[:out].copy()


@numba.njit(nogil=True, cache=True)
def _fill(
    found: np.ndarray,
    left_count: np.ndarray,
    left_column: np.ndarray,
    left_height: np.ndarray,
    right_count: np.ndarray,
    right_column: np.ndarray,
    right_height: np.ndarray,
    col: int,
    high: int,
    wide: int,
    squared: np.ndarray,
) -> None:
    """Write the squared distance of each pixel, -1 where there is none."""
    rows, cols = found.shape
    most = cols
    for r in range(rows):
        most = max(most, cols + left_count[r] + right_count[r])
    columns, heights, starts = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    left, right = 0, 0
    last = col + cols - 1
    for r in range(rows):
        used = 0
        for i in range(left, left + left_count[r]):
            used = _push(used, columns, heights, starts, left_column[i], left_height[i], col, last, high, wide)
        for c in range(cols):
            if found[r, c] < NONE:
                used = _push(used, columns, heights, starts, c + col, found[r, c], col, last, high, wide)
        for i in range(right, right + right_count[r]):
            used = _push(used, columns, heights, starts, right_column[i], right_height[i], col, last, high, wide)
        left += left_count[r]
        right += right_count[r]
        end = last
        for i in range(used - 1, -1, -1):
            for x in range(starts[i], end + 1):
                squared[r, x - col] = (wide * (x - columns[i])) ** 2 + (high * heights[i]) ** 2
            end = starts[i] - 1
        if not used:
            squared[r] = -1


# Metres -----------------------------------------------------------------------------------------------------------------------------------


def _weights(grid: Grid, unit: Unit) -> tuple[int, int, float]:
    """Return height and width of a pixel as whole numbers, and the unit of these; 1 and 1 where it is square."""
    return _weights_of(grid, unit)


@lru_cache(maxsize=64)
def _weights_of(grid: Grid, unit: Unit) -> tuple[int, int, float]:
    if unit == "pixels":
        return 1, 1, 1.0
    wide, high = (float(size[0]) for size in pixel_sizes(grid, grid.shape[0] // 2, 1))
    if wide == high:
        return 1, 1, wide
    scale = max(wide, high) / (REACH // max(grid.shape))
    return max(1, round(high / scale)), max(1, round(wide / scale)), scale


def _limit(metres: float, grid: Grid) -> int:
    """Return the largest squared distance within so many metres, in the whole numbers of ``_weights``."""
    # The small term keeps 60 m at six pixels of 10 m, whatever the last bit of the quotient says.
    return int((metres / _weights(grid, "metres")[2]) ** 2 + 1e-6)


def _depth(parameters: Mapping[str, Any], grid: Grid) -> int:
    high, wide, _ = _weights(grid, "metres")
    return isqrt(_limit(parameters["metres"], grid)) // min(high, wide)


@operation(Focal(_depth), dtype="bool", working=16)
def buffer(mask: np.ndarray, /, *, grid: Grid, metres: Metres = 100.0) -> np.ndarray:
    """Return the ground within a distance of a mask: where ``distance`` is at most so many metres.

    Parameters
    ----------
    mask
        (y, x) bool; it is part of its buffer.
    metres
        Distance between the centres of pixels, on pixels as large as in the middle of the grid. Where the next pixel is further away nothing is added.
    """
    high, wide, _ = _weights(grid, "metres")
    return within(mask, _limit(metres, grid), high, wide)


def within(mask: np.ndarray, limit: int, high: int = 1, wide: int = 1) -> np.ndarray:
    """Return which pixels of a block lie within a distance of a mask.

    Parameters
    ----------
    mask
        (y, x) bool.
    limit
        Square of the largest distance, in squares of the units of the next two.
    high, wide
        Height and width of a pixel.
    """
    found = np.empty(mask.shape, dtype="int32")
    squared = np.empty(mask.shape, dtype="int64")
    nothing = (np.zeros(len(mask), "int64"), np.empty(0, "int32"), np.empty(0, "int32"))
    _columns(np.ascontiguousarray(mask), found)
    _fill(found, *nothing, *nothing, 0, high, wide, squared)
    near: np.ndarray = (squared >= 0) & (squared <= limit)
    return near
