"""The edge of a tile as a line of numbers, and who lies beside it in other tiles: what the solves of terrain's global operations are made of.

A tile's *ring* is its outermost cells: the top row, the bottom row, the left and the right column without their ends. Each of them has a slot;
tiles of one row or column leave some slots unused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numba
import numpy as np

from mdive.plugins import Window

ROWS: Final = (0, 1, 0, -1, 1, 1, -1, -1)
COLS: Final = (1, 0, -1, 0, 1, -1, -1, 1)
"""Steps to the neighbours E, S, W, N, SE, SW, NW, NE: the order of direction codes, and that in which ties are broken everywhere."""

NOWHERE: Final = -1
"""Node of a place beyond the grid."""


def ring_slots(shape: tuple[int, int]) -> int:
    """Return the number of slots of the ring of a tile of this shape (rows, columns)."""
    return 2 * shape[1] + 2 * max(shape[0] - 2, 0)


def ring_cells(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of each slot in the tile, int64; an unused slot repeats a cell of another."""
    rows, cols = shape
    inner = np.arange(1, rows - 1) if rows > 2 else np.empty(0, "int64")
    width = np.arange(cols)
    r = np.concatenate([np.zeros(cols, "int64"), np.full(cols, rows - 1), inner, inner])
    c = np.concatenate([width, width, np.zeros(len(inner), "int64"), np.full(len(inner), cols - 1)])
    return r.astype("int64"), c.astype("int64")


def ring_used(shape: tuple[int, int]) -> np.ndarray:
    """Return which slots are used: each cell of the ring has one."""
    row, col = ring_cells(shape)
    used: np.ndarray = _slots(row, col, *shape) == np.arange(len(row))
    return used


def _slots(row: np.ndarray, col: np.ndarray, rows: np.ndarray | int, cols: np.ndarray | int) -> np.ndarray:
    slot = np.where(col == 0, 2 * cols + row - 1, 2 * cols + rows + row - 3)
    slot = np.where(row == rows - 1, cols + col, slot)
    return np.where(row == 0, col, slot)


@numba.njit(nogil=True, cache=True)
def ring_slot(row: int, col: int, rows: int, cols: int) -> int:
    """Return the slot of a cell of the ring."""
    if row == 0:
        return col
    if row == rows - 1:
        return cols + col
    if col == 0:
        return 2 * cols + row - 1
    return 2 * cols + (rows - 2) + row - 1


class Rings:
    """The rings of all tiles of a partition as nodes of one graph.

    Parameters
    ----------
    windows
        Tiles in order, row after row of a rectangular partition.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = list(windows)
        self.row_edges = np.unique([e for w in self.windows for e in (w.row, w.row_end)])
        self.col_edges = np.unique([e for w in self.windows for e in (w.col, w.col_end)])
        self.offsets = np.concatenate([[0], np.cumsum([ring_slots(w.shape) for w in self.windows])]).astype("int64")

    @property
    def nodes(self) -> int:
        """Number of slots of all tiles."""
        return int(self.offsets[-1])

    def of(self, tile: int) -> slice:
        """Return the nodes of a tile."""
        return slice(int(self.offsets[tile]), int(self.offsets[tile + 1]))

    def place(self, tile: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the row and column in the grid of each slot of a tile."""
        window = self.windows[tile]
        r, c = ring_cells(window.shape)
        return r + window.row, c + window.col

    def tile_at(self, row: np.ndarray, col: np.ndarray) -> np.ndarray:
        """Return the tile in which each place of the grid lies, ``NOWHERE`` beyond the grid."""
        i = np.searchsorted(self.row_edges, row, "right") - 1
        j = np.searchsorted(self.col_edges, col, "right") - 1
        rows, cols = len(self.row_edges) - 1, len(self.col_edges) - 1
        return np.where((i >= 0) & (i < rows) & (j >= 0) & (j < cols), i * cols + j, NOWHERE)

    def node_at(self, row: np.ndarray, col: np.ndarray) -> np.ndarray:
        """Return the node of each place, which must lie on the ring of its tile; ``NOWHERE`` beyond the grid."""
        tile = self.tile_at(row, col)
        inside = tile != NOWHERE
        t = np.where(inside, tile, 0)
        columns = len(self.col_edges) - 1
        top, left = self.row_edges[t // columns], self.col_edges[t % columns]
        rows, cols = self.row_edges[t // columns + 1] - top, self.col_edges[t % columns + 1] - left
        return np.where(inside, self.offsets[t] + _slots(row - top, col - left, rows, cols), NOWHERE)

    def targets(self, tile: int, direction: np.ndarray) -> np.ndarray:
        """Return the node to which the water of each slot leaves its tile; ``NOWHERE`` for those whose water stays, and for unused slots.

        Parameters
        ----------
        tile
            Index of the tile.
        direction
            Code of each slot: 0 to 7, or more for none.
        """
        window = self.windows[tile]
        row, col = self.place(tile)
        flows = (direction < len(ROWS)) & ring_used(window.shape)
        code = np.where(flows, direction, 0)
        row, col = row + np.array(ROWS)[code], col + np.array(COLS)[code]
        leaves = flows & ((row < window.row) | (row >= window.row_end) | (col < window.col) | (col >= window.col_end))
        return np.where(leaves, self.node_at(row, col), NOWHERE)

    def beside(self, tile: int) -> tuple[np.ndarray, np.ndarray]:
        """Return all pairs of a node of a tile and a node beside it in another tile (corners included), or ``NOWHERE``: two arrays."""
        window = self.windows[tile]
        row, col = self.place(tile)
        here = np.arange(int(self.offsets[tile]), int(self.offsets[tile + 1]))
        mine, theirs = [], []
        for dr, dc in zip(ROWS, COLS, strict=True):
            r, c = row + dr, col + dc
            out = (r < window.row) | (r >= window.row_end) | (c < window.col) | (c >= window.col_end)
            mine.append(here[out])
            theirs.append(self.node_at(r[out], c[out]))
        return np.concatenate(mine), np.concatenate(theirs)
