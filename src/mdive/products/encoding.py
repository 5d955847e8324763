"""How the numbers of a product are stored: one rule from the specification to the file, for rasters, STAC and areas alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np

from mdive.errors import KernelError
from mdive.model.product import RasterSpec
from mdive.pipeline.window import Window

STORED_NODATA = -32768
"""What a scaled layer stores where it has no number: the int16 that no symmetric range needs."""

_FIX = "Correct the last operation of the algorithm, or what it declares about this product."

Resampling = Literal["mode", "nearest", "average"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """What a file of this product holds."""

    dtype: str
    """Data type of the stored numbers."""
    nodata: float | None
    scale: float
    """physical = stored * scale."""
    overview: Resampling
    """Classes by majority (an average of codes means nothing), bits and names by nearest (so that none appears that is not in the data),
    measurements by mean."""
    predictor: int
    """TIFF predictor: none for codes (runs compress better as they are), 2 for integers, 3 for floats."""

    @property
    def scaled(self) -> bool:
        """Whether stored and physical numbers differ."""
        return self.scale != 1.0


def encoding_of(spec: RasterSpec) -> Encoding:
    """Return how a product is stored."""
    if spec.classes:
        overview: Resampling = "mode"
    elif spec.flags or spec.dtype == "int64":
        overview = "nearest"
    else:
        overview = "average"
    codes = bool(spec.classes or spec.flags)
    if spec.dtype == "float32" and spec.scale is not None:
        return Encoding("int16", float(STORED_NODATA), spec.scale, overview, 2)
    nodata = math.nan if spec.nodata == "nan" else spec.nodata
    return Encoding(spec.dtype, nodata, 1.0, overview, 1 if codes else 3 if spec.dtype == "float32" else 2)


def encode(spec: RasterSpec, block: np.ndarray[Any, Any], window: Window) -> np.ndarray[Any, Any]:
    """Return the numbers to store for one block of a product, after checking that it keeps what its specification says.

    Parameters
    ----------
    spec
        The product.
    block
        (rows, columns) of ``spec.dtype``.
    window
        Where the block lies, in global pixel indices; for messages.

    Raises
    ------
    KernelError
        Wrong shape or data type, a value outside the class table, the bits or the valid range, or one that the scaled
        int16 cannot hold. A product is refused rather than clipped: a clipped number is a wrong number.
    """
    if block.shape != window.shape or block.dtype != np.dtype(spec.dtype):
        got = f"{block.dtype} of shape {block.shape}"
        raise KernelError(f"Product {spec.name!r} is declared {spec.dtype}; for {window.shape} pixels there came {got}.", _FIX)
    if spec.classes:
        known = [c.value for c in spec.classes] + ([int(spec.nodata)] if isinstance(spec.nodata, int | float) else [])
        _refuse(spec, block, window, _outside(block, known), f"is none of its classes {sorted(set(known))}")
        return block
    if spec.flags:
        bits = int(np.bitwise_or.reduce([f.mask for f in spec.flags]))
        wrong = (block & np.array(~bits & int(np.iinfo(block.dtype).max), block.dtype)) != 0
        wrong &= ~_is_nodata(block, encoding_of(spec).nodata)
        _refuse(spec, block, window, wrong, f"has bits outside its table {bits:#x}")
        return block
    return _measurement(spec, block, window)


def _measurement(spec: RasterSpec, block: np.ndarray[Any, Any], window: Window) -> np.ndarray[Any, Any]:
    encoding = encoding_of(spec)
    step = encoding.scale
    # Not infinity: a number that overflowed is no measurement.
    largest = float(np.finfo(np.float32).max)
    low = -largest if spec.valid_min is None else spec.valid_min
    high = largest if spec.valid_max is None else spec.valid_max
    if not encoding.scaled:
        nodata = _is_nodata(block, encoding.nodata)
        _refuse(spec, block, window, ~nodata & ~((block >= low) & (block <= high)), f"lies outside {low:g} ... {high:g}")
        # There are many NaN, and which one a computation gives is the processor's choice: files hold one.
        return np.where(np.isnan(block), np.array(np.nan, block.dtype), block) if block.dtype.kind == "f" else block
    # float64, so that the nearest step is chosen for the number itself and not for a rounded quotient
    stored = block.astype(np.float64)
    stored /= step
    np.rint(stored, out=stored)
    # Limits count as stored: 1.00000012, one bit above a limit of 1, is stored as exactly 1.
    low, high = max(np.rint(low / step), -32767.0), min(np.rint(high / step), 32767.0)
    nodata = np.isnan(block)
    _refuse(spec, block, window, ~nodata & ~((stored >= low) & (stored <= high)), f"lies outside {low * step:g} ... {high * step:g}")
    stored[nodata] = STORED_NODATA
    return stored.astype(np.int16)


def _is_nodata(block: np.ndarray[Any, Any], nodata: float | None) -> np.ndarray[Any, Any]:
    missing = np.zeros(block.shape, bool)
    if block.dtype.kind == "f":
        missing |= np.isnan(block)
    if nodata is not None and not math.isnan(nodata):
        missing |= block == nodata
    return missing


def _outside(block: np.ndarray[Any, Any], known: list[int]) -> np.ndarray[Any, Any]:
    if block.dtype != np.uint8:
        return np.isin(block, known, invert=True)
    table = np.ones(256, bool)
    table[known] = False
    if not _any_of(np.ascontiguousarray(block).reshape(-1), table):
        return np.zeros((1, 1), bool)
    return table.take(block)


@numba.njit(nogil=True, cache=True)
def _any_of(values, table):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return whether the table is true for any of the values."""
    found = False
    for value in values:
        found |= table[value]
    return found


def _refuse(spec: RasterSpec, block: np.ndarray[Any, Any], window: Window, wrong: np.ndarray[Any, Any], what: str) -> None:
    if not wrong.any():
        return
    row, col = (int(i[0]) for i in np.nonzero(wrong))
    place = f"row {window.row + row}, column {window.col + col}"
    raise KernelError(f"Product {spec.name!r}: {block[row, col]} at {place} {what} ({int(wrong.sum())} such pixels).", _FIX)
