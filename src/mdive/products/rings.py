"""Arrays of polygons in pixel coordinates (column, row): their vertices, their joints, and their true areas.

Everything works on whole arrays of polygons at once, by their corners and offsets: a run has millions of vertices.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from pyproj import CRS, Proj

from mdive.model.plan import Grid
from mdive.pipeline.window import Window

_STRAIGHT_M = 2_000.0
"""Longest edge in metres that is taken for a geodesic: one of 2 km along a parallel at 60° lies 0.14 m from it at most."""

_EARTH_RADIUS_M = 6_378_137.0
"""Equatorial radius, to tell how long a pixel given in degrees is at most."""

Geometries = np.ndarray[Any, np.dtype[np.object_]]


def polygons_of(corners: np.ndarray[Any, Any], offsets: tuple[np.ndarray[Any, Any], ...]) -> Geometries:
    """Return polygons from their corners and the offsets of rings and of polygons."""
    made: Geometries = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, offsets)
    return made


def union(parts: Geometries) -> shapely.Polygon:
    """Join pieces that share borders vertex by vertex: doubled edges cancel, and no coordinate is computed."""
    whole = shapely.coverage_union_all(parts)
    return whole if whole.geom_type == "Polygon" else shapely.get_geometry(whole, 0)


def with_border_vertices(geometries: Geometries, tile: Window) -> Geometries:
    """Put a vertex on each pixel corner along the window's border, so that the neighbour's pieces match vertex by vertex."""
    if not len(geometries):
        return geometries
    _, corners, offsets = shapely.to_ragged_array(geometries)
    step = np.diff(corners, axis=0, append=corners[-1:])
    on_border = np.zeros(len(corners), bool)
    for axis, lines in ((0, (tile.col, tile.col_end)), (1, (tile.row, tile.row_end))):
        on_border |= (step[:, axis] == 0) & np.isin(corners[:, axis], lines)
    return subdivided(corners, offsets, np.where(on_border, np.abs(step).sum(axis=1), 1))


def subdivided(corners: np.ndarray[Any, Any], offsets: tuple[np.ndarray[Any, Any], ...], parts: np.ndarray[Any, Any]) -> Geometries:
    """Cut the edge that begins at each vertex into equal parts; ``shapely.segmentize`` also checks validity, which can take minutes."""
    counts = np.maximum(parts, 1).astype(np.int64)
    counts[offsets[0][1:] - 1] = 1  # no edge of its ring begins at a ring's last vertex
    step = np.diff(corners, axis=0, append=corners[-1:]) / counts[:, None]
    starts = np.concatenate([[0], np.cumsum(counts)])
    nth = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
    dense = np.repeat(corners, counts, axis=0) + np.repeat(step, counts, axis=0) * nth[:, None]
    return polygons_of(dense, (starts[offsets[0]], offsets[1]))


def without_straight_vertices(geometries: Geometries) -> Geometries:
    """Drop vertices at which a ring goes straight on: what joining leaves behind."""
    if not len(geometries):
        return geometries
    _, corners, (rings, parts) = shapely.to_ragged_array(geometries)
    last = np.zeros(len(corners), bool)
    last[rings[1:] - 1] = True  # a ring repeats its first vertex as its last
    open_corners, sizes = corners[~last], np.diff(rings) - 1
    ends = np.cumsum(sizes)
    before, after = np.arange(len(open_corners)) - 1, np.arange(len(open_corners)) + 1
    before[ends - sizes], after[ends - 1] = ends - 1, ends - sizes
    into, out = open_corners - open_corners[before], open_corners[after] - open_corners
    turns = into[:, 0] * out[:, 1] != into[:, 1] * out[:, 0]
    kept = np.add.reduceat(turns, ends - sizes, dtype=np.int64)
    index = np.flatnonzero(turns)
    bounds = np.concatenate([[0], np.cumsum(kept)])
    closed = np.insert(index, bounds[1:], index[bounds[:-1]])  # close each ring again
    return polygons_of(open_corners[closed], (bounds + np.arange(len(bounds)), parts))


def on_the_map(geometries: Geometries, grid: Grid) -> Geometries:
    """Return polygons in the CRS of the grid. The flip of the rows turns shells counter-clockwise, as GeoJSON and GeoParquet like them."""
    moved: Geometries = shapely.transform(geometries, lambda corners: corners * (grid.resolution, -grid.resolution) + (grid.x0, grid.y0))
    return moved


def geodesic_areas(geometries: Geometries, grid: Grid) -> np.ndarray[Any, Any]:
    """Return the area in m² on the ellipsoid of polygons in pixel coordinates (Karney 2013, 10.1007/s00190-012-0578-z)."""
    areas = np.zeros(len(geometries))
    crs = CRS.from_user_input(grid.crs)
    geod = crs.get_geod()
    if not len(geometries) or geod is None:
        return areas
    edge = grid.resolution * crs.axis_info[0].unit_conversion_factor * (_EARTH_RADIUS_M if crs.is_geographic else 1.0)
    _, corners, offsets = shapely.to_ragged_array(geometries)
    length = np.abs(np.diff(corners, axis=0, append=corners[-1:])).sum(axis=1)
    short = subdivided(corners, offsets, np.ceil(length / max(1.0, _STRAIGHT_M // edge)))
    _, corners, (rings, parts) = shapely.to_ragged_array(on_the_map(short, grid))
    if crs.is_geographic:
        lon, lat = (corners * math.degrees(crs.axis_info[0].unit_conversion_factor)).T
    else:
        lon, lat = Proj(crs)(corners[:, 0], corners[:, 1], inverse=True)
    # Counter-clockwise shells count positive, clockwise holes negative.
    signed = [geod.polygon_area_perimeter(lon[a:b], lat[a:b])[0] for a, b in pairwise(rings)]
    for i, (a, b) in enumerate(pairwise(parts)):
        areas[i] = math.fsum(signed[a:b])
    return areas
