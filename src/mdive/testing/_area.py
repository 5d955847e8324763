"""The area that a synthetic event asks for: a longitude/latitude box inside its grid, and which pixels lie in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from mdive.model.plan import Grid
from mdive.pipeline.window import Window

BBox = tuple[float, float, float, float]
"""(west, south, east, north), degrees."""

POINTS = 129
"""Points by which a side of the box is followed in the grid: over 100 km it bends by about 200 m, and between two points by 1 cm."""


def area_inside(grid: Grid, margin: int) -> BBox:
    """Return the largest box that stays ``margin`` pixels inside a grid, to six decimals.

    A meridian leans in the grid, so each side lies where the grid's inner rectangle is narrowest.
    """
    rows, cols = grid.shape
    project = Transformer.from_crs(grid.crs, 4326, always_xy=True).transform
    x = grid.x0 + grid.resolution * np.linspace(margin, cols - margin, POINTS)
    y = grid.y0 - grid.resolution * np.linspace(margin, rows - margin, POINTS)
    west = project(np.full_like(y, x[0]), y)[0].max()
    east = project(np.full_like(y, x[-1]), y)[0].min()
    north = project(x, np.full_like(x, y[0]))[1].min()
    south = project(x, np.full_like(x, y[-1]))[1].max()
    return (
        float(np.ceil(west * 1e6) / 1e6),
        float(np.ceil(south * 1e6) / 1e6),
        float(np.floor(east * 1e6) / 1e6),
        float(np.floor(north * 1e6) / 1e6),
    )


@dataclass(frozen=True)
class AreaMask:
    """Which pixels of a grid have their centre in a box; two lines of interpolation per block instead of a projection per pixel."""

    grid: Grid
    bbox: BBox

    def __post_init__(self) -> None:
        west, south, east, north = self.bbox
        lon, lat = np.linspace(west, east, POINTS), np.linspace(south, north, POINTS)
        project = Transformer.from_crs(4326, self.grid.crs, always_xy=True).transform
        sides = {}
        for name, (x, y) in {
            "west": project(np.full(POINTS, west), lat),
            "east": project(np.full(POINTS, east), lat),
            "south": project(lon, np.full(POINTS, south)),
            "north": project(lon, np.full(POINTS, north)),
        }.items():
            col = (np.asarray(x) - self.grid.x0) / self.grid.resolution
            row = (self.grid.y0 - np.asarray(y)) / self.grid.resolution
            sides[name] = (row[::-1], col[::-1]) if name in ("west", "east") else (col, row)
        object.__setattr__(self, "_sides", sides)

    def window(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels of a window lie in the box."""
        sides: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = self._sides  # type: ignore[attr-defined]
        rows = np.arange(window.row, window.row_end) + 0.5
        cols = np.arange(window.col, window.col_end) + 0.5
        west, east = (np.interp(rows, *sides[name]) for name in ("west", "east"))
        north, south = (np.interp(cols, *sides[name]) for name in ("north", "south"))
        across = (cols[None, :] >= west[:, None]) & (cols[None, :] < east[:, None])
        down = (rows[:, None] >= north[None, :]) & (rows[:, None] < south[None, :])
        return np.asarray(across & down)
