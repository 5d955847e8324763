"""Radar building blocks: usable power, the Lee filter and its looks, decibels, and a local mean. Power in, never decibels.

Averages, filters and resampling belong in linear power: the mean of decibels is biased (by −0.5 dB at 4.4 looks), that of power is not.
Blocks are (y, x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numba
import numpy as np
from pydantic import Field

from mdive.algorithms.ground import pixel_metres
from mdive.model.flags import UNOBSERVED
from mdive.model.plan import Grid
from mdive.plugins import Focal, Local, operation

Looks = Annotated[float, Field(gt=0, le=1000, description="equivalent number of looks of the input")]

GRDH_LOOKS: Final = 4.4
"""Looks of Sentinel-1 ground range detected scenes in high resolution, interferometric wide swath (product specification, 10 m pixels)."""

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
def lee(power: np.ndarray, /, *, grid: Grid, looks: Looks = GRDH_LOOKS) -> np.ndarray:
    """Reduce speckle by the local linear minimum mean square error filter.

    out = m + W (x − m) with W = var_x / v, var_x = max(0, (v − m² Cu²) / (1 + Cu²)), Cu² = 1 / looks; m and v are mean and variance of the
    valid pixels of the window. Over even ground W is 0 and the filter is a mean; at edges and points it is 1 and leaves them alone.

    Parameters
    ----------
    power
        Linear power, (y, x); NaN where not valid.
    looks
        Equivalent number of looks of one pixel.

    Returns
    -------
    Linear power; NaN where the pixel itself is not valid or less than half of its window is.

    References
    ----------
    Lee (1980), 10.1109/TPAMI.1980.4766994.
    """
    out = np.empty(power.shape, dtype="float32")
    _lee(np.ascontiguousarray(power, dtype="float32"), window_radius({}, grid), 1.0 / looks, 0, out)
    return out


@operation(Focal(window_radius), dtype="float32")
def lee_looks(power: np.ndarray, /, *, grid: Grid, looks: Looks = GRDH_LOOKS) -> np.ndarray:
    """Return the equivalent number of looks that the Lee filter leaves: looks / (W² + (1 − W²) / n) for n valid pixels.

    Parameters
    ----------
    power
        Linear power, (y, x): what ``lee`` gets.
    looks
        Equivalent number of looks of one pixel.

    Returns
    -------
    Between ``looks`` (edges are left as they are) and n times that (even ground, if speckle is uncorrelated); NaN where ``lee`` is.
    """
    out = np.empty(power.shape, dtype="float32")
    _lee(np.ascontiguousarray(power, dtype="float32"), window_radius({}, grid), 1.0 / looks, 1, out)
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


@numba.njit(nogil=True, cache=True)
def _lee(power: np.ndarray, radius: int, cu2: float, want_looks: int, out: np.ndarray) -> None:
    # Sums run in one fixed order over the window of each pixel (no running sums): the same bits on any block.
    rows, cols = power.shape
    least = VALID_SHARE * (2 * radius + 1) ** 2
    for r in range(rows):
        top, bottom = max(r - radius, 0), min(r + radius + 1, rows)
        for c in range(cols):
            out[r, c] = np.nan
            x = float(power[r, c])
            if np.isnan(x):
                continue
            left, right = max(c - radius, 0), min(c + radius + 1, cols)
            n = 0
            total = 0.0
            for i in range(top, bottom):
                for j in range(left, right):
                    if not np.isnan(power[i, j]):
                        n += 1
                        total += power[i, j]
            if n < least:
                continue
            m = total / n
            v = 0.0
            for i in range(top, bottom):
                for j in range(left, right):
                    if not np.isnan(power[i, j]):
                        v += (power[i, j] - m) ** 2
            v /= n
            w = max(0.0, (v - m * m * cu2) / (1.0 + cu2)) / v if v > 0.0 else 0.0
            out[r, c] = 1.0 / (cu2 * (w * w + (1.0 - w * w) / n)) if want_looks else m + w * (x - m)


@numba.njit(nogil=True, cache=True)
def _mean(values: np.ndarray, radius: int, out: np.ndarray) -> None:
    rows, cols = values.shape
    for r in range(rows):
        top, bottom = max(r - radius, 0), min(r + radius + 1, rows)
        for c in range(cols):
            out[r, c] = np.nan
            if np.isnan(values[r, c]):
                continue
            n = 0
            total = 0.0
            for i in range(top, bottom):
                for j in range(max(c - radius, 0), min(c + radius + 1, cols)):
                    if not np.isnan(values[i, j]):
                        n += 1
                        total += values[i, j]
            out[r, c] = total / n
