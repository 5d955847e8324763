"""Which dark bodies are water: decided for a body as a whole, by how much of it is dark enough and how it stands out of what surrounds it.

Bodies are connected components. Whole numbers are added up over each, so that the decision does not depend on the tiles that it spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Final

import numba
import numpy as np

from mdive.algorithms.components import CORNERS, SETTLED, collect, edges_of, label_block, unite
from mdive.model.plan import Grid
from mdive.pipeline.ground import least_pixels
from mdive.plugins import Focal, Fraction, Global, Hectares, Local, Window, operation

LOWEST: Final = -60.0
STEP: Final = 0.1
LEVELS: Final = 1024
"""Levels of backscatter in steps of 0.1 dB from -60 dB on, so that their sums and squares are whole numbers; 0 is unknown."""

RIM: Final = 5
"""Pixels around a body that it is compared with: about as many as the bodies in doubt have, of 40 to 400 pixels."""
DISTINCT: Final = 1.5
"""Least Ashman's D between a body and its rim, √2 |μ₁ − μ₂| / √(σ₁² + σ₂²): that of DSWx-S1 for the modes of a component. Land that grows
darker without an edge stays below."""
DOUBTED: Final = 40
"""Pixels from which a body must be distinct (DSWx-S1): the moments of fewer say little."""

AREA, SEEDS, KNOWN, SUM, SQUARES, RIM_KNOWN, RIM_SUM, RIM_SQUARES = range(8)
"""What is known of a body, one column each: its pixels; those that are seeds; those that have a level, the sum of their levels and of the
squares; the same of the pixels in its rim, which count once for each pixel of the body's edge that they are near to."""
COLUMNS: Final = 8
_SUM_AT: Final = 8
_SQUARES_AT: Final = 32
"""Bits at which sums begin in a packed number: at most 121 pixels, 121 x 1023 and 121 x 1023² (27 bits)."""

Part = dict[str, np.ndarray]
Rule = Callable[[np.ndarray], np.ndarray]
"""Which bodies are chosen, given the table of what is known of them."""


@operation(Local(), dtype="uint16", fill=0)
def darkness_levels(co: np.ndarray, cross: np.ndarray, known: np.ndarray, /) -> np.ndarray:
    """Return backscatter as a whole number: the mean of both polarisations in dB, or the one that is there, in steps of 0.1 dB.

    Parameters
    ----------
    co, cross
        dB, (y, x), NaN where not valid.
    known
        Where something is said about water, (y, x) bool: what is said nothing about is neither a body nor its surroundings.

    Returns
    -------
    1 … 1023 from -60 dB on; 0 where not known, and where neither is valid.
    """
    both = np.where(np.isnan(co), cross, np.where(np.isnan(cross), co, np.float32(0.5) * (co + cross)))
    told = known & np.isfinite(both)
    steps = np.rint((np.where(told, both, np.float32(LOWEST)) - np.float32(LOWEST)) / np.float32(STEP))
    return np.where(told, np.clip(steps, 1, LEVELS - 1), 0).astype("uint16")


@operation(Focal(RIM), dtype="int64", fill=0)
def rim_sums(levels: np.ndarray, bodies: np.ndarray, /) -> np.ndarray:
    """Add up the levels around the pixels at the edges of bodies.

    Parameters
    ----------
    levels
        From ``darkness_levels``, (y, x).
    bodies
        (y, x) bool.

    Returns
    -------
    At pixels of a body with a side to what is none: count, sum and sum of squares of the levels of the pixels within ``RIM`` that are in no
    body, packed into one number; elsewhere 0.
    """
    out = np.zeros(levels.shape, dtype="int64")
    _rims(np.ascontiguousarray(levels), np.ascontiguousarray(bodies), out)
    return out


def _decide(parts: Iterable[tuple[Window, Part]], rule: Rule) -> list[np.ndarray]:
    """Solve: what is known of each body, over all tiles that it spans, and which are chosen."""
    windows, found = collect(parts)
    roots, offsets = unite(windows, found, CORNERS)
    table = np.zeros((len(roots), COLUMNS), dtype="int64")
    if found:
        np.add.at(table, roots, np.concatenate([p["table"] for p in found]))
    chosen = rule(table)[roots]
    return [np.concatenate([[False], chosen[a:b]]) for a, b in pairwise(offsets)]


def _map(bodies: np.ndarray, seed: np.ndarray, levels: np.ndarray, rims: np.ndarray, rule: Rule) -> tuple[np.ndarray, Part]:
    """Map: label the bodies of a tile, and settle those that do not reach its edge."""
    labels, count = label_block(np.ascontiguousarray(bodies), CORNERS)
    table = np.zeros((count + 1, COLUMNS), dtype="int64")
    _tell(labels, np.ascontiguousarray(seed), np.ascontiguousarray(levels), np.ascontiguousarray(rims), table)
    border = np.zeros(count + 1, dtype=bool)
    for edge in edges_of(labels).values():
        border[edge] = True
    border[0] = False
    inside = ~border
    inside[0] = False
    code = np.zeros(count + 1, dtype="int32")
    code[inside & rule(table)] = SETTLED
    open_ = np.flatnonzero(border)
    code[open_] = np.arange(1, len(open_) + 1)
    kept = code[labels]
    return kept, {"area": table[open_, AREA], "table": table[open_], **edges_of(np.maximum(kept, 0))}


def _apply(kept: np.ndarray, state: np.ndarray, **_: float) -> np.ndarray:
    chosen: np.ndarray = (kept == SETTLED) | state[np.maximum(kept, 0)]
    return chosen


def _solve_water(parts: Iterable[tuple[Window, Part]], *, grid: Grid, minimum_area: float, seed_share: float) -> list[np.ndarray]:
    return _decide(parts, partial(_water, least=least_pixels(minimum_area, grid), seed_share=seed_share))


@operation(Global(solve=_solve_water, apply=_apply), dtype="bool")
def water_bodies(
    seed: np.ndarray,
    grow: np.ndarray,
    levels: np.ndarray,
    rims: np.ndarray,
    /,
    *,
    grid: Grid,
    minimum_area: Hectares = 0.3,
    seed_share: Fraction = 0.4,
) -> tuple[np.ndarray, Part]:
    """Return the components of ``grow`` (connected also at corners) that are water as a whole.

    A body must have its share of seeds. One seed would not do: the darkest of many pixels lies the further from their middle the more
    there are, so that any large dark field would hold one. And a body must be distinct from what surrounds it, if it is of a size that can be told.

    Parameters
    ----------
    seed
        Pixels that are more likely water than not by themselves, (y, x) bool; those outside of ``grow`` count for nothing.
    grow
        Pixels that belong to a body, if it is water.
    levels, rims
        From ``darkness_levels``, and from ``rim_sums`` of it and ``grow``.
    minimum_area
        Least area of a body; one that the edge of the grid cuts counts with what is inside.
    seed_share
        Least share of seeds, and at least one.

    References
    ----------
    Ashman, Bird and Zepf (1994), 10.1086/117248, for D; OPERA DSWx-S1 algorithm, for its use on components.
    """
    return _map(grow, seed, levels, rims, partial(_water, least=least_pixels(minimum_area, grid), seed_share=seed_share))


def _solve_surrounded(parts: Iterable[tuple[Window, Part]]) -> list[np.ndarray]:
    return _decide(parts, _high)


@operation(Global(solve=_solve_surrounded, apply=_apply), dtype="bool")
def surrounded(bodies: np.ndarray, rims: np.ndarray, /) -> tuple[np.ndarray, Part]:
    """Return the components of a mask (connected also at corners) around which there is more of one kind than of the other.

    Parameters
    ----------
    bodies
        (y, x) bool.
    rims
        From ``rim_sums`` of ``bodies`` and of levels that are 2 of the one kind, 1 of the other, and 0 of what counts for neither.
    """
    return _map(bodies, bodies, np.zeros(bodies.shape, dtype="uint16"), rims, _high)


def _high(table: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = 2 * table[:, RIM_SUM] > 3 * table[:, RIM_KNOWN]
    return chosen


def _water(table: np.ndarray, least: int, seed_share: float) -> np.ndarray:
    """Return which bodies are water."""
    area, seeds = table[:, AREA], table[:, SEEDS]
    large: np.ndarray = (area >= least) & (seeds >= 1) & (seeds >= seed_share * area)
    # A rim of less than the body's own area is that of holes, or of a body that the grid cuts: no sample of what surrounds it.
    compared = (area >= DOUBTED) & (table[:, RIM_KNOWN] >= area)
    return large & (~compared | (separation(table) > DISTINCT))


def separation(table: np.ndarray) -> np.ndarray:
    """Return Ashman's D of each body from its rim, positive where it is the darker one; 0 where nothing is known of either."""
    n, total, squares = (table[:, k].astype("float64") for k in (KNOWN, SUM, SQUARES))
    rim_n, rim_total, rim_squares = (table[:, k].astype("float64") for k in (RIM_KNOWN, RIM_SUM, RIM_SQUARES))
    told = (n > 0) & (rim_n > 0)
    n, rim_n = np.maximum(n, 1.0), np.maximum(rim_n, 1.0)
    mean, rim_mean = total / n, rim_total / rim_n
    spread = np.maximum(squares / n - mean**2, 0.0) + np.maximum(rim_squares / rim_n - rim_mean**2, 0.0)
    # A level holds a uniform piece of a step.
    d: np.ndarray = np.sqrt(2.0) * (rim_mean - mean) / np.sqrt(spread + 1.0 / 6.0)
    return np.where(told, d, 0.0)


@numba.njit(nogil=True, cache=True)
def _tell(labels: np.ndarray, seed: np.ndarray, levels: np.ndarray, rims: np.ndarray, table: np.ndarray) -> None:
    rows, cols = labels.shape
    for r in range(rows):
        for c in range(cols):
            k = labels[r, c]
            if k == 0:
                continue
            table[k, 0] += 1
            if seed[r, c]:
                table[k, 1] += 1
            level = np.int64(levels[r, c])
            if level > 0:
                table[k, 2] += 1
                table[k, 3] += level
                table[k, 4] += level * level
            packed = rims[r, c]
            if packed:
                table[k, 5] += packed & ((1 << _SUM_AT) - 1)
                table[k, 6] += (packed >> _SUM_AT) & ((1 << (_SQUARES_AT - _SUM_AT)) - 1)
                table[k, 7] += packed >> _SQUARES_AT


@numba.njit(nogil=True, cache=True)
def _rims(levels: np.ndarray, bodies: np.ndarray, out: np.ndarray) -> None:
    rows, cols = bodies.shape
    for r in range(rows):
        for c in range(cols):
            if not bodies[r, c]:
                continue
            above, below = r > 0 and not bodies[r - 1, c], r < rows - 1 and not bodies[r + 1, c]
            left, right = c > 0 and not bodies[r, c - 1], c < cols - 1 and not bodies[r, c + 1]
            if not (above or below or left or right):
                continue
            n, total, squares = np.int64(0), np.int64(0), np.int64(0)
            for i in range(max(r - RIM, 0), min(r + RIM + 1, rows)):
                for j in range(max(c - RIM, 0), min(c + RIM + 1, cols)):
                    level = np.int64(levels[i, j])
                    if level > 0 and not bodies[i, j]:
                        n += 1
                        total += level
                        squares += level * level
            out[r, c] = n | (total << _SUM_AT) | (squares << _SQUARES_AT)
