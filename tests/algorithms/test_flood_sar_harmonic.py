"""Flood against the year of each pixel: simulated stacks of known truth, every reason to say nothing, the published model, any tiling."""

import inspect
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms import tables
from mdive.algorithms.flood_sar_harmonic import (
    EITHER,
    INSEPARABLE,
    NO_ANGLE,
    NO_SEASON,
    STRANGE,
    WATER_DEVIATION,
    exclusion,
    sar_harmonic,
    water_model,
    water_posterior,
    window_median,
)
from mdive.errors import InputError
from mdive.model.flags import QC_FLAGS
from mdive.pipeline import Tiles, load_node
from mdive.plugins import Bundle

START, AFTER = datetime(2021, 1, 5, 5, tzinfo=UTC), datetime(2022, 6, 1, 5, tzinfo=UTC)
TIMES = [START + timedelta(days=12 * k) for k in range(40)]
SHAPE = (160, 160)


@pytest.fixture(scope="session")
def analyse(evaluate):
    def run(pre, post, tiles=None, resolution=20.0, pre_times=TIMES, geometry=(None, None), post_mask=None, static_mask=None, **static):
        parameters = {k: static.pop(k) for k in ("calibration", "minimum_mapping_unit") if k in static}
        rasters = {"pre_vv": pre, "post_vv": post[np.newaxis], "pre_mask": np.zeros(pre.shape, "uint16")}
        rasters["post_mask"] = (np.zeros(post.shape, "uint16") if post_mask is None else post_mask)[np.newaxis]
        rasters |= {name: value.astype("float32")[np.newaxis] for name, value in static.items()}
        bundles = [
            Bundle(vv=load_node(p, f"{p}_vv"), mask=load_node(p, f"{p}_mask", dtype="uint16"), times=t, geometry=g)
            for p, t, g in (("pre", pre_times, geometry[0]), ("post", [AFTER], geometry[1]))
        ]
        layers = {k: load_node("static", k) if k in static else None for k in ("incidence", "hand", "occurrence")}
        lost = None
        if static_mask is not None:
            rasters["static_mask"], lost = static_mask[np.newaxis], load_node("static", "static_mask", dtype="uint16")
        return evaluate(sar_harmonic(*bundles, Bundle(**layers, mask=lost), **parameters), rasters, tiles, resolution)

    return run


@pytest.fixture(scope="session")
def simulate(speckle):
    """``simulate(water, when, seed)``: VV power; land with a season of ± 1.5 dB, water by the published model."""

    def make(water, when, seed, land=-10.0, angle=None):
        rng = np.random.default_rng(seed)
        texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=water.shape), 3) * 3
        year = (when - datetime(when.year, 1, 1, tzinfo=UTC)).days / 365.25
        ground = land + texture + 1.5 * np.sin(2 * np.pi * year) + 0.7 * rng.normal()
        mean, _ = water_model(angles(water.shape) if angle is None else angle, "gamma0")
        return speckle(10 ** (np.where(water, mean + 2.0 * rng.normal(), ground) / 10), seed=seed)

    return make


@pytest.fixture(scope="session")
def stack(simulate):
    return np.stack([simulate(old(), when, k) for k, when in enumerate(TIMES)])


def angles(shape=SHAPE):
    return np.broadcast_to(np.linspace(30, 45, shape[1], dtype="float32"), shape)


def blobs(share, seed):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 12)
    return field > np.quantile(field, 1 - share)


def old():
    return blobs(0.06, 9)


def cell(*values):
    return tuple(np.full((1, 1), v, "float32") for v in values)


# The model


def test_land_and_water_keep_their_own_deviations():
    """The two are never mixed: with sigma of land 1 and of water 2.75 the posterior is that of two normal densities."""
    angle, (db, expected, deviation) = 38.0, (-16.0, -9.0, 1.0)
    mean = -0.394181 * angle - 4.142015
    flood_, land = stats.norm.pdf(db, mean, 2.754041), stats.norm.pdf(db, expected, deviation)
    blocks = (*cell(db, expected, deviation), *cell(angle))
    none = np.zeros((1, 1), "uint8")
    assert water_posterior(*blocks, none, calibration="sigma0")[0, 0] == pytest.approx(flood_ / (flood_ + land), rel=1e-6)
    # What one deviation for both would say of the same pixel.
    mixed = stats.norm.pdf(db, mean, 2.754041) / (stats.norm.pdf(db, mean, 2.754041) + stats.norm.pdf(db, expected, 2.754041))
    assert abs(mixed - flood_ / (flood_ + land)) > 0.03


def test_gamma0_and_sigma0_are_not_the_same():
    angle = np.array([[30.0, 40.0]])
    difference = water_model(angle, "gamma0")[0] - water_model(angle, "sigma0")[0]
    np.testing.assert_allclose(difference, [[0.625, 1.157]], atol=1e-3)


def test_an_angle_that_nobody_tells_makes_water_uncertain():
    mean, spread = water_model(None, "sigma0")
    low, high = (water_model(np.array(a), "sigma0")[0] for a in (29.1, 46.0))
    assert mean == pytest.approx((low + high) / 2)
    assert spread == pytest.approx(np.sqrt(WATER_DEVIATION**2 + (low - high) ** 2 / 12))


@pytest.mark.parametrize(
    ("db", "expected", "deviation", "angle", "reason"),
    [
        (-20.0, -9.0, 1.0, 38.0, 0),
        (-9.0, -9.0, 1.0, 38.0, 0),
        (-20.0, np.nan, np.nan, 38.0, NO_SEASON),
        (-20.0, -9.0, 1.0, 26.9, NO_ANGLE),
        (-20.0, -9.0, 1.0, 48.1, NO_ANGLE),
        (-20.0, -9.0, 1.0, np.nan, NO_ANGLE),
        (-20.0, -17.9, 1.0, 38.0, INSEPARABLE),
        (-4.0, -9.0, 1.0, 38.0, STRANGE),
        (-13.55, -9.0, 2.0, 38.0, EITHER),
    ],
)
def test_every_reason_to_say_nothing(db, expected, deviation, angle, reason):
    assert exclusion(*cell(db, expected, deviation, angle), calibration="sigma0")[0, 0] == reason


def test_the_median_is_that_of_what_is_there():
    values = np.random.default_rng(0).random((30, 40)).astype("float32")
    values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan
    wide = np.pad(values, 2, constant_values=np.nan)
    views = np.stack([wide[i : i + 30, j : j + 40] for i in range(5) for j in range(5)])
    want = np.where(np.isnan(values), np.nan, np.nanmedian(views, axis=0))
    np.testing.assert_allclose(window_median(values), want, rtol=1e-6)


# Simulated stacks


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_flood_is_found_and_calibrated(analyse, simulate, stack, told, share):
    truth = blobs(share, 3) & ~old() if share else np.zeros(SHAPE, bool)
    got = analyse(stack, simulate(truth | old(), AFTER, 999), **({"incidence": angles()} if told else {}))
    extent, said = got["extent"], got["extent"] < flood.HAND_MASKED
    wet = extent == flood.FLOOD
    assert (wet & ~truth).mean() < 0.015
    if share:
        assert (wet & truth)[said].sum() / (wet | truth)[said].sum() > 0.9
        assert said[truth].mean() > 0.9
    # Where land is as dark as water, nothing is said.
    assert said[old()].mean() < 0.35
    assert (got["qc"][ndimage.binary_erosion(old(), iterations=4)] & QC_FLAGS["insufficient_background"] != 0).all()
    p = np.rint(got["probability"][said] * 10_000).astype("int64")
    gaps = np.bincount(np.minimum(p // 500, 19), p - 10_000 * truth[said], 20)
    assert np.abs(gaps).sum() / (10_000 * said.sum()) <= 0.05
    assert (p[wet[said]] >= 5_000).all()
    assert np.nanmax(got["confidence"]) <= (1.0 if told else 0.6)
    assert ((got["qc"][said] & QC_FLAGS["incidence"]) != 0).all() == (not told)


def test_a_leap_year_does_not_move_the_season(analyse, simulate, stack):
    """The same stack four years later: day 60 is another one, the season is not."""
    post = simulate(blobs(0.2, 3) | old(), AFTER, 999)
    leap = [t.replace(year=t.year + 3) for t in TIMES]
    one, other = analyse(stack, post), analyse(stack, post, pre_times=leap)
    assert (one["extent"] == other["extent"]).mean() > 0.995


def test_permanent_water_by_map_and_heights(analyse, simulate, stack):
    truth = blobs(0.2, 3) & ~old()
    occurrence = np.where(old(), 90.0, 0.0)
    hand = np.where(np.arange(SHAPE[1]) < 80, 1.0, 60.0) * np.ones((SHAPE[0], 1))
    got = analyse(stack, simulate(truth | old(), AFTER, 999), occurrence=occurrence, hand=hand, incidence=angles())
    extent = got["extent"]
    assert (extent[old()] == flood.PERMANENT_WATER).mean() > 0.8
    assert (got["probability"][extent == flood.PERMANENT_WATER] == 0).all()
    assert not (extent[hand > 20] == flood.FLOOD).any()
    assert (extent[truth & (hand > 20)] == flood.HAND_MASKED).mean() > 0.8


def test_a_map_that_could_not_be_read_is_told(analyse, simulate, stack):
    lost = np.broadcast_to(np.arange(SHAPE[1]) < 80, SHAPE)
    occurrence = np.where(lost, np.nan, 0.0)
    failed = np.where(lost, QC_FLAGS["read_failure"], 0).astype("uint16")
    post = simulate(blobs(0.2, 3) | old(), AFTER, 999)
    got, calm = (analyse(stack, post, occurrence=occurrence, static_mask=m) for m in (failed, np.zeros_like(failed)))
    flooded = lost & (got["extent"] == flood.FLOOD)
    assert flooded.sum() > 500
    np.testing.assert_array_equal(got["extent"], calm["extent"])
    np.testing.assert_array_equal(got["qc"], calm["qc"] | np.where(flooded, QC_FLAGS["insufficient_background"], 0))
    np.testing.assert_allclose(got["confidence"], np.where(flooded, 0.5, 1.0) * calm["confidence"], rtol=1e-6)


def test_what_was_not_seen_or_hardly_seen_is_never_dry(analyse, simulate, stack):
    stack = stack.copy()
    stack[4:, 100:120, 20:60] = np.nan
    post = simulate(blobs(0.2, 3), AFTER, 999)
    post[60:80, 20:60] = np.nan
    mask = np.zeros(SHAPE, "uint16")
    mask[20:40, 20:60] = QC_FLAGS["layover_shadow"]
    got = analyse(stack, post, post_mask=mask)
    assert (got["extent"][20:40, 20:60] == flood.LAYOVER_SHADOW).all()
    assert (got["extent"][60:80, 20:60] == tables.FILL).all()
    few = np.s_[100:120, 20:60]
    assert (got["extent"][few] == tables.FILL).all()
    flags = QC_FLAGS["insufficient_background"] | QC_FLAGS["low_n_obs"]
    assert (got["qc"][few] & flags == flags).all()
    unseen = got["extent"] >= flood.HAND_MASKED
    for name in ("probability", "confidence", "uncertainty"):
        np.testing.assert_array_equal(np.isnan(got[name]), unseen, err_msg=name)


def test_too_few_scenes_and_other_orbits_and_no_times_are_refused(analyse, simulate, stack):
    post = simulate(old(), AFTER, 999)
    with pytest.raises(InputError, match="needs 32 radar scenes.*there are 31"):
        analyse(stack[:31], post, pre_times=TIMES[:31])
    with pytest.raises(InputError, match="geometries look like change"):
        analyse(stack, post, geometry=([(15, None)] * 39 + [(22, None)], [(15, None)]))
    with pytest.raises(InputError, match="needs the time of each radar scene"):
        analyse(stack, post, pre_times=None)


# Exactness


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_same_bits_on_any_tiles(analyse, awkward, data):
    scenes, whole = awkward
    rows, cols = (
        data.draw(st.sets(st.integers(1, n - 1), max_size=2).map(lambda s, n=n: (0, *sorted(s), n)), label=label)
        for n, label in ((30, "rows"), (26, "cols"))
    )
    got = analyse(**scenes, tiles=Tiles(rows, cols))
    for name, raster in whole.items():
        np.testing.assert_array_equal(got[name], raster, err_msg=name)


@pytest.fixture(scope="session")
def awkward(analyse, simulate):
    shape, rng = (30, 26), np.random.default_rng(7)
    water, lake = np.zeros((2, *shape), bool)
    water[4:20, 3:16], lake[22:28, 4:12] = True, True
    pre = np.stack([simulate(lake, when, k) for k, when in enumerate(TIMES)])
    pre[rng.random(pre.shape) < 0.05] = np.nan
    pre[9:, 8:11, 18:22] = np.nan
    post = simulate(water | lake, AFTER, 999)
    post[0:3, 0:3] = np.nan
    incidence = angles(shape).copy()
    incidence[:, 24:] = 50.0
    occurrence = np.where(lake, 90.0, 0.0)
    scenes = {"pre": pre, "post": post, "incidence": incidence, "occurrence": occurrence, "minimum_mapping_unit": 0.2}
    whole = analyse(**scenes)
    assert {0, flood.FLOOD, flood.PERMANENT_WATER, 255} <= set(np.unique(whole["extent"]))
    return scenes, whole


def test_xarray_with_times_of_its_own(simulate, stack):
    small = np.s_[..., :60, :50]
    times = np.array([t.replace(tzinfo=None) for t in TIMES], "datetime64[ns]")
    place = {"y": 5e6 - 10 - 20.0 * np.arange(60), "x": 5e5 + 10 + 20.0 * np.arange(50)}
    pre = xr.Dataset({"vv": (("time", "y", "x"), stack[small])}, coords={**place, "time": times})
    post = simulate(blobs(0.2, 3), AFTER, 999)[np.newaxis][small]
    after = np.array([AFTER.replace(tzinfo=None)], "datetime64[ns]")
    post = xr.Dataset({"vv": (("time", "y", "x"), post)}, coords={**place, "time": after})
    whole = mdive.apply("flood.sar_harmonic", pre, post)
    lazy = mdive.apply("flood.sar_harmonic", pre.chunk(y=23, x=19, time=7), post.chunk(y=23, x=19))
    assert lazy.compute(scheduler="sync").equals(whole)
    with pytest.raises(InputError, match="nobody tells it"):
        mdive.apply("flood.sar_harmonic", pre.drop_vars("time"), post)


def test_the_declaration_names_what_it_returns():
    spec = sar_harmonic.__mdive_algorithm__
    assert [o.name for o in spec.outputs] == ["extent", "probability", "confidence", "uncertainty", "qc"]
    text = inspect.getdoc(sar_harmonic)
    assert all(name in text for name in spec.parameters)
