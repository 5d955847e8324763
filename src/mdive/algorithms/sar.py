"""Radar building blocks: usable power, the Lee filter and its looks, decibels, local mean and variation. Power in, never decibels.

Averages, filters and resampling belong in linear power: the mean of decibels is biased (by −0.5 dB at 4.4 looks), that of power is not.
Blocks are (y, x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numba
import numpy as np

from mdive.algorithms.ground import pixel_metres
from mdive.model.flags import UNOBSERVED
from mdive.model.plan import Grid
from mdive.plugins import Focal, Local, operation

WINDOW_REACH: Final = 25.0
"""Metres from the centre of a filter window to its edge: 5 x 5 pixels of 10 m, and at least 3 x 3, which is what 30 m pixels get."""

VALID_SHARE: Final = 0.5
"""Least share of valid pixels in a window: a straight swath border leaves 60 % of a 5 x 5 window, only corners fall below."""

FLOOR: Final = 1e-4
"""Power below which a logarithm says nothing: -40 dB, ten decibels under the noise floor of any civil radar."""


def window_radius(_parameters: Mapping[str, Any], grid: Grid) -> int:
    """Return the radius of the filter window in pixels of this grid, at least 1."""
    return max(1, int(WINDOW_REACH / pixel_metres(grid) + 1e-9))


@operation(Local(), dtype="float32")
def usable_power(power: np.ndarray, why: np.ndarray, /) -> np.ndarray:
    """Keep the power of pixels that show the ground.

    Parameters
    ----------
    power
        Linear power, (y, x).
    why
        Cause of each pixel, bits of ``QC_FLAGS``.

    Returns
    -------
    NaN where a bit of ``UNOBSERVED`` is set (layover and shadow would leak into their neighbours' windows) and where power is not positive:
    border noise and fill, which are far more common than a true zero.
    """
    with np.errstate(invalid="ignore"):
        return np.where((why & UNOBSERVED == 0) & (power > 0) & np.isfinite(power), power, np.nan)


@operation(Focal(window_radius), dtype="float32", units="power")
def lee(power: np.ndarray, speckle: Mapping[str, np.ndarray], /, *, grid: Grid) -> np.ndarray:
    """Reduce speckle by the local linear minimum mean square error filter.

    out = m + W (x − m) with W = var_x / v, var_x = max(0, (v − m² Cu²) / (1 + Cu²)), Cu² = 1 / looks; m and v are mean and variance of the
    valid pixels of the window. Over even ground W is 0 and the filter is a mean; at edges and points it is 1 and leaves them alone.

    Parameters
    ----------
    power
        Linear power, (y, x); NaN where not valid.
    speckle
        State with ``looks``, the equivalent number of looks of one pixel.

    Returns
    -------
    Linear power; NaN where the pixel itself is not valid or less than half of its window is.

    References
    ----------
    Lee (1980), 10.1109/TPAMI.1980.4766994.
    """
    out = np.empty(power.shape, dtype="float32")
    _lee(np.ascontiguousarray(power, dtype="float32"), window_radius({}, grid), 1.0 / float(speckle["looks"][0]), 0, out)
    return out


@operation(Focal(window_radius), dtype="float32")
def lee_looks(power: np.ndarray, speckle: Mapping[str, np.ndarray], /, *, grid: Grid) -> np.ndarray:
    """Return the equivalent number of looks that the Lee filter leaves: looks / (W² + (1 − W²) / n) for n valid pixels.

    Parameters
    ----------
    power
        Linear power, (y, x): what ``lee`` gets.
    speckle
        State with ``looks``, the equivalent number of looks of one pixel.

    Returns
    -------
    Between the looks of a pixel (edges are left as they are) and n times that (even ground, if speckle is uncorrelated); NaN where ``lee`` is.
    """
    out = np.empty(power.shape, dtype="float32")
    _lee(np.ascontiguousarray(power, dtype="float32"), window_radius({}, grid), 1.0 / float(speckle["looks"][0]), 1, out)
    return out


@operation(Local(), dtype="float32", units="dB")
def decibel(power: np.ndarray, /) -> np.ndarray:
    """Return 10 log10 of power, at least -40 dB; NaN stays NaN."""
    db: np.ndarray = 10.0 * np.log10(np.maximum(power, np.float32(FLOOR)))
    return db


@operation(Focal(window_radius), dtype="float32")
def window_mean(values: np.ndarray, /, *, grid: Grid) -> np.ndarray:
    """Return the mean over the filter window of the valid pixels; NaN where the pixel itself is not valid."""
    out = np.empty(values.shape, dtype="float32")
    _mean(np.ascontiguousarray(values, dtype="float32"), window_radius({}, grid), out)
    return out


@operation(Focal(window_radius), dtype="float32")
def variation(power: np.ndarray, /, *, grid: Grid) -> np.ndarray:
    """Return the coefficient of variation of power within the filter window: 1 / √looks over even ground.

    Parameters
    ----------
    power
        Linear power, (y, x); NaN where not valid.

    Returns
    -------
    Standard deviation (unbiased variance) over mean; NaN where the pixel itself is not valid or less than half of its window is.
    """
    out = np.empty(power.shape, dtype="float32")
    _variation(np.ascontiguousarray(power, dtype="float32"), window_radius({}, grid), out)
    return out


# Window sums are made of the sums along rows, added in the order of the rows: each pixel adds the same numbers in the same order on any
# block, which a running sum would not. What is not valid adds zero.


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _along_row(row: np.ndarray, radius: int, n: np.ndarray, s: np.ndarray, q: np.ndarray) -> None:
    """Sum count, values and squares of a row over 2 radius + 1 columns."""
    cols = len(row)
    n[:], s[:], q[:] = 0.0, 0.0, 0.0
    for d in range(-radius, radius + 1):
        for c in range(max(0, -d), min(cols, cols - d)):
            x = np.float64(row[c + d])
            good = x == x
            n[c] += 1.0 if good else 0.0
            s[c] += x if good else 0.0
            q[c] += x * x if good else 0.0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _window_sums(values: np.ndarray, r: int, radius: int, done: int, ring: np.ndarray, total: np.ndarray) -> int:
    """Sum count, values and squares over the windows of row ``r`` into ``total``; ``ring`` holds those along rows, up to row ``done``."""
    rows, height = len(values), 2 * radius + 1
    last = min(r + radius, rows - 1)
    while done < last:
        done += 1
        at = done % height
        _along_row(values[done], radius, ring[0, at], ring[1, at], ring[2, at])
    total[:] = 0.0
    for i in range(max(r - radius, 0), last + 1):
        for k in range(3):
            part, sums = ring[k, i % height], total[k]
            for c in range(len(sums)):
                sums[c] += part[c]
    return done


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _lee(power: np.ndarray, radius: int, cu2: float, want_looks: int, out: np.ndarray) -> None:
    rows, cols = power.shape
    height = 2 * radius + 1
    least = VALID_SHARE * height * height
    ring, total = np.empty((3, height, cols)), np.empty((3, cols))
    done = -1
    for r in range(rows):
        done = _window_sums(power, r, radius, done, ring, total)
        for c in range(cols):
            x = np.float64(power[r, c])
            n = total[0, c]
            m = total[1, c] / n
            v = max(total[2, c] / n - m * m, 0.0)
            w = max(0.0, (v - m * m * cu2) / (1.0 + cu2)) / v if v > 0.0 else 0.0
            value = 1.0 / (cu2 * (w * w + (1.0 - w * w) / n)) if want_looks else m + w * (x - m)
            out[r, c] = value if x == x and n >= least else np.nan


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _mean(values: np.ndarray, radius: int, out: np.ndarray) -> None:
    rows, cols = values.shape
    height = 2 * radius + 1
    ring, total = np.empty((3, height, cols)), np.empty((3, cols))
    done = -1
    for r in range(rows):
        done = _window_sums(values, r, radius, done, ring, total)
        for c in range(cols):
            out[r, c] = total[1, c] / total[0, c] if values[r, c] == values[r, c] else np.nan


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _variation(power: np.ndarray, radius: int, out: np.ndarray) -> None:
    rows, cols = power.shape
    height = 2 * radius + 1
    least = VALID_SHARE * height * height
    ring, total = np.empty((3, height, cols)), np.empty((3, cols))
    done = -1
    for r in range(rows):
        done = _window_sums(power, r, radius, done, ring, total)
        for c in range(cols):
            x, n = power[r, c], total[0, c]
            m = total[1, c] / n
            v = max(total[2, c] / n - m * m, 0.0) * n / (n - 1.0)
            out[r, c] = np.sqrt(v) / m if x == x and n >= least else np.nan
