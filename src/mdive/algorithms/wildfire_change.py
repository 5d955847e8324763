"""What changed between two dates: causes and water of both together, differences, the relativised burn ratio, and their error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from mdive.algorithms.optical import BLIND
from mdive.plugins import Fraction, Local, operation

SPARSE: Final = -0.4
"""NBR before the fire below which RBR is not given: its divisor nears zero, and there are no plants to burn."""
LARGEST: Final = 2.0
"""Largest difference of two normalised differences. Reflectance below zero (haze or shadow corrected too far) can put a ratio far beyond 1;
what is then left of it is error."""


@operation(Local(), dtype="uint16")
def joined(before: np.ndarray, after: np.ndarray, /) -> np.ndarray:
    """Return the bits of both cause planes together, (y, x)."""
    both: np.ndarray = before | after
    return both


@operation(Local(), dtype="bool")
def water_mask(
    green_before: np.ndarray | None,
    nir_before: np.ndarray,
    swir_before: np.ndarray | None,
    green_after: np.ndarray | None,
    nir_after: np.ndarray,
    swir_after: np.ndarray | None,
    why: np.ndarray,
    /,
) -> np.ndarray:
    """Return where there was water on either date: green above both infrared bands, so NDWI and MNDWI above zero.

    The comparison needs no ratio, so it also holds for dark lakes. False where nothing was seen, or the bands are not there.

    Parameters
    ----------
    green_before, nir_before, swir_before, green_after, nir_after, swir_after
        Reflectance, (y, x).
    why
        Cause of each pixel, (y, x).
    """
    out = np.zeros(why.shape, dtype=bool)
    for green, nir, swir in ((green_before, nir_before, swir_before), (green_after, nir_after, swir_after)):
        if green is not None and swir is not None:
            out |= (green > nir) & (green > swir)
    out &= why & BLIND == 0
    return out


@operation(Local(), dtype="float32")
def difference(first: np.ndarray, second: np.ndarray, why: np.ndarray, water: np.ndarray, /) -> np.ndarray:
    """Return first - second on land that was seen on both dates, NaN elsewhere; all (y, x).

    NaN too where the difference is larger than ``LARGEST``.
    """
    change = first - second
    return np.where((why & BLIND != 0) | water | (np.abs(change) > LARGEST), np.nan, change)


@operation(Local(), dtype="float32")
def relativised(change: np.ndarray, nbr_before: np.ndarray, /) -> np.ndarray:
    """Return RBR = dNBR / (NBR before + 1.001), (y, x): severity relative to the plants that there were.

    NaN where NBR before is below -0.4, and where the result is larger than ``LARGEST``.

    References
    ----------
    Parks, Dillon and Miller (2014), 10.3390/rs6031827.
    """
    ratio = change / np.where(nbr_before < SPARSE, np.float32(np.nan), nbr_before + np.float32(1.001))
    return np.where(np.abs(ratio) > LARGEST, np.nan, ratio)


@operation(Local(), dtype="float32")
def change_sigma(
    before: np.ndarray, after: np.ndarray, change: np.ndarray, centre: Mapping[str, np.ndarray], /, *, correlation: Fraction = 0.0
) -> np.ndarray:
    """Return the standard deviation of dNBR: σ² = σ_pre² + σ_post² - 2 r σ_pre σ_post + σ_offset².

    Parameters
    ----------
    before, after
        Standard deviation of NBR on each date, (y, x).
    change
        dNBR, (y, x): where it is NaN, so is the result.
    centre
        State of ``background``.
    correlation
        Between the errors of the dates: a calibration error that both share drops out of the difference.
    """
    variance = before * before + after * after - 2 * np.float32(correlation) * before * after + np.float32(centre["sigma"][0] ** 2)
    # Equal errors that are fully correlated cancel, but for the last bit, which may be negative.
    return np.where(np.isnan(change), np.nan, np.sqrt(np.maximum(variance, np.float32(0.0))))
