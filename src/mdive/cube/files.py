"""Open files: which may be opened, by which driver, with which settings; each thread keeps a few open and closes them itself."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import numpy as np
import rasterio
from rasterio.env import set_gdal_config
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from mdive.config import gdal_settings, profile, protect_gdal
from mdive.cube.failures import CAUSES_THAT_PASS, Unreadable, diagnosed
from mdive.cube.native import LARGEST_BLOCK, native_files
from mdive.cube.relation import SourceGrid

T = TypeVar("T")

DRIVERS = {".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG", ".nc": "netCDF", ".nc4": "netCDF", ".h5": "HDF5", ".hdf5": "HDF5", ".he5": "HDF5"}
"""GDAL driver by suffix; everything else must be a GeoTIFF. No other driver is ever tried: a VRT, WMS or STACIT description may point at
anything, also at files of this machine."""

REMOTE = ("http", "https", "s3")

OPEN_FILES = 16
"""Files that a thread keeps open: two dates of four bands from two scenes. Opening costs 1 ms locally and two requests remotely."""

ATTEMPTS = 3
"""Times a remote file is tried where the failure may pass; a local one is tried once."""

FIRST_PAUSE = 0.2
"""Seconds before the second attempt; each later pause is twice as long."""

_thread = threading.local()


class OpenRaster(Protocol):
    """An open file and what its header says."""

    @property
    def grid(self) -> SourceGrid:
        """Where its pixels lie."""
        ...

    @property
    def nodata(self) -> tuple[float | None, ...]:
        """By band."""
        ...

    def block_shape(self, index: int) -> tuple[int, int]:
        """Return rows and columns of the blocks of a band."""
        ...

    def read(self, index: int, rows: tuple[int, int], cols: tuple[int, int]) -> np.ndarray:
        """Return the stored numbers of one band in rows [first, end) and columns [first, end)."""
        ...


@dataclass(frozen=True, slots=True)
class GdalRaster:
    """A file that GDAL has open for one thread."""

    dataset: Any
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


def driver_for(href: str, item_href: str | None = None) -> str:
    """Return the one GDAL driver that may open an address, or refuse the address.

    Parameters
    ----------
    href
        Absolute path, or an http(s) or s3 URL.
    item_href
        Where the item came from: an item from the network may not point at a file of this machine.

    Raises
    ------
    Unreadable
        With cause ``refused``.
    """
    parts = urlsplit(href)
    local = not parts.scheme and href.startswith("/") and not href.startswith(("/vsi", "//"))
    if not local and not (parts.scheme in REMOTE and parts.netloc):
        raise Unreadable("refused", f"{href[:80]!r} is neither an absolute path nor an http, https or s3 address.")
    if local and item_href is not None and urlsplit(item_href).scheme in REMOTE:
        raise Unreadable("refused", "An item from the network points at a file of this machine.")
    suffix = PurePosixPath(parts.path).suffix.lower()
    if suffix in (".vrt", ".gti", ".xml", ".json"):
        raise Unreadable("refused", f"A {suffix} file describes other files and is not opened.")
    return DRIVERS.get(suffix, "GTiff")


def with_raster(href: str, item_href: str | None, work: Callable[[OpenRaster], T]) -> T:
    """Open a file (or take it from this thread's open ones), run ``work`` on it, and try again where a failure may pass.

    Must run inside `environment`. Errors of GDAL and of the file system become `Unreadable`, with the number of attempts as its
    ``attempts``; all other errors are bugs and pass through.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work(_opened(href, item_href, again=attempt > 1))
        except (Unreadable, RasterioError, CRSError, OSError, NotGeoreferencedWarning) as error:
            _forget(href)
            native_files().forget(href)
            found = diagnosed(error)
            found.attempts = found.attempts if found.final else attempt
            if found.cause == "missing" and is_remote(href):
                found.cause = "connection"  # a server that has no such file says 404; GDAL calls a silent one a missing file
            if found.final or not (is_remote(href) and found.cause in CAUSES_THAT_PASS and attempt < ATTEMPTS):
                raise found from error
        time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
    raise AssertionError


def environment() -> rasterio.Env:
    """Return the GDAL settings for reading, as a context."""
    return rasterio.Env(**_settings())


def close_files() -> None:
    """Close the files that this thread keeps open."""
    while _handles():
        _handles().popitem()[1][1].dataset.close()


@cache
def _settings() -> dict[str, str | int]:
    """Return the settings that each thread enters; make those that hold for the whole process hold."""
    protect_gdal()
    settings = gdal_settings(profile())
    cache_size = settings.pop("GDAL_CACHEMAX", None)
    if cache_size is not None:
        set_gdal_config("GDAL_CACHEMAX", cache_size)
    return settings


def is_remote(href: str) -> bool:
    """Return whether an address leads to another machine."""
    return urlsplit(href).scheme in REMOTE


def _handles() -> OrderedDict[str, tuple[Any, GdalRaster]]:
    if not hasattr(_thread, "handles"):
        _thread.handles = OrderedDict()
    handles: OrderedDict[str, tuple[Any, GdalRaster]] = _thread.handles
    return handles


def _forget(href: str) -> None:
    entry = _handles().pop(href, None)
    if entry is not None:
        entry[1].dataset.close()


def _opened(href: str, item_href: str | None, *, again: bool) -> OpenRaster:
    driver = driver_for(href, item_href)
    signature = None if is_remote(href) else _signature(href)
    handles = _handles()
    if href in handles and handles[href][0] == signature:
        handles.move_to_end(href)
        return handles[href][1]
    if driver == "GTiff" and not href.startswith("s3:"):
        files = native_files()
        native = files.open_remote(href) if is_remote(href) else files.open(href)
        if native is not None:
            return native
    _forget(href)
    # GDAL remembers a failed URL for the life of the process: only another query string makes it ask again.
    nonce = f"{'&' if '?' in href else '?'}_r={uuid.uuid4().hex}" if again and href.startswith("http") else ""
    raster = _described(rasterio.open(href + nonce, driver=driver, sharing=False))
    handles[href] = (signature, raster)
    while len(handles) > OPEN_FILES:
        handles.popitem(last=False)[1][1].dataset.close()
    return raster


def _signature(path: str) -> tuple[int, int, int]:
    """Return what tells that a path is still the same file."""
    status = Path(path).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _described(dataset: Any) -> GdalRaster:
    try:
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
    except BaseException:
        dataset.close()
        raise
