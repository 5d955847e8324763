"""From stored numbers to physical quantities, on source pixels and before anything is resampled (SCIENCE §1.1)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mdive.cube.kernels import look_up
from mdive.model.plan import AssetRef

_NEPER_PER_DECIBEL = math.log(10.0) / 10.0
"""10^(x/10) = exp(x ln 10 / 10): ten times faster than a power, and the same float32."""

NOTHING = -1
"""What a quality band holds where the file says nothing; no quality band uses negative numbers."""


class Meaning(NamedTuple):
    """What the numbers of a band mean: the part of an `AssetRef` that has nothing to do with where the band is."""

    nodata: float | None
    scale: float
    offset: float
    unit: str
    valid_min: float | None
    valid_max: float | None


def meaning(asset: AssetRef, file_nodata: float | None) -> Meaning:
    """Return what an asset's numbers mean; the nodata of the file itself counts where the plan names none."""
    nodata = file_nodata if asset.nodata is None else float(asset.nodata)
    if nodata is not None and not math.isfinite(nodata):
        nodata = None  # a number that is not finite is never a measurement, named or not
    return Meaning(nodata, asset.scale, asset.offset, asset.unit, asset.valid_min, asset.valid_max)


def is_discrete(asset: AssetRef) -> bool:
    """Return whether the numbers of an asset are names or bits, which can be neither averaged nor interpolated."""
    return asset.unit in ("class", "bits")


def physical(stored: np.ndarray, means: Meaning) -> np.ndarray:
    """Return stored numbers (y, x) as float32 physical quantities, NaN where nothing is.

    Nodata and the valid range are tested on the stored number; then come scale and offset; then dB and amplitude become linear power,
    because means, filters and differences are right in power only. A power that is not positive is no measurement.
    """
    if is_tabled(stored.dtype):
        return look_up(stored.view(f"u{stored.dtype.itemsize}"), meaning_table(stored.dtype.str, means, "float32"))
    return _convert(stored, means)


def discrete(stored: np.ndarray, means: Meaning, dtype: str) -> np.ndarray:
    """Return stored classes or bits (y, x) as signed integers, `NOTHING` where the file says nothing."""
    out = np.full(stored.shape, NOTHING, dtype=dtype)
    np.copyto(out, stored, where=_valid(stored, means), casting="unsafe")
    return out


def _convert(stored: np.ndarray, means: Meaning) -> np.ndarray:
    value = stored.astype(np.float64)
    value[~_valid(stored, means)] = np.nan
    value *= means.scale
    value += means.offset
    with np.errstate(over="ignore"):
        if means.unit == "dB":
            value = np.exp(value * _NEPER_PER_DECIBEL)
        if means.unit in ("dB", "power", "amplitude"):
            value[value <= 0.0] = np.nan
        if means.unit == "amplitude":
            value *= value
        result = value.astype(np.float32)
    result[np.isinf(result)] = np.nan
    return result


def _valid(stored: np.ndarray, means: Meaning) -> np.ndarray:
    floating = stored.dtype.kind == "f"
    valid = np.isfinite(stored) if floating else np.ones(stored.shape, dtype=bool)
    if means.nodata is not None:
        with np.errstate(over="ignore"):
            # A catalogue writes float32 nodata as a rounded decimal (-3.4028235e38): compare in the precision of the file.
            valid &= stored != (stored.dtype.type(means.nodata) if floating else means.nodata)
    if means.valid_min is not None:
        valid &= stored >= means.valid_min
    if means.valid_max is not None:
        valid &= stored <= means.valid_max
    return valid


def is_tabled(dtype: np.dtype[Any]) -> bool:
    """Return whether all numbers of a type fit into a table: integers of 8 or 16 bits."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


@lru_cache(maxsize=64)
def meaning_table(stored: str, means: Meaning, dtype: str) -> np.ndarray:
    """Return what each number that 8 or 16 bits can hold means, in the order of its bits: exact, and one load per pixel.

    Parameters
    ----------
    stored
        Type of the numbers.
    means
        What they mean.
    dtype
        ``float32``: physical quantities. An integer type: classes or bits.
    """
    kind = np.dtype(stored)
    numbers = np.arange(256**kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)
    return _convert(numbers, means) if dtype == "float32" else discrete(numbers, means, dtype)
