"""How large a pixel is on the ground: what turns metres and hectares of a parameter into pixels, and steps between pixels into metres.

A map's own metres are taken at their word, except where they are known to mean something else: a pixel in degrees, or of a cylindrical
projection (Web Mercator doubles lengths at 60 degrees north), is as large as the ellipsoid says at its row. Of UTM, national and continental
grids the word is good to 0.3 % in most and a few per cent in all, and terrain tools agree with each other on it.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, sqrt
from typing import Any

import numpy as np

from mdive.model.plan import Grid


def pixel_sizes(grid: Grid, row: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how wide and how high the pixels of some rows are on the ground.

    Parameters
    ----------
    grid
        The grid; ``row`` counts in it, whatever the tile.
    row, rows
        First row, which may lie beyond the grid (halos), and how many.

    Returns
    -------
    Width (along x) and height (along y) in metres, each float64 of ``rows`` numbers, one per row: those of a pixel at its middle latitude φ on the
    ellipsoid, N cos φ Δλ and M Δφ with the radii of curvature N = a / √(1 − e² sin² φ) and M = a (1 − e²) / (1 − e² sin² φ)^³⁄₂. For pixels of
    0.1 degrees and less that is the length of the arcs within 1e-6. Rows beyond a pole are as those at the pole, with a width near 0.

    References
    ----------
    Snyder (1987), Map Projections: A Working Manual, 10.3133/pp1395, equations 4-18 to 4-21.
    """
    return _pixel_sizes(grid.crs, grid.resolution, grid.y0, float(row), rows)


def pixel_areas(grid: Grid, row: int, rows: int) -> np.ndarray:
    """Return the area on the ground of a pixel of each of some rows in m², float64: its width times its height, see ``pixel_sizes``."""
    dx, dy = pixel_sizes(grid, row, rows)
    areas: np.ndarray = dx * dy
    return areas


def pixel_metres(grid: Grid) -> float:
    """Return the edge in metres of a square that is as large as a pixel in the middle of the grid."""
    middle = (grid.shape[0] - 1) / 2
    dx, dy = _pixel_sizes(grid.crs, grid.resolution, grid.y0, middle, 1)
    return float(dx[0]) if dx[0] == dy[0] else sqrt(dx[0] * dy[0])


def pixels_within(metres: float, grid: Grid) -> int:
    """Return how many pixels along a row or column lie within a distance, from centre to centre; the depth of ``Focal(metres=...)``."""
    # The small term keeps 60 m at six pixels of 10 m, whatever the last bit of the quotient says.
    return int(metres / pixel_metres(grid) + 1e-9)


def least_pixels(hectares: float, grid: Grid) -> int:
    """Return the smallest number of pixels that cover an area of so many hectares (1 ha = 10,000 m²)."""
    # The small term keeps 0.3 ha at 30 pixels of 10 m, whatever the last bit of 0.3 says.
    return ceil(hectares * 1e4 / pixel_metres(grid) ** 2 - 1e-9)


@lru_cache(maxsize=64)
def _pixel_sizes(crs: str, resolution: float, y0: float, row: float, rows: int) -> tuple[np.ndarray, np.ndarray]:
    system = _system(crs)
    unit = float(system.axis_info[0].unit_conversion_factor)
    edges = y0 - (row + np.arange(rows + 1)) * resolution
    if system.is_geographic:
        latitude, span = edges * unit, resolution * unit
    elif _cylindrical(system):
        latitude, span = _unprojected(system, resolution, edges)
    else:
        dx = dy = np.full(rows, resolution * unit)
        dx.setflags(write=False)
        return dx, dy
    latitude = np.clip(latitude, -np.pi / 2, np.pi / 2)
    a, inverse = system.ellipsoid.semi_major_metre, system.ellipsoid.inverse_flattening
    flattening = 1.0 / inverse if inverse else 0.0
    e2 = flattening * (2.0 - flattening)
    # The step is the same for all rows of degrees; from the edges it would carry the rounding of large numbers.
    height = np.full(rows, span) if system.is_geographic else latitude[:-1] - latitude[1:]
    middle = (latitude[:-1] + latitude[1:]) / 2
    w2 = 1.0 - e2 * np.sin(middle) ** 2
    dx = a / np.sqrt(w2) * np.cos(middle) * span
    dy = a * (1.0 - e2) / (w2 * np.sqrt(w2)) * height
    # Shared by all who ask.
    dx.setflags(write=False)
    dy.setflags(write=False)
    return dx, dy


def _cylindrical(system: Any) -> bool:
    """Whether the rows of a map follow parallels."""
    name = "" if system.coordinate_operation is None else system.coordinate_operation.method_name
    other = ("Transverse", "Oblique")
    return ("Mercator" in name or "Cylindrical" in name) and not any(word in name for word in other)


def _unprojected(system: Any, resolution: float, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the latitudes of horizontal lines and the longitude that a pixel spans, in radians, for a cylindrical projection."""
    from pyproj import Proj

    proj = Proj(system)
    _, latitude = proj(np.zeros_like(y), y, inverse=True)
    # The map may end at a pole.
    latitude = np.where(np.isfinite(latitude), latitude, np.copysign(90.0, y))
    longitude, _ = proj(np.array([0.0, resolution]), np.zeros(2), inverse=True)
    return np.radians(latitude), float(np.radians((longitude[1] - longitude[0]) % 360.0))


@lru_cache(maxsize=64)
def _system(crs: str) -> Any:
    from pyproj import CRS

    return CRS.from_user_input(crs)
