"""How the grid of a file lies in the target grid, decided once per pair of grids, so that every window sees the same relation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from affine import Affine

from mdive.cube.grid import same_crs, transformer
from mdive.cube.kernels import locate
from mdive.model.plan import Grid
from mdive.pipeline.window import Window

ALIGNED = 1e-3
"""Part of a pixel by which two grids may disagree anywhere on the file and still count as aligned: 1 cm at 10 m."""

LATTICE_STEPS = (16, 8, 4, 2, 1)
"""Candidate spacings, in pixels of the target, of the points at which a projection is evaluated exactly."""

LATTICE_ERROR = 5e-4
"""Largest error of interpolating between these points, measured where the source meets the grid, in source or target pixels, whichever are
larger. 16 pixels of 10 m cause less than 1e-4; near a pole, or with pixels of kilometres, a narrower lattice is taken."""

MEAN_FROM = 1.9
"""From so many source pixels per target pixel on, continuous bands are averaged over the area of the target pixel: two, with room for the
scale of a neighbouring UTM zone."""

MOST_SAMPLES = 64
"""Most sample points per target pixel and axis in an average."""


@dataclass(frozen=True, slots=True)
class SourceGrid:
    """The grid of a file or, before it is opened, the one that the catalogue tells."""

    crs: str
    """``EPSG:n``, PROJ or WKT."""
    transform: tuple[float, float, float, float, float, float]
    """Affine coefficients (a, b, c, d, e, f) from (column, row) to (x, y)."""
    shape: tuple[int, int]
    """(rows, columns)."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of two grids that nest: either a source pixel covers ``repeat`` target pixels or a target pixel ``shrink`` source pixels."""

    offset: int
    """Where repeated: target index of the first source pixel's edge. Else: source index at target index 0."""
    repeat: int = 1
    shrink: int = 1

    def span(self, start: int, stop: int, length: int) -> tuple[int, int]:
        """Return the source pixels [first, end) that target pixels [start, stop) need, cut to the file."""
        if self.repeat > 1:
            first, end = (start - self.offset) // self.repeat, -((self.offset - stop) // self.repeat)
        else:
            first, end = start * self.shrink + self.offset, stop * self.shrink + self.offset
        return min(max(first, 0), length), min(max(end, 0), length)

    def inside(self, start: int, stop: int, length: int) -> tuple[int, int]:
        """Return those target pixels [first, end) of [start, stop) whose centre lies on a file of ``length`` pixels."""
        if self.repeat > 1:
            first, end = self.offset, self.offset + length * self.repeat
        else:
            middle = self.offset + self.shrink // 2
            first, end = -(middle // self.shrink), (length - 1 - middle) // self.shrink + 1
        first, end = max(start, first), min(stop, end)
        return (first, end) if first < end else (start, start)

    def index(self, start: int, stop: int) -> np.ndarray:
        """Return the source pixel (may be beyond the file) at the centre of each target pixel [start, stop)."""
        target = np.arange(start, stop)
        if self.repeat > 1:
            return (target - self.offset) // self.repeat
        return target * self.shrink + (self.offset + self.shrink // 2)


@dataclass(frozen=True, slots=True)
class Nested:
    """Grids of one CRS whose pixel edges coincide: no resampling but repetition or block averages."""

    source: SourceGrid
    rows: Axis
    cols: Axis

    def inside(self, window: Window) -> np.ndarray:
        """Return whether the centre of each target pixel lies on the file, as booleans (y, x)."""
        row, col = self.rows.index(window.row, window.row_end), self.cols.index(window.col, window.col_end)
        height, width = self.source.shape
        return ((row >= 0) & (row < height))[:, None] & ((col >= 0) & (col < width))[None, :]


@dataclass(frozen=True, slots=True)
class Warp:
    """Grids that really differ: an exact inverse map on a lattice of the target, interpolated in between.

    The lattice is anchored at pixel (0, 0) of the target grid, not at the window; so a pixel depends on the four lattice points
    around it and on nothing else.
    """

    source: SourceGrid
    grid: Grid
    step: int = 16
    """Spacing of the lattice in target pixels."""
    samples: tuple[int, int] = (1, 1)
    """Sample points per target pixel (rows, columns) when a continuous band is averaged; (1, 1): it is interpolated instead."""

    @property
    def period(self) -> float:
        """Source columns per turn around the globe where the source is geographic, else 0."""
        return 360.0 / abs(self.source.transform[0]) if _is_geographic(self.source.crs) and self.source.transform[0] else 0.0

    def exact(self, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the source row and column (floats; pixel i covers [i, i + 1)) of points of the target, given as row and column."""
        x = self.grid.x0 + np.asarray(cols, dtype=np.float64) * self.grid.resolution
        y = self.grid.y0 - np.asarray(rows, dtype=np.float64) * self.grid.resolution
        if not same_crs(self.grid.crs, self.source.crs):
            x, y = transformer(self.grid.crs, self.source.crs).transform(x, y)
        a, b, c, d, e, f = _inverse(self.source.transform)
        return d * x + e * y + f, a * x + b * y + c

    def lattice(self, window: Window) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Return the lattice under a window and its lower and right edge: source rows and columns (2, n, m), and (row, column, spacing)."""
        i, j = window.row // self.step, window.col // self.step
        rows = np.arange(i, window.row_end // self.step + 2) * self.step
        cols = np.arange(j, window.col_end // self.step + 2) * self.step
        at = np.meshgrid(rows, cols, indexing="ij")
        return np.stack(self.exact(at[0], at[1])), (i, j, self.step)

    def inside(self, window: Window) -> np.ndarray:
        """Return whether the centre of each target pixel lies on the file, as booleans (y, x)."""
        height, width = self.source.shape
        row, col = self.centres(window)
        return (row >= 0) & (row < height) & (col >= 0) & (col < width)

    def centres(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return the source row and column of each target pixel's centre, as float64 (y, x); not finite where there is none."""
        return self.locate(window, 0.5)

    def locate(self, window: Window, offset: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the source row and column of one point in each target pixel: ``offset`` 0.5 its centre, 0 its upper left corner."""
        nodes, lattice = self.lattice(window)
        place = (window.row, window.col, window.height, window.width)
        return locate(nodes, lattice, place, offset, self.source.shape[1], self.period)


Relation = Nested | Warp


@lru_cache(maxsize=4096)
def relate(source: SourceGrid, grid: Grid) -> Relation:
    """Return how a source grid lies in the target grid."""
    if same_crs(source.crs, grid.crs):
        a, b, c, d, e, f = source.transform
        if b == 0 and d == 0 and a > 0 and e < 0:
            cols = _axis(a / grid.resolution, (c - grid.x0) / grid.resolution, source.shape[1])
            rows = _axis(-e / grid.resolution, (grid.y0 - f) / grid.resolution, source.shape[0])
            if cols and rows:
                return Nested(source, rows, cols)
    return _measured(Warp(source, grid))


def _axis(ratio: float, start: float, length: int) -> Axis | None:
    """Return the axis of two grids that nest. ``ratio``: target pixels per source pixel; ``start``: target index of the source's edge."""
    if ratio > 0.75:
        repeat = round(ratio)
        first = round(start)
        if abs(ratio - repeat) * length <= ALIGNED and abs(start - first) <= ALIGNED:
            return Axis(first, repeat=repeat) if repeat > 1 else Axis(-first)
        return None
    shrink = round(1 / ratio)
    first = round(-start / ratio)
    if abs(1 / ratio - shrink) * length * ratio <= ALIGNED and abs(-start / ratio - first) <= ALIGNED:
        return Axis(first, shrink=shrink)
    return None


def _measured(warp: Warp) -> Warp:
    """Choose lattice and sampling from the geometry where source and target meet."""
    rows, cols = _meeting_points(warp)
    if not len(rows):
        return warp
    r, c = warp.exact(rows, cols)
    right, below = warp.exact(rows, cols + 1.0), warp.exact(rows + 1.0, cols)
    period = warp.period
    per_col = max(np.median(np.abs(right[0] - r)), np.median(np.abs(_turned(right[1] - c, period))))
    per_row = max(np.median(np.abs(below[0] - r)), np.median(np.abs(_turned(below[1] - c, period))))
    allowed = LATTICE_ERROR * max(1.0, per_row, per_col)
    step = next((s for s in LATTICE_STEPS if _lattice_error(warp, s, rows, cols) <= allowed), LATTICE_STEPS[-1])
    samples = (1, 1)
    if max(per_row, per_col) >= MEAN_FROM:
        samples = (_samples(float(per_row)), _samples(float(per_col)))
    return Warp(warp.source, warp.grid, step, samples)


def _samples(source_pixels: float) -> int:
    """Return twice the source pixels along a target pixel, so that each of them is met and their weights differ by a half at most."""
    return 1 if source_pixels <= 1.0 else min(2 * math.ceil(source_pixels), MOST_SAMPLES)


def _meeting_points(warp: Warp) -> tuple[np.ndarray, np.ndarray]:
    """Return target points (row, column) spread over the part of the target grid that the source covers."""
    height, width = warp.grid.shape
    rows, cols = (a.ravel() for a in np.meshgrid(np.linspace(0, height, 17), np.linspace(0, width, 17), indexing="ij"))
    r, c = warp.exact(rows, cols)
    finite = np.isfinite(r) & np.isfinite(c)
    hit = finite & (r >= 0) & (r <= warp.source.shape[0]) & (c >= 0) & (c <= warp.source.shape[1])
    chosen = hit if hit.any() else finite
    return rows[chosen], cols[chosen]


def _lattice_error(warp: Warp, step: int, rows: np.ndarray, cols: np.ndarray) -> float:
    """Return the largest error at the middle of the lattice cells and of their edges.

    At the middle of a cell alone the errors along rows and columns may cancel: for a conformal projection they always do.
    """
    top, left = np.floor(rows / step) * step, np.floor(cols / step) * step
    corner = {(i, j): warp.exact(top + i * step, left + j * step) for i in (0, 1) for j in (0, 1)}
    worst = 0.0
    for i, j in ((0.5, 0.5), (0.0, 0.5), (0.5, 0.0)):
        r, c = warp.exact(top + i * step, left + j * step)
        around = [corner[k, m] for k in {math.floor(i), math.ceil(i)} for m in {math.floor(j), math.ceil(j)}]
        error_r = sum(at[0] - r for at in around) / len(around)
        error_c = sum(_turned(at[1] - c, warp.period) for at in around) / len(around)
        error = np.hypot(error_r, error_c)
        worst = max(worst, float(np.max(error[np.isfinite(error)], initial=0.0)))
    return worst


def _turned(difference: np.ndarray, period: float) -> np.ndarray:
    return difference - np.rint(difference / period) * period if period else difference


@lru_cache(maxsize=4096)
def _inverse(transform: tuple[float, float, float, float, float, float]) -> tuple[float, float, float, float, float, float]:
    inverse = ~Affine(*transform)
    return inverse.a, inverse.b, inverse.c, inverse.d, inverse.e, inverse.f


@lru_cache(maxsize=256)
def _is_geographic(crs: str) -> bool:
    import pyproj

    return bool(pyproj.CRS.from_user_input(crs).is_geographic)
