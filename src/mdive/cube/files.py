"""Open files: which may be opened, by which driver, and what is tried again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import PurePosixPath
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import numpy as np

from mdive.cube.failures import CAUSES_THAT_PASS, Unreadable, diagnosed
from mdive.cube.native import native_files
from mdive.cube.relation import SourceGrid
from mdive.cube.store import Piece

T = TypeVar("T")

DRIVERS = {".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG", ".nc": "netCDF", ".nc4": "netCDF", ".h5": "HDF5", ".hdf5": "HDF5", ".he5": "HDF5"}
"""GDAL driver by suffix. No other driver is ever tried: a VRT, WMS or STACIT description may point at anything, also at files of this
machine."""

TIFF = frozenset({"", ".tif", ".tiff", ".gtiff", ".cog", ".btf", ".tf8"})
"""Suffixes of GeoTIFFs; addresses of services often have none."""

REMOTE = ("http", "https", "s3", "gs")

ATTEMPTS = 3
"""Times a remote file is tried that comes and makes no sense; a local one is tried once."""

_GDAL = "mdive.cube.gdal"
"""What comes with it need not be closed or caught before it is there."""

FIRST_PAUSE = 0.2
"""Seconds before the second attempt; each later pause is twice as long."""


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

    Errors of GDAL and of the file system become `Unreadable`, with the number of attempts as its
    ``attempts``; all other errors are bugs and pass through.
    """
    for attempt in count(1):
        try:
            return _worked(href, item_href, work)
        except _failures() as error:
            _forget(href)
            native_files().forget(href)
            found = diagnosed(error)
            found.attempts = found.attempts if found.final else attempt
            # What a server does is tried again where it is asked; here it is what came that makes no sense.
            again = not found.final and is_remote(href) and found.cause in CAUSES_THAT_PASS and attempt < ATTEMPTS
            if not (again and native_files().web.pause(FIRST_PAUSE * 2 ** (attempt - 1))):
                raise found from (None if found is error else error)
    raise AssertionError


def is_remote(href: str) -> bool:
    """Return whether an address leads to another machine."""
    return urlsplit(href).scheme in REMOTE


def _worked(href: str, item_href: str | None, work: Callable[[OpenRaster], T]) -> T:
    driver, files = driver_for(href, item_href), native_files()
    if driver == "GTiff":
        native = files.open_remote(href) if is_remote(href) else files.open(href)
        if native is not None:
            return work(native)
    from mdive.cube import gdal

    return gdal.worked(href, driver, files if is_remote(href) else None, work)


def close_files() -> None:
    """Close the files that this thread keeps open."""
    _of_gdal("close_files", lambda: None)()


def _forget(href: str) -> None:
    _of_gdal("forget", lambda _: None)(href)


def _failures() -> tuple[type[Exception], ...]:
    return (Unreadable, OSError, *_of_gdal("FAILURES", ()))


def _of_gdal(name: str, otherwise: T) -> T:
    # Another thread may be in the midst of importing it: then this one has no file open there, and no failure from it.
    found: T = getattr(sys.modules.get(_GDAL), name, otherwise)
    return found
