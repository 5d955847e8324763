"""Rasters of any size as COGs in bounded memory: threads compute blocks, they are written as they come, overviews follow at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from mdive.model.plan import Grid
from mdive.pipeline.window import Tiles, Window

Planes = Mapping[str, NDArray[Any]]

BLOCK = 512
"""Edge of the files' blocks (pixels), the size that cloud-optimised readers expect."""
COMPUTE = 1024
"""Edge of the blocks that are computed at once: 1 Mpx needs about 60 MB of planes, and halos cost little."""
CACHE_MB = 96
"""GDAL's block cache while writing; its default, 5 % of the machine, would be the largest thing in memory."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Which pixels of a scene hold data: all, but for a border, and what lies west of the swath's slanted edge."""

    scene: Window
    border: int = 0
    """Pixels without data on each side."""
    swath: tuple[float, float] | None = None
    """(row, column) of a point on the swath's western edge, global indices; None where it is not in sight."""

    LEAN = 0.18
    """Columns per row of that edge: a polar orbit's track leans by about ten degrees at middle latitudes."""

    @property
    def complete(self) -> bool:
        """Whether every pixel holds data."""
        return self.border == 0 and self.swath is None

    def edge(self, rows: Any) -> Any:
        """Return the column of the swath's edge at rows (global indices)."""
        assert self.swath is not None
        return self.swath[1] + self.LEAN * (rows - self.swath[0])

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels of a window (global indices) hold data."""
        rows = np.arange(window.row, window.row_end)[:, None]
        cols = np.arange(window.col, window.col_end)[None, :]
        inner = self.scene.expand(-self.border)
        inside = (rows >= inner.row) & (rows < inner.row_end) & (cols >= inner.col) & (cols < inner.col_end)
        if self.swath is not None:
            inside &= cols + 0.5 >= self.edge(rows + 0.5)
        return np.asarray(inside)


@dataclass(frozen=True, slots=True)
class Layer:
    """One raster file of a synthetic event, and which computed plane it holds."""

    path: Path
    plane: str
    dtype: str
    description: str
    footprint: Footprint
    nodata: float | None = None
    """Stored number of nothing; NaN is one."""
    unit: str = ""
    scale: float = 1.0
    overview: str = "nearest"
    """Resampling of the overviews: classes by mode; decibels by nearest, since a mean of decibels is no mean of power."""
    flags: tuple[tuple[int, str], ...] = ()
    """(value, name) of classes, written as CF ``flag_values`` and ``flag_meanings``."""

    bits: tuple[tuple[int, int, str], ...] = ()
    """(offset, length, name) of bit fields, for the catalogue."""

    @property
    def tags(self) -> dict[str, str]:
        """GDAL metadata of the band."""
        if not self.flags:
            return {}
        return {"flag_values": ",".join(str(v) for v, _ in self.flags), "flag_meanings": " ".join(n for _, n in self.flags)}


def write_layers(
    layers: Sequence[Layer],
    grid: Grid,
    compute: Callable[[Window], Planes],
    *,
    workers: int,
    observe: Callable[[Window, Planes], None] | None = None,
) -> None:
    """Compute all blocks of a grid and write each layer as a COG.

    Parameters
    ----------
    layers
        Files to write.
    grid
        Grid of the planes; a layer covers its footprint's scene, a part of it.
    compute
        Window to planes, each (y, x); called from threads, in any order.
    workers
        Threads that compute; at most that many blocks plus one are in memory.
    observe
        Called with each window and its planes, in order, from this thread.
    """
    tiles = Tiles.regular(grid.shape, COMPUTE)
    drafts = {layer.path: layer.path.with_name(f".{layer.path.name}.draft") for layer in layers}
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_NUM_THREADS="1"):
            with ExitStack() as stack:
                files = [(layer, stack.enter_context(_open_draft(layer, drafts[layer.path], grid))) for layer in layers]
                for window, planes in _computed(tiles, compute, workers):
                    if observe:
                        observe(window, planes)
                    for layer, file in files:
                        _write_block(layer, file, window, planes[layer.plane])
            for layer in layers:
                _finish(layer, drafts[layer.path], workers)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def _computed(tiles: Tiles, compute: Callable[[Window], Planes], workers: int) -> Iterator[tuple[Window, Planes]]:
    """Yield each window with its planes, in order, computing at most ``workers`` ahead."""
    windows = iter(tiles)
    with ThreadPoolExecutor(workers, thread_name_prefix="synthetic") as pool:
        ahead: list[tuple[Window, Future[Planes]]] = [(w, pool.submit(compute, w)) for w in islice(windows, workers)]
        try:
            while ahead:
                window, future = ahead.pop(0)
                planes = future.result()
                ahead.extend((w, pool.submit(compute, w)) for w in islice(windows, 1))
                yield window, planes
        finally:
            for _, future in ahead:
                future.cancel()


def _open_draft(layer: Layer, path: Path, grid: Grid) -> rasterio.io.DatasetWriter:
    scene = layer.footprint.scene
    file = rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=layer.dtype,
        count=1,
        height=scene.height,
        width=scene.width,
        crs=grid.crs,
        transform=Affine(*grid.transform) @ Affine.translation(scene.col, scene.row),
        nodata=layer.nodata,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        bigtiff="IF_SAFER",
    )
    file.set_band_description(1, layer.plane.rpartition("/")[2])
    file.units = (layer.unit,)
    file.scales = (layer.scale,)
    file.update_tags(1, **layer.tags)
    file.update_tags(DESCRIPTION=layer.description)
    return file


def _write_block(layer: Layer, file: rasterio.io.DatasetWriter, window: Window, plane: NDArray[Any]) -> None:
    scene = layer.footprint.scene
    part = window.intersect(scene)
    if part.empty:
        return
    block = plane[part.within(window)]
    if not layer.footprint.complete:
        assert layer.nodata is not None
        block = np.where(layer.footprint.valid(part), block, np.asarray(layer.nodata, layer.dtype))
    file.write(block, 1, window=RasterWindow(part.col - scene.col, part.row - scene.row, part.width, part.height))


def _finish(layer: Layer, draft: Path, workers: int) -> None:
    """Turn a draft into a COG beside it and put it in place: a file under its final name is always whole."""
    cog = draft.with_suffix(".cog")
    predictor = {"f": "FLOATING_POINT", "i": "STANDARD", "u": "STANDARD"}[np.dtype(layer.dtype).kind]
    rasterio.shutil.copy(
        draft,
        cog,
        driver="COG",
        compress="DEFLATE",
        level=4,  # of float noise, levels above save 1 % and cost three times as long
        predictor="NO" if layer.flags or layer.bits else predictor,
        blocksize=BLOCK,
        overview_resampling=layer.overview,
        num_threads=workers,
        bigtiff="IF_SAFER",
    )
    draft.unlink()
    cog.replace(layer.path)


def rounded(plane: NDArray[np.float32], bits: int = 12) -> NDArray[np.float32]:
    """Return float32 numbers rounded to a significand of ``bits`` bits: decibels keep steps below 0.01 and compress to half the bytes."""
    drop = 23 - bits
    whole = np.ascontiguousarray(plane, np.float32).view(np.uint32)
    result = ((whole + np.uint32(1 << (drop - 1))) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)).view(np.float32)
    return np.where(np.isfinite(plane), result, plane)
