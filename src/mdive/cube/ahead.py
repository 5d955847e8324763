"""Fetch what will be read: a pass as its plan says, and a window that nobody has planned all at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Self

from mdive.config import profile
from mdive.cube.failures import Unreadable
from mdive.cube.fetches import BandRead, FetchPlan, Group, PlannedFile, place_of, plan_fetches
from mdive.cube.files import driver_for, is_remote
from mdive.cube.native import NativeRaster, RemoteFile, native_files
from mdive.cube.prepare import EVERYWHERE, PlannedBand, cover, prepare
from mdive.cube.relation import relate
from mdive.cube.spans import spans
from mdive.cube.store import BlockFile, BlockStore, Entry, Place, places_of, reading
from mdive.cube.units import is_discrete
from mdive.model.plan import Grid, Source
from mdive.pipeline.window import Window


@dataclass(frozen=True, slots=True)
class WindowRead:
    """One call of `read_block`."""

    source: Source
    window: Window
    grid: Grid
    bands: tuple[str, ...]


def plan_reads(reads: Sequence[WindowRead], budget: int) -> FetchPlan:
    """Plan the fetches of a pass; files that were not met before are asked for their directories.

    Bands that GDAL reads, and those whose directory cannot be fetched, are not in it.

    Parameters
    ----------
    reads
        Windows in the order in which they are read: the turns of the plan.
    budget
        Bytes of unpacked blocks that may wait for a later turn.
    """
    open_all(reads)
    return plan_fetches((list(_band_reads(read)) for read in reads), budget)


def open_all(reads: Iterable[WindowRead]) -> dict[str, NativeRaster | None]:
    """Return the files that windows need by address, opened at once; None where GDAL reads them, or where they cannot be opened."""
    wanted = {p.asset.href: p for read in reads for _, p in _planned(read)}
    opened = _pool().map(_open, wanted.values())
    return dict(zip(wanted, opened, strict=True))


class Fetcher:
    """A fetch plan at work: fetches ahead while a pass is computed, and hands each reader the blocks of its turn.

    Requests go out in the order of the plan, as long as what has come for later turns takes less than half of the block store's budget. A reader
    whose turn has come does not wait for that: it sends out all that the plan has up to its turn.

    Parameters
    ----------
    reads
        Windows in the order in which they are read.
    plan
        Their plan.
    store
        Where blocks are held.
    """

    def __init__(self, reads: Sequence[WindowRead], plan: FetchPlan, store: BlockStore) -> None:
        self.plan = plan
        self.store = store
        self.left = plan.uses.tolist()
        """By life of a block, how often it will still be asked for."""
        self.entries: dict[int, Entry] = {}
        self._reads = list(reads)  # held, so that the identities of its sources stay theirs
        self._names = {(id(read.source), read.window): turn for turn, read in enumerate(reads)}
        self._sent = 0
        self._early: dict[int, int] = {}
        """Bytes that were sent for before their turn, by turn."""
        self._ahead = 0
        self._order = threading.Lock()
        self._coming: set[Future[None]] = set()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="mdive-read-ahead", daemon=True)

    def __enter__(self) -> Self:
        _turns.update({name: (self, turn) for name, turn in self._names.items()})
        if any(True for _ in self.plan.groups()):
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self.store.guard:
            self._stopped = True
            self.store.guard.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for name in self._names:
            _turns.pop(name, None)
        # Nobody waits for what is still to come: where all went well it is what a reader had no need of.
        wait([future for future in list(self._coming) if not (kind is not None and future.cancel())], timeout=None if kind is None else 0)
        with self.store.guard:
            for entry in list(self.entries.values()):
                self.store.drop(entry)

    def begin(self, turn: int) -> None:
        """Send out all requests up to a turn whose reader has come."""
        self._send(turn)
        with self.store.guard:
            self._ahead -= self._early.pop(turn, 0)
            self.store.guard.notify_all()

    def _run(self) -> None:
        while self._sent < len(self.plan.turns):
            with self.store.guard:
                self.store.guard.wait_for(lambda: self._stopped or not self._early or self._ahead < self.store.budget // 2)
                if self._stopped:
                    return
            self._send(self._sent)

    def _send(self, through: int) -> None:
        with self._order:
            for turn in range(self._sent, min(through + 1, len(self.plan.turns))):
                groups = [g for g in self.plan.turns[turn].groups if self.plan.files[g.file].remote is not None]
                if groups:
                    with self.store.guard:
                        self._early[turn] = sum(end - start for g in groups for start, end in g.ranges)
                        self._ahead += self._early[turn]
                for group in groups:
                    self._send_group(group)
                self._sent = turn + 1

    def _send_group(self, group: Group) -> None:
        file = self.plan.files[group.file]
        assert file.remote is not None
        mine = []
        with self.store.guard:
            for life, block in enumerate(group.blocks.tolist(), group.first):
                if self.left[life] and life not in self.entries:
                    place = place_of(file.layout, block)
                    mine.append((place, self.entry(life, file, place)))
        future = _pool().submit(_fetched, self.store, file.remote, mine)
        self._coming.add(future)
        future.add_done_callback(self._coming.discard)

    def entry(self, life: int, file: PlannedFile | BlockFile, place: Place) -> Entry:
        """Return a new entry for a block. The store is guarded."""
        return self.store.hold(Entry(self.entries, life, int(file.layout.counts[place])))

    def used(self, life: int, times: int) -> None:
        """Take note that a block will be asked for so many times less. The store is guarded."""
        self.left[life] -= times
        if not self.left[life] and life in self.entries:
            self.store.drop(self.entries[life])


class _Turn:
    """What one reader of a pass was promised."""

    def __init__(self, fetcher: Fetcher, number: int) -> None:
        self._fetcher = fetcher
        self._shares: dict[tuple[str, Place], list[int]] = {}
        """File and place -> life of the block, and how often it may still be asked for."""
        for need in fetcher.plan.turns[number].needs:
            file = fetcher.plan.files[need.file]
            for block, times, life in zip(need.blocks.tolist(), need.times.tolist(), need.lives.tolist(), strict=True):
                self._shares[file.key, place_of(file.layout, block)] = [life, times]

    def claim(self, file: BlockFile, place: Place) -> tuple[Entry, bool] | None:
        life, times = self._shares.get((file.key, place), (0, 0))
        if not times:
            return None
        entry = self._fetcher.entries.get(life)
        return (entry, False) if entry is not None else (self._fetcher.entry(life, file, place), True)

    def done(self, file: BlockFile, place: Place) -> None:
        share = self._shares[file.key, place]
        if share[1]:
            share[1] -= 1
            self._fetcher.used(share[0], 1)

    def end(self) -> None:
        """Give back what was not asked for (an item whose quality band failed is left out), and what failed: the next turn tries again."""
        fetcher = self._fetcher
        with fetcher.store.guard:
            for life, times in self._shares.values():
                if times:
                    fetcher.used(life, times)
                entry = fetcher.entries.get(life)
                if entry is not None and entry.packed.done() and entry.packed.exception() is not None:
                    fetcher.store.drop(entry)


@contextmanager
def arriving(source: Source, window: Window, grid: Grid, bands: Sequence[str]) -> Iterator[None]:
    """Let the blocks of a window arrive while `read_block` reads it.

    A window of a pass that is planned has them from its `Fetcher`. Any other one fetches the remote blocks of all of its bands at once, so that
    it waits for one answer and not for one after another. What fails here fails again, with all that is to be said about it, when it is read.

    Parameters
    ----------
    source, window, grid, bands
        As `read_block` takes them.
    """
    known = _turns.get((id(source), window))
    if known is not None:
        fetcher, number = known
        fetcher.begin(number)
        turn = _Turn(fetcher, number)
        try:
            with reading(turn):
                yield
        finally:
            turn.end()
        return
    read, store = WindowRead(source, window, grid, tuple(bands)), native_files().store
    # All is announced before the reader begins: whatever it asks for is on its way, and no thread that comes late asks once more.
    wait([_pool().submit(_open, planned) for _, planned in _planned(read) if is_remote(planned.asset.href)])
    pinned, coming = [], []
    for part in _band_reads(read):
        if part.file.remote is not None:
            entries, mine = store.pin(part.file.remote, places_of(part.file.layout, part.index, part.rows, part.cols))
            pinned += entries
            coming.append(_pool().submit(_fetched, store, part.file.remote, mine))
    try:
        yield
    finally:
        wait(coming)
        store.unpin(pinned)


_turns: dict[tuple[int, Window], tuple[Fetcher, int]] = {}
"""Source and window -> whose turn it is."""


def _planned(read: WindowRead) -> Iterator[tuple[WindowRead, PlannedBand]]:
    prepared = prepare(read.source, read.grid)
    rule = read.source.mask
    for observation in read.source.observations:
        for item in prepared.touching(read.window, observation.items):
            for band in dict.fromkeys([*([rule.band] if rule else []), *read.bands]):
                planned = prepared.bands[item].get(band)
                if planned is not None and planned.asset.fault is None and not read.window.intersect(planned.domain).empty:
                    yield read, planned


def _band_reads(read: WindowRead) -> Iterator[BandRead]:
    for _, planned in _planned(read):
        raster = _open(planned)
        if raster is not None:
            yield from _reads_of(read, planned, raster)


def _reads_of(read: WindowRead, planned: PlannedBand, raster: NativeRaster) -> Iterator[BandRead]:
    layout, asset = raster.file.layout, planned.asset
    covered = cover(raster.grid, read.grid) or EVERYWHERE
    if asset.index > layout.bands or covered.intersect(planned.domain).empty:
        return  # whoever reads it will say so
    quality = read.source.mask is not None and planned.band == read.source.mask.band
    interpolated = not quality and not is_discrete(asset) and asset.resampling != "nearest"
    file = PlannedFile(raster.file.key, layout, raster.file if isinstance(raster.file, RemoteFile) else None)
    for rows, cols in spans(relate(raster.grid, read.grid), read.window.intersect(planned.domain), interpolated=interpolated):
        yield BandRead(file, asset.index, rows, cols)


def _fetched(store: BlockStore, file: BlockFile, mine: Sequence[tuple[Place, Entry]]) -> None:
    try:
        store.fetch(file, mine)
    except Unreadable:
        return  # it is the entries' to tell whoever asks for them


def _open(planned: PlannedBand) -> NativeRaster | None:
    href = planned.asset.href
    try:
        if driver_for(href, planned.origin) != "GTiff":
            return None
        return native_files().open_remote(href, ahead=True) if is_remote(href) else native_files().open(href)
    except Unreadable:
        return None


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(profile().fetch_threads, thread_name_prefix="mdive-ahead")
