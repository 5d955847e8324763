"""Fetch what will be read: all bands and items of a window at once, so that a tile waits for one answer and not for one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache

from mdive.config import profile
from mdive.cube.failures import Unreadable
from mdive.cube.files import driver_for, is_remote
from mdive.cube.native import NativeRaster, native_files
from mdive.cube.prepare import PlannedBand, PreparedSource, prepare
from mdive.cube.relation import Nested, relate
from mdive.cube.store import Place, places_of
from mdive.model.plan import Grid, Source
from mdive.pipeline.window import Window


def fetch_ahead(source: Source, window: Window, grid: Grid, bands: Sequence[str]) -> list[Future[None]]:
    """Start to fetch the remote blocks that `read_block` will ask for; files of this machine need no head start.

    What fails here fails again, with all that is to be said about it, when it is read.

    Parameters
    ----------
    source, window, grid, bands
        As `read_block` takes them.

    Returns
    -------
    list of Future
        Done when the blocks are here, or are known not to come.
    """
    prepared = prepare(source, grid)
    planned = [p for p in _planned(prepared, _wanted(source, bands), window) if is_remote(p.asset.href)]
    return [_pool().submit(_fetch, prepared, p, window) for p in planned]


def expect(source: Source, window: Window, grid: Grid, bands: Sequence[str]) -> None:
    """Tell the block store that `read_block` will be called so, once: it keeps the blocks that another window asks for as well.

    Files on servers that were not met before are asked for their directories.
    """
    prepared = prepare(source, grid)
    for planned in list(_planned(prepared, _wanted(source, bands), window)):
        found = _blocks(prepared, planned, window)
        if found is not None:
            raster, places = found
            raster.store.expect(raster.file, places)


def open_ahead(source: Source, window: Window, grid: Grid, bands: Sequence[str]) -> None:
    """Fetch the directories of all remote files that a window needs, at once."""
    prepared = prepare(source, grid)
    planned = [p for p in _planned(prepared, _wanted(source, bands), window) if is_remote(p.asset.href)]
    wait([_pool().submit(_open, p) for p in planned])


def _wanted(source: Source, bands: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*([source.mask.band] if source.mask else []), *bands]))


def _planned(prepared: PreparedSource, bands: Sequence[str], window: Window) -> Iterable[PlannedBand]:
    for observation in prepared.source.observations:
        for item in prepared.touching(window, observation.items):
            for band in bands:
                planned = prepared.bands[item].get(band)
                if planned is not None and not window.intersect(planned.domain).empty:
                    yield planned


def _fetch(prepared: PreparedSource, planned: PlannedBand, window: Window) -> None:
    found = _blocks(prepared, planned, window)
    if found is not None:
        raster, places = found
        raster.store.fetch_ahead(raster.file, places)


def _open(planned: PlannedBand) -> NativeRaster | None:
    href = planned.asset.href
    try:
        if driver_for(href, planned.origin) != "GTiff" or href.startswith("s3:"):
            return None
        return native_files().open_remote(href, ahead=True) if is_remote(href) else native_files().open(href)
    except Unreadable:
        return None


def _blocks(prepared: PreparedSource, planned: PlannedBand, window: Window) -> tuple[NativeRaster, list[Place]] | None:
    """Return the blocks of a band that a window reads; None where GDAL reads it, or where a warp looks (known when it is computed)."""
    raster = _open(planned)
    if raster is None or planned.asset.index > raster.file.layout.bands:
        return None
    relation = relate(raster.grid, prepared.grid)
    if not isinstance(relation, Nested):
        return None
    part = window.intersect(planned.domain)
    height, width = raster.grid.shape
    rows, cols = relation.rows.span(part.row, part.row_end, height), relation.cols.span(part.col, part.col_end, width)
    return raster, places_of(raster.file.layout, planned.asset.index, rows, cols)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(profile().fetch_threads, thread_name_prefix="mdive-ahead")
