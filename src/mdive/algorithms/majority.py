"""A minimum mapping unit for class rasters: what is too small takes the class of most of its border, exactly for any tiling.

A block settles all that is settled by what it holds. Left over are the components that reach its edge and those whose fate hangs on
them; these, with the lengths of their common borders, make the small graph that is solved for the whole grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Final

import numba
import numpy as np
from pydantic import Field

from mdive.algorithms.components import SIDES, Part, collect, edges_of, label_block, seams, unite
from mdive.algorithms.tables import FILL
from mdive.model.plan import Grid
from mdive.pipeline.ground import least_pixels
from mdive.plugins import Global, Hectares, Window, operation

Codes = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(description="codes that mean no class: not seen, masked, fill")]

PENDING: Final = -1
"""Round of a component that has no class yet."""
HANGING: Final = -2
"""Round of a component whose class hangs on what lies beyond the block."""


def _solve(parts: Iterable[tuple[Window, Part]], *, grid: Grid, minimum_area: float, nodata: tuple[int, ...]) -> list[np.ndarray]:  # noqa: ARG001
    windows, found = collect(parts)
    roots, offsets = unite(windows, found, SIDES)
    count = len(roots)
    own = np.concatenate([np.empty(0, "int64"), *(p["value"] for p in found)])
    area = np.zeros(count, "int64")
    np.add.at(area, roots, np.concatenate([np.empty(0, "int64"), *(p["area"] for p in found)]))
    large = (area >= least_pixels(minimum_area, grid))[roots]

    # Neighbours that blocks have settled stand behind the components, one for each class and round.
    settled = np.concatenate([np.empty((0, 2), "int64"), *(p["settled"] for p in found)])
    kinds, kind = np.unique(settled, axis=0, return_inverse=True)
    edges = [np.empty((0, 3), "int64")]
    kind_at = np.cumsum([0, *(len(p["settled"]) for p in found)])
    for part, offset, at in zip(found, offsets[:-1], kind_at[:-1], strict=True):
        one, other, length = part["edge"].T
        inside = other > 0
        target = np.empty(len(one), "int64")
        target[inside] = roots[other[inside] - 1 + offset]
        target[~inside] = count + kind.ravel()[at - other[~inside] - 1]
        edges.append(np.stack([roots[one - 1 + offset], target, length], axis=1))
    for line, other, start in seams(windows, found, offsets):
        beside = other[start : start + len(line)]
        both = (line > 0) & (beside > 0)
        one, two = roots[line[both] - 1], roots[beside[both] - 1]
        once = np.ones(len(one), "int64")
        edges += [np.stack([one, two, once], axis=1), np.stack([two, one, once], axis=1)]

    value = np.concatenate([own, kinds[:, 0]])
    when = np.concatenate([np.where(large, 0, PENDING), kinds[:, 1]])
    _settle(np.concatenate(edges), value, when)
    return [np.concatenate([[0], value[roots[a:b]]]).astype("uint8") for a, b in pairwise(offsets)]


def _apply(kept: np.ndarray, state: np.ndarray, **_: object) -> np.ndarray:
    """Settled pixels hold their class below zero, the others the number of their component."""
    return np.where(kept < 0, -1 - kept, state[np.maximum(kept, 0)])


@operation(Global(solve=_solve, apply=_apply), dtype="uint8", working=30)
def majority_sieve(classes: np.ndarray, /, *, grid: Grid, minimum_area: Hectares = 0.3, nodata: Codes = (FILL,)) -> tuple[np.ndarray, Part]:
    """Give each component of a class raster that is smaller than the minimum mapping unit the class of most of its border.

    Components connect at sides. Only those that are large enough count as neighbours at first; a small one among small ones follows in a later
    round, when one of its neighbours has been settled. So afterwards all components are large enough, but for groups of small ones that
    nothing but nodata and the edge of the grid surrounds: these stay as they are.

    Parameters
    ----------
    classes
        (y, x) uint8.
    minimum_area
        Least area of a component; one that the edge of the grid cuts counts with what is inside.
    nodata
        Codes that are no class. Their pixels neither change nor lend their code to a neighbour, and their borders do not count.

    Returns
    -------
    (y, x) uint8. Where two classes have equally long borders (counted in sides of pixels), the lower code wins.
    """
    least = least_pixels(minimum_area, grid)
    known = ~np.isin(classes, nodata)
    labels, count = label_block(np.where(known, classes.astype("int32") + 1, 0), SIDES)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    value = np.zeros(count + 1, "int64")
    value[labels[known]] = classes[known]
    border = np.zeros(count + 1, dtype=bool)
    for line in edges_of(labels).values():
        border[line] = True
    border[0] = False

    when = np.where(area >= least, 0, np.where(border, HANGING, PENDING))
    key, length = np.unique(_borders(labels, area < least), return_counts=True)
    edges = np.stack([key >> 32, key & 0xFFFFFFFF, length], axis=1)
    _settle(edges, value, when)

    open_ = np.flatnonzero(border | (when == HANGING))
    number = np.zeros(count + 1, "int64")
    number[open_] = np.arange(1, len(open_) + 1)
    code = np.where(number > 0, number, -1 - value)
    kept = np.where(known, code[labels], -1 - classes.astype("int64")).astype("int32")

    edges = edges[when[edges[:, 0]] == HANGING]
    settled, kind = np.unique(np.stack([value, when], axis=1)[edges[number[edges[:, 1]] == 0, 1]], axis=0, return_inverse=True)
    other = number[edges[:, 1]]
    other[other == 0] = -1 - kind.ravel()
    return kept, {
        "value": value[open_],
        "area": area[open_].astype("int64"),
        "edge": np.stack([number[edges[:, 0]], other, edges[:, 2]], axis=1),
        "settled": settled,
        **edges_of(np.maximum(kept, 0)),
    }


@numba.njit(nogil=True, cache=True)
def _borders(labels: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Return, for each side between two components, (one, other) as one number, if one is small, and the other way round."""
    rows, cols = labels.shape
    found = np.empty(16, np.int64)
    used = 0
    for r in range(rows):
        for c in range(cols):
            here = np.int64(labels[r, c])
            if here == 0:
                continue
            for dr, dc in ((0, 1), (1, 0)):
                if r + dr == rows or c + dc == cols:
                    continue
                there = np.int64(labels[r + dr, c + dc])
                if there == 0 or there == here:
                    continue
                if used + 2 > len(found):
                    longer = np.empty(2 * len(found), np.int64)
                    longer[:used] = found[:used]
                    found = longer
                if small[here]:
                    found[used] = here << 32 | there
                    used += 1
                if small[there]:
                    found[used] = there << 32 | here
                    used += 1
    return found[:used].copy()


def _settle(edges: np.ndarray, value: np.ndarray, when: np.ndarray) -> None:
    """Let components take the class of most of their border, round after round.

    Parameters
    ----------
    edges
        (n, 3): component, neighbour, length of a common border; several rows of one pair add up.
    value
        Class of each component, changed in place.
    when
        Round in which it had its class, 0 for those that keep their own; ``PENDING`` and ``HANGING``. Changed in place.
    """
    edges = edges[(edges[:, 0] != edges[:, 1]) & (when[edges[:, 0]] == PENDING)]
    current = 0
    while len(edges):
        current += 1
        one, other, length = edges.T
        round_ = when[other]
        hanging = np.unique(one[round_ == HANGING])
        when[hanging] = HANGING
        # What settles in this round does not yet count in it; nor does who hangs on the unknown settle.
        telling = (round_ >= 0) & (round_ < current) & (when[one] == PENDING)
        pair, index = np.unique(one[telling] << 32 | value[other[telling]], return_inverse=True)
        total = np.zeros(len(pair), "int64")
        np.add.at(total, index, length[telling])
        order = np.lexsort((pair & 0xFFFFFFFF, -total, pair >> 32))
        chosen, first = np.unique(pair[order] >> 32, return_index=True)
        value[chosen] = pair[order][first] & 0xFFFFFFFF
        when[chosen] = current
        if not len(chosen) and not len(hanging) and not (round_ >= current).any():
            return
        edges = edges[when[one] == PENDING]
