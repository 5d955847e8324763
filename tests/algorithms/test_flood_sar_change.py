"""Flood by change of radar backscatter: simulated scenes of known truth, what must never be called dry, any tiling, and a quiet real stack."""

import inspect
from functools import cache

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms import tables
from mdive.algorithms.flood_sar_change import came, possibly_new, sar_change, surely_new
from mdive.algorithms.flood_sar_threshold import sar_threshold
from mdive.errors import InputError
from mdive.model.flags import QC_FLAGS
from mdive.pipeline import Tiles, load_node
from mdive.plugins import Bundle

LAND, WATER = (-9.5, -16.0), (-20.0, -27.0)
"""(VV, VH) in dB of land with crops and of calm water, Sentinel-1 at 38 degrees."""
SAID = np.s_[3:-3]
"""Rows without the corners of a raster beyond which nothing is known: they lose too much of their filter window."""
FLOOD, OLD, DRY = flood.FLOOD, flood.PERMANENT_WATER, flood.NOT_WATER


@pytest.fixture(scope="session")
def analyse(evaluate):
    """``analyse(pre, post)``: each (vv, vh), of one scene or a stack."""

    def run(pre, post, pre_mask=None, post_mask=None, tiles=None, resolution=10.0, geometry=(None, None), static=None, **parameters):
        rasters, bundles = {}, []
        for phase, bands, mask, told in (("pre", pre, pre_mask, geometry[0]), ("post", post, post_mask, geometry[1])):
            here = {f"{phase}_{name}": timed(band) for name, band in zip(("vv", "vh"), bands, strict=True)}
            shape = here[f"{phase}_vv"].shape
            here[f"{phase}_mask"] = np.zeros(shape, "uint16") if mask is None else np.broadcast_to(mask, shape)
            nodes = {n.partition("_")[2]: load_node(phase, n, dtype="uint16" if "mask" in n else "float32") for n in here}
            bundles.append(Bundle(**nodes, geometry=told))
            rasters |= here
        static = static or {}
        rasters |= {name: timed(value) for name, value in static.items()}
        layers = {k: load_node("static", k) if k in static else None for k in ("hand", "occurrence", "slope", "dem", "landcover")}
        lost = load_node("static", "static_mask", dtype="uint16") if "static_mask" in static else None
        return evaluate(sar_change(*bundles, Bundle(**layers, mask=lost), **parameters), rasters, tiles, resolution)

    return run


def timed(array):
    array = np.asarray(array)
    return array if array.ndim == 3 else array[np.newaxis]


@pytest.fixture(scope="session")
def simulate(speckle):
    """``simulate(water, seed=…)``: (vv, vh) power of a scene; land keeps its texture and varies a little by itself from date to date."""

    def make(water, land=LAND, sea=WATER, seed=0, looks=4.4, own=0.5):
        texture = ndimage.gaussian_filter(np.random.default_rng(100).normal(size=water.shape), 3) * 3
        drift = ndimage.gaussian_filter(np.random.default_rng(seed + 5000).normal(size=water.shape), 8) * 28 * own
        bands = []
        for i in range(2):
            db = np.where(water, sea[i], np.asarray(land[i]) + texture + drift)
            bands.append(speckle(10 ** (db / 10), looks=looks, seed=2 * seed + i))
        return bands

    return make


@pytest.fixture(scope="session")
def stacked(simulate):
    """``stacked(water, n)``: n scenes of the same water."""

    def make(water, n, **how):
        scenes = [simulate(water, seed=40 + k, **how) for k in range(n)]
        return [np.stack([scene[i] for scene in scenes]) for i in range(2)]

    return make


def blobs(shape=(256, 256), share=0.2, seed=0):
    if share == 0:
        return np.zeros(shape, bool)
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 15)
    return field > np.quantile(field, 1 - share)


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def gaps_of(probability, truth):
    """Return probability minus truth, added up in 20 bins, and the number of pixels."""
    known = np.isfinite(probability)
    p = np.rint(probability[known] * 10_000).astype("int64")
    return np.bincount(np.minimum(p // 500, 19), p - 10_000 * truth[known], 20) / 10_000, int(known.sum())


# Simulated scenes


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("share", [0.03, 0.3])
def test_new_water_is_found_and_told_from_old_without_any_map(analyse, simulate, stacked, n, share):
    river = blobs(share=0.1, seed=50)
    truth = blobs(share=share) & ~river
    got = analyse(stacked(river, n), simulate(truth | river))
    extent = got["extent"]
    assert overlap(extent == FLOOD, truth) > 0.9
    assert overlap(extent == OLD, river) > 0.9
    assert (extent[river] == FLOOD).mean() < 0.02
    few = (got["qc"] & QC_FLAGS["low_n_obs"]) != 0
    assert few[SAID].all() if n < 5 else not few.any()
    assert not (got["qc"] & (QC_FLAGS["insufficient_background"] | QC_FLAGS["permanent_water"])).any()
    for name, dtype in {"extent": "uint8", "probability": "float32", "confidence": "float32", "uncertainty": "float32"}.items():
        assert got[name].dtype == dtype
        assert got[name].shape == truth.shape


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("drift", [(-1.5, -1.5), (-2.5, -2.5), (1.5, 2.0)])
def test_where_nothing_came_there_is_no_flood(analyse, simulate, stacked, n, drift):
    """Drying, harvest and rain move a whole scene by some decibels."""
    nothing = blobs(share=0)
    got = analyse(stacked(nothing, n), simulate(nothing, land=(LAND[0] + drift[0], LAND[1] + drift[1])))
    assert (got["extent"] == FLOOD).mean() < 1e-3
    assert (got["extent"] == DRY).mean() > 0.998


@pytest.mark.parametrize("n", [1, 6])
def test_a_fall_alone_is_no_water_and_dark_land_alone_is_no_flood(analyse, simulate, stacked, n):
    """Harvested fields fall by six decibels and stay far brighter than water; asphalt is dark at all times."""
    lake, harvest, asphalt = np.zeros((3, 256, 256), bool)
    lake[:100], harvest[120:180, 40:200], asphalt[200:240, 40:200] = True, True, True
    dark = [np.where(asphalt, sea, -6.0 if i == 0 else -13.0) for i, sea in enumerate((-18.5, -26.0))]
    after = [np.where(harvest, value - 6.0, value) for value in dark]
    extent = analyse(stacked(lake, n, land=dark, own=0.0), simulate(lake, land=after, own=0.0))["extent"]
    assert (extent == FLOOD).mean() < 2e-3
    assert (extent[harvest] == DRY).mean() > 0.99
    assert (extent[asphalt] == OLD).mean() > 0.85


def test_probability_is_calibrated_and_agrees_with_the_class(analyse, simulate, stacked):
    """Expected calibration error over floods that are easy, hard, rare and absent, by one reference and by many."""
    gaps, pixels = np.zeros(20), 0
    for seed, (share, land, sea) in enumerate(
        [(0.3, LAND, WATER), (0.4, (-12.0, -18.5), (-18.0, -25.0)), (0.02, LAND, WATER), (0.0, LAND, WATER)]
    ):
        river = blobs((192, 192), share=0.1, seed=seed + 50)
        truth = blobs((192, 192), share=share, seed=seed) & ~river
        for n in (1, 6):
            got = analyse(stacked(river, n, land=land, sea=sea), simulate(truth | river, land=land, sea=sea, seed=seed))
            p, extent = got["probability"], got["extent"]
            assert (p[extent == FLOOD] >= 0.5).all()
            assert (p[(extent == DRY) | (extent == OLD)] < 0.5).all()
            more, counted = gaps_of(p, truth)
            assert np.abs(more).sum() / counted <= 0.05
            gaps, pixels = gaps + more, pixels + counted
    assert np.abs(gaps).sum() / pixels <= 0.025


LANDSCAPES = ({"wind": 0.3}, {"stage": 0.0}, {"stage": 4.0}, {"static": ()})


@pytest.fixture(scope="session")
def mapped(tmp_path_factory):
    """``mapped(k)``: classes, probability and truth of a landscape that no test of ours was made for, by the recipe of its event class or another
    algorithm."""
    from mdive.model import load_event
    from mdive.testing import make_flood_event

    @cache
    def made_of(k):
        return make_flood_event(tmp_path_factory.mktemp("event"), seed=11 + k, size_km=4.0, **LANDSCAPES[k])

    @cache
    def run(k, algorithm=None):
        made = made_of(k)
        event = load_event(made.event)
        event = event.model_copy(update={"intent": event.intent.model_copy(update={"algorithm": algorithm})}) if algorithm else event
        plan = mdive.plan(event, catalog=str(made.catalog), derive=False)
        assert plan.algorithm.name == (algorithm or "flood.sar_change")
        got = mdive.analyse(plan).compute(scheduler="sync")
        with rasterio.open(made.truth) as file:
            row, col = (round(v / plan.grid.resolution) for v in (made.grid.y0 - plan.grid.y0, plan.grid.x0 - made.grid.x0))
            truth = file.read(1)[row : row + plan.grid.shape[0], col : col + plan.grid.shape[1]]
        return got.extent.values, np.where(truth == 255, np.nan, got.probability.values), truth

    return run


@pytest.mark.parametrize("k", range(len(LANDSCAPES)))
def test_trees_houses_smooth_fields_and_slopes(mapped, k):
    extent, _, truth = mapped(k)
    asked = truth != 255
    assert ((extent == FLOOD) & (truth != 1) & asked).sum() < 0.01 * asked.sum()
    if (truth == 1).any():
        assert overlap((extent == FLOOD) & asked, truth == 1) > 0.8
    assert (extent[truth == 2] == OLD).mean() > 0.75


@pytest.mark.parametrize("k", [k for k, how in enumerate(LANDSCAPES) if how.get("stage") != 0.0])
def test_references_never_tell_less_than_one_scene(mapped, k):
    (extent, _, truth), (alone, _, _) = mapped(k), mapped(k, "flood.sar_threshold")
    asked = truth != 255
    both, one = (overlap((found == FLOOD) & asked, truth == 1) for found in (extent, alone))
    assert both > one - 0.01


def test_without_any_reference_it_is_the_algorithm_of_one_scene(analyse, simulate, evaluate):
    truth, river = blobs((160, 160), share=0.2), blobs((160, 160), share=0.05, seed=4)
    vv, vh = (b[np.newaxis] for b in simulate(truth | river))
    mask = np.where(blobs((160, 160), share=0.05, seed=5), QC_FLAGS["layover_shadow"], 0).astype("uint16")[np.newaxis]
    hand = np.where(np.arange(160) < 120, 2.0, 60.0) * np.ones((160, 1))
    nothing = [np.full((1, *truth.shape), np.nan, "float32")] * 2
    got = analyse(nothing, (vv, vh), post_mask=mask, static={"hand": hand.astype("float32")}, resolution=20.0)
    post = Bundle(vv=load_node("post", "vv"), vh=load_node("post", "vh"), mask=load_node("post", "mask", dtype="uint16"))
    static = Bundle(**dict.fromkeys(("occurrence", "slope", "dem", "landcover", "mask")), hand=load_node("static", "hand"))
    rasters = {"vv": vv, "vh": vh, "mask": mask, "hand": hand.astype("float32")[np.newaxis]}
    alone = evaluate(sar_threshold(post, static), rasters, resolution=20.0)
    np.testing.assert_array_equal(got["extent"], alone["extent"])
    said = alone["extent"] < flood.HAND_MASKED
    np.testing.assert_array_equal(got["uncertainty"][said], alone["uncertainty"][said])
    blind = np.where(said, QC_FLAGS["insufficient_background"], 0)
    np.testing.assert_array_equal(got["qc"], alone["qc"] | blind)
    wet = alone["extent"] == FLOOD
    np.testing.assert_allclose(got["probability"][wet], alone["probability"][wet], rtol=1e-6)
    np.testing.assert_allclose(got["confidence"][wet], alone["confidence"][wet] / 2, rtol=1e-6)


def test_probability_is_calibrated_on_landscapes(mapped):
    gaps, pixels = np.zeros(20), 0
    for k in range(len(LANDSCAPES)):
        _, probability, truth = mapped(k)
        more, counted = gaps_of(probability, truth == 1)
        gaps, pixels = gaps + more, pixels + counted
    assert np.abs(gaps).sum() / pixels <= 0.05


# What was before


def test_a_scene_before_that_shows_the_flood_already_makes_it_neither_dry_nor_new(analyse, simulate):
    """Nothing changed between two scenes of a flood. Nobody can tell that from permanent water, but for a map of where there never is any."""
    truth = blobs()
    core = ndimage.binary_erosion(truth, iterations=3)
    got = analyse(simulate(truth, seed=1), simulate(truth))
    assert (got["extent"][core] == OLD).mean() > 0.99
    got = analyse(simulate(truth, seed=1), simulate(truth), static={"occurrence": np.zeros(truth.shape, "float32")})
    assert (got["extent"][core] == OLD).mean() > 0.99
    assert (got["qc"][core] & QC_FLAGS["conflict"] != 0).mean() > 0.99
    assert not (got["extent"] == FLOOD).any()


def test_a_flood_that_grew_on_all_sides_is_one_flood_where_there_never_was_water(analyse, simulate):
    begun, truth = blobs(share=0.12), blobs(share=0.3)
    assert (truth | begun == truth).all()
    never = {"occurrence": np.zeros(truth.shape, "float32")}
    grown, told = (analyse(simulate(begun, seed=1), simulate(truth), static=s)["extent"] for s in (None, never))
    assert overlap(grown == FLOOD, truth & ~begun) > 0.85
    assert overlap(told == FLOOD, truth) > 0.9


def test_fields_as_dark_as_water_are_flooded_where_the_flood_is_around_them(analyse, simulate):
    """Two smooth fields that no scene tells from water: one in the middle of the flood, one that it only touches."""
    truth, inside, beside = np.zeros((3, 200, 200), bool)
    truth[40:160, 20:120], inside[80:110, 50:80], beside[80:110, 120:150] = True, True, True
    dark = [np.where(inside | beside, sea, land) for sea, land in zip((-17.5, -25.2), LAND, strict=True)]
    scenes = simulate(np.zeros_like(truth), land=dark, seed=1), simulate(truth, land=dark)
    got = analyse(*scenes, static={"occurrence": np.zeros(truth.shape, "float32")})
    core = [ndimage.binary_erosion(field, iterations=4) for field in (inside, beside)]
    assert (got["extent"][core[0]] == FLOOD).all()
    assert (got["extent"][core[1]] == OLD).mean() > 0.95
    assert (got["qc"][core[0] | core[1]] & QC_FLAGS["conflict"] != 0).mean() > 0.95
    # Where nobody knows how often there was water, both are what the references show.
    assert not (analyse(*scenes)["extent"][core[0] | core[1]] == FLOOD).any()


def test_a_lake_that_wind_roughened_before_is_no_flood(analyse, simulate):
    """VV falls by seven decibels when the wind is over; VH was half like water all the time. So nobody knows, and the flags say it."""
    lake = blobs(share=0.2)
    got = analyse(simulate(lake, sea=(-13.0, -24.0), seed=1), simulate(lake))
    assert not (got["extent"] == FLOOD).any()
    unsure = lake & (got["extent"] == DRY)
    assert unsure.sum() > 0.5 * lake.sum()
    assert (got["qc"][unsure] & QC_FLAGS["conflict"] != 0).mean() > 0.95


def test_water_comes_by_both_claims_and_grows_by_their_mean():
    fell, past = (np.array([row], "float32") for row in ([2.0, 2.0, 1.0, -1.5, -2.0, np.nan], [-2.0, -1.0, -2.0, -1.0, 0.5, np.nan]))
    water, change = np.ones(fell.shape, bool), came.kernel(fell, past)
    np.testing.assert_allclose(change, [[2.0, 1.5, 1.5, -0.25, -1.25, np.nan]])
    np.testing.assert_array_equal(surely_new.kernel(water, fell, past, None), [[True, False, False, False, False, True]])
    np.testing.assert_array_equal(possibly_new.kernel(water, change, past, None), [[True, True, True, True, False, True]])
    assert not possibly_new.kernel(water, change, np.abs(past), None)[:, :5].any()
    usual = np.full(fell.shape, 80.0, "float32")
    assert not (surely_new.kernel(water, fell, past, usual) | possibly_new.kernel(water, change, past, usual)).any()
    assert not (surely_new.kernel(~water, fell, past, None) | possibly_new.kernel(~water, change, past, None)).any()


def test_one_flooded_scene_of_many_is_no_reference(analyse, simulate, stacked):
    truth = blobs()
    stack = stacked(blobs(share=0), 6)
    last = [simulate(truth, seed=77)[i] for i in range(2)]
    stack = [np.concatenate([last[i][np.newaxis], stack[i]]) for i in range(2)]
    assert overlap(analyse(stack, simulate(truth))["extent"] == FLOOD, truth) > 0.9


def test_each_pixel_has_its_own_references(analyse, simulate, stacked):
    """None, one or six, in stripes; what has none is classified by the scene alone, and says so."""
    truth = blobs(share=0.3)
    stack = stacked(blobs(share=0), 6)
    mask = np.zeros(stack[0].shape, "uint16")
    mask[1:, :, 80:160] = QC_FLAGS["nodata"]
    mask[:, :, 160:] = QC_FLAGS["read_failure"]
    got = analyse(stack, simulate(truth), pre_mask=mask)
    qc, extent = got["qc"], got["extent"]
    for flag, columns in (("low_n_obs", slice(80, 160)), ("insufficient_background", slice(160, 256))):
        has = np.broadcast_to(np.isin(np.arange(256), np.arange(256)[columns]), truth.shape)
        np.testing.assert_array_equal(qc[SAID] & QC_FLAGS[flag] != 0, has[SAID], err_msg=flag)
    assert overlap(extent == FLOOD, truth) > 0.9
    assert (extent[truth & ndimage.binary_erosion(truth, iterations=3)] == FLOOD).mean() > 0.99
    assert not (qc & QC_FLAGS["read_failure"]).any()
    sure, blind = (got["confidence"][(extent == FLOOD) & (np.arange(256) // 160 == k)].mean() for k in (0, 1))
    assert blind < 0.6 * sure
    assert np.isfinite(got["uncertainty"]).sum() >= truth.size - 12


def test_without_any_reference_the_scene_alone_decides(analyse, simulate):
    truth = blobs(share=0.3)
    scene = simulate(truth)
    nothing = [np.full((2, *truth.shape), np.nan, "float32")] * 2
    got = analyse(nothing, scene)
    assert overlap(got["extent"] == FLOOD, truth) > 0.9
    assert (got["qc"][SAID] & QC_FLAGS["insufficient_background"] != 0).all()
    occurrence = np.where(np.arange(256) < 128, 90.0, 0.0) * np.ones((256, 1))
    extent = analyse(nothing, scene, static={"occurrence": occurrence.astype("float32")})["extent"]
    assert not (extent[:, :128] == FLOOD).any()
    assert (extent[:, :128][truth[:, :128]] == OLD).mean() > 0.9


def test_wind_on_one_polarisation_does_not_hide_new_water(analyse, simulate, stacked):
    truth = blobs(share=0.3)
    extent = analyse(stacked(blobs(share=0), 6), simulate(truth, sea=(-12.5, -27.0)))["extent"]
    assert overlap(extent == FLOOD, truth) > 0.8


# Geometry


def test_another_geometry_raises(analyse, simulate):
    scene = simulate(blobs())
    for other in ((22, "ascending"), (15, "descending")):
        with pytest.raises(InputError, match="geometries look like change"):
            analyse(scene, scene, geometry=([other], [(15, "ascending")]))


def test_each_scene_after_the_onset_is_compared_with_its_own_orbit(analyse, simulate, stacked):
    """Two orbits, each of half of the area; seen from the other one, the land is eight decibels brighter."""
    truth = blobs(share=0.2)
    west = np.arange(256) < 128
    bright = (LAND[0] + 8, LAND[1] + 8)
    one, other = simulate(truth), simulate(truth, land=bright)
    post = [np.stack([np.where(west, a, np.nan), np.where(west, np.nan, b)]) for a, b in zip(one, other, strict=True)]
    dry = blobs(share=0)
    pre = [np.concatenate(pair) for pair in zip(stacked(dry, 3), stacked(dry, 3, land=bright), strict=True)]
    orbits = ([(15, None)] * 3 + [(22, None)] * 3, [(15, None), (22, None)])
    got = analyse(pre, post, geometry=orbits)
    assert overlap(got["extent"] == FLOOD, truth) > 0.9
    assert (got["qc"][SAID] & QC_FLAGS["low_n_obs"] != 0).all()
    mixed = analyse(pre, post)
    assert not (mixed["qc"] & QC_FLAGS["low_n_obs"]).any()


# Other layers


def test_flooded_vegetation_brightens_where_plants_stand(analyse, simulate, stacked):
    """Double bounce: VV rises by six decibels, VH hardly. Without land cover, and over crops, that is something else."""
    dry, wood = np.zeros((2, 256, 256), bool)
    wood[60:140, 60:200] = True
    before = [np.full(dry.shape, v) for v in (-9.5, -15.5)]
    after = [np.where(wood, v + rise, v) for v, rise in zip(before, (5.0, 1.5), strict=True)]
    scenes = stacked(dry, 6, land=before), simulate(dry, land=after)
    cover = np.where(np.arange(256) < 150, 10.0, 40.0) * np.ones((256, 1))
    got = analyse(*scenes, static={"landcover": cover.astype("float32")})
    standing = got["extent"] == flood.FLOODED_VEGETATION
    assert overlap(standing, wood & (cover == 10)) > 0.75
    assert (got["probability"][standing] > 0.25).all()
    assert set(np.unique(analyse(*scenes)["extent"])) <= {DRY, OLD, tables.FILL}
    alone = analyse([np.full((1, 256, 256), np.nan, "float32")] * 2, scenes[1], static={"landcover": cover.astype("float32")})
    assert not (alone["extent"] == flood.FLOODED_VEGETATION).any()


def test_references_tell_water_from_dark_bare_ground(analyse, simulate, stacked):
    truth = blobs(share=0.3)
    static = {"landcover": np.full(truth.shape, 60.0, "float32"), "occurrence": np.zeros(truth.shape, "float32")}
    assert overlap(analyse(stacked(blobs(share=0), 2), simulate(truth), static=static)["extent"] == FLOOD, truth) > 0.9
    blind = analyse([np.full((1, *truth.shape), np.nan, "float32")] * 2, simulate(truth), static=static)
    doubted = truth & (blind["extent"] == tables.FILL)
    assert doubted.sum() > 0.85 * truth.sum()
    assert (blind["qc"][doubted & (np.arange(256)[:, np.newaxis] % 253 > 2)] & QC_FLAGS["conflict"] != 0).all()


def test_permanent_water_by_map_is_no_flood_and_heights_hold_none(analyse, simulate, stacked):
    truth = blobs(share=0.3)
    scenes = stacked(blobs(share=0), 2), simulate(truth)
    occurrence = np.where(np.arange(256) < 90, 90.0, 10.0) * np.ones((256, 1))
    hand = np.where(np.arange(256) < 170, 2.0, 60.0) * np.ones((256, 1))
    static = {"occurrence": occurrence.astype("float32"), "hand": hand.astype("float32")}
    got = analyse(*scenes, static=static)
    extent = got["extent"]
    assert not (extent[occurrence >= 75] == FLOOD).any()
    assert (extent[truth & (occurrence >= 75)] == OLD).mean() > 0.9
    np.testing.assert_array_equal(got["qc"] & QC_FLAGS["permanent_water"] != 0, occurrence >= 75)
    assert (extent[truth & (hand > 20)] == flood.HAND_MASKED).mean() > 0.9
    assert (extent[~truth & (hand > 20)] == DRY).mean() > 0.9
    assert np.isnan(got["probability"][extent == flood.HAND_MASKED]).all()


def test_a_map_that_could_not_be_read_is_told(analyse, simulate, stacked):
    truth = blobs(share=0.3)
    scenes = stacked(blobs(share=0), 2), simulate(truth)
    lost = np.broadcast_to(np.arange(256) < 128, truth.shape)
    static = {"occurrence": np.where(lost, np.nan, 0.0).astype("float32")}
    failed = np.where(lost, QC_FLAGS["read_failure"], 0).astype("uint16")
    got, calm = (analyse(*scenes, static={**static, "static_mask": m}) for m in (failed, np.zeros_like(failed)))
    np.testing.assert_array_equal(got["extent"], calm["extent"])
    flooded = lost & (got["extent"] == FLOOD)
    np.testing.assert_array_equal(got["qc"], calm["qc"] | np.where(flooded, QC_FLAGS["insufficient_background"], 0))
    np.testing.assert_allclose(got["confidence"][flooded], calm["confidence"][flooded] / 2, rtol=1e-6)


# What was not seen


def test_what_was_not_seen_is_never_dry(analyse, simulate, stacked):
    truth = blobs()
    vv, vh = simulate(truth)
    mask = np.zeros(vv.shape, "uint16")
    mask[20:60, 20:60] = QC_FLAGS["layover_shadow"]
    mask[80:100, 20:60] = QC_FLAGS["read_failure"]
    vv[150:170, 20:60], vh[150:170, 20:60] = np.nan, np.nan
    vv[200:220, 20:60], vh[200:220, 20:60] = 0.0, -1.0
    got = analyse(stacked(blobs(share=0), 2), (vv, vh), post_mask=mask)
    extent, qc = got["extent"], got["qc"]
    assert (extent[20:60, 20:60] == flood.LAYOVER_SHADOW).all()
    for rows, flag in ((slice(80, 100), "read_failure"), (slice(150, 170), "nodata"), (slice(200, 220), "nodata")):
        assert (extent[rows, 20:60] == tables.FILL).all(), flag
        assert (qc[rows, 20:60] & QC_FLAGS[flag] != 0).all(), flag
    unseen = extent >= flood.HAND_MASKED
    for name in ("probability", "confidence", "uncertainty"):
        np.testing.assert_array_equal(np.isnan(got[name]), unseen, err_msg=name)
    nothing = np.full((64, 64), np.nan, "float32")
    assert (analyse((nothing, nothing), (nothing, nothing))["extent"] == tables.FILL).all()


# Exactness


@settings(max_examples=200, deadline=None)
@given(row=st.integers(1, 52), col=st.integers(1, 44))
def test_the_same_bits_on_any_tiles(analyse, awkward, row, col):
    """Noise, holes, pixels without reference, permanent water, hills and flooded trees, cut at any row and column."""
    scenes, whole = awkward
    got = analyse(**scenes, tiles=Tiles(tuple(sorted({0, row, 52})), tuple(sorted({0, col, 44}))))
    for name, raster in whole.items():
        np.testing.assert_array_equal(got[name], raster, err_msg=name)


@pytest.mark.parametrize("size", [7, 16])
def test_the_same_bits_on_many_tiles(analyse, awkward, size):
    scenes, whole = awkward
    got = analyse(**scenes, tiles=Tiles.regular((52, 44), size))
    for name, raster in whole.items():
        np.testing.assert_array_equal(got[name], raster, err_msg=name)


@pytest.fixture(scope="session")
def awkward(analyse, simulate, stacked):
    rng = np.random.default_rng(3)
    shape = (52, 44)
    truth, river = np.zeros((2, *shape), bool)
    truth[6:40, 4:26], river[12:20] = True, True
    pre, post = stacked(river, 6), simulate(truth | river)
    for stack in pre:
        stack[rng.random(stack.shape) < 0.05] = np.nan
        stack[:, 30:36, 10:20] = np.nan
        stack[2:, :, 20:30] = np.nan
    post[0][44:, :9] = np.nan
    post[1][44:, :9] = np.nan
    wood = np.zeros(shape, bool)
    wood[24:50, 30:42] = True
    post[0][wood] *= 4.0
    mask = np.zeros(shape, "uint16")
    mask[2:5, 2:9] = QC_FLAGS["layover_shadow"]
    occurrence = np.where(river & (np.arange(44) > 20), 90.0, 0.0)
    occurrence[river & (np.arange(44) <= 20)] = 40.0
    occurrence[40:, :20] = np.nan
    field = np.zeros(shape, bool)
    field[24:29, 9:14] = True
    for stack, dark in zip(pre, WATER, strict=True):
        stack[:, field] = 10 ** (dark / 10)
    hand = np.where((np.arange(44) < 7) & (np.arange(52)[:, np.newaxis] > 34), 50.0, 1.0)
    cover = np.where(wood, 10.0, 40.0)
    static = {k: v.astype("float32") for k, v in (("occurrence", occurrence), ("hand", hand), ("landcover", cover))}
    scenes = {"pre": pre, "post": post, "post_mask": mask, "static": static, "minimum_mapping_unit": 0.1}
    whole = analyse(**scenes)
    assert (whole["extent"][field] == FLOOD).all()
    assert {DRY, FLOOD, OLD, flood.FLOODED_VEGETATION, flood.HAND_MASKED, flood.LAYOVER_SHADOW, 255} <= set(np.unique(whole["extent"]))
    return scenes, whole


def dataset(bands, orbit=None, whole=False):
    rows, cols = bands[0].shape[-2:]
    dims = ("time", "y", "x")[-np.ndim(bands[0]) :]
    scale = 10_000 if whole else 1
    values = {n: (dims, np.rint(np.asarray(b) * scale).astype("uint16") if whole else b) for n, b in zip(("vv", "vh"), bands, strict=True)}
    coords = {"y": 5e6 - 5 - 10.0 * np.arange(rows), "x": 5e5 + 5 + 10.0 * np.arange(cols)}
    if orbit is not None:
        coords["sat:relative_orbit"] = orbit
    return xr.Dataset(values, coords=coords)


def test_xarray_lazily_and_in_whole_numbers(simulate, stacked):
    """Power in steps of 1e-4 as uint16 (a difference of which would wrap), a stack before, one scene after, chunks that cut everything."""
    truth = blobs((90, 80), share=0.3)
    pre, post = stacked(blobs((90, 80), share=0), 5), simulate(truth)
    # Power of land is 0.1: the threshold is moved so far that whole numbers need not be scaled back.
    floats = dataset(pre), dataset(post)
    numbers = [dataset(b, whole=True).astype("uint16") for b in (pre, post)]
    back = [n.astype("float32") / np.float32(10_000) for n in numbers]
    whole = mdive.apply("flood.sar_change", *back)
    assert overlap(whole.extent.values == FLOOD, truth) > 0.85
    assert overlap(mdive.apply("flood.sar_change", *floats).extent.values == FLOOD, truth) > 0.85
    lazy = mdive.apply("flood.sar_change", *(d.chunk(y=31, x=17) for d in back))
    assert all(v.chunks is not None for v in lazy.values())
    assert lazy.compute(scheduler="sync").equals(whole)
    raw = mdive.apply("flood.sar_change", *numbers, fallback_vv=24.5, fallback_vh=17.0)
    assert raw.extent.dtype == "uint8"
    assert np.isin(raw.extent.values, [c.value for c in flood.CLASSES]).all()


def test_coordinates_that_tell_orbits_are_believed(simulate):
    scene = simulate(blobs((64, 64)))
    with pytest.raises(InputError, match="relative orbit 22 .*relative orbit 15"):
        mdive.apply("flood.sar_change", dataset(scene, orbit=22), dataset(scene, orbit=15))
    same = mdive.apply("flood.sar_change", dataset(scene, orbit=15), dataset(scene, orbit=15))
    untold = mdive.apply("flood.sar_change", dataset(scene), dataset(scene))
    assert same.drop_vars("sat:relative_orbit").equals(untold)


# Declaration


def test_the_declaration_names_what_it_returns():
    spec = sar_change.__mdive_algorithm__
    assert [o.name for o in spec.outputs] == ["extent", "probability", "confidence", "uncertainty", "qc", "reference_water"]
    assert spec.phases == ("pre", "post", "static")
    text = inspect.getdoc(sar_change)
    for name, parameter in spec.parameters.items():
        assert name in text
        assert parameter.default is not inspect.Parameter.empty


@pytest.mark.parametrize("given_", [{"minimum_change": "low"}, {"deviations": -1}, {"seed_probability": 1.5}, {"maximum_hand": -2}])
def test_wrong_parameters_are_refused(given_):
    with pytest.raises(InputError):
        sar_change.__mdive_algorithm__.bind(given_)


# Real scenes


@pytest.mark.parametrize("burst", ["T137-292321-IW2", "T137-292325-IW1"])
@pytest.mark.parametrize("depth", [1, 6])
def test_nothing_floods_through_three_quiet_winters(analyse, real_data, burst, depth):
    """Every fourth date against the one before, or the six before: at most 1 % of land is a false alarm."""
    dates = sorted(d for d in (real_data / "raw" / "sar" / "opera_rtc_10SGD").iterdir() if d.is_dir())
    assert len(dates) > 20
    bands = [np.stack([rasterio.open(next(d.glob(f"*{burst}*_{p}.tif"))).read(1) for d in dates]) for p in ("VV", "VH")]
    for k in range(depth, len(dates), 4):
        got = analyse([b[k - depth : k][::-1] for b in bands], [b[k] for b in bands], resolution=30.0)
        said = got["extent"] < flood.HAND_MASKED
        assert said.mean() > 0.99
        assert (got["extent"] == FLOOD).sum() <= 0.01 * said.sum(), dates[k].name
