"""Whether radar backscatter changed between scenes of one geometry: the references of each pixel, the F and t tests, and their log-odds.

Only scenes of one relative orbit and flight direction compare: another geometry looks at other sides of hills, houses and trees, and that
looks like change. Blocks are (y, x), stacks of references (time, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import numba
import numpy as np
from pydantic import Field
from scipy.special import fdtrc, fdtri, logit, ndtr, stdtr

from mdive.algorithms.evidence import MISLED
from mdive.algorithms.looks import BINS, LEAST, RANGE, SMOOTHING, STEP
from mdive.algorithms.mosaic import NONE
from mdive.algorithms.sar import FLOOR, window_radius
from mdive.algorithms.uncertainty import decibel_std
from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.plugins import Bundle, Decibels, Focal, Local, Reduction, add, operation
from mdive.plugins.declare import named_geometry, same_geometry

Deviations = Annotated[float, Field(ge=0, le=10, description="standard deviations")]
Reference = Literal["count", "level", "spread", "mean"]
"""What the references of a pixel tell: how many there are, their level and how much they vary, and the mean of all of them; in dB."""

STACK: Final = 5
"""Least references that tell how much a pixel varies by itself: with four degrees of freedom the 1 % quantile of t is 3.7, with three 4.5,
with one 31.8. With fewer, the speckle of the scene says what can vary."""

LEAST_MEDIAN: Final = 3
"""Least references of which the middle one is no outlier."""

STRIDE_SIDE: Final = 3
"""Windows on a side of the patch in which the looks of a filtered scene are measured: 9 means of disjoint windows, 150 m at 10 m."""

FILTERED_LOOKS: Final = 30.0
"""Looks after filtering where no patch tells them: those of ground range detected scenes in windows of 50 m, for speckle that is correlated
over two pixels."""


def pairs_of(pre: Bundle, post: Bundle) -> list[list[bool]] | None:
    """Return which references each scene after the onset may be compared with.

    Parameters
    ----------
    pre, post
        Bundles; their ``geometry`` names relative orbit and flight direction of each scene, None what nobody told.

    Returns
    -------
    One row per scene after the onset, one column per reference; None where nothing is told, and all count as of one geometry.

    Raises
    ------
    InputError
        If a reference has another geometry than every scene after the onset.
    """
    before, after = pre.geometry, post.geometry
    if not before or not after:
        return None
    for found in before:
        if not any(same_geometry(found, other) for other in after):
            raise InputError(
                f"the radar scene before the onset of {named_geometry(found)} does not compare with those after it, of "
                f"{' and '.join(dict.fromkeys(named_geometry(g) for g in after))}: other geometries look like change.",
                "Give scenes of one relative orbit and flight direction.",
            )
    return [[same_geometry(a, b) for b in before] for a in after]


@operation(Local(), dtype="float32", units="dB", over_time=True)
def reference(
    power: np.ndarray,
    choice: np.ndarray,
    /,
    *,
    pairs: list[list[bool]] | None = None,
    dark: Decibels = -15.5,
    minimum_drop: Decibels = 3.0,
    field: Reference = "level",
) -> np.ndarray:
    """Return what the references of each pixel tell.

    Those count that are valid and of the geometry of the scene that was chosen after the onset. A reference that is itself flooded is none:
    one that is as dark as water, and darker than the middle one by the least drop, while the middle one is not dark. It takes three to
    tell that.

    Parameters
    ----------
    power
        Filtered linear power before the onset, (time, y, x), NaN where not valid.
    choice
        Which scene after the onset each pixel takes, (y, x), from ``best_observation``.
    pairs
        From ``pairs_of``; None where all scenes are of one geometry.
    dark
        Backscatter below which a reference may be water.
    minimum_drop
        How far a flooded reference lies below the middle one.
    field
        ``count``; ``level``: the mean of power where there are fewer than ``STACK`` references, else of decibels; ``spread``: standard
        deviation of decibels, NaN where there are fewer than ``STACK``; ``mean``: the mean of power, of all references, also flooded ones.

    Returns
    -------
    (y, x); the count is 0, and the others NaN, where there is no reference.

    References
    ----------
    DeVries et al. (2020), 10.1016/j.rse.2020.111664, for backscatter against the mean and deviation of its own past.
    """
    stack = power[np.newaxis] if power.ndim == choice.ndim else power
    allowed = np.ones((1, len(stack)), dtype=bool) if pairs is None else np.asarray(pairs, dtype=bool).reshape(-1, len(stack))
    out = np.empty(choice.shape, dtype="float32")
    wanted = ("count", "level", "spread", "mean").index(field)
    _reference(np.ascontiguousarray(stack), choice, allowed, dark, minimum_drop, wanted, out)
    return out


def _apart(_parameters: Mapping[str, Any], grid: Grid) -> int:
    return (STRIDE_SIDE // 2) * (2 * window_radius({}, grid) + 1)


@operation(Focal(_apart), dtype="float32")
def filtered_variation(means: np.ndarray, /, *, grid: Grid) -> np.ndarray:
    """Return the coefficient of variation of window means that do not overlap: what speckle is left after filtering.

    Parameters
    ----------
    means
        Means over the filter window of power, (y, x): 3 x 3 of them, a window apart, are compared.

    Returns
    -------
    Standard deviation (unbiased variance) over mean; NaN where one of the nine is.
    """
    out = np.empty(means.shape, dtype="float32")
    _strided_variation(np.ascontiguousarray(means, dtype="float32"), 2 * window_radius({}, grid) + 1, out)
    return out


def _looks(counts: np.ndarray, *, grid: Grid) -> dict[str, np.ndarray]:
    """Find the modes of variation, where even ground is, and turn them into looks."""
    windows, pixels = counts
    if not windows.any():
        return {"looks": np.array([FILTERED_LOOKS])}
    found = _looks_of(windows, STRIDE_SIDE**2)
    if pixels.any():
        found = max(found, _looks_of(pixels, (2 * window_radius({}, grid) + 1) ** 2))
    return {"looks": np.array([found])}


def _looks_of(counts: np.ndarray, n: int) -> float:
    window = np.ones(SMOOTHING, dtype="int64")
    mode = (int(np.argmax(np.convolve(np.convolve(counts, window, "same"), window, "same"))) + 0.5) * STEP
    # As in `equivalent_looks`: the most frequent standard deviation of n values is √((n - 2) / (n - 1)) of the true one.
    return float(min(max((n - 2) / (n - 1) / mode**2, RANGE[0]), RANGE[1]))


@operation(Reduction(merge=add, finish=_looks), dtype="int64")
def filtered_looks(windows: np.ndarray, pixels: np.ndarray, /) -> np.ndarray:
    """Find the equivalent number of looks of a filtered scene: the mode of 1 / CV² over patches of the whole scene.

    A patch is three windows wide. Where that is many hundred metres it holds several fields and no even ground, and its variation is not that
    of speckle alone. So the looks of single pixels, told by patches of one window, are the least: no filter leaves fewer.

    Parameters
    ----------
    windows
        From ``filtered_variation``, (y, x) or (time, y, x), NaN where not known.
    pixels
        The same of the scene before the filter, from ``variation``.

    Returns
    -------
    One block's histograms of both. The state holds ``looks``, one number; ``FILTERED_LOOKS`` where no patch is valid.

    References
    ----------
    Anfinsen, Doulgeris and Eltoft (2009), 10.1109/TGRS.2009.2019269.
    """
    return np.stack([_counted(windows), _counted(pixels)])


def _counted(variation: np.ndarray) -> np.ndarray:
    known = variation[(variation >= LEAST) & (variation < STEP * BINS)]
    return np.bincount((known / STEP).astype("int64"), minlength=BINS)[:BINS]


@operation(Local(), dtype="float32")
def change_odds(
    after: np.ndarray,
    level: np.ndarray,
    spread: np.ndarray,
    count: np.ndarray,
    looks_after: Mapping[str, np.ndarray],
    looks_before: Mapping[str, np.ndarray],
    /,
    *,
    minimum_change: Decibels = 3.0,
    deviations: Deviations = 2.5,
    rise: bool = False,
) -> np.ndarray:
    """Return the log-odds that backscatter fell (or rose) by more than the references vary, and by a least number of decibels.

    With five references or more: t = (x − m ± δ) / (s √(1 + 1/n)) has n − 1 degrees of freedom, in decibels. With fewer the ratio of powers
    is F distributed with 2 L and 2 n L degrees of freedom. Either gives the probability that the true change exceeds δ, which is the least
    change, or so many standard deviations of no change (for F the quantile of the same probability), whichever is more.

    Parameters
    ----------
    after
        Filtered linear power after the onset, (y, x).
    level, spread, count
        From ``reference``: dB, dB, number.
    looks_after, looks_before
        From ``filtered_looks``: looks of one filtered scene.
    minimum_change
        Change that means something: half of the power. Soil moisture, harvest and calibration (0.4 dB) change it by less.
    deviations
        Least change in standard deviations of no change.
    rise
        Ask for a rise instead of a fall.

    Returns
    -------
    Within ± ln((2 − m) / m) for m = ``MISLED``, ± 2.9; NaN where ``after`` is, and where there is no reference.

    References
    ----------
    Conradsen et al. (2003), 10.1109/TGRS.2002.808066, for the ratio of two speckled powers; DeVries et al. (2020),
    10.1016/j.rse.2020.111664, for 2.5 deviations of a pixel's own past.
    """
    sign = -1.0 if rise else 1.0
    x = 10.0 * np.log10(np.maximum(after, FLOOR), dtype="float64")
    n = count.astype("float64")
    drop = sign * (level - x)
    exceeds = np.full(x.shape, np.nan)
    stacked = n >= STACK
    sigma = spread[stacked] * np.sqrt(1.0 + 1.0 / n[stacked])
    margin = drop[stacked] - np.maximum(minimum_change, deviations * sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        # References that are all equal leave no doubt: the sign of the margin decides.
        exceeds[stacked] = stdtr(n[stacked] - 1.0, np.where(sigma > 0.0, margin / sigma, np.copysign(np.inf, margin)))
    exceeds[np.isnan(drop)] = np.nan
    one, other = float(looks_after["looks"][0]), float(looks_before["looks"][0])
    for k in range(1, STACK):
        few = (n == k) & ~np.isnan(drop)
        first, second = (2.0 * other * k, 2.0 * one) if rise else (2.0 * one, 2.0 * other * k)
        least = max(minimum_change, critical_drop(first, second, deviations))
        exceeds[few] = fdtrc(first, second, 10.0 ** (0.1 * (least - drop[few])))
    odds: np.ndarray = logit(0.5 * MISLED + (1.0 - MISLED) * exceeds)
    return odds


def critical_drop(first: float, second: float, deviations: float) -> float:
    """Return by how many dB one power lies below another by chance with the probability of so many standard deviations.

    Parameters
    ----------
    first, second
        Degrees of freedom, twice the looks: of the power that would be lower, and of the other one.
    deviations
        One-sided, of a normal deviate: 1.645, 2.326 and 3.090 are 5, 1 and 0.1 %.
    """
    return float(-10.0 * np.log10(fdtri(first, second, ndtr(-deviations))))


@operation(Local(), dtype="float32", units="dB")
def change_deviation(
    after: np.ndarray,
    spread: np.ndarray,
    count: np.ndarray,
    looks_after: Mapping[str, np.ndarray],
    looks_before: Mapping[str, np.ndarray],
    /,
) -> np.ndarray:
    """Return the standard deviation of backscatter minus that of its references, both unchanged, in dB.

    Parameters
    ----------
    after
        Filtered linear power after the onset, (y, x): where it is NaN, so is the result.
    spread, count
        From ``reference``.
    looks_after, looks_before
        From ``filtered_looks``.

    Returns
    -------
    s √(1 + 1/n) of a stack, that of speckle with fewer references, NaN without any.
    """
    out = np.full(after.shape, np.nan)
    one, other = float(looks_after["looks"][0]), float(looks_before["looks"][0])
    for k in range(1, STACK):
        out[count == k] = np.hypot(decibel_std(one), decibel_std(k * other))
    stacked = count >= STACK
    out[stacked] = spread[stacked] * np.sqrt(1.0 + 1.0 / count[stacked].astype("float64"))
    return np.where(np.isnan(after), np.nan, out)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _reference(stack: np.ndarray, choice: np.ndarray, allowed: np.ndarray, dark: float, drop: float, wanted: int, out: np.ndarray) -> None:
    times, rows, cols = stack.shape
    db = np.empty(times)
    ordered = np.empty(times)
    for r in range(rows):
        for c in range(cols):
            of = choice[r, c] if len(allowed) > 1 else 0
            n = 0
            for t in range(times):
                x = stack[t, r, c]
                if choice[r, c] != NONE and allowed[of, t] and x == x:
                    db[n] = 10.0 * np.log10(max(np.float64(x), FLOOR))
                    n += 1
            if n >= LEAST_MEDIAN and wanted != 3:
                n = _without_flooded(db, ordered, n, dark, drop)
            if wanted == 0:
                out[r, c] = n
            elif n == 0 or (wanted == 2 and n < STACK):
                out[r, c] = np.nan
            else:
                out[r, c] = _told(db, n, wanted)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _without_flooded(db: np.ndarray, ordered: np.ndarray, n: int, dark: float, drop: float) -> int:
    """Take out the references that are themselves flooded; return how many stay."""
    for i in range(n):
        at = i
        while at > 0 and ordered[at - 1] > db[i]:
            ordered[at] = ordered[at - 1]
            at -= 1
        ordered[at] = db[i]
    middle = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])
    if middle <= dark:
        return n
    kept = 0
    for i in range(n):
        if db[i] > dark or db[i] > middle - drop:
            db[kept] = db[i]
            kept += 1
    return kept


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _told(db: np.ndarray, n: int, wanted: int) -> float:
    """Return the level or the spread of n decibels, added in the order of the references."""
    powers = n < STACK or wanted == 3
    total = 0.0
    for i in range(n):
        total += 10.0 ** (0.1 * db[i]) if powers else db[i]
    mean = total / n
    if powers:
        return float(10.0 * np.log10(mean))
    if wanted == 1:
        return float(mean)
    squares = 0.0
    for i in range(n):
        squares += (db[i] - mean) ** 2
    return float(np.sqrt(squares / (n - 1)))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _strided_variation(means: np.ndarray, stride: int, out: np.ndarray) -> None:
    rows, cols = means.shape
    reach = STRIDE_SIDE // 2
    n = float(STRIDE_SIDE * STRIDE_SIDE)
    for r in range(rows):
        for c in range(cols):
            out[r, c] = np.nan
            if r < reach * stride or c < reach * stride or r + reach * stride >= rows or c + reach * stride >= cols:
                continue
            s = 0.0
            for i in range(-reach, reach + 1):
                for j in range(-reach, reach + 1):
                    s += np.float64(means[r + i * stride, c + j * stride])
            mean = s / n
            q = 0.0
            for i in range(-reach, reach + 1):
                for j in range(-reach, reach + 1):
                    q += (np.float64(means[r + i * stride, c + j * stride]) - mean) ** 2
            out[r, c] = np.sqrt(q / (n - 1.0)) / mean
