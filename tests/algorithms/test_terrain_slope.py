"""Pixels on the ground against geodesics; slope, aspect and sunlight against planes whose angles are known, on any tiling."""

import numpy as np
import pytest
import rioxarray  # noqa: F401 - the accessor
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Proj

import mdive
from mdive.algorithms.terrain_slope import aspect, slope, solar_incidence, sunward_slope
from mdive.errors import MdiveError
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, load_node
from mdive.pipeline.graph import Graph
from mdive.pipeline.ground import pixel_areas, pixel_metres, pixel_sizes
from mdive.pipeline.lower import run_whole
from mdive.pipeline.operation import fill_of
from mdive.pipeline.strips import Arrays

WGS84 = Geod(ellps="WGS84")
SUN = {"sun_azimuth": 150.0, "sun_elevation": 40.0}
ALL = ((slope, {}), (aspect, {}), (solar_incidence, SUN), (sunward_slope, {"sun_azimuth": 10.0}))


def degrees_grid(top, resolution, shape=(9, 9), left=20.0):
    return Grid(crs="EPSG:4326", resolution=resolution, x0=left, y0=top, shape=shape)


def dem(values, resolution=30.0, crs="EPSG:32631", left=500_000.0, top=5_000_000.0):
    """Put heights on a grid, as a DataArray that says where it lies."""
    rows, cols = np.shape(values)
    y, x = top - (np.arange(rows) + 0.5) * resolution, left + (np.arange(cols) + 0.5) * resolution
    return xr.DataArray(np.asarray(values), dims=("y", "x"), coords={"y": y, "x": x}).rio.write_crs(crs)


def plane(direction, rise, resolution=30.0, shape=(12, 15)):
    """Return a plane that falls by ``rise`` metres per metre toward ``direction`` (degrees clockwise from north)."""
    row, col = np.indices(shape)
    angle = np.radians(direction)
    return -rise * resolution * (col * np.sin(angle) - row * np.cos(angle))


def inside(values):
    return np.asarray(values)[1:-1, 1:-1]


def terrain(shape, seed=0):
    """Return rough ground with steps, level parts and holes."""
    rng = np.random.default_rng(seed)
    height = np.cumsum(np.cumsum(rng.normal(0, 1, shape), 0), 1)
    height[shape[0] // 3 : shape[0] // 2, shape[1] // 4 :] = 7.0
    height[rng.random(shape) < 0.03] = np.nan
    return height.astype("float32")


# Pixels on the ground


@pytest.mark.parametrize("top", [80.0, 60.0, 0.01, -35.0])
@pytest.mark.parametrize(("resolution", "within"), [(1 / 3600, 1e-9), (0.1, 1e-6)])
def test_pixels_in_degrees_are_as_large_as_geodesics_say(top, resolution, within):
    grid, row = degrees_grid(top, resolution), 4
    (dx,), (dy,), (area,) = (*pixel_sizes(grid, row, 1), pixel_areas(grid, row, 1))
    north, south = top - row * resolution, top - (row + 1) * resolution
    middle = (north + south) / 2
    assert dx == pytest.approx(WGS84.inv(20.0, middle, 20.0 + resolution, middle)[2], rel=within)
    assert dy == pytest.approx(WGS84.inv(20.0, north, 20.0, south)[2], rel=within)
    # Geodesics from corner to corner bulge toward the pole beside the parallels.
    ring = WGS84.polygon_area_perimeter([20.0, 20.0 + resolution, 20.0 + resolution, 20.0], [south, south, north, north])[0]
    assert area == pytest.approx(abs(ring), rel=1e-6 if resolution < 0.01 else 1e-5)


def test_a_degree_by_a_degree_at_60_north_is_as_large_as_the_ellipsoid_says():
    """Mistake 6: square degrees, or map metres, for an area."""
    pixels = 3600
    grid = degrees_grid(61.0, 1 / pixels, (pixels, pixels))
    # Many points along the parallels, which no geodesic follows.
    lon = np.linspace(20.0, 21.0, 2001)
    want = abs(WGS84.polygon_area_perimeter([*lon, *lon[::-1]], [*np.full(2001, 60.0), *np.full(2001, 61.0)])[0])
    assert pixel_areas(grid, 0, pixels).sum() * pixels == pytest.approx(want, rel=1e-8)


def test_web_mercator_is_measured_and_other_maps_are_taken_at_their_word():
    top = Proj("EPSG:3857")(0.0, 60.0)[1]
    mercator = Grid(crs="EPSG:3857", resolution=10.0, x0=0.0, y0=top + 5.0, shape=(9, 9))
    dx, dy = pixel_sizes(mercator, 0, 1)
    lon, lat = Proj("EPSG:3857")([0.0, 10.0, 0.0, 0.0], [top, top, top + 5.0, top - 5.0], inverse=True)
    assert dx[0] == pytest.approx(WGS84.inv(lon[0], lat[0], lon[1], lat[1])[2], rel=1e-7)
    assert dy[0] == pytest.approx(WGS84.inv(lon[2], lat[2], lon[3], lat[3])[2], rel=1e-7)
    assert pixel_metres(mercator) == pytest.approx(5.01, rel=1e-2)
    for crs, unit in (("EPSG:32631", 1.0), ("EPSG:3035", 1.0), ("EPSG:2263", 0.3048)):
        grid = Grid(crs=crs, resolution=10.0, x0=0.0, y0=5_000_000.0, shape=(9, 9))
        dx, dy = pixel_sizes(grid, -1, 4)
        assert (dx == dy).all()
        np.testing.assert_allclose(dx, 10.0 * unit, rtol=1e-5)


def test_sizes_follow_the_row_of_the_grid_not_of_the_block():
    grid = degrees_grid(60.0, 0.01, (50, 9))
    dx, dy = pixel_sizes(grid, -2, 54)
    for row in (-2, 0, 17, 49):
        part = pixel_sizes(grid, row, 3)
        np.testing.assert_array_equal(part[0], dx[row + 2 : row + 5])
        np.testing.assert_array_equal(part[1], dy[row + 2 : row + 5])


def test_beyond_a_pole_a_pixel_has_a_size_still():
    for grid in (degrees_grid(90.0, 0.1), Grid(crs="EPSG:6933", resolution=9000.0, x0=0.0, y0=7_314_540.0, shape=(9, 9))):
        dx, dy = pixel_sizes(grid, -3, 6)
        assert np.isfinite(dx).all()
        assert (dx > 0).all()
        assert np.isfinite(dy).all()


# Planes


@pytest.mark.parametrize("direction", range(0, 360, 15))
@pytest.mark.parametrize("rise", [0.01, 0.3, 2.0])
def test_a_plane_has_its_angles(direction, rise):
    height = dem(plane(direction, rise))
    np.testing.assert_allclose(inside(slope(height)), np.degrees(np.arctan(rise)), rtol=1e-6)
    turned = (inside(aspect(height)) - direction + 180.0) % 360.0 - 180.0
    np.testing.assert_allclose(turned, 0.0, atol=3e-5)
    normal = np.array([rise * np.sin(np.radians(direction)), rise * np.cos(np.radians(direction)), 1.0]) / np.hypot(rise, 1.0)
    a, h = np.radians(SUN["sun_azimuth"]), np.radians(SUN["sun_elevation"])
    ray = np.array([np.cos(h) * np.sin(a), np.cos(h) * np.cos(a), np.sin(h)])
    np.testing.assert_allclose(inside(solar_incidence(height, **SUN)), np.degrees(np.arccos(normal @ ray)), rtol=1e-5)
    toward = np.degrees(np.arctan(normal[:2] @ [np.sin(a), np.cos(a)] / normal[2]))
    np.testing.assert_allclose(inside(sunward_slope(height, sun_azimuth=150.0)), toward, rtol=1e-5, atol=1e-6)


def test_a_plane_of_30_per_cent_is_16_70_degrees_steep():
    """Mistake 15: Sobel's sums divided by 3 pixels, or by none."""
    for resolution in (10.0, 30.0):
        assert round(float(slope(dem(plane(70.0, 0.3, resolution), resolution))[5, 5]), 2) == 16.70


def test_a_slope_that_faces_south_is_lit_from_the_south():
    """Mistake 17: rows taken for north."""
    south = dem(plane(180.0, 0.3))
    assert float(aspect(south)[5, 5]) == 180.0
    lit, dark = (float(solar_incidence(south, sun_azimuth=a, sun_elevation=45.0)[5, 5]) for a in (180.0, 0.0))
    assert lit == pytest.approx(45.0 - 16.699, abs=1e-3)
    assert dark == pytest.approx(45.0 + 16.699, abs=1e-3)
    assert float(sunward_slope(south, sun_azimuth=180.0)[5, 5]) == pytest.approx(16.699, abs=1e-3)
    assert float(sunward_slope(south, sun_azimuth=0.0)[5, 5]) == pytest.approx(-16.699, abs=1e-3)
    # Columns are no rows: an east slope has no part in it.
    assert float(aspect(dem(plane(90.0, 0.3)))[5, 5]) == 90.0
    assert float(sunward_slope(dem(plane(90.0, 0.3)), sun_azimuth=180.0)[5, 5]) == pytest.approx(0.0, abs=1e-5)


def test_level_ground_has_a_slope_but_no_aspect():
    level = dem(np.full((5, 5), 12.3, "float32"))
    assert (inside(slope(level)) == 0.0).all()
    assert np.isnan(aspect(level)).all()
    np.testing.assert_allclose(inside(solar_incidence(level, **SUN)), 50.0, rtol=1e-6)


def test_aspect_stays_below_360():
    height = dem(plane(0.0, 0.3) - plane(90.0, 1e-9))
    assert 0.0 <= float(aspect(height).min())
    assert float(aspect(height).max()) < 360.0


def geodesic_plane(top, resolution, rise_east, rise_north, shape):
    """Return a plane by distances on the ellipsoid from the grid's corner, along the parallel of each pixel and along the meridian."""
    grid = degrees_grid(top, resolution, shape)
    lat = top - (np.arange(shape[0]) + 0.5) * resolution
    north = np.array([-WGS84.inv(20.0, lat[0], 20.0, b)[2] for b in lat])
    # Along a parallel, in small steps.
    east = np.array([WGS84.inv(20.0, b, 20.0 + resolution, b)[2] for b in lat])[:, None] * np.arange(shape[1])
    return dem(rise_east * east + rise_north * north[:, None], resolution, grid.crs, 20.0, top)


@pytest.mark.parametrize("top", [60.0, -60.0, 1.0])
def test_on_a_grid_in_degrees_slopes_are_those_on_the_ellipsoid(top):
    """Mistake 16: degrees for metres (slope 90 everywhere), or one size for all pixels (half the slope to the east at 60 north)."""
    for east, north, shape in ((-0.3, 0.0, (9, 9)), (0.0, 0.3, (9, 9)), (0.2, -0.1, (9, 9))):
        height = geodesic_plane(top, 1 / 3600, east, north, shape)
        np.testing.assert_allclose(inside(slope(height)), np.degrees(np.arctan(np.hypot(east, north))), rtol=3e-4)
        np.testing.assert_allclose(inside(aspect(height)), np.degrees(np.arctan2(-east, -north)) % 360, atol=0.05)


def test_the_size_is_that_of_the_row():
    """A plane to the east over four degrees of latitude: with one size for all rows its slope would differ by 20 %."""
    height = dem(np.tile(-np.arange(6.0), (400, 1)), 0.01, "EPSG:4326", 20.0, 62.0)
    want = [np.degrees(np.arctan(1.0 / WGS84.inv(20.0, y, 20.01, y)[2])) for y in height.y.values[1:-1]]
    np.testing.assert_allclose(inside(slope(height))[:, 0], want, rtol=1e-6)
    assert want[0] / want[-1] > 1.1


# What is not known


def test_what_is_not_known_and_its_neighbours_have_no_slope():
    height = plane(90.0, 0.3, shape=(8, 9))
    height[4, 5] = np.nan
    want = np.zeros((8, 9), bool)
    want[[0, -1]] = want[:, [0, -1]] = want[3:6, 4:7] = True
    for operation, parameters in ALL:
        result = operation(dem(height), **parameters)
        np.testing.assert_array_equal(np.isnan(result), want)
        assert result.dtype == np.float32


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int32", "float64"])
def test_whole_numbers_are_heights_and_nothing_is_known_beyond_their_edge(tiled, dtype):
    height = np.random.default_rng(1).integers(0, 200, (13, 11)).astype(dtype)
    want = np.asarray(slope(dem(height.astype("float32"))))
    np.testing.assert_array_equal(slope(dem(height)), want)
    np.testing.assert_array_equal(slope(height, grid=Grid(crs="EPSG:32631", resolution=30.0, x0=0.0, y0=0.0, shape=(13, 11))), want)
    np.testing.assert_array_equal(tiled(slope, height, tiles=Tiles.regular(height.shape, 4), resolution=30.0), want)
    assert np.isnan(want[0]).all()


def test_inputs_are_left_alone():
    height = terrain((12, 14))
    before = height.copy()
    height.setflags(write=False)
    for operation, parameters in ALL:
        operation(dem(height), **parameters)
    np.testing.assert_array_equal(height, before)


def test_angles_of_the_sun_have_limits():
    with pytest.raises(MdiveError, match="sun_elevation"):
        solar_incidence(dem(terrain((5, 5))), sun_azimuth=100.0, sun_elevation=100.0)
    with pytest.raises(MdiveError, match="sun_azimuth"):
        mdive.apply("sunward_slope", dem(terrain((5, 5))))


# Tiles and peers


def cuts(length):
    return st.sets(st.integers(1, length - 1), max_size=length - 1).map(lambda s: (0, *sorted(s), length))


def at_once(height, grid, tiles):
    """Run all four operations in one graph, on tiles."""
    wide = np.pad(height, 1, constant_values=fill_of(str(height.dtype)))

    def load(source, bands, window):
        cut = np.s_[window.row + 1 : window.row_end + 1, window.col + 1 : window.col_end + 1]
        return Arrays({band: np.ascontiguousarray(wide[cut]) for band in bands})

    node = load_node("dem/static", "height", dtype=str(height.dtype), timed=False)
    outputs = {operation.name: operation(node, **parameters) for operation, parameters in ALL}
    return run_whole(Graph(outputs), grid, tiles, load)


@settings(max_examples=200, deadline=None, print_blob=True)
@given(st.data())
def test_no_tiling_changes_a_bit(data):
    shape = data.draw(st.integers(1, 25)), data.draw(st.integers(1, 25))
    height = terrain(shape, data.draw(st.integers(0, 2**31)))
    if data.draw(st.booleans()):
        height = np.nan_to_num(height).astype("int16")
    grid = degrees_grid(60.0, 1 / 1200, shape)
    if data.draw(st.booleans()):
        grid = Grid(crs="EPSG:32631", resolution=30.0, x0=0.0, y0=0.0, shape=shape)
    tiles = Tiles(*(data.draw(cuts(n)) if n > 1 else (0, 1) for n in shape))
    cut, whole = at_once(height, grid, tiles), at_once(height, grid, Tiles((0, shape[0]), (0, shape[1])))
    for name, result in cut.items():
        np.testing.assert_array_equal(result, whole[name])


def test_chunks_change_nothing_and_stay_lazy():
    height = dem(terrain((41, 37)), 1 / 1200, "EPSG:4326", 20.0, 60.0)
    chunks = (1, 13, 1, 26), (7, 1, 29)
    for operation, parameters in ALL:
        lazy = operation(height.chunk({"y": chunks[0], "x": chunks[1]}), **parameters)
        assert lazy.chunks == chunks
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), operation(height, **parameters))


def test_slope_is_xarray_spatials():
    import xrspatial

    height = dem(terrain((60, 70)))
    height.attrs["res"] = (30.0, 30.0)
    theirs = xrspatial.slope(height)
    ours = slope(height)
    # They compute in float32, and do without the height in the middle.
    known = np.isfinite(ours)
    np.testing.assert_array_equal(np.isfinite(theirs.where(np.isfinite(height))), known)
    np.testing.assert_allclose(ours.values[known], theirs.values[known], rtol=1e-4, atol=1e-4)
    facing = xrspatial.aspect(height).values[known]
    level = facing == -1.0
    np.testing.assert_array_equal(np.isnan(aspect(height).values[known]), level)
    turned = (aspect(height).values[known][~level] - facing[~level] + 180.0) % 360.0 - 180.0
    np.testing.assert_allclose(turned, 0.0, atol=0.05)
