"""Connected components of rasters of any size, exact for any tiling: labels, hysteresis, sieve and holes.

Each tile labels its own pixels and settles what does not reach its edge; only components that do are united across tiles, by a union-find
over the edges. So memory follows the length of the edges, not the area, and the result is that of one pass over the whole array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numba
import numpy as np

from mdive.algorithms.ground import least_pixels
from mdive.model.plan import Grid
from mdive.plugins import Global, Hectares, Window, operation

SETTLED: Final = -1
"""In what a map keeps: the pixel belongs to a chosen component that does not reach the tile's edge."""

CORNERS: Final = 8
SIDES: Final = 4
"""Which neighbours connect: also those at corners, or only those at sides. What is 8-connected is enclosed by what is 4-connected."""

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


def _solve_label(parts: Iterable[tuple[Window, Part]]) -> list[np.ndarray]:
    windows, found = _collect(parts)
    roots, offsets = _unite(windows, found, CORNERS)
    first = np.concatenate([p["first"] for p in found]) if found else np.empty(0, "int64")
    lowest = np.full(len(first), np.iinfo("int64").max)
    np.minimum.at(lowest, roots, first)
    _, rank = np.unique(lowest[roots], return_inverse=True)
    return [np.concatenate([[0], rank[a:b] + 1]).astype("int32") for a, b in pairwise(offsets)]


@operation(Global(solve=_solve_label, apply=lambda kept, state, **_: state[kept]), dtype="int32")
def label(mask: np.ndarray, /, *, window: Window) -> tuple[np.ndarray, Part]:
    """Return the components of a mask, connected also at corners, as numbers.

    Parameters
    ----------
    mask
        (y, x) bool.

    Returns
    -------
    0 where the mask is false; else 1, 2, 3 … in the order in which a walk along the rows of the whole grid meets the components, which is
    the numbering of ``skimage.measure.label`` and ``scipy.ndimage.label``.
    """
    labels, count = _label(np.ascontiguousarray(mask), CORNERS)
    # Rows in the upper half of the number: an order of pixels that needs no width of the grid.
    first = _first(labels, count, window.row, window.col)
    return labels, {"first": first, **_edges(labels)}


# One tile ---------------------------------------------------------------------------------------------------------------------------------


def _map(mask: np.ndarray, flag: np.ndarray, rule: Rule, least: int, neighbours: int) -> tuple[np.ndarray, Part]:
    """Settle the components inside a tile; number those that reach its edge and keep what is known of them."""
    labels, count = _label(np.ascontiguousarray(mask), neighbours)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    flagged = np.zeros(count + 1, dtype=bool)
    flagged[labels[flag]] = True
    border = np.zeros(count + 1, dtype=bool)
    for edge in _edges(labels).values():
        border[edge] = True
    border[0] = False
    code = np.zeros(count + 1, dtype="int32")
    inside = ~border
    inside[0] = False
    code[inside & rule(Components(area, flagged, np.zeros_like(flagged)), least)] = SETTLED
    open_ = np.flatnonzero(border)
    code[open_] = np.arange(1, len(open_) + 1)
    kept = code[labels]
    return kept, {"area": area[open_].astype("int64"), "flag": flagged[open_], **_edges(np.maximum(kept, 0))}


def _edges(labels: np.ndarray) -> Part:
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
def _label(mask: np.ndarray, neighbours: int) -> tuple[np.ndarray, int]:
    # Two walks along the rows. The smaller root always wins, and the first pixel of a component always opens a new number: so the final
    # numbers follow the first pixels.
    rows, cols = mask.shape
    labels = np.zeros((rows, cols), dtype=np.int32)
    parent = np.zeros(rows * ((cols + 1) // 2) + 1, dtype=np.int32)
    used = 0
    for r in range(rows):
        for c in range(cols):
            if not mask[r, c]:
                continue
            here = 0
            if c > 0 and labels[r, c - 1]:
                here = labels[r, c - 1]
            if r > 0:
                for d in (-1, 0, 1):
                    if (d == 0 or neighbours == CORNERS) and 0 <= c + d < cols and labels[r - 1, c + d]:
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
    windows, found = _collect(parts)
    roots, offsets = _unite(windows, found, neighbours)
    n = len(roots)
    area, flag, edge = np.zeros(n, "int64"), np.zeros(n, bool), np.zeros(n, bool)
    if found:
        np.add.at(area, roots, np.concatenate([p["area"] for p in found]))
        np.logical_or.at(flag, roots, np.concatenate([p["flag"] for p in found]))
        edge[roots[_at_edge(windows, found, offsets)]] = True
    chosen = rule(Components(area, flag, edge), least)[roots]
    return [np.concatenate([[False], chosen[a:b]]) for a, b in pairwise(offsets)]


def _collect(parts: Iterable[tuple[Window, Part]]) -> tuple[list[Window], list[Part]]:
    windows, found = [], []
    for window, part in parts:
        windows.append(window)
        found.append(part)
    return windows, found


def _count(part: Part) -> int:
    return len(part["area"] if "area" in part else part["first"])


def _unite(windows: list[Window], found: list[Part], neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the root of each component (tile after tile), and where each tile's begin.

    Tiles come row after row of a rectangular partition; a component of one tile is united with those of the tiles to the left and above,
    corners included.
    """
    offsets = np.concatenate([[0], np.cumsum([_count(p) for p in found])]).astype("int64")
    parent = np.arange(offsets[-1] + 1, dtype="int64")
    width = max((w.col_end for w in windows), default=0)
    above, below = np.zeros(width, "int64"), np.zeros(width, "int64")
    right = np.zeros(0, "int64")
    current = None
    for window, part, offset in zip(windows, found, offsets[:-1], strict=True):
        edges = {k: np.where(part[k] > 0, part[k] + offset, 0) for k in ("top", "bottom", "left", "right")}
        if window.row != current:
            current, above, below = window.row, below, np.zeros(width, "int64")
        elif window.col:
            _join_lines(parent, edges["left"], right, 0, neighbours)
        _join_lines(parent, edges["top"], above, window.col, neighbours)
        below[window.col : window.col_end] = edges["bottom"]
        right = edges["right"]
    _flatten(parent)
    return parent[1:] - 1, offsets


@numba.njit(nogil=True, cache=True)
def _join_lines(parent: np.ndarray, line: np.ndarray, other: np.ndarray, start: int, neighbours: int) -> None:
    """Unite what touches across two parallel lines of pixels; ``line[i]`` lies beside ``other[start + i]``."""
    reach = 1 if neighbours == CORNERS else 0
    for i in range(len(line)):
        if line[i] == 0:
            continue
        for j in range(max(start + i - reach, 0), min(start + i + reach + 1, len(other))):
            if other[j]:
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
