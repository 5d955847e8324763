"""Optical building blocks: spectral indices and their error, and cloud margins.

Reflectance is surface reflectance as a fraction (0 to 1). Blocks are (y, x), or (time, y, x) where a kernel says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mdive.algorithms.distance import within
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_metres
from mdive.plugins import Focal, Local, Metres, operation

REFLECTANCE: Final = (-0.2, 1.6)
"""What surface reflectance can be: -0.2 is the offset of the Landsat products, 1.6 the end of the valid range of Landsat and HLS;
a number beyond belongs to a saturated or wrongly corrected pixel, and no index should follow it further."""

DARK: Final = 0.02
"""|a + b| below which a ratio says nothing: two bands near zero are as large as their error, and the index could be anything."""

SIGMA_FLOOR: Final = 0.005
SIGMA_RELATIVE: Final = 0.05
"""Error of surface reflectance, sqrt(0.005² + (0.05 ρ)²): the specification of the Landsat and Sentinel-2 surface reflectance products."""

BLIND: Final = UNOBSERVED | QC_FLAGS["snow"]
"""Bits that leave nothing to say about the ground: not seen, or snow on top."""

SURE: Final = 0.99
"""Nothing seen is surer: the error of reflectance knows nothing of smoke, sun glint, harvest or a shadow that the mask missed."""


# Indices ----------------------------------------------------------------------------------------------------------------------------------


@operation(Local(), dtype="float32")
def ndwi(green: np.ndarray, nir: np.ndarray, /) -> np.ndarray:
    """Normalised difference water index, (G - N) / (G + N): positive over open water.

    References
    ----------
    McFeeters (1996), 10.1080/01431169608948714.
    """
    return normalised_difference(green, nir)


@operation(Local(), dtype="float32")
def mndwi(green: np.ndarray, swir16: np.ndarray, /) -> np.ndarray:
    """MNDWI, the modified NDWI, (G - S1) / (G + S1): as NDWI, but built-up land stays negative.

    References
    ----------
    Xu (2006), 10.1080/01431160600589179.
    """
    return normalised_difference(green, swir16)


@operation(Local(), dtype="float32")
def ndvi(nir: np.ndarray, red: np.ndarray, /) -> np.ndarray:
    """Normalised difference vegetation index, (N - R) / (N + R)."""
    return normalised_difference(nir, red)


@operation(Local(), dtype="float32")
def nbr(nir08: np.ndarray, swir22: np.ndarray, /) -> np.ndarray:
    """Normalised burn ratio, (N - S2) / (N + S2), with the narrow near infrared (Sentinel-2 B8A, Landsat B5).

    References
    ----------
    Key and Benson (2006), FIREMON: Landscape Assessment, RMRS-GTR-164.
    """
    return normalised_difference(nir08, swir22)


@operation(Local(), dtype="float32")
def nbr2(swir16: np.ndarray, swir22: np.ndarray, /) -> np.ndarray:
    """Normalised burn ratio 2, (S1 - S2) / (S1 + S2): falls where char replaces moist plants, and hardly follows illumination."""
    return normalised_difference(swir16, swir22)


@operation(Local(), dtype="float32")
def awei_sh(blue: np.ndarray, green: np.ndarray, nir: np.ndarray, swir16: np.ndarray, swir22: np.ndarray, /) -> np.ndarray:
    """Automated water extraction index for scenes with shadow, B + 2.5 G - 1.5 (N + S1) - 0.25 S2; reflectance units, water above 0.

    References
    ----------
    Feyisa et al. (2014), 10.1016/j.rse.2013.08.029.
    """
    b, g, n, s1, s2 = (_numbers(x) for x in (blue, green, nir, swir16, swir22))
    index: np.ndarray = b + 2.5 * g - 1.5 * (n + s1) - 0.25 * s2
    return index


@operation(Local(), dtype="float32")
def awei_nsh(green: np.ndarray, nir: np.ndarray, swir16: np.ndarray, swir22: np.ndarray, /) -> np.ndarray:
    """Automated water extraction index for scenes without shadow, 4 (G - S1) - (0.25 N + 2.75 S2); reflectance units, water above 0.

    References
    ----------
    Feyisa et al. (2014), 10.1016/j.rse.2013.08.029.
    """
    g, n, s1, s2 = (_numbers(x) for x in (green, nir, swir16, swir22))
    index: np.ndarray = 4.0 * (g - s1) - (0.25 * n + 2.75 * s2)
    return index


@operation(Local(), dtype="float32")
def index_sigma(
    a: np.ndarray,
    b: np.ndarray,
    /,
    *,
    floor: Annotated[float, Field(ge=0)] = SIGMA_FLOOR,
    relative: Annotated[float, Field(ge=0)] = SIGMA_RELATIVE,
    correlation: Annotated[float, Field(ge=-1, le=1)] = 0.0,
) -> np.ndarray:
    """Return the standard deviation of (a - b) / (a + b) that follows from the error of the reflectances.

    σ_f = 2 / (a + b)² · sqrt(b² σ_a² + a² σ_b² - 2 a b r σ_a σ_b), with σ = sqrt(floor² + (relative · ρ)²) of each band.

    Parameters
    ----------
    a, b
        Reflectance, (y, x) or (time, y, x).
    floor, relative
        Absolute (reflectance) and relative part of the error of one band.
    correlation
        Of the two bands' errors (they share the atmosphere).

    Returns
    -------
    σ_f, at most 1 (an index in [-1, 1] that is less certain than that is not known at all), and 1 where the sum is too small for an
    index; NaN where a band is.
    """
    x, y = _numbers(a), _numbers(b)
    total = x + y
    sx, sy = np.hypot(floor, relative * x), np.hypot(floor, relative * y)
    variance = (y * sx) ** 2 + (x * sy) ** 2 - 2.0 * correlation * x * y * sx * sy
    dark = np.abs(total) < DARK
    square = np.where(dark, 1.0, total * total)
    sigma: np.ndarray = np.where(dark, 1.0, np.minimum(2.0 / square * np.sqrt(np.maximum(variance, 0.0)), 1.0))
    return sigma


AWEI_SH: Final = (1.0, 2.5, -1.5, -1.5, -0.25)
"""Weights of blue, green, near infrared and both shortwave infrared bands."""
AWEI_NSH: Final = (4.0, -0.25, -4.0, -2.75)
"""Weights of green, near infrared and both shortwave infrared bands."""


@operation(Local(), dtype="float32")
def sum_sigma(*bands: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    """Return the standard deviation of a weighted sum of bands that follows from the error of their reflectances.

    Parameters
    ----------
    bands
        Reflectance, each (y, x), as many as weights.
    weights
        Of the sum.

    Returns
    -------
    √(Σ w² σ²) with σ = sqrt(``SIGMA_FLOOR``² + (``SIGMA_RELATIVE`` ρ)²), NaN where a band is.
    """
    variance = np.zeros(bands[0].shape, dtype="float32")
    for band, weight in zip(bands, weights, strict=True):
        variance = variance + np.float32(weight * weight) * (SIGMA_FLOOR**2 + (np.float32(SIGMA_RELATIVE) * _numbers(band)) ** 2)
    sigma: np.ndarray = np.sqrt(variance)
    return sigma


def normalised_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (a - b) / (a + b) as float32.

    Parameters
    ----------
    a, b
        Reflectance; it is limited to ``REFLECTANCE`` first, the index itself never is. Integers are taken for stored numbers with
        offset 0 (the ratio does not depend on their scale): converted first, so that unsigned numbers cannot wrap, and not limited.

    Returns
    -------
    The index; NaN where a band is, and where |a + b| < ``DARK`` (integers: where it is 0).
    """
    x, y = _numbers(a), _numbers(b)
    total = x + y
    dark = np.abs(total) < DARK if _is_reflectance(a) and _is_reflectance(b) else total == 0
    index: np.ndarray = (x - y) / np.where(dark, np.nan, total)
    return index.astype("float32")


def _is_reflectance(band: np.ndarray) -> bool:
    return np.asarray(band).dtype.kind == "f"


def _numbers(band: np.ndarray) -> np.ndarray:
    """Return reflectance within its limits as float32; stored integers as float64 (all 32-bit numbers are exact there)."""
    return np.clip(np.asarray(band, dtype="float32"), *REFLECTANCE) if _is_reflectance(band) else np.asarray(band, dtype="float64")


# Masks ------------------------------------------------------------------------------------------------------------------------------------


def _buffer_radius(metres: float, grid: Grid) -> float:
    """Return the radius in pixels; a margin never rounds to none."""
    # On a coarse grid the quality band is that of the pixel's centre, but reflectance is the mean of the whole pixel, which may hold an edge.
    return max(metres / pixel_metres(grid), 1.0) if metres > 0 else 0.0


def _buffer_depth(parameters: Mapping[str, Any], grid: Grid) -> int:
    # The small term keeps 60 m at six pixels of 10 m, whatever the last bit of the quotient says.
    return int(_buffer_radius(parameters["metres"], grid) + 1e-9)


@operation(Focal(_buffer_depth), dtype="uint16")
def cloud_buffer(mask: np.ndarray, /, *, grid: Grid, metres: Metres = 60.0) -> np.ndarray:
    """Let cloud and cloud shadow reach further: their thin edges are what quality bands miss, and what looks like water or burn.

    Parameters
    ----------
    mask
        Cause plane, (time, y, x) or (y, x), bits of ``QC_FLAGS``.
    metres
        Radius of the disk. 60 m is three pixels of 20 m, the margin of the Sentinel-2 scene classification in SCIENCE's mask rules;
        WOfS uses a disk of 3.5 pixels of 25 m. Pixels larger than it are grown by one; 0 grows nothing.

    Returns
    -------
    The plane with the bits ``cloud`` and ``shadow`` grown, each on its own.
    """
    radius, reach = _buffer_radius(metres, grid), _buffer_depth({"metres": metres}, grid)
    out = np.array(mask, dtype="uint16")
    if reach < 1:
        return out
    layers = out.reshape(-1, *out.shape[-2:])
    for layer in layers:
        for bit in (QC_FLAGS["cloud"], QC_FLAGS["shadow"]):
            found = layer & bit != 0
            if found.any():
                layer[within(found, int(radius * radius + 1e-9))] |= bit
    return layers.reshape(out.shape)
