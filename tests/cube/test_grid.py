"""The grid: drawn by mdive itself, in a projection that does not cut the area; the area's mask is exact for each pixel."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon
from shapely.geometry import LineString, Point, box

from mdive.cube import area_mask, make_grid, to_geobox, uniform
from mdive.cube.grid import EDGE_STEP, transformer
from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.pipeline.window import Window

VALENCIA = box(-0.60, 39.20, -0.20, 39.50)
FIJI = MultiPolygon([box(179.5, -17.0, 180.0, -16.0), box(-180.0, -17.0, -179.6, -16.0)])
CAP = box(-180.0, 86.0, 180.0, 90.0)


def extent(grid):
    rows, cols = grid.shape
    return grid.x0, grid.y0 - rows * grid.resolution, grid.x0 + cols * grid.resolution, grid.y0


def lonlat(grid, window):
    """Longitude and latitude of pixel centres, by pyproj, as an oracle."""
    x = grid.x0 + (np.arange(window.col, window.col_end) + 0.5) * grid.resolution
    y = grid.y0 - (np.arange(window.row, window.row_end) + 0.5) * grid.resolution
    return transformer(grid.crs, "EPSG:4326").transform(*np.meshgrid(x, y))


@pytest.mark.parametrize("resolution", [10.0, 30.0, 7.0, 0.3])
def test_grid_is_snapped_and_covers_the_area(resolution):
    grid = make_grid(VALENCIA.centroid.buffer(0.02), resolution)
    west, south, east, north = extent(grid)
    assert grid.crs == "EPSG:32630"
    for edge in (west, south, east, north):
        assert edge / resolution == pytest.approx(round(edge / resolution), abs=1e-6)
    x, y = transformer("EPSG:4326", grid.crs).transform(*shapely.get_coordinates(VALENCIA.centroid.buffer(0.02)).T)
    assert west <= x.min() < west + resolution
    assert east - resolution < x.max() <= east
    assert south <= y.min()
    assert y.max() <= north


def test_same_corner_gives_the_same_pixels():
    """Two areas that overlap share pixel edges: grids are snapped to the CRS, not to the area."""
    a, b = make_grid(VALENCIA, 10.0), make_grid(box(-0.55, 39.21, -0.1, 39.6), 10.0)
    assert (a.x0 - b.x0) % 10.0 == 0.0
    assert (a.y0 - b.y0) % 10.0 == 0.0


@pytest.mark.parametrize(
    ("area", "crs"),
    [
        (VALENCIA, "EPSG:32630"),
        (box(-70.0, -40.0, -69.0, -39.0), "EPSG:32719"),
        (box(4.0, 60.0, 5.0, 61.0), "EPSG:32632"),
        (box(8.0, 78.0, 9.9, 78.5), "EPSG:32631"),
        (box(9.5, 78.0, 11.9, 78.5), "EPSG:32633"),
        (box(179.0, 10.0, 180.0, 11.0), "EPSG:32660"),
        (FIJI, "EPSG:32760"),
        (CAP, "EPSG:5041"),
        (box(100.0, -85.0, 110.0, -81.0), "EPSG:5042"),
        (box(-10.0, 35.0, 10.0, 55.0), "+proj=laea +lat_0=45 +lon_0=0 +datum=WGS84 +units=m +no_defs"),
        (MultiPolygon([box(170.0, 50.0, 180.0, 60.0), box(-180.0, 50.0, -165.0, 60.0)]), "laea +lat_0=55 +lon_0=-178"),
    ],
)
def test_projection_follows_the_area(area, crs):
    assert crs in make_grid(area, 100.0).crs


@pytest.mark.parametrize("area", [FIJI, MultiPolygon([box(170.0, 50.0, 180.0, 60.0), box(-180.0, 50.0, -165.0, 60.0)]), CAP])
def test_no_projection_cuts_the_area(area):
    """Across the antimeridian and over the pole: one connected patch, whose size is that of the area and not of a belt around the globe."""
    from pyproj import Geod
    from scipy.ndimage import label

    grid = make_grid(area, 2000.0)
    inside = area_mask(area, grid, Window(0, 0, *grid.shape))
    assert label(inside)[1] == 1
    true = sum(abs(Geod(ellps="WGS84").geometry_area_perimeter(shapely.segmentize(part, 0.1))[0]) for part in shapely.get_parts(area))
    assert inside.sum() * 2000.0**2 == pytest.approx(true, rel=0.02)


def test_given_crs_is_used_and_named_by_its_code():
    grid = make_grid(VALENCIA, 10.0, "urn:ogc:def:crs:EPSG::25830")
    assert grid.crs == "EPSG:25830"
    assert make_grid(VALENCIA, 10.0, "+proj=laea +lat_0=39 +lon_0=0 +datum=WGS84").crs.startswith("PROJCRS")


@pytest.mark.parametrize(
    ("area", "resolution", "crs", "says"),
    [
        (VALENCIA, 10.0, "EPSG:4326", "not a map projection"),
        (VALENCIA, 10.0, "EPSG:3857", "wrong by a factor of 1.30"),
        (VALENCIA, 10.0, "EPSG:2263", "US survey foot"),
        (VALENCIA, 10.0, "EPSG:32601", "is made for -180 to -174"),
        (VALENCIA, 10.0, "EPSG:999999", "unknown"),
        (VALENCIA, 0.0, None, "resolution of 0"),
        (VALENCIA, float("nan"), None, "resolution of nan"),
        (LineString([(0, 0), (1, 1)]), 10.0, None, "flat LineString"),
        (shapely.Polygon(), 10.0, None, "empty"),
        (box(500000.0, 4000000.0, 600000.0, 4100000.0), 10.0, None, "not longitude and latitude"),
        (box(-100.0, -50.0, 100.0, 60.0), 10.0, None, "km from its centre"),
    ],
)
def test_wrong_grids_are_refused_with_a_way_out(area, resolution, crs, says):
    with pytest.raises(InputError, match=says) as caught:
        make_grid(area, resolution, crs)
    assert caught.value.hint


def test_web_mercator_is_fine_at_the_equator():
    assert make_grid(box(9.0, 0.0, 9.1, 0.1), 10.0, "EPSG:3857").crs == "EPSG:3857"


def test_geobox_of_a_window_is_a_cut_of_the_grid():
    grid = make_grid(VALENCIA, 10.0)
    whole = to_geobox(grid)
    assert whole.shape == grid.shape
    assert to_geobox(grid, Window(100, 200, 30, 40)) == whole[100:130, 200:240]
    assert to_geobox(grid, Window(-5, -7, 3, 2)).transform.f == grid.y0 + 50.0


RING = Point(-0.4, 39.35).buffer(0.02).difference(Point(-0.4, 39.35).buffer(0.007))


def test_mask_is_that_of_shapely():
    grid = make_grid(RING, 30.0)
    window = Window(-3, -3, grid.shape[0] + 6, grid.shape[1] + 6)
    to_grid = transformer("EPSG:4326", grid.crs)
    projected = shapely.transform(shapely.segmentize(RING, EDGE_STEP), lambda p: np.column_stack(to_grid.transform(p[:, 0], p[:, 1])))
    x = grid.x0 + (np.arange(window.col, window.col_end) + 0.5) * 30.0
    y = grid.y0 - (np.arange(window.row, window.row_end) + 0.5) * 30.0
    np.testing.assert_array_equal(area_mask(RING, grid, window), shapely.contains_xy(projected, *np.meshgrid(x, y)))


def test_mask_of_a_box_is_its_longitudes_and_latitudes():
    """The edges of a box in degrees are curves on the grid; straight lines between its corners would be wrong by up to 90 m here."""
    area = box(-1.5, 39.0, 0.5, 39.6)
    grid = make_grid(area, 50.0)
    window = Window(0, 0, *grid.shape)
    lon, lat = lonlat(grid, window)
    expected = (lon > -1.5) & (lon < 0.5) & (lat > 39.0) & (lat < 39.6)
    assert (area_mask(area, grid, window) != expected).sum() <= 2


@given(row=st.integers(-20, 160), col=st.integers(-20, 130), height=st.integers(1, 60), width=st.integers(1, 60))
def test_mask_does_not_depend_on_the_window(row, col, height, width):
    grid = make_grid(RING, 30.0)
    outer = Window(-20, -20, 260, 250)
    window = Window(row, col, height, width)
    whole = area_mask(RING, grid, outer)
    np.testing.assert_array_equal(area_mask(RING, grid, window), whole[window.within(outer)])


def test_neighbours_share_no_pixel_and_leave_none_out():
    west, east = box(-0.6, 39.2, -0.4, 39.5), box(-0.4, 39.2, -0.2, 39.5)
    grid = make_grid(box(-0.6, 39.2, -0.2, 39.5), 100.0)
    window = Window(0, 0, *grid.shape)
    a, b = area_mask(west, grid, window), area_mask(east, grid, window)
    assert not (a & b).any()
    np.testing.assert_array_equal(a | b, area_mask(shapely.union(west, east), grid, window))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), row=st.integers(-60, 220), col=st.integers(-60, 220), size=st.integers(1, 90))
def test_a_window_that_no_edge_comes_near_is_all_of_one_kind(seed, row, col, size):
    rng = np.random.default_rng(seed)
    grid = Grid(crs="EPSG:32630", resolution=10.0, x0=600_000.0, y0=4_500_000.0, shape=(200, 200))
    to_degrees = transformer(grid.crs, "EPSG:4326")
    parts = []
    for _ in range(rng.integers(0, 3)):
        ring = shapely.Point(600_000 + rng.uniform(0, 2000), 4_500_000 - rng.uniform(0, 2000)).buffer(rng.uniform(30, 1500), quad_segs=3)
        if rng.random() < 0.5:
            ring = ring.difference(ring.buffer(-300))
        parts.append(ring)
    area = shapely.transform(
        shapely.MultiPolygon([p for ring in parts for p in shapely.get_parts(ring)]), to_degrees.transform, interleaved=False
    )
    window = Window(row, col, size, size)
    truth, said = area_mask(area, grid, window), uniform(area, grid, window)
    assert said is None or (truth == said).all()
    if said is None:
        near = area_mask(area, grid, window.expand(700))
        assert near.any(), "None is for windows with an edge near them"
