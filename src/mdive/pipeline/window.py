"""Rectangles of the grid in global pixel indices: the only coordinates that the engine computes with."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels: rows ``[row, row + height)``, columns ``[col, col + width)``; may lie beyond the grid (halos)."""

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def row_end(self) -> int:
        """First row below."""
        return self.row + self.height

    @property
    def col_end(self) -> int:
        """First column to the right."""
        return self.col + self.width

    @property
    def empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.height <= 0 or self.width <= 0

    def expand(self, depth: int) -> Window:
        """Return the window grown by ``depth`` pixels on every side."""
        return Window(self.row - depth, self.col - depth, self.height + 2 * depth, self.width + 2 * depth)

    def intersect(self, other: Window) -> Window:
        """Return the common rectangle (empty where there is none)."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = max(0, min(self.row_end, other.row_end) - row)
        width = max(0, min(self.col_end, other.col_end) - col)
        return Window(row, col, height, width)

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Return the slices of this window inside an array that covers ``outer``."""
        r, c = self.row - outer.row, self.col - outer.col
        return slice(r, r + self.height), slice(c, c + self.width)


@dataclass(frozen=True, slots=True)
class Tiles:
    """A partition of the grid into tiles.

    Parameters
    ----------
    row_edges, col_edges
        Borders of the tile rows and columns, ascending, from 0 to the grid's number of rows and columns.
    """

    row_edges: tuple[int, ...]
    col_edges: tuple[int, ...]

    @classmethod
    def regular(cls, shape: tuple[int, int], size: int, row_anchor: int = 0, col_anchor: int = 0) -> Tiles:
        """Cut a grid of ``shape`` (rows, columns) into tiles of ``size`` whose edges fall on the anchors and every ``size`` pixels from them."""
        return cls(_edges(shape[0], size, row_anchor), _edges(shape[1], size, col_anchor))

    @classmethod
    def from_chunks(cls, rows: tuple[int, ...], cols: tuple[int, ...]) -> Tiles:
        """Take the tiles of a chunked array."""
        return cls((0, *accumulate(rows)), (0, *accumulate(cols)))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the grid."""
        return self.row_edges[-1], self.col_edges[-1]

    @property
    def grid(self) -> Window:
        """The whole grid as a window."""
        return Window(0, 0, *self.shape)

    @property
    def counts(self) -> tuple[int, int]:
        """(tile rows, tile columns)."""
        return len(self.row_edges) - 1, len(self.col_edges) - 1

    def __len__(self) -> int:
        rows, cols = self.counts
        return rows * cols

    def __getitem__(self, index: int) -> Window:
        rows, cols = self.counts
        if not 0 <= index < rows * cols:
            raise IndexError(index)
        i, j = divmod(index, cols)
        r, c = self.row_edges, self.col_edges
        return Window(r[i], c[j], r[i + 1] - r[i], c[j + 1] - c[j])

    def __iter__(self) -> Iterator[Window]:
        return (self[i] for i in range(len(self)))

    def owned(self, index: int, margin: int) -> Window:
        """Return tile ``index``, grown by ``margin`` where it touches the edge of the grid.

        These windows partition the grid grown by ``margin``: each pixel that a later halo asks for has exactly one owner.
        """
        tile = self[index]
        rows, cols = self.shape
        top = margin if tile.row == 0 else 0
        left = margin if tile.col == 0 else 0
        bottom = margin if tile.row_end == rows else 0
        right = margin if tile.col_end == cols else 0
        return Window(tile.row - top, tile.col - left, tile.height + top + bottom, tile.width + left + right)

    def touching(self, window: Window) -> list[int]:
        """Return the indices of the tiles that a window touches; edge tiles own what lies beyond the grid."""
        i0, i1 = _span(self.row_edges, window.row, window.row_end)
        j0, j1 = _span(self.col_edges, window.col, window.col_end)
        return [i * (len(self.col_edges) - 1) + j for i in range(i0, i1) for j in range(j0, j1)]


def _edges(length: int, size: int, anchor: int) -> tuple[int, ...]:
    first = anchor % size
    return (0, *range(first or size, length, size), length)


def _span(edges: tuple[int, ...], start: int, stop: int) -> tuple[int, int]:
    last = len(edges) - 2
    first = min(max(bisect_right(edges, start) - 1, 0), last)
    end = min(max(bisect_left(edges, stop) - 1, 0), last)
    return first, end + 1
