"""The levels of a raster, made on the way: each tile is packed when it is whole, and gives a quarter of a tile of the level below.

Tiles that still wait for a quarter are all that is held: one row of tiles per level at most, and the packed tiles lie in one unnamed
file per level. So memory depends on the width of a raster, and hardly on that (windows are written four rows of tiles at a time).
"""

# Numba compiles the kernel from the types that it is called with; annotations on it would be comments.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import deflate
import numba
import numpy as np

from mdive.pipeline.window import Tiles, Window
from mdive.products.encoding import Encoding
from mdive.products.files import writing
from mdive.products.overviews import halve, level_shapes
from mdive.products.raster import BLOCK

_CODES, _MEASUREMENTS = 6, 1
"""Levels of libdeflate. Codes shrink a hundredfold, and a little more work pays; measurements hardly shrink more at 6 than at 1, for twice
the work (ADR 6 has the numbers)."""

_FEW = 64
"""Packed uniform tiles that are kept: more than there are classes in a raster."""


class Level:
    """The packed tiles of one level, in a file that has no name and goes with the process."""

    def __init__(self, shape: tuple[int, int], folder: Path) -> None:
        self.shape = shape
        self.tiles = -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)
        self.sizes = np.zeros(self.tiles, np.int64)
        """Bytes of each packed tile."""
        self.sums = np.zeros(self.tiles, np.uint32)
        """CRC-32 of each record (see :meth:`add`), as it was in memory."""
        self._places = np.zeros(self.tiles, np.int64)
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the pyramid
        self._end = 0

    def add(self, row: int, col: int, packed: bytes) -> None:
        """Append a tile as GDAL lays it out: its size before it, its last four bytes once more behind it."""
        record = b"".join((struct.pack("<I", len(packed)), packed, packed[-4:]))
        self._spool.write(record)
        self.sizes[row, col], self.sums[row, col], self._places[row, col] = len(packed), deflate.crc32(record), self._end
        self._end += len(record)

    def records(self) -> Iterator[bytes]:
        """Yield the records, left to right, top to bottom."""
        self._spool.flush()
        for place, size in zip(self._places.flat, self.sizes.flat, strict=True):
            yield os.pread(self._spool.fileno(), int(size) + 8, int(place))

    def close(self) -> None:
        """Free its disk space."""
        # What still waits to be written is not needed any more.
        with suppress(OSError):
            self._spool.close()


class Pyramid:
    """Takes the blocks of a raster and makes the packed tiles of all its levels; use it in a ``with`` block.

    Parameters
    ----------
    shape
        (rows, columns) of the raster.
    encoding
        How its numbers are stored.
    folder
        Where the packed tiles wait.
    path
        The file that they are for, as errors name it.
    """

    def __init__(self, shape: tuple[int, int], encoding: Encoding, folder: Path, path: Path) -> None:
        self._encoding = encoding
        self._path = path
        self._pack = Packer(encoding)
        self._waiting: dict[tuple[int, int, int], tuple[np.ndarray[Any, Any], int]] = {}
        self.levels: list[Level] = []
        """Full resolution first."""
        for level in level_shapes(shape):
            with writing(path):
                self.levels.append(Level(level, folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for level in self.levels:
            level.close()

    def add(self, window: Window, block: np.ndarray[Any, Any]) -> None:
        """Take the stored numbers of a window that begins at a tile and ends at one, or at the edge of the raster."""
        for tile in Tiles.regular(block.shape, BLOCK):
            pixels = np.ascontiguousarray(block[tile.row : tile.row_end, tile.col : tile.col_end])
            self._add(0, (window.row + tile.row) // BLOCK, (window.col + tile.col) // BLOCK, pixels)

    def _add(self, index: int, row: int, col: int, pixels: np.ndarray[Any, Any]) -> None:
        uniform = _is_uniform(pixels)
        packed = self._pack.uniform(pixels[:1, :1]) if uniform else self._pack.tile(pixels)
        with writing(self._path):
            self.levels[index].add(row, col, packed)
        if index + 1 == len(self.levels):
            return
        key = index + 1, row // 2, col // 2
        below, quarters = self._waiting.pop(key) if key in self._waiting else self._begin(*key)
        half = BLOCK // 2
        place = below[half * (row % 2) :, half * (col % 2) :][: -(-pixels.shape[0] // 2), : -(-pixels.shape[1] // 2)]
        place[...] = halve(pixels[:1, :1] if uniform else pixels, self._encoding)
        if quarters == 1:
            self._add(*key, below)
        else:
            self._waiting[key] = below, quarters - 1

    def _begin(self, index: int, row: int, col: int) -> tuple[np.ndarray[Any, Any], int]:
        """Return an empty tile and the number of tiles above that it is made from."""
        (rows, cols), above = self.levels[index].shape, self.levels[index - 1].tiles
        tile = np.empty((min(BLOCK, rows - row * BLOCK), min(BLOCK, cols - col * BLOCK)), self._encoding.dtype)
        return tile, min(2, above[0] - 2 * row) * min(2, above[1] - 2 * col)


class Packer:
    """Turns tiles into what lies in the file: whole (the last row and column repeated), differenced, deflated.

    Parameters
    ----------
    encoding
        How the product is stored.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._predictor = encoding.predictor
        self._level = _CODES if encoding.predictor == 1 else _MEASUREMENTS
        self._known: dict[bytes, bytes] = {}

    def tile(self, pixels: np.ndarray[Any, Any]) -> bytes:
        """Return a packed tile of up to ``BLOCK`` rows and columns."""
        rows, cols = pixels.shape
        if pixels.shape != (BLOCK, BLOCK):
            pixels = np.pad(pixels, ((0, BLOCK - rows), (0, BLOCK - cols)), mode="edge")
        if self._predictor == 2:
            numbers = pixels.view(f"u{pixels.itemsize}")
            pixels = numbers.copy()
            np.subtract(numbers[:, 1:], numbers[:, :-1], out=pixels[:, 1:])
        elif self._predictor == 3:
            numbers, pixels = pixels.view(np.uint32), np.empty((BLOCK, 4 * BLOCK), np.uint8)
            _scatter_bytes(numbers, pixels)
        return bytes(deflate.zlib_compress(pixels, self._level))

    def uniform(self, pixel: np.ndarray[Any, Any]) -> bytes:
        """Return a packed tile that holds one value, given as an array of one pixel."""
        value = pixel.tobytes()
        if value not in self._known:
            if len(self._known) == _FEW:
                self._known.clear()
            self._known[value] = self.tile(pixel)
        return self._known[value]


def _is_uniform(pixels: np.ndarray[Any, Any]) -> bool:
    """Return whether all pixels hold the same bits."""
    bits = pixels.view(f"u{pixels.itemsize}")
    first = bits[0, 0]
    return bool(first == bits[-1, -1] and (bits[0] == first).all() and (bits == first).all())


@numba.njit(nogil=True, cache=True)
def _scatter_bytes(numbers, out):
    """Floating point predictor (Adobe TIFF Technical Note 3): bytes of like weight together, most significant first, then differenced."""
    width = numbers.shape[1]
    row = np.empty(4 * width, np.uint8)
    for r in range(numbers.shape[0]):
        for k in range(4):
            for c in range(width):
                bits = numbers[r, c]
                # There are many NaN, and which one a processor gives is chance: the file knows one.
                bits = np.uint32(0x7FC00000) if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000) else bits
                row[k * width + c] = np.uint8((bits >> np.uint32(24 - 8 * k)) & np.uint32(255))
        out[r, 0] = row[0]
        for c in range(1, 4 * width):
            out[r, c] = np.uint8(row[c] - row[c - 1])
