"""Radar building blocks against their formulas, one pixel at a time, and against any tiling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdive.algorithms.looks import equivalent_looks
from mdive.algorithms.sar import (
    MEDIAN_EFFICIENCY,
    decibel,
    lee,
    lee_looks,
    median_looks,
    speckle_median,
    usable_power,
    variation,
    window_mean,
    window_radius,
)
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, load_node
from mdive.pipeline.ground import least_pixels, pixel_metres


def grid(resolution=10.0, crs="EPSG:32631", y0=5_000_000.0):
    return Grid(crs=crs, resolution=resolution, x0=0.0, y0=y0, shape=(100, 100))


def holed(shape, seed=3):
    rng = np.random.default_rng(seed)
    power = rng.gamma(2.0, 0.05, shape).astype("float32")
    power[rng.random(shape) < 0.15] = np.nan
    power[: shape[0] // 3, : shape[1] // 4] = np.nan
    return power


def looks(number=4.4):
    return {"looks": np.array([number])}


def cuts(length):
    return st.sets(st.integers(1, length - 1), max_size=5).map(lambda s: (0, *sorted(s), length))


# Windows in metres


@pytest.mark.parametrize(("resolution", "radius"), [(3.0, 8), (5.0, 5), (10.0, 2), (20.0, 1), (30.0, 1), (100.0, 1)])
def test_the_window_is_5x5_at_10_m_and_3x3_at_30_m(resolution, radius):
    assert window_radius({}, grid(resolution)) == radius


def test_a_pixel_in_degrees_has_the_area_of_its_square_in_metres():
    at_60_north = grid(9e-5, "EPSG:4326", y0=60.0045)
    assert pixel_metres(at_60_north) == pytest.approx(7.0962, rel=1e-4)  # the geodesic from 60 N 0 E: 5.022 m east, 10.027 m north
    assert pixel_metres(grid(10.0)) == 10.0
    assert pixel_metres(grid(10.0, "EPSG:2263")) == pytest.approx(10.0 * 0.3048, rel=1e-5)  # US survey feet


@pytest.mark.parametrize(("hectares", "resolution", "pixels"), [(0.3, 10.0, 30), (0.3, 30.0, 4), (0.0, 10.0, 0), (1.0, 20.0, 25)])
def test_hectares_in_pixels(hectares, resolution, pixels):
    assert least_pixels(hectares, grid(resolution)) == pixels


# Lee filter


def lee_by_hand(power, radius, looks):
    cu2 = 1.0 / looks
    out, left = np.full(power.shape, np.nan), np.full(power.shape, np.nan)
    for r in range(power.shape[0]):
        for c in range(power.shape[1]):
            window = power[max(r - radius, 0) : r + radius + 1, max(c - radius, 0) : c + radius + 1].astype("float64")
            good = window[np.isfinite(window)]
            if not np.isfinite(power[r, c]) or good.size < (2 * radius + 1) ** 2 / 2:
                continue
            m, v = good.mean(), good.var()
            w = max(0.0, (v - m * m * cu2) / (1 + cu2)) / v if v > 0 else 0.0
            out[r, c] = m + w * (power[r, c] - m)
            left[r, c] = looks / (w * w + (1 - w * w) / good.size)
    return out, left


@pytest.mark.parametrize("resolution", [10.0, 30.0])
def test_lee_is_its_formula(resolution):
    power = holed((31, 37))
    want, left = lee_by_hand(power, window_radius({}, grid(resolution)), 4.4)
    np.testing.assert_allclose(lee(power, looks(), grid=grid(resolution)), want, rtol=2e-6)
    np.testing.assert_allclose(lee_looks(power, looks(), grid=grid(resolution)), left, rtol=1e-4)
    assert np.isnan(want[~np.isnan(power)]).any(), "the rule of half a window is not tested by this field"


def test_lee_keeps_the_mean_of_even_ground_and_smooths_it(speckle):
    power = speckle(np.full((400, 400), 0.05))
    filtered = lee(power, looks())[2:-2, 2:-2]
    assert filtered.mean() == pytest.approx(0.05, rel=0.01)
    assert filtered.std() < 0.35 * power.std()
    # The same in decibels first is what must not happen: it loses half a decibel at 4.4 looks.
    assert 10 * np.log10(filtered.mean()) - decibel(power).mean() == pytest.approx(0.51, abs=0.03)


def test_lee_leaves_an_edge_and_a_point_where_they_are():
    step = np.where(np.arange(40) < 20, 0.01, 0.1).astype("float32") * np.ones((40, 1), "float32")
    filtered = lee(step, looks())
    # A mean over the window would be 0.046 and 0.064 there.
    assert filtered[20, 19] < 0.025
    assert filtered[20, 20] > 0.075
    point = np.full((21, 21), 0.05, "float32")
    point[10, 10] = 50.0
    assert lee(point, looks())[10, 10] > 25.0


def test_filters_of_constant_or_empty_fields():
    even = np.full((9, 9), 0.2, "float32")
    np.testing.assert_allclose(lee(even, looks())[2:-2, 2:-2], 0.2, rtol=1e-7)
    assert np.isnan(lee(np.full((9, 9), np.nan, "float32"), looks())).all()
    alone = np.full((9, 9), np.nan, "float32")
    alone[4, 4] = 1.0
    assert np.isnan(lee(alone, looks())).all()
    assert window_mean(alone)[4, 4] == 1.0


def test_looks_lie_between_those_of_a_pixel_and_of_the_window(speckle):
    left = lee_looks(speckle(np.full((60, 60), 0.1)), looks())[2:-2, 2:-2]
    assert left.min() >= 4.4 * 0.999
    assert left.max() <= 4.4 * 25 * 1.001
    assert np.median(left) > 50


def test_more_looks_than_there_are_leave_more_of_the_speckle(speckle):
    power = speckle(np.full((200, 200), 0.05))
    spread = [lee(power, looks(number))[2:-2, 2:-2].std() for number in (2.0, 4.4, 20.0, 500.0)]
    assert (np.diff(spread) > 0).all()
    assert spread[-1] > 0.9 * power.std()


@pytest.mark.parametrize("resolution", [10.0, 30.0])
def test_variation_is_that_of_the_window(resolution):
    power, radius = holed((31, 37)), window_radius({}, grid(resolution))
    want = np.full(power.shape, np.nan)
    for r, c in zip(*np.nonzero(np.isfinite(power)), strict=True):
        window = power[max(r - radius, 0) : r + radius + 1, max(c - radius, 0) : c + radius + 1].astype("float64")
        good = window[np.isfinite(window)]
        if good.size >= (2 * radius + 1) ** 2 / 2:
            want[r, c] = good.std(ddof=1) / good.mean()
    np.testing.assert_allclose(variation(power, grid=grid(resolution)), want, rtol=1e-5)


def test_window_mean_is_the_mean_of_what_is_valid():
    values = holed((23, 29))
    want = np.full(values.shape, np.nan)
    for r, c in zip(*np.nonzero(np.isfinite(values)), strict=True):
        window = values[max(r - 2, 0) : r + 3, max(c - 2, 0) : c + 3].astype("float64")
        want[r, c] = np.nanmean(window)
    np.testing.assert_allclose(window_mean(values), want, rtol=1e-6)
    # A window that is no wider than a pixel may be one.
    wide = grid(resolution=30.0)
    np.testing.assert_array_equal(window_mean.kernel(values, grid=wide, least=0), values)
    assert (window_mean.kernel(values, grid=wide)[1:-1, 1:-1] != values[1:-1, 1:-1]).any()


@settings(max_examples=15, deadline=None)
@given(rows=cuts(41), cols=cuts(37), resolution=st.sampled_from([10.0, 30.0]))
def test_filters_give_the_same_bits_on_any_tiles(evaluate, rows, cols, resolution):
    node = load_node("s/post", "power", timed=False)
    scene = equivalent_looks(variation(node))
    outputs = {"lee": lee(node, scene), "looks": lee_looks(node, scene), "mean": window_mean(node), "variation": variation(node)}
    rasters = {"power": holed((41, 37))}
    whole, got = (evaluate({**outputs, "scene": scene}, rasters, tiles, resolution) for tiles in (None, Tiles(rows, cols)))
    np.testing.assert_array_equal(got.pop("scene")["looks"], whole.pop("scene")["looks"])
    for name, raster in whole.items():
        np.testing.assert_array_equal(got[name], raster, err_msg=name)
        assert np.isfinite(raster).sum() > 300


# Power and decibels


def test_decibels_of_power_have_a_floor_and_keep_nan():
    db = decibel(np.array([[1.0, 0.1, 1e-4, 1e-9, 0.0, np.nan]], "float32"))
    assert db.dtype == np.float32
    np.testing.assert_allclose(db[0, :5], [0, -10, -40, -40, -40], atol=1e-5)
    assert np.isnan(db[0, 5])


def test_usable_power_is_positive_and_seen():
    why = np.array([[0, 0, 0, 0, QC_FLAGS["layover_shadow"], QC_FLAGS["snow"]]], "uint16")
    got = usable_power(np.array([[0.1, 0.0, -0.2, np.inf, 0.1, 0.1]], "float32"), why)
    np.testing.assert_array_equal(np.isfinite(got), [[True, False, False, False, False, True]])


# Median


def medians(power, radius):
    size = 2 * radius + 1
    padded = np.pad(power, radius, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size)).reshape(*power.shape, size * size)
    known = np.isfinite(windows).sum(axis=2)
    ranked = np.sort(windows, axis=2)
    low, high = (np.take_along_axis(ranked, np.maximum(k, 0)[..., np.newaxis], axis=2)[..., 0] for k in ((known - 1) // 2, known // 2))
    middle = np.where(known % 2 == 1, low, np.float32(0.5) * (low + high))
    return np.where(np.isfinite(power) & (known >= size * size / 2), middle, np.nan)


@pytest.mark.parametrize(("resolution", "radius"), [(10.0, 1), (5.0, 3), (30.0, 1)])
def test_the_median_is_that_of_the_valid_pixels(resolution, radius):
    for power in (holed((41, 37)), holed((41, 37))[20:], np.full((5, 5), np.nan, "float32"), np.round(holed((30, 30)) * 20)):
        got = speckle_median.kernel(power, grid=grid(resolution))
        np.testing.assert_array_equal(got, medians(power, radius))


@settings(max_examples=200, deadline=None)
@given(rows=cuts(29), cols=cuts(23), seed=st.integers(0, 99))
def test_the_median_is_the_same_on_any_tiles(tiled, rows, cols, seed):
    power = holed((29, 23), seed)
    whole = tiled(speckle_median, power)
    np.testing.assert_array_equal(tiled(speckle_median, power, tiles=Tiles(rows, cols)), whole)
    np.testing.assert_array_equal(whole, medians(power, 1))


def test_the_median_leaves_an_edge_where_it_is_and_a_mean_in_power_does_not():
    """Mistake: filtering power by a mean where narrow dark water is sought. Land is 10 dB brighter, water three pixels wide."""
    scene = np.full((21, 21), 1.0, "float32")
    scene[:, 9:12] = 0.1
    median, mean = speckle_median.kernel(scene, grid=grid()), window_mean.kernel(scene, grid=grid(), reach=15.0)
    np.testing.assert_array_equal(median[2:-2] < 0.3, scene[2:-2] < 0.3)
    assert (mean[2:-2] < 0.3).sum() == (scene[2:-2] < 0.3).sum() / 3


def test_the_looks_of_a_median_by_simulation(speckle):
    power = speckle(np.ones((400, 400)), looks=12.0)
    filtered = speckle_median.kernel(power, grid=grid())[2:-2, 2:-2]
    told = median_looks.kernel(power, looks(12.0), grid=grid())
    assert told[5, 5] == pytest.approx(9 * 12 * MEDIAN_EFFICIENCY)
    assert (filtered.mean() / filtered.std()) ** 2 == pytest.approx(told[5, 5], rel=0.1)
    # It lies 1 / (3 looks) below the mean, which the description admits.
    assert filtered.mean() == pytest.approx(1 - 1 / 36, abs=0.005)
    power[:, :200] = np.nan
    np.testing.assert_array_equal(
        np.isnan(median_looks.kernel(power, looks(), grid=grid())), np.isnan(speckle_median.kernel(power, grid=grid()))
    )


def test_the_reach_of_a_mean_is_a_parameter():
    values = holed((40, 40))
    near, far = window_mean.kernel(values, grid=grid(), reach=15.0), window_mean.kernel(values, grid=grid())
    ones = np.ones((40, 40), "float32")
    ones[20, 20] = 0.0
    assert (window_mean.kernel(ones, grid=grid(), reach=15.0) < 1).sum() == 9
    assert (window_mean.kernel(ones, grid=grid()) < 1).sum() == 25
    assert np.nanstd(near) > np.nanstd(far)
