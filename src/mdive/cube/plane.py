"""One band of one item where it meets a window: numbers as the file stores them, what they mean, and which of them each pixel shows.

Nothing is converted before somebody asks for rows. A stored number of 16 bits then costs one look into a table, and a band that is coarser than
the grid is never written out at the grid's size.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from mdive.cube.store import Piece
from mdive.cube.units import NOTHING
from mdive.pipeline.window import Window

_jit = numba.njit(nogil=True, cache=True)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Numbers that lie together, and the target pixels that show them."""

    part: Window
    stored: np.ndarray[Any, Any]
    """(r, c): numbers of the file, or of the target itself."""
    rows: np.ndarray[Any, Any]
    """Index into ``stored`` of each row of the part."""
    cols: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One band of one item on a window of the target grid."""

    part: Window
    """The target pixels that it has numbers for; its patches cover them, each pixel once."""
    patches: tuple[Patch, ...]
    table: np.ndarray[Any, Any] | None
    """What each stored number means; None where the numbers are the meaning."""

    def lay(self, out: np.ndarray[Any, Any], window: Window, *, over: bool) -> None:
        """Write its pixels into an array that covers a window.

        Parameters
        ----------
        out
            (y, x) of the window's shape: float32, NaN where nothing is yet; or integers, ``NOTHING``.
        window
            Target pixels.
        over
            Whether something may be there already, which stays: the first valid number of several items counts.
        """
        self._lay(_lay_numbers if out.dtype.kind == "f" else _lay_codes, self.table, out, window, over=over)

    def lay_as(self, table: np.ndarray[Any, Any], out: np.ndarray[Any, Any], window: Window) -> None:
        """Write what another table says of its stored numbers into an array (y, x) of integers that covers a window."""
        self._lay(_lay_codes, table, out, window, over=False)

    def _lay(self, kernel: Any, table: Any, out: np.ndarray[Any, Any], window: Window, *, over: bool) -> None:
        for patch in self.patches:
            common = patch.part.intersect(window)
            if not common.empty:
                rows, cols = common.within(patch.part)
                kernel(patch.stored, table, patch.rows[rows], patch.cols[cols], out[common.within(window)], over)


def shown(part: Window, rows: np.ndarray[Any, Any], cols: np.ndarray[Any, Any], pieces: Iterable[Piece]) -> tuple[Patch, ...]:
    """Return the patches of pixels that show stored numbers.

    Parameters
    ----------
    part
        Target pixels.
    rows, cols
        Row (column) of the file that each row (column) of the part shows, ascending.
    pieces
        Numbers of the file: first row, first column, (r, c); together all that are shown.
    """
    patches = []
    for row, col, numbers in pieces:
        top, bottom = np.searchsorted(rows, (row, row + numbers.shape[0])).tolist()
        left, right = np.searchsorted(cols, (col, col + numbers.shape[1])).tolist()
        where = Window(part.row + top, part.col + left, bottom - top, right - left)
        if not where.empty:
            patches.append(Patch(where, numbers, (rows[top:bottom] - row).astype(np.int32), (cols[left:right] - col).astype(np.int32)))
    return tuple(patches)


def whole_plane(part: Window, numbers: np.ndarray[Any, Any]) -> Plane:
    """Return the plane of numbers that lie on the target grid already."""
    return Plane(part, shown(part, np.arange(part.height), np.arange(part.width), [(0, 0, numbers)]), None)


@_jit
def _lay_numbers(stored, table, rows, cols, out, over):
    for i in range(out.shape[0]):
        r = rows[i]
        if over:
            for j in range(out.shape[1]):
                if np.isnan(out[i, j]):
                    out[i, j] = stored[r, cols[j]] if table is None else table[stored[r, cols[j]]]
        elif i > 0 and r == rows[i - 1]:
            out[i, :] = out[i - 1, :]
        elif cols[-1] - cols[0] == cols.size - 1:
            # Pixels of one size, by far the most: without the list of columns it takes two thirds of the time.
            line = stored[r, cols[0] : cols[0] + cols.size]
            for j in range(line.size):
                out[i, j] = line[j] if table is None else table[line[j]]
        else:
            for j in range(out.shape[1]):
                out[i, j] = stored[r, cols[j]] if table is None else table[stored[r, cols[j]]]


@_jit
def _lay_codes(stored, table, rows, cols, out, over):
    for i in range(out.shape[0]):
        r = rows[i]
        if not over and i > 0 and r == rows[i - 1]:
            out[i, :] = out[i - 1, :]
            continue
        for j in range(out.shape[1]):
            if not over or out[i, j] == NOTHING:
                out[i, j] = stored[r, cols[j]] if table is None else table[stored[r, cols[j]]]
