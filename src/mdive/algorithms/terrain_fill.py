"""Depression filling, exact for any tiling: each cell is raised to the lowest height over which water can leave it.

The filled height W is the least, over all paths out of the domain, of the highest cell on the path: always the height of some cell, so it is
exact and has one value whatever the order of the work. Each tile floods from its own edge inwards and keeps, beside its local heights, from
which cell of its edge each was reached; over which heights those regions meet is a graph of the size of the edges, solved once for all tiles.

References
----------
Barnes, Lehman and Mulla (2014), 10.1016/j.cageo.2013.04.024; Barnes (2016), 10.1016/j.cageo.2016.07.001.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numba
import numpy as np

from mdive.algorithms.terrain_ring import COLS, NOWHERE, ROWS, Rings, ring_cells, ring_slots
from mdive.plugins import Global, Window, operation

Part = dict[str, np.ndarray]

FREE: Final = -1
BEYOND: Final = -2
NODATA: Final = -3
"""Labels of a cell that the flood has not reached, of the frame around the tile, and of a cell without height."""

DIGIT: Final = 11
"""Bits that one pass of the radix sort looks at: three passes for 32 bits, and 2,048 places to write to at a time stay in the cache."""


def height_dtype(dem: str) -> str:
    """Return the data type that holds every height of a DEM of this type exactly: float32 for float32 and for whole numbers of up to 16 bits."""
    kind = np.dtype(dem)
    return "float32" if kind.itemsize < (4 if kind.kind in "iu" else 8) else "float64"


def _raised(kept: tuple[np.ndarray, np.ndarray], state: np.ndarray) -> np.ndarray:
    """Apply: no cell is lower than what keeps the water of its region in."""
    local, label = kept
    raised: np.ndarray = np.maximum(local, state[label])
    return raised


def _solve(parts: Iterable[tuple[Window, Part]]) -> list[np.ndarray]:
    """Find for each cell of all edges the lowest height over which its water leaves: one pass through all meetings in rising order."""
    windows, found = [], []
    for window, part in parts:
        windows.append(window)
        found.append(part)
    rings = Rings(windows)
    z = np.concatenate([p["z"] for p in found])
    ocean = rings.nodes
    a: list[np.ndarray] = []
    b: list[np.ndarray] = []
    spill: list[np.ndarray] = []
    for tile, part in enumerate(found):
        first, last = rings.of(tile).start, ring_slots(windows[tile].shape)
        for ends, label in ((a, part["a"]), (b, part["b"])):
            ends.append(np.where(label == last, ocean, label + first))
        spill.append(part["spill"])
        here, there = rings.beside(tile)
        other = np.where(there == NOWHERE, np.nan, z[there])
        out = np.isnan(other)
        # Each pair is seen from both sides.
        keep = ~np.isnan(z[here]) & (out | (here < there))
        here, there, out, other = here[keep], there[keep], out[keep], other[keep]
        a.append(here)
        b.append(np.where(out, ocean, there))
        spill.append(np.where(out, z[here], np.maximum(z[here], other)).astype(z.dtype))
    heights = np.concatenate(spill)
    order = np.argsort(heights, kind="stable")
    level = _drain(np.concatenate(a)[order], np.concatenate(b)[order], heights[order], ocean)
    low = np.array([-np.inf], dtype=z.dtype)
    return [np.concatenate([level[rings.of(t)], low]) for t in range(len(windows))]


@operation(Global(solve=_solve, apply=_raised, kept_bytes=6), dtype=height_dtype, working=35)
def filled(dem: np.ndarray, /) -> tuple[tuple[np.ndarray, np.ndarray], Part]:
    """Fill the depressions of a DEM up to their spill, so that water flows out of the domain from everywhere without rising.

    Water leaves over the edge of the grid, and where nothing is known of the height (nodata): what lies there is not higher than it.

    Parameters
    ----------
    dem
        Heights, (y, x) float or whole numbers. Not finite is nodata.

    Returns
    -------
    Filled heights in the units of the DEM, (y, x): float32, or float64 where float32 would not hold the numbers of the DEM. NaN where it is nodata.
    """
    z = np.array(dem, dtype=height_dtype(str(dem.dtype)))
    z[~np.isfinite(z)] = np.nan
    z += 0.0  # -0.0 is 0.0
    slots = ring_slots(z.shape)
    rows, cols = z.shape
    padded = np.full((rows + 2, cols + 2), np.nan, z.dtype)
    padded[1:-1, 1:-1] = z
    label = np.full(padded.shape, BEYOND, "int32")
    label[1:-1, 1:-1] = np.where(np.isnan(z), NODATA, FREE)
    r, c = ring_cells(z.shape)
    # Backwards: of an unused slot and the one that has its cell, the second is written last.
    label[r[::-1] + 1, c[::-1] + 1] = np.where(np.isnan(z[r, c]), NODATA, np.arange(slots))[::-1]
    local, merged = np.full(padded.shape, np.nan, z.dtype), np.empty((slots + 1, 2), "int32")
    steps = np.array([dr * (cols + 2) + dc for dr, dc in zip(ROWS, COLS, strict=True)])
    spill = np.empty(slots + 1, z.dtype)
    count = _flood(padded.ravel(), _ascending(padded.ravel()), label.ravel(), local.ravel(), steps, slots, merged, spill)
    small = "uint16" if slots < np.iinfo("uint16").max else "int32"
    kept = np.ascontiguousarray(local[1:-1, 1:-1]), np.where(label[1:-1, 1:-1] < 0, slots, label[1:-1, 1:-1]).astype(small)
    return kept, {"z": z[r, c], "a": merged[:count, 0].copy(), "b": merged[:count, 1].copy(), "spill": spill[:count].copy()}


# One tile ---------------------------------------------------------------------------------------------------------------------------------


def _ascending(z: np.ndarray) -> np.ndarray:
    """Return the indices of the cells with a height, from the lowest up; cells of one height in any order."""
    if z.dtype == np.float32:
        return _sorted_places(z.view("uint32"))
    order = np.argsort(z, kind="stable")
    return order[: len(z) - int(np.isnan(z).sum())]


@numba.njit(nogil=True, cache=True)
def _sorted_places(bits: np.ndarray) -> np.ndarray:
    """Sort by radix: the bits of a float, its sign turned, have the order of the floats."""
    count = 0
    for i in range(len(bits)):
        if bits[i] & np.uint32(0x7FFFFFFF) <= np.uint32(0x7F800000):
            count += 1
    here = np.empty(count, np.uint64)
    there = np.empty(count, np.uint64)
    count = 0
    for i in range(len(bits)):
        word = bits[i]
        if word & np.uint32(0x7FFFFFFF) <= np.uint32(0x7F800000):
            turned = word ^ (np.uint32(0xFFFFFFFF) if word >> np.uint32(31) else np.uint32(0x80000000))
            here[count] = (np.uint64(turned) << np.uint64(32)) | np.uint64(i)
            count += 1
    mask = np.uint64((1 << DIGIT) - 1)
    for shift in (32, 32 + DIGIT, 32 + 2 * DIGIT):
        starts = np.zeros((1 << DIGIT) + 1, np.int64)
        for i in range(count):
            starts[int((here[i] >> np.uint64(shift)) & mask) + 1] += 1
        for d in range(1 << DIGIT):
            starts[d + 1] += starts[d]
        for i in range(count):
            d = int((here[i] >> np.uint64(shift)) & mask)
            there[starts[d]] = here[i]
            starts[d] += 1
        here, there = there, here
    places = np.empty(count, np.int32)
    for i in range(count):
        places[i] = np.int32(here[i] & np.uint64(0xFFFFFFFF))
    return places


@numba.njit(nogil=True, cache=True)
def _find(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit(nogil=True, cache=True)
def _flood(
    z: np.ndarray,
    order: np.ndarray,
    label: np.ndarray,
    local: np.ndarray,
    steps: np.ndarray,
    ocean: int,
    merged: np.ndarray,
    spill: np.ndarray,
) -> int:
    """Raise the level through all heights; a region grows over what its level reaches, and what meets is written down.

    The order of all cells is known, so no queue of priorities is needed: a cell that the flood has reached from below is flooded when its own
    height comes up. Meetings come in rising order as well, and only those that join what was apart matter (Kruskal's spanning forest):
    there are no more than labels.
    """
    parent = np.arange(ocean + 1)
    queue = np.empty(len(order), np.int32)
    count = 0
    for i in range(len(z)):
        if label[i] == NODATA:
            for k in range(8):
                if label[i + steps[k]] == FREE:
                    label[i + steps[k]] = ocean
    for start in order:
        if label[start] == FREE or local[start] == local[start]:
            continue
        level = z[start]
        local[start] = level
        queue[0] = start
        head, tail = 0, 1
        while head < tail:
            cell = queue[head]
            head += 1
            own = label[cell]
            for k in range(8):
                near = cell + steps[k]
                other = label[near]
                if other == own or other == BEYOND:  # noqa: SIM109 - a tuple costs time here
                    continue
                if other == FREE:
                    label[near] = own
                    if z[near] <= level:
                        local[near] = level
                        queue[tail] = near
                        tail += 1
                    continue
                if other == NODATA:
                    other = ocean
                elif z[near] > level:
                    continue
                one, two = _find(parent, own), _find(parent, other)
                if one != two:
                    parent[max(one, two)] = min(one, two)
                    merged[count, 0], merged[count, 1] = own, other
                    spill[count] = level
                    count += 1
    return count


# Across tiles -----------------------------------------------------------------------------------------------------------------------------


@numba.njit(nogil=True, cache=True)
def _drain(a: np.ndarray, b: np.ndarray, height: np.ndarray, ocean: int) -> np.ndarray:
    """Return for each node the height at which it is joined to the ocean; pairs come in rising order.

    The members of a set are a circle of links, so that two are joined by crossing one link of each, and all that a meeting with the ocean
    frees are met by walking along theirs once.
    """
    parent = np.arange(ocean + 1)
    size = np.ones(ocean + 1, np.int64)
    link = np.arange(ocean + 1)
    level = np.full(ocean, np.inf, height.dtype)
    for i in range(len(height)):
        one, two = _find(parent, a[i]), _find(parent, b[i])
        if one == two:
            continue
        if two == _find(parent, ocean):
            one, two = two, one
        if one == _find(parent, ocean):
            member = two
            while True:
                level[member] = height[i]
                member = link[member]
                if member == two:
                    break
            parent[two] = one
            continue
        if size[one] < size[two]:
            one, two = two, one
        parent[two] = one
        size[one] += size[two]
        link[one], link[two] = link[two], link[one]
    return level
