"""Exact mean, variance and covariance of rasters of any size: sums of whole numbers, which do not depend on their order.

A sum of floats depends on the order in which they are added, so on the tiling. Numbers are therefore rounded to multiples of a declared step, and
the multiples are added without any error: nothing can overflow, and only the final division is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Any, Final

import numba
import numpy as np
from pydantic import Field

from mdive.algorithms.quantiles import ZoneCount
from mdive.errors import InputError
from mdive.plugins import Reduction, operation

Step = Annotated[float, Field(gt=0, description="to whose multiples numbers are rounded before they are added, in their own units")]

LARGEST: Final = 2**31 - 1
"""Largest multiple of the step: a product of two then has 62 bits."""
HALF: Final = 32
"""Products are added in two halves: the lower 32 bits, and the rest, which has 30. A block of 2^31 pixels overflows neither in 64 bits."""


def _merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add in Python's whole numbers, which have no largest one."""
    count: Any = 0
    total: Any = 0
    product: Any = 0
    for part in parts:
        count = count + part["count"].astype(object)
        total = total + part["total"].astype(object)
        product = product + (part["upper"].astype(object) << HALF) + part["lower"].astype(object)
    return {"count": count, "total": total, "product": product}


def _finish(found: Mapping[str, Any], *, step: float, **_: Any) -> dict[str, np.ndarray]:
    """Divide; each number of the state is the exact quotient, rounded once."""
    count, total, product = found["count"], found["total"], found["product"]
    zones, bands = total.shape
    exact = Fraction(step)
    mean = np.full((zones, bands), np.nan)
    covariance = np.full((zones, bands, bands), np.nan)
    for zone in np.flatnonzero(count > 0):
        n = count[zone]
        for i in range(bands):
            mean[zone, i] = float(Fraction(total[zone, i], n) * exact)
            for j in range(bands):
                spread = n * product[zone, i, j] - total[zone, i] * total[zone, j]
                covariance[zone, i, j] = float(Fraction(spread, n * n) * exact * exact)
    return {"count": count.astype("int64"), "mean": mean, "covariance": covariance}


@operation(Reduction(merge=_merge, finish=_finish), dtype="int64", working=50)
def moments(zones: np.ndarray | None, /, *bands: np.ndarray, step: Step, zone_count: ZoneCount = 1) -> dict[str, np.ndarray]:
    """Return count, mean and covariance of bands, over all pixels or by zone.

    Parameters
    ----------
    zones
        Raster of whole numbers, the zone of each pixel, or None: all is one zone. Numbers beyond 0 … ``zone_count`` - 1 are no zone.
    bands
        Rasters of one shape. A pixel counts if all of them are finite there.
    step
        Numbers are rounded to multiples of it. A mean is off by less than half of it, and hardly at all where numbers spread over several
        steps, since roundings cancel; their variance grows by a twelfth of its square.
    zone_count
        Number of zones.

    Returns
    -------
    One block's sums. The state holds, in double precision and rounded once, ``mean`` (zones, bands) and ``covariance`` (zones, bands, bands),
    divided by n (the variances lie on its diagonal; times n / (n - 1) it is that of a sample); NaN where a zone is empty; and ``count`` (zones,).

    Raises
    ------
    InputError
        If a number is more than 2^31 steps from zero.
    """
    good = np.logical_and.reduce([np.isfinite(band) for band in bands])
    zone = np.zeros(good.shape, dtype="int64")
    if zones is not None:
        zone[...] = zones
        good &= (zone >= 0) & (zone < zone_count)
    whole = np.empty((len(bands), np.count_nonzero(good)), dtype="int64")
    for multiple, band in zip(whole, bands, strict=True):
        steps = np.rint(band[good].astype("float64") / step)
        if steps.size and np.abs(steps).max() > LARGEST:
            raise InputError(
                f"a band reaches {np.abs(steps).max() * step:g}, more than 2^31 steps of {step:g}, so its moments cannot be told exactly.",
                f"Give a step of {2 * np.abs(steps).max() * step / LARGEST:.2g}.",
            )
        multiple[...] = steps
    count = np.bincount(zone[good], minlength=zone_count)
    shape = zone_count, len(bands)
    total = np.zeros(shape, dtype="int64")
    lower, upper = (np.zeros((*shape, len(bands)), dtype="int64") for _ in range(2))
    _add(whole, zone[good], total, lower, upper)
    return {"count": count, "total": total, "lower": lower, "upper": upper}


@numba.njit(nogil=True, cache=True)
def _add(whole: np.ndarray, zone: np.ndarray, total: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
    bands, pixels = whole.shape
    for i in range(bands):
        for p in range(pixels):
            total[zone[p], i] += whole[i, p]
        for j in range(bands):
            for p in range(pixels):
                product = whole[i, p] * whole[j, p]
                lower[zone[p], i, j] += product & 0xFFFFFFFF
                upper[zone[p], i, j] += product >> HALF
