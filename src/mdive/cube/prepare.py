"""A source made ready for one grid: where each of its items may have pixels."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely
from pyproj.exceptions import CRSError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from mdive.cube.grid import same_crs, transformer
from mdive.cube.polygon import area_mask, polygon_bounds
from mdive.cube.relation import Nested, SourceGrid, Warp, relate
from mdive.model.plan import AssetRef, Grid, ItemRef, Source
from mdive.pipeline.window import Window

GROWTH = 0.05
"""Part of its size by which the rectangle that an item may fill is grown: footprints in catalogues are simplified polygons, and projection
metadata may be stale by some pixels. What a file holds beyond it is not used, so that a pixel never depends on which tile asked."""

GROWTH_PIXELS = 32
"""Least growth of that rectangle, in target pixels."""

EDGE_POINTS = 65
"""Points per edge of a raster when its outline is projected: 1.7 km apart on a Sentinel-2 tile, where the arc's sagitta is 6 cm."""

PREPARED = 32
"""Sources kept ready at a time in a process: those of a few plans."""

EVERYWHERE = Window(-(2**40), -(2**40), 2**41, 2**41)
"""The domain of a raster whose outline cannot be drawn on the grid (a global one)."""


@dataclass(frozen=True, slots=True)
class PlannedBand:
    """One band of one item, as the reader needs it."""

    item: str
    band: str
    asset: AssetRef
    origin: str | None
    """Where the item itself lives."""
    domain: Window
    """Target pixels that the band may fill."""
    claimed: SourceGrid | None
    """The grid of the file as the catalogue tells it."""


@dataclass(frozen=True, slots=True)
class PreparedSource:
    """What reading a source on a grid needs, computed once per process."""

    source: Source
    grid: Grid
    items: Mapping[str, ItemRef]
    bands: Mapping[str, Mapping[str, PlannedBand]]
    """Item id -> band -> what is planned."""
    domains: Mapping[str, Window]
    """Item id -> target pixels that any of its bands may fill."""
    mask_dtype: str
    """Integer type that holds every number of the quality band, and -1."""

    def touching(self, window: Window, items: Iterable[str]) -> list[str]:
        """Return those items that may have pixels in a window, in the order given."""
        return [item for item in items if not self.domains[item].intersect(window).empty]

    def footprint(self, item: str, band: str, window: Window) -> np.ndarray:
        """Return whether the centre of each pixel lies on a band of an item, by the catalogue's word, as booleans (y, x)."""
        planned = self.bands[item].get(band)
        claimed = planned.claimed if planned is not None else next((b.claimed for b in self.bands[item].values() if b.claimed), None)
        if claimed is not None:
            return relate(claimed, self.grid).inside(window)
        return area_mask(item_geometry(self.items[item]), self.grid, window)


_ready: OrderedDict[tuple[int, int], PreparedSource] = OrderedDict()
_lock = threading.Lock()


def prepare(source: Source, grid: Grid) -> PreparedSource:
    """Return a source made ready for a grid; the same objects are made ready once."""
    key = (id(source), id(grid))
    with _lock:
        ready = _ready.get(key)
        if ready is None or ready.source is not source or ready.grid is not grid:
            ready = _ready[key] = _prepared(source, grid)  # holds both objects, so that their ids stay theirs
        _ready.move_to_end(key)
        while len(_ready) > PREPARED:
            _ready.popitem(last=False)
    return ready


def claimed_grid(asset: AssetRef) -> SourceGrid | None:
    """Return the grid that the catalogue tells of an asset, if it tells all of it and the CRS exists."""
    if asset.crs is None or asset.transform is None or asset.shape is None:
        return None
    a, b, _, d, e, _ = asset.transform
    try:
        same_crs(asset.crs, "EPSG:4326")
    except CRSError:
        return None
    return SourceGrid(asset.crs, asset.transform, asset.shape) if a * e - b * d else None


def item_geometry(item: ItemRef) -> BaseGeometry:
    """Return an item's footprint; one that was drawn around the globe instead of across the antimeridian is put right."""
    geometry = shape(item.geometry)
    west, _, east, _ = geometry.bounds if not geometry.is_empty else (0.0, 0.0, 0.0, 0.0)
    if east - west <= 180.0 or len(shapely.get_parts(geometry)) > 1:
        return geometry
    return shapely.transform(geometry, lambda p: np.column_stack([np.where(p[:, 0] < 0.0, p[:, 0] + 360.0, p[:, 0]), p[:, 1]]))


@lru_cache(maxsize=4096)
def cover(source: SourceGrid, grid: Grid) -> Window | None:
    """Return the target pixels that a raster covers; None where its outline cannot be drawn on the target (a global raster)."""
    relation = relate(source, grid)
    height, width = source.shape
    if isinstance(relation, Nested):
        rows, cols = relation.rows, relation.cols
        top, left = (a.offset if a.repeat > 1 else -a.offset / a.shrink for a in (rows, cols))
        return _window(top, left, top + height * rows.repeat / rows.shrink, left + width * cols.repeat / cols.shrink)
    return _outline(source, relation)


def _outline(source: SourceGrid, warp: Warp) -> Window | None:
    t = np.linspace(0.0, 1.0, EDGE_POINTS)
    zero, one = np.zeros_like(t), np.ones_like(t)
    row = np.concatenate([zero, t, one, t]) * source.shape[0]
    col = np.concatenate([t, one, t, zero]) * source.shape[1]
    a, b, c, d, e, f = source.transform
    x, y = a * col + b * row + c, d * col + e * row + f
    grid = warp.grid
    if not same_crs(source.crs, grid.crs):
        x, y = transformer(source.crs, grid.crs).transform(x, y)
    rows, cols = (grid.y0 - np.asarray(y)) / grid.resolution, (np.asarray(x) - grid.x0) / grid.resolution
    if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
        return None
    back_row, back_col = warp.exact(rows, cols)
    turned = back_col - col
    if warp.period:
        turned -= np.rint(turned / warp.period) * warp.period
    # Far from its centre a projection may answer with numbers that mean another place; they do not lead back.
    if not (np.abs(back_row - row).max() < 1.0 and np.abs(turned).max() < 1.0):
        return None
    return _window(rows.min(), cols.min(), rows.max(), cols.max())


def _window(top: float, left: float, bottom: float, right: float) -> Window:
    row, col = math.floor(top), math.floor(left)
    return Window(row, col, math.ceil(bottom) - row, math.ceil(right) - col)


def _grown(window: Window) -> Window:
    margin = max(GROWTH_PIXELS, math.ceil(GROWTH * max(window.shape)))
    return window.expand(margin)


def _prepared(source: Source, grid: Grid) -> PreparedSource:
    bands: dict[str, dict[str, PlannedBand]] = {}
    domains: dict[str, Window] = {}
    for item in source.items:
        by_geometry = _geometry_domain(item, grid)
        planned = {}
        for band, asset in item.assets.items():
            claimed = claimed_grid(asset)
            covered = cover(claimed, grid) if claimed is not None else None
            domain = by_geometry if claimed is None else EVERYWHERE if covered is None else _grown(covered)
            if domain.intersect(by_geometry).empty:
                # The item's projection and its footprint contradict each other: the file itself decides which of them is right.
                claimed, domain = None, by_geometry
            planned[band] = PlannedBand(item.id, band, asset, item.href, domain, claimed)
        bands[item.id] = planned
        domains[item.id] = _hull([p.domain for p in planned.values()] or [by_geometry])
    wide = any(
        np.dtype(item.assets[source.mask.band].dtype).itemsize > 2
        for item in source.items
        if source.mask and source.mask.band in item.assets
    )
    return PreparedSource(source, grid, {item.id: item for item in source.items}, bands, domains, "int64" if wide else "int32")


def _geometry_domain(item: ItemRef, grid: Grid) -> Window:
    bounds = polygon_bounds(item_geometry(item), grid)
    return EVERYWHERE if bounds is None else _grown(_window(*bounds))


def _hull(windows: list[Window]) -> Window:
    row, col = min(w.row for w in windows), min(w.col for w in windows)
    return Window(row, col, max(w.row_end for w in windows) - row, max(w.col_end for w in windows) - col)
