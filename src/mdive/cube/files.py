"""Open files: which may be opened, by which driver, with which settings; each thread keeps a few open and closes them itself."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import numpy as np
import rasterio
from rasterio.env import set_gdal_config
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.session import DummySession
from rasterio.windows import Window as RasterWindow

from mdive.config import gdal_settings, profile, protect_gdal
from mdive.cube.bridge import remote_dataset
from mdive.cube.failures import CAUSES_THAT_PASS, Unreadable, diagnosed
from mdive.cube.native import LARGEST_BLOCK, native_files
from mdive.cube.relation import SourceGrid
from mdive.cube.store import Piece
from mdive.cube.tiff import check_pixels

T = TypeVar("T")

DRIVERS = {".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG", ".nc": "netCDF", ".nc4": "netCDF", ".h5": "HDF5", ".hdf5": "HDF5", ".he5": "HDF5"}
"""GDAL driver by suffix. No other driver is ever tried: a VRT, WMS or STACIT description may point at anything, also at files of this
machine."""

TIFF = frozenset({"", ".tif", ".tiff", ".gtiff", ".cog", ".btf", ".tf8"})
"""Suffixes of GeoTIFFs; addresses of services often have none."""

REMOTE = ("http", "https", "s3", "gs")

OPEN_FILES = 16
"""Files of this machine that a thread keeps open: two dates of four bands from two scenes. Opening costs 1 ms."""

ATTEMPTS = 3
"""Times a remote file is tried that comes and makes no sense; a local one is tried once."""

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

    def pieces(self, index: int, rows: tuple[int, int], cols: tuple[int, int]) -> list[Piece]:
        """Return the same numbers where they lie: first row, first column, numbers."""
        ...


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


def driver_for(href: str, item_href: str | None = None) -> str:
    """Return the one GDAL driver that may open an address, or refuse the address.

    Parameters
    ----------
    href
        Absolute path, or an http(s), s3 or gs URL.
    item_href
        Where the item came from: an item from the network may not point at a file of this machine.

    Raises
    ------
    Unreadable
        With cause ``refused``.
    """
    parts = urlsplit(href)
    if parts.scheme in ("az", "abfs", "abfss", "adl", "wasb", "wasbs"):
        raise Unreadable(
            "refused", f"{parts.scheme} addresses are not read; name the file as https://ACCOUNT.blob.core.windows.net/CONTAINER/FILE."
        )
    local = not parts.scheme and href.startswith("/") and not href.startswith(("/vsi", "//"))
    if not local and not (parts.scheme in REMOTE and parts.netloc):
        raise Unreadable("refused", f"{href[:80]!r} is neither an absolute path nor an http, https, s3 or gs address.")
    if local and item_href is not None and urlsplit(item_href).scheme in REMOTE:
        raise Unreadable("refused", "An item from the network points at a file of this machine.")
    suffix = PurePosixPath(parts.path).suffix.lower()
    if suffix in (".vrt", ".gti", ".xml", ".json"):
        raise Unreadable("refused", f"A {suffix} file describes other files and is not opened.")
    if suffix not in TIFF and suffix not in DRIVERS and not suffix[1:].isdecimal():
        raise Unreadable("refused", f"A {suffix[:20]} file is none of those that are read: {', '.join(sorted({*TIFF, *DRIVERS} - {''}))}.")
    return DRIVERS.get(suffix, "GTiff")


def with_raster(href: str, item_href: str | None, work: Callable[[OpenRaster], T]) -> T:
    """Open a file (or take it from this thread's open ones), run ``work`` on it, and try again where a failure may pass.

    Must run inside `environment`. Errors of GDAL and of the file system become `Unreadable`, with the number of attempts as its
    ``attempts``; all other errors are bugs and pass through.
    """
    for attempt in count(1):
        try:
            return _worked(href, item_href, work)
        except (Unreadable, RasterioError, CRSError, OSError, NotGeoreferencedWarning) as error:
            _forget(href)
            native_files().forget(href)
            found = diagnosed(error)
            found.attempts = found.attempts if found.final else attempt
            # What a server does is tried again where it is asked; here it is what came that makes no sense.
            again = not found.final and is_remote(href) and found.cause in CAUSES_THAT_PASS and attempt < ATTEMPTS
            if not (again and native_files().web.pause(FIRST_PAUSE * 2 ** (attempt - 1))):
                raise found from (None if found is error else error)
    raise AssertionError


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


def _worked(href: str, item_href: str | None, work: Callable[[OpenRaster], T]) -> T:
    driver, files = driver_for(href, item_href), native_files()
    if driver == "GTiff":
        native = files.open_remote(href) if is_remote(href) else files.open(href)
        if native is not None:
            return work(native)
    if not is_remote(href):
        return work(_opened(href, driver))
    with remote_dataset(href, driver, files.web, files.pages) as dataset:
        return work(_described(dataset))


def _opened(path: str, driver: str) -> OpenRaster:
    signature = _signature(path)
    handles = _handles()
    if path in handles and handles[path][0] == signature:
        handles.move_to_end(path)
        return handles[path][1]
    _forget(path)
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
