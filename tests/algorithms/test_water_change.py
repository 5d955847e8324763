"""New and lost water between two maps: known counts, what is unknown as a bound, any tiles, and a real flood."""

import numpy as np
import pyproj
import pytest
import rasterio
import rioxarray  # noqa: F401 - adds the accessor
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms import tables
from mdive.algorithms.water_change import CHANGE, water_change, water_change_areas
from mdive.pipeline import Tiles

D, W, U = 0, 1, 255


def located(codes, pixel=100.0, crs=None):
    codes = np.asarray(codes)
    if crs is None:
        y, x = 5_000_000.0 - pixel * (np.arange(codes.shape[0]) + 0.5), 500_000.0 + pixel * (np.arange(codes.shape[1]) + 0.5)
        return xr.DataArray(codes, dims=("y", "x"), coords={"y": y, "x": x})
    y, x = 60.0 - pixel * (np.arange(codes.shape[0]) + 0.5), 10.0 + pixel * (np.arange(codes.shape[1]) + 0.5)
    return xr.DataArray(codes, dims=("y", "x"), coords={"y": y, "x": x, "spatial_ref": 0}).rio.write_crs(crs)


def test_classes_of_all_pairs():
    before, after = np.meshgrid([D, W, U], [D, W, U], indexing="ij")
    got = water_change(before.astype("uint8"), after.astype("uint8"))
    assert got.tolist() == [[0, 1, 255], [3, 2, 255], [255, 255, 255]]
    assert got.dtype == np.uint8


@pytest.mark.parametrize("code", [250, 251, 252, 253, 254, 255, 249, 77, np.nan, 0.4])
def test_what_no_code_tells_is_unknown_and_never_dry(code):
    dtype = "float32" if isinstance(code, float) else "uint8"
    one, dry = np.full((2, 2), code, dtype), np.zeros((2, 2), "uint8")
    assert (water_change(dry, one) == 255).all()
    assert (water_change(one, dry) == 255).all()


def test_all_kinds_of_water_are_water_and_other_codes_may_be_named():
    kinds = np.array([[flood.FLOOD, flood.PERMANENT_WATER, flood.FLOODED_VEGETATION, flood.PARTIAL_WATER, 7]], "uint8")
    dry = np.zeros_like(kinds)
    assert water_change(dry, kinds).tolist() == [[1, 1, 1, 1, 255]]
    got = water_change(kinds, kinds, wet=(7,), dry=(1,))
    assert got.tolist() == [[0, 255, 255, 255, 2]]


def test_areas_by_hand():
    # Hectares: 2 dry-dry, 3 new, 1 lost, 4 lasting, 5 dry-unknown, 6 wet-unknown, 7 unknown-dry, 8 unknown-wet, 9 unknown.
    pairs = [(D, D)] * 2 + [(D, W)] * 3 + [(W, D)] + [(W, W)] * 4 + [(D, U)] * 5 + [(W, U)] * 6 + [(U, D)] * 7 + [(U, W)] * 8 + [(U, U)] * 9
    before, after = (np.array(side, "uint8").reshape(5, 9) for side in zip(*pairs, strict=True))
    got = mdive.apply("water_change_areas", located(before), located(after))
    assert got["new"] == pytest.approx([0.03, 0.03 + 0.05 + 0.08 + 0.09])
    assert got["lost"] == pytest.approx([0.01, 0.01 + 0.06 + 0.07 + 0.09])
    assert got["before"] == pytest.approx([0.11, 0.11 + 0.24])
    assert got["after"] == pytest.approx([0.15, 0.15 + 0.20])
    assert (got["known"], got["all"]) == (pytest.approx(0.10), pytest.approx(0.45))


def test_pixels_in_degrees_are_as_large_as_they_are():
    """One degree by one degree from 60 to 59 north: 6,244 km² on the ellipsoid, half of one at the equator, in whichever CRS."""
    new = located(np.ones((100, 100), "uint8"), 0.01, "EPSG:4326")
    got = mdive.apply("water_change_areas", xr.zeros_like(new), new)["new"]
    geod = pyproj.Geod(ellps="WGS84")
    # A parallel is no geodesic: many short ones.
    lon = np.linspace(10, 11, 1001)
    area, _ = geod.polygon_area_perimeter([*lon, *lon[::-1]], [*np.full(1001, 59.0), *np.full(1001, 60.0)])
    assert got[0] == pytest.approx(area / 1e6, rel=1e-4)


@settings(max_examples=200)
@given(st.data())
def test_any_tiling_gives_the_same_bits(tiled, data):
    shape = data.draw(st.integers(2, 23)), data.draw(st.integers(2, 23))
    tiles = Tiles(*((0, *sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=n - 1))), n) for n in shape))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    before, after = rng.choice(np.array([0, 0, 1, 2, 3, 4, 250, 253, 255], "uint8"), (2, *shape))
    np.testing.assert_array_equal(tiled(water_change, before, after, tiles=tiles), water_change(before, after))
    whole, cut = (tiled(water_change_areas, before, after, tiles=t) for t in (None, tiles))
    assert whole.keys() == cut.keys()
    for name, area in whole.items():
        np.testing.assert_array_equal(cut[name], area, err_msg=name)


def test_bounds_hold_whatever_is_hidden():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, (2, 60, 60)).astype("uint8")
    true = mdive.apply("water_change_areas", *map(located, truth))
    seen = np.where(rng.random(truth.shape) < 0.3, np.uint8(253), truth)
    found = mdive.apply("water_change_areas", *map(located, seen))
    for name in ("new", "lost", "before", "after"):
        assert true[name][0] == true[name][1]
        assert found[name][0] < true[name][0] < found[name][1]


# Operational products


def band(real_data, pattern):
    (path,) = (real_data / "raw" / "floods").glob(pattern)
    with rasterio.open(path) as source:
        t = source.transform
        y, x = t.f + t.e * (np.arange(source.height) + 0.5), t.c + t.a * (np.arange(source.width) + 0.5)
        return xr.DataArray(source.read(1), dims=("y", "x"), coords={"y": y, "x": x}).chunk(y=1000, x=3660)


def test_new_and_lost_water_of_a_real_flood(real_data):
    """Central Vietnam, October 2023: water of DSWx-S1 on two dates, of which the second covers half of the first."""
    before, after = (band(real_data, f"opera_dswx_s1_vietnam/*{day}/*BWTR.tif") for day in ("20231007", "20231015"))
    got = mdive.apply("water_change_areas", before, after)
    assert got["new"][0] == pytest.approx(71.4, abs=0.05)
    assert got["lost"][0] == pytest.approx(8.0, abs=0.05)
    # Half of the area was not seen on the second date, which is no sign that its water has gone.
    assert got["known"] / got["all"] == pytest.approx(0.49, abs=0.01)
    assert got["lost"][1] > 4000
    change = mdive.apply("water_change", before, after)
    counts = dict(zip(*np.unique(change.values, return_counts=True), strict=True))
    assert (counts[1] * 9e-4, counts[3] * 9e-4) == (pytest.approx(got["new"][0]), pytest.approx(got["lost"][0]))


def test_codes_of_masked_classes_are_those_of_the_operational_products(real_data):
    """DSWx-HLS: 252 snow, 253 cloud, 255 fill, none of which a comparison may take for dry."""
    codes = np.unique(band(real_data, "opera_dswx_hls_T12SVG/*WTR.tif").values)
    assert codes.tolist() == [0, 1, 2, tables.SNOW, tables.CLOUD, tables.FILL]
    got = water_change(np.zeros_like(codes)[None], codes[None])
    assert got.tolist() == [[0, 1, 1, 255, 255, 255]]
    assert {c.value for c in CHANGE.classes} == {0, 1, 2, 3, 255}
