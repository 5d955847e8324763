"""Where water flows on a filled surface: each cell to one of its eight neighbours, the steepest way down (D8).

References
----------
O'Callaghan and Mark (1984), 10.1016/S0734-189X(84)80011-0.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from mdive.algorithms.terrain_ring import COLS, ROWS
from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_sizes
from mdive.plugins import Focal, Window, operation

OUTLET: Final = 8
"""Code of a cell from which water leaves the domain: no neighbour is lower, and at least one is not there (edge of the grid, nodata)."""

NODATA: Final = 255
"""Code where nothing is known."""

ASIDE: Final = 16
"""Codes 16 to 23: a cell of a flat whose neighbour 0 to 7 is as high, and drains. The flat empties through it."""

AMID: Final = 32
"""Code of a cell of a flat whose neighbours are all higher or cells of the flat."""

BELOW: Final = 64
"""Bit of a cell of a flat that has a higher neighbour."""

_ESRI: Final = (1, 4, 16, 64, 2, 8, 32, 128)


def esri(direction: np.ndarray) -> np.ndarray:
    """Return directions as the powers of two that most other programs use: 1 is E, 2 SE, 4 S ... 128 NE; 0 an outlet, 255 nodata."""
    table = np.zeros(256, "uint8")
    table[:8] = _ESRI
    table[NODATA] = 255
    codes: np.ndarray = table[direction]
    return codes


@operation(Focal(2), dtype="uint8", fill=NODATA)
def steepest_descent(surface: np.ndarray, /, *, grid: Grid, window: Window) -> np.ndarray:
    """Return the direction of the steepest way down where there is one, and what is known of each cell of a flat where there is none.

    The way down is steepest by height over distance between the centres of pixels on the ground, which differs from row to row in a geographic grid;
    of equal ones it is the first in the order E, S, W, N, SE, SW, NW, NE.

    Parameters
    ----------
    surface
        Heights without depressions (``filled``), (y, x), in any unit. NaN is nodata.

    Returns
    -------
    (y, x) uint8: 0 to 7 (E, S, W, N, SE, SW, NW, NE), ``OUTLET``, ``NODATA``; in flats ``ASIDE`` + direction or ``AMID``, with the bit
    ``BELOW`` beside higher ground. ``flow_direction`` leads water through flats.
    """
    dx, dy = pixel_sizes(grid, window.row, window.height)
    return _descent(surface, _reach(dx, dy))


def _reach(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return one over the distance to the neighbours E, S and SE of each row, relative to the pixel's height: (rows, 3) float64."""
    wide = dx / dy
    # At a pole pixels have no width; no way down there is steeper than any number.
    wide = np.maximum(wide, 1e-9)
    return np.stack([1.0 / wide, np.ones_like(wide), 1.0 / np.sqrt(wide * wide + 1.0)], axis=1)


@numba.njit(nogil=True, cache=True)
def _descent(w: np.ndarray, reach: np.ndarray) -> np.ndarray:
    rows, cols = w.shape
    out = np.full((rows, cols), np.uint8(NODATA))
    for r in range(1, rows - 1):
        side, down, across = reach[r, 0], reach[r, 1], reach[r, 2]
        upper, line, lower = w[r - 1], w[r], w[r + 1]
        for c in range(1, cols - 1):
            here = np.float64(line[c])
            if here != here:
                continue
            # Written out, and without branches: comparisons with NaN are false.
            e, s = (here - line[c + 1]) * side, (here - lower[c]) * down
            west, n = (here - line[c - 1]) * side, (here - upper[c]) * down
            se, sw = (here - lower[c + 1]) * across, (here - lower[c - 1]) * across
            nw, ne = (here - upper[c - 1]) * across, (here - upper[c + 1]) * across
            best, at = 0.0, AMID
            best, at = (e, 0) if e > best else (best, at)
            best, at = (s, 1) if s > best else (best, at)
            best, at = (west, 2) if west > best else (best, at)
            best, at = (n, 3) if n > best else (best, at)
            best, at = (se, 4) if se > best else (best, at)
            best, at = (sw, 5) if sw > best else (best, at)
            best, at = (nw, 6) if nw > best else (best, at)
            best, at = (ne, 7) if ne > best else (best, at)
            if at == AMID:
                total = e + s + west + n + se + sw + nw + ne
                # No drop is above 0, so a sum below 0 has a higher neighbour in it, and one that is no number a neighbour that is not there.
                at = OUTLET if total != total else (AMID | BELOW if total < 0.0 else AMID)
            out[r, c] = np.uint8(at)
    for r in range(2, rows - 2):
        for c in range(2, cols - 2):
            if out[r, c] >= AMID and out[r, c] != NODATA:
                for k in range(8):
                    i, j = r + ROWS[k], c + COLS[k]
                    if w[i, j] == w[r, c] and (out[i, j] <= OUTLET):
                        out[r, c] = np.uint8((out[r, c] & BELOW) | ASIDE | k)
                        break
    return out
