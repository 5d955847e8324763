"""The five tests of dynamic surface water extent (DSWE), exact to the stored number, and how likely each pixel passes them.

DSWE is what USGS (Landsat) and NASA/JPL (OPERA DSWx-HLS) run operationally; the limits keep the names that they have there.
"""

from __future__ import annotations

from math import erf, inf, sqrt
from typing import Annotated, Final, Literal, NamedTuple

import numba
import numpy as np
from pydantic import Field

from mdive.algorithms.optical import SIGMA_FLOOR, SIGMA_RELATIVE
from mdive.plugins import FlagEntry, Local, RasterSpec, operation

Index = Annotated[float, Field(ge=-1, le=1, description="normalised difference, -1 to 1")]
Reflectance = Annotated[float, Field(ge=-0.2, le=1.6, description="surface reflectance as a fraction")]
Awei = Annotated[float, Field(ge=-5, le=5, description="AWEI, in reflectance")]
Partial = Annotated[
    Literal["none", "conservative", "aggressive"],
    Field(description="which partly wet pixels become a class: none; tests 4 and 5 together; any two tests, or the fifth alone"),
]

STEPS: Final = 2_000_000.0
"""Steps of 5e-7 in a reflectance of 1. The common products store multiples of it (1e-4 = 200 steps; Landsat's 2.75e-5 = 55 and
0.2 = 400,000), so rounding to steps recovers the stored number from its float32 reflectance, whose error is below 0.4 steps up to 1.6.
The tests then compare integers, as the reference does: 900 is not below 900 because 0.09 was kept as 0.089999996."""

NOT_COMPUTED: Final = 255
"""Test word where a band is missing."""

DRY, AGGRESSIVE, CONSERVATIVE, WATER, SURE_WATER = range(5)

STRENGTH: Final = np.full(256, DRY, dtype="uint8")
"""Test word -> what DSWE makes of it: three tests of five are water; two, or the fifth alone, are partial water, of which 4 and 5 together
is the better."""
STRENGTH[[3, 5, 6, 9, 10, 12, 16, 17, 18, 20]] = AGGRESSIVE
STRENGTH[24] = CONSERVATIVE
STRENGTH[[7, 11, 13, 14, 19, 21, 22, 25, 26, 28]] = WATER
STRENGTH[[15, 23, 27, 29, 30, 31]] = SURE_WATER

SIGMA_INDEX: Final = 0.06
"""How uncertain the limits of the indices are themselves: published MNDWI limits of open water run from 0 (Xu 2006) to 0.124 (DSWE)."""
SIGMA_LIMIT: Final = 0.01
"""The same for limits in reflectance: a tenth of the typical limit, 0.1."""
SQRT2: Final = sqrt(2.0)

DSWE_TESTS: Final = RasterSpec(
    name="dswe_tests",
    long_name="DSWE tests passed",
    dtype="uint8",
    nodata=NOT_COMPUTED,
    flags=(
        FlagEntry(mask=1, name="mndwi"),
        FlagEntry(mask=2, name="visible_above_infrared"),
        FlagEntry(mask=4, name="awei_sh"),
        FlagEntry(mask=8, name="partial_water_dark"),
        FlagEntry(mask=16, name="partial_water_bright"),
    ),
)
"""Bit i is set where test i + 1 holds: the diagnostic word of DSWx-HLS. It is computed under cloud too."""


class Limits(NamedTuple):
    """The limits of the five tests: reflectance as a fraction, indices as ratios."""

    wigt: float = 0.124
    """Test 1: MNDWI above it."""
    awgt: float = 0.0
    """Test 3: AWEIsh above it."""
    pswt_1_mndwi: float = -0.44
    """Test 4: MNDWI above it, and the next three below theirs."""
    pswt_1_swir1: float = 0.09
    pswt_1_nir: float = 0.15
    pswt_1_ndvi: float = 0.7
    pswt_2_mndwi: float = -0.5
    """Test 5: MNDWI above it, and the next four below theirs."""
    pswt_2_blue: float = 0.10
    pswt_2_swir1: float = 0.30
    pswt_2_swir2: float = 0.10
    pswt_2_nir: float = 0.25


LIMITS: Final = Limits()
"""Those of DSWE (Jones 2019) and of OPERA DSWx-HLS, but for ``wigt``, which DSWx-HLS sets to 0.0124."""


@operation(Local(), dtype="uint8", fill=NOT_COMPUTED)
def dswe_tests(
    blue: np.ndarray,
    green: np.ndarray,
    red: np.ndarray,
    nir08: np.ndarray,
    swir16: np.ndarray,
    swir22: np.ndarray,
    /,
    *,
    limits: Limits = LIMITS,
) -> np.ndarray:
    """Run the five tests.

    1: MNDWI > wigt. 2: G + R > N + S1. 3: AWEIsh > awgt. 4: MNDWI > pswt_1_mndwi with S1, N and NDVI below. 5: MNDWI > pswt_2_mndwi with
    B, S1, S2 and N below. The indices are plain ratios here, without a guard for dark pixels, as in the reference: the tests vote, and
    a ratio of two small numbers has one vote of five.

    Parameters
    ----------
    blue, green, red, nir08, swir16, swir22
        Surface reflectance, (y, x), NaN where missing.
    limits
        See ``Limits``.

    Returns
    -------
    Word of five bits, (y, x); 255 where a band is missing.

    References
    ----------
    Jones (2019), 10.3390/rs11040374; OPERA DSWx-HLS algorithm theoretical basis document (JPL, 2022).
    """
    out = np.empty(blue.shape, dtype="uint8")
    _words(in_rows(blue, green, red, nir08, swir16, swir22), _in_steps(limits), out.reshape(-1))
    return out


@operation(Local(), dtype="float32")
def dswe_probability(
    blue: np.ndarray,
    green: np.ndarray,
    red: np.ndarray,
    nir08: np.ndarray,
    swir16: np.ndarray,
    swir22: np.ndarray,
    /,
    *,
    limits: Limits = LIMITS,
    partial: Partial = "none",
) -> np.ndarray:
    """Return how likely a pixel is water by the tests, given the error of its reflectance and of the limits.

    Each test has a margin: the distance to its limit in standard deviations (the smallest of them where a test has several). Open water
    is three tests of five, so the third-largest margin decides: its normal probability is above one half exactly where the tests say water.

    Parameters
    ----------
    blue, green, red, nir08, swir16, swir22
        Surface reflectance, (y, x), NaN where missing.
    limits
        See ``Limits``.
    partial
        Count partly wet pixels too: those that pass tests 4 and 5 (``conservative``), or any two tests or the fifth (``aggressive``).

    Returns
    -------
    Probability, (y, x); NaN where a band is missing.
    """
    out = np.empty(blue.shape, dtype="float32")
    wanted = ("none", "conservative", "aggressive").index(partial)
    _probabilities(in_rows(blue, green, red, nir08, swir16, swir22), tuple(map(float, limits)), wanted, out.reshape(-1))
    return out


def in_rows(*bands: np.ndarray) -> np.ndarray:
    """Return one float32 row of pixels per band: what loops over pixels take."""
    return np.stack([np.asarray(band, dtype="float32").ravel() for band in bands])


def _in_steps(limits: Limits) -> tuple[float, ...]:
    """Return the limits with reflectance in whole steps; those of indices as they are."""
    named = Limits(*limits)
    return tuple(
        float(value) if name == "wigt" or name.endswith(("mndwi", "ndvi")) else float(round(value * STEPS))
        for name, value in zip(named._fields, named, strict=True)
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _words(bands: np.ndarray, limits: tuple[float, ...], out: np.ndarray) -> None:
    wigt, awgt, m4, s4, n4, v4, m5, b5, s5, t5, n5 = limits
    for i in range(out.size):
        b, g, r = np.rint(bands[0, i] * STEPS), np.rint(bands[1, i] * STEPS), np.rint(bands[2, i] * STEPS)
        n, s, t = np.rint(bands[3, i] * STEPS), np.rint(bands[4, i] * STEPS), np.rint(bands[5, i] * STEPS)
        if not np.isfinite(b + g + r + n + s + t):
            out[i] = NOT_COMPUTED
            continue
        # Quotients of integers below 2**53 are correctly rounded, so a ratio that equals its limit compares equal.
        mndwi, ndvi = (g - s) / (g + s), (n - r) / (n + r)
        word = 0
        if mndwi > wigt:
            word |= 1
        if g + r > n + s:
            word |= 2
        if 4.0 * b + 10.0 * g - 6.0 * (n + s) - t > 4.0 * awgt:
            word |= 4
        if mndwi > m4 and s < s4 and n < n4 and ndvi < v4:
            word |= 8
        if mndwi > m5 and b < b5 and s < s5 and t < t5 and n < n5:
            word |= 16
        out[i] = word


@numba.njit(nogil=True, cache=True, inline="always")
def _variance(x: float) -> float:
    return SIGMA_FLOOR * SIGMA_FLOOR + SIGMA_RELATIVE * SIGMA_RELATIVE * x * x


@numba.njit(nogil=True, cache=True, inline="always", error_model="numpy")
def _above(a: float, b: float, limit: float) -> float:
    """Margin by which (a - b) / (a + b) exceeds its limit, in standard deviations; 0 (nothing known) where the ratio is not defined."""
    total = a + b
    if total == 0.0:
        return 0.0
    variance = 4.0 * (b * b * _variance(a) + a * a * _variance(b)) / (total * total * total * total)
    return ((a - b) / total - limit) / sqrt(variance + SIGMA_INDEX * SIGMA_INDEX)


@numba.njit(nogil=True, cache=True, inline="always")
def _below(x: float, limit: float) -> float:
    return (limit - x) / sqrt(_variance(x) + SIGMA_LIMIT * SIGMA_LIMIT)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _probabilities(bands: np.ndarray, limits: tuple[float, ...], partial: int, out: np.ndarray) -> None:
    wigt, awgt, m4, s4, n4, v4, m5, b5, s5, t5, n5 = limits
    limit = SIGMA_LIMIT * SIGMA_LIMIT
    for i in range(out.size):
        b, g, r = float(bands[0, i]), float(bands[1, i]), float(bands[2, i])
        n, s, t = float(bands[3, i]), float(bands[4, i]), float(bands[5, i])
        if not np.isfinite(b + g + r + n + s + t):
            out[i] = np.nan
            continue
        vb, vg, vr, vn, vs, vt = _variance(b), _variance(g), _variance(r), _variance(n), _variance(s), _variance(t)
        one = _above(g, s, wigt)
        two = (g + r - n - s) / sqrt(vg + vr + vn + vs + limit)
        awei = b + 2.5 * g - 1.5 * (n + s) - 0.25 * t
        three = (awei - awgt) / sqrt(vb + 6.25 * vg + 2.25 * (vn + vs) + 0.0625 * vt + limit)
        fourth = min(_above(g, s, m4), _below(s, s4), _below(n, n4), -_above(n, r, v4))
        fifth = min(_above(g, s, m5), _below(b, b5), _below(s, s5), _below(t, t5), _below(n, n5))
        best, second, deciding = -inf, -inf, -inf
        for margin in (one, two, three, fourth, fifth):
            if margin > best:
                best, second, deciding = margin, best, second
            elif margin > second:
                second, deciding = margin, second
            elif margin > deciding:
                deciding = margin
        if partial == 1:
            deciding = max(deciding, min(fourth, fifth))
        elif partial == 2:
            deciding = max(second, fifth)
        out[i] = 0.5 * (1.0 + erf(deciding / SQRT2))
