"""How much lies upstream of each cell, exact for any tiling: cells, or area on the ground, as whole numbers.

A tile adds up its own water. Of each cell of its edge it tells where the water that enters there leaves again; along those links the solve carries
the water of all tiles, and each tile adds up once more with what flows into it.

References
----------
Barnes (2017), 10.1016/j.envsoft.2017.02.022.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numba
import numpy as np

from mdive.algorithms.terrain_direction import NODATA
from mdive.algorithms.terrain_ring import COLS, NOWHERE, ROWS, Rings, ring_cells, ring_slot
from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_areas
from mdive.plugins import Global, Window, operation

Part = dict[str, np.ndarray]

SQUARE_DECIMETRES: Final = 100.0
"""Units of area in a square metre: the pixel of a row is rounded to them, and 5.1e14 m², the surface of the Earth, still fit into 64 bits."""


def _solve(parts: Iterable[tuple[Window, Part]], **_: object) -> list[np.ndarray]:
    """Carry water from tile to tile; return what flows into each cell of each tile's edge."""
    windows, found = [], []
    for window, part in parts:
        windows.append(window)
        found.append(part)
    rings = Rings(windows)
    target = np.concatenate([rings.targets(t, p["direction"]) for t, p in enumerate(found)])
    link = np.concatenate([np.where(p["link"] == NOWHERE, NOWHERE, p["link"] + rings.of(t).start) for t, p in enumerate(found)])
    inflow = _carry(target, link, np.concatenate([p["flow"] for p in found]))
    return [inflow[rings.of(t)] for t in range(len(windows))]


def _apply(kept: np.ndarray | tuple[np.ndarray, ...], state: np.ndarray) -> np.ndarray:
    """Add up with what flows in."""
    direction, weight = kept if isinstance(kept, tuple) else (kept, np.int64(1))
    return _added(direction, weight, state)


@operation(Global(solve=_solve, apply=_apply, kept_bytes=1), dtype="int64")
def flow_accumulation(direction: np.ndarray, weight: np.ndarray | None = None, /) -> tuple[np.ndarray | tuple[np.ndarray, ...], Part]:
    """Return what lies upstream of each cell, itself included.

    Parameters
    ----------
    direction
        (y, x) uint8 of ``flow_direction``.
    weight
        What each cell adds, (y, x) whole numbers or truth values; 1 where it is not given.

    Returns
    -------
    (y, x) int64: number of cells, or sum of their weights; 0 for nodata.
    """
    direction = np.ascontiguousarray(direction)
    if weight is None:
        return direction, _part(direction, np.int64(1))
    return (direction, weight), _part(direction, weight)


def _apply_area(kept: np.ndarray, state: np.ndarray, *, grid: Grid, window: Window) -> np.ndarray:
    return _added(kept, _row_areas(grid, window), state)


@operation(Global(solve=_solve, apply=_apply_area, kept_bytes=1), dtype="int64", units="dm2")
def drainage_area(direction: np.ndarray, /, *, grid: Grid, window: Window) -> tuple[np.ndarray, Part]:
    """Return the area on the ground upstream of each cell, itself included, in square decimetres.

    Parameters
    ----------
    direction
        (y, x) uint8 of ``flow_direction``.

    Returns
    -------
    (y, x) int64, 0 for nodata. The pixels of a row are as large as ``pixel_areas`` says.
    """
    direction = np.ascontiguousarray(direction)
    return direction, _part(direction, _row_areas(grid, window))


def _row_areas(grid: Grid, window: Window) -> np.ndarray:
    areas = np.rint(pixel_areas(grid, window.row, window.height) * SQUARE_DECIMETRES).astype("int64")
    return areas[:, None]


# One tile ---------------------------------------------------------------------------------------------------------------------------------


def _part(direction: np.ndarray, weight: np.ndarray | np.int64) -> Part:
    row, col = ring_cells(direction.shape)
    flow = _added(direction, weight, np.zeros(len(row), "int64"))
    return {"direction": direction[row, col], "link": _links(direction, row, col), "flow": flow[row, col]}


def _added(direction: np.ndarray, weight: np.ndarray | np.int64, inflow: np.ndarray) -> np.ndarray:
    total = np.empty(direction.shape, "int64")
    total[...] = weight
    total[direction == NODATA] = 0
    row, col = ring_cells(direction.shape)
    # Unused slots have no inflow.
    np.add.at(total, (row, col), inflow)
    _accumulate(direction, total)
    return total


@numba.njit(nogil=True, cache=True)
def _accumulate(direction: np.ndarray, total: np.ndarray) -> None:
    """Walk down from every spring, and on from a confluence when its last tributary has arrived."""
    rows, cols = direction.shape
    waits = np.zeros((rows, cols), np.int8)
    for r in range(rows):
        for c in range(cols):
            k = direction[r, c]
            if k < 8:
                i, j = r + ROWS[k], c + COLS[k]
                if 0 <= i < rows and 0 <= j < cols:
                    waits[i, j] += 1
    for r in range(rows):
        for c in range(cols):
            if waits[r, c] != 0:
                continue
            i, j = r, c
            while True:
                k = direction[i, j]
                # Not to be a spring again.
                waits[i, j] = -1
                if k >= 8:
                    break
                p, q = i + ROWS[k], j + COLS[k]
                if not (0 <= p < rows and 0 <= q < cols):
                    break
                total[p, q] += total[i, j]
                waits[p, q] -= 1
                if waits[p, q] > 0:
                    break
                i, j = p, q


@numba.njit(nogil=True, cache=True)
def _links(direction: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Return for each slot the slot where water that enters there leaves the tile; ``NOWHERE`` where it ends inside.

    Only ways from the edge are walked, and a way that joins another is known from there on.
    """
    rows, cols = direction.shape
    unknown = np.int32(-2)
    ends = np.full((rows, cols), unknown, np.int32)
    link = np.empty(len(row), np.int32)
    for slot in range(len(row)):
        i, j = row[slot], col[slot]
        while ends[i, j] == unknown:
            k = direction[i, j]
            end = unknown
            if k >= 8:
                end = np.int32(NOWHERE)
            else:
                p, q = i + ROWS[k], j + COLS[k]
                if not (0 <= p < rows and 0 <= q < cols):
                    end = np.int32(ring_slot(i, j, rows, cols))
            if end != unknown:
                ends[i, j] = end
                break
            i, j = p, q
        end = ends[i, j]
        i, j = row[slot], col[slot]
        while ends[i, j] == unknown:
            ends[i, j] = end
            k = direction[i, j]
            i, j = i + ROWS[k], j + COLS[k]
        link[slot] = end
    return link


# Across tiles -----------------------------------------------------------------------------------------------------------------------------


@numba.njit(nogil=True, cache=True)
def _carry(target: np.ndarray, link: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return what flows into each node: an exit's own water, and all that reaches it through its tile, goes to its target."""
    count = len(target)
    waits = np.zeros(count, np.int64)
    for node in range(count):
        if target[node] != NOWHERE and link[target[node]] != NOWHERE:
            waits[link[target[node]]] += 1
    inflow = np.zeros(count, np.int64)
    total = flow.copy()
    for spring in range(count):
        node = spring
        while target[node] != NOWHERE and waits[node] == 0:
            waits[node] = -1
            inflow[target[node]] += total[node]
            node_next = link[target[node]]
            if node_next == NOWHERE:
                break
            total[node_next] += total[node]
            waits[node_next] -= 1
            node = node_next
    return inflow
