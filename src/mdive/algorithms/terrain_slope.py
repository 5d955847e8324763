"""Slope, aspect and the sun's light on terrain, from the gradient over 3 x 3 pixels of true size.

The gradient is Horn's: differences over two pixels, weighted 1 2 1 across, hence divided by 8 pixel sizes. It is right on a plane of any
direction. Rows point south, so the gradient to the north is the row above minus the row below. North is the grid's: up on the map.

Edges: a pixel has a gradient where all nine heights of its window are known, else NaN. Heights are never made up, neither at the edge of the
data nor beside a hole: a DEM is loaded one pixel wider than its slope is needed.

References
----------
Horn (1981), 10.1109/PROC.1981.11918.
"""

from __future__ import annotations

from typing import Annotated, Final

import numba
import numpy as np
from pydantic import Field

from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_sizes
from mdive.plugins import Focal, Window, operation

Azimuth = Annotated[float, Field(ge=0, le=360, description="direction of the sun, degrees clockwise from the grid's north")]
Elevation = Annotated[float, Field(ge=0, le=90, description="angle of the sun above the horizon, degrees")]

HORN: Final = 8.0
"""Sum of the weights 1 2 1 on both sides, each over a distance of one pixel."""


@operation(Focal(1), dtype="float32", units="degree", working=41)
def slope(height: np.ndarray, /, *, window: Window, grid: Grid) -> np.ndarray:
    """Return the angle between the ground and the horizontal.

    Parameters
    ----------
    height
        Terrain height in m, (y, x); NaN where not known.

    Returns
    -------
    Degrees, 0 to 90; NaN where one of the nine heights is not known. A plane that rises 30 m in 100 m gives 16.70.
    """
    east, north = gradient(height, window, grid)
    degrees: np.ndarray = np.degrees(np.arctan(np.sqrt(east * east + north * north)))
    return degrees


@operation(Focal(1), dtype="float32", units="degree", working=41)
def aspect(height: np.ndarray, /, *, window: Window, grid: Grid) -> np.ndarray:
    """Return the direction in which the ground falls most steeply.

    Parameters
    ----------
    height
        Terrain height in m, (y, x); NaN where not known.

    Returns
    -------
    Degrees clockwise from the grid's north: 90 falls to the east, 180 to the south; at least 0, less than 360. NaN where the ground is
    level, which has no direction, and where one of the nine heights is not known.
    """
    east, north = gradient(height, window, grid)
    degrees: np.ndarray = (np.degrees(np.arctan2(-east, -north)) % 360.0).astype("float32")
    # An angle just below 360 rounds up to it.
    degrees[degrees >= 360.0] = 0.0
    degrees[(east == 0.0) & (north == 0.0)] = np.nan
    return degrees


@operation(Focal(1), dtype="float32", units="degree")
def solar_incidence(height: np.ndarray, /, *, sun_azimuth: Azimuth, sun_elevation: Elevation, window: Window, grid: Grid) -> np.ndarray:
    """Return the angle between the sun's rays and the normal of the ground.

    Its cosine is (sin h − cos h (g_e sin A + g_n cos A)) / √(1 + g²), with the gradient g to east and north and the sun at azimuth A and
    elevation h.

    Parameters
    ----------
    height
        Terrain height in m, (y, x); NaN where not known.

    Returns
    -------
    Degrees: 0 where the sun stands square to the ground, 90 − ``sun_elevation`` on level ground, more than 90 where the ground shades itself.
    Shadows that other ground casts are not in it. NaN where one of the nine heights is not known.
    """
    east, north = gradient(height, window, grid)
    azimuth, elevation = np.radians(sun_azimuth), np.radians(sun_elevation)
    rise = east * np.sin(azimuth) + north * np.cos(azimuth)
    cosine = (np.sin(elevation) - np.cos(elevation) * rise) / np.sqrt(1.0 + east * east + north * north)
    degrees: np.ndarray = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return degrees


@operation(Focal(1), dtype="float32", units="degree")
def sunward_slope(height: np.ndarray, /, *, sun_azimuth: Azimuth, window: Window, grid: Grid) -> np.ndarray:
    """Return the slope of the ground along the direction of the sun.

    Parameters
    ----------
    height
        Terrain height in m, (y, x); NaN where not known.

    Returns
    -------
    Degrees, −90 to 90: positive where the ground falls toward the sun and faces it, negative where it faces away. NaN where one of the nine
    heights is not known.
    """
    east, north = gradient(height, window, grid)
    azimuth = np.radians(sun_azimuth)
    degrees: np.ndarray = np.degrees(np.arctan(-(east * np.sin(azimuth) + north * np.cos(azimuth))))
    return degrees


def gradient(height: np.ndarray, window: Window, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return how much the ground rises per metre to the east and to the north.

    Parameters
    ----------
    height
        Terrain height in m, (y, x); NaN where not known. Whole numbers cannot say so: beyond the grid they are not known.
    window
        Where the block lies in the grid.

    Returns
    -------
    Two float64 arrays of the block's shape; NaN where one of the nine heights is not known.
    """
    east, north = np.full(height.shape, np.nan), np.full(height.shape, np.nan)
    dx, dy = pixel_sizes(grid, window.row, window.height)
    # One compiled kernel for each precision that is worth having.
    known = np.ascontiguousarray(height) if height.dtype in {"float32", "float64"} else _known(height, window, grid)
    _gradient(known, dx, dy, east, north)
    return east, north


def _known(height: np.ndarray, window: Window, grid: Grid) -> np.ndarray:
    known = np.full(height.shape, np.nan)
    inside = window.intersect(Window(0, 0, *grid.shape)).within(window)
    known[inside] = height[inside]
    return known


# Only the four basic operations here: numpy's functions of angles give the same bits wherever a block begins, those of compiled loops need not.
@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gradient(height: np.ndarray, dx: np.ndarray, dy: np.ndarray, east: np.ndarray, north: np.ndarray) -> None:
    rows, cols = height.shape
    for r in range(1, rows - 1):
        across, along = HORN * dx[r], HORN * dy[r]
        for c in range(1, cols - 1):
            nw, n, ne = np.float64(height[r - 1, c - 1]), np.float64(height[r - 1, c]), np.float64(height[r - 1, c + 1])
            w, e = np.float64(height[r, c - 1]), np.float64(height[r, c + 1])
            sw, s, se = np.float64(height[r + 1, c - 1]), np.float64(height[r + 1, c]), np.float64(height[r + 1, c + 1])
            # Zero, or NaN where the middle is not known: Horn's weights leave it out.
            here = np.float64(height[r, c]) * 0.0
            east[r, c] = ((ne - nw) + 2.0 * (e - w) + (se - sw)) / across + here
            north[r, c] = ((nw - sw) + 2.0 * (n - s) + (ne - se)) / along + here
