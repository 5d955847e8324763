"""Pixel loops of the reader: plain arrays in, plain arrays out; each result pixel is computed by itself, in a fixed order."""

# Numba compiles these functions from the types that they are called with; annotations on them would be comments.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

_jit = numba.njit(nogil=True, cache=True)


def look_up(stored: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return ``table[stored]`` for integers of any shape; negative ones count from the table's end."""
    out = np.empty(stored.shape, dtype=table.dtype)
    _look_up(stored.reshape(-1), table, out.reshape(-1))
    return out


def mark(values: np.ndarray, nothing: int, bit: int, mask: np.ndarray) -> None:
    """Set a bit of a uint16 mask wherever nothing is known: NaN among floats, ``nothing`` among integers. Both arrays are C-contiguous."""
    kernel = _mark_nan if values.dtype.kind == "f" else _mark_equal
    kernel(values.reshape(-1), values.dtype.type(nothing), np.uint16(bit), mask.reshape(-1))


def load_kernels() -> None:
    """Run the smallest kernel on nothing: the first one of a process takes a quarter of a second, in which numba loads what it knows."""
    mark(np.empty(0, "float32"), 0, 0, np.empty(0, "uint16"))


def block_mean(pixels: np.ndarray, row: int, col: int, shrink_rows: int, shrink_cols: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the mean of the valid pixels in each block of ``shrink_rows`` x ``shrink_cols``.

    Parameters
    ----------
    pixels
        Float32 (y, x), NaN where nothing is; what lies beyond it counts as nothing.
    row, col
        Where the first block begins in ``pixels``; may be negative.
    shrink_rows, shrink_cols
        Size of a block.
    shape
        Blocks (rows, columns) to compute.

    Returns
    -------
    np.ndarray
        Float32; NaN where fewer than half of a block's pixels are valid (SCIENCE: NaN-aware weights, at least 50 % valid).
    """
    out = np.empty(shape, dtype=np.float32)
    _block_mean(pixels, row, col, shrink_rows, shrink_cols, out)
    return out


def locate(
    nodes: np.ndarray, lattice: tuple[int, int, int], window: tuple[int, int, int, int], offset: float, columns: int, period: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the source row and column (float64) of points of the target, by interpolation between lattice points.

    Parameters
    ----------
    nodes
        Source rows and columns (2, n, m) of the lattice points.
    lattice
        Row and column of the lattice's first cell, and its spacing in target pixels.
    window
        Row, column, height, width of the points, in target pixels.
    offset
        Where in its pixel a point lies: 0.5 for centres, 0 for the upper left corner.
    columns, period
        Width of the source, and its columns per turn around the globe (0: not geographic).
    """
    at_row, at_col = np.empty(window[2:]), np.empty(window[2:])
    _locate(nodes, lattice[0], lattice[1], lattice[2], window[0] + offset, window[1] + offset, columns, period, at_row, at_col)
    return at_row, at_col


def gather_nearest(pixels: np.ndarray, origin: tuple[int, int], at: tuple[np.ndarray, np.ndarray], fill: Any) -> np.ndarray:
    """Return the pixel that each point falls on.

    Parameters
    ----------
    pixels
        Source pixels (y, x), a window of the file.
    origin
        Row and column of the file at ``pixels[0, 0]``.
    at
        Source row and column of each point, float64 (y, x).
    fill
        What stands where a point falls outside ``pixels``.
    """
    out = np.full(at[0].shape, fill, dtype=pixels.dtype)
    _gather_nearest(pixels, origin[0], origin[1], at[0], at[1], out)
    return out


def gather_bilinear(pixels: np.ndarray, origin: tuple[int, int], at: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return the bilinear interpolation at each point, over valid pixels only.

    Weights are renormalised over the valid ones of the four neighbours; a point is NaN where these have less than half of the weight,
    and beyond the edges of the file (``shape``: its rows and columns).
    """
    out = np.full(at[0].shape, np.nan, dtype=np.float32)
    _gather_bilinear(pixels, origin[0], origin[1], at[0], at[1], shape[0], shape[1], out)
    return out


def gather_mean(
    pixels: np.ndarray,
    origin: tuple[int, int],
    nodes: np.ndarray,
    lattice: tuple[int, int, int],
    window: tuple[int, int, int, int],
    samples: tuple[int, int],
    columns: int,
    period: float,
) -> np.ndarray:
    """Return the mean over the area of each target pixel, met at ``samples`` (rows, columns) evenly spread points.

    A target pixel is NaN where fewer than half of its points fall on valid source pixels. ``lattice``: first cell (row, column) and spacing;
    ``window``: row, column, height, width of the target.
    """
    row, col, height, width = window
    i0, j0, step = lattice
    out = np.empty((height, width), dtype=np.float32)
    _gather_mean(pixels, origin[0], origin[1], nodes, i0, j0, step, row, col, samples[0], samples[1], columns, period, out)
    return out


@_jit
def _look_up(stored, table, out):
    for i in range(stored.size):
        out[i] = table[stored[i]]


@_jit
def _mark_nan(values, _nothing, bit, mask):
    for i in range(values.size):
        mask[i] |= bit if values[i] != values[i] else np.uint16(0)


@_jit
def _mark_equal(values, nothing, bit, mask):
    for i in range(values.size):
        mask[i] |= bit if values[i] == nothing else np.uint16(0)


@_jit
def _block_mean(pixels, row, col, shrink_rows, shrink_cols, out):
    height, width = pixels.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            top, left = row + i * shrink_rows, col + j * shrink_cols
            total, valid = 0.0, 0
            for r in range(max(top, 0), min(top + shrink_rows, height)):
                for c in range(max(left, 0), min(left + shrink_cols, width)):
                    value = pixels[r, c]
                    if not math.isnan(value):
                        total += value
                        valid += 1
            out[i, j] = total / valid if 2 * valid >= shrink_rows * shrink_cols else np.nan


@_jit
def _point(nodes, i0, j0, step, row, col, columns, period):
    """Interpolate the lattice at a point (row, col) of the target, given as floats."""
    i, j = math.floor(row / step), math.floor(col / step)
    t, s = (row - i * step) / step, (col - j * step) / step
    i -= i0
    j -= j0
    r = (nodes[0, i, j] * (1 - s) + nodes[0, i, j + 1] * s) * (1 - t) + (nodes[0, i + 1, j] * (1 - s) + nodes[0, i + 1, j + 1] * s) * t
    a, b, c, d = nodes[1, i, j], nodes[1, i, j + 1], nodes[1, i + 1, j], nodes[1, i + 1, j + 1]
    if period > 0.0:
        # Longitudes jump by a turn somewhere: bring the cell to one side of the jump, and the result to the turn that the file is drawn in.
        b -= np.rint((b - a) / period) * period
        c -= np.rint((c - a) / period) * period
        d -= np.rint((d - a) / period) * period
    u = (a * (1 - s) + b * s) * (1 - t) + (c * (1 - s) + d * s) * t
    if period > 0.0:
        u -= np.floor((u - (columns - period) / 2) / period) * period
    return r, u


@_jit
def _locate(nodes, i0, j0, step, row, col, columns, period, at_row, at_col):
    for i in range(at_row.shape[0]):
        for j in range(at_row.shape[1]):
            at_row[i, j], at_col[i, j] = _point(nodes, i0, j0, step, row + i, col + j, columns, period)


@_jit
def _gather_nearest(pixels, row, col, at_row, at_col, out):
    height, width = pixels.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            if math.isfinite(at_row[i, j]) and math.isfinite(at_col[i, j]):
                r, c = math.floor(at_row[i, j]) - row, math.floor(at_col[i, j]) - col
                if 0 <= r < height and 0 <= c < width:
                    out[i, j] = pixels[r, c]


@_jit
def _gather_bilinear(pixels, row, col, at_row, at_col, rows, columns, out):
    height, width = pixels.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            v, u = at_row[i, j], at_col[i, j]
            if not (0 <= v < rows and 0 <= u < columns):
                continue
            top, left = math.floor(v - 0.5), math.floor(u - 0.5)
            down, right = v - 0.5 - top, u - 0.5 - left
            top -= row
            left -= col
            total, weight = 0.0, 0.0
            for k in range(4):
                r, c = top + k // 2, left + k % 2
                if 0 <= r < height and 0 <= c < width:
                    value = pixels[r, c]
                    if not math.isnan(value):
                        w = (down if k >= 2 else 1.0 - down) * (right if k % 2 else 1.0 - right)
                        total += w * value
                        weight += w
            if weight >= 0.5:
                out[i, j] = total / weight


@_jit
def _gather_mean(pixels, row, col, nodes, i0, j0, step, top, left, n_rows, n_cols, columns, period, out):
    height, width = pixels.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total, valid = 0.0, 0
            for k in range(n_rows):
                for m in range(n_cols):
                    v, u = _point(nodes, i0, j0, step, top + i + (k + 0.5) / n_rows, left + j + (m + 0.5) / n_cols, columns, period)
                    if math.isfinite(v) and math.isfinite(u):
                        r, c = math.floor(v) - row, math.floor(u) - col
                        if 0 <= r < height and 0 <= c < width:
                            value = pixels[r, c]
                            if not math.isnan(value):
                                total += value
                                valid += 1
            out[i, j] = total / valid if 2 * valid >= n_rows * n_cols else np.nan
