"""One band of one open file onto a window of the target grid, tile-exact: the same bits for any window that holds the pixel."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mdive.cube.files import OpenRaster
from mdive.cube.kernels import block_mean, gather_bilinear, gather_mean, gather_nearest
from mdive.cube.plane import Plane, shown, whole_plane
from mdive.cube.relation import Nested, Warp, relate
from mdive.cube.units import NOTHING, discrete, is_discrete, is_tabled, meaning, meaning_table, physical
from mdive.model.plan import AssetRef, Grid
from mdive.pipeline.window import Window

MOST_SOURCE_PIXELS = 2**24
"""Source pixels that are read at once: 64 MiB as float32. A window that needs more (a fine source under a coarse grid) is halved."""

MOST_WARPED_PIXELS = 2**20
"""Target pixels whose source coordinates (16 bytes each) are held at once."""

Span = tuple[int, int]
"""First row (or column) and the one after the last."""


def sample(raster: OpenRaster, asset: AssetRef, grid: Grid, window: Window, dtype: str) -> tuple[Plane | None, int]:
    """Return one band of a file on a window of the target grid.

    Parameters
    ----------
    raster
        The open file.
    asset
        What its numbers mean and how they may be resampled.
    grid, window
        Target pixels, in global indices.
    dtype
        ``float32``: physical quantities, NaN where nothing is. An integer type: stored classes or bits, -1 where nothing is.

    Returns
    -------
    Plane or None
        None where the file has no pixel in the window.
    int
        Bytes of stored numbers that were read.

    Notes
    -----
    Grids that coincide are copied; a coarser grid that nests in the target is repeated; a finer one is averaged over its valid pixels
    (at least half of a block) or, for classes, sampled at the centre; grids that differ are warped by the exact inverse mapping.
    Pixels off the file are nothing.
    """
    task = _Sampling(raster, asset, grid, dtype)
    return task.plane(window), task.bytes_read


class _Sampling:
    def __init__(self, raster: OpenRaster, asset: AssetRef, grid: Grid, dtype: str) -> None:
        self.raster = raster
        self.index = asset.index
        self.dtype = dtype
        self.whole = dtype != "float32"
        self.nothing = NOTHING if self.whole else np.nan
        self.means = meaning(asset, raster.nodata[asset.index - 1])
        self.continuous = not self.whole and not is_discrete(asset) and asset.resampling != "nearest"
        self.relation = relate(raster.grid, grid)
        self.bytes_read = 0

    def plane(self, window: Window) -> Plane | None:
        relation = self.relation
        if isinstance(relation, Nested) and not self._averages(relation):
            part = _overlap(window, relation)
            if part.empty:
                return None
            if not _too_much(*_spans(window, relation), window):
                return self._shown(part, window, relation)
        out = np.empty(window.shape, dtype=self.dtype)
        if isinstance(relation, Nested):
            self._halved(out, window, relation, self._nested)
        elif self.continuous and relation.samples != (1, 1):
            self._halved(out, window, relation, self._mean)
        else:
            self._halved(out, window, relation, self._point)
        return whole_plane(window, out)

    def _averages(self, relation: Nested) -> bool:
        return self.continuous and (relation.rows.shrink, relation.cols.shrink) != (1, 1)

    def _shown(self, part: Window, window: Window, relation: Nested) -> Plane:
        """Return pixels that show stored numbers as they are, once or repeated."""
        rows, cols = _spans(window, relation)
        places = relation.rows.index(part.row, part.row_end), relation.cols.index(part.col, part.col_end)
        pieces = self.raster.pieces(self.index, rows, cols)
        self.bytes_read += sum(numbers.nbytes for _, _, numbers in pieces)
        dtype = pieces[0][2].dtype
        if is_tabled(dtype):
            table = meaning_table(dtype.str, self.means, self.dtype)
            return Plane(part, shown(part, *places, ((r, c, numbers.view(f"u{dtype.itemsize}")) for r, c, numbers in pieces)), table)
        return Plane(part, shown(part, *places, ((r, c, self._meant(numbers)) for r, c, numbers in pieces)), None)

    def _halved(self, out: np.ndarray, window: Window, relation: Nested | Warp, step: Callable[..., bool]) -> None:
        """Run a step on the window or, where it declines because it would hold too much, on its halves."""
        if step(out, window, relation):
            return
        if window.height >= window.width:
            first = Window(window.row, window.col, window.height // 2, window.width)
            rest = Window(first.row_end, window.col, window.height - first.height, window.width)
        else:
            first = Window(window.row, window.col, window.height, window.width // 2)
            rest = Window(window.row, first.col_end, window.height, window.width - first.width)
        for part in (first, rest):
            self._halved(out[part.within(window)], part, relation, step)

    def _nested(self, out: np.ndarray, window: Window, relation: Nested) -> bool:
        rows, cols = _spans(window, relation)
        if _too_much(rows, cols, window):
            return False
        out[...] = self.nothing
        if rows[0] >= rows[1] or cols[0] >= cols[1]:
            return True
        if self._averages(relation):
            shrink = relation.rows.shrink, relation.cols.shrink
            top = window.row * shrink[0] + relation.rows.offset - rows[0]
            left = window.col * shrink[1] + relation.cols.offset - cols[0]
            out[...] = block_mean(self._decoded(rows, cols), top, left, *shrink, window.shape)
        elif not (part := _overlap(window, relation)).empty:
            self._shown(part, window, relation).lay(out, window, over=False)
        return True

    def _point(self, out: np.ndarray, window: Window, relation: Warp) -> bool:
        if window.height * window.width > MOST_WARPED_PIXELS:
            return False
        at = relation.centres(window)
        margin = 1 if self.continuous else 0
        rows, cols = _span(at[0], relation.source.shape[0], margin), _span(at[1], relation.source.shape[1], margin)
        if _too_much(rows, cols, window):
            return False
        if rows[0] >= rows[1] or cols[0] >= cols[1]:
            out[...] = self.nothing
            return True
        pixels, origin = self._decoded(rows, cols), (rows[0], cols[0])
        if self.continuous:
            out[...] = gather_bilinear(pixels, origin, at, relation.source.shape)
        else:
            out[...] = gather_nearest(pixels, origin, at, self.nothing)
        return True

    def _mean(self, out: np.ndarray, window: Window, relation: Warp) -> bool:
        if window.height * window.width > MOST_WARPED_PIXELS:
            return False
        corners = Window(window.row, window.col, window.height + 1, window.width + 1)
        nodes, lattice = relation.lattice(corners)
        at = relation.locate(corners, 0.0)
        rows, cols = _span(at[0], relation.source.shape[0], 1), _span(at[1], relation.source.shape[1], 1)
        if _too_much(rows, cols, window):
            return False
        if rows[0] >= rows[1] or cols[0] >= cols[1]:
            out[...] = self.nothing
            return True
        place = (window.row, window.col, window.height, window.width)
        out[...] = gather_mean(
            self._decoded(rows, cols),
            (rows[0], cols[0]),
            nodes,
            lattice,
            place,
            relation.samples,
            relation.source.shape[1],
            relation.period,
        )
        return True

    def _decoded(self, rows: Span, cols: Span) -> np.ndarray:
        return self._meant(self._read(rows, cols))

    def _read(self, rows: Span, cols: Span) -> np.ndarray:
        stored = self.raster.read(self.index, rows, cols)
        self.bytes_read += stored.nbytes
        return stored

    def _meant(self, stored: np.ndarray) -> np.ndarray:
        return discrete(stored, self.means, self.dtype) if self.whole else physical(stored, self.means)


def _spans(window: Window, relation: Nested) -> tuple[Span, Span]:
    height, width = relation.source.shape
    return relation.rows.span(window.row, window.row_end, height), relation.cols.span(window.col, window.col_end, width)


def _overlap(window: Window, relation: Nested) -> Window:
    """Return the pixels of a window whose centre lies on the file."""
    height, width = relation.source.shape
    top, bottom = relation.rows.inside(window.row, window.row_end, height)
    left, right = relation.cols.inside(window.col, window.col_end, width)
    return Window(top, left, bottom - top, right - left)


def _span(at: np.ndarray, length: int, margin: int) -> Span:
    finite = at[np.isfinite(at)]
    if not finite.size:
        return 0, 0
    first, last = max(float(finite.min()), -1.0), min(float(finite.max()), length + 1.0)
    return max(math.floor(first) - margin, 0), min(math.floor(last) + 1 + margin, length)


def _too_much(rows: Span, cols: Span, window: Window) -> bool:
    pixels = max(rows[1] - rows[0], 0) * max(cols[1] - cols[0], 0)
    return pixels > MOST_SOURCE_PIXELS and window.height * window.width > 1
