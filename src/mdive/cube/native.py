"""Tiled TIFFs read by mdive itself: one open file and one block store for all threads of a process."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdive.config import block_store_bytes, profile
from mdive.cube.failures import Unreadable
from mdive.cube.pages import Pages
from mdive.cube.relation import SourceGrid
from mdive.cube.store import BlockStore, Piece, Range, Traffic
from mdive.cube.tiff import NotUnderstood, TiffLayout, read_layout
from mdive.cube.web import Answer, Web

OPEN_FILES = 256
"""Files kept open in a process: a quarter of the usual limit of 1,024."""

LARGEST_BLOCK = 512 * 2**20
"""Bytes of the largest block that is unpacked. A file of kilobytes can declare one block of terabytes."""

MOST_PINNED = 4
"""Blocks are looked at where they are while they hold at most so many times the pixels that are asked for: as many as a window touches that is as
large as a block and not aligned with it."""

REMOTE_FILES = 10_000
"""Directories of remote files kept: some 20 KiB each."""

KEPT_SECONDS = 10.0
"""Seconds for which a failure ahead of need counts. Whoever needs the file later asks again: the server may have come back."""

Signature = tuple[int, int, int]
"""What tells that a path is still the same file: inode, size, time of change."""


class RemoteFile:
    """A TIFF on a server; its directory and its blocks come as ranges."""

    def __init__(self, href: str, web: Web, opening: Traffic) -> None:
        self._href = href
        self._web = web
        self._opening = opening
        self._first: Answer | None = None
        self.layout: TiffLayout = read_layout(self._part)
        if self.layout.block_bytes > LARGEST_BLOCK:
            raise NotUnderstood("its blocks are too large")
        first = self._first or Answer(b"", 0)
        self.size = first.size
        self.key = f"{href}#{first.size} {first.etag or first.modified}"

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        """Return the bytes of ranges."""
        if max(end for _, end in ranges) > self.size:
            error = Unreadable("truncated", f"The file ends at byte {self.size:,}, before its pixels do.")
            error.final = True
            raise error
        return [self._checked(answer) for answer in self._web.fetch(self._href, ranges)]

    def _part(self, start: int, end: int) -> bytes:
        data = self._checked(self._web.get(self._href, start, end))
        self._opening.requests += 1
        self._opening.bytes += len(data)
        return data

    def _checked(self, answer: Answer) -> bytes:
        if self._first is None:
            self._first = Answer(b"", answer.size, answer.etag, answer.modified)
        answer.must_be_of(self._first)
        return answer.data


class LocalFile:
    """A TIFF of this machine; closed when nobody holds it any more."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.path = path
        self.signature = _signature(os.fstat(self._descriptor))
        self.key = f"{path}#{self.signature}"
        self.layout: TiffLayout = read_layout(lambda start, end: os.pread(self._descriptor, end - start, start))
        if self.layout.block_bytes > LARGEST_BLOCK:
            raise NotUnderstood("its blocks are too large")

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        """Return the bytes of ranges."""
        pieces = []
        for start, end in ranges:
            piece = os.pread(self._descriptor, end - start, start)
            if len(piece) != end - start:
                raise Unreadable("truncated", f"The file ends at byte {self.signature[1]:,}, before its pixels do.")
            pieces.append(piece)
        return pieces


@dataclass(frozen=True, slots=True)
class NativeRaster:
    """An open TIFF as the sampler sees it."""

    file: LocalFile | RemoteFile
    store: BlockStore

    @property
    def grid(self) -> SourceGrid:
        """Where its pixels lie."""
        return self.file.layout.grid

    @property
    def nodata(self) -> tuple[float | None, ...]:
        """By band."""
        return (self.file.layout.nodata,) * self.file.layout.bands

    def block_shape(self, index: int) -> tuple[int, int]:  # noqa: ARG002 - all bands have one layout
        """Return rows and columns of the blocks of a band."""
        return self.file.layout.block

    def read(self, index: int, rows: Range, cols: Range) -> np.ndarray[Any, Any]:
        """Return the stored numbers of one band in rows [first, end) and columns [first, end)."""
        return self.store.read(self.file, index, rows, cols)

    def pieces(self, index: int, rows: Range, cols: Range) -> list[Piece]:
        """Return the same numbers as views of the file's blocks; in one copy where the blocks are much larger than what is asked for."""
        height, width = self.file.layout.block
        whole = ((rows[1] - 1) // height - rows[0] // height + 1) * ((cols[1] - 1) // width - cols[0] // width + 1) * height * width
        if whole > MOST_PINNED * (rows[1] - rows[0]) * (cols[1] - cols[0]):
            return [(rows[0], cols[0], self.read(index, rows, cols))]
        return list(self.store.pieces(self.file, index, rows, cols))


class _Failed:
    """A directory that could not be fetched."""

    def __init__(self, error: Unreadable, *, told: bool) -> None:
        self.error = error.again()
        self.told = told
        """Whether somebody has had it who needed the file."""
        self.when = time.monotonic()


class NativeFiles:
    """The open files of a process, and their blocks."""

    def __init__(self, store: BlockStore, connections: int = 16) -> None:
        self.store = store
        self._files: OrderedDict[str, LocalFile | Signature] = OrderedDict()
        self._remote: OrderedDict[str, RemoteFile | None] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}
        self._directories: dict[str, Traffic] = {}
        self._failed: OrderedDict[str, _Failed] = OrderedDict()
        self.pages = Pages()
        """Parts of remote files that GDAL decodes."""
        self._connections = connections
        self._web: Web | None = None
        self._lock = threading.Lock()

    @property
    def web(self) -> Web:
        """How files on servers are asked for; nothing is set up before somebody does."""
        with self._lock:
            self._web = self._web or Web(self._connections)
            return self._web

    def open(self, path: str) -> NativeRaster | None:
        """Return an open file; None where GDAL must read it, or must say why nobody can."""
        try:
            now = _signature(Path(path).stat())
        except OSError:
            self.forget(path)
            return None
        with self._lock:
            known = self._files.get(path)
            if known is not None:
                self._files.move_to_end(path)
        if known == now:
            return None
        if isinstance(known, LocalFile):
            if known.signature == now:
                return NativeRaster(known, self.store)
            self.store.forget(known)
        return self._opened(path, now)

    def open_remote(self, href: str, *, ahead: bool = False) -> NativeRaster | None:
        """Return an open file on a server; None where GDAL must read it.

        Parameters
        ----------
        href
            Its address.
        ahead
            Nobody needs it yet. A failure is then kept for a moment, for the first who does: a file that fails is not tried twice for one
            tile.

        Raises
        ------
        Unreadable
            If its directory cannot be fetched.
        """
        with self._lock:
            opening = self._opening.setdefault(href, threading.Lock())
        with opening:  # one thread asks for the directory, the others wait for it
            with self._lock:
                if href in self._remote:
                    self._remote.move_to_end(href)
                    known = self._remote[href]
                    return None if known is None else NativeRaster(known, self.store)
                failed = self._failed.get(href)
            if failed is not None and (ahead or not failed.told) and time.monotonic() - failed.when < KEPT_SECONDS:
                failed.told = failed.told or not ahead
                raise failed.error.again()
            traffic = Traffic()
            try:
                file: RemoteFile | None = RemoteFile(href, self.web, traffic)
            except NotUnderstood:
                file = None
            except Unreadable as error:
                with self._lock:
                    self._failed[href] = _Failed(error, told=not ahead)
                    while len(self._failed) > REMOTE_FILES:
                        self._failed.popitem(last=False)
                raise
            with self._lock:
                self._failed.pop(href, None)
                self._remote[href], self._directories[href] = file, traffic
                while len(self._remote) > REMOTE_FILES:
                    oldest, _ = self._remote.popitem(last=False)
                    self._opening.pop(oldest, None)
                    self._directories.pop(oldest, None)
        return None if file is None else NativeRaster(file, self.store)

    def directory(self, href: str) -> Traffic | None:
        """Return what the directory of a remote file has cost; None where it has not been read."""
        with self._lock:
            return self._directories.get(href) if href in self._remote else None

    def forget(self, path: str) -> None:
        """Close a file when its last reader has gone, and drop what is kept of it."""
        self.pages.forget(path)
        with self._lock:
            known = [self._files.pop(path, None), self._remote.pop(path, None)]
        for file in known:
            if isinstance(file, LocalFile | RemoteFile):
                self.store.forget(file)

    def _opened(self, path: str, now: Signature) -> NativeRaster | None:
        try:
            file: LocalFile | Signature = LocalFile(path)
        except (NotUnderstood, OSError):
            file = now
        with self._lock:
            self._files[path] = file
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)
        return NativeRaster(file, self.store) if isinstance(file, LocalFile) else None


_files: NativeFiles | None = None
_making = threading.Lock()


def native_files() -> NativeFiles:
    """Return the open files of this process."""
    global _files  # noqa: PLW0603 - one store per process is the point
    with _making:
        if _files is None:
            here = profile()
            _files = NativeFiles(BlockStore(block_store_bytes(here)), here.fetch_threads)
        return _files


def _signature(status: os.stat_result) -> Signature:
    return status.st_ino, status.st_size, status.st_mtime_ns
