"""How two grids lie in each other: nested where they nest, else an exact inverse map on an anchored lattice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdive.cube.grid import transformer
from mdive.cube.prepare import cover
from mdive.cube.relation import Axis, Nested, SourceGrid, Warp, relate
from mdive.model.plan import Grid
from mdive.pipeline.window import Window

UTM30 = Grid(crs="EPSG:32630", resolution=10.0, x0=600000.0, y0=4000000.0, shape=(400, 300))


def source(res=10.0, x0=600000.0, y0=4000000.0, shape=(200, 200), crs="EPSG:32630"):
    rx, ry = res if isinstance(res, tuple) else (res, res)
    return SourceGrid(crs, (rx, 0.0, x0, 0.0, -ry, y0), shape)


@pytest.mark.parametrize(
    ("given", "rows", "cols"),
    [
        (source(), Axis(0), Axis(0)),
        (source(x0=599000.0, y0=4000500.0), Axis(50), Axis(100)),
        (source(res=20.0, x0=599980.0), Axis(0, repeat=2), Axis(-2, repeat=2)),
        (source(res=60.0, y0=3999900.0), Axis(10, repeat=6), Axis(0, repeat=6)),
        (source(res=2.5, x0=599990.0), Axis(0, shrink=4), Axis(4, shrink=4)),
        (source(res=(20.0, 5.0)), Axis(0, shrink=2), Axis(0, repeat=2)),
    ],
)
def test_nested_grids_are_recognised(given, rows, cols):
    found = relate(given, UTM30)
    assert isinstance(found, Nested)
    assert (found.rows, found.cols) == (rows, cols)


@pytest.mark.parametrize(
    "given",
    [
        source(x0=600003.0),
        source(res=15.0),
        source(res=10.0001),
        source(crs="EPSG:32631"),
        source(res=0.0001, x0=-1.9, y0=36.2, crs="EPSG:4326"),
        SourceGrid("EPSG:32630", (10.0, 0.0, 600000.0, 0.0, 10.0, 3998000.0), (200, 200)),
        SourceGrid("EPSG:32630", (9.0, 1.0, 600000.0, 1.0, -9.0, 4000000.0), (200, 200)),
    ],
)
def test_all_others_are_warped(given):
    assert isinstance(relate(given, UTM30), Warp)


def test_one_crs_in_two_texts_is_one_crs():
    from rasterio.crs import CRS

    assert isinstance(relate(source(crs=CRS.from_epsg(32630).to_wkt()), UTM30), Nested)
    laea = "+proj=laea +lat_0=45 +lon_0=0 +datum=WGS84 +units=m +no_defs"
    grid = Grid(crs=laea, resolution=10.0, x0=0.0, y0=0.0, shape=(10, 10))
    assert isinstance(relate(source(x0=0.0, y0=0.0, crs=CRS.from_string(laea).to_wkt()), grid), Nested)


CASES = {
    "geographic": (source(res=8.983152841195215e-05, x0=-1.9, y0=36.2, shape=(2000, 2000), crs="EPSG:4326"), UTM30),
    "next zone": (source(x0=60000.0, y0=4010000.0, shape=(10980, 10980), crs="EPSG:32631"), UTM30),
    "shifted": (source(x0=600003.3, y0=4000001.7), UTM30),
    "rotated": (SourceGrid("EPSG:32630", (8.0, 3.0, 599000.0, 3.0, -8.0, 4000500.0), (600, 600)), UTM30),
    "sinusoidal": (source(res=463.3, x0=-200000.0, y0=4030000.0, shape=(100, 900), crs="+proj=sinu +R=6371007.181 +units=m"), UTM30),
    "coarse target": (
        source(res=1 / 120, x0=-5.0, y0=42.0, shape=(1200, 1200), crs="EPSG:4326"),
        Grid(crs="EPSG:32630", resolution=1000.0, x0=300000.0, y0=4600000.0, shape=(400, 300)),
    ),
    "pole": (
        source(res=1 / 1200, x0=-180.0, y0=90.0, shape=(12000, 432000), crs="EPSG:4326"),
        Grid(crs="EPSG:5041", resolution=30.0, x0=1950000.0, y0=2080000.0, shape=(400, 300)),
    ),
    "antimeridian": (
        source(res=0.01, x0=-180.0, y0=0.0, shape=(3000, 36000), crs="EPSG:4326"),
        Grid(crs="EPSG:32760", resolution=100.0, x0=780000.0, y0=8200000.0, shape=(400, 400)),
    ),
}


def exactly(src, grid, rows, cols):
    """Source row and column of target points, by pyproj and the file's own affine; columns in [0, width) on a turned globe."""
    x, y = grid.x0 + cols * grid.resolution, grid.y0 - rows * grid.resolution
    if src.crs != grid.crs:
        x, y = transformer(grid.crs, src.crs).transform(x, y)
    a, b, c, d, e, f = src.transform
    det = a * e - b * d
    col, row = (e * (x - c) - b * (y - f)) / det, (a * (y - f) - d * (x - c)) / det
    return row, col % (360.0 / a) if src.crs == "EPSG:4326" and a * src.shape[1] >= 359.9 else col


@pytest.mark.parametrize("case", CASES)
def test_lattice_is_within_a_thousandth_of_a_pixel_of_pyproj(case):
    """Of a source or target pixel, whichever is larger: near the pole 30 m are 25 columns of a geographic file."""
    src, grid = CASES[case]
    warp = relate(src, grid)
    assert isinstance(warp, Warp)
    window = Window(-7, -9, grid.shape[0] + 20, grid.shape[1] + 20)
    rows, cols = np.meshgrid(np.arange(window.row, window.row_end) + 0.5, np.arange(window.col, window.col_end) + 0.5, indexing="ij")
    row, col = warp.centres(window)
    exact_row, exact_col = exactly(src, grid, rows, cols)
    on_file = (exact_row > 0) & (exact_row < src.shape[0]) & (exact_col > 0) & (exact_col < src.shape[1])
    assert on_file.any()
    pixel = max(1.0, np.median(np.abs(np.diff(exact_row, axis=0))), np.median(np.abs(np.diff(exact_col, axis=1))))
    assert np.abs(row - exact_row)[on_file].max() < 1e-3 * pixel
    turn = 360.0 / src.transform[0]
    apart = np.abs(col - exact_col)[on_file]
    assert np.minimum(apart, np.abs(apart - turn)).max() < 1e-3 * pixel


def test_ten_metres_need_no_more_than_every_sixteenth_pixel_and_a_pole_does():
    assert relate(*CASES["geographic"]).step == 16
    assert relate(*CASES["next zone"]).step == 16
    assert relate(*CASES["pole"]).step < 16


@settings(max_examples=40)
@given(
    case=st.sampled_from(sorted(CASES)),
    row=st.integers(-40, 420),
    col=st.integers(-40, 420),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
)
def test_a_pixel_finds_its_source_alike_from_any_window(case, row, col, height, width):
    src, grid = CASES[case]
    warp = relate(src, grid)
    outer = Window(-50, -50, 600, 600)
    window = Window(row, col, height, width)
    for part, whole in zip(warp.centres(window), warp.centres(outer), strict=True):
        np.testing.assert_array_equal(part, whole[window.within(outer)])


def test_finer_sources_are_averaged_from_two_pixels_on():
    fine = relate(source(x0=60000.0, y0=4010000.0, shape=(10980, 10980), crs="EPSG:32631"), UTM30)
    assert fine.samples == (1, 1)
    coarse = UTM30.model_copy(update={"resolution": 30.0})
    assert relate(source(x0=60000.0, y0=4010000.0, shape=(10980, 10980), crs="EPSG:32631"), coarse).samples[0] >= 6


def test_cover_is_the_ground_of_the_file():
    assert cover(source(x0=600100.0, y0=3999950.0), UTM30) == Window(5, 10, 200, 200)
    assert cover(source(res=20.0, shape=(50, 60)), UTM30) == Window(0, 0, 100, 120)
    assert cover(source(res=2.5, shape=(41, 40)), UTM30) == Window(0, 0, 11, 10)
    warped = cover(*CASES["geographic"])
    inside = relate(*CASES["geographic"]).inside(warped.expand(3))
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert abs(rows[0] - 3) <= 1
    assert abs(cols[-1] - (warped.width + 2)) <= 1


def test_cover_of_the_globe_is_unknown():
    world = source(res=0.1, x0=-180.0, y0=90.0, shape=(1800, 3600), crs="EPSG:4326")
    assert cover(world, UTM30) is None
