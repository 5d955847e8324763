"""TIFFs read by mdive itself give GDAL's numbers, and each block is fetched and unpacked once."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from mdive.cube.failures import Unreadable
from mdive.cube.native import LocalFile, NativeFiles
from mdive.cube.store import BlockStore, coalesced
from mdive.cube.tiff import HEADER, NotUnderstood, read_layout

PLACE = rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)


def make(path, pixels, **options):
    bands, height, width = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": pixels.dtype, "crs": "EPSG:32630"}
    profile |= {"transform": PLACE, "tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "deflate"}
    with rasterio.open(path, "w", **(profile | options)) as dataset:
        dataset.write(pixels)
    return str(path)


def noise(dtype, bands=1, shape=(150, 210), seed=0):
    steps = np.random.default_rng(seed).normal(0, 500, (bands, *shape))
    return steps.cumsum(axis=2).astype(dtype)


VARIANTS = [
    (dtype, packing, interleave, bands, big, order)
    for dtype in ("uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64")
    for packing in ({"compress": "none"}, {"predictor": 1}, {"predictor": 2}, {"predictor": 3})
    for interleave, bands in (("band", 1), ("pixel", 3), ("band", 3))
    for big, order in (("NO", "LITTLE"), ("YES", "LITTLE"), ("NO", "BIG"), ("YES", "BIG"))
    if packing.get("predictor") != 3 or dtype.startswith("float")
]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_every_packing_gives_gdals_numbers(tmp_path, dtype):
    taken = 0
    for n, (_, packing, interleave, bands, big, order) in enumerate(v for v in VARIANTS if v[0] == dtype):
        pixels = noise(dtype, bands)
        options = {**packing, "interleave": interleave, "BIGTIFF": big, "ENDIANNESS": order, "nodata": 7}
        file = LocalFile(make(tmp_path / f"{n}.tif", pixels, **options))
        layout, store = file.layout, BlockStore(10**9)
        assert layout.grid.crs == "EPSG:32630"
        assert layout.grid.transform == tuple(PLACE)[:6]
        assert (layout.grid.shape, layout.nodata, layout.bands) == ((150, 210), 7.0, bands)
        for band in range(bands):
            found = store.read(file, band + 1, (0, 150), (0, 210))
            assert found.dtype.isnative
            np.testing.assert_array_equal(found, pixels[band], err_msg=str(options))
        taken += 1
    assert taken >= 36


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_part_is_a_cut_of_the_whole(tmp_path_factory, data):
    pixels = noise("int16", 2)
    path = tmp_path_factory.getbasetemp() / "part.tif"
    if not path.exists():
        make(path, pixels, interleave="pixel", predictor=2)
    rows = sorted(data.draw(st.tuples(st.integers(0, 150), st.integers(0, 150))))
    cols = sorted(data.draw(st.tuples(st.integers(0, 210), st.integers(0, 210))))
    store = BlockStore(data.draw(st.sampled_from([0, 1, 64 * 32 * 4, 10**9])))
    found = store.read(LocalFile(str(path)), 2, tuple(rows), tuple(cols))
    np.testing.assert_array_equal(found, pixels[1, slice(*rows), slice(*cols)])


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "lzw"},
        {"compress": "zstd"},
        {"tiled": False, "blockxsize": None, "blockysize": None},
        {"nbits": 12},
        {"crs": "+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84"},
        {"crs": None},
    ],
    ids=["lzw", "zstd", "strips", "12 bits", "a CRS without a code", "no CRS"],
)
def test_what_is_not_understood_is_left_to_gdal(tmp_path, options):
    path = make(tmp_path / "a.tif", noise("uint16"), **{k: v for k, v in options.items() if v is not None or k == "crs"})
    with pytest.raises(NotUnderstood):
        LocalFile(path)
    assert NativeFiles(BlockStore(0)).open(path) is None


def test_a_point_raster_lies_half_a_pixel_off(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(make(path, noise("uint8")), "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(path) as dataset:
        assert LocalFile(str(path)).layout.grid.transform == pytest.approx(tuple(dataset.transform)[:6])


@pytest.mark.parametrize("fill", [None, 3])
def test_blocks_that_were_never_written(tmp_path, fill):
    path = tmp_path / "a.tif"
    options = {"nodata": fill} if fill is not None else {}
    with rasterio.open(
        path, "w", driver="GTiff", height=96, width=128, count=1, dtype="uint8", crs="EPSG:32630", transform=PLACE, tiled=True, blockxsize=64,
        blockysize=32, compress="deflate", SPARSE_OK="TRUE", **options,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((32, 64), 9, np.uint8), 1, window=((32, 64), (0, 64)))
    file = LocalFile(str(path))
    assert (file.layout.counts == 0).any()
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(BlockStore(0).read(file, 1, (0, 96), (0, 128)), dataset.read(1))


def test_cut_headers_and_noise_never_escape(tmp_path):
    data = Path(make(tmp_path / "a.tif", noise("uint16"))).read_bytes()
    rng = np.random.default_rng(1)
    understood = 0
    for n in range(400):
        broken = bytearray(data)
        for _ in range(rng.integers(1, 30)):
            broken[rng.integers(0, 800)] = rng.integers(256)
        broken = broken[: rng.integers(0, len(data))] if n % 2 else broken
        path = tmp_path / "b.tif"
        path.write_bytes(broken)
        try:
            file = LocalFile(str(path))
            shape = file.layout.grid.shape
            if file.layout.block_bytes < 10**7:
                BlockStore(0).read(file, 1, (0, min(shape[0], 64)), (0, min(shape[1], 64)))
            understood += 1
        except (NotUnderstood, Unreadable):
            pass
    assert understood >= 5


def test_directories_that_lie_far_in_the_file():
    """A file that was written from front to back has its directory, and its tables, at its end."""
    asked = []
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=640,
            width=640,
            count=1,
            dtype="uint8",
            crs="EPSG:32630",
            transform=PLACE,
            tiled=True,
            blockxsize=16,
            blockysize=16,
        ) as dataset:
            dataset.write(np.random.default_rng(0).integers(0, 255, (1, 640, 640)).astype("uint8"))
        data = bytes(memory.getbuffer())

    def fetch(start, end):
        asked.append((start, end))
        return data[start:end]

    layout = read_layout(fetch)
    assert layout.blocks == (40, 40)
    assert asked[0] == (0, HEADER)
    assert all(0 <= start < end <= len(data) for start, end in asked[1:])


class Counting:
    """A file whose ranges are counted, and that fails or waits when told to."""

    def __init__(self, path):
        self.file = LocalFile(path)
        self.key, self.layout = self.file.key, self.file.layout
        self.ranges = []
        self.fail = 0
        self.gate = threading.Event()
        self.gate.set()

    def fetch(self, ranges):
        self.gate.wait(10)
        if self.fail:
            self.fail -= 1
            raise Unreadable("timeout", "too slow")
        self.ranges.extend(ranges)
        return self.file.fetch(ranges)


@pytest.fixture
def counting(tmp_path):
    return Counting(make(tmp_path / "a.tif", noise("uint16", shape=(320, 320)), blockxsize=32))


def parts(step, size=320):
    edges = range(0, size, step)
    return [((r, min(r + step, size)), (c, min(c + step, size))) for r, c in itertools.product(edges, edges)]


def test_each_block_is_fetched_and_unpacked_once_whatever_windows_ask(counting):
    store = BlockStore(10**9)
    for step in (320, 50, 33):
        for rows, cols in parts(step):
            store.read(counting, 1, rows, cols)
    assert store.traffic.unpacked == 100
    assert store.traffic.bytes <= counting.layout.counts.sum() + 100 * 64
    assert store.traffic.asked > 300


def test_a_file_of_neighbouring_blocks_is_one_range(counting):
    store = BlockStore(10**9)
    store.read(counting, 1, (0, 320), (0, 320))
    assert len(counting.ranges) == store.traffic.requests == 1


@pytest.mark.parametrize("budget", [0, 32 * 32 * 2, 5000, 10**9])
def test_threads_get_the_same_numbers_under_any_budget(counting, budget):
    whole = BlockStore(10**9).read(counting, 1, (0, 320), (0, 320))
    store = BlockStore(budget)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: store.read(counting, 1, *part), parts(45) * 3))
    for (rows, cols), numbers in zip(parts(45) * 3, found, strict=True):
        np.testing.assert_array_equal(numbers, whole[slice(*rows), slice(*cols)])
    assert store.held <= max(budget, 0)


def test_threads_that_want_one_block_wait_for_one_fetch(counting):
    store = BlockStore(10**9)
    counting.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(store.read, counting, 1, (0, 32), (0, 32)) for _ in range(8)]
        counting.gate.set()
        assert len({f.result().tobytes() for f in found}) == 1
    assert len(counting.ranges) == 1


def test_what_is_pinned_stays_whatever_the_budget(counting):
    store = BlockStore(0)
    entries, mine = store.pin(counting, [(0, 0, 0), (0, 0, 1)])
    store.fetch(counting, mine)
    assert (store.traffic.requests, store.traffic.unpacked) == (1, 0)
    for _ in range(2):
        store.read(counting, 1, (0, 32), (0, 64))
    assert (store.traffic.requests, store.traffic.unpacked) == (1, 2)
    store.unpin(entries)
    assert store.held == 0


def test_a_failed_fetch_is_forgotten_and_may_be_tried_again(counting):
    store = BlockStore(10**9)
    counting.fail = 1
    with pytest.raises(Unreadable, match="too slow"):
        store.read(counting, 1, (0, 32), (0, 32))
    assert store.held == 0
    assert store.read(counting, 1, (0, 32), (0, 32)).shape == (32, 32)


def test_numbers_cannot_be_changed_by_who_reads_them(counting):
    store = BlockStore(10**9)
    first = store.read(counting, 1, (0, 32), (0, 32))
    first[:] = 0
    assert store.read(counting, 1, (0, 32), (0, 32)).any()


def test_a_file_that_changed_is_another_file(tmp_path):
    files = NativeFiles(BlockStore(10**9))
    path = make(tmp_path / "a.tif", noise("uint8", seed=1))
    before = files.open(path).read(1, (0, 150), (0, 210))
    make(tmp_path / "a.tif", noise("uint8", seed=2))
    after = files.open(path).read(1, (0, 150), (0, 210))
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, noise("uint8", seed=2)[0])
    Path(path).unlink()
    assert files.open(path) is None
    assert files.store.held == 0


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 300)), max_size=40))
def test_ranges_joined_cover_the_same_bytes(blocks):
    ranges = sorted((start, start + size) for start, size in blocks)
    joined = coalesced(ranges)
    assert joined == sorted(joined)
    for start, end in ranges:
        assert any(a <= start and end <= b for a, b in joined) or any(a <= start < b for a, b in joined)
    assert len(joined) <= len(ranges)
