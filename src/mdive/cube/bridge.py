"""Files on servers for the formats that GDAL reads: GDAL decodes, mdive's reader of ranges asks the servers.

So a JPEG 2000 or an LZW file has the same signatures, retries, limits, refusals and names of failures as a file that mdive decodes itself, and
GDAL, which remembers a failed address for the life of a process and follows any redirect, never speaks to a network. GDAL asks by a file
object. It swallows what such an object raises, so that a failure is kept and raised when GDAL has come back.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

import rasterio
from rasterio.io import MemoryFile

from mdive.cube.failures import Unreadable
from mdive.cube.pages import Pages
from mdive.cube.store import Range
from mdive.cube.web import Web

PAGE: Final = 16 * 1024
"""Bytes of a page: what is read too much at both ends of a block."""

FIRST_PAGES: Final = 2
"""Pages that are fetched first: most directories end there."""

MOST_AHEAD: Final = 64
"""Pages fetched at once for a driver that reads from front to back: each request brings twice as many as the one before."""

LARGEST_READ: Final = 512 * 2**20
"""Bytes that are read at once at most; and bytes of the largest file that is fetched as a whole."""

PIECE: Final = 8 * 2**20
"""Bytes of a piece of a whole file."""

BLOCKWISE: Final = frozenset({"GTiff"})
"""Drivers that ask for a block at a time: what follows it in the file may be of no use."""

WHOLE: Final = frozenset({"netCDF", "HDF5"})
"""Drivers that need the whole file in memory: their libraries read by paths, and GDAL's way around (userfaultfd) waits for Python's lock while
it holds it."""

_numbers = count()


class RemoteBytes(io.RawIOBase):
    """A remote file as GDAL reads it.

    Parameters
    ----------
    href
        Its address.
    web, pages
        Who fetches, and what is here already.
    most_ahead
        Pages that are fetched at once where one after the other is asked for.

    Raises
    ------
    Unreadable
        If its first pages cannot be fetched.
    """

    def __init__(self, href: str, web: Web, pages: Pages, most_ahead: int = 1) -> None:
        super().__init__()
        self._href, self._web, self._pages = href, web, pages
        self._at, self._most_ahead = 0, most_ahead
        self._ahead, self._next = 1, -1
        self.error: Unreadable | None = None
        """What went wrong; nothing more is read then."""
        size = pages.size(href)
        if size is None:
            first = pages.checked(href, web.get(href, 0, FIRST_PAGES * PAGE))
            for number in range(FIRST_PAGES):
                pages.put(href, number, first.data[number * PAGE : (number + 1) * PAGE])
            size = first.size
        self._size = size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._size} bytes>"

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return bytes from here; fewer at the end of the file, and none where they cannot be fetched."""
        end = self._size if size < 0 else min(self._at + size, self._size)
        if self.error is not None or end <= self._at:
            return b""
        try:
            data = self._read(self._at, end)
        except Unreadable as error:
            self.error = error
            return b""
        self._at = end
        return data

    def _read(self, start: int, end: int) -> bytes:
        if end - start > LARGEST_READ:
            raise Unreadable("too_large", f"A block of the file takes {(end - start) / 2**20:,.0f} MiB.")
        first, last = start // PAGE, -(-end // PAGE)
        found = {number: self._pages.get(self._href, number) for number in range(first, last)}
        for number, data in self._fetched([number for number, page in found.items() if page is None]):
            self._pages.put(self._href, number, data)
            found[number] = data
        whole = b"".join(found[number] or b"" for number in range(first, last))
        return whole[start - first * PAGE : end - first * PAGE]

    def _fetched(self, missing: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        if not missing:
            return
        runs: list[Range] = []
        for number in missing:
            runs[-1:] = [(runs[-1][0], number + 1)] if runs and runs[-1][1] == number else [*runs[-1:], (number, number + 1)]
        self._ahead = min(2 * self._ahead, self._most_ahead) if runs[0][0] == self._next else 1
        runs[-1] = runs[-1][0], max(runs[-1][1], min(runs[-1][0] + self._ahead, -(-self._size // PAGE)))
        self._next = runs[-1][1]
        answers = self._web.fetch(self._href, [(a * PAGE, min(b * PAGE, self._size)) for a, b in runs])
        for (a, b), answer in zip(runs, answers, strict=True):
            data = self._pages.checked(self._href, answer).data
            yield from ((number, data[(number - a) * PAGE : (number - a + 1) * PAGE]) for number in range(a, b))


@contextmanager
def remote_dataset(href: str, driver: str, web: Web, pages: Pages) -> Iterator[Any]:
    """Open a remote file with GDAL, for one reading in this thread.

    Parameters
    ----------
    href, driver
        What to open, and how.
    web, pages
        Who fetches, and what is here already.

    Raises
    ------
    Unreadable
        If its bytes cannot be fetched: whatever GDAL makes of what it did not get.
    """
    if driver in WHOLE:
        with MemoryFile(_whole(href, web, pages)) as memory, memory.open(driver=driver, sharing=False) as dataset:
            yield dataset
        return
    opened: list[RemoteBytes] = []

    def opener(path: str, mode: str = "rb") -> RemoteBytes:  # noqa: ARG001 - GDAL opens to read
        if path != name:  # nothing lies beside it: no sidecar of a stranger
            raise FileNotFoundError(path)
        opened.append(RemoteBytes(href, web, pages, 1 if driver in BLOCKWISE else MOST_AHEAD))
        return opened[-1]

    name = f"{next(_numbers)}/remote"  # one opener per name, says rasterio
    RemoteBytes(href, web, pages)  # a file that cannot be fetched at all is named before GDAL is asked
    try:
        # GDAL's own threads know no openers.
        with rasterio.Env(GDAL_NUM_THREADS="1"), rasterio.open(name, driver=driver, sharing=False, opener=opener) as dataset:
            yield dataset
    except Exception:
        _raise_first(opened)
        raise
    _raise_first(opened)


def _raise_first(opened: Sequence[RemoteBytes]) -> None:
    for file in opened:
        if file.error is not None:
            raise file.error


def _whole(href: str, web: Web, pages: Pages) -> bytes:
    kept = pages.get(href, -1)
    if kept is not None:
        return kept
    first = pages.checked(href, web.get(href, 0, PIECE))
    if first.size > LARGEST_READ:
        raise Unreadable(
            "too_large", f"The file takes {first.size / 2**20:,.0f} MiB, and can be read only as a whole; at most {LARGEST_READ >> 20} are."
        )
    data = bytearray(first.data)
    while len(data) < first.size:
        data += pages.checked(href, web.get(href, len(data), min(len(data) + PIECE, first.size))).data
    pages.put(href, -1, bytes(data))
    return bytes(data)
