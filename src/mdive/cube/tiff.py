"""What a tiled TIFF says of itself: where each of its blocks lies in the file, and how it is packed.

Only the first directory is read, and only files whose every word is understood are taken: tiled, of 8 to 64 bits, packed without loss in
a way that `mdive.cube.unpack` undoes, with a grid that a code and six numbers describe. All others are GDAL's.

Layout and tags: TIFF 6.0 and its BigTIFF variant; georeferencing: OGC GeoTIFF 1.1 (19-008r4).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from mdive.cube.failures import Unreadable
from mdive.cube.relation import SourceGrid

HEADER: Final = 32 * 1024
"""Bytes of a file that are read first. The directories of a COG come before its pixels; those of a Sentinel-2 band take 12 KiB."""

LARGEST_DIRECTORY: Final = 64 * 2**20
"""Bytes of block offsets beyond which a file is refused: ten million blocks."""

MOST_BLOCKS: Final = 2**24

MOST_PIXELS: Final = 10**12
"""Pixels from which a file is refused: the whole land of the Earth at 30 m is half of it. A file of kilobytes can declare any number."""

MOST_TAGS: Final = 4096
"""Entries of a directory. The largest that programs write have some fifty."""

NONE, DEFLATE, OLD_DEFLATE = 1, 8, 32946
"""Values of the Compression tag that are understood: nearly all public archives of COGs use DEFLATE."""

_TYPES: Final = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
"""numpy type of a TIFF field type; types that no wanted tag has are left out."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PER_PIXEL, _PLANAR, _PREDICTOR = 256, 257, 258, 259, 277, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS, _FORMAT = 322, 323, 324, 325, 339
_PIXEL_SCALE, _TIEPOINT, _TRANSFORM, _GEO_KEYS, _NODATA = 33550, 33922, 34264, 34735, 42113
_WANTED: Final = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PER_PIXEL, _PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS, _FORMAT}
    | {_PIXEL_SCALE, _TIEPOINT, _TRANSFORM, _GEO_KEYS, _NODATA}
)

_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED, _USER_DEFINED = 1025, 2048, 3072, 32767
"""GeoKeys, and the value that says that the system has no code."""

Fetch = Callable[[int, int], bytes]
"""Bytes of the file from the first position up to the second; fewer where the file ends."""


class NotUnderstood(Exception):
    """The file may be a good one, but it is GDAL that must read it."""


@dataclass(frozen=True, slots=True, eq=False)
class TiffLayout:
    """A file's grid, its numbers, and its blocks."""

    grid: SourceGrid
    bands: int
    dtype: np.dtype[Any]
    """Of the stored numbers, in the file's byte order."""
    nodata: float | None
    block: tuple[int, int]
    """Rows and columns of a block; blocks at the right and lower edge are padded to it."""
    chunky: bool
    """A block holds all bands, pixel by pixel."""
    compression: int
    predictor: int
    offsets: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    """Position and bytes of each block, int64 (band, block row, block column); one band where they are chunky. 0 bytes: never written."""

    @property
    def block_bytes(self) -> int:
        """Bytes of a block once it is unpacked."""
        return self.block[0] * self.block[1] * self.dtype.itemsize * (self.bands if self.chunky else 1)

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        rows, cols = self.offsets.shape[1:]
        return rows, cols


def read_layout(fetch: Fetch) -> TiffLayout:
    """Read the first directory of a TIFF.

    Parameters
    ----------
    fetch
        Gives bytes of the file. It is called once for nearly all cloud-optimised files, and for each table that lies further in.

    Raises
    ------
    NotUnderstood
        If it is no TIFF, or one of a kind that GDAL must read.
    Unreadable
        If nobody should read it: it claims more than any real file has.
    """
    tags = _Directory(fetch).tags()
    return _layout(tags)


class _Directory:
    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._head = fetch(0, HEADER)

    def tags(self) -> dict[int, np.ndarray]:
        head = self._head
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            raise NotUnderstood("it does not begin as a TIFF does")
        version = struct.unpack(order + "H", head[2:4])[0]
        if version == 42:
            first, count_format, entry, inline = struct.unpack(order + "I", head[4:8])[0], "H", 12, 4
        elif version == 43 and struct.unpack(order + "HH", head[4:8]) == (8, 0):
            first, count_format, entry, inline = struct.unpack(order + "Q", head[8:16])[0], "Q", 20, 8
        else:
            raise NotUnderstood("its version is unknown")
        size = struct.calcsize(count_format)
        count = struct.unpack(order + count_format, self._bytes(first, size))[0]
        if count > MOST_TAGS:
            raise Unreadable("too_large", f"The directory of the file has {count:,} entries; at most {MOST_TAGS:,} are read.")
        table = self._bytes(first + size, count * entry)
        found: dict[int, np.ndarray] = {}
        for position in range(0, len(table), entry):
            tag, kind = struct.unpack_from(order + "HH", table, position)
            if tag not in _WANTED:
                continue
            if kind not in _TYPES:
                raise NotUnderstood(f"its tag {tag} has the type {kind}")
            values = struct.unpack_from(order + ("Q" if inline == 8 else "I"), table, position + 4)[0]
            dtype = np.dtype(order + _TYPES[kind])
            total = values * dtype.itemsize
            if total > LARGEST_DIRECTORY:
                raise NotUnderstood(f"its tag {tag} takes {total} bytes")
            at = position + entry - inline
            raw = (
                table[at : at + total]
                if total <= inline
                else self._bytes(struct.unpack_from(order + ("Q" if inline == 8 else "I"), table, at)[0], total)
            )
            found[tag] = np.frombuffer(raw, dtype, values)
        found[-1] = np.frombuffer(order.encode(), "u1")
        return found

    def _bytes(self, start: int, size: int) -> bytes:
        if start + size <= len(self._head):
            return self._head[start : start + size]
        got = self._fetch(start, start + size)
        if len(got) != size:
            raise NotUnderstood("it ends within its directory")
        return got


def _layout(tags: dict[int, np.ndarray]) -> TiffLayout:
    for tag in (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS):
        if tag not in tags:
            raise NotUnderstood("it is not tiled")
    height, width = _one(tags, _HEIGHT), _one(tags, _WIDTH)
    block = _one(tags, _TILE_HEIGHT), _one(tags, _TILE_WIDTH)
    bands, chunky = _one(tags, _PER_PIXEL, 1), _one(tags, _PLANAR, 1) == 1
    if not (height and width and block[0] and block[1] and bands):
        raise NotUnderstood("it has no pixels")
    check_pixels((height, width))
    dtype = _dtype(tags, bands)
    predictor, compression = _one(tags, _PREDICTOR, 1), _one(tags, _COMPRESSION, 1)
    if compression not in (NONE, DEFLATE, OLD_DEFLATE):
        raise NotUnderstood(f"it is packed by method {compression}")
    if predictor not in (1, 2, 3) or (predictor == 3 and dtype.kind != "f"):
        raise NotUnderstood(f"its predictor is {predictor} for {dtype}")
    rows, cols = -(-height // block[0]), -(-width // block[1])
    planes = 1 if chunky else bands
    if rows * cols * planes > MOST_BLOCKS:
        raise NotUnderstood("it has too many blocks")
    if not tags[_OFFSETS].size == tags[_COUNTS].size == rows * cols * planes:
        raise NotUnderstood("its tables of blocks have another length than its size")
    offsets, counts = (tags[t].astype(np.int64).reshape(planes, rows, cols) for t in (_OFFSETS, _COUNTS))
    if (offsets < 0).any() or (counts < 0).any():
        raise NotUnderstood("its blocks lie beyond any file")
    unpacked = block[0] * block[1] * dtype.itemsize * (bands if chunky else 1)
    if (counts > 2 * unpacked + HEADER).any():
        raise Unreadable("corrupt", "The blocks of the file take more bytes than the numbers in them.")
    transform, crs = _transform(tags), _crs(tags)
    return TiffLayout(
        SourceGrid(crs, transform, (height, width)), bands, dtype, _nodata(tags), block, chunky, compression, predictor, offsets, counts
    )


def check_pixels(shape: tuple[int, int]) -> None:
    """Refuse a raster that is larger than any that is real.

    Raises
    ------
    Unreadable
        With cause ``too_large``.
    """
    if shape[0] * shape[1] >= MOST_PIXELS:
        raise Unreadable("too_large", f"The file claims {shape[0]:,} x {shape[1]:,} pixels; fewer than {MOST_PIXELS:,} are read.")


def _one(tags: dict[int, np.ndarray], tag: int, default: int | None = None) -> int:
    if tag in tags and tags[tag].size and tags[tag].dtype.kind in "iu":
        return int(tags[tag][0])
    if default is None:
        raise NotUnderstood(f"it has no tag {tag}")
    return default


def _dtype(tags: dict[int, np.ndarray], bands: int) -> np.dtype[Any]:
    bits, formats = set(tags.get(_BITS, np.array([1])).tolist()), set(tags.get(_FORMAT, np.array([1])).tolist())
    if len(bits) != 1 or len(formats) != 1 or bits - {8, 16, 32, 64} or formats - {1, 2, 3} or tags[_BITS].size not in (1, bands):
        raise NotUnderstood("its numbers are of a rare kind")
    (size,), (kind,) = bits, formats
    if kind == 3 and size < 32:
        raise NotUnderstood("it holds half floats")
    return np.dtype(f"{bytes(tags[-1]).decode()}{' uif'[kind]}{size // 8}")


def _nodata(tags: dict[int, np.ndarray]) -> float | None:
    if _NODATA not in tags:
        return None
    text = tags[_NODATA].tobytes().partition(b"\0")[0].strip().decode("ascii", "replace")
    try:
        return float(text) if text else None
    except ValueError:
        raise NotUnderstood(f"its nodata is {text[:20]!r}") from None


def _transform(tags: dict[int, np.ndarray]) -> tuple[float, float, float, float, float, float]:
    keys = _geo_keys(tags)
    if _TRANSFORM in tags and tags[_TRANSFORM].size == 16:
        m = [float(v) for v in tags[_TRANSFORM]]
        a, b, c, d, e, f = m[0], m[1], m[3], m[4], m[5], m[7]
    elif _PIXEL_SCALE in tags and _TIEPOINT in tags and tags[_PIXEL_SCALE].size >= 2 and tags[_TIEPOINT].size == 6:
        sx, sy = (float(v) for v in tags[_PIXEL_SCALE][:2])
        i, j, _, x, y, _ = (float(v) for v in tags[_TIEPOINT])
        a, b, c, d, e, f = sx, 0.0, x - i * sx, 0.0, -sy, y + j * sy
    else:
        raise NotUnderstood("its place is not given by six numbers")
    if keys.get(_RASTER_TYPE) == 2:
        # PixelIsPoint: the tie point is the middle of the pixel.
        c, f = c - 0.5 * (a + b), f - 0.5 * (d + e)
    if not (np.isfinite([a, b, c, d, e, f]).all() and a * e - b * d):
        raise NotUnderstood("its place is no place")
    return a, b, c, d, e, f


def _crs(tags: dict[int, np.ndarray]) -> str:
    keys = _geo_keys(tags)
    code = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC))
    if code is None or not 1024 <= code < _USER_DEFINED:
        raise NotUnderstood("its coordinate reference system has no code")
    return f"EPSG:{code}"


def _geo_keys(tags: dict[int, np.ndarray]) -> dict[int, int]:
    """Return the GeoKeys that are numbers in the directory itself."""
    table = tags.get(_GEO_KEYS)
    if table is None or table.size < 4 or table.size % 4:
        return {}
    entries = table.reshape(-1, 4)[1 : 1 + int(table[3])]
    return {int(key): int(value) for key, place, count, value in entries if place == 0 and count == 1}
