"""Connected components of rasters of any size, exact for any tiling: labels and what is known of each, hysteresis, sieve and holes.

Each tile labels its own pixels and settles what does not reach its edge; only components that do are united across tiles, by a union-find
over the edges. So memory follows the length of the edges, not the area, and the result is that of one pass over the whole array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, Literal

import numba
import numpy as np
from pydantic import Field

from mdive.model.plan import Grid
from mdive.pipeline.ground import least_pixels
from mdive.plugins import Global, Hectares, Reduction, Window, operation

SETTLED: Final = -1
"""In what a map keeps: the pixel belongs to a chosen component that does not reach the tile's edge."""

CORNERS: Final = 8
SIDES: Final = 4
"""Which neighbours connect: also those at corners, or only those at sides. What is 8-connected is enclosed by what is 4-connected."""

Neighbours = Annotated[Literal[4, 8], Field(description="pixels that connect: 4 share a side, 8 a side or a corner")]

Part = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Components:
    """What is known of a set of components when its fate is decided; arrays with one number per component."""

    area: np.ndarray
    """Pixels."""
    flag: np.ndarray
    """Whether any pixel carries the flag of the operation (a seed, an unknown pixel)."""
    edge: np.ndarray
    """Whether it touches the edge of the grid."""


Rule = Callable[[Components, int], np.ndarray]
"""Which components are chosen, given the least number of pixels."""


# Operations -------------------------------------------------------------------------------------------------------------------------------


def _strong(found: Components, least: int) -> np.ndarray:
    chosen: np.ndarray = found.flag & (found.area >= least)
    return chosen


def _large(found: Components, least: int) -> np.ndarray:
    chosen: np.ndarray = found.area >= least
    return chosen


def _enclosed(found: Components, least: int) -> np.ndarray:
    chosen: np.ndarray = (found.area < least) & ~found.flag & ~found.edge
    return chosen


def _chosen(kept: np.ndarray, state: np.ndarray, **_: float) -> np.ndarray:
    """Apply: settled components, and those that the solve chose."""
    chosen: np.ndarray = (kept == SETTLED) | state[np.maximum(kept, 0)]
    return chosen


def _solve_strong(parts: Iterable[tuple[Window, Part]], *, grid: Grid, minimum_area: float) -> list[np.ndarray]:
    return _decide(parts, _strong, least_pixels(minimum_area, grid), CORNERS)


@operation(Global(solve=_solve_strong, apply=_chosen), dtype="bool")
def hysteresis(seed: np.ndarray, grow: np.ndarray, /, *, grid: Grid, minimum_area: Hectares = 0.0) -> tuple[np.ndarray, Part]:
    """Return the components of ``grow`` that contain a pixel of ``seed``: region growing to its fixed point.

    Parameters
    ----------
    seed
        Pixels that certainly belong, (y, x) bool; those outside of ``grow`` count for nothing.
    grow
        Pixels that belong if they are connected to a seed, also at corners.
    minimum_area
        Components smaller than this are dropped as well; a component that the edge of the grid cuts counts with what is inside.

    References
    ----------
    Canny (1986), 10.1109/TPAMI.1986.4767851.
    """
    return _map(grow, seed & grow, _strong, least_pixels(minimum_area, grid), CORNERS)


def _solve_large(parts: Iterable[tuple[Window, Part]], *, grid: Grid, minimum_area: float) -> list[np.ndarray]:
    return _decide(parts, _large, least_pixels(minimum_area, grid), CORNERS)


@operation(Global(solve=_solve_large, apply=_chosen), dtype="bool")
def sieve(mask: np.ndarray, /, *, grid: Grid, minimum_area: Hectares = 0.3) -> tuple[np.ndarray, Part]:
    """Drop the components of a mask (connected also at corners) that are smaller than the minimum mapping unit.

    Parameters
    ----------
    mask
        (y, x) bool.
    minimum_area
        Least area of a component; one that the edge of the grid cuts counts with what is inside.
    """
    return _map(mask, np.zeros_like(mask), _large, least_pixels(minimum_area, grid), CORNERS)


def _solve_enclosed(parts: Iterable[tuple[Window, Part]], *, grid: Grid, minimum_area: float) -> list[np.ndarray]:
    return _decide(parts, _enclosed, least_pixels(minimum_area, grid), SIDES)


@operation(Global(solve=_solve_enclosed, apply=_chosen), dtype="bool")
def holes(mask: np.ndarray, known: np.ndarray, /, *, grid: Grid, minimum_area: Hectares = 0.3) -> tuple[np.ndarray, Part]:
    """Return the holes in a mask that are smaller than the minimum mapping unit.

    A hole is a component of what is not in the mask (connected at sides only, since the mask connects at corners) that neither reaches the
    edge of the grid nor holds a pixel that is not known: of those nobody can tell how large they are.

    Parameters
    ----------
    mask
        (y, x) bool.
    known
        Where the mask means something, (y, x) bool.
    minimum_area
        Holes of this area and more stay open and are not returned.
    """
    return _map(~mask, ~known & ~mask, _enclosed, least_pixels(minimum_area, grid), SIDES)


def _solve_label(parts: Iterable[tuple[Window, Part]], *, neighbours: int) -> list[np.ndarray]:
    windows, found = collect(parts)
    roots, offsets = unite(windows, found, neighbours)
    first = np.concatenate([p["first"] for p in found]) if found else np.empty(0, "int64")
    lowest = np.full(len(first), np.iinfo("int64").max)
    np.minimum.at(lowest, roots, first)
    _, rank = np.unique(lowest[roots], return_inverse=True)
    return [np.concatenate([[0], rank[a:b] + 1]).astype("int32") for a, b in pairwise(offsets)]


@operation(Global(solve=_solve_label, apply=lambda kept, state, **_: state[kept]), dtype="int32")
def label(mask: np.ndarray, /, *, window: Window, neighbours: Neighbours = CORNERS) -> tuple[np.ndarray, Part]:
    """Return the connected components of a mask as numbers.

    Parameters
    ----------
    mask
        (y, x) bool.
    neighbours
        8 connects pixels also at corners, 4 at sides only.

    Returns
    -------
    0 where the mask is false; else 1, 2, 3 … in the order in which a walk along the rows of the whole grid meets the components, which is
    the numbering of ``skimage.measure.label`` and ``scipy.ndimage.label``.
    """
    labels, count = label_block(np.ascontiguousarray(mask), neighbours)
    # Rows in the upper half of the number: an order of pixels that needs no width of the grid.
    first = _first(labels, count, window.row, window.col)
    return labels, {"first": first, **edges_of(labels)}


def _merge_tables(parts: Iterable[Part]) -> Part:
    """Gather what blocks know of the same components."""
    found = list(parts)
    every = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    count = int(every["label"].max(initial=0)) + 1
    table: Part = {}
    for name, (ufunc, start) in COLUMNS.items():
        table[name] = np.full(count, start, dtype="int64")
        ufunc.at(table[name], every["label"], every[name])
    table["first"] &= 0xFFFFFFFF
    return table


LAST: Final = np.iinfo("int64").max
COLUMNS: Final[Mapping[str, tuple[np.ufunc, int]]] = {
    "area": (np.add, 0),
    "flagged": (np.add, 0),
    "top": (np.minimum, LAST),
    "left": (np.minimum, LAST),
    "bottom": (np.maximum, 0),
    "right": (np.maximum, 0),
    "first": (np.minimum, LAST),
}
"""How the columns of a component table are gathered, and from what they start."""


@operation(Reduction(merge=_merge_tables), dtype="int64")
def component_table(labels: np.ndarray, flag: np.ndarray | None, /, *, window: Window) -> Part:
    """Tell what is known of each component; drop small ones first (``sieve``), since the table has a row for each.

    Parameters
    ----------
    labels
        From ``label``, (y, x).
    flag
        (y, x) bool: pixels that are counted per component (seeds, agreement with a reference), or None.

    Returns
    -------
    One block's table. In the state row i belongs to label i, so that ``table["area"][labels]`` looks it up; row 0 is a placeholder. Columns, int64:
    ``area`` and ``flagged`` in pixels; ``top``, ``left``, ``bottom``, ``right``, the box of its pixels in the grid, of which the latter two lie one
    beyond; ``first``, the column of its first pixel, which lies in row ``top``.
    """
    row, col = np.nonzero(labels)
    found, index = np.unique(labels[row, col], return_inverse=True)
    flagged = np.zeros(len(row), "int64") if flag is None else flag[row, col].astype("int64")
    row, col = row + window.row, col + window.col
    here = {
        "area": np.ones(len(row), "int64"),
        "flagged": flagged,
        "top": row,
        "left": col,
        "bottom": row + 1,
        "right": col + 1,
        "first": (row << 32) + col,
    }
    table: Part = {"label": found.astype("int64")}
    for name, (ufunc, start) in COLUMNS.items():
        table[name] = np.full(len(found), start, dtype="int64")
        ufunc.at(table[name], index, here[name])
    return table


# One tile ---------------------------------------------------------------------------------------------------------------------------------


def _map(mask: np.ndarray, flag: np.ndarray, rule: Rule, least: int, neighbours: int) -> tuple[np.ndarray, Part]:
    """Settle the components inside a tile; number those that reach its edge and keep what is known of them."""
    labels, count = label_block(np.ascontiguousarray(mask), neighbours)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    flagged = np.zeros(count + 1, dtype=bool)
    flagged[labels[flag]] = True
    border = np.zeros(count + 1, dtype=bool)
    for edge in edges_of(labels).values():
        border[edge] = True
    border[0] = False
    code = np.zeros(count + 1, dtype="int32")
    inside = ~border
    inside[0] = False
    code[inside & rule(Components(area, flagged, np.zeros_like(flagged)), least)] = SETTLED
    open_ = np.flatnonzero(border)
    code[open_] = np.arange(1, len(open_) + 1)
    kept = code[labels]
    return kept, {"area": area[open_].astype("int64"), "flag": flagged[open_], **edges_of(np.maximum(kept, 0))}


def edges_of(labels: np.ndarray) -> Part:
    """Return the outermost pixels of a block, side by side."""
    return {
        "top": np.ascontiguousarray(labels[0]),
        "bottom": np.ascontiguousarray(labels[-1]),
        "left": np.ascontiguousarray(labels[:, 0]),
        "right": np.ascontiguousarray(labels[:, -1]),
    }


@numba.njit(nogil=True, cache=True)
def _find(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit(nogil=True, cache=True)
def _join(parent: np.ndarray, a: int, b: int) -> int:
    a, b = _find(parent, a), _find(parent, b)
    low, high = min(a, b), max(a, b)
    parent[high] = low
    return low


@numba.njit(nogil=True, cache=True)
def label_block(values: np.ndarray, neighbours: int) -> tuple[np.ndarray, int]:
    """Return the components of equal values of a block, numbered from 1 by their first pixels, and how many they are; 0 is background."""
    # Two walks along the rows. The smaller root always wins, and the first pixel of a component always opens a new number: so the final
    # numbers follow the first pixels.
    rows, cols = values.shape
    labels = np.zeros((rows, cols), dtype=np.int32)
    # Each pixel may differ from all before it; what is not used takes no memory.
    parent = np.empty(rows * cols + 1, dtype=np.int32)
    used = 0
    for r in range(rows):
        for c in range(cols):
            if not values[r, c]:
                continue
            here = 0
            if c > 0 and values[r, c - 1] == values[r, c]:
                here = labels[r, c - 1]
            if r > 0:
                for d in (-1, 0, 1):
                    if (d == 0 or neighbours == CORNERS) and 0 <= c + d < cols and values[r - 1, c + d] == values[r, c]:
                        here = _join(parent, here, labels[r - 1, c + d]) if here else labels[r - 1, c + d]
            if not here:
                used += 1
                parent[used] = used
                here = used
            labels[r, c] = here
    final = np.zeros(used + 1, dtype=np.int32)
    count = 0
    for i in range(1, used + 1):
        root = _find(parent, i)
        if root == i:
            count += 1
            final[i] = count
        else:
            final[i] = final[root]
    for r in range(rows):
        for c in range(cols):
            labels[r, c] = final[labels[r, c]]
    return labels, count


@numba.njit(nogil=True, cache=True)
def _first(labels: np.ndarray, count: int, row: int, col: int) -> np.ndarray:
    first = np.full(count, -1, dtype=np.int64)
    rows, cols = labels.shape
    for r in range(rows):
        for c in range(cols):
            k = labels[r, c] - 1
            if k >= 0 and first[k] < 0:
                first[k] = ((r + row) << 32) + c + col
    return first


# Across tiles -----------------------------------------------------------------------------------------------------------------------------


def _decide(parts: Iterable[tuple[Window, Part]], rule: Rule, least: int, neighbours: int) -> list[np.ndarray]:
    """Unite components across tiles and choose; one boolean table per tile, by number of the component there (0 is background)."""
    windows, found = collect(parts)
    roots, offsets = unite(windows, found, neighbours)
    n = len(roots)
    area, flag, edge = np.zeros(n, "int64"), np.zeros(n, bool), np.zeros(n, bool)
    if found:
        np.add.at(area, roots, np.concatenate([p["area"] for p in found]))
        np.logical_or.at(flag, roots, np.concatenate([p["flag"] for p in found]))
        edge[roots[_at_edge(windows, found, offsets)]] = True
    chosen = rule(Components(area, flag, edge), least)[roots]
    return [np.concatenate([[False], chosen[a:b]]) for a, b in pairwise(offsets)]


def collect(parts: Iterable[tuple[Window, Part]]) -> tuple[list[Window], list[Part]]:
    """Return windows and parts as two lists."""
    windows, found = [], []
    for window, part in parts:
        windows.append(window)
        found.append(part)
    return windows, found


def _count(part: Part) -> int:
    return len(part["area"] if "area" in part else part["first"])


def unite(windows: list[Window], found: list[Part], neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the root of each component (tile after tile), and where each tile's begin.

    Components of neighbouring tiles are united where they touch; if their parts tell ``value``, where that is equal.
    """
    offsets = np.concatenate([[0], np.cumsum([_count(p) for p in found])]).astype("int64")
    parent = np.arange(offsets[-1] + 1, dtype="int64")
    value = np.concatenate([np.zeros(1, "int64"), *(p.get("value", np.zeros(_count(p), "int64")) for p in found)])
    for line, other, start in seams(windows, found, offsets):
        _join_lines(parent, value, line, other, start, neighbours)
    _flatten(parent)
    return parent[1:] - 1, offsets


def seams(windows: list[Window], found: list[Part], offsets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield the lines of pixels along which tiles meet: one side, the other, and the place in the second where the first begins.

    Tiles come row after row of a rectangular partition; each is followed by its left and its upper seam. The upper one reaches over all
    columns of the grid, since tiles also meet at corners. Pixels are numbers of components, counted over all tiles from 1.
    """
    width = max((w.col_end for w in windows), default=0)
    above, below = np.zeros(width, "int64"), np.zeros(width, "int64")
    right = np.zeros(0, "int64")
    current = None
    for window, part, offset in zip(windows, found, offsets[:-1], strict=True):
        edges = {k: np.where(part[k] > 0, part[k] + offset, 0) for k in ("top", "bottom", "left", "right")}
        if window.row != current:
            current, above, below = window.row, below, np.zeros(width, "int64")
        elif window.col:
            yield edges["left"], right, 0
        yield edges["top"], above, window.col
        below[window.col : window.col_end] = edges["bottom"]
        right = edges["right"]


@numba.njit(nogil=True, cache=True)
def _join_lines(parent: np.ndarray, value: np.ndarray, line: np.ndarray, other: np.ndarray, start: int, neighbours: int) -> None:
    """Unite what touches across two parallel lines of pixels; ``line[i]`` lies beside ``other[start + i]``."""
    reach = 1 if neighbours == CORNERS else 0
    for i in range(len(line)):
        if line[i] == 0:
            continue
        for j in range(max(start + i - reach, 0), min(start + i + reach + 1, len(other))):
            if other[j] and value[other[j]] == value[line[i]]:
                _join(parent, line[i], other[j])


@numba.njit(nogil=True, cache=True)
def _flatten(parent: np.ndarray) -> None:
    for i in range(len(parent)):
        parent[i] = _find(parent, i)


def _at_edge(windows: list[Window], found: list[Part], offsets: np.ndarray) -> np.ndarray:
    """Return the indices of the components that touch the edge of the grid."""
    bottom, right = max(w.row_end for w in windows), max(w.col_end for w in windows)
    touching = []
    for window, part, offset in zip(windows, found, offsets[:-1], strict=True):
        outer = {"top": window.row == 0, "bottom": window.row_end == bottom, "left": window.col == 0, "right": window.col_end == right}
        touching += [part[side][part[side] > 0] - 1 + offset for side, at in outer.items() if at]
    return np.unique(np.concatenate(touching)) if touching else np.empty(0, "int64")
