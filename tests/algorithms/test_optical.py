"""Indices by hand, their error by simulation, and cloud margins."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import mdive
from mdive.algorithms.optical import (
    awei_nsh,
    awei_sh,
    cloud_buffer,
    index_sigma,
    mndwi,
    nbr,
    nbr2,
    ndvi,
    ndwi,
)
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid

CLOUD, SHADOW, SNOW = (QC_FLAGS[n] for n in ("cloud", "shadow", "snow"))


def grid(resolution=20.0, crs="EPSG:32631", y0=5_000_000.0, shape=(21, 21)):
    return Grid(crs=crs, resolution=resolution, x0=0.0, y0=y0, shape=shape)


def f32(*values):
    return np.array(values, dtype="float32")


# Indices


@pytest.mark.parametrize("index", [ndwi, mndwi, ndvi, nbr, nbr2])
def test_normalised_difference_by_hand(index):
    got = index(f32(0.3, 0.1, 0.05), f32(0.1, 0.3, 0.05))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [0.5, -0.5, 0.0], atol=1e-7)


def test_awei_by_hand():
    b, g, n, s1, s2 = (f32(v) for v in (0.05, 0.08, 0.04, 0.02, 0.01))
    np.testing.assert_allclose(awei_sh(b, g, n, s1, s2), 0.05 + 0.2 - 0.09 - 0.0025, rtol=1e-6)
    np.testing.assert_allclose(awei_nsh(g, n, s1, s2), 4 * 0.06 - (0.01 + 0.0275), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
def test_stored_integers_do_not_wrap(dtype):
    a, b = np.array([50, 200, 0, 0], dtype), np.array([200, 50, 100, 0], dtype)
    np.testing.assert_allclose(ndwi(a, b), [-0.6, 0.6, -1.0, np.nan], rtol=1e-6)
    assert awei_nsh(a, b, b, b)[0] == 4 * (50.0 - 200) - (0.25 * 200 + 2.75 * 200)


def test_no_ratio_where_the_sum_is_lost_in_the_error():
    a = f32(0.012, 0.009, -0.005, 0.001, np.nan, 0.3)
    b = f32(0.009, 0.010, 0.004, -0.001, 0.3, np.nan)
    got = nbr(a, b)
    assert np.isfinite(got).tolist() == [True, False, False, False, False, False]
    assert not np.isinf(got).any()


def test_reflectance_is_limited_but_the_index_is_not():
    np.testing.assert_allclose(ndvi(f32(5.0), f32(0.4)), (1.6 - 0.4) / 2.0, rtol=1e-6)
    np.testing.assert_allclose(ndvi(f32(-3.0), f32(0.5)), -0.7 / 0.3, rtol=1e-6)
    np.testing.assert_allclose(ndvi(f32(0.10), f32(-0.02)), 0.12 / 0.08, rtol=1e-6)


def test_sigma_by_hand_and_by_simulation():
    # σ_a² = 0.005² + 0.015², σ_b² = 0.005² + 0.005²: 2 / 0.4² · sqrt(0.01 · 2.5e-4 + 0.09 · 5e-5) = 12.5 · sqrt(7e-6).
    expected = 12.5 * np.sqrt(7e-6)
    np.testing.assert_allclose(index_sigma(f32(0.3), f32(0.1)), expected, rtol=1e-5)
    rng = np.random.default_rng(11)
    a, b = 0.3 + rng.normal(0, np.sqrt(2.5e-4), 400_000), 0.1 + rng.normal(0, np.sqrt(5e-5), 400_000)
    assert np.std((a - b) / (a + b)) == pytest.approx(expected, rel=0.01)


def test_a_shared_error_drops_out_of_a_ratio():
    a, b = f32(0.3), f32(0.1)
    relative_only = {"floor": 0.0, "relative": 0.05}
    assert index_sigma(a, b, **relative_only, correlation=1.0)[0] == pytest.approx(0.0, abs=1e-7)
    assert index_sigma(a, b, **relative_only)[0] > 0.02


def test_sigma_is_bounded_whole_where_no_index_is_given_and_missing_with_a_band():
    a, b = f32(0.15, 0.01, 0.0, -0.01, np.nan, 0.1), f32(-0.12, 0.005, 0.0, 0.01, 0.1, np.nan)
    np.testing.assert_array_equal(index_sigma(a, b), f32(1.0, 1.0, 1.0, 1.0, np.nan, np.nan))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.125, 1.25, width=32), st.floats(-0.125, 1.25, width=32)), min_size=1, max_size=20))
def test_swapping_the_bands_turns_the_sign(pairs):
    a, b = (np.array(v, dtype="float32") for v in zip(*pairs, strict=True))
    np.testing.assert_array_equal(ndwi(a, b), -ndwi(b, a))
    np.testing.assert_allclose(index_sigma(a, b), index_sigma(b, a), rtol=1e-5)


def test_users_call_indices_by_name_on_their_datasets():
    rng = np.random.default_rng(3)
    bands = {b: (("time", "y", "x"), rng.random((2, 30, 20), dtype="float32")) for b in ("green", "nir08")}
    data = xr.Dataset(bands, coords={"y": -20.0 * np.arange(30), "x": 20.0 * np.arange(20)})
    eager, lazy = mdive.apply("ndwi", data), mdive.apply("ndwi", data.chunk(y=7, x=20))
    assert lazy.chunks is not None
    xr.testing.assert_identical(eager, lazy.compute())
    np.testing.assert_array_equal(eager, ndwi.kernel(data.green.values, data.nir08.values))


# Cloud margins


@pytest.mark.parametrize(("resolution", "pixels"), [(30.0, 13), (20.0, 29), (10.0, 113), (60.0, 5), (100.0, 5), (500.0, 5)])
def test_a_cloud_grows_by_a_disk_of_60_m_and_at_least_one_pixel(resolution, pixels):
    mask = np.zeros((1, 21, 21), "uint16")
    mask[0, 10, 10] = CLOUD | SNOW
    got = cloud_buffer(mask, grid=grid(resolution))
    assert (got & CLOUD != 0).sum() == pixels
    assert (got & SNOW != 0).sum() == 1
    assert mask.sum() == CLOUD | SNOW, "the input was written to"


def test_cloud_and_shadow_grow_each_on_its_own_and_per_date():
    mask = np.zeros((2, 9, 9), "uint16")
    mask[0, 4, 4], mask[1, 0, 0] = CLOUD, SHADOW
    got = cloud_buffer.kernel(mask, grid=grid(30.0), metres=30.0)
    assert ((got & CLOUD) != 0).sum(axis=(1, 2)).tolist() == [5, 0]
    assert ((got & SHADOW) != 0).sum(axis=(1, 2)).tolist() == [0, 3]


def test_no_margin_changes_nothing():
    mask = np.random.default_rng(0).integers(0, 1 << 16, (2, 9, 9)).astype("uint16")
    for resolution in (20.0, 100.0):
        np.testing.assert_array_equal(cloud_buffer(mask, metres=0.0, grid=grid(resolution)), mask)


def test_a_margin_in_metres_means_metres_in_degrees_too():
    mask = np.zeros((1, 21, 21), "uint16")
    mask[0, 10, 10] = CLOUD
    got = cloud_buffer(mask, grid=grid(30 / 111_133, "EPSG:4326", y0=0.003))
    assert (got & CLOUD != 0).sum() == 13
