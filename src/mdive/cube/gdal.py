"""What only GDAL reads: JPEG 2000, netCDF, odd TIFFs. Each thread keeps a few files open and closes them itself.

rasterio is imported with the first such file: a run of plain TIFFs starts a tenth of a second sooner.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import rasterio
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.session import DummySession
from rasterio.windows import Window as RasterWindow

from mdive.config import gdal_settings, profile, settle_gdal
from mdive.cube.bridge import remote_dataset
from mdive.cube.failures import Unreadable
from mdive.cube.native import LARGEST_BLOCK, NativeFiles
from mdive.cube.relation import SourceGrid
from mdive.cube.store import Piece
from mdive.cube.tiff import check_pixels

T = TypeVar("T")

FAILURES: Final = (RasterioError, CRSError, NotGeoreferencedWarning)
"""What GDAL raises at a file that it cannot read."""

OPEN_FILES: Final = 16
"""Files of this machine that a thread keeps open: two dates of four bands from two scenes. Opening costs 1 ms."""

_thread = threading.local()


@dataclass(frozen=True, slots=True)
class GdalRaster:
    """A file that GDAL has open for one thread."""

    dataset: Any = field(repr=False)
    grid: SourceGrid
    nodata: tuple[float | None, ...]
    """By band."""

    def block_shape(self, index: int) -> tuple[int, int]:
        """Return rows and columns of the blocks of a band."""
        rows, cols = self.dataset.block_shapes[index - 1]
        return rows, cols

    def read(self, index: int, rows: tuple[int, int], cols: tuple[int, int]) -> np.ndarray:
        """Return the stored numbers of one band in rows [first, end) and columns [first, end)."""
        window = RasterWindow(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])
        stored: np.ndarray = self.dataset.read(index, window=window)
        return stored

    def pieces(self, index: int, rows: tuple[int, int], cols: tuple[int, int]) -> list[Piece]:
        """Return the same numbers: first row, first column, numbers."""
        return [(rows[0], cols[0], self.read(index, rows, cols))]


def worked(href: str, driver: str, remote: NativeFiles | None, work: Callable[[GdalRaster], T]) -> T:
    """Open a file (or take it from this thread's open ones) and run ``work`` on it.

    Parameters
    ----------
    href, driver
        What to open, and how.
    remote
        Who asks servers for its bytes; None for a file of this machine.
    """
    with environment():
        if remote is None:
            return work(_opened(href, driver))
        with remote_dataset(href, driver, remote.web, remote.pages) as dataset:
            return work(_described(dataset))


def environment() -> rasterio.Env:
    """Return the GDAL settings for reading, as a context."""
    # With a session of rasterio's own, GDAL would get the AWS credentials of the environment; what opens a file is in its address here.
    return rasterio.Env(session=DummySession(), **_settings())


def close_files() -> None:
    """Close the files that this thread keeps open."""
    while _handles():
        _handles().popitem()[1][1].dataset.close()


@cache
def _settings() -> dict[str, str | int]:
    """Return the settings that each thread enters; make those that hold for the whole process hold."""
    settle_gdal()
    return {name: value for name, value in gdal_settings(profile()).items() if name != "GDAL_CACHEMAX"}


def _handles() -> OrderedDict[str, tuple[Any, GdalRaster]]:
    if not hasattr(_thread, "handles"):
        _thread.handles = OrderedDict()
    handles: OrderedDict[str, tuple[Any, GdalRaster]] = _thread.handles
    return handles


def forget(href: str) -> None:
    """Close a file, if this thread has it open."""
    entry = _handles().pop(href, None)
    if entry is not None:
        entry[1].dataset.close()


def _opened(path: str, driver: str) -> GdalRaster:
    signature = _signature(path)
    handles = _handles()
    if path in handles and handles[path][0] == signature:
        handles.move_to_end(path)
        return handles[path][1]
    forget(path)
    dataset = rasterio.open(path, driver=driver, sharing=False)
    try:
        raster = _described(dataset)
    except BaseException:
        dataset.close()
        raise
    handles[path] = (signature, raster)
    while len(handles) > OPEN_FILES:
        handles.popitem(last=False)[1][1].dataset.close()
    return raster


def _signature(path: str) -> tuple[int, int, int]:
    """Return what tells that a path is still the same file."""
    status = Path(path).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _described(dataset: Any) -> GdalRaster:
    check_pixels(dataset.shape)
    if dataset.crs is None:
        raise Unreadable("crs", "The file has no coordinate reference system; swath data must be terrain-corrected first.")
    if any(np.dtype(dtype).kind not in "iuf" for dtype in dataset.dtypes):
        raise Unreadable("dtype", f"The file holds {', '.join(sorted(set(dataset.dtypes)))} numbers, which are no physical quantity.")
    block = max(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True))
    if block > LARGEST_BLOCK:
        raise Unreadable(
            "too_large", f"One block of the file takes {block / 2**20:,.0f} MiB; at most {LARGEST_BLOCK // 2**20} are decoded."
        )
    grid = SourceGrid(dataset.crs.to_wkt(), tuple(dataset.transform)[:6], dataset.shape)
    return GdalRaster(dataset, grid, dataset.nodatavals)
