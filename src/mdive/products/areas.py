"""How large the pixels of a grid are on the ellipsoid, cell by cell of a lattice.

Each cell's pixels are as large as the one in its middle, measured by geodesics (Karney 2013, 10.1007/s00190-012-0578-z), so that any projection
will do. Square metres on the map are not square metres on the ground: at the edge of a UTM zone they differ by 0.2 %, in Web Mercator at 60°N
fourfold, and in degrees they mean nothing.
"""

from __future__ import annotations

import math

import numpy as np
from pyproj import CRS, Proj

from mdive.model.plan import Grid
from mdive.pipeline.window import Window

_CELL = 256
"""Edge of a lattice cell in pixels. At 10 m the areal scale of UTM changes by less than 1e-5 from its middle to its edge."""

_CELL_M = 6_400.0
"""Longest edge of a cell in metres: coarse pixels get smaller cells. Web Mercator at 60°N, a hard case, changes by 0.2 % over it."""

_QUAD_M = 1_000.0
"""Shortest edge in metres of the square that is measured: a geodesic area is good to 0.1 m², too little for a single pixel."""

_UNITS = 1 << 24
"""Units of area in a nominal pixel: rounding is below 3e-8 of an area."""


class PixelAreas:
    """True area of the pixels of a grid, cell by cell, as whole numbers of units: sums of them are exact in any order."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._crs = CRS.from_user_input(grid.crs)
        ellipsoid, unit = self._crs.ellipsoid, self._crs.axis_info[0].unit_conversion_factor
        if self._crs.is_geographic and ellipsoid is not None:
            # Cylindrical equal-area: a strip between two parallels is as high there as its true area asks, exactly.
            flattening = 1 / ellipsoid.inverse_flattening if ellipsoid.inverse_flattening else 0.0
            self._proj = Proj(proj="cea", a=ellipsoid.semi_major_metre, f=flattening)
            self._edge = grid.resolution * unit * ellipsoid.semi_major_metre
            self._degrees = math.degrees(unit)
        else:
            self._proj = Proj(self._crs)
            self._edge = grid.resolution * unit
            self._degrees = 0.0
        self._geod = self._crs.get_geod()
        self.unit_m2 = self._edge * self._edge / _UNITS

    def step(self, window: Window) -> tuple[int, int]:
        """Return the size of a cell, (rows, columns); the cells of a window begin at its first pixel."""
        if self._degrees:
            return 1, window.width
        edge = _power_of_two(_CELL_M / self._edge)
        return edge, edge

    def units(self, window: Window) -> list[int | None]:
        """Return the units of a pixel of each cell of a window, row by row; None where the CRS cannot tell."""
        if self._degrees:
            return self._parallels(window)
        step, _ = self.step(window)
        half = max(step, _QUAD_M / self._edge) / 2
        found: list[int | None] = []
        for row in range(0, window.height, step):
            for col in range(0, window.width, step):
                bottom, right = min(row + step, window.height), min(col + step, window.width)
                found.append(self._square(window.row + (row + bottom) / 2, window.col + (col + right) / 2, half))
        return found

    def _square(self, row: float, col: float, half: float) -> int | None:
        """Return the units of a pixel at a place: those of the square of 2 ``half`` pixels around it, measured by geodesics."""
        grid = self._grid
        x = grid.x0 + (col + np.array([-half, half, half, -half])) * grid.resolution
        y = grid.y0 - (row + np.array([half, half, -half, -half])) * grid.resolution
        lon, lat = self._proj(x, y, inverse=True, errcheck=False)
        if self._geod is None or not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None
        area, _ = self._geod.polygon_area_perimeter(lon, lat)
        return round(abs(area) / (4 * half * half) / self.unit_m2)

    def _parallels(self, window: Window) -> list[int | None]:
        edges = self._grid.y0 - (window.row + np.arange(window.height + 1)) * self._grid.resolution
        _, y = self._proj(np.zeros_like(edges), np.clip(edges * self._degrees, -90, 90))
        return [round(height * self._edge / self.unit_m2) for height in -np.diff(y)]


def _power_of_two(limit: float) -> int:
    """Return the largest power of two up to ``limit``, between 1 and a cell: it divides every window, whatever the grid."""
    return min(_CELL, 1 << int(math.log2(max(1.0, limit))))
