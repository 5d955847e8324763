"""How high a flood stands in each reach, from the heights above the drainage at which wet and dry ground was seen.

A stage h floods the cells of a reach whose height above the nearest drainage (HAND) is at most h. Counts of seen wet and dry cells by height are
all that the best stage depends on, so it is found exactly: no optimiser, no random start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import numba
import numpy as np
from pydantic import Field

from mdive.algorithms import flood_tables as flood
from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.pipeline.ground import least_pixels, pixel_metres
from mdive.plugins import Fraction, Hectares, Local, Metres, Reduction, Window, add, operation

Step = Annotated[float, Field(gt=0, description="height of a bin, m")]
Highest = Annotated[float, Field(gt=0, description="highest stage that is looked for, m above the drainage")]

NO_REACH: Final = -1
EDGE: Final = 1e-4
"""Bins. A height this little above the edge of a bin lies on it: 0.3 m as float32 is 0.30000001."""

EXACT: Final = 2**24
"""Whole numbers up to it are exact as float32."""

WET: Final = (flood.FLOOD, flood.PERMANENT_WATER, flood.FLOODED_VEGETATION, flood.PARTIAL_WATER)
"""Classes of a flood map that were seen as water; ``flood_tables.NOT_WATER`` alone was seen as dry."""

COLUMNS: Final = ("reach", "bin", "wet", "dry")


@operation(Local(), dtype="int64", fill=NO_REACH)
def reaches(drain: np.ndarray, /, *, grid: Grid, reach_length: Metres = 3000.0) -> np.ndarray:
    """Group cells that share a stretch of the drainage.

    Parameters
    ----------
    drain
        Which cell of the drainage each cell drains to, its row times the width of the grid plus its column (`terrain_drain.drain_id`), (y, x);
        negative or NaN where there is none. With ``reach_length`` 0 any labels from 0 will do.
    reach_length
        Edge of the squares, hung on the grid's upper left corner, in which cells of the drainage belong together. A single one has too few cells
        beside it to tell a stage from speckle; 3 km of a lowland river fall by a metre, and HAND is measured from the fallen bed. 0: every
        label is a reach of its own.

    Returns
    -------
    Number of the reach, (y, x), the same in any tile; -1 where there is none.

    Raises
    ------
    InputError
        If labels came as float32 and are too large to be exact.
    """
    none = ~(drain >= 0)
    if drain.dtype.kind == "f" and np.max(drain, initial=0, where=~none) > EXACT:
        raise InputError(
            f"drain ids reach {np.max(drain, where=~none, initial=0):.0f} and came as {drain.dtype}, which is exact up to {EXACT}.",
            "Give them to the operations 'reaches' and 'reach_counts' as int64, or let the DEM tell them.",
        )
    ids = np.where(none, 0, drain).astype("int64")
    if reach_length > 0:
        edge = max(1, round(reach_length / pixel_metres(grid)))
        row, col = np.divmod(ids, grid.shape[1])
        ids = (row // edge << 32) + col // edge
    return np.where(none, NO_REACH, ids)


@operation(Local(), dtype="int64", fill=NO_REACH)
def ground_squares(hand: np.ndarray, /, *, window: Window, grid: Grid, reach_length: Metres = 3000.0) -> np.ndarray:
    """Group cells by the square of ground that they lie in: reaches for heights whose drainage nobody names.

    Parameters
    ----------
    hand
        Height above the nearest drainage in m, (y, x), NaN where not known.
    reach_length
        Edge of the squares, hung on the grid's upper left corner; 0: the whole grid is one.

    Returns
    -------
    Number of the square, (y, x), the same in any tile; -1 where the height is not known.
    """
    edge = max(1, round(reach_length / pixel_metres(grid))) if reach_length > 0 else max(grid.shape)
    rows = (window.row + np.arange(hand.shape[0], dtype="int64")) // edge
    cols = (window.col + np.arange(hand.shape[1], dtype="int64")) // edge
    return np.where(np.isnan(hand), NO_REACH, (rows[:, np.newaxis] << 32) + cols)


def height_bins(hand: np.ndarray, step: float, highest: float) -> np.ndarray:
    """Return the bin of each height: bin k holds heights above (k - 1) steps up to k steps, bin 0 what is not above the drainage.

    Whatever is higher than ``highest`` shares one bin more; NaN has -1.
    """
    top = round(highest / step)
    with np.errstate(invalid="ignore"):
        bins = np.clip(np.ceil(hand.astype("float64") / step - EDGE), 0, top + 1)
    return np.where(np.isnan(hand), -1, bins).astype("int64")


# Counting ---------------------------------------------------------------------------------------------------------------------------------


def _merge(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Unite tables of parts; never more is held than twice the table that results, and one part."""
    total = _table(*(np.empty(0, "int64") for _ in COLUMNS))
    waiting: list[Mapping[str, np.ndarray]] = []
    for part in parts:
        waiting.append(part)
        if sum(len(w["reach"]) for w in waiting) > len(total["reach"]):
            total, waiting = _united([total, *waiting]), []
    return _united([total, *waiting])


@operation(Reduction(merge=_merge), dtype="int64", working=102)
def reach_counts(
    hand: np.ndarray, reach: np.ndarray, extent: np.ndarray, /, *, step: Step = 0.1, highest: Highest = 20.0
) -> dict[str, np.ndarray]:
    """Count the cells that were seen wet and dry in each reach, by height above the drainage.

    Parameters
    ----------
    hand
        Height above the nearest drainage in m, (y, x), NaN where not known.
    reach
        From ``reaches``, (y, x).
    extent
        Flood map, (y, x): codes of ``flood_tables.CLASSES``. Water of any kind was seen wet; 0 was seen dry; anything else was not seen.
    step, highest
        Height of a bin, and of the highest bin that is told apart, m.

    Returns
    -------
    A table sorted by reach and bin, four arrays of one length: ``reach``, ``bin`` (its upper edge in steps), ``wet`` and ``dry`` (cells). It holds
    a row for each pair that occurs, 32 bytes each: at most 202 a reach with the defaults, so 75 MB for 100,000 km² in reaches of 3 km (usually
    a tenth of it, since a reach has cells at few of the heights), and twice that while tables are united. Without a ``reach_length`` there may be as
    many rows as cells.
    """
    bins = height_bins(hand, step, highest)
    wet, dry = np.isin(extent, WET), extent == flood.NOT_WATER
    seen = (bins >= 0) & (reach != NO_REACH) & (wet | dry)
    return _united([_table(reach[seen], bins[seen], wet[seen], dry[seen])])


def _table(*columns: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(column, dtype="int64") for name, column in zip(COLUMNS, columns, strict=True)}


def _united(tables: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return one table, sorted, with the counts of equal keys added."""
    reach, bins, wet, dry = (np.concatenate([t[name] for t in tables]) for name in COLUMNS)
    order = np.lexsort((bins, reach))
    reach, bins = reach[order], bins[order]
    first = np.flatnonzero(np.concatenate([[True], (np.diff(reach) != 0) | (np.diff(bins) != 0)])) if len(reach) else np.empty(0, "int64")
    added = [np.add.reduceat(column[order], first) if len(first) else column[order] for column in (wet, dry)]
    return _table(reach[first], bins[first], *added)


# Stages -----------------------------------------------------------------------------------------------------------------------------------


@operation(Local(), dtype="float64")
def reach_stages(
    counts: Mapping[str, np.ndarray],
    /,
    *,
    grid: Grid,
    step: Step = 0.1,
    highest: Highest = 20.0,
    minimum_area: Hectares = 1.0,
    minimum_fit: Fraction = 0.5,
) -> dict[str, np.ndarray]:
    """Find the stage of each reach.

    The stage is the height h whose flood, HAND <= h, has the largest critical success index with what was seen, TP / (TP + FP + FN); of several
    equally good ones the lowest. All bins are tried, and fractions are compared as whole numbers.

    Parameters
    ----------
    counts
        From ``reach_counts``, with the same ``step`` and ``highest``.
    minimum_area
        Least area that was seen wet in a reach; what is less may be speckle, or a pond.
    minimum_fit
        Least critical success index, and least share of the dry cells that lie above the stage: where the best stage agrees less with what was
        seen, the water is not that of the reach (rain on a plateau, a lake behind a dam).

    Returns
    -------
    Arrays sorted by ``reach``: ``bin``, the stage in steps, or -1 where there is none; ``stage`` in m, NaN where there is none; ``fit``, the index of
    the best one; ``wet``, cells seen wet. And ``step``, ``highest``.

    References
    ----------
    Nobre et al. (2016), 10.1002/hyp.10581: floods from HAND. The critical success index: Schaefer (1990),
    10.1175/1520-0434(1990)005<0570:TCSIAA>2.0.CO;2.
    """
    names, first = np.unique(counts["reach"], return_index=True)
    bins, wet, hit, dry, wrong = np.empty((5, len(names)), "int64")
    _best(
        np.append(first, len(counts["reach"])),
        counts["bin"],
        counts["wet"],
        counts["dry"],
        round(highest / step),
        bins,
        wet,
        hit,
        dry,
        wrong,
    )
    fit = np.where(wet > 0, hit / np.maximum(wet + wrong, 1), np.nan)
    least = max(least_pixels(minimum_area, grid), 1)
    drowned = (dry >= least) & (wrong > (1.0 - minimum_fit) * dry)
    bins[(wet < least) | ~(fit >= minimum_fit) | drowned] = -1
    stage = np.where(bins < 0, np.nan, bins * step)
    return {"reach": names, "bin": bins, "stage": stage, "fit": fit, "wet": wet, "step": np.array(step), "highest": np.array(highest)}


@numba.njit(nogil=True, cache=True)
def _best(
    first: np.ndarray,
    bins: np.ndarray,
    wet: np.ndarray,
    dry: np.ndarray,
    top: int,
    best: np.ndarray,
    all_wet: np.ndarray,
    best_hit: np.ndarray,
    all_dry: np.ndarray,
    best_wrong: np.ndarray,
) -> None:
    for i in range(len(best)):
        best[i], best_hit[i], best_wrong[i] = -1, 0, 0
        all_wet[i], all_dry[i] = 0, 0
        for k in range(first[i], first[i + 1]):
            all_wet[i] += wet[k]
            all_dry[i] += dry[k]
        hit, wrong = 0, 0
        for k in range(first[i], first[i + 1]):
            if bins[k] > top:
                break
            hit += wet[k]
            wrong += dry[k]
            # TP / (TP + FP + FN) is TP / (all wet + FP). Products stay below 2^63 up to 3e9 cells in a reach.
            if hit * (all_wet[i] + best_wrong[i]) > best_hit[i] * (all_wet[i] + wrong):
                best[i], best_hit[i], best_wrong[i] = bins[k], hit, wrong


@operation(Local(), dtype="int32", fill=-1)
def stage_bins(reach: np.ndarray, stages: Mapping[str, np.ndarray], /) -> np.ndarray:
    """Return the stage of each cell's reach in steps, (y, x); -1 where the reach has none."""
    known = stages["reach"]
    if len(known) == 0:
        return np.full(reach.shape, -1, dtype="int32")
    at = np.minimum(np.searchsorted(known, reach), len(known) - 1)
    return np.where(known[at] == reach, stages["bin"][at], -1)


@operation(Local(), dtype="float32", units="m")
def stage_depth(hand: np.ndarray, stage: np.ndarray, stages: Mapping[str, np.ndarray], /) -> np.ndarray:
    """Return how deep water stands where it stands as high as in the cell's reach.

    Parameters
    ----------
    hand
        Height above the nearest drainage in m, (y, x).
    stage
        From ``stage_bins``, (y, x).
    stages
        From ``reach_stages``.

    Returns
    -------
    max(0, stage - HAND) in m, (y, x); NaN where either is not known.
    """
    depth = np.maximum(stage * float(stages["step"]) - hand, 0.0)
    return np.where(stage < 0, np.nan, depth)


@operation(Local(), dtype="bool")
def below_stage(hand: np.ndarray, stage: np.ndarray, stages: Mapping[str, np.ndarray], /) -> np.ndarray:
    """Where the height of a cell, (y, x), is at most the stage of its reach, by the bins in which the stage was found."""
    bins = height_bins(hand, float(stages["step"]), float(stages["highest"]))
    return (bins >= 0) & (bins <= stage)


# How sure ---------------------------------------------------------------------------------------------------------------------------------

REACH_OF_DOUBT: Final = 100
"""Steps above and below the stage that are told apart: 10 m, more than any error of a DEM that stages could be found in."""


@operation(Reduction(merge=add), dtype="int64", working=26)
def counts_by_rise(hand: np.ndarray, stage: np.ndarray, extent: np.ndarray, stages: Mapping[str, np.ndarray], /) -> np.ndarray:
    """Count the cells that were seen wet and dry, in all reaches that have a stage, by how far they lie above it.

    Parameters
    ----------
    hand, stage, extent, stages
        As in ``stage_depth`` and ``reach_counts``.

    Returns
    -------
    (2, 201): wet and dry cells by steps above the stage, from 100 below (and all beneath) to 100 above (and all beyond).
    """
    bins = height_bins(hand, float(stages["step"]), float(stages["highest"]))
    rise = np.clip(bins - stage, -REACH_OF_DOUBT, REACH_OF_DOUBT) + REACH_OF_DOUBT
    usable = (bins >= 0) & (stage >= 0)
    rows = [
        np.bincount(rise[usable & seen], minlength=2 * REACH_OF_DOUBT + 1) for seen in (np.isin(extent, WET), extent == flood.NOT_WATER)
    ]
    return np.stack(rows)


@operation(Local(), dtype="float64")
def share_by_rise(counts: np.ndarray, /) -> np.ndarray:
    """Return how likely a cell is under water by how far it lies above the stage: the share of the seen cells there, never rising with height.

    Parameters
    ----------
    counts
        From ``counts_by_rise``.

    Returns
    -------
    (201,), each between 0 and 1; half a cell of either kind is added to each step, so that nothing is certain.

    References
    ----------
    Pool adjacent violators: Ayer et al. (1955), 10.1214/aoms/1177728423.
    """
    share = np.empty(counts.shape[1])
    _falling(counts[0] + 0.5, counts.sum(axis=0) + 1.0, share)
    return share


@numba.njit(nogil=True, cache=True)
def _falling(wet: np.ndarray, both: np.ndarray, out: np.ndarray) -> None:
    n = len(wet)
    top, weight, start = np.empty(n), np.empty(n), np.empty(n, dtype=np.int64)
    used = 0
    for i in range(n):
        top[used], weight[used], start[used] = wet[i], both[i], i
        used += 1
        while used > 1 and top[used - 1] * weight[used - 2] > top[used - 2] * weight[used - 1]:
            top[used - 2] += top[used - 1]
            weight[used - 2] += weight[used - 1]
            used -= 1
    for k in range(used):
        end = start[k + 1] if k + 1 < used else n
        out[start[k] : end] = top[k] / weight[k]


@operation(Local(), dtype="float32")
def stage_probability(hand: np.ndarray, stage: np.ndarray, stages: Mapping[str, np.ndarray], share: np.ndarray, /) -> np.ndarray:
    """Return how likely a cell is under water by its height alone.

    Parameters
    ----------
    hand, stage, stages
        As in ``stage_depth``.
    share
        From ``share_by_rise``.

    Returns
    -------
    (y, x); NaN where the height or the stage is not known.
    """
    bins = height_bins(hand, float(stages["step"]), float(stages["highest"]))
    rise = np.clip(bins - stage, -REACH_OF_DOUBT, REACH_OF_DOUBT) + REACH_OF_DOUBT
    return np.where((bins >= 0) & (stage >= 0), share[rise], np.nan)
