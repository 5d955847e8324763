"""Water from one radar scene: simulated scenes of known truth, what must never be called dry, any tiling, and real labelled chips."""

import inspect

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mdive.algorithms import flood_tables as flood
from mdive.algorithms import tables
from mdive.algorithms.flood_sar_threshold import sar_threshold
from mdive.algorithms.sar_water import FALLBACK_QUALITY, FALLBACK_SUPPORT, seeds, smoothed
from mdive.errors import InputError
from mdive.model.flags import QC_FLAGS
from mdive.pipeline import Tiles, load_node
from mdive.pipeline.window import Window
from mdive.plugins import Bundle
from mdive.quality.assess import HIGH_PROBABILITY, LOW_PROBABILITY
from mdive.testing._cover import FARMLAND, cover
from mdive.testing._landscape import LOWLAND, Landscape
from mdive.testing._sar import Radar, backscatter

STATIC = ("hand", "occurrence", "slope", "dem", "landcover")
LAND, WATER = (-9.5, -16.0), (-20.0, -27.0)
"""(VV, VH) in dB of calm water and of land with crops, Sentinel-1 at 38 degrees."""


@pytest.fixture(scope="session")
def analyse(evaluate):
    def run(vv, vh, mask=None, static_mask=None, tiles=None, resolution=10.0, outputs=None, **given_):
        ground = {k: given_.pop(k, None) for k in STATIC}
        parameters = given_
        rasters = {"vv": vv, "vh": vh, "mask": np.zeros(vv.shape, "uint16") if mask is None else mask}
        rasters |= {k: v for k, v in {**ground, "static_mask": static_mask}.items() if v is not None}
        post = Bundle(vv=load_node("s1/post", "vv"), vh=load_node("s1/post", "vh"), mask=load_node("s1/post", "mask", dtype="uint16"))
        static = Bundle(**{k: load_node("dem/static", k) if k in rasters else None for k in STATIC}, mask=None)
        if static_mask is not None:
            static.mask = load_node("dem/static", "static_mask", dtype="uint16")
        timed = {k: v if v.ndim == 3 else v[np.newaxis] for k, v in rasters.items()}
        nodes = sar_threshold(post, static, **parameters)
        return evaluate({name: nodes[name] for name in outputs or nodes}, timed, tiles, resolution)

    return run


@pytest.fixture(scope="session")
def simulate(speckle):
    """``simulate(water)``: linear power in both polarisations of a scene whose water is known."""

    def make(water, land=LAND, sea=WATER, seed=0, looks=4.4):
        texture = ndimage.gaussian_filter(np.random.default_rng(seed + 100).normal(size=water.shape), 3) * 3
        bands = []
        for i in range(2):
            db = np.where(water, sea[i], land[i] + texture)
            bands.append(speckle(10 ** (db / 10), looks=looks, seed=seed + i))
        return bands

    return make


def blobs(shape=(384, 384), share=0.2, seed=0):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 15)
    return field > np.quantile(field, 1 - share)


def scores(extent, truth):
    wet, said = np.isin(extent, (flood.FLOOD, flood.PERMANENT_WATER)), extent < flood.HAND_MASKED
    tp, fp, fn = (int((said & a & b).sum()) for a, b in ((wet, truth), (wet, ~truth), (~wet, truth)))
    return tp, fp, fn


# Simulated scenes


@pytest.mark.parametrize("share", [0.005, 0.01])
def test_little_water_in_a_scene_finds_a_threshold_of_its_own(analyse, simulate, share):
    """Wet land beside rough water: by the published thresholds neither is sure, and no window has enough water to show as a mode."""
    truth = blobs(share=share)
    got = analyse(*simulate(truth, sea=(-17.5, -24.5)))
    tp, fp, fn = scores(got["extent"], truth)
    assert tp / (tp + fp + fn) > 0.6
    assert (got["qc"] & QC_FLAGS["threshold_fallback"] == 0).any()


def test_a_dark_field_with_a_darker_spot_is_no_water(analyse, simulate):
    """Mistake: one seed for a body of any size. The field is dark enough to belong to a water body, and not to be one."""
    truth = np.zeros((384, 384), bool)
    truth[40:340, 40:140] = True
    vv, vh = simulate(truth)
    for band, water, dark in ((vv, WATER[0], -14.8), (vh, WATER[1], -21.2)):
        spot = np.full((200, 150), dark)
        spot[90:100, 70:80] = water
        band[100:300, 200:350] = 10 ** (spot / 10) * np.random.default_rng(6).gamma(40.0, 1 / 40, spot.shape)
    extent = analyse(vv, vh, looks=4.4)["extent"]
    assert (extent[100:300, 200:350] == flood.FLOOD).mean() < 0.05
    assert (extent[truth] == flood.FLOOD).mean() > 0.9
    # It is that rule, and no other: with one seed the field is water.
    one = analyse(vv, vh, looks=4.4, seed_share=0.0)["extent"]
    assert (one[100:300, 200:350] == flood.FLOOD).mean() > 0.5


def test_the_less_the_scene_says_the_surer_a_seed_must_be():
    evidence = np.array([[0.1, 0.8, 1.6, np.nan]], "float32")
    every = np.ones((1, 4), bool)
    for support, want in ((0.0, [0, 0, 1, 0]), (0.25, [0, 1, 1, 0]), (FALLBACK_SUPPORT, [1, 1, 1, 1])):
        one, none = np.full((1, 4), support, "float32"), np.zeros((1, 4), "float32")
        for pair in ((one, none), (none, one)):
            np.testing.assert_array_equal(seeds.kernel(every, evidence, *pair), np.array([want], bool))
        assert not seeds.kernel(~every, evidence, one, one).any()


def test_the_decision_weighs_neighbours_1_2_3_2_1(evaluate):
    spike = np.zeros((11, 11), "float32")
    spike[5, 5] = 81.0
    got = evaluate({"out": smoothed(load_node("s/post", "spike", timed=False))}, {"spike": spike})["out"]
    np.testing.assert_allclose(got[3:8, 3:8], np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]), rtol=1e-6)


@pytest.mark.parametrize("share", [0.03, 0.2, 0.6])
def test_simulated_water_is_found(analyse, simulate, share):
    truth = blobs(share=share)
    got = analyse(*simulate(truth))
    tp, fp, fn = scores(got["extent"], truth)
    assert 2 * tp / (2 * tp + fp + fn) > 0.9
    for name, dtype in {
        "extent": "uint8",
        "probability": "float32",
        "confidence": "float32",
        "uncertainty": "float32",
        "qc": "uint16",
    }.items():
        assert got[name].dtype == dtype
        assert got[name].shape == truth.shape


def test_thresholds_follow_the_scene(analyse, simulate):
    """Rough water beside wet, bright land is brighter than the published thresholds; the scene's own two modes say where they part."""
    truth = blobs(share=0.3)
    got = analyse(*simulate(truth, land=(-7.0, -14.0), sea=(-16.5, -22.5)))
    tp, fp, fn = scores(got["extent"], truth)
    assert tp / (tp + fp + fn) > 0.85
    assert not (got["qc"] & QC_FLAGS["threshold_fallback"]).any()


@pytest.mark.parametrize("land", [LAND, (-12.5, -19.0), (-14.0, -21.0), (-6.0, -12.0)])
def test_a_scene_of_land_alone_has_no_water_and_says_why_it_is_less_sure(analyse, simulate, land):
    got = analyse(*simulate(np.zeros((384, 384), bool), land=land))
    said = got["extent"] < flood.HAND_MASKED
    assert (got["extent"][said] == flood.NOT_WATER).mean() > 0.999
    assert (got["qc"][said] & QC_FLAGS["threshold_fallback"] != 0).all()
    assert np.nanmax(got["confidence"]) <= FALLBACK_QUALITY


def test_dark_water_is_found_where_nothing_else_is_seen(analyse, simulate):
    got = analyse(*simulate(np.ones((200, 200), bool), sea=(-22.0, -29.0)))
    assert (got["extent"] == flood.FLOOD).mean() > 0.95
    assert np.nanmax(got["confidence"]) <= FALLBACK_QUALITY


def test_wind_on_the_water_is_outvoted_by_the_cross_polarised_channel(analyse, simulate):
    truth = blobs(share=0.3)
    calm, windy = simulate(truth), simulate(truth, sea=(-12.5, -27.0))
    alone = analyse(windy[0], windy[0])
    both = analyse(*windy)
    tp, fp, fn = scores(both["extent"], truth)
    assert tp / (tp + fp + fn) > 0.8
    assert sum(scores(alone["extent"], truth)[1:]) > 2 * (fp + fn)
    assert (both["qc"] & QC_FLAGS["conflict"]).sum() > 20 * (analyse(*calm)["qc"] & QC_FLAGS["conflict"]).sum()


def test_probability_agrees_with_the_class_and_is_calibrated(analyse, simulate):
    truth = blobs(share=0.3)
    got = analyse(*simulate(truth, land=(-12.0, -18.5), sea=(-18.0, -25.0)))
    # The corners of a raster beyond which nothing is known lose too much of their filter window.
    said = got["extent"] < flood.HAND_MASKED
    assert said.sum() >= said.size - 12
    p = np.where(said, got["probability"], truth)
    assert (p[got["extent"] == flood.FLOOD] >= 0.5).all()
    assert (p[got["extent"] == flood.NOT_WATER] < 0.5).all()
    sure = p > 0.9
    assert truth[sure].mean() > 0.95
    assert truth[p < 0.1].mean() < 0.05
    assert np.mean((p - truth) ** 2) < 0.05
    # No pixel is surer than one polarisation that may be misled allows for.
    assert np.nanmax(got["probability"]) < 0.99
    assert np.nanmin(got["uncertainty"]) > 0.3
    assert np.nanmax(got["uncertainty"]) < 4.0


def test_probability_is_reliable_on_average(analyse, simulate):
    """Expected calibration error over 20 bins, of scenes whose water is easy, hard, rare and absent, and of landscapes."""
    gaps, pixels = np.zeros(20), 0
    scenes = []
    for seed, (share, land, sea) in enumerate(
        [(0.3, LAND, WATER), (0.1, LAND, WATER), (0.4, (-12.0, -18.5), (-18.0, -25.0)), (0.02, LAND, WATER), (0.0, LAND, WATER)]
    ):
        truth = blobs(share=share, seed=seed) if share else np.zeros((384, 384), bool)
        scenes.append((*simulate(truth, land=land, sea=sea, seed=seed), truth))
    scenes += [landscape(seed, 384) for seed in range(3)]
    for vv, vh, truth in scenes:
        p = analyse(vv, vh)["probability"]
        known = np.isfinite(p)
        bins = np.clip((p[known] * 20).astype(int), 0, 19)
        gaps += np.bincount(bins, p[known] - truth[known], 20)
        pixels += known.sum()
    assert np.abs(gaps).sum() / pixels < 0.05


def landscape(seed, size):
    """A river flood on a synthetic landscape with its covers, wind and calibration error: linear power in both polarisations, and the water."""
    rng = np.random.default_rng(seed)
    terrain, window = Landscape(seed, (size, size), 10.0, LOWLAND, float(rng.uniform(0.5, 3.9))), Window(0, 0, size, size)
    land = terrain.window(window)
    ground = cover(terrain, FARMLAND, window, land)
    radar = Radar(looks=rng.choice([4.4, 7.0, 12.0]), wind=rng.uniform(), moisture=rng.uniform(0, 1.5), incidence=rng.uniform(31, 44))
    db = backscatter(terrain, window, land, ground, radar, phase="post", flooded=True)
    vv, vh = ((10 ** ((db[band] + rng.normal(0, 0.4)) / 10)).astype("float32") for band in ("vv", "vh"))
    return vv, vh, (land.depth > 0) | land.permanent


@pytest.mark.slow
def test_the_bounds_of_the_area_hold_the_truth_in_200_floods(analyse):
    """The bounds that a run reports, of floods that differ in stage, speckle, wind, soil, incidence and calibration."""
    held = 0
    for seed in range(200):
        vv, vh, truth = landscape(seed, 192)
        got = analyse(vv, vh, outputs=("extent", "probability"))
        water, p = got["extent"] == flood.FLOOD, np.nan_to_num(got["probability"])
        low, high = (water & (p >= LOW_PROBABILITY)).sum(), (water | (p >= HIGH_PROBABILITY)).sum()
        held += low <= (truth & (got["extent"] < flood.HAND_MASKED)).sum() <= high
    assert held >= 170


@pytest.mark.parametrize(("resolution", "looks"), [(20.0, 12.0), (30.0, 30.0), (60.0, 100.0)])
@pytest.mark.parametrize("given_looks", [True, False])
def test_other_resolutions(analyse, simulate, resolution, looks, given_looks):
    truth = blobs(share=0.25)
    parameters = {"looks": looks} if given_looks else {}
    tp, fp, fn = scores(analyse(*simulate(truth, looks=looks), resolution=resolution, **parameters)["extent"], truth)
    assert tp / (tp + fp + fn) > 0.8


@pytest.mark.parametrize("sea", [WATER, (-15.5, -24.5)])
@pytest.mark.parametrize("parameters", [{}, {"looks": 4.4}])
def test_less_speckle_never_means_less_water_or_more_doubt(analyse, simulate, sea, parameters):
    """Two modes that are known better part more surely, even if nobody says how many looks there are, or says it wrongly."""
    truth = blobs(share=0.25)
    core = ndimage.binary_erosion(truth, iterations=6)
    found, sure = [], []
    for looks in (4.4, 18.0, 40.0, 160.0, 1000.0):
        got = analyse(*simulate(truth, sea=sea, looks=looks), **parameters)
        found.append(scores(got["extent"], truth)[0] / truth.sum())
        sure.append(np.median(got["probability"][core]))
    assert min(found) > 0.9
    assert (np.diff(sure) > -0.01).all()
    assert min(sure) > 0.95


@pytest.mark.parametrize("resolution", [60.0, 100.0, 200.0])
def test_few_pixels_make_no_mode_of_land_alone(analyse, simulate, resolution):
    for seed in range(4):
        vv, vh = simulate(np.zeros((150, 150), bool), land=(-12.5, -19.5), seed=seed, looks=60.0)
        got = analyse(vv, vh, resolution=resolution)
        assert not (got["extent"] == flood.FLOOD).any()


# What was not seen


def test_what_was_not_seen_is_never_dry(analyse, simulate):
    truth = blobs((256, 256))
    vv, vh = simulate(truth)
    mask = np.zeros(vv.shape, "uint16")
    mask[20:60, 20:60] = QC_FLAGS["layover_shadow"]
    mask[80:100, 20:60] = QC_FLAGS["read_failure"]
    mask[120:140, 20:60] = QC_FLAGS["nodata"]
    vv[150:170, 20:60] = np.nan
    vh[150:170, 20:60] = np.nan
    vv[200:220, 20:60] = 0.0
    vh[200:220, 20:60] = -1.0
    got = analyse(vv, vh, mask)
    extent, qc = got["extent"], got["qc"]
    assert (extent[20:60, 20:60] == flood.LAYOVER_SHADOW).all()
    for rows, flag in (
        (slice(80, 100), "read_failure"),
        (slice(120, 140), "nodata"),
        (slice(150, 170), "nodata"),
        (slice(200, 220), "nodata"),
    ):
        assert (extent[rows, 20:60] == tables.FILL).all(), flag
        assert (qc[rows, 20:60] & QC_FLAGS[flag] != 0).all(), flag
    unseen = extent >= flood.HAND_MASKED
    for name in ("probability", "confidence", "uncertainty"):
        assert np.isnan(got[name][unseen]).all(), name
        assert np.isfinite(got[name][~unseen]).all(), name
    # Only the corners of a gap lose pixels that were read: half of the filter window must be there.
    assert unseen.sum() - (40 * 40 + 4 * 20 * 40) < 20


def test_a_scene_without_a_valid_pixel_is_not_dry(analyse):
    nothing = np.full((96, 96), np.nan, "float32")
    got = analyse(nothing, nothing)
    assert (got["extent"] == tables.FILL).all()
    assert (got["qc"] & QC_FLAGS["nodata"] != 0).all()
    for name in ("probability", "confidence", "uncertainty"):
        assert np.isnan(got[name]).all()


def test_the_border_of_a_swath_is_no_water(analyse, simulate):
    vv, vh = simulate(np.zeros((256, 256), bool))
    diagonal = np.add.outer(np.arange(256), np.arange(256)) < 200
    vv[diagonal], vh[diagonal] = np.nan, np.nan
    extent = analyse(vv, vh)["extent"]
    assert (extent[diagonal] == tables.FILL).all()
    assert (extent[~diagonal] == flood.NOT_WATER).mean() > 0.99


def test_the_first_clear_observation_counts(analyse, simulate):
    truth = blobs((256, 256))
    wet, dry = simulate(truth), simulate(np.zeros_like(truth))
    stack = [np.stack([a, b]) for a, b in zip(wet, dry, strict=True)]
    mask = np.zeros(stack[0].shape, "uint16")
    mask[0, :, 128:] = QC_FLAGS["nodata"]
    stack[0][0, :, 128:], stack[1][0, :, 128:] = np.nan, np.nan
    got = analyse(*stack, mask=mask)["extent"]
    assert scores(got[:, :124], truth[:, :124])[0] > 0.85 * truth[:, :124].sum()
    assert (got[:, 132:] == flood.NOT_WATER).mean() > 0.995


# Beside radar


def test_permanent_water_is_not_flood(analyse, simulate):
    truth = blobs((256, 256))
    occurrence = np.where(np.arange(256) < 128, 90.0, 10.0).astype("float32") * np.ones((256, 1), "float32")
    occurrence[:30] = np.nan
    got = analyse(*simulate(truth), occurrence=occurrence)
    wet = np.isin(got["extent"], (flood.FLOOD, flood.PERMANENT_WATER))
    np.testing.assert_array_equal(got["extent"][wet] == flood.PERMANENT_WATER, (occurrence >= 75)[wet])
    np.testing.assert_array_equal(got["qc"] & QC_FLAGS["permanent_water"] != 0, occurrence >= 75)
    same = analyse(*simulate(truth))["extent"]
    np.testing.assert_array_equal(np.isin(same, (1, 2)), wet)


FAILED, UNKNOWN = QC_FLAGS["read_failure"], QC_FLAGS["insufficient_background"]


@pytest.mark.parametrize("layer", ["hand", "occurrence"])
def test_flood_whose_static_layer_could_not_be_read_says_so_and_is_worth_half(analyse, simulate, layer):
    truth = blobs((256, 256))
    bands = simulate(truth)
    lost = np.broadcast_to(np.arange(256) < 128, truth.shape)
    values = np.where(lost, np.nan, 0.0).astype("float32")
    static_mask = np.where(lost, FAILED, 0).astype("uint16")
    got, calm = (analyse(*bands, static_mask=m, **{layer: values}) for m in (static_mask, np.zeros_like(static_mask)))
    for name in ("extent", "probability", "uncertainty"):
        np.testing.assert_array_equal(got[name], calm[name], err_msg=name)
    flooded = lost & (got["extent"] == flood.FLOOD)
    assert flooded.sum() > 1000
    np.testing.assert_array_equal(got["qc"], calm["qc"] | np.where(flooded, UNKNOWN, 0))
    np.testing.assert_array_equal(got["confidence"][~flooded], calm["confidence"][~flooded])
    np.testing.assert_allclose(got["confidence"][flooded], calm["confidence"][flooded] / 2, rtol=1e-6)
    # The water was seen: nothing says that it was not.
    assert not (got["qc"] & FAILED).any()


def test_a_reference_that_nobody_planned_or_that_was_read_changes_nothing(analyse, simulate):
    truth = blobs((128, 128))
    bands = simulate(truth)
    failed = np.full(truth.shape, FAILED, "uint16")
    without, read = analyse(*bands), analyse(*bands, occurrence=np.zeros(truth.shape, "float32"), static_mask=failed)
    for name in set(without) - {"reference_water"}:
        np.testing.assert_array_equal(read[name], without[name], err_msg=name)


def test_what_looks_like_water_high_above_the_drainage_is_neither_water_nor_dry(analyse, simulate):
    truth = blobs((256, 256))
    hand = np.where(np.arange(256) < 128, 2.0, 60.0).astype("float32") * np.ones((256, 1), "float32")
    hand[:, 200:] = np.nan
    extent = analyse(*simulate(truth), hand=hand)["extent"]
    high = hand > 20
    assert not (extent[high] == flood.FLOOD).any()
    assert (extent[high & truth] == flood.HAND_MASKED).mean() > 0.9
    assert (extent[high & ~truth] == flood.NOT_WATER).mean() > 0.9
    assert not (extent[~high] == flood.HAND_MASKED).any()
    assert (extent[:, 205:][truth[:, 205:]] == flood.FLOOD).mean() > 0.85


def test_steep_ground_is_no_water_by_its_slope_or_by_the_slope_of_its_heights(analyse, simulate):
    truth = blobs((256, 256))
    bands = simulate(truth)
    steep = np.arange(256) >= 128
    degrees = (np.where(steep, 20.0, 1.0) * np.ones((256, 1))).astype("float32")
    dem = (np.where(steep, np.arange(256) - 128, 0) * 10 * np.tan(np.radians(20.0)) * np.ones((256, 1))).astype("float32")
    level = analyse(*bands)["extent"]
    for ground in ({"slope": degrees}, {"dem": dem}, {"slope": degrees, "dem": np.zeros_like(dem)}):
        extent = analyse(*bands, **ground)["extent"]
        assert not (extent[:, 131:] == flood.FLOOD).any()
        np.testing.assert_array_equal(extent[:, :120], level[:, :120])
    # Nobody knows: nothing is said against water.
    for name in ("slope", "dem", "hand"):
        np.testing.assert_array_equal(analyse(*bands, **{name: np.full_like(dem, np.nan)})["extent"], level)


@pytest.mark.parametrize(
    "refine", [lambda z: np.kron(z, np.ones((3, 3))), lambda z: ndimage.zoom(z, 3, order=1, grid_mode=True, mode="nearest")]
)
def test_facets_and_steps_of_a_coarse_elevation_model_are_not_steep(analyse, simulate, refine):
    """Posts of 30 m with 2 m of noise over level ground, repeated or interpolated for pixels of 10 m: their own slope is 3 degrees."""
    posts = np.random.default_rng(0).normal(0, 2.0, (64, 64))
    bands = simulate(blobs((192, 192), share=0.3))
    level, got = (analyse(*bands, **k)["probability"] for k in ({}, {"dem": refine(posts).astype("float32")}))
    assert (got != level)[np.isfinite(level)].mean() < 0.02


def test_dark_bare_ground_that_was_never_wet_is_not_told_from_water(analyse, simulate):
    truth = blobs((256, 256))
    bands = simulate(truth)
    bare = np.arange(256) < 128
    cover_ = (np.where(bare, 60, 40) * np.ones((256, 1))).astype("float32")
    occurrence = np.zeros((256, 256), "float32")
    occurrence[:128] = 10.0
    plain, got = analyse(*bands, occurrence=occurrence), analyse(*bands, occurrence=occurrence, landcover=cover_)
    doubted = (plain["extent"] == flood.FLOOD) & (got["extent"] == tables.FILL)
    assert doubted[128:, :128].sum() > 0.8 * truth[128:, :128].sum()
    assert not doubted[:128].any()
    assert not doubted[:, 128:].any()
    assert (got["qc"][doubted] & QC_FLAGS["conflict"] != 0).all()
    np.testing.assert_array_equal(got["extent"][~doubted], plain["extent"][~doubted])
    # Only the land cover says so, and only where somebody knows that there was no water.
    np.testing.assert_array_equal(analyse(*bands, landcover=cover_)["extent"], analyse(*bands)["extent"])


def test_seasonal_water_is_told_apart(analyse, simulate):
    truth = blobs((256, 256))
    occurrence = np.repeat([0.0, 40.0, 90.0, np.nan], 64).astype("float32") * np.ones((256, 1), "float32")
    got = analyse(*simulate(truth), occurrence=occurrence)
    for columns, wet, dry in (
        (slice(0, 64), 3, 0),
        (slice(64, 128), 1, 4),
        (slice(128, 192), 2, 5),
        (slice(192, 256), tables.FILL, tables.FILL),
    ):
        seen = np.isin(got["extent"][:, columns], (flood.FLOOD, flood.PERMANENT_WATER))
        known = got["extent"][:, columns] < flood.HAND_MASKED
        np.testing.assert_array_equal(got["reference_water"][:, columns][known], np.where(seen, wet, dry)[known])
    # Seasonal water counts as flood.
    assert (got["extent"][:, 64:128][truth[:, 64:128]] == flood.FLOOD).mean() > 0.8


def test_the_minimum_mapping_unit_drops_and_closes(analyse, simulate):
    truth = np.zeros((256, 256), bool)
    truth[40:140, 40:200] = True
    truth[90:93, 90:93] = False  # a hole of 0.09 ha
    truth[200:208, 100:108] = True  # a pond of 0.64 ha
    bands = simulate(truth, sea=(-22.0, -29.0), looks=40.0)
    coarse = analyse(*bands, minimum_mapping_unit=1.0, looks=40.0)["extent"]
    assert (coarse[85:98, 85:98] == flood.FLOOD).all()
    assert (coarse[190:218, 90:118] == flood.NOT_WATER).all()
    fine = analyse(*bands, minimum_mapping_unit=0.0, looks=40.0)["extent"]
    assert (fine[201:207, 101:107] == flood.FLOOD).all()


# Exactness


@settings(max_examples=200, deadline=None)
@given(row=st.integers(1, 60), col=st.integers(1, 50))
def test_the_same_bits_on_any_tiles(analyse, awkward, row, col):
    """Noise, holes, hills, dark bare ground and lost layers, cut at any row and column."""
    scene, whole = awkward
    got = analyse(**scene, tiles=Tiles(tuple(sorted({0, row, 60})), tuple(sorted({0, col, 50}))))
    for name, raster in whole.items():
        np.testing.assert_array_equal(got[name], raster, err_msg=name)


@pytest.mark.parametrize("size", [7, 16])
def test_the_same_bits_on_many_tiles(analyse, awkward, size):
    scene, whole = awkward
    got = analyse(**scene, tiles=Tiles.regular((60, 50), size))
    for name, raster in whole.items():
        np.testing.assert_array_equal(got[name], raster, err_msg=name)


@pytest.fixture(scope="session")
def awkward(analyse, simulate):
    shape, (rows, cols), rng = (60, 50), np.indices((60, 50)), np.random.default_rng(8)
    vv, vh = simulate(blobs(shape, share=0.4, seed=3) | (cols > 40))
    vv[rng.random(shape) < 0.03] = np.nan
    vv[50:, :9], vh[50:, :9] = np.nan, np.nan
    mask = np.where((rows > 12) & (rows < 20) & (cols > 12) & (cols < 26), QC_FLAGS["layover_shadow"], 0).astype("uint16")
    occurrence = np.where((cols > 40) & (rows < 30), 80.0, 0.0)
    occurrence[:, 25:32] = np.nan
    ground = {
        "occurrence": occurrence,
        "hand": np.where((rows > 40) & (cols > 40), 50.0, 1.0),
        "dem": np.where(rows < 8, (8 - rows) * 8.0, 0.0),
        "landcover": np.where(rows > 45, 60.0, 40.0),
    }
    scene = {"vv": vv, "vh": vh, "mask": mask, "minimum_mapping_unit": 0.1} | {k: v.astype("float32") for k, v in ground.items()}
    scene["static_mask"] = np.where(np.isnan(occurrence), FAILED, 0).astype("uint16")
    whole = analyse(**scene)
    assert (whole["qc"] & UNKNOWN).any()
    assert (whole["qc"][whole["extent"] == tables.FILL] & QC_FLAGS["conflict"]).any()
    assert {0, 1, 2, flood.HAND_MASKED, flood.LAYOVER_SHADOW, tables.FILL} <= set(np.unique(whole["extent"]))
    return scene, whole


# Declaration


def test_the_declaration_names_what_it_returns():
    spec = sar_threshold.__mdive_algorithm__
    assert [o.name for o in spec.outputs] == ["extent", "probability", "confidence", "uncertainty", "qc", "reference_water"]
    assert spec.phases == ("post", "static")
    assert {e.value for e in spec.outputs[0].classes} == {0, 1, 2, 3, 4, *range(250, 256)}
    text = inspect.getdoc(sar_threshold)
    for name, parameter in spec.parameters.items():
        assert name in text
        assert parameter.default is not inspect.Parameter.empty


@pytest.mark.parametrize(
    "given_",
    [{"minimum_mapping_unit": -1}, {"looks": 0}, {"looks": 0.1}, {"seed_probability": 1.5}, {"maximum_hand": "high"}, {"threshold": -15}],
)
def test_wrong_parameters_are_refused(given_):
    with pytest.raises(InputError):
        sar_threshold.__mdive_algorithm__.bind(given_)


# Real scenes


@pytest.fixture(scope="session")
def chip(real_data):

    def read(name):
        folder = next((real_data / "cases").glob(f"flood-{name}-*"))
        vv, vh, truth = (rasterio.open(folder / f"{n}.tif").read(1) for n in ("s1_vv", "s1_vh", "truth"))
        return (10 ** (vv / 10)).astype("float32"), (10 ** (vh / 10)).astype("float32"), truth

    return read


LABELLED = {"india": 0.76, "nigeria": 0.86, "usa": 0.91, "mekong": 0.05}
"""The least intersection over union of each chip. A fixed threshold after a 5 x 5 median gets 0.79, 0.88 and 0.92 where it is chosen for the
chip; on the last, with 1.6 % of water in flooded paddies, 0.06 at the -15 dB that serve the others."""


def test_labelled_scenes_pool_to_the_bar(analyse, chip):
    total = np.zeros(3, int)
    for name in LABELLED:
        vv, vh, truth = chip(name)
        known = truth != 255
        extent = np.where(known, analyse(vv, vh)["extent"], tables.FILL)
        counts = np.array(scores(extent, truth == 1))
        assert counts[0] >= LABELLED[name] * counts.sum(), name
        total += counts
    # The best single fixed threshold on these four chips reaches 0.81.
    assert total[0] / total.sum() >= 0.83


def test_a_real_scene_without_water_has_none(analyse, chip):
    vv, vh, truth = chip("ghana")
    assert not (truth == 1).any()
    got = analyse(vv, vh)
    assert (got["extent"] == flood.FLOOD).mean() <= 0.002
    assert (got["qc"] & QC_FLAGS["threshold_fallback"] != 0).mean() > 0.999


@pytest.mark.parametrize(("name", "least", "most"), [("282D_485L_3_3", 0.5, 0.65), ("433D_629L_3_1", 0.0, 0.005)])
def test_small_scenes_of_a_lake_and_of_ploughed_fields(analyse, real_data, name, least, most):
    """The fields are as dark as the published thresholds in both polarisations; the land cover says 53 and 6 % of water, the latter a narrow
    river between trees that radar does not show."""
    vv, vh = 10 ** (
        rasterio.open(real_data / "raw" / "sar" / "terramind_terramesh" / "S1RTC" / f"{name}.tif").read().astype("float32") / 10
    )
    share = (analyse(vv, vh)["extent"] == flood.FLOOD).mean()
    assert least <= share <= most


def test_a_real_scene_without_data_is_not_dry(analyse, chip):
    vv, vh, _ = chip("paraguay")
    assert (analyse(vv, vh)["extent"] == tables.FILL).all()


def test_dry_hills_at_30_m_have_no_water_through_two_years(analyse, real_data):
    dates = sorted((real_data / "raw" / "sar" / "opera_rtc_10SGD").iterdir())
    assert len(dates) > 10
    for date in dates[::4]:
        vv, vh = (rasterio.open(next(date.glob(f"*T137-292321-IW2*_{p}.tif"))).read(1) for p in ("VV", "VH"))
        assert (analyse(vv, vh, resolution=30.0)["extent"] == flood.FLOOD).sum() == 0, date.name
