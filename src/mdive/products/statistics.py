"""Areas of classes, on the ellipsoid: one streaming pass over a class raster.

Pixels are counted exactly, per class and per cell of a lattice that hangs on the grid's first pixel, and each cell's count is
multiplied by the true area of a pixel in its middle, measured by geodesics on the ellipsoid (Karney 2013,
10.1007/s00190-012-0578-z), so that any projection will do. Square metres on the map are not square metres on the ground: at the edge
of a UTM zone they differ by 0.2 %, in Web Mercator at 60°N fourfold, and in degrees they mean nothing.

Areas are summed as integers (multiples of 2**-24 of a nominal pixel), so no order of summation can change a digit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyproj import CRS, Proj

from mdive.errors import InputError
from mdive.model.flags import CAUSES
from mdive.model.plan import Grid
from mdive.model.product import RasterSpec, Role
from mdive.pipeline.window import Window
from mdive.products.raster import Probability, opened, raster_window, windows

_CELL = 256
"""Edge of a lattice cell in pixels. At 10 m the areal scale of UTM changes by less than 1e-5 from its middle to its edge."""

_CELL_M = 6_400.0
"""Longest edge of a cell in metres: coarse pixels get smaller cells. Web Mercator at 60°N, a hard case, changes by 0.2 % over it."""

_QUAD_M = 1_000.0
"""Shortest edge in metres of the square that is measured: a geodesic area is good to 0.1 m², too little for a single pixel."""

_UNITS = 1 << 24
"""Units of area in a nominal pixel: rounding is below 3e-8 of an area."""

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


def class_areas(path: Path, spec: RasterSpec, grid: Grid, *, probability_path: Path | None = None) -> ClassAreas:
    """Measure the classes of a class raster, and how sure they are.

    ``by_probability.low(p) <= area_m2("event") <= by_probability.high(p)`` holds to the last bit, because all three are sums of the same
    whole numbers.

    Parameters
    ----------
    path
        Class raster (uint8) on ``grid``, as :func:`mdive.products.write_cog` writes it.
    spec
        Its class table. Pixels of other values (nodata: outside the area) are not counted.
    grid
        Its grid.
    probability_path
        Raster of the event's probability, 0 to 1, on the same grid: adds ``by_probability``.

    Raises
    ------
    InputError
        The grid's CRS cannot tell the size of a pixel that holds data.
    """
    groups = np.full(256, _ELSE * (_BINS + 1), dtype=np.uint16)
    for entry in spec.classes:
        groups[entry.value] = {"event": 0, "background": 1}.get(entry.role, _ELSE) * (_BINS + 1)
    counted = _Counter(grid, 256, {entry.value for entry in spec.classes})
    likely = _Counter(grid, (_ELSE + 1) * (_BINS + 1), set(range(_ELSE * (_BINS + 1))))
    with ExitStack() as stack:
        classes = stack.enter_context(opened(path))
        probability = stack.enter_context(Probability(probability_path)) if probability_path else None
        table = _bin_table(probability.step) if probability else np.zeros(0, np.uint16)
        for window in windows(grid):
            block = classes.read(1, window=raster_window(window))
            counted.add(block, window)
            if probability:
                likely.add(groups[block] + _bins(probability, table, window), window)
    rows = tuple(counted.row(entry.value, entry.name, entry.role) for entry in spec.classes)
    event, background = likely.units[: _BINS + 1], likely.units[_BINS + 1 : 2 * (_BINS + 1)]
    by_probability = EventProbability(tuple(event[:_BINS]), tuple(background[:_BINS]), event[_BINS], likely.unit_m2)
    return ClassAreas(rows, counted.unit_m2, by_probability if probability_path else None)


def cause_areas(path: Path, grid: Grid) -> dict[str, ClassArea]:
    """Measure the raster of causes (uint8, values of :data:`mdive.model.flags.CAUSES`): why how much was not observed, by name."""
    counted = _Counter(grid, 256, {value for value, _, _ in CAUSES})
    with opened(path) as causes:
        for window in windows(grid):
            counted.add(causes.read(1, window=raster_window(window)), window)
    return {name: counted.row(value, name, "unobserved" if value else "background") for value, name, _ in CAUSES}


def flag_areas(
    path: Path, grid: Grid, mask: int, *, where: Path | None = None, classes: tuple[Path, Collection[int]] | None = None
) -> float:
    """Return the area in m² of the pixels of a flag raster that have any bit of ``mask``.

    Parameters
    ----------
    path
        Flag raster on ``grid``.
    grid
        Its grid.
    mask
        Bits to look for.
    where
        Raster of causes on the same grid: only pixels that were observed count.
    classes
        Class raster on the same grid, and values of it: only pixels of these classes count.
    """
    counted = _Counter(grid, 2, {1})
    only: list[tuple[Path, Collection[int]]] = [(where, (_OBSERVED,))] if where else []
    only += [classes] if classes else []
    with ExitStack() as stack:
        flags = stack.enter_context(opened(path))
        filters = [(stack.enter_context(opened(p)), _members(values)) for p, values in only]
        for window in windows(grid):
            found = (flags.read(1, window=raster_window(window)) & mask) != 0
            for dataset, members in filters:
                if not found.any():
                    break
                found &= members[dataset.read(1, window=raster_window(window))]
            counted.add(found.astype(np.uint8), window)
    return counted.units[1] * counted.unit_m2


def _members(values: Collection[int]) -> np.ndarray[Any, Any]:
    """Return which of the 256 values of a class raster are among some."""
    members = np.zeros(256, dtype=bool)
    members[sorted(values)] = True
    return members


class _Counter:
    """Pixels and area by value, added up window by window.

    Parameters
    ----------
    grid
        Where the pixels lie.
    size
        Values are 0 ... size - 1.
    wanted
        Values whose area is of interest.
    """

    def __init__(self, grid: Grid, size: int, wanted: set[int]) -> None:
        self._measure = _PixelAreas(grid)
        self._wanted = wanted
        self.pixels = np.zeros(size, np.int64)
        self.units = [0] * size
        self.unit_m2 = self._measure.unit_m2

    def add(self, block: np.ndarray[Any, Any], window: Window) -> None:
        """Add the values of a window."""
        for area, rows, cols in self._measure.cells(window):
            found = np.bincount(block[rows, cols].ravel(), minlength=len(self.units))
            self.pixels += found
            for value in map(int, np.flatnonzero(found)):
                if value not in self._wanted:
                    continue
                if area is None:
                    message = "The grid's CRS cannot tell the size of its pixels: it reaches beyond what the projection can show."
                    raise InputError(message, "Choose a projection made for the area, or leave the grid to mdive.")
                self.units[value] += int(found[value]) * area

    def row(self, value: int, name: str, role: Role) -> ClassArea:
        """Return what was counted of one value."""
        return ClassArea(value, name, role, int(self.pixels[value]), self.units[value], self.unit_m2)


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


class _PixelAreas:
    """True area of the pixels of a grid, cell by cell, as whole numbers of units."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._crs = CRS.from_user_input(grid.crs)
        ellipsoid, unit = self._crs.ellipsoid, self._crs.axis_info[0].unit_conversion_factor
        if self._crs.is_geographic and ellipsoid is not None:
            # Cylindrical equal-area: a strip between two parallels is as high there as its true area asks, exactly.
            flattening = 1 / ellipsoid.inverse_flattening if ellipsoid.inverse_flattening else 0.0
            self._proj = Proj(proj="cea", a=ellipsoid.semi_major_metre, f=flattening)
            self._edge = grid.resolution * unit * ellipsoid.semi_major_metre
            self._degrees = math.degrees(unit)
        else:
            self._proj = Proj(self._crs)
            self._edge = grid.resolution * unit
            self._degrees = 0.0
        self._geod = self._crs.get_geod()
        self.unit_m2 = self._edge * self._edge / _UNITS

    def cells(self, window: Window) -> Iterator[tuple[int | None, slice, slice]]:
        """Yield (units per pixel, rows, columns) of the cells of a window; the slices are relative to it."""
        return self._parallels(window) if self._degrees else self._squares(window)

    def _squares(self, window: Window) -> Iterator[tuple[int | None, slice, slice]]:
        step = _power_of_two(_CELL_M / self._edge)
        half = max(step, _QUAD_M / self._edge) / 2
        for row in range(0, window.height, step):
            for col in range(0, window.width, step):
                bottom, right = min(row + step, window.height), min(col + step, window.width)
                middle = window.row + (row + bottom) / 2, window.col + (col + right) / 2
                yield self._square(*middle, half), slice(row, bottom), slice(col, right)

    def _square(self, row: float, col: float, half: float) -> int | None:
        """Return the units of a pixel at a place: those of the square of 2 ``half`` pixels around it, measured by geodesics."""
        grid = self._grid
        x = grid.x0 + (col + np.array([-half, half, half, -half])) * grid.resolution
        y = grid.y0 - (row + np.array([half, half, -half, -half])) * grid.resolution
        lon, lat = self._proj(x, y, inverse=True, errcheck=False)
        if self._geod is None or not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None
        area, _ = self._geod.polygon_area_perimeter(lon, lat)
        return round(abs(area) / (4 * half * half) / self.unit_m2)

    def _parallels(self, window: Window) -> Iterator[tuple[int | None, slice, slice]]:
        edges = self._grid.y0 - (window.row + np.arange(window.height + 1)) * self._grid.resolution
        _, y = self._proj(np.zeros_like(edges), np.clip(edges * self._degrees, -90, 90))
        for i, height in enumerate(-np.diff(y)):
            yield round(height * self._edge / self.unit_m2), slice(i, i + 1), slice(0, window.width)


def _power_of_two(limit: float) -> int:
    """Return the largest power of two up to ``limit``, between 1 and a cell: it divides every window, whatever the grid."""
    return min(_CELL, 1 << int(math.log2(max(1.0, limit))))
