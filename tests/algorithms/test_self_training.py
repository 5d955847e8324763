"""A classifier that the scene trains itself: known statistics, floods on its own land, refusals, radar as well as optics."""

import numpy as np
import pytest
import xarray as xr

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms.self_training import LAND, NONE, WATER, discriminant, discriminant_odds, self_trained, training_zones, undisputed
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, load_node

GRID = Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=(100, 100))
UNTAUGHT = QC_FLAGS["insufficient_background"]


def classes(mean, covariance=((0.01, 0.0), (0.0, 0.01)), count=(10_000, 10_000)):
    return {"count": np.array(count), "mean": np.array(mean), "covariance": np.array([covariance, covariance])}


def test_rule_is_fishers_and_that_of_bayes_for_equal_normals():
    mean, covariance = [(0.5, 0.2), (-0.3, -0.1)], np.array([(0.02, 0.01), (0.01, 0.03)])
    rule = discriminant(classes(mean, covariance), grid=GRID, spread=0.0)
    x = np.array([[0.1]], "float32"), np.array([[0.4]], "float32")
    point = np.array([0.1, 0.4])
    log_odds = [-0.5 * (point - m) @ np.linalg.solve(covariance, point - m) for m in np.array(mean)]
    assert discriminant_odds(rule, *x)[0, 0] == pytest.approx(log_odds[0] - log_odds[1], rel=1e-5)


@pytest.mark.parametrize(
    "told",
    [
        classes([(0.5, 0.2), (-0.3, -0.1)], count=(499, 10_000)),
        classes([(0.5, 0.2), (-0.3, -0.1)], count=(10_000, 499)),
        classes([(0.05, 0.0), (-0.05, 0.0)]),
        classes([(np.nan, np.nan), (0.0, 0.0)], count=(0, 10_000)),
    ],
)
def test_too_little_or_too_like_is_no_rule(told):
    rule = discriminant(told, grid=GRID)
    assert not rule["usable"]
    assert np.isnan(discriminant_odds(rule, np.zeros((2, 2), "float32"), np.zeros((2, 2), "float32"))).all()


def test_zones_and_what_is_left_out_of_them():
    occurrence = np.array([[100.0, 90.0, 89.9, 1.0, 0.0, np.nan]], "float32")
    zones = training_zones(occurrence, None)
    assert zones[0].tolist() == [WATER, WATER, NONE, NONE, LAND, NONE]
    assert training_zones(occurrence, np.ones(occurrence.shape, bool))[0].tolist() == [WATER, WATER, NONE, NONE, NONE, NONE]
    odds = np.array([[1.0, -1.0, 1.0, 1.0, 1.0, np.nan]], "float32")
    assert undisputed(zones, odds)[0].tolist() == [WATER, NONE, NONE, NONE, NONE, NONE]
    # A pixel that was not seen disputes nothing; it has no number to teach either.
    assert undisputed(np.array([[LAND]], "uint8"), np.array([[np.nan]], "float32")).tolist() == [[LAND]]


def scene(flooded=0.3, river=5, n=100, seed=0):
    """A clear river, a muddy flood over land that was never seen wet, and meadows."""
    rng = np.random.default_rng(seed)
    cols = np.indices((n, n))[1]
    permanent, wet = cols < river, cols < river + flooded * n
    kinds = np.where(permanent, 0, np.where(wet, 1, 2))
    spectra = np.array([(0.07, 0.05, 0.02, 0.01), (0.13, 0.14, 0.09, 0.03), (0.08, 0.06, 0.35, 0.22)])
    noisy = (spectra[kinds] * (1 + rng.normal(0, 0.15, (n, n, 1))) + rng.normal(0, 0.006, (n, n, 4))).astype("float32")
    coords = {"y": 5e6 - 10.0 * np.arange(n), "x": 5e5 + 10.0 * np.arange(n)}
    post = xr.Dataset({b: (("y", "x"), noisy[..., i]) for i, b in enumerate(("green", "red", "nir08", "swir16"))}, coords=coords)
    return post, xr.Dataset({"occurrence": (("y", "x"), np.where(permanent, 100.0, 0.0).astype("float32"))}, coords=coords), wet


@pytest.mark.parametrize("bands", [("green", "red", "nir08", "swir16"), ("green", "red", "nir08")])
@pytest.mark.parametrize("flooded", [0.0, 0.1, 0.3, 0.6, 0.85])
def test_a_flood_on_land_that_teaches_land_is_found(bands, flooded):
    post, static, wet = scene(flooded, river=8)
    got = mdive.apply("flood.self_trained", post[list(bands)], static)
    water = np.isin(got.extent.values, (flood.FLOOD, flood.PERMANENT_WATER))
    assert (water == wet).mean() > 0.97
    assert (got.extent.values[static.occurrence.values == 100] == flood.PERMANENT_WATER).mean() > 0.97
    assert not (got.qc.values & UNTAUGHT).any()


@pytest.mark.parametrize("river", [0, 4])
def test_too_little_permanent_water_is_refused(river):
    """Four columns of a hundred are 4 ha, less than the 5 that are asked for: no map is better than one of nothing."""
    post, static, _ = scene(river=river)
    got = mdive.apply("flood.self_trained", post, static)
    assert (got.extent == 255).all()
    assert (got.qc.values & UNTAUGHT).all()
    assert np.isnan(got.probability).all()
    assert (mdive.apply("flood.self_trained", post, static, minimum_training=2.0).extent != 255).all() == (river > 0)


def test_clouded_water_teaches_nothing():
    post, static, _ = scene(river=8)
    mask = np.where(static.occurrence.values == 100, QC_FLAGS["cloud"], 0).astype("uint16")
    got = mdive.apply("flood.self_trained", post.assign(mask=(("y", "x"), mask)), static, cloud_margin=0.0)
    clear = mask == 0
    assert (got.extent.values[clear] == 255).all()
    assert (got.qc.values[clear] & UNTAUGHT).all()


def test_backscatter_serves_as_well(evaluate, speckle):
    """The same rule on decibels: VV and VH of a river and a field, in any tiles."""
    cols = np.indices((60, 80))[1]
    occurrence = np.where(cols < 15, 100.0, 0.0).astype("float32")
    wet = cols < 35
    rasters = {"occurrence": occurrence}
    for name, (water, land), seed in (("vv", (-19.0, -10.0), 1), ("vh", (-26.0, -17.0), 2)):
        rasters[name] = (10 * np.log10(speckle(10 ** (np.where(wet, water, land) / 10), looks=20.0, seed=seed))).astype("float32")
    nodes = {b: load_node("s/post", b, timed=False) for b in rasters}
    odds, _ = self_trained(
        nodes["occurrence"], None, nodes["vv"], nodes["vh"], step=0.01, spread=1.0, minimum_area=1.0, permanent_water=90.0
    )
    whole = evaluate({"odds": odds}, rasters)["odds"]
    assert ((whole > 0) == wet).mean() > 0.99
    np.testing.assert_array_equal(evaluate({"odds": odds}, rasters, Tiles((0, 7, 8, 31, 60), (0, 1, 44, 80)))["odds"], whole)


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_probability_is_reliable_where_land_and_water_are_alike(share):
    """Where they part by a margin every probability is 0.01 or 0.99, and any curve through both would do; here one pixel in ten is in doubt."""
    rng = np.random.default_rng(8)
    shape = (300, 300)
    wet, permanent = np.zeros(shape, bool), np.zeros(shape, bool)
    wet[:, : int(share * shape[1])] = permanent[:, :24] = True
    ndwi, mndwi = (np.clip(np.where(wet, 0.2, -0.2) + rng.normal(0.0, 0.15, shape), -0.95, 0.95) for _ in range(2))
    green, nir08 = 0.1 * (1.0 + ndwi), 0.1 * (1.0 - ndwi)
    bands = {"green": green, "red": green, "nir08": nir08, "swir16": green * (1.0 - mndwi) / (1.0 + mndwi)}
    coords = {"y": 5e6 - 20.0 * np.arange(shape[0]), "x": 5e5 + 20.0 * np.arange(shape[1])}
    post = xr.Dataset({b: (("y", "x"), v.astype("float32")) for b, v in bands.items()}, coords=coords)
    static = xr.Dataset({"occurrence": (("y", "x"), np.where(permanent, 95.0, 0.0).astype("float32"))}, coords=coords)
    p = mdive.apply("flood.self_trained", post, static).probability.values.astype("float64")
    assert ((p > 0.05) & (p < 0.95)).mean() > 0.1
    gaps = np.bincount(np.minimum((p * 20).astype(int), 19).ravel(), (p - wet).ravel(), 20)
    assert np.abs(gaps).sum() / p.size <= 0.05
