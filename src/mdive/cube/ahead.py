"""Fetch what will be read: all bands and items of a window at once, so that a tile waits for one answer and not for one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from mdive.config import profile
from mdive.cube.failures import Unreadable
from mdive.cube.files import driver_for, is_remote
from mdive.cube.native import native_files
from mdive.cube.prepare import PlannedBand, PreparedSource, prepare
from mdive.cube.relation import Nested, relate
from mdive.cube.store import places_of
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
    wanted = list(dict.fromkeys([*([source.mask.band] if source.mask else []), *bands]))
    return [_pool().submit(_fetch, prepared, planned, window) for planned in _remote(prepared, wanted, window)]


def _remote(prepared: PreparedSource, bands: Sequence[str], window: Window) -> Iterable[PlannedBand]:
    for observation in prepared.source.observations:
        for item in prepared.touching(window, observation.items):
            for band in bands:
                planned = prepared.bands[item].get(band)
                if planned is not None and is_remote(planned.asset.href) and not window.intersect(planned.domain).empty:
                    yield planned


def _fetch(prepared: PreparedSource, planned: PlannedBand, window: Window) -> None:
    try:
        if driver_for(planned.asset.href, planned.origin) != "GTiff":
            return
        raster = native_files().open_remote(planned.asset.href, ahead=True)
    except Unreadable:
        return
    if raster is None:
        return
    relation = relate(raster.grid, prepared.grid)
    if not isinstance(relation, Nested):
        return  # where a warp looks is known when it is computed
    part = window.intersect(planned.domain)
    height, width = raster.grid.shape
    rows, cols = relation.rows.span(part.row, part.row_end, height), relation.cols.span(part.col, part.col_end, width)
    places = places_of(raster.file.layout, planned.asset.index, rows, cols)
    if places and planned.asset.index <= raster.file.layout.bands:
        raster.store.fetch_ahead(raster.file, places)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(profile().fetch_threads, thread_name_prefix="mdive-ahead")
