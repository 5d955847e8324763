"""Slopes that turn away from the sun, and where the sun stands."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms.tables import FILL
from mdive.algorithms.terrain_shadow import _convergence, epochs, sun_position, terrain_shadow
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid
from mdive.pipeline import Tiles

N = 12
WATER = {"blue": 0.06, "green": 0.07, "red": 0.05, "nir08": 0.02, "swir16": 0.01, "swir22": 0.005}
SHADOW = QC_FLAGS["terrain_shadow"]


def plane(east=0.0, north=0.0, pixel=10.0):
    """Heights of a plane that rises by so much per metre to the east and to the north; row 0 is the northern edge."""
    rows, cols = np.indices((N, N))
    return (1000 + pixel * (east * cols - north * rows)).astype("float32")


def shadow(height, sun=None, times=None, choice=None, resolution=10.0):
    grid = Grid(crs="EPSG:32631", resolution=resolution, x0=500_000.0, y0=5_000_000.0, shape=height.shape)
    choice = np.zeros(height.shape, "int16") if choice is None else choice
    return terrain_shadow(height, choice, sun=sun, times=times, grid=grid)


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0, 270.0])
def test_only_the_slope_that_faces_away_from_the_sun_is_dark(azimuth):
    """Gradient axes and signs: ground that falls to the south is lit from the south and dark with the sun in the north."""
    rise = {0.0: (0, -1), 90.0: (-1, 0), 180.0: (0, 1), 270.0: (1, 0)}
    inner = np.s_[1:-1, 1:-1]
    for facing, (east, north) in rise.items():
        got = shadow(plane(0.15 * east, 0.15 * north), sun=(azimuth, 35.0))[inner]
        away = abs((facing - azimuth + 180) % 360 - 180) == 180
        assert (got == away).all(), (facing, azimuth)


def test_limits_of_slope_and_incidence():
    inner = (5, 5)
    slope = np.tan(np.radians([4.9, 5.1]))
    assert [bool(shadow(plane(north=-s), sun=(180.0, 30.0))[inner]) for s in slope] == [False, True]
    # 10 degrees away from the sun: incidence is 90 - elevation + 10.
    dark = plane(north=-np.tan(np.radians(10)))
    assert [bool(shadow(dark, sun=(180.0, h))[inner]) for h in (60.1, 59.9)] == [False, True]
    # However high the sun stands, water lies level.
    assert [bool(shadow(plane(east=np.tan(np.radians(d))), sun=(180.0, 90.0))[inner]) for d in (11.9, 12.1)] == [False, True]


def test_without_the_sun_only_steepness_is_known():
    gentle, steep = plane(north=-0.15), plane(north=-0.3)
    assert not shadow(gentle).any()
    assert shadow(steep)[1:-1, 1:-1].all()
    assert not shadow(np.full((N, N), np.nan, "float32"), sun=(180.0, 20.0)).any()


def test_each_pixel_has_the_sun_of_its_own_scene():
    noon, evening = (datetime(2024, 3, 14, h, tzinfo=UTC).timestamp() for h in (12, 17))
    choice = np.zeros((N, N), "int16")
    choice[:, 6:] = 1
    choice[0] = -1
    # Falls to the east: dark in the evening, when the sun is in the west.
    got = shadow(plane(east=-0.15), times=(noon, evening), choice=choice)
    assert not got[2:-1, 1:5].any()
    assert got[2:-1, 7:-1].all()
    assert not got[0].any()


@pytest.mark.parametrize(
    ("when", "place", "azimuth", "elevation"),
    [
        # Solstices and equinox: the definitions of the tropics and of noon.
        ("2024-06-20T12:00:00", (0.0, 23.44), None, 90.0),
        ("2024-03-20T12:07:30", (0.0, 0.0), None, 90.0),
        ("2024-12-21T11:58:00", (0.0, 50.0), 180.0, 90 - 50 - 23.44),
        ("2024-12-21T11:58:00", (0.0, -66.0), 0.0, 90 - 66 + 23.44),
    ],
)
def test_position_of_the_sun(when, place, azimuth, elevation):
    got = sun_position(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp(), *place)
    assert got[1] == pytest.approx(elevation, abs=0.5)
    assert azimuth is None or abs((got[0] - azimuth + 180) % 360 - 180) < 0.6


def test_position_of_the_sun_is_what_catalogues_tell(real_data):
    """Sentinel-2 tells the mean over a granule, Landsat its middle; both agree with time and place of the item to a fraction of a degree."""
    found = []
    for file in sorted((real_data / "raw" / "stac").rglob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        items = content.get("features", [content]) if isinstance(content, dict) else content
        for item in (i for i in items if isinstance(i, dict) and i.get("bbox")):
            told = item.get("properties") or {}
            if not str(item.get("collection")).startswith(("landsat-c2", "sentinel-2-")) or told.get("view:sun_elevation") is None:
                continue
            (west, south), (east, north) = item["bbox"][:2], item["bbox"][-2:]
            azimuth, elevation = sun_position(datetime.fromisoformat(told["datetime"]).timestamp(), (west + east) / 2, (south + north) / 2)
            found.append((elevation - told["view:sun_elevation"], azimuth - told["view:sun_azimuth"]))
    assert len(found) >= 10
    assert np.abs(found).max(axis=0) == pytest.approx([0, 0], abs=0.5)


def test_a_time_without_a_zone_is_utc():
    assert epochs([datetime(2024, 1, 1, 12)]) == epochs([datetime(2024, 1, 1, 12, tzinfo=UTC)]) == (1_704_110_400.0,)
    assert epochs(None) is None


def test_true_north_is_not_the_grids():
    west = Grid(crs="EPSG:32632", resolution=10.0, x0=300_000.0, y0=5_000_000.0, shape=(1000, 1000))
    # Convergence of UTM: (lon - lon0) sin(lat), here (6.522 - 9) sin(45.081); true north lies to the right of a grid's north in the west of a zone.
    assert _convergence(west) == pytest.approx(2.478 * np.sin(np.radians(45.081)), abs=0.01)
    assert _convergence(Grid(crs="EPSG:4326", resolution=0.001, x0=6.0, y0=-30.0, shape=(10, 10))) == pytest.approx(0, abs=1e-6)


def dataset(height):
    coords = {"y": 5_000_000.0 - 10 * np.arange(N), "x": 500_000.0 + 10.0 * np.arange(N)}
    bands = {b: (("y", "x"), np.full((N, N), v, "float32")) for b, v in WATER.items()}
    return xr.Dataset(bands, coords=coords), xr.Dataset({"dem": (("y", "x"), height)}, coords=coords)


def test_dark_slopes_are_neither_water_nor_dry():
    post, terrain = dataset(plane(north=-0.15))
    occurrence = xr.full_like(terrain.dem, 0.0).rename("occurrence")
    occurrence[:, 6:] = 90.0
    static = terrain.assign(occurrence=occurrence)
    got = mdive.apply("flood.optical_index", post, static, sun_azimuth=180.0, sun_elevation=35.0)
    inner = np.s_[1:-1, 1:6]
    assert (got.extent.values[inner] == FILL).all()
    assert (got.qc.values[inner] & SHADOW).all()
    assert np.isnan(got.probability.values[inner]).all()
    # What is known to be water is believed to be water, on a DEM that says otherwise.
    assert (got.extent.values[1:-1, 6:] == flood.PERMANENT_WATER).all()
    lit = mdive.apply("flood.optical_index", post, static, sun_azimuth=0.0, sun_elevation=35.0)
    assert (lit.extent.values[inner] == flood.FLOOD).all()


def test_one_of_the_suns_angles_alone_is_refused():
    with pytest.raises(mdive.errors.InputError, match="only one of the sun's two angles"):
        mdive.apply("flood.optical_index", dataset(plane())[0], sun_azimuth=180.0)


def cuts(length):
    return st.sets(st.integers(1, length - 1), max_size=6).map(lambda s: (0, *sorted(s), length))


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), cuts(17), cuts(13), st.booleans())
def test_any_tiling_gives_the_same_bits(tiled, seed, rows, cols, known):
    rng = np.random.default_rng(seed)
    height = rng.choice([rng.normal(0, 3, (17, 13)), rng.integers(0, 4, (17, 13)), np.zeros((17, 13))]).astype("float32")
    height[rng.random(height.shape) < 0.05] = np.nan
    choice = rng.integers(-1, 2, height.shape).astype("int16")
    how = {"sun": (rng.uniform(0, 360), rng.uniform(5, 85))} if known else {"times": (1.7e9, 1.71e9)}
    whole = tiled(terrain_shadow, height, choice, **how)
    np.testing.assert_array_equal(tiled(terrain_shadow, height, choice, tiles=Tiles(rows, cols), **how), whole)
