"""How large a pixel is on the ground: what turns metres and hectares of a parameter into pixels of a grid."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, cos, radians, sqrt

from mdive.model.plan import Grid


def pixel_metres(grid: Grid) -> float:
    """Return the edge of a pixel in metres; in a geographic grid that of a square of the same area, at the middle of the grid."""
    return _pixel_metres(grid.crs, grid.resolution, grid.y0 - grid.resolution * grid.shape[0] / 2)


def least_pixels(hectares: float, grid: Grid) -> int:
    """Return the smallest number of pixels that cover an area of so many hectares (1 ha = 10,000 m²)."""
    # The small term keeps 0.3 ha at 30 pixels of 10 m, whatever the last bit of 0.3 says.
    return ceil(hectares * 1e4 / pixel_metres(grid) ** 2 - 1e-9)


@lru_cache(maxsize=64)
def _pixel_metres(crs: str, resolution: float, y: float) -> float:
    from pyproj import CRS

    system = CRS.from_user_input(crs)
    if system.is_geographic:
        # A degree of latitude is 110.6 to 111.7 km on the ellipsoid; its mean serves a window or a minimum area well enough.
        return resolution * 111_133.0 * sqrt(max(cos(radians(y)), 0.01))
    return resolution * float(system.axis_info[0].unit_conversion_factor)
