"""Areas of classes, causes and flags, on the ellipsoid: one streaming pass over the rasters of a run.

Pixels are counted exactly, per value and per cell of a lattice that hangs on the grid's first pixel (`mdive.products.areas`), and each cell's
count is multiplied by the true area of its pixels. Areas are summed as integers (multiples of 2**-24 of a nominal pixel), so no order of
summation can change a digit.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np

from mdive.errors import InputError
from mdive.model.flags import CAUSES
from mdive.model.plan import Grid
from mdive.model.product import RasterSpec, Role
from mdive.pipeline.window import Window
from mdive.products.areas import PixelAreas
from mdive.products.raster import BLOCK, Probability, opened, raster_window, windows

_BINS = 101
"""Probability bins of one percent: bin k holds [k, k + 1) %, the last one exactly 100 %. One more holds *no probability*."""

_ELSE = 2
"""Group of the pixels that are neither event (0) nor seen and not the event (1)."""

_OBSERVED = 0
"""Value of the raster of causes where a pixel was observed."""


@dataclass(frozen=True, slots=True)
class ClassArea:
    """How much of one class there is."""

    value: int
    name: str
    role: Role
    pixels: int
    units: int
    """Area in units, a whole number."""
    unit_m2: float
    """One unit, in m²."""

    @property
    def area_m2(self) -> float:
        """Area in m² on the ellipsoid."""
        return self.units * self.unit_m2


@dataclass(frozen=True, slots=True)
class EventProbability:
    """Area by probability of the event, in bins of one percent: of what was called the event, and of what was seen and was not."""

    event: tuple[int, ...]
    """Units of area in each bin; bin k holds [k, k + 1) %, the last one 100 %."""
    background: tuple[int, ...]
    unknown: int
    """Units that were called the event, but have no probability."""
    unit_m2: float

    def low(self, probability: float) -> float:
        """Return the area in m² that was called the event with at least this probability (whole percents)."""
        return sum(self.event[_percent(probability) :]) * self.unit_m2

    def high(self, probability: float) -> float:
        """Return the area in m² that was called the event, plus what was not but has at least this probability (whole percents)."""
        return (sum(self.event) + self.unknown + sum(self.background[_percent(probability) :])) * self.unit_m2


@dataclass(frozen=True, slots=True)
class ClassAreas:
    """The areas of a class raster."""

    classes: tuple[ClassArea, ...]
    """In the order of the class table; classes that do not occur are there with nothing."""
    unit_m2: float
    by_probability: EventProbability | None = None

    def pixels(self, *roles: Role) -> int:
        """Return the number of pixels in classes of these roles."""
        return sum(c.pixels for c in self.classes if c.role in roles)

    def area_m2(self, *roles: Role) -> float:
        """Return the area in m² of the classes of these roles."""
        return sum(c.units for c in self.classes if c.role in roles) * self.unit_m2

    def of(self, name: str) -> ClassArea:
        """Return one class by name."""
        return next(c for c in self.classes if c.name == name)


@dataclass(frozen=True, slots=True)
class Flagged:
    """A question to the quality flags: the area of what has any of some bits."""

    mask: int
    observed: bool = False
    """Whether only pixels that were observed count."""
    classes: frozenset[int] | None = None
    """Only pixels of these classes count; None: of all."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a run's rasters hold of what."""

    areas: ClassAreas
    causes: dict[str, ClassArea]
    """Why how much was not observed, by name; all nothing where no raster of causes was given."""
    flagged: tuple[float, ...]
    """Area in m² that answers each question."""


def survey(
    extent: Path,
    spec: RasterSpec,
    grid: Grid,
    *,
    cause: Path | None = None,
    qc: Path | None = None,
    flags: Sequence[Flagged] = (),
    probability: Path | None = None,
    workers: int = 1,
) -> Survey:
    """Measure classes, how sure they are, causes and flags, in one pass.

    ``areas.by_probability.low(p) <= areas.area_m2("event") <= areas.by_probability.high(p)`` holds to the last bit, because all three are
    sums of the same whole numbers.

    Parameters
    ----------
    extent
        Class raster (uint8) on ``grid``, as :func:`mdive.products.write_cog` writes it.
    spec
        Its class table. Pixels of other values (nodata: outside the area) are not counted.
    grid
        Grid of all rasters.
    cause
        Raster of causes (uint8, values of :data:`mdive.model.flags.CAUSES`). Without it every pixel counts as observed.
    qc
        Raster of flags (uint16).
    flags
        Questions to the flags.
    probability
        Raster of the event's probability, 0 to 1: adds ``areas.by_probability``.
    workers
        Windows that are measured at once.

    Raises
    ------
    InputError
        The grid's CRS cannot tell the size of a pixel that holds data.
    """
    every = [strip for window in windows(grid) for strip in _strips(window)]
    paths = _Paths(extent, cause, qc, probability)
    # PROJ's objects belong to one thread each, as rasterio's do.
    with ThreadPoolExecutor(workers, thread_name_prefix="mdive-survey") as pool:
        parts = list(pool.map(lambda first: _Sums(spec, flags, PixelAreas(grid)).over(paths, every[first::workers]), range(workers)))
    total = parts[0]
    for part in parts[1:]:
        total.merge(part)
    rows = tuple(total.classes.row(entry.value, entry.name, entry.role) for entry in spec.classes)
    event, background = total.likely.units[: _BINS + 1], total.likely.units[_BINS + 1 : 2 * (_BINS + 1)]
    by_probability = EventProbability(tuple(event[:_BINS]), tuple(background[:_BINS]), event[_BINS], total.likely.unit_m2)
    return Survey(
        ClassAreas(rows, total.classes.unit_m2, by_probability if probability else None),
        {name: total.causes.row(value, name, "unobserved" if value else "background") for value, name, _ in CAUSES},
        tuple(units * total.answers.unit_m2 for units in total.answers.units),
    )


@dataclass(frozen=True, slots=True)
class _Paths:
    extent: Path
    cause: Path | None
    qc: Path | None
    probability: Path | None


class _Sums:
    """What some windows of a run's rasters hold: whole numbers, so that parts may be added in any order."""

    def __init__(self, spec: RasterSpec, flags: Sequence[Flagged], measure: PixelAreas) -> None:
        self._groups = np.full(256, _ELSE * (_BINS + 1), dtype=np.uint16)
        for entry in spec.classes:
            self._groups[entry.value] = {"event": 0, "background": 1}.get(entry.role, _ELSE) * (_BINS + 1)
        self._measure = measure
        self._questions = _questions(flags)
        self.classes = _Counter(measure, 256, {entry.value for entry in spec.classes})
        self.causes = _Counter(measure, 256, {value for value, _, _ in CAUSES})
        self.answers = _Counter(measure, len(flags), set(range(len(flags))))
        self.likely = _Counter(measure, (_ELSE + 1) * (_BINS + 1), set(range(_ELSE * (_BINS + 1))))

    def merge(self, other: _Sums) -> None:
        """Add the sums of other windows."""
        self.classes.merge(other.classes)
        self.causes.merge(other.causes)
        self.answers.merge(other.answers)
        self.likely.merge(other.likely)

    def over(self, paths: _Paths, some: Sequence[Window]) -> _Sums:
        """Add windows, read by handles of its own, and return itself."""
        masks, observed, members = self._questions
        with ExitStack() as stack:
            extent = stack.enter_context(opened(paths.extent))
            cause, qc = (stack.enter_context(opened(p)) if p else None for p in (paths.cause, paths.qc))
            chance = stack.enter_context(Probability(paths.probability)) if paths.probability else None
            table = _bin_table(chance.step) if chance else np.zeros(0, np.uint16)
            for window in some:
                step, units = self._measure.step(window), self._measure.units(window)
                found = extent.read(1, window=raster_window(window))
                self.classes.add(_count(found, step, 256), units)
                why = cause.read(1, window=raster_window(window)) if cause else np.full(window.shape, _OBSERVED, np.uint8)
                if cause:
                    self.causes.add(_count(why, step, 256), units)
                if qc and masks.size:
                    self.answers.add(
                        _count_flags(qc.read(1, window=raster_window(window)), why, found, masks, observed, members, step), units
                    )
                if chance:
                    bins = self._groups[found] + _bins(chance, table, window)
                    self.likely.add(_count(bins, step, self.likely.pixels.size), units)
        return self


def _strips(window: Window) -> list[Window]:
    """Cut a window along the blocks of the files: several threads hold several of them at once, as numbers of eight bytes."""
    edges = [*range(window.row, window.row_end, BLOCK), window.row_end]
    return [Window(row, window.col, end - row, window.width) for row, end in pairwise(edges)]


def _questions(flags: Sequence[Flagged]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return masks, whether only observed pixels count, and which classes count, one row for each question."""
    masks = np.array([f.mask for f in flags], np.uint16)
    observed = np.array([f.observed for f in flags], np.bool_)
    members = np.ones((len(flags), 256), np.bool_)
    for row, flag in zip(members, flags, strict=True):
        if flag.classes is not None:
            row[:] = False
            row[sorted(flag.classes)] = True
    return masks, observed, members


class _Counter:
    """Pixels and area by value, added up window by window.

    Parameters
    ----------
    measure
        How large pixels are.
    size
        Values are 0 ... size - 1.
    wanted
        Values whose area is of interest.
    """

    def __init__(self, measure: PixelAreas, size: int, wanted: Collection[int]) -> None:
        self._wanted = np.zeros(size, np.bool_)
        self._wanted[sorted(wanted)] = True
        self.pixels = np.zeros(size, np.int64)
        self.units = [0] * size
        self.unit_m2 = measure.unit_m2

    def add(self, counts: np.ndarray[Any, Any], units: Sequence[int | None]) -> None:
        """Add the counts (cell, value) of a window whose pixels have so many units each."""
        counts = counts * self._wanted
        self.pixels += counts.sum(axis=0)
        for cell, value in np.argwhere(counts).tolist():
            area = units[cell]
            if area is None:
                message = "The grid's CRS cannot tell the size of its pixels: it reaches beyond what the projection can show."
                raise InputError(message, "Choose a projection made for the area, or leave the grid to mdive.")
            self.units[value] += int(counts[cell, value]) * area

    def merge(self, other: _Counter) -> None:
        """Add what another counter has counted."""
        self.pixels += other.pixels
        self.units = [a + b for a, b in zip(self.units, other.units, strict=True)]

    def row(self, value: int, name: str, role: Role) -> ClassArea:
        """Return what was counted of one value."""
        return ClassArea(value, name, role, int(self.pixels[value]), self.units[value], self.unit_m2)


@numba.njit(nogil=True, cache=True)
def _count(block, step, size):
    """Return how often each value below ``size`` is in each cell: int64 (cell, value)."""
    rows, cols = step
    across = -(-block.shape[1] // cols)
    counts = np.zeros((-(-block.shape[0] // rows) * across, size), np.int64)
    for i in range(block.shape[0]):
        for k in range(across):
            cell = counts[(i // rows) * across + k]
            for value in block[i, k * cols : (k + 1) * cols]:
                cell[value] += 1
    return counts


@numba.njit(nogil=True, cache=True)
def _count_flags(flags, cause, classes, masks, observed, members, step):
    """Return how many pixels of each cell answer each question: int64 (cell, question)."""
    rows, cols = step
    across = -(-flags.shape[1] // cols)
    counts = np.zeros((-(-flags.shape[0] // rows) * across, masks.size), np.int64)
    anything = np.uint16(0)
    for mask in masks:
        anything |= mask
    for i in range(flags.shape[0]):
        for j in range(flags.shape[1]):
            bits = flags[i, j] & anything
            if bits:
                for q in range(masks.size):
                    if bits & masks[q] and members[q, classes[i, j]] and (cause[i, j] == _OBSERVED or not observed[q]):
                        counts[(i // rows) * across + j // cols, q] += 1
    return counts


def _bins(probability: Probability, table: np.ndarray[Any, Any], window: Window) -> np.ndarray[Any, Any]:
    numbers, known = probability.read(window)
    bins: np.ndarray[Any, Any] = table.take(numbers, mode="clip")
    bins[~known] = _BINS
    return bins


def _bin_table(step: float) -> np.ndarray[Any, Any]:
    """Return the bin of each number of steps from 0 to 1."""
    # A little above the edge of a bin, because 2900 steps of 1e-4 are 0.28999...
    table: np.ndarray[Any, Any] = np.floor(np.arange(round(1 / step) + 1) * (step * 100.0) + 1e-6).astype(np.uint16)
    return table


def _percent(probability: float) -> int:
    return min(max(math.ceil(probability * 100 - 1e-9), 0), _BINS)
