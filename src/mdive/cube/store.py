"""Each block of a file is fetched once and unpacked once per process, whatever tiles, halos and threads ask for it.

Tile edges and halos cut blocks, so a reader that asks file by file and window by window decodes each block up to four times. Here a block
has one entry, by file and place. Whoever asks first fetches it; the others wait for the same entry. Neighbouring blocks that a file holds side by
side are fetched as one range.

What a pass reads is known before it begins (`mdive.cube.fetches`): then the plan says how long an entry lives. All other entries live as long as
the budget allows, the longest unused going first, and are fetched again when they are asked for again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

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


Piece = tuple[int, int, np.ndarray[Any, Any]]
"""Part of a band: its first row and column in the file, and its numbers."""


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


@dataclass(slots=True, eq=False)
class Entry:
    """A block that is here, or on its way."""

    home: MutableMapping[Any, Entry]
    """Where it is found, as long as it is held."""
    key: Hashable
    size: int
    """Bytes that it holds: packed, until it is unpacked."""
    packed: Future[bytes | memoryview | None] = field(default_factory=Future)
    numbers: np.ndarray[Any, Any] | None = None
    pins: int = 0
    """Readers who have announced themselves."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Turn(Protocol):
    """What one reader was promised: the entries of the blocks that it will ask for."""

    def claim(self, file: BlockFile, place: Place) -> tuple[Entry, bool] | None:
        """Return the entry of a block, and whether the caller must fetch it; None if the turn knows nothing of it. The store is guarded."""
        ...

    def done(self, file: BlockFile, place: Place) -> None:
        """Take note that a claimed block has been used. The store is guarded."""
        ...


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
        self.guard = threading.Condition()
        """Held while entries change."""
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes of blocks that are held."""
        return self._held

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
        out = np.empty((rows[1] - rows[0], cols[1] - cols[0]), file.layout.dtype.newbyteorder("="))
        for row, col, numbers in self.pieces(file, index, rows, cols):
            top, left = row - rows[0], col - cols[0]
            out[top : top + numbers.shape[0], left : left + numbers.shape[1]] = numbers
        return out

    def pieces(self, file: BlockFile, index: int, rows: Range, cols: Range) -> Iterable[Piece]:
        """Yield what `read` puts together, as views of the blocks: first row, first column, numbers."""
        layout = file.layout
        height, width = layout.block
        band = index - 1 if layout.chunky else 0
        places = places_of(layout, index, rows, cols)
        for (_, r, c), numbers in zip(places, self._blocks(file, places), strict=True):
            top, left = r * height, c * width
            y0, y1 = max(rows[0], top), min(rows[1], top + height)
            x0, x1 = max(cols[0], left), min(cols[1], left + width)
            yield y0, x0, numbers[band, y0 - top : y1 - top, x0 - left : x1 - left]

    def forget(self, file: BlockFile) -> None:
        """Drop all blocks of a file that nobody has planned: it failed, or it is another one now."""
        with self.guard:
            for key in [k for k in self._entries if isinstance(k, tuple) and k[0] == file.key]:
                self.drop(self._entries[key])

    def pin(self, file: BlockFile, places: Sequence[Place]) -> tuple[list[Entry], list[tuple[Place, Entry]]]:
        """Announce a reader: the entries are held until `unpin`.

        Returns
        -------
        list of Entry
            All of them.
        list of (Place, Entry)
            Those that the caller must `fetch`.
        """
        entries, mine = [], []
        with self.guard:
            for place in places:
                entry, new = self._claim(file, place)
                entry.pins += 1
                entries.append(entry)
                if new:
                    mine.append((place, entry))
        return entries, mine

    def unpin(self, entries: Iterable[Entry]) -> None:
        """Take an announcement back; what could not be fetched is forgotten, so that the next reader tries again."""
        with self.guard:
            for entry in entries:
                entry.pins -= 1
                if entry.packed.done() and entry.packed.exception() is not None:
                    self.drop(entry)
            self._make_room()

    def fetch(self, file: BlockFile, mine: Sequence[tuple[Place, Entry]]) -> None:
        """Fetch blocks into entries that the caller has claimed.

        Raises
        ------
        Unreadable
            If they cannot be fetched; whoever waits for one of the entries gets the same error.
        """
        try:
            self._fetch(file, mine)
        except BaseException as error:
            for _, entry in mine:
                if not entry.packed.done():
                    entry.packed.set_exception(error)
            raise

    def hold(self, entry: Entry) -> Entry:
        """Put an entry in its home. The store is guarded."""
        entry.home[entry.key] = entry
        self._held += entry.size
        return entry

    def drop(self, entry: Entry) -> None:
        """Take an entry from its home, if it is still there. The store is guarded."""
        if entry.home.get(entry.key) is entry:
            del entry.home[entry.key]
            self._held -= entry.size

    def _blocks(self, file: BlockFile, places: Sequence[Place]) -> Iterator[np.ndarray[Any, Any]]:
        turn = _turn.get()
        claimed: list[tuple[Place, Entry, bool]] = []
        mine = []
        with self.guard:
            for place in places:
                promised = turn.claim(file, place) if turn is not None else None
                entry, new = promised or self._claim(file, place)
                claimed.append((place, entry, promised is not None))
                if new:
                    mine.append((place, entry))
        try:
            self.fetch(file, mine)
        except BaseException:
            self._drop(entry for _, entry in mine)
            raise
        for place, entry, promised_one in claimed:
            yield self._unpacked(file, entry)
            with self.guard:
                self.traffic.asked += 1
                if turn is not None and promised_one:
                    turn.done(file, place)
                self._make_room()

    def _claim(self, file: BlockFile, place: Place) -> tuple[Entry, bool]:
        key = file.key, place
        entry = self._entries.get(key)
        if entry is None:
            return self.hold(Entry(self._entries, key, int(file.layout.counts[place]))), True
        self._entries.move_to_end(key)
        return entry, False

    def _fetch(self, file: BlockFile, mine: Sequence[tuple[Place, Entry]]) -> None:
        layout = file.layout
        located: list[tuple[int, int, Entry]] = []
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
        pieces = file.fetch(ranges)
        with self.guard:
            self.traffic.requests += len(ranges)
            self.traffic.bytes += sum(map(len, pieces))
        at = 0
        for start, size, entry in located:
            while start >= ranges[at][1]:
                at += 1
            first = start - ranges[at][0]
            entry.packed.set_result(memoryview(pieces[at])[first : first + size])

    def _unpacked(self, file: BlockFile, entry: Entry) -> np.ndarray[Any, Any]:
        try:
            packed = entry.packed.result()
            with entry.lock:
                if entry.numbers is None:
                    numbers = empty_block(file.layout) if packed is None else unpack(packed, file.layout)
                    numbers.flags.writeable = False
                    entry.numbers, entry.packed = numbers, _SPENT
                    with self.guard:
                        self.traffic.unpacked += 1
                        if entry.home.get(entry.key) is entry:
                            self._held += numbers.nbytes - entry.size
                        entry.size = numbers.nbytes
                return entry.numbers
        except BaseException:
            self._drop([entry])
            raise

    def _make_room(self) -> None:
        for key in list(self._entries) if self._held > self.budget else ():
            if self._held <= self.budget:
                return
            entry = self._entries[key]
            if entry.packed.done() and not entry.pins:
                self.drop(entry)

    def _drop(self, entries: Iterable[Entry]) -> None:
        with self.guard:
            for entry in entries:
                self.drop(entry)


_turn: ContextVar[Turn | None] = ContextVar("mdive_turn", default=None)


@contextmanager
def reading(turn: Turn) -> Iterator[None]:
    """Let what this thread reads be the turn's."""
    token = _turn.set(turn)
    try:
        yield
    finally:
        _turn.reset(token)


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
