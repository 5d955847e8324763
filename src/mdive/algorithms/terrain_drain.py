"""To which stream each cell's water comes first, exact for any tiling.

A tile follows the ways from its edge; the solve follows them from tile to tile, and each tile then follows all of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Annotated, Final

import numba
import numpy as np
from pydantic import Field

from mdive.algorithms.terrain_accumulation import SQUARE_DECIMETRES
from mdive.algorithms.terrain_direction import NODATA
from mdive.algorithms.terrain_ring import COLS, NOWHERE, ROWS, Rings, ring_cells, ring_slot
from mdive.model.plan import Grid
from mdive.plugins import Global, Local, Window, operation

Part = dict[str, np.ndarray]

SquareKilometres = Annotated[float, Field(gt=0, description="drained area in km²")]
Percent = Annotated[float, Field(ge=0, le=100, description="share of the time under water, %")]

DRAIN: Final = 16
"""Bit of a cell that is a drain, beside its direction."""

NO_DRAIN: Final = -1
"""Drain id of a cell whose water leaves the domain before it meets a drain, and of nodata."""

_UNKNOWN: Final = np.iinfo("int32").min


@operation(Local(), dtype="bool")
def drains(
    area: np.ndarray, occurrence: np.ndarray | None, /, *, drain_area: SquareKilometres = 0.09, permanent: Percent = 90.0
) -> np.ndarray:
    """Return which cells are part of the drainage: enough area lies upstream, or there is water at nearly all times.

    Parameters
    ----------
    area
        (y, x) int64 of ``drainage_area``, dm².
    occurrence
        How often there is water, (y, x) in %, NaN where unknown; or None.
    drain_area
        Least area upstream. 0.09 km² are 100 pixels of 30 m, the heads of streams as in the global HAND of ASF; for floods of rivers 1 to 10 km².
    permanent
        Least occurrence of water that is always there: lakes and rivers wider than a pixel, also where the area upstream is cut off.

    References
    ----------
    Nobre et al. (2011), 10.1016/j.jhydrol.2011.03.051; Pekel et al. (2016), 10.1038/nature20584 (occurrence).
    """
    # Less the rounding of the product: 0.09 km² are 9,000,000 dm², whatever the last bit of 0.09 says.
    found = area >= ceil(drain_area * 1e6 * SQUARE_DECIMETRES - 1e-3)
    if occurrence is not None:
        with np.errstate(invalid="ignore"):
            found |= (occurrence >= permanent) & (area > 0)
    return found


def _solve(parts: Iterable[tuple[Window, Part]], **_: object) -> list[np.ndarray]:
    """Return for each slot of each tile the value of the drain that water reaches when it leaves the tile there."""
    windows, found = [], []
    for window, part in parts:
        windows.append(window)
        found.append(part)
    rings = Rings(windows)
    target = np.concatenate([rings.targets(t, p["direction"]) for t, p in enumerate(found)])
    # A node's water is known, or it is what leaves its tile at a slot, which is what the node beyond has.
    ends = [np.where(p["end"] < -1, -2 - p["end"].astype("int64") + rings.of(t).start, p["end"]) for t, p in enumerate(found)]
    known = np.concatenate([p["end"] >= -1 for p in found])
    end = np.concatenate(ends)
    goes = np.where(known, NOWHERE, target[np.where(known, 0, end)])
    value = np.concatenate([p["value"] for p in found])
    source = _followed(goes)
    none = np.array([_none(value.dtype)], value.dtype)
    beyond = np.where(target == NOWHERE, none, value[source[np.where(target == NOWHERE, 0, target)]])
    return [beyond[rings.of(t)] for t in range(len(windows))]


def _apply(kept: tuple[np.ndarray, np.ndarray], state: np.ndarray) -> np.ndarray:
    """Give each cell the value of its drain, or of where its water leaves the tile."""
    codes, values = kept
    return _given(_all_ends(codes), values, state, _none(values.dtype))


def _dtype_of(_direction: str | None, _drain: str | None, values: str) -> str:
    return values


@operation(Global(solve=_solve, apply=_apply, kept_bytes=1.2), dtype=_dtype_of)
def at_drain(direction: np.ndarray, drain: np.ndarray, values: np.ndarray, /) -> tuple[tuple[np.ndarray, np.ndarray], Part]:
    """Return for each cell the value of a raster at its drain: the first cell of the drainage that its water meets.

    Parameters
    ----------
    direction
        (y, x) uint8 of ``flow_direction``.
    drain
        Cells of the drainage, (y, x) bool.
    values
        (y, x) float.

    Returns
    -------
    (y, x) like ``values``; NaN where water leaves the domain before it meets a drain, and for nodata.
    """
    return _map(direction, drain, values[drain & (direction != NODATA)])


@operation(Global(solve=_solve, apply=_apply, kept_bytes=1.4), dtype="int64", fill=NO_DRAIN)
def drain_id(direction: np.ndarray, drain: np.ndarray, /, *, grid: Grid, window: Window) -> tuple[tuple[np.ndarray, np.ndarray], Part]:
    """Return for each cell which drain its water meets first: the parts of a catchment have one number.

    Parameters
    ----------
    direction
        (y, x) uint8 of ``flow_direction``.
    drain
        Cells of the drainage, (y, x) bool.

    Returns
    -------
    (y, x) int64: row * columns + column of the drain in the grid; -1 where there is none, and for nodata.
    """
    row, col = np.nonzero(drain & (direction != NODATA))
    return _map(direction, drain, (row + window.row).astype("int64") * grid.shape[1] + col + window.col)


# One tile ---------------------------------------------------------------------------------------------------------------------------------


def _none(dtype: np.dtype) -> float:
    return np.nan if dtype.kind == "f" else NO_DRAIN


def _map(direction: np.ndarray, drain: np.ndarray, values: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Part]:
    codes = np.where(drain & (direction != NODATA), direction | np.uint8(DRAIN), direction)
    row, col = ring_cells(codes.shape)
    end = _edge_ends(codes, row, col)
    value = np.full(len(end), _none(values.dtype), values.dtype)
    value[end >= 0] = values[end[end >= 0]]
    ring = codes[row, col]
    # Water leaves a tile from a drain as well.
    ring = np.where(ring == NODATA, ring, ring & ~np.uint8(DRAIN))
    return (codes, values), {"direction": ring, "end": end, "value": value}


@numba.njit(nogil=True, cache=True)
def _started(codes: np.ndarray) -> np.ndarray:
    """Give the drains numbers, in the order of rows; nothing else is known yet."""
    rows, cols = codes.shape
    ends = np.full((rows, cols), np.int32(_UNKNOWN))
    count = 0
    for r in range(rows):
        for c in range(cols):
            if codes[r, c] == NODATA:
                ends[r, c] = NOWHERE
            elif codes[r, c] & DRAIN:
                ends[r, c] = count
                count += 1
    return ends


@numba.njit(nogil=True, cache=True)
def _follow(codes: np.ndarray, ends: np.ndarray, row: int, col: int) -> None:
    """Walk down until the end is known, and tell it to all on the way: a drain's number, ``NOWHERE``, or -2 - the slot of the exit."""
    rows, cols = codes.shape
    i, j = row, col
    while ends[i, j] == _UNKNOWN:
        k = codes[i, j]
        if k >= 8:
            ends[i, j] = NOWHERE
            break
        p, q = i + ROWS[k], j + COLS[k]
        if not (0 <= p < rows and 0 <= q < cols):
            ends[i, j] = -2 - ring_slot(i, j, rows, cols)
            break
        i, j = p, q
    end = ends[i, j]
    i, j = row, col
    while ends[i, j] == _UNKNOWN:
        ends[i, j] = end
        k = codes[i, j]
        i, j = i + ROWS[k], j + COLS[k]


@numba.njit(nogil=True, cache=True)
def _edge_ends(codes: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    ends = _started(codes)
    found = np.empty(len(row), np.int32)
    for slot in range(len(row)):
        _follow(codes, ends, row[slot], col[slot])
        found[slot] = ends[row[slot], col[slot]]
    return found


@numba.njit(nogil=True, cache=True)
def _all_ends(codes: np.ndarray) -> np.ndarray:
    ends = _started(codes)
    for r in range(codes.shape[0]):
        for c in range(codes.shape[1]):
            if ends[r, c] == _UNKNOWN:
                _follow(codes, ends, r, c)
    return ends


@numba.njit(nogil=True, cache=True)
def _given(ends: np.ndarray, values: np.ndarray, beyond: np.ndarray, none: float) -> np.ndarray:
    out = np.empty(ends.shape, values.dtype)
    for r in range(ends.shape[0]):
        for c in range(ends.shape[1]):
            end = ends[r, c]
            out[r, c] = values[end] if end >= 0 else (none if end == NOWHERE else beyond[-2 - end])
    return out


# Across tiles -----------------------------------------------------------------------------------------------------------------------------


@numba.njit(nogil=True, cache=True)
def _followed(goes: np.ndarray) -> np.ndarray:
    """Return the node at the end of each node's way."""
    last = np.full(len(goes), NOWHERE)
    for start in range(len(goes)):
        node = start
        while last[node] == NOWHERE and goes[node] != NOWHERE:
            node = goes[node]
        end = node if last[node] == NOWHERE else last[node]
        last[node] = end
        node = start
        while last[node] == NOWHERE:
            last[node] = end
            node = goes[node]
    return last
