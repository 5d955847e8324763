"""Pixels: against rasterio, against slow oracles written here, and the same bits from any window, on all three paths."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.windows import Window as RioWindow

from mdive.cube import read_block
from mdive.cube import sampling as sampling_module
from mdive.cube.grid import transformer
from mdive.cube.relation import SourceGrid, relate
from mdive.pipeline.window import Window

RNG = np.random.default_rng(20241030)
NUMBERS = RNG.integers(0, 6000, (200, 240)).astype("uint16")
NUMBERS[RNG.random(NUMBERS.shape) < 0.2] = 0
CLASSES = RNG.integers(0, 12, (200, 240)).astype("uint8")


def reflectance(numbers):
    return np.where(numbers == 0, np.nan, numbers / 1e4).astype("float32")


def pixels(src, window, target, band="b"):
    block = read_block(src, window, target, [band])
    assert block.failures == ()
    assert block.values[band].dtype == np.float32
    assert block.values[band].flags.c_contiguous
    return block.values[band][0]


def test_same_grid_is_a_copy(write, item, source, grid):
    asset = write("b", NUMBERS, x0=600100.0, y0=3999950.0, res=10.0, nodata=0, scale=1e-4)
    src, target = source(item("i", {"b": asset})), grid((300, 300))
    got = pixels(src, Window(0, 0, 300, 300), target)
    expected = np.full((300, 300), np.nan, dtype="float32")
    expected[5:205, 10:250] = reflectance(NUMBERS)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(pixels(src, Window(40, 50, 31, 17), target), expected[40:71, 50:67])


def test_halo_beyond_the_grid_is_real_data(write, item, source, grid):
    asset = write("b", NUMBERS, x0=600000.0, y0=4000000.0, res=10.0, nodata=0, scale=1e-4)
    src, target = source(item("i", {"b": asset})), grid((20, 30), x0=600500.0, y0=3999500.0)
    np.testing.assert_array_equal(pixels(src, Window(-5, -7, 40, 50), target), reflectance(NUMBERS)[45:85, 43:93])


def test_windows_of_rasterio(write, item, source, grid):
    """Parity with plain windowed reads at the awkward sizes: a block's edge less one, the edge, and one more."""
    asset = write("b", NUMBERS, x0=600000.0, y0=4000000.0, res=10.0, nodata=0, scale=1e-4)
    src, target = source(item("i", {"b": asset})), grid((200, 240))
    with rasterio.open(asset.href) as dataset:
        for size in (1, 63, 64, 65, 127, 128, 129):
            for first in (0, 1, 63, 64):
                window = Window(first, first, min(size, 200 - first), size)
                expected = dataset.read(1, window=RioWindow(window.col, window.row, window.width, window.height))
                np.testing.assert_array_equal(pixels(src, window, target), reflectance(expected))


def test_second_band_of_a_file(write, item, source, grid):
    asset = write("b", np.stack([NUMBERS, NUMBERS[::-1]]), x0=600000.0, y0=4000000.0, res=10.0, nodata=0, scale=1e-4, index=2)
    got = pixels(source(item("i", {"b": asset})), Window(0, 0, 200, 240), grid((200, 240)))
    np.testing.assert_array_equal(got, reflectance(NUMBERS[::-1]))


@pytest.mark.parametrize("resampling", ["bilinear", "nearest", "average"])
def test_twenty_metres_on_ten_are_repeated(write, item, source, grid, resampling):
    asset = write("b", NUMBERS, x0=599980.0, y0=4000040.0, res=20.0, nodata=0, scale=1e-4, resampling=resampling)
    got = pixels(source(item("i", {"b": asset})), Window(0, 0, 150, 151), grid((150, 151)))
    repeated = np.kron(reflectance(NUMBERS), np.ones((2, 2), dtype="float32"))
    np.testing.assert_array_equal(got, repeated[4:154, 2:153])


def test_finer_pixels_are_averaged_over_the_valid_ones(write, item, source, grid):
    asset = write("b", NUMBERS, x0=600000.0, y0=4000000.0, res=2.5, nodata=0, scale=1e-4)
    got = pixels(source(item("i", {"b": asset})), Window(0, 0, 50, 60), grid((50, 60)))
    blocks = reflectance(NUMBERS).astype("float64").reshape(50, 4, 60, 4).swapaxes(1, 2).reshape(50, 60, 16)
    valid = np.isfinite(blocks).sum(axis=2)
    expected = np.where(valid >= 8, np.nansum(blocks, axis=2) / valid, np.nan)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))


def test_a_block_with_half_its_pixels_is_valid_and_with_less_is_not(write, item, source, grid):
    numbers = np.zeros((4, 8), dtype="uint16")
    numbers[:2, :4] = 1000  # 8 of 16
    numbers[:2, 4:] = 1000
    numbers[0, 4] = 0  # 7 of 16
    asset = write("b", numbers, x0=600000.0, y0=4000000.0, res=2.5, nodata=0, scale=1e-4, block=16)
    got = pixels(source(item("i", {"b": asset})), Window(0, 0, 1, 2), grid((1, 2)))
    np.testing.assert_array_equal(got, np.float32([[0.1, np.nan]]))


@pytest.mark.parametrize(("res", "origin"), [(20.0, (599980.0, 4000040.0)), (2.5, (600000.0, 4000000.0)), (10.0, (600003.0, 4000001.0))])
def test_classes_are_never_mixed(write, item, source, grid, res, origin):
    asset = write("b", CLASSES * 20, x0=origin[0], y0=origin[1], res=res, unit="class", resampling="nearest")
    got = pixels(source(item("i", {"b": asset})), Window(0, 0, 40, 50), grid((40, 50)))
    assert set(np.unique(got[np.isfinite(got)])) <= set(np.unique(CLASSES * 20).astype(float))


def test_classes_of_a_finer_grid_are_those_at_the_centre(write, item, source, grid):
    asset = write("b", CLASSES, x0=600000.0, y0=4000000.0, res=2.0, unit="class", resampling="nearest")
    got = pixels(source(item("i", {"b": asset})), Window(0, 0, 40, 48), grid((40, 48)))
    np.testing.assert_array_equal(got, CLASSES[2::5, 2::5].astype("float32"))


def slow_warp(values, src, grid, window, *, nearest):
    """Bilinear (or nearest) sampling, pixel by pixel, with pyproj at each of them: slow and plain."""
    out = np.full(window.shape, np.nan)
    near = np.zeros(window.shape, dtype=bool)
    a, _, c, _, e, f = src.transform
    height, width = values.shape
    for i in range(window.height):
        for j in range(window.width):
            x = grid.x0 + (window.col + j + 0.5) * grid.resolution
            y = grid.y0 - (window.row + i + 0.5) * grid.resolution
            if src.crs != grid.crs:
                x, y = transformer(grid.crs, src.crs).transform(x, y)
            u, v = (x - c) / a, (y - f) / e
            ties = [u, v, u - 0.5, v - 0.5]
            near[i, j] = min(abs(t - round(t)) for t in ties) < 2e-3
            if not (0 <= u < width and 0 <= v < height):
                continue
            if nearest:
                out[i, j] = values[int(v), int(u)]
                continue
            total = weight = 0.0
            top, left = math.floor(v - 0.5), math.floor(u - 0.5)
            for r, wr in ((top, top + 1.5 - v), (top + 1, v - top - 0.5)):
                for k, wk in ((left, left + 1.5 - u), (left + 1, u - left - 0.5)):
                    if 0 <= r < height and 0 <= k < width and np.isfinite(values[r, k]):
                        total += wr * wk * values[r, k]
                        weight += wr * wk
            near[i, j] |= abs(weight - 0.5) < 4e-3
            if weight >= 0.5:
                out[i, j] = total / weight
    return out, near


WARPS = {
    "degrees": {"res": (1.1e-4, 9e-5), "x0": -1.8890, "y0": 36.1382, "crs": "EPSG:4326"},
    "next zone": {"res": 12.0, "x0": 60500.0, "y0": 4012200.0, "crs": "EPSG:32631"},
    "half a pixel off": {"res": 10.0, "x0": 600003.7, "y0": 4000004.2, "crs": "EPSG:32630"},
}


@pytest.mark.parametrize("case", WARPS)
@pytest.mark.parametrize("resampling", ["bilinear", "nearest"])
def test_warp_is_that_of_the_oracle(write, item, source, grid, case, resampling):
    asset = write("b", NUMBERS, nodata=0, scale=1e-4, resampling=resampling, **WARPS[case])
    target, window = grid((120, 120)), Window(20, 25, 60, 55)
    got = pixels(source(item("i", {"b": asset})), window, target)
    src = SourceGrid(asset.crs, asset.transform, asset.shape)
    expected, near = slow_warp(reflectance(NUMBERS).astype("float64"), src, target, window, nearest=resampling == "nearest")
    assert np.isfinite(expected).mean() > 0.3
    clear = ~near
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(np.isnan(got)[clear], np.isnan(expected)[clear])
    # 1e-3 of a pixel times the steepest step between two pixels (0.6)
    np.testing.assert_allclose(got[clear], expected[clear], atol=1e-6 if resampling == "nearest" else 6e-4)


def test_warped_plane_stays_a_plane(write, item, source, grid):
    """A linear function of the file's own coordinates is reproduced exactly: no shift by half a pixel, no swapped axes."""
    rows, cols = np.mgrid[0:400, 0:400]
    asset = write("b", (cols * 1.0 + 1000.0 * rows).astype("float32"), res=12.0, x0=60000.0, y0=4012200.0, crs="EPSG:32631")
    target, window = grid((120, 120)), Window(10, 10, 80, 90)
    got = pixels(source(item("i", {"b": asset})), window, target)
    row, col = relate(SourceGrid(asset.crs, asset.transform, asset.shape), target).exact(
        *np.meshgrid(np.arange(10, 90) + 0.5, np.arange(10, 100) + 0.5, indexing="ij")
    )
    np.testing.assert_allclose(got, (col - 0.5) + 1000.0 * (row - 0.5), atol=2.0)


def test_warp_of_much_finer_pixels_averages(write, item, source, grid):
    """White noise of 2 m under a grid of 20 m in the next zone: its standard deviation falls by 10, which bilinear sampling cannot do."""
    noise = np.random.default_rng(3).normal(0.0, 1.0, (1200, 1200)).astype("float32")
    asset = write("b", noise, res=2.0, x0=59400.0, y0=4012800.0, crs="EPSG:32631", block=256)
    target = grid((120, 120), res=20.0, x0=599000.0, y0=4000600.0)
    got = pixels(source(item("i", {"b": asset})), Window(0, 0, 120, 120), target)
    seen = got[np.isfinite(got)]
    assert seen.size > 3000
    assert seen.std() == pytest.approx(0.1, rel=0.06)
    assert abs(seen.mean()) < 0.005


PATHS = {
    "same pixels": ({"res": 10.0, "x0": 600100.0, "y0": 3999950.0}, "bilinear", 10.0),
    "repeated": ({"res": 20.0, "x0": 599980.0, "y0": 4000040.0}, "bilinear", 10.0),
    "averaged": ({"res": 2.5, "x0": 599990.0, "y0": 4000000.0}, "bilinear", 10.0),
    "classes from finer": ({"res": 2.5, "x0": 599990.0, "y0": 4000000.0}, "nearest", 10.0),
    "degrees": (WARPS["degrees"], "bilinear", 10.0),
    "next zone": (WARPS["next zone"], "bilinear", 10.0),
    "next zone, nearest": (WARPS["next zone"], "nearest", 10.0),
    "next zone, averaged": (WARPS["next zone"], "average", 36.0),
}


@pytest.fixture(params=PATHS)
def readable(request, write, item, source, grid):
    """A source on a grid, and its pixels read in one piece."""
    place, resampling, res = PATHS[request.param]
    target = grid((200, 200), res=res)
    src = source(item("i", {"b": write("b", NUMBERS, nodata=0, scale=1e-4, resampling=resampling, **place)}))
    outer = Window(-40, -40, 300, 300)
    block = read_block(src, outer, target, ["b"])
    assert 0.02 < np.isfinite(block.values["b"]).mean() < 0.9
    return src, target, outer, block


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(-40, 259), col=st.integers(-40, 259), height=st.integers(1, 80), width=st.integers(1, 80))
def test_same_bits_from_any_window(readable, row, col, height, width):
    src, target, outer, whole = readable
    window = Window(row, col, min(height, 260 - row), min(width, 260 - col))
    block = read_block(src, window, target, ["b"])
    where = (slice(None), *window.within(outer))
    np.testing.assert_array_equal(block.values["b"].view("uint32"), np.ascontiguousarray(whole.values["b"][where]).view("uint32"))
    np.testing.assert_array_equal(block.mask, whole.mask[where])


def test_same_bits_when_memory_cuts_the_window(readable, monkeypatch):
    """A window that would need too many source pixels at once is halved, and nobody sees it."""
    src, target, outer, whole = readable
    monkeypatch.setattr(sampling_module, "MOST_SOURCE_PIXELS", 700)
    monkeypatch.setattr(sampling_module, "MOST_WARPED_PIXELS", 500)
    block = read_block(src, outer, target, ["b"])
    np.testing.assert_array_equal(block.values["b"], whole.values["b"])


def test_single_pixels_make_the_window(readable):
    src, target, outer, whole = readable
    for row in range(95, 101):
        for col in range(28, 34):
            block = read_block(src, Window(row, col, 1, 1), target, ["b"])
            np.testing.assert_array_equal(block.values["b"][0, 0, 0], whole.values["b"][0, row - outer.row, col - outer.col])


def test_across_the_antimeridian(write, item, source):
    """One geographic raster on each side of 180: the strip between them is whole on a grid that does not cut it."""
    from shapely import MultiPolygon
    from shapely.geometry import box

    from mdive.cube import make_grid

    area = MultiPolygon([box(179.9, -17.0, 180.0, -16.9), box(-180.0, -17.0, -179.9, -16.9)])
    target = make_grid(area, 100.0)
    place = {"res": 0.001, "y0": -16.8, "crs": "EPSG:4326"}
    west = write("w", np.full((300, 300), 1.0, "float32"), x0=179.7, **place)
    east = write("e", np.full((300, 300), 2.0, "float32"), x0=-180.0, **place)
    got = pixels(source(item("w", {"b": west}), item("e", {"b": east})), Window(0, 0, *target.shape), target)
    assert np.isfinite(got).all()
    assert set(np.unique(got)) == {1.0, 2.0}
    assert (np.diff(got, axis=1) >= 0).all()


def test_a_global_raster_turns_over_the_antimeridian(write, item, source):
    from shapely.geometry import box, mapping

    from mdive.cube import make_grid

    longitude = np.tile(np.arange(-179.5, 180.0, 1.0, dtype="float32"), (180, 1))
    asset = write("g", longitude, res=1.0, x0=-180.0, y0=90.0, crs="EPSG:4326", resampling="nearest")
    target = make_grid(box(178.0, -17.0, 180.0, -16.0), 1000.0)
    got = pixels(source(item("g", {"b": asset}, geometry=mapping(box(-180, -90, 180, 90)))), Window(0, 0, 40, 400), target)
    assert np.isfinite(got).all()
    assert set(np.unique(got)) == {177.5, 178.5, 179.5, -179.5, -178.5}


def test_a_raster_around_the_pole(write, item, source):
    from shapely.geometry import box, mapping

    from mdive.cube import area_mask, make_grid

    latitude = np.tile(np.arange(89.95, 84.95, -0.1, dtype="float32")[:, None], (1, 3600))
    asset = write("p", latitude, res=0.1, x0=-180.0, y0=90.0, crs="EPSG:4326", resampling="nearest")
    cap = box(-180.0, 86.0, 180.0, 90.0)
    target = make_grid(cap, 5000.0)
    got = pixels(source(item("p", {"b": asset}, geometry=mapping(cap))), Window(0, 0, *target.shape), target)
    assert np.isfinite(got[area_mask(cap, target, Window(0, 0, *target.shape))]).all()
    middle = target.shape[0] // 2
    assert got[middle, middle] > 89.9
    assert 85.9 < got[middle, 0] < 86.2


def test_a_huge_sparse_file_is_read_by_its_window_only(tmp_path, item, source, grid):
    """Nearly as many pixels as are allowed, in some kilobytes: one window costs one window."""
    import resource

    path = tmp_path / "sparse.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=900_000, height=900_000, count=1, dtype="uint16", crs="EPSG:32630", sparse_ok=True,
        transform=rasterio.Affine(10, 0, 600000.0, 0, -10, 4000000.0), tiled=True, blockxsize=16384, blockysize=512, BIGTIFF="YES",
    ) as dataset:  # fmt: skip
        dataset.write(np.full((64, 64), 7, "uint16"), 1, window=RioWindow(0, 0, 64, 64))
    from mdive.model.plan import AssetRef

    asset = AssetRef(
        href=str(path), dtype="uint16", nodata=0, crs="EPSG:32630", transform=(10, 0, 600000.0, 0, -10, 4000000.0), shape=(900_000, 900_000)
    )
    src = source(item("i", {"b": asset}, geometry={"type": "Polygon", "coordinates": [[[-3, 30], [3, 30], [3, 37], [-3, 37], [-3, 30]]]}))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    got = pixels(src, Window(0, 0, 128, 128), grid((200, 200)))
    assert (got[:64, :64] == 7).all()
    assert np.isnan(got[64:]).all()
    assert time.perf_counter() - start < 2.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_counts_are_those_of_the_window(write, item, source, grid):
    asset = write("b", NUMBERS, x0=600000.0, y0=4000000.0, res=10.0, nodata=0)
    block = read_block(source(item("i", {"b": asset, "c": asset})), Window(10, 10, 20, 30), grid((200, 240)), ["b", "c"])
    assert (block.reads.bands, block.reads.bytes) == (2, 2 * 20 * 30 * 2)


def test_many_threads_read_alike(write, item, source, grid):
    from concurrent.futures import ThreadPoolExecutor

    src = source(*(item(f"i{k}", {"b": write(f"b{k}", np.roll(NUMBERS, k), nodata=0, **WARPS["next zone"])}) for k in range(20)))
    target = grid((150, 150))
    windows = [Window(r, c, 30, 30) for r in range(0, 150, 30) for c in range(0, 150, 30)]
    alone = [pixels(src, w, target) for w in windows]
    with ThreadPoolExecutor(8) as pool:
        for got, expected in zip(pool.map(lambda w: pixels(src, w, target), windows * 3), alone * 3, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_file_that_was_replaced_is_read_anew(write, item, source, grid):
    target = grid((200, 240))
    place = {"x0": 600000.0, "y0": 4000000.0, "res": 10.0}
    first = source(item("i", {"b": write("b", np.full((200, 240), 1, "uint8"), **place)}))
    assert (pixels(first, Window(0, 0, 9, 9), target) == 1).all()
    write("b", np.full((200, 240), 2, "uint8"), **place)
    assert (pixels(first, Window(0, 0, 9, 9), target) == 2).all()


def test_files_that_gdal_has_open_are_closed(write, item, source, grid):
    from mdive.cube.gdal import OPEN_FILES, _handles, close_files

    place = {"x0": 600000.0, "y0": 4000000.0, "res": 10.0, "compress": "lzw"}
    src = source(*(item(f"i{k}", {"b": write(f"b{k}", NUMBERS, **place)}) for k in range(OPEN_FILES + 3)))
    pixels(src, Window(0, 0, 9, 9), grid((200, 240)))
    kept = [raster.dataset for _, raster in _handles().values()]
    assert len(kept) == OPEN_FILES
    close_files()
    assert all(dataset.closed for dataset in kept)
