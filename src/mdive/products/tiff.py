"""What a cloud-optimised TIFF holds beside its tiles: the layout that GDAL's COG driver gives it, the directories, the place on Earth.

First comes a note of plain text that tells readers how the tiles lie, then all directories (full resolution, then the overviews), then
their tables of tiles, then the tiles, those of the smallest overview first. A reader that fetches the beginning of the file knows all of it.

Layout and tags: TIFF 6.0 and its BigTIFF variant; georeferencing: OGC GeoTIFF 1.1 (19-008r4); the note: GDAL's page of the COG driver.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from xml.sax.saxutils import escape

import numpy as np
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from mdive.model.plan import Grid
from mdive.products.raster import BLOCK

CLASSIC: Final = 2**32
"""Bytes of the longest file whose every position is a number of 32 bits; a longer one is a BigTIFF."""

_NOTE: Final = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\nBLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
    b"KNOWN_INCOMPATIBLE_EDITION=NO\n "  # the blank is room for a YES
)

_ASCII, _SHORT, _LONG, _DOUBLE, _LONG8 = 2, 3, 4, 12, 16
_FORMAT: Final = {_ASCII: "S1", _SHORT: "<u2", _LONG: "<u4", _DOUBLE: "<f8", _LONG8: "<u8"}
_OFFSETS, _COUNTS = 324, 325
_GEO_KEYS: Final = (34735, 34736, 34737)
"""GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams."""

_DEFLATE, _GREY, _PALETTE = 8, 1, 3


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a directory."""

    tag: int
    kind: int
    raw: bytes

    @classmethod
    def of(cls, tag: int, kind: int, *values: Any) -> Field:
        """Return an entry that holds numbers."""
        return cls(tag, kind, np.array(values, _FORMAT[kind]).tobytes())

    @classmethod
    def text(cls, tag: int, text: str) -> Field:
        """Return an entry that holds words."""
        return cls(tag, _ASCII, text.encode() + b"\0")


@dataclass(frozen=True, slots=True)
class Image:
    """What the directories of a file say, beside where its tiles lie."""

    grid: Grid
    dtype: str
    nodata: float | None
    predictor: int
    colours: tuple[tuple[int, tuple[int, int, int]], ...]
    """(value, (red, green, blue) of 0 to 255); none for a grey image."""
    metadata: str
    """GDAL's XML, see :func:`metadata_xml`."""


def metadata_xml(tags: dict[str, str], band: dict[str, str], words: dict[str, str]) -> str:
    """Return tags as GDAL stores them: those of the file, those of its band, and those that have a meaning to it (unit, scale, ...).

    The keys of ``words`` are its names of the meanings: ``offset``, ``scale``, ``unittype``, ``description``.
    """
    lines = [_item(f'name="{_escape(k)}"', v) for k, v in sorted(tags.items())]
    lines += [_item(f'name="{_escape(k)}" sample="0"', v) for k, v in sorted(band.items())]
    lines += [_item(f'name="{k.upper()}" sample="0" role="{k}"', v) for k, v in words.items()]
    return f"<GDALMetadata>\n{''.join(lines)}</GDALMetadata>\n"


def header(image: Image, levels: Sequence[tuple[tuple[int, int], np.ndarray]], *, classic: int = CLASSIC) -> bytes:
    """Return all bytes of a file that come before its tiles.

    Parameters
    ----------
    image
        What the file holds.
    levels
        (rows, columns) and bytes of each packed tile, int64 (tile rows, tile columns), of the full resolution and of each overview.
        In the file four bytes come before each tile and four behind it.
    classic
        Bytes up to which a file is no BigTIFF.
    """
    tiles = sum(int(sizes.sum()) + 8 * sizes.size for _, sizes in levels)
    blank = [np.zeros(sizes.size, np.int64) for _, sizes in levels]
    big = len(_assemble(image, levels, blank, big=False)) + tiles > classic
    position = len(_assemble(image, levels, blank, big=big))
    places = []
    for _, sizes in reversed(levels):
        ends = np.cumsum(sizes.ravel() + 8)
        places.append(position + ends - sizes.ravel() - 4)
        position += int(ends[-1])
    return _assemble(image, levels, places[::-1], big=big)


def _assemble(image: Image, levels: Sequence[tuple[tuple[int, int], np.ndarray]], places: list[np.ndarray], *, big: bool) -> bytes:
    directories = [_fields(image, k, shape, sizes, places[k], big=big) for k, (shape, sizes) in enumerate(levels)]
    word, inline, counted = ("Q", 8, "Q") if big else ("I", 4, "H")
    cell = struct.Struct(f"<HH{word}")

    def behind(field: Field) -> bool:
        return len(field.raw) > inline and field.tag not in (_OFFSETS, _COUNTS)

    note = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_NOTE) + _NOTE
    size = 16 if big else 8
    first = _even(size + len(note))
    start = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
    out = bytearray((start + note).ljust(first, b"\0"))
    heads = [struct.calcsize(f"<{counted}") + len(fields) * (cell.size + inline) + inline for fields in directories]
    lengths = [h + sum(_even(len(f.raw)) for f in fields if behind(f)) for h, fields in zip(heads, directories, strict=True)]
    table_at, tables = first + sum(lengths), bytearray()
    for k, (fields, head, length) in enumerate(zip(directories, heads, lengths, strict=True)):
        at, values = len(out), bytearray()
        out += struct.pack(f"<{counted}", len(fields))
        for field in sorted(fields, key=lambda f: f.tag):
            out += cell.pack(field.tag, field.kind, len(field.raw) // np.dtype(_FORMAT[field.kind]).itemsize)
            padded = field.raw.ljust(_even(len(field.raw)), b"\0")
            if len(field.raw) <= inline:
                out += field.raw.ljust(inline, b"\0")
            elif behind(field):
                out += struct.pack(f"<{word}", at + head + len(values))
                values += padded
            else:
                out += struct.pack(f"<{word}", table_at + len(tables))
                tables += padded
        out += struct.pack(f"<{word}", at + length if k + 1 < len(directories) else 0) + values
    return bytes(out + tables)


def _fields(image: Image, level: int, shape: tuple[int, int], sizes: np.ndarray, places: np.ndarray, *, big: bool) -> list[Field]:
    dtype = np.dtype(image.dtype)
    fields = [
        Field.of(256, _LONG, shape[1]),
        Field.of(257, _LONG, shape[0]),
        Field.of(258, _SHORT, 8 * dtype.itemsize),
        Field.of(259, _SHORT, _DEFLATE),
        Field.of(262, _SHORT, _PALETTE if image.colours else _GREY),
        Field.of(277, _SHORT, 1),
        Field.of(284, _SHORT, 1),
        Field.of(317, _SHORT, image.predictor),
        Field.of(322, _SHORT, BLOCK),
        Field.of(323, _SHORT, BLOCK),
        Field.of(_OFFSETS, _LONG8 if big else _LONG, *places.tolist()),
        Field.of(_COUNTS, _LONG, *sizes.ravel().tolist()),
        Field.of(339, _SHORT, {"u": 1, "i": 2, "f": 3}[dtype.kind]),
    ]
    if image.colours:
        table = np.zeros((3, 256), np.uint16)
        for value, colour in image.colours:
            table[:, value] = colour
        fields.append(Field.of(320, _SHORT, *(table * 257).ravel().tolist()))
    if image.nodata is not None:
        fields.append(Field.text(42113, f"{image.nodata:.17g}"))
    if level:
        return [Field.of(254, _LONG, 1), *fields]
    grid = image.grid
    return [
        *fields,
        Field.of(33550, _DOUBLE, grid.resolution, grid.resolution, 0),
        Field.of(33922, _DOUBLE, 0, 0, 0, grid.x0, grid.y0, 0),
        *_crs_fields(grid.crs),
        Field.text(42112, image.metadata),
    ]


@lru_cache(maxsize=16)
def _crs_fields(crs: str) -> tuple[Field, ...]:
    """Return the GeoKeys of a coordinate reference system, copied from a file of one pixel: what they mean is GDAL's to say."""
    profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8", "endianness": "little"}
    with MemoryFile() as memory:
        memory.open(**profile, crs=CRS.from_user_input(crs), transform=Affine(1, 0, 1, 0, -1, 1)).close()
        raw = memory.read()
    (first,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, first)
    fields = []
    for entry in range(count):
        tag, kind, values, place = struct.unpack_from("<HHII", raw, first + 2 + 12 * entry)
        if tag in _GEO_KEYS:
            size = values * np.dtype(_FORMAT[kind]).itemsize
            at = place if size > 4 else first + 10 + 12 * entry
            fields.append(Field(tag, kind, raw[at : at + size]))
    return tuple(fields)


def _item(attributes: str, text: str) -> str:
    # GDAL takes one coat of escapes off with the XML, and another one itself.
    return f"  <Item {attributes}>{_escape(_escape(text))}</Item>\n"


def _escape(text: str) -> str:
    return escape(text, {'"': "&quot;"})


def _even(size: int) -> int:
    return size + size % 2
