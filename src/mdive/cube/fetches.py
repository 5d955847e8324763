"""Which blocks a pass fetches, in which order and how long they live: a value, computed from headers before a pixel is read.

No thread's timing has a say in it. A pass is a sequence of turns (one window of one source each). A turn fetches the blocks that no
earlier turn has left for it, file by file, neighbours as one range. A block that a later turn needs is kept; where the budget does not hold all of
these, the one that is needed last goes (Belady, doi:10.1147/sj.52.0078) and is fetched again for its next turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mdive.cube.store import BlockFile, Place, Range, coalesced, places_of
from mdive.cube.tiff import TiffLayout

NEVER: Final = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file of blocks, as a plan knows it."""

    key: str
    layout: TiffLayout
    remote: BlockFile | None
    """How its bytes come, if it is on a server. A file of this machine is opened by whoever reads it."""


@dataclass(frozen=True, slots=True)
class BandRead:
    """What is asked for at once: a part of one band of one file."""

    file: PlannedFile
    index: int
    """Band, from 1."""
    rows: Range
    cols: Range


@dataclass(frozen=True, slots=True, eq=False)
class Need:
    """What one turn asks of one file; arrays of one length."""

    file: int
    blocks: np.ndarray
    """Index into the flat table of the file's blocks."""
    times: np.ndarray
    """How often it is asked for."""
    lives: np.ndarray
    """Which life of a block serves it."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """What one turn fetches from one file."""

    file: int
    blocks: np.ndarray
    """Index into the flat table of the file's blocks, by place in the file."""
    first: int
    """Life of the first of them; the others follow."""
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TurnPlan:
    """One window of one source."""

    needs: tuple[Need, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FetchPlan:
    """All turns of a pass."""

    files: tuple[PlannedFile, ...]
    turns: tuple[TurnPlan, ...]
    uses: np.ndarray
    """How often each life of a block is asked for."""
    kept: int
    """Bytes of unpacked blocks that wait for a later turn at the worst moment."""

    def groups(self) -> Iterable[Group]:
        """Yield what is fetched from servers, in order."""
        return (g for turn in self.turns for g in turn.groups if self.files[g.file].remote is not None)

    @property
    def requests(self) -> int:
        """Ranges that servers are asked for."""
        return sum(len(g.ranges) for g in self.groups())

    @property
    def bytes(self) -> int:
        """Bytes of these ranges."""
        return sum(end - start for g in self.groups() for start, end in g.ranges)


def plan_fetches(turns: Iterable[Sequence[BandRead]], budget: int) -> FetchPlan:
    """Plan a pass.

    Parameters
    ----------
    turns
        What is read, in order.
    budget
        Bytes of unpacked blocks that may wait for a later turn.
    """
    planner = _Planner(budget)
    needs = [planner.needs(reads) for reads in turns]
    return planner.plan(needs)


Rough = tuple[int, np.ndarray, np.ndarray]
"""File, blocks, times."""


class _Planner:
    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.files: list[PlannedFile] = []
        self.numbers: dict[str, int] = {}
        self.kept: dict[tuple[int, int], int] = {}
        """Blocks that wait for a later turn -> which."""
        self.bytes = 0

    def needs(self, reads: Sequence[BandRead]) -> list[Rough]:
        asked: dict[int, list[np.ndarray]] = {}
        for read in reads:
            number = self.numbers.setdefault(read.file.key, len(self.files))
            if number == len(self.files):
                self.files.append(read.file)
            asked.setdefault(number, []).append(_flat(read))
        return [(number, *np.unique(np.concatenate(blocks), return_counts=True)) for number, blocks in asked.items()]

    def plan(self, needs: Sequence[Sequence[Rough]]) -> FetchPlan:
        later = self._later(needs)
        life = [np.full(f.layout.offsets.size, -1, np.int64) for f in self.files]
        begun = most = 0
        turns = []
        for turn, rough in enumerate(needs):
            served, groups = [], []
            for (number, blocks, times), after in zip(rough, later[turn], strict=True):
                fresh = blocks[life[number][blocks] < 0]
                if fresh.size:
                    group = _group(self.files[number], number, fresh, begun)
                    life[number][group.blocks] = np.arange(begun, begun + fresh.size)
                    begun += fresh.size
                    groups.append(group)
                served.append(Need(number, blocks, times, life[number][blocks]))
                self._keep(number, blocks, after)
                life[number][blocks[after == NEVER]] = -1
            for number, block in self._surplus():
                life[number][block] = -1
            most = max(most, self.bytes)
            turns.append(TurnPlan(tuple(served), tuple(groups)))
        return FetchPlan(tuple(self.files), tuple(turns), _uses(begun, turns), most)

    def _later(self, needs: Sequence[Sequence[Rough]]) -> list[list[np.ndarray]]:
        """Return the next turn that needs each block of each turn."""
        following = [np.full(f.layout.offsets.size, NEVER, np.int64) for f in self.files]
        found: list[list[np.ndarray]] = []
        for turn in reversed(range(len(needs))):
            found.append([following[number][blocks] for number, blocks, _ in needs[turn]])
            for number, blocks, _ in needs[turn]:
                following[number][blocks] = turn
        return found[::-1]

    def _keep(self, number: int, blocks: np.ndarray, after: np.ndarray) -> None:
        size = self.files[number].layout.block_bytes
        for block, turn in zip(blocks.tolist(), after.tolist(), strict=True):
            known = self.kept.pop((number, block), None)
            if turn != NEVER:
                self.kept[number, block] = turn
            self.bytes += size * ((turn != NEVER) - (known is not None))

    def _surplus(self) -> list[tuple[int, int]]:
        """Return the blocks that cannot be kept: those that are needed last."""
        if self.bytes <= self.budget:
            return []
        gone = []
        queue = [(-turn, *key) for key, turn in self.kept.items()]
        heapq.heapify(queue)
        while self.bytes > self.budget:
            _, number, block = heapq.heappop(queue)
            del self.kept[number, block]
            self.bytes -= self.files[number].layout.block_bytes
            gone.append((number, block))
        return gone


def _flat(read: BandRead) -> np.ndarray:
    layout = read.file.layout
    places = places_of(layout, read.index, read.rows, read.cols)
    if not places:
        return np.empty(0, np.int64)
    flat: np.ndarray = np.ravel_multi_index(tuple(np.array(places).T), layout.offsets.shape)
    return flat


def place_of(layout: TiffLayout, block: int) -> Place:
    """Return the place of a block of the flat table."""
    _, rows, cols = layout.offsets.shape
    return block // (rows * cols), block // cols % rows, block % cols


def _group(file: PlannedFile, number: int, blocks: np.ndarray, first: int) -> Group:
    offsets, counts = file.layout.offsets.ravel(), file.layout.counts.ravel()
    blocks = blocks[np.argsort(offsets[blocks], kind="stable")]
    filled = blocks[counts[blocks] > 0]
    ranges = coalesced(list(zip(offsets[filled].tolist(), (offsets + counts)[filled].tolist(), strict=True)))
    return Group(number, blocks, first, tuple(ranges))


def _uses(lives: int, turns: Sequence[TurnPlan]) -> np.ndarray:
    uses = np.zeros(lives, np.int64)
    for turn in turns:
        for need in turn.needs:
            uses[need.lives] += need.times  # a turn names a life once
    return uses
