"""Stored numbers become physical quantities before anything else happens to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdive.cube.units import Meaning, discrete, meaning, physical
from mdive.model.plan import AssetRef


def means(**given):
    return Meaning(**{"nodata": None, "scale": 1.0, "offset": 0.0, "unit": "1", "valid_min": None, "valid_max": None, **given})


def one(number, dtype, **given):
    return physical(np.array([[number]], dtype=dtype), means(**given))[0, 0]


@pytest.mark.parametrize(
    ("number", "given", "expected"),
    [
        (1, {"offset": -0.1}, -0.0999),
        (1000, {"offset": -0.1}, 0.0),
        (0, {"offset": -0.1}, np.nan),
        (0, {"offset": 0.0}, np.nan),
        (10000, {"offset": 0.0}, 1.0),
    ],
)
def test_nodata_is_tested_before_the_offset(number, given, expected):
    """Sentinel-2: DN 0 is nothing, never a reflectance of -0.1; DN 1 with the offset of baseline 04.00 is -0.0999."""
    np.testing.assert_equal(one(number, "uint16", nodata=0.0, scale=1e-4, **given), np.float32(expected))


def test_thresholds_mean_the_same_in_numbers_and_in_reflectance():
    """DN 900 is 0.09 and not a hair more or less: the product is rounded once, from float64."""
    numbers = np.arange(0, 16001, dtype="int16").reshape(1, -1)
    reflectance = physical(numbers, means(scale=1e-4))
    np.testing.assert_array_equal(reflectance[0], (np.arange(16001) / 10000.0).astype("float32"))


def test_landsat_valid_range_and_offset():
    """Landsat C2 L2: SR = 2.75e-5 DN - 0.2 on DN 7273..43636."""
    asked = {"nodata": 0.0, "scale": 2.75e-5, "offset": -0.2, "valid_min": 7273, "valid_max": 43636}
    assert math.isnan(one(7272, "uint16", **asked))
    assert one(7273, "uint16", **asked) == pytest.approx(7273 * 2.75e-5 - 0.2, abs=1e-7)
    assert math.isnan(one(43637, "uint16", **asked))


@pytest.mark.parametrize(
    ("number", "unit", "power"),
    [(-10.0, "dB", 0.1), (0.0, "dB", 1.0), (3.0, "amplitude", 9.0), (-3.0, "amplitude", np.nan), (0.25, "power", 0.25)]
    + [(0.0, "power", np.nan), (-1e-3, "power", np.nan), (np.inf, "dB", np.nan), (np.nan, "dB", np.nan), (-np.inf, "dB", np.nan)]
    + [(1e6, "dB", np.nan)],
)
def test_radar_becomes_linear_power(number, unit, power):
    np.testing.assert_allclose(one(number, "float32", unit=unit), power, rtol=1e-7)


def test_float32_nodata_survives_the_decimals_of_a_catalogue():
    assert math.isnan(one(np.float32(-3.4028234663852886e38), "float32", nodata=-3.4028235e38))
    assert one(5.0, "float32", nodata=-1.7e308) == 5.0


def test_nodata_that_the_type_cannot_hold_matches_nothing():
    assert one(241, "uint8", nodata=-9999.0) == 241.0


@given(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    scale=st.floats(-2, 2).filter(lambda s: s == 0 or abs(s) > 1e-6),
    offset=st.floats(-10, 10),
    unit=st.sampled_from(["1", "dB", "power", "amplitude"]),
    nodata=st.one_of(st.none(), st.integers(-300, 300).map(float)),
)
def test_table_of_small_integers_is_the_formula(dtype, scale, offset, unit, nodata):
    """8 and 16 bit numbers go through a table, others through arithmetic: the same answer."""
    info = np.iinfo(dtype)
    stored = np.linspace(info.min, info.max, 257).astype(dtype).reshape(1, -1)
    asked = means(scale=scale, offset=offset, unit=unit, nodata=nodata)
    np.testing.assert_array_equal(physical(stored, asked), physical(stored.astype("int32"), asked))


def test_classes_stay_integers():
    stored = np.array([[0, 3, 255], [9, 11, 1]], dtype="uint8")
    np.testing.assert_array_equal(discrete(stored, means(nodata=255.0, unit="class"), "int32"), [[0, 3, -1], [9, 11, 1]])
    big = np.array([[2**32 - 1]], dtype="uint32")
    assert discrete(big, means(unit="bits"), "int64")[0, 0] == 2**32 - 1
    assert discrete(np.array([[np.nan, 4.0]]), means(unit="class"), "int32").tolist() == [[-1, 4]]


def test_plan_has_the_last_word_on_nodata_and_the_file_the_first():
    assert meaning(AssetRef(href="/a.tif", nodata=255.0), 0.0).nodata == 255.0
    assert meaning(AssetRef(href="/a.tif"), 7.0).nodata == 7.0
    assert meaning(AssetRef(href="/a.tif", nodata="nan"), 7.0).nodata is None


def test_constant_means_are_averaged_in_power(write, item, source, grid):
    """Gamma speckle of mean power 0.1 in dB: the mean of a 4 x 4 block is 0.1, not 10^(mean dB / 10), which is 0.51 dB less at 4.4 looks."""
    from mdive.cube import read_block
    from mdive.pipeline.window import Window

    power = np.random.default_rng(5).gamma(4.4, 0.1 / 4.4, (400, 480))
    asset = write("s1", (10 * np.log10(power)).astype("float32"), x0=600000.0, y0=4000000.0, res=2.5, unit="dB")
    given = source(item("a", {"vv": asset}), sensor="sar")
    target = grid((100, 120))
    got = read_block(given, Window(0, 0, 100, 120), target, ["vv"]).values["vv"][0]
    np.testing.assert_allclose(got, power.reshape(100, 4, 120, 4).mean(axis=(1, 3)), rtol=2e-6)
    assert 10 * np.log10(got.mean()) == pytest.approx(-10.0, abs=0.03)
