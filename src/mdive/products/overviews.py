"""Overviews: a quarter of the pixels, by a rule that is written down, so that a picture of a result can be computed again by anybody.

Pixel (r, c) of an overview stands for the pixels (2r, 2c), (2r, 2c+1), (2r+1, 2c), (2r+1, 2c+1) of the level above it, in this order. At a
right or lower edge of odd size the last column or row counts twice. Each level is made from the one above, never from the full resolution.

mode
    The most frequent of the valid pixels; among equally frequent ones the one that comes first in the order above. That rule knows nothing
    of what the codes mean, so no class grows at the cost of another. Nodata only where all four are nodata.
average
    The mean of the valid pixels, summed in float64 in the order above; whole numbers are rounded as they are when they are stored (half
    to even). Nodata (NaN counts as nodata too) only where all four are; a mean that happens to be the nodata value is stored one
    step beside it, for it is a number.
nearest
    The first of the four.
"""

# Numba compiles the kernels from the types that they are called with; annotations on them would be comments.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from mdive.products.encoding import Encoding
from mdive.products.raster import BLOCK

_jit = numba.njit(nogil=True, cache=True)


def level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (rows, columns) of the full resolution and of each overview, the last of which is a single block."""
    shapes = [shape]
    while max(shapes[-1]) > BLOCK:
        rows, cols = shapes[-1]
        shapes.append((-(-rows // 2), -(-cols // 2)))
    return shapes


def halve(pixels: np.ndarray[Any, Any], encoding: Encoding) -> np.ndarray[Any, Any]:
    """Return the overview of one block, (rows + 1) // 2 by (columns + 1) // 2, by the rule of its product.

    Parameters
    ----------
    pixels
        (rows, columns) of ``encoding.dtype``, in C order; it must begin at an even row and an even column of its level.
    encoding
        How the product is stored.
    """
    if encoding.overview == "nearest":
        return np.ascontiguousarray(pixels[::2, ::2])
    rows, cols = pixels.shape
    if rows % 2 or cols % 2:
        pixels = np.pad(pixels, ((0, rows % 2), (0, cols % 2)), mode="edge")
    out = np.empty((pixels.shape[0] // 2, pixels.shape[1] // 2), pixels.dtype)
    number = pixels.dtype.type
    has_nodata = encoding.nodata is not None and not math.isnan(encoding.nodata)
    nodata = number(encoding.nodata if has_nodata else 0)
    if encoding.overview == "mode":
        _mode(pixels, nodata, has_nodata, out)
    elif pixels.dtype.kind == "f":
        _mean(pixels, nodata, has_nodata, nodata if has_nodata else number(math.nan), np.nextafter(nodata, number(math.inf)), out)
    else:
        beside = number(nodata + 1 if nodata < np.iinfo(pixels.dtype).max else nodata - 1)
        _rounded_mean(pixels, nodata, has_nodata, beside, out)
    return out


@_jit
def _mode(pixels, nodata, has_nodata, out):
    for r in range(out.shape[0]):
        upper, lower, row = pixels[2 * r], pixels[2 * r + 1], out[r]
        for i in range(row.size):
            a, b, c, d = upper[2 * i], upper[2 * i + 1], lower[2 * i], lower[2 * i + 1]
            has_a, has_b, has_c = (a != nodata) | (not has_nodata), (b != nodata) | (not has_nodata), (c != nodata) | (not has_nodata)
            # Of four, the most frequent is the first that has an equal, or the first of all. Choices without branches run on SIMD.
            best = c if has_c else d
            best = b if has_b else best
            best = a if has_a else best
            best = c if has_c & (c == d) else best
            best = b if has_b & ((b == c) | (b == d)) else best
            best = a if has_a & ((a == b) | (a == c) | (a == d)) else best
            row[i] = best


@_jit
def _rounded_mean(pixels, nodata, has_nodata, beside, out):
    for r in range(out.shape[0]):
        for i in range(out.shape[1]):
            total, count = 0.0, 0
            for value in (pixels[2 * r, 2 * i], pixels[2 * r, 2 * i + 1], pixels[2 * r + 1, 2 * i], pixels[2 * r + 1, 2 * i + 1]):
                if not (has_nodata and value == nodata):
                    total += value
                    count += 1
            if count == 0:
                out[r, i] = nodata
            else:
                mean = np.rint(total / count)
                out[r, i] = beside if has_nodata and mean == nodata else mean


@_jit
def _mean(pixels, nodata, has_nodata, fill, beside, out):
    for r in range(out.shape[0]):
        for i in range(out.shape[1]):
            total, count = 0.0, 0
            for value in (pixels[2 * r, 2 * i], pixels[2 * r, 2 * i + 1], pixels[2 * r + 1, 2 * i], pixels[2 * r + 1, 2 * i + 1]):
                if not (np.isnan(value) or (has_nodata and value == nodata)):
                    total += value
                    count += 1
            if count == 0:
                out[r, i] = fill
            else:
                out[r, i] = total / count
                if has_nodata and out[r, i] == nodata:
                    out[r, i] = beside
