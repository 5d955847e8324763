"""A block of a TIFF as it lies in the file becomes numbers: inflated once, its predictor undone in one pass.

DEFLATE is undone by libdeflate (twice as fast as zlib), which needs to be told the size of the result: a block that would grow beyond what
its directory says is refused before the memory is taken.
"""

# numba infers the types of the kernels from their calls.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from typing import Any

import deflate
import numpy as np
from numba import njit

from mdive.cube.failures import Unreadable
from mdive.cube.tiff import NONE, TiffLayout


def unpack(packed: bytes | memoryview, layout: TiffLayout) -> np.ndarray[Any, Any]:
    """Return the numbers of one block.

    Parameters
    ----------
    packed
        The block as it lies in the file.
    layout
        What the file says of its blocks.

    Returns
    -------
    (bands, rows, columns) in the machine's byte order; one band where blocks are not chunky.

    Raises
    ------
    Unreadable
        With cause ``corrupt``: it is no such block.
    """
    size = layout.block_bytes
    if layout.compression == NONE:
        raw: bytes | bytearray | memoryview = packed
    else:
        try:
            raw = deflate.zlib_decompress(packed, size)
        except (deflate.DeflateError, ValueError) as error:
            raise Unreadable("corrupt", f"A block cannot be inflated: {error}.") from None
    if len(raw) != size:
        raise Unreadable("corrupt", f"A block holds {len(raw):,} bytes instead of {size:,}.")
    rows, cols = layout.block
    step = layout.bands if layout.chunky else 1
    if layout.predictor == 3:
        numbers = _undo_float(np.frombuffer(raw, np.uint8).reshape(rows, -1), step, layout.dtype)
    else:
        stored = np.frombuffer(raw, layout.dtype).reshape(rows, cols * step)
        # libdeflate inflates into memory of its own, which nobody else sees: no need for another.
        keep = stored.flags.writeable or layout.predictor != 2
        numbers = stored.astype(layout.dtype.newbyteorder("="), copy=not (keep and stored.dtype.isnative))
        if layout.predictor == 2:
            _undo_differences(numbers.view(f"u{layout.dtype.itemsize}"), step)
    return numbers.reshape(1, rows, cols) if step == 1 else np.moveaxis(numbers.reshape(rows, cols, step), 2, 0)


def empty_block(layout: TiffLayout) -> np.ndarray[Any, Any]:
    """Return a block that was never written: all nodata, or all 0 where the file names none."""
    rows, cols = layout.block
    fill = 0 if layout.nodata is None else layout.nodata
    return np.full((layout.bands if layout.chunky else 1, rows, cols), fill, layout.dtype.newbyteorder("="))


@njit(nogil=True, cache=True)
def _undo_differences(numbers, step):
    """Horizontal differencing (TIFF 6.0, section 14): each number is the difference from its neighbour to the left, wrapping."""
    if step == 1:
        for r in range(numbers.shape[0]):
            total = numbers[r, 0]
            for c in range(1, numbers.shape[1]):
                total += numbers[r, c]  # in a register: six times faster than through memory
                numbers[r, c] = total
        return
    for r in range(numbers.shape[0]):
        for c in range(step, numbers.shape[1]):
            numbers[r, c] += numbers[r, c - step]


def _undo_float(raw: np.ndarray[Any, Any], step: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Floating point predictor (Adobe TIFF Technical Note 3): bytes of like weight together, most significant first, then differenced."""
    out = np.empty_like(raw)
    _gather_bytes(raw, step, dtype.itemsize, out)
    return out.view(dtype.newbyteorder(">")).astype(dtype.newbyteorder("="))


@njit(nogil=True, cache=True)
def _gather_bytes(raw, step, size, out):
    width = raw.shape[1]
    count = width // size
    row = np.empty(width, np.uint8)
    for r in range(raw.shape[0]):
        for i in range(width):
            row[i] = raw[r, i] if i < step else np.uint8(raw[r, i] + row[i - step])
        for k in range(size):
            for i in range(count):
                out[r, i * size + k] = row[k * count + i]
