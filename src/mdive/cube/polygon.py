"""Polygons on the grid: which pixel centres lie inside, decided for each pixel by itself, so that no window can change the answer."""

from __future__ import annotations

import math
from functools import lru_cache

import numba
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from mdive.cube.grid import EDGE_STEP, transformer
from mdive.model.plan import Grid
from mdive.pipeline.window import Tiles, Window

Edges = np.ndarray
"""Edges of one polygon (holes included) as float64 (n, 4): x and y of the lower end, x and y of the upper end, in the grid's CRS."""


def area_mask(geometry: BaseGeometry, grid: Grid, window: Window) -> np.ndarray:
    """Return whether the centre of each pixel lies inside an area.

    Parameters
    ----------
    geometry
        Polygon or multipolygon in longitude and latitude (WGS 84).
    grid
        Target grid.
    window
        Pixels to decide, in global indices; may reach beyond the grid.

    Returns
    -------
    np.ndarray
        Boolean (y, x). A pixel's answer depends on its own centre only. A centre exactly on an edge that two polygons share belongs to
        one of them.
    """
    inside = np.zeros(window.shape, dtype=bool)
    for edges in polygon_edges(shapely.to_wkb(geometry), grid.crs):
        if _touches(edges, grid, window):
            inside |= _inside(edges, grid, window)
    return inside


def uniform(geometry: BaseGeometry, grid: Grid, window: Window) -> bool | None:
    """Return what `area_mask` says of all pixels of a window, without looking at each; None where an edge comes near it."""
    around, inside = window.expand(2), False
    for edges in polygon_edges(shapely.to_wkb(geometry), grid.crs):
        x, y = (edges[:, 0::2] - grid.x0) / grid.resolution, (grid.y0 - edges[:, 1::2]) / grid.resolution
        near = (y.max(axis=1) >= around.row) & (y.min(axis=1) <= around.row_end)
        near &= (x.max(axis=1) >= around.col) & (x.min(axis=1) <= around.col_end)
        if near.any():
            return None
        # No edge passes, so all centres lie on one side of each ring: that of the first.
        inside |= len(edges) > 0 and bool(_inside(edges, grid, Window(window.row, window.col, 1, 1))[0, 0])
    return inside


def holds_a_centre(geometry: BaseGeometry, grid: Grid) -> bool:
    """Return whether the centre of any pixel of a grid lies inside an area."""
    # The middle of a large area nearly always does, and to see that takes no compiled code, which takes long to load.
    middle = geometry.representative_point()
    x, y = transformer("EPSG:4326", grid.crs).transform(middle.x, middle.y)
    rows, cols = (grid.y0 - y) / grid.resolution, (x - grid.x0) / grid.resolution
    if math.isfinite(rows) and math.isfinite(cols) and 0 <= rows < grid.shape[0] and 0 <= cols < grid.shape[1]:
        centre = grid.x0 + (math.floor(cols) + 0.5) * grid.resolution, grid.y0 - (math.floor(rows) + 0.5) * grid.resolution
        back = transformer(grid.crs, "EPSG:4326").transform(*centre)
        # Two pixels and more inside (a metre is 1e-5 degrees and, far north, more): near an edge the exact rule below decides.
        if shapely.Point(back).buffer(grid.resolution * 2e-5).within(geometry):
            return True
    return any(area_mask(geometry, grid, window).any() for window in Tiles.regular(grid.shape, 1024))


@lru_cache(maxsize=128)
def polygon_edges(wkb: bytes, crs: str) -> tuple[Edges, ...]:
    """Return the edges of each polygon of a longitude/latitude geometry, projected to a CRS in pieces short enough to be straight."""
    to_grid = transformer("EPSG:4326", crs)
    found = []
    for part in shapely.get_parts(shapely.segmentize(shapely.from_wkb(wkb), EDGE_STEP)):
        if part.geom_type != "Polygon":
            continue
        pieces = []
        for ring in (part.exterior, *part.interiors):
            lon, lat = shapely.get_coordinates(ring).T
            x, y = to_grid.transform(lon, lat)
            pieces.append(np.column_stack([x[:-1], y[:-1], x[1:], y[1:]]))
        edges = np.concatenate(pieces)
        edges = edges[np.isfinite(edges).all(axis=1)]
        upside_down = edges[:, 1] > edges[:, 3]
        edges[upside_down] = edges[upside_down][:, [2, 3, 0, 1]]
        found.append(edges[edges[:, 1] < edges[:, 3]])
    return tuple(found)


def polygon_bounds(geometry: BaseGeometry, grid: Grid) -> tuple[float, float, float, float] | None:
    """Return (row, column, row end, column end) of a longitude/latitude geometry in pixels of the grid, as floats; None where it has none."""
    parts = [edges for edges in polygon_edges(shapely.to_wkb(geometry), grid.crs) if len(edges)]
    if not parts:
        return None
    x = np.concatenate([edges[:, 0::2].ravel() for edges in parts])
    y = np.concatenate([edges[:, 1::2].ravel() for edges in parts])
    rows, cols = (grid.y0 - y) / grid.resolution, (x - grid.x0) / grid.resolution
    return float(rows.min()), float(cols.min()), float(rows.max()), float(cols.max())


def _touches(edges: Edges, grid: Grid, window: Window) -> bool:
    if not len(edges):
        return False
    top, left = grid.y0 - window.row * grid.resolution, grid.x0 + window.col * grid.resolution
    bottom, right = top - window.height * grid.resolution, left + window.width * grid.resolution
    return bool(edges[:, 1].min() <= top and edges[:, 3].max() >= bottom and edges[:, 0::2].min() <= right and edges[:, 0::2].max() >= left)


def _inside(edges: Edges, grid: Grid, window: Window) -> np.ndarray:
    flips = np.zeros(window.shape, dtype=np.uint8)
    _cross(edges, grid.x0, grid.y0, grid.resolution, window.row, window.col, flips)
    return flips.view(bool)


@numba.njit(nogil=True, cache=True)
def _cross(edges, x0, y0, res, row, col, flips):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Even-odd rule along rows: an edge flips all pixels of a row whose centres lie to the right of where it crosses the row's middle."""
    height, width = flips.shape
    for e in range(edges.shape[0]):
        xa, ya, xb, yb = edges[e]
        first = max(math.floor((y0 - yb) / res - 0.5) - row - 1, 0)
        last = min(math.ceil((y0 - ya) / res - 0.5) - row + 1, height - 1)
        for i in range(first, last + 1):
            y = y0 - (row + i + 0.5) * res
            if not (ya <= y < yb):
                continue
            x = xa + (y - ya) * ((xb - xa) / (yb - ya))
            j = math.floor((x - x0) / res - 0.5)
            while x0 + (j + 0.5) * res <= x:
                j += 1
            while x0 + (j - 0.5) * res > x:
                j -= 1
            j = max(j - col, 0)
            if j < width:
                flips[i, j] ^= 1
    for i in range(height):
        for j in range(1, width):
            flips[i, j] ^= flips[i, j - 1]
