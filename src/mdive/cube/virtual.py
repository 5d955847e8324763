"""What a plan reads as virtual rasters of GDAL: which part of which file lies where. No pixel is read; headers say how files are laid out.

A mosaic is one observation of one source. Its bands hold the numbers as the files have them, with scale and offset beside them. Files in the
CRS of the plan lie on the plan's grid; those in another CRS on a grid of their own, in their own pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mdive.cube.ahead import WindowRead, open_all
from mdive.cube.failures import Unreadable
from mdive.cube.files import OpenRaster, with_raster
from mdive.cube.grid import same_crs, transformer
from mdive.cube.prepare import PlannedBand, PreparedSource, prepare
from mdive.cube.relation import Nested, SourceGrid, relate
from mdive.cube.units import is_discrete
from mdive.model.address import unsigned, without_query
from mdive.model.plan import Grid, Observation, Source
from mdive.pipeline.window import Window

Rectangle = tuple[float, float, float, float]
"""Column, row, width, height in pixels."""


class Meant(NamedTuple):
    """What the numbers of a file mean."""

    dtype: str
    nodata: float | None
    scale: float
    offset: float
    unit: str


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    grid: SourceGrid
    bands: int
    nodata: float | None
    block: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """One band of one file in a mosaic."""

    item: str
    location: str
    """As GDAL names it, without anything that opens it."""
    index: int
    header: Header
    means: Meant
    part: Rectangle
    """Of the file."""
    place: Rectangle
    """Of the mosaic."""
    resampling: str
    """``nearest``, ``bilinear`` or ``average``."""


@dataclass(frozen=True, slots=True)
class Mosaic:
    """One observation of one source in one CRS."""

    source: str
    phase: str
    observation: Observation
    crs: str
    transform: tuple[float, float, float, float, float, float]
    """Affine coefficients (a, b, c, d, e, f)."""
    shape: tuple[int, int]
    bands: dict[str, tuple[Piece, ...]]
    """By band; the first piece that has a number gives it."""


class LeftOut(NamedTuple):
    """A file that no mosaic shows."""

    href: str
    """Without query."""
    reason: str


def mosaics(source: Source, grid: Grid) -> tuple[list[Mosaic], list[LeftOut]]:
    """Return what a plan reads of a source.

    Parameters
    ----------
    source, grid
        The plan's.

    Returns
    -------
    list of Mosaic
        Observation by observation; more than one where its files have several CRSs.
    list of LeftOut
        Files that cannot be opened, or that lie askew.
    """
    prepared = prepare(source, grid)
    whole = Window(0, 0, *grid.shape)
    bands = [*source.bands, *([source.mask.band] if source.mask else [])]
    open_all([WindowRead(source, whole, grid, tuple(bands))])  # at once, and not one after the other below
    made: list[Mosaic] = []
    left_out: list[LeftOut] = []
    for observation in source.observations:
        found: dict[str, list[tuple[PlannedBand, Header]]] = {}
        for band in dict.fromkeys(bands):
            for planned in _planned(prepared, observation, band, whole):
                try:
                    header = _header(planned)
                except Unreadable as error:
                    left_out.append(LeftOut(without_query(planned.asset.href), error.message))
                    continue
                crs = next((known for known in (grid.crs, *found) if same_crs(known, header.grid.crs)), header.grid.crs)
                found.setdefault(crs, []).append((planned, header))
        for crs, files in found.items():
            mosaic = _mosaic(source, observation, grid, crs, files)
            if mosaic is not None:
                made.append(mosaic)
    return made, left_out


def gdal_name(href: str) -> str:
    """Return an address as GDAL names it; what opens it is left out."""
    scheme, separator, rest = href.partition("://")
    if not separator:
        return href
    if scheme in ("s3", "gs"):
        return f"/vsi{scheme}/{rest}"
    return f"/vsicurl/{unsigned(href)}"


def _planned(prepared: PreparedSource, observation: Observation, band: str, whole: Window) -> Iterator[PlannedBand]:
    for item in prepared.touching(whole, observation.items):
        planned = prepared.bands[item].get(band)
        if planned is not None and planned.asset.fault is None and not whole.intersect(planned.domain).empty:
            yield planned


def _header(planned: PlannedBand) -> Header:
    asset = planned.asset

    def told(raster: OpenRaster) -> Header:
        if asset.index > len(raster.nodata):
            raise Unreadable("no_band", f"The file has {len(raster.nodata)} bands; band {asset.index} was planned.")
        return Header(raster.grid, len(raster.nodata), raster.nodata[asset.index - 1], raster.block_shape(asset.index))

    header = with_raster(asset.href, planned.origin, told)
    _, b, _, d, _, _ = header.grid.transform
    if b or d:
        raise Unreadable("askew", "The file is not drawn north up.")
    return header


def _mosaic(source: Source, observation: Observation, grid: Grid, crs: str, files: Sequence[tuple[PlannedBand, Header]]) -> Mosaic | None:
    home = (
        SourceGrid(crs, (grid.resolution, 0.0, grid.x0, 0.0, -grid.resolution, grid.y0), grid.shape)
        if same_crs(crs, grid.crs)
        else _own_grid([h.grid for _, h in files], grid)
    )
    bands: dict[str, list[Piece]] = {}
    for planned, header in files:
        laid = home and _laid(header.grid, home)
        if laid:
            asset = planned.asset
            nodata = header.nodata if asset.nodata is None else float(asset.nodata)
            means = Meant(asset.dtype, nodata, asset.scale, asset.offset, asset.unit)
            discrete = is_discrete(asset) or asset.resampling == "nearest" or (source.mask is not None and planned.band == source.mask.band)
            resampling = "nearest" if discrete else _resampling(header.grid, home, grid)
            bands.setdefault(planned.band, []).append(
                Piece(planned.item, gdal_name(asset.href), asset.index, header, means, *laid, resampling)
            )
    if not home or not bands:
        return None
    shown = {band: tuple(pieces) for band, pieces in bands.items()}
    return Mosaic(source.name, source.phase, observation, crs, home.transform, home.shape, shown)


def _resampling(file: SourceGrid, home: SourceGrid | None, grid: Grid) -> str:
    if home is None or home.shape != grid.shape:
        return "nearest"
    relation = relate(file, grid)
    if not isinstance(relation, Nested):
        return "bilinear"
    return "average" if max(relation.rows.shrink, relation.cols.shrink) > 1 else "nearest"


def _own_grid(files: Sequence[SourceGrid], grid: Grid) -> SourceGrid | None:
    """Return a grid in the CRS of files, with the pixels of the finest, over what they have of the plan's area."""
    finest = min(files, key=lambda file: abs(file.transform[0]))
    a, _, c, _, e, f = finest.transform
    east, south = grid.x0 + grid.shape[1] * grid.resolution, grid.y0 - grid.shape[0] * grid.resolution
    left, low, right, high = transformer(grid.crs, finest.crs).transform_bounds(grid.x0, south, east, grid.y0)
    if not np.isfinite([left, low, right, high]).all() or left >= right:
        return None
    edges = [_edges(file) for file in files]
    left, right = max(left, min(x for x, _, _, _ in edges)), min(right, max(x for _, _, x, _ in edges))
    low, high = max(low, min(y for _, y, _, _ in edges)), min(high, max(y for _, _, _, y in edges))
    if left >= right or low >= high:
        return None
    first_col, end_col = sorted((math.floor((left - c) / a), math.ceil((right - c) / a)))
    first_row, end_row = math.floor((high - f) / e), math.ceil((low - f) / e)
    return SourceGrid(finest.crs, (a, 0.0, c + first_col * a, 0.0, e, f + first_row * e), (end_row - first_row, end_col - first_col))


def _edges(file: SourceGrid) -> tuple[float, float, float, float]:
    a, _, c, _, e, f = file.transform
    rows, cols = file.shape
    return min(c, c + cols * a), min(f, f + rows * e), max(c, c + cols * a), max(f, f + rows * e)


def _laid(file: SourceGrid, home: SourceGrid) -> tuple[Rectangle, Rectangle] | None:
    """Return which part of a file lies where in a mosaic; None where it is beside it."""
    (col, place_col), (row, place_row) = (
        _axis(file.transform[o], file.transform[s], n, home.transform[o], home.transform[s], m)
        for o, s, n, m in ((2, 0, file.shape[1], home.shape[1]), (5, 4, file.shape[0], home.shape[0]))
    )
    if col[1] <= 0 or row[1] <= 0:
        return None
    return (col[0], row[0], col[1], row[1]), (place_col[0], place_row[0], place_col[1], place_row[1])


def _axis(
    start: float, step: float, length: int, origin: float, pixel: float, cells: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    ratio, first = step / pixel, (start - origin) / pixel
    low, high = max(first, 0.0), min(first + length * ratio, float(cells))
    return (_neat((low - first) / ratio), _neat((high - low) / ratio)), (_neat(low), _neat(high - low))


def _neat(number: float) -> float:
    whole = round(number)
    return float(whole) if abs(number - whole) < 1e-6 else number
