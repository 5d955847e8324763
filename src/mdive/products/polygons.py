"""Polygons of the event, as GeoParquet: one row per connected component of each class that means the event.

The class raster is outlined window by window with GDAL, in whole pixel coordinates. Pieces of one component that meet on a window's
border are joined afterwards, exactly, because whole numbers leave nothing to round. The outline of a 4-connected component is unique
as a valid polygon (each ring bounds one 4-connected part of what is not the component), so after straight vertices are dropped and
rings are put into a canonical order, the result does not depend on the windows: it is what GDAL gives for the whole raster at once.

Polygons are in the CRS of the grid, where their edges are exactly those of the pixels; GeoParquet carries the CRS, and readers
reproject. Areas are geodesic, in m² on the ellipsoid.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import shapely
from pyproj import CRS, Proj
from rasterio import features
from scipy import ndimage, sparse

from mdive.model.plan import Grid
from mdive.model.product import RasterSpec
from mdive.pipeline.window import Tiles, Window
from mdive.products.files import staged, writing
from mdive.products.raster import Probability, raster_window

_WINDOW = 1024
"""Edge of a window in pixels: its outlines, as Python numbers, stay below some 100 MB even for noise."""

_STRAIGHT_M = 2_000.0
"""Longest edge in metres that is taken for a geodesic: one of 2 km along a parallel at 60° lies 0.14 m from it at most."""

_EARTH_RADIUS_M = 6_378_137.0
"""Equatorial radius, to tell how long a pixel given in degrees is at most."""

_FOUR = ndimage.generate_binary_structure(2, 1)

_outline_lock = threading.Lock()
"""``features.shapes`` deadlocks when its first two calls in a process overlap (rasterio issue 3611): all calls take turns ..."""
with _outline_lock:  # ... and the first one happens here
    list(features.shapes(np.zeros((1, 1), np.uint8)))

Geometries = np.ndarray[Any, np.dtype[np.object_]]


@dataclass
class _Table:
    """Components: one entry each in all lists, in pixel coordinates (column, row)."""

    value: list[np.ndarray[Any, Any]] = field(default_factory=list)
    first: list[np.ndarray[Any, Any]] = field(default_factory=list)
    """Flat index of the first pixel: the component's rank in its class."""
    pixels: list[np.ndarray[Any, Any]] = field(default_factory=list)
    known: list[np.ndarray[Any, Any]] = field(default_factory=list)
    """Pixels that have a probability."""
    total: list[np.ndarray[Any, Any]] = field(default_factory=list)
    """Sum of stored probabilities."""
    geometry: list[Geometries] = field(default_factory=list)

    def add(self, columns: dict[str, np.ndarray[Any, Any]]) -> None:
        for name, column in columns.items():
            getattr(self, name).append(column)

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        empty = {name: np.array([], dtype=object if name == "geometry" else np.int64) for name in self.__dataclass_fields__}
        return {name: np.concatenate([empty[name], *getattr(self, name)]) for name in empty}


def write_polygons(
    path: Path,
    class_path: Path,
    spec: RasterSpec,
    grid: Grid,
    *,
    probability_path: Path | None = None,
    min_area_m2: float = 0.0,
) -> int:
    """Outline the event's classes and write them as GeoParquet 1.1 with a ``bbox`` covering column.

    Columns: ``id`` (from 1), ``class``, ``class_value``, ``area_m2`` (geodesic), ``mean_probability`` (null where there is none),
    ``pixels``, ``geometry``. Rows are sorted by (class value, first pixel in reading order). No component at all is a file with no rows.

    Parameters
    ----------
    path
        File to write; it appears complete or not at all.
    class_path
        Class raster (uint8) on ``grid``.
    spec
        Its class table; classes of role ``event`` are outlined.
    grid
        Its grid.
    probability_path
        Raster of the event's probability on the same grid.
    min_area_m2
        Components smaller than this are left out.

    Returns
    -------
    The number of rows.

    Raises
    ------
    RunFolderError
        The file cannot be written.
    """
    columns, scale = components(class_path, spec, grid, probability_path=probability_path)
    area = geodesic_areas(columns["geometry"], grid)
    keep = area >= min_area_m2
    columns = {name: column[keep] for name, column in columns.items()}
    names = {entry.value: entry.name for entry in spec.classes}
    known = columns["known"].astype(float)
    mean = np.divide(columns["total"] * scale, known, out=np.full(len(known), np.nan), where=known > 0)
    frame = geopandas.GeoDataFrame(
        {
            "id": np.arange(1, len(known) + 1, dtype=np.int64),
            "class": pd.array([names[int(value)] for value in columns["value"]], dtype="str"),
            "class_value": columns["value"].astype(np.int16),
            "area_m2": area[keep],
            "mean_probability": mean,
            "pixels": columns["pixels"],
        },
        geometry=_on_the_map(columns["geometry"], grid),
        crs=CRS.from_user_input(grid.crs),
    )
    with staged(path) as target, writing(path):
        frame.to_parquet(target, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)
    return len(frame)


def components(
    class_path: Path,
    spec: RasterSpec,
    grid: Grid,
    *,
    probability_path: Path | None = None,
    window: int = _WINDOW,
) -> tuple[dict[str, np.ndarray[Any, Any]], float]:
    """Return the event's components, sorted, outlined in pixel coordinates (column, row); the result does not depend on ``window``.

    Returns
    -------
    Columns ``value, first, pixels, known, total, geometry``, and the step of the stored probabilities.
    """
    values = sorted(entry.value for entry in spec.classes if entry.role == "event")
    done, seams = _Table(), _Seams(grid.shape[1])
    with ExitStack() as stack:
        classes = stack.enter_context(rasterio.open(class_path))
        probability = stack.enter_context(Probability(probability_path)) if probability_path else None
        for tile in Tiles.regular(grid.shape, window):
            labels, label_values = _label(classes.read(1, window=raster_window(tile)), values)
            weight = probability.read(tile) if probability and len(label_values) > 1 else None
            pieces = _pieces(labels, label_values, tile, grid.shape[1], weight)
            done.add(seams.take(labels, tile, pieces))
    done.add(seams.join())
    columns = done.columns()
    columns["geometry"] = shapely.normalize(_without_straight_vertices(columns["geometry"]))
    order = np.lexsort((columns["first"], columns["value"]))
    return {name: column[order] for name, column in columns.items()}, probability.step if probability else 1.0


def _label(block: np.ndarray[Any, Any], values: Sequence[int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the 4-connected components of all classes (int32, 0 elsewhere) and the class of each label (index 0 unused)."""
    labels = np.zeros(block.shape, np.int32)
    owner = [0]
    for value in values:
        inside = block == value
        if not inside.any():
            continue
        found, count = ndimage.label(inside, _FOUR)
        labels[inside] = found[inside] + (len(owner) - 1)
        owner.extend([value] * count)
    return labels, np.array(owner, np.int64)


def _pieces(
    labels: np.ndarray[Any, Any],
    label_values: np.ndarray[Any, Any],
    tile: Window,
    grid_cols: int,
    weight: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None,
) -> dict[str, np.ndarray[Any, Any]]:
    """Return what is known of each component of a window, in label order (entry 0 is label 1)."""
    n = len(label_values)
    flat = labels.ravel()
    where = np.flatnonzero(flat)
    inside = flat[where]
    first = np.zeros(n, np.int64)
    # Written from the last pixel to the first: the first one stays.
    first[inside[::-1]] = where[::-1]
    rows, cols = np.divmod(first, tile.width)
    piece = {
        "value": label_values,
        "first": (rows + tile.row) * grid_cols + cols + tile.col,
        "pixels": np.bincount(inside, minlength=n),
        "known": np.zeros(n, np.int64),
        "total": np.zeros(n, np.int64),
    }
    if weight is not None:
        stored, known = (array.ravel()[where] for array in weight)
        piece["known"] = np.bincount(inside[known], minlength=n)
        # Sums of whole numbers are exact in float64 up to 2**53.
        piece["total"] = np.bincount(inside, weights=stored, minlength=n).astype(np.int64)
    return {name: column[1:] for name, column in piece.items()} | {"geometry": _outline(labels, n - 1, tile)}


def _outline(labels: np.ndarray[Any, Any], count: int, tile: Window) -> Geometries:
    """Return the polygon of each label, in pixel coordinates of the grid."""
    if not count:
        return np.array([], dtype=object)
    coordinates: list[tuple[float, float]] = []
    ring_ends, polygon_ends, found = [0], [0], []
    with _outline_lock:
        for shape, label in features.shapes(labels, mask=labels > 0, connectivity=4):
            for ring in shape["coordinates"]:
                coordinates.extend(ring)
                ring_ends.append(len(coordinates))
            polygon_ends.append(len(ring_ends) - 1)
            found.append(int(label) - 1)
    corners = np.array(coordinates, np.float64) + np.array([tile.col, tile.row])
    geometries = np.empty(count, dtype=object)
    geometries[found] = _polygons(corners, (np.array(ring_ends), np.array(polygon_ends)))
    return geometries


class _Seams:
    """Pieces that touch the border of their window; joined with their neighbours when all windows have been seen.

    Parameters
    ----------
    cols
        Columns of the grid.
    """

    def __init__(self, cols: int) -> None:
        self._pieces = _Table()
        self._count = 0
        self._pairs: list[np.ndarray[Any, Any]] = []
        self._above = np.full(cols, -1, np.int64)
        """Number of the piece in the last row of the windows above, by column; -1 where there is none."""
        self._left = np.array([], np.int64)
        """The same for the last column of the window to the left."""

    def take(self, labels: np.ndarray[Any, Any], tile: Window, pieces: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Keep the pieces of a window that touch its border and return the others; windows come left to right, top to bottom."""
        border = np.zeros(len(pieces["value"]) + 1, bool)
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            border[edge] = True
        border[0] = False
        number = np.full(len(border), -1, np.int64)
        number[border] = self._count + np.arange(border.sum())
        self._count += int(border.sum())
        kept = {name: column[border[1:]] for name, column in pieces.items()}
        self._pieces.add({**kept, "geometry": _with_border_vertices(kept["geometry"], tile)})
        span = slice(tile.col, tile.col_end)
        self._meet(self._above[span], number[labels[0]])
        if tile.col:
            self._meet(self._left, number[labels[:, 0]])
        self._above[span] = number[labels[-1]]
        self._left = number[labels[:, -1]]
        return {name: column[~border[1:]] for name, column in pieces.items()}

    def _meet(self, one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> None:
        both = (one >= 0) & (other >= 0)
        if both.any():
            self._pairs.append(np.unique(np.stack([one[both], other[both]]), axis=1))

    def join(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the components that the pieces make up."""
        pieces = self._pieces.columns()
        pairs = np.concatenate([np.zeros((2, 0), np.int64), *self._pairs], axis=1)
        one, other = pairs[:, pieces["value"][pairs[0]] == pieces["value"][pairs[1]]]
        links = sparse.coo_array((np.ones(len(one), np.int8), (one, other)), shape=(self._count, self._count))
        count, group = sparse.csgraph.connected_components(links, directed=False) if self._count else (0, np.array([], np.int64))
        joined = {name: np.zeros(count, np.int64) for name in ("value", "first", "pixels", "known", "total")}
        joined["value"][group] = pieces["value"]
        joined["first"][:] = np.iinfo(np.int64).max
        np.minimum.at(joined["first"], group, pieces["first"])
        for name in ("pixels", "known", "total"):
            np.add.at(joined[name], group, pieces[name])
        order = np.argsort(group, kind="stable")
        members = np.split(pieces["geometry"][order], np.cumsum(np.bincount(group, minlength=count))[:-1]) if count else []
        geometry = np.empty(count, dtype=object)
        for i, parts in enumerate(members):
            geometry[i] = parts[0] if len(parts) == 1 else _union(parts)
        return {**joined, "geometry": geometry}


def _union(parts: Geometries) -> shapely.Polygon:
    """Join pieces that share borders vertex by vertex: doubled edges cancel, and no coordinate is computed."""
    whole = shapely.coverage_union_all(parts)
    return whole if whole.geom_type == "Polygon" else shapely.get_geometry(whole, 0)


def _with_border_vertices(geometries: Geometries, tile: Window) -> Geometries:
    """Put a vertex on each pixel corner along the window's border, so that the neighbour's pieces match vertex by vertex."""
    if not len(geometries):
        return geometries
    _, corners, offsets = shapely.to_ragged_array(geometries)
    step = np.diff(corners, axis=0, append=corners[-1:])
    on_border = np.zeros(len(corners), bool)
    for axis, lines in ((0, (tile.col, tile.col_end)), (1, (tile.row, tile.row_end))):
        on_border |= (step[:, axis] == 0) & np.isin(corners[:, axis], lines)
    return _subdivided(corners, offsets, np.where(on_border, np.abs(step).sum(axis=1), 1))


def _subdivided(corners: np.ndarray[Any, Any], offsets: tuple[np.ndarray[Any, Any], ...], parts: np.ndarray[Any, Any]) -> Geometries:
    """Cut the edge that begins at each vertex into equal parts; ``shapely.segmentize`` also checks validity, which can take minutes."""
    counts = np.maximum(parts, 1).astype(np.int64)
    counts[offsets[0][1:] - 1] = 1  # no edge of its ring begins at a ring's last vertex
    step = np.diff(corners, axis=0, append=corners[-1:]) / counts[:, None]
    starts = np.concatenate([[0], np.cumsum(counts)])
    nth = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
    dense = np.repeat(corners, counts, axis=0) + np.repeat(step, counts, axis=0) * nth[:, None]
    return _polygons(dense, (starts[offsets[0]], offsets[1]))


def _without_straight_vertices(geometries: Geometries) -> Geometries:
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
    return _polygons(open_corners[closed], (bounds + np.arange(len(bounds)), parts))


def _polygons(corners: np.ndarray[Any, Any], offsets: tuple[np.ndarray[Any, Any], ...]) -> Geometries:
    made: Geometries = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, offsets)
    return made


def _on_the_map(geometries: Geometries, grid: Grid) -> Geometries:
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
    short = _subdivided(corners, offsets, np.ceil(length / max(1.0, _STRAIGHT_M // edge)))
    _, corners, (rings, parts) = shapely.to_ragged_array(_on_the_map(short, grid))
    if crs.is_geographic:
        lon, lat = (corners * math.degrees(crs.axis_info[0].unit_conversion_factor)).T
    else:
        lon, lat = Proj(crs)(corners[:, 0], corners[:, 1], inverse=True)
    # Counter-clockwise shells count positive, clockwise holes negative.
    signed = [geod.polygon_area_perimeter(lon[a:b], lat[a:b])[0] for a, b in pairwise(rings)]
    for i, (a, b) in enumerate(pairwise(parts)):
        areas[i] = math.fsum(signed[a:b])
    return areas
