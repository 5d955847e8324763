"""What a C-band radar sees of a landscape: gamma0 by cover, incidence and slope, water dark but for wind, all under gamma speckle."""

# numba infers the types of the kernels from their calls.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mdive.algorithms.draws import hashed, key_of
from mdive.pipeline.window import Window
from mdive.testing._cover import BARE, BUILT, CROP, GRASS, SHRUB, TREE, WATER, Cover
from mdive.testing._landscape import Land, Landscape, Plane
from mdive.testing._noise import LEVELS, gamma_levels, normal_levels

MEANS = {
    TREE: (-8.0, -13.6, 0.7),
    SHRUB: (-10.0, -16.2, 0.9),
    GRASS: (-11.8, -18.8, 0.9),
    CROP: (-11.2, -18.6, 0.8),
    BUILT: (-3.8, -11.0, 2.6),
    BARE: (-12.4, -20.6, 1.0),
}
"""gamma0 VV and VH (dB) at 38 degrees and the spread of a cover's texture (dB): the middle of what C-band surveys report per class
(Ulaby & Dobson 2019, Handbook of Radar Scattering Statistics for Terrain). The classes overlap, as they do there."""

SMOOTH = (-17.4, -25.2)
"""gamma0 VV and VH (dB) of a rolled, bare, dry field or tarmac: the dark land that passes for water in a single scene."""
SMOOTH_FIELDS = 6
"""Fields of 256 that are smooth: about 2 % of the cropland."""

WATER_SLOPE, WATER_LEVEL = -0.394181, -4.142015
"""sigma0 VV (dB) of open water = slope x incidence (degrees) + level, the fit of Bauer-Marschallinger et al. 2022, 10.3390/rs14153673."""
WATER_CROSS = (-26.6, -0.12)
"""gamma0 VH (dB) of water at 38 degrees, and per degree: it lies on the noise floor of the sensor, so it hardly follows incidence."""


@dataclass(frozen=True, slots=True)
class Radar:
    """One acquisition."""

    looks: float = 4.4
    """Equivalent number of looks; 4.4 is Sentinel-1 GRDH at 10 m."""
    incidence: float = 36.0
    """Incidence angle (degrees) at the scene's west edge."""
    incidence_per_km: float = 0.068
    """It grows eastwards (an ascending pass looking right): 17 degrees over the 250 km of the IW swath."""
    wind: float = 0.3
    """Roughness of open water, 0 calm to 1 stormy: up to 8 dB brighter in gusts at 1."""
    moisture: float = 0.0
    """dB added to bare and farmed soil: wet ground after rain."""


@njit(nogil=True, cache=True)
def _backscatter(
    means, speckle, normal, key, draw, radar, row0, col0, res, code, field, patch, texture, wind, depth, permanent, east, vv, vh
):
    level, slope_w, cross, cross_slope, smooth_vv, smooth_vh, smooth_fields, near, per_m, wind_force, moisture = radar
    rows, cols = code.shape
    for i in range(rows):
        for j in range(cols):
            row, col = row0 + i, col0 + j
            theta = near + per_m * (col + 0.5) * res
            bits = hashed(key, row, col * 2 + draw)
            # Terrain flattening leaves a part of the slope's effect in gamma0; slopes that face the sensor in the west are brighter.
            tilt = 5.0 * min(max(east[i, j], -0.5), 0.5)
            c = code[i, j]
            land_vv, land_vh, spread = means[c, 0], means[c, 1], means[c, 2]
            if c == CROP:
                n = field[i, j]
                growth = (n & 31) / 31.0 - 0.5
                if n >= 256 - smooth_fields:
                    land_vv, land_vh = smooth_vv, smooth_vh
                else:
                    land_vv += 2.4 * growth + moisture
                    land_vh += 3.6 * growth + 0.6 * moisture
            elif c == BUILT:
                # Walls and streets: a pixel is a strong corner or it is not.
                house = normal[np.int64(hashed(key, row // 2, col // 2) >> np.uint64(48))]
                land_vv += spread * house
                land_vh += 0.8 * spread * house
            elif c in (GRASS, BARE):
                land_vv += moisture
            t = spread * (0.7 * texture[i, j] + 0.5 * patch[i, j]) + tilt - 0.06 * (theta - 38.0)
            land_vv += t
            land_vh += t
            a, b = land_vv, land_vh
            if depth[i, j] > 0.0 or permanent[i, j]:
                roughness = wind_force * (1.0 + 3.5 * max(wind[i, j], 0.0))
                radians = theta * (np.pi / 180.0)
                water_vv = level + slope_w * theta - 10.0 * np.log10(np.cos(radians)) + roughness + 0.3 * texture[i, j]
                water_vh = cross + cross_slope * (theta - 38.0) + 0.3 * roughness + 0.2 * texture[i, j]
                # What stands out of the water still scatters: stalks drown within decimetres, crowns and houses do not (double bounce).
                share = 0.0
                if not permanent[i, j]:
                    if c == TREE:
                        share = 1.0
                        a, b = land_vv + 2.2, land_vh + 0.3
                    elif c == BUILT:
                        share = max(1.0 - depth[i, j] / 3.0, 0.3)
                    elif c == SHRUB:
                        share = np.exp(-depth[i, j] / 0.3)
                    else:
                        share = np.exp(-depth[i, j] / 0.05)
                if share < 0.004:
                    a, b = water_vv, water_vh
                elif share < 1.0:
                    a = 10.0 * np.log10(share * 10.0 ** (0.1 * a) + (1.0 - share) * 10.0 ** (0.1 * water_vv))
                    b = 10.0 * np.log10(share * 10.0 ** (0.1 * b) + (1.0 - share) * 10.0 ** (0.1 * water_vh))
            vv[i, j] = a + speckle[np.int64(bits & np.uint64(0xFFFF))]
            vh[i, j] = b + speckle[np.int64((bits >> np.uint64(16)) & np.uint64(0xFFFF))]


def backscatter(
    landscape: Landscape, window: Window, land: Land, cover: Cover, radar: Radar, *, phase: str, flooded: bool
) -> dict[str, Plane]:
    """Return gamma0 in dB of a window, ``{"vv", "vh"}``, float32 (y, x).

    Speckle is drawn per pixel and polarisation, uncorrelated between neighbours (a resampled product has a correlation of about two
    pixels) and between the polarisations (as over natural targets, whose mean co- to cross-polar product is zero).
    """
    assert LEVELS == 1 << 16
    texture = landscape.noise("texture", window, ((160.0, 0.7), (50.0, 0.71)), natural=True)
    wind = landscape.noise(f"wind {phase}", window, ((3500.0, 0.8), (1200.0, 0.5), (300.0, 0.3)))
    depth = land.depth if flooded else np.full_like(land.depth, -1)
    means = np.zeros((256, 3), np.float32)
    for code, values in MEANS.items():
        means[code] = values
    numbers = (
        WATER_LEVEL,
        WATER_SLOPE,
        *WATER_CROSS,
        *SMOOTH,
        SMOOTH_FIELDS,
        radar.incidence,
        radar.incidence_per_km / 1000.0,
        radar.wind,
        radar.moisture,
    )
    vv, vh = np.empty(window.shape, np.float32), np.empty(window.shape, np.float32)
    _backscatter(
        means,
        _speckle_decibels(radar.looks),
        normal_levels(),
        key_of(landscape.seed, "speckle"),
        {"pre": 0, "post": 1}[phase],
        numbers,
        window.row,
        window.col,
        float(landscape.resolution),
        cover.code,
        cover.field,
        cover.patch,
        texture,
        wind,
        depth,
        land.permanent,
        land.east,
        vv,
        vh,
    )
    return {"vv": vv, "vh": vh}


def _speckle_decibels(looks: float) -> NDArray[np.float32]:
    return (10.0 * np.log10(gamma_levels(looks).astype(np.float64))).astype(np.float32)


__all__ = ["MEANS", "WATER", "Radar", "backscatter"]
