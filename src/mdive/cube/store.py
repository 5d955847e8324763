"""Each block of a file is fetched once and unpacked once per process, whatever tiles, halos and threads ask for it.

Tile edges and halos cut blocks, so a reader that asks file by file and window by window decodes each block up to four times. Here a block
has one entry, by file and place. Whoever asks first fetches it; the others wait for the same entry. Neighbouring blocks that a file holds side by
side are fetched as one range.

An entry lives as long as somebody is known to need it (`expect`), else as long as the budget allows, the longest unused going first.
What is still needed may be dropped as well when memory is short: then it is fetched again, and the result is the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mdive.cube.failures import Unreadable
from mdive.cube.tiff import TiffLayout
from mdive.cube.unpack import empty_block, unpack

GAP = 64
"""Bytes between two blocks up to which they are fetched as one range: GDAL's COG driver writes 4 bytes before and after each block."""

MOST_IN_ONE_RANGE = 16 * 2**20
"""Bytes of a range beyond which a new one begins, so that several travel at once."""

Range = tuple[int, int]
"""First byte and the one after the last."""

Place = tuple[int, int, int]
"""Plane (band, or 0 where blocks hold all bands), block row, block column."""


class BlockFile(Protocol):
    """A file of blocks: who it is, how it is laid out, and how its bytes come."""

    @property
    def key(self) -> str:
        """What tells this file, in this state, from others."""
        ...

    @property
    def layout(self) -> TiffLayout:
        """Where its blocks are."""
        ...

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        """Return the bytes of ranges, or raise `Unreadable`."""
        ...


@dataclass(slots=True)
class _Entry:
    size: int
    """Bytes that it holds: packed, until it is unpacked."""
    packed: Future[bytes | memoryview | None] = field(default_factory=Future)
    numbers: np.ndarray[Any, Any] | None = None
    ahead: bool = False
    """Fetched for somebody who has not come yet: dropping it would mean fetching it twice."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class Traffic:
    """What a store has done."""

    requests: int = 0
    bytes: int = 0
    unpacked: int = 0
    """Blocks."""
    asked: int = 0
    """Times a block was asked for."""


class BlockStore:
    """Blocks of files, shared by all threads of a process.

    Parameters
    ----------
    budget
        Bytes that it may hold; at least the blocks of the requests at work are held whatever it says.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.traffic = Traffic()
        self._entries: OrderedDict[tuple[str, Place], _Entry] = OrderedDict()
        self._needed: dict[tuple[str, Place], int] = {}
        self._expected: set[str] = set()
        """Files of which it is known how often each block will be asked for."""
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes of blocks that are held, counted as unpacked."""
        return self._held

    def expect(self, file: BlockFile, places: Iterable[Place]) -> None:
        """Say that blocks will be asked for once more each."""
        with self._lock:
            self._expected.add(file.key)
            for place in places:
                key = file.key, place
                self._needed[key] = self._needed.get(key, 0) + 1

    @property
    def has_room(self) -> bool:
        """Whether it holds less than its budget: time to fetch ahead."""
        return self._held < self.budget

    def fetch_ahead(self, file: BlockFile, places: Sequence[Place]) -> None:
        """Fetch blocks that will be asked for, and keep them until they are; what goes wrong is raised to whoever asks.

        Who comes late, when the last one who needed a block has had it, fetches nothing.
        """
        mine = self._claim(file, places, ahead=True)[1]
        try:
            self._fetch(file, mine)
        except Unreadable:
            return
        except BaseException:
            self._drop(file, mine)
            raise

    def release(self) -> None:
        """Forget for whom blocks were fetched ahead, or kept: nobody comes any more."""
        with self._lock:
            for entry in self._entries.values():
                entry.ahead = False
            self._needed.clear()
            self._expected.clear()
            self._make_room()

    def read(self, file: BlockFile, index: int, rows: Range, cols: Range) -> np.ndarray[Any, Any]:
        """Return the stored numbers of a band in rows [first, end) and columns [first, end).

        Parameters
        ----------
        file
            Which file.
        index
            Band, from 1.
        rows, cols
            Part of the raster; it must lie inside.

        Raises
        ------
        Unreadable
            If any of its blocks cannot be fetched or unpacked.
        """
        layout = file.layout
        height, width = layout.block
        band = index - 1 if layout.chunky else 0
        out = np.empty((rows[1] - rows[0], cols[1] - cols[0]), layout.dtype.newbyteorder("="))
        places = places_of(layout, index, rows, cols)
        for (_, r, c), numbers in zip(places, self._blocks(file, places), strict=True):
            top, left = r * height, c * width
            y0, y1 = max(rows[0], top), min(rows[1], top + height)
            x0, x1 = max(cols[0], left), min(cols[1], left + width)
            out[y0 - rows[0] : y1 - rows[0], x0 - cols[0] : x1 - cols[0]] = numbers[band, y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def forget(self, file: BlockFile) -> None:
        """Drop all blocks of a file: it failed, or it is another one now."""
        with self._lock:
            for key in [k for k in self._entries if k[0] == file.key]:
                self._held -= self._entries.pop(key).size
            for key in [k for k in self._needed if k[0] == file.key]:
                del self._needed[key]

    def _blocks(self, file: BlockFile, places: Sequence[Place]) -> Iterable[np.ndarray[Any, Any]]:
        entries, mine = self._claim(file, places)
        try:
            self._fetch(file, mine)
        except BaseException:
            self._drop(file, mine)
            raise
        for place, entry in zip(places, entries, strict=True):
            yield self._unpacked(file, place, entry)
            self._done(file, place)

    def _claim(self, file: BlockFile, places: Sequence[Place], *, ahead: bool = False) -> tuple[list[_Entry], list[tuple[Place, _Entry]]]:
        """Return the entries of blocks, and those of them that the caller must fetch."""
        counts = file.layout.counts
        entries, mine = [], []
        with self._lock:
            for place in places:
                key = file.key, place
                entry = self._entries.get(key)
                if entry is None and ahead and file.key in self._expected and key not in self._needed:
                    continue
                if entry is None:
                    entry = self._entries[key] = _Entry(int(counts[place]), ahead=ahead)
                    self._held += entry.size
                    mine.append((place, entry))
                self._entries.move_to_end(key)
                entries.append(entry)
        return entries, mine

    def _fetch(self, file: BlockFile, mine: Sequence[tuple[Place, _Entry]]) -> None:
        layout = file.layout
        located: list[tuple[int, int, _Entry]] = []
        for place, entry in mine:
            start, size = int(layout.offsets[place]), int(layout.counts[place])
            if size:
                located.append((start, size, entry))
            else:
                entry.packed.set_result(None)
        located.sort(key=lambda block: block[0])
        ranges = coalesced([(start, start + size) for start, size, _ in located])
        if not ranges:
            return
        try:
            pieces = file.fetch(ranges)
        except BaseException as error:
            for _, _, entry in located:
                entry.packed.set_exception(error)
            raise
        with self._lock:
            self.traffic.requests += len(ranges)
            self.traffic.bytes += sum(map(len, pieces))
        at = 0
        for start, size, entry in located:
            while start >= ranges[at][1]:
                at += 1
            first = start - ranges[at][0]
            entry.packed.set_result(memoryview(pieces[at])[first : first + size])

    def _unpacked(self, file: BlockFile, place: Place, entry: _Entry) -> np.ndarray[Any, Any]:
        try:
            packed = entry.packed.result()
            with entry.lock:
                if entry.numbers is None:
                    numbers = empty_block(file.layout) if packed is None else unpack(packed, file.layout)
                    numbers.flags.writeable = False
                    entry.numbers, entry.packed = numbers, _SPENT
                    with self._lock:
                        self.traffic.unpacked += 1
                        if self._entries.get((file.key, place)) is entry:
                            self._held += numbers.nbytes - entry.size
                        entry.size = numbers.nbytes
                return entry.numbers
        except BaseException:
            self._drop(file, [(place, entry)])
            raise

    def _done(self, file: BlockFile, place: Place) -> None:
        """Note that a block has been used, and make room."""
        key = file.key, place
        with self._lock:
            self.traffic.asked += 1
            if key in self._entries:
                self._entries[key].ahead = False
            left = self._needed.get(key, 0) - 1
            if left > 0:
                self._needed[key] = left
            elif self._needed.pop(key, None) is not None and key in self._entries:
                self._held -= self._entries.pop(key).size
            self._make_room()

    def _make_room(self) -> None:
        # What is still needed goes only when dropping the rest was not enough, and never below one block: it would be fetched in vain.
        for spare in (True, False):
            for key in list(self._entries):
                if self._held <= self.budget:
                    return
                entry = self._entries[key]
                if entry.packed.done() and not entry.ahead and (key not in self._needed) == spare:
                    self._held -= self._entries.pop(key).size

    def _drop(self, file: BlockFile, entries: Iterable[tuple[Place, _Entry]]) -> None:
        with self._lock:
            for place, entry in entries:
                if self._entries.get((file.key, place)) is entry:
                    del self._entries[file.key, place]
                    self._held -= entry.size


_SPENT: Future[bytes | memoryview | None] = Future()
"""Stands in for the packed bytes of a block that is unpacked: they are not kept."""
_SPENT.set_result(None)


def places_of(layout: TiffLayout, index: int, rows: Range, cols: Range) -> list[Place]:
    """Return the blocks that hold a part of a band, in the order of rows and columns."""
    height, width = layout.block
    plane = 0 if layout.chunky else index - 1
    if rows[0] >= rows[1] or cols[0] >= cols[1]:
        return []
    down, across = range(rows[0] // height, (rows[1] - 1) // height + 1), range(cols[0] // width, (cols[1] - 1) // width + 1)
    return [(plane, r, c) for r in down for c in across]


def coalesced(ranges: Sequence[Range]) -> list[Range]:
    """Return sorted ranges with neighbours joined."""
    joined: list[Range] = []
    for start, end in ranges:
        if joined and 0 <= start - joined[-1][1] <= GAP and end - joined[-1][0] <= MOST_IN_ONE_RANGE:
            joined[-1] = joined[-1][0], end
        elif joined and joined[-1][0] <= start and end <= joined[-1][1]:
            continue
        else:
            joined.append((start, end))
    return joined
