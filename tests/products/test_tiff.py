"""The frame of a file: its tiles lie as it says, GDAL reads of it what GDAL itself would have written, mdive's own reader opens it."""

from __future__ import annotations

import functools
import struct

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from mdive.cube.tiff import read_layout
from mdive.cube.unpack import unpack
from mdive.products import cog, tiff, write_cog
from mdive.products.tiff import Image, header

KINDS = ("extent", "probability", "uncertainty", "qc")
SHAPE = (1301, 777)


@pytest.fixture(params=["classic", "big"])
def size(request, monkeypatch):
    """Both kinds of TIFF, whatever the size of the file."""
    if request.param == "big":
        monkeypatch.setattr(cog, "header", functools.partial(header, classic=0))
    return request.param


def directories(data, *, even=False):
    """Offset, and {tag: values} of each directory of a little-endian TIFF; GDAL's own put values at odd places, against the standard."""
    big = struct.unpack_from("<H", data, 2)[0] == 43
    word, count, cell = ("Q", "Q", 20) if big else ("I", "H", 12)
    place, found = struct.unpack_from(f"<{word}", data, 8 if big else 4)[0], []
    while place:
        number, at, tags = struct.unpack_from(f"<{count}", data, place)[0], place + struct.calcsize(f"<{count}"), {}
        for entry in range(at, at + number * cell, cell):
            tag, kind, values = struct.unpack_from(f"<HH{word}", data, entry)
            dtype = np.dtype({2: "u1", 3: "<u2", 4: "<u4", 12: "<f8", 16: "<u8"}[kind])
            inline = entry + cell - struct.calcsize(word)
            start = inline if values * dtype.itemsize <= struct.calcsize(word) else struct.unpack_from(f"<{word}", data, inline)[0]
            assert start % 2 == 0 or not even
            tags[tag] = np.frombuffer(data, dtype, values, start)
        assert list(tags) == sorted(tags)
        found.append((place, tags))
        place = struct.unpack_from(f"<{word}", data, at + number * cell)[0]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_lie_as_the_note_says(tmp_path, specs, make_grid, save, pictures, kind, size):
    data = save(tmp_path / "a.tif", getattr(specs, kind), make_grid(SHAPE), pictures(SHAPE)[kind]).read_bytes()
    assert data[:4] == (b"II\x2b\0" if size == "big" else b"II\x2a\0")
    found = directories(data, even=True)
    assert [place for place, _ in found] == sorted(place for place, _ in found)
    assert [tags.get(254, [0])[0] for _, tags in found] == [0, 1, 1]
    tiles = [(int(o), int(c)) for _, tags in reversed(found) for o, c in zip(tags[324], tags[325], strict=True)]
    # The smallest overview first, row by row, without a gap up to the end of the file; the first tile lies behind all directories.
    assert tiles[0][0] > found[-1][0]
    for i, (offset, count) in enumerate(tiles):
        assert struct.unpack_from("<I", data, offset - 4)[0] == count
        assert data[offset + count : offset + count + 4] == data[offset + count - 4 : offset + count]
        following = tiles[i + 1][0] - 4 if i + 1 < len(tiles) else len(data)
        assert offset + count + 4 == following


@pytest.mark.parametrize("kind", KINDS)
def test_gdal_reads_both_kinds(tmp_path, specs, make_grid, save, pictures, kind, size):
    array = pictures(SHAPE)[kind]
    path = save(tmp_path / "a.tif", getattr(specs, kind), make_grid(SHAPE), array)
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as dataset:
        stored = dataset.read(1)
        assert stored.shape == SHAPE
        if kind != "probability":
            assert np.array_equal(stored, array, equal_nan=kind == "uncertainty")


def test_the_longest_classic_file(specs, make_grid):
    image = Image(make_grid((600, 600)), "uint8", 255.0, 1, (), "")
    levels = [((600, 600), np.array([[1 << 20, 5], [6, 7]])), ((300, 300), np.array([[9]]))]
    tiles = (1 << 20) + 5 + 6 + 7 + 9 + 5 * 8
    total = len(header(image, levels)) + tiles
    assert header(image, levels, classic=total)[2] == 42
    assert header(image, levels, classic=total - 1)[2] == 43
    # Beyond 4 GiB, offsets have 64 bits and come back as they are.
    huge = [((600, 600), np.array([[3 << 30, 3 << 30], [6, 7]])), ((300, 300), np.array([[9]]))]
    head = header(image, huge)
    offsets = directories(head)[0][1][324]
    assert offsets.tolist() == [
        len(head) + 17 + 4,
        len(head) + 17 + (3 << 30) + 12,
        len(head) + 17 + (6 << 30) + 20,
        len(head) + 17 + (6 << 30) + 34,
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_mdives_own_reader_opens_it(tmp_path, specs, make_grid, save, pictures, kind, size):
    path = save(tmp_path / "a.tif", getattr(specs, kind), make_grid(SHAPE), pictures(SHAPE)[kind])
    data = path.read_bytes()
    layout = read_layout(lambda start, end: data[start:end])
    assert layout.grid.crs == "EPSG:32630"
    assert layout.grid.transform == (10, 0, 500_000, 0, -10, 4_400_000)
    with rasterio.open(path) as dataset:
        for i, j in np.ndindex(layout.blocks):
            offset, count = int(layout.offsets[0, i, j]), int(layout.counts[0, i, j])
            pixels = dataset.read(1, window=Window(512 * j, 512 * i, 512, 512))
            found = unpack(data[offset : offset + count], layout)[0]
            np.testing.assert_array_equal(found[: pixels.shape[0], : pixels.shape[1]], pixels)
            # What lies beyond the edge repeats the edge.
            assert np.array_equal(found[:, -1], found[:, pixels.shape[1] - 1], equal_nan=kind == "uncertainty")
            assert np.array_equal(found[-1], found[pixels.shape[0] - 1], equal_nan=kind == "uncertainty")


WORDS = {"plain": "a word", "signs": "<a> & \"b\" 'c' ]]>", "accents": "ü σ 測", "lines": "one\ntwo"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("crs", ["EPSG:32630", "EPSG:4326", "EPSG:3035", "+proj=laea +lat_0=50 +lon_0=9 +datum=WGS84"])
def test_gdal_reads_what_gdal_would_have_written(tmp_path, specs, make_grid, save, pictures, kind, crs):
    """The same product by GDAL's own COG driver: grid, words, scale, colours and the note are the same to every reader."""
    spec = getattr(specs, kind)
    grid = make_grid((600, 300), crs=crs, resolution=0.1 if crs == "EPSG:4326" else 30.0, x0=3.3, y0=60.1)
    path = save(tmp_path / "a.tif", spec, grid, pictures((600, 300))[kind], tags=WORDS)
    with rasterio.open(path) as mine:
        profile = {k: mine.profile[k] for k in ("height", "width", "count", "dtype", "nodata", "transform")}
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", crs=crs, **profile) as dataset:
                dataset.write(mine.read())
                dataset.set_band_description(1, spec.long_name)
                dataset.set_band_unit(1, spec.units)
                if kind == "probability":
                    dataset.scales, dataset.offsets = (spec.scale,), (0.0,)
                flags = cog.flag_tags(spec)
                dataset.update_tags(**dict(sorted({**WORDS, **flags, "product": spec.name}.items())))
                dataset.update_tags(1, **flags)
                if kind == "extent":
                    dataset.write_colormap(1, {c.value: tuple(bytes.fromhex(c.color[1:])) for c in spec.classes})
            predictor = "NO" if kind in {"extent", "qc"} else "YES"
            copy(memory.name, tmp_path / "gdal.tif", driver="COG", compress="DEFLATE", predictor=predictor)
        with rasterio.open(tmp_path / "gdal.tif") as gdals:
            for asked in ("crs", "transform", "nodata", "descriptions", "units", "scales", "offsets", "colorinterp", "mask_flag_enums"):
                assert str(getattr(mine, asked)) == str(getattr(gdals, asked)), asked  # nan is not nan
            assert mine.tags() == gdals.tags()
            assert mine.tags(1) == gdals.tags(1)
            for item, band in (("GDAL_STRUCTURAL_METADATA", 0), ("IFD_OFFSET", 1)):
                assert mine.get_tag_item(item, "TIFF", bidx=band) == gdals.get_tag_item(item, "TIFF", bidx=band) is not None
            if kind == "extent":
                assert mine.colormap(1) == gdals.colormap(1)
    ours, theirs = (directories((tmp_path / name).read_bytes())[0][1] for name in ("a.tif", "gdal.tif"))
    for tag in set(theirs) - {324, 325}:  # places and sizes of the tiles
        assert ours[tag].tolist() == theirs[tag].tolist(), tag


def test_the_place_of_a_crs_is_asked_once(tmp_path, specs, make_grid, monkeypatch):
    tiff._crs_fields.cache_clear()
    for name in "ab":
        write_cog(tmp_path / name, specs.extent, make_grid((3, 3)), lambda w: np.zeros(w.shape, np.uint8))
    assert tiff._crs_fields.cache_info().misses == 1
