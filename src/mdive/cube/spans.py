"""Which part of a file a window of the target needs: what `mdive.cube.sampling` will read, known before it reads.

Where grids nest it is the same arithmetic. Where they differ, source coordinates are bilinear between lattice points, so that the corners of each
cell of the lattice bound them, and `SLACK` stands for the rounding in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mdive.cube.relation import Nested, Relation, Warp
from mdive.cube.sampling import MOST_SOURCE_PIXELS, MOST_WARPED_PIXELS, Span
from mdive.pipeline.window import Window

SLACK = 1e-6
"""Source pixels by which rounding may carry a point of the target further than the corners of its lattice cell."""


def spans(relation: Relation, window: Window, *, interpolated: bool) -> Iterator[tuple[Span, Span]]:
    """Yield rows and columns [first, end) of a file, one pair for each read; none where the file has nothing in the window.

    Parameters
    ----------
    relation
        How the file lies in the target grid.
    window
        Target pixels.
    interpolated
        Whether neighbours take part: continuous numbers, not classes.
    """
    if window.empty:
        return
    if isinstance(relation, Nested):
        height, width = relation.source.shape
        found = relation.rows.span(window.row, window.row_end, height), relation.cols.span(window.col, window.col_end, width)
    elif window.height * window.width > MOST_WARPED_PIXELS:
        found = None
    else:
        found = _warped(relation, window, interpolated=interpolated)
    if found is None or (_pixels(found) > MOST_SOURCE_PIXELS and window.height * window.width > 1):
        for half in _halves(window):
            yield from spans(relation, half, interpolated=interpolated)
    elif _pixels(found):
        yield found


def _pixels(found: tuple[Span, Span]) -> int:
    rows, cols = found
    return max(rows[1] - rows[0], 0) * max(cols[1] - cols[0], 0)


def _halves(window: Window) -> tuple[Window, Window]:
    if window.height >= window.width:
        first = Window(window.row, window.col, window.height // 2, window.width)
        return first, Window(first.row_end, window.col, window.height - first.height, window.width)
    first = Window(window.row, window.col, window.height, window.width // 2)
    return first, Window(window.row, first.col_end, window.height, window.width - first.width)


def _warped(warp: Warp, window: Window, *, interpolated: bool) -> tuple[Span, Span]:
    averaged = interpolated and warp.samples != (1, 1)
    grown = Window(window.row, window.col, window.height + 1, window.width + 1) if averaged else window
    rows, cols = _extremes(warp, grown, 0.0 if averaged else 0.5)
    margin = 1 if interpolated else 0
    height, width = warp.source.shape
    return _span(rows, height, margin), _span(cols, width, margin)


def _extremes(warp: Warp, window: Window, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Return source rows and columns that bound those of all points of a window."""
    nodes, (i0, j0, step) = warp.lattice(window)
    r, c = _cell_edges(window.row, window.row_end, step) + offset, _cell_edges(window.col, window.col_end, step) + offset
    i, j = np.floor(r / step).astype(int), np.floor(c / step).astype(int)
    t, s = ((r - i * step) / step)[:, None], ((c - j * step) / step)[None, :]
    i, j = i - i0, j - j0
    around = [nodes[:, i[:, None] + k, j[None, :] + m] for k in (0, 1) for m in (0, 1)]
    period = warp.period
    if period:
        for corner in around[1:]:
            corner[1] -= np.rint((corner[1] - around[0][1]) / period) * period
    with np.errstate(invalid="ignore"):
        rows, cols = (around[0] * (1 - s) + around[1] * s) * (1 - t) + (around[2] * (1 - s) + around[3] * s) * t
    if period:
        width = warp.source.shape[1]
        turns = np.floor((cols - (width - period) / 2) / period)
        cols = cols - turns * period
        if np.unique(turns[np.isfinite(turns)]).size > 1:  # the seam runs through the window: both sides of the file are near
            cols = np.append(cols.ravel(), [(width - period) / 2, (width + period) / 2])
    return rows, cols


def _cell_edges(first: int, end: int, step: int) -> np.ndarray:
    """Return the first and the last pixel of each lattice cell that pixels [first, end) lie in."""
    starts = np.arange(first // step, (end - 1) // step + 1) * step
    return np.unique(np.concatenate([np.maximum(starts, first), np.minimum(starts + step, end) - 1]))


def _span(at: np.ndarray, length: int, margin: int) -> Span:
    finite = at[np.isfinite(at)]
    if not finite.size:
        return 0, 0
    first, last = max(float(finite.min()) - SLACK, -1.0), min(float(finite.max()) + SLACK, length + 1.0)
    return max(math.floor(first) - margin, 0), min(math.floor(last) + 1 + margin, length)
