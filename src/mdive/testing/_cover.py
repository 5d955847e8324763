"""Land cover on a landscape: fields, grass, forest, towns, bare ground and water, each where it would be."""

# numba infers the types of the kernels from their calls.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mdive.algorithms.draws import hashed, key_of, mix, unit
from mdive.pipeline.window import Window
from mdive.testing._landscape import Land, Landscape, Plane

TREE, SHRUB, GRASS, CROP, BUILT, BARE, WATER = 10, 20, 30, 40, 50, 60, 80
"""Codes of ESA WorldCover, so that the layer reads like the real one."""

COVER_NAMES = {
    TREE: "tree_cover",
    SHRUB: "shrubland",
    GRASS: "grassland",
    CROP: "cropland",
    BUILT: "built_up",
    BARE: "bare",
    WATER: "permanent_water",
}


class Vegetation(NamedTuple):
    """What decides the cover: thresholds on unit-variance noise, so that shares follow from the normal distribution."""

    plain_forest: float
    """Share of the plain's fields that are woodlots."""
    hill_forest: float
    """Noise above which hills carry forest."""
    plain_grass: float
    """Noise below which the plain is grassland instead of cropland."""
    crop_height: float
    """Height above the nearest channel (m) up to which land is farmed."""
    bare_height: float
    """Height above the nearest channel (m) from which ridges turn bare."""
    towns: float
    """Share of 6 km cells with a town."""


FARMLAND = Vegetation(0.012, 0.35, -1.1, 150.0, 1e4, 0.55)
FOREST = Vegetation(0.15, -0.75, -0.2, 10.0, 440.0, 0.3)

FIELD = (270.0, 160.0)
"""Length and breadth of a field (m); 10 m pixels see about 430 pixels of each."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Cover of a window, arrays (y, x)."""

    code: NDArray[np.uint8]
    """WorldCover code."""
    field: NDArray[np.uint8]
    """A number per field (parcel), uniform on 0 ... 255: what grows there, how far it is."""
    patch: Plane
    """Unit-variance noise of 0.1 to 2 km: vigour, moisture, soil."""


PATCHES = ((1700.0, 0.72), (600.0, 0.53), (210.0, 0.36), (70.0, 0.26))


@njit(nogil=True, cache=True)
def _classify(vegetation, key, scale, res, row0, col0, du, dv, patch, wood, height, slope, permanent, code, field):
    rows, cols = code.shape
    town = 6000.0 * scale
    for i in range(rows):
        for j in range(cols):
            x, y = (col0 + j + 0.5) * res, (row0 + i + 0.5) * res
            # Fields lie askew, bend with the land, and are shifted row by row like bricks.
            a = 0.94 * x + 0.34 * y + 0.6 * du[i, j]
            b = -0.34 * x + 0.94 * y + 0.6 * dv[i, j]
            strip = np.int64(np.floor(b / FIELD[1]))
            lane = hashed(key, strip, 11)
            parcel = np.int64(np.floor(a / FIELD[0] + unit(lane)))
            bits = hashed(lane, parcel, 13)
            field[i, j] = np.uint8(bits >> np.uint64(40))
            h = height[i, j]
            if permanent[i, j]:
                code[i, j] = WATER
                continue
            p, q = np.int64(np.floor(x / town)), np.int64(np.floor(y / town))
            place = hashed(key, p * 2 + 1, q)
            if unit(place) < vegetation.towns and h > 1.5:
                ex = (x - (p + 0.3 + 0.4 * unit(hashed(place, 1, 0))) * town) / scale
                ey = (y - (q + 0.3 + 0.4 * unit(hashed(place, 2, 0))) * town) / scale
                radius = 250.0 + 650.0 * unit(hashed(place, 3, 0))
                if np.sqrt(ex * ex + ey * ey) < radius * (1.0 + 0.35 * patch[i, j]) and slope[i, j] < 0.12:
                    code[i, j] = BUILT
                    continue
            w = wood[i, j]
            high = h > 9.0
            if h > vegetation.bare_height * (1.0 + 0.12 * w) or (slope[i, j] > 1.0 and w < 1.0):
                code[i, j] = BARE
            elif (w > vegetation.hill_forest - 2.5 * min(slope[i, j], 0.4)) if high else (unit(mix(bits)) < vegetation.plain_forest):
                code[i, j] = TREE
            elif h < vegetation.crop_height and w > (vegetation.plain_grass if not high else vegetation.plain_grass + 0.6):
                code[i, j] = CROP
            elif w > vegetation.hill_forest - 0.5:
                code[i, j] = SHRUB
            else:
                code[i, j] = GRASS


def cover(landscape: Landscape, vegetation: Vegetation, window: Window, land: Land) -> Cover:
    """Return the land cover of a window of a landscape."""
    du, dv = landscape.displacement(window)
    patch = landscape.noise("patch", window, PATCHES)
    wood = landscape.noise("wood", window, ((2300.0, 0.78), (800.0, 0.48), (260.0, 0.33), (80.0, 0.2)))
    code, field = np.empty(window.shape, np.uint8), np.empty(window.shape, np.uint8)
    slope = np.hypot(land.east, land.south)
    _classify(
        vegetation,
        key_of(landscape.seed, "cover"),
        landscape.scale,
        float(landscape.resolution),
        window.row,
        window.col,
        du,
        dv,
        patch,
        wood,
        land.height,
        slope,
        land.permanent,
        code,
        field,
    )
    return Cover(code, field, patch)
