"""Finished rasters, read again: in windows that the grid alone decides, and in the whole numbers that are stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from rasterio.windows import Window as RasterWindow

from mdive.model.plan import Grid
from mdive.pipeline.window import Tiles, Window

BLOCK = 512
"""Edge of the blocks of a file: the size that rio-cogeo, GDAL and tile servers expect."""

WINDOW = 4 * BLOCK
"""Edge of the windows in which products are written and read: 16 MiB of float32, and whole blocks of the file: none is touched twice."""

CACHE = 32 << 20
"""Bytes of GDAL's block cache while products are written and read: by default it grows to 5 % of the machine, for blocks that are read once."""

_FINE = 1e-6
"""Step in which an unscaled float probability is counted: sums of whole numbers are exact in any order."""


def windows(grid: Grid) -> Iterator[Window]:
    """Yield the windows in which products are written and read, left to right, top to bottom, whatever the tiles of a run."""
    yield from Tiles.regular(grid.shape, WINDOW)


def raster_window(window: Window) -> RasterWindow:
    """Return a window as rasterio spells it."""
    return RasterWindow(window.col, window.row, window.width, window.height)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield a finished raster as a rasterio dataset, with a small block cache."""
    # A number of bytes, which rasterio sets for the process and takes back.
    with rasterio.Env(GDAL_CACHEMAX=CACHE), rasterio.open(path) as dataset:
        yield dataset


class Probability:
    """A raster of probabilities, as whole numbers of steps; use it in a ``with`` block."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as stack:
            self._dataset = stack.enter_context(opened(path))
            self._close = stack.pop_all().close
        self._float = np.dtype(self._dataset.dtypes[0]).kind == "f"
        self.step: float = _FINE if self._float else float(self._dataset.scales[0])
        """probability = number * step."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def read(self, window: Window) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return (numbers of steps, int64, 0 where there is none; whether there is one), both (rows, columns)."""
        stored = self._dataset.read(1, window=raster_window(window))
        known = np.isfinite(stored) if self._float else np.ones(stored.shape, bool)
        nodata = self._dataset.nodata
        if nodata is not None and not math.isnan(nodata):
            known &= stored != nodata
        stored[~known] = 0
        if self._float:
            stored = np.rint(stored.astype(np.float64) / _FINE)
        return stored.astype(np.int64), known
