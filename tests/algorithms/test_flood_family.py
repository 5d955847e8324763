"""What the optical algorithms and the one by heights share: the same bits in any tiling, honest silence, probabilities that mean what they say."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms.flood_hand_stage import NOT_SEEN
from mdive.algorithms.optical import BLIND
from mdive.model.flags import QC_FLAGS
from mdive.pipeline import Tiles, Window, load_node
from mdive.plugins import Bundle
from mdive.plugins.registry import algorithm_spec
from mdive.testing._cover import FARMLAND, cover
from mdive.testing._landscape import LOWLAND, Landscape
from mdive.testing._optical import CLOUD, SHADOW, CloudField, Sky, reflectance

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
OPTICAL = ("flood.optical_index", "flood.water_index", "flood.self_trained")
SPECTRA = np.array(
    [
        (0.06, 0.07, 0.05, 0.02, 0.01, 0.005),  # clear water
        (0.09, 0.12, 0.13, 0.08, 0.03, 0.02),  # muddy water
        (0.05, 0.06, 0.05, 0.10, 0.06, 0.04),  # marsh
        (0.06, 0.09, 0.12, 0.20, 0.24, 0.09),  # dark soil
        (0.04, 0.08, 0.06, 0.40, 0.22, 0.11),  # meadow
    ]
)
SHAPE = (23, 29)
PIXEL = 30.0
SMALL = {
    "flood.optical_index": {"sun_azimuth": 150.0, "sun_elevation": 30.0},
    "flood.water_index": {},
    "flood.self_trained": {"minimum_training": 0.2},
    "flood.hand_stage": {
        "minimum_area": 0.2,
        "reach_length": 300.0,
        "drain_area": 0.02,
        "depth_from": "boundary",
        "boundary_distance": 90.0,
    },
}
"""Parameters that let something happen on a few hundred pixels."""


def small_scene(seed, times=2):
    """Patches of spectra with noise, relief, and everything that goes wrong."""
    rng = np.random.default_rng(seed)
    kinds = np.kron(rng.choice(5, (8, 10), p=rng.dirichlet(np.ones(5))), np.ones((3, 3), int))[: SHAPE[0], : SHAPE[1]]
    noisy = (SPECTRA[kinds] + rng.normal(0, 0.006, (times, *SHAPE, 6))).astype("float32")
    noisy[rng.random((times, *SHAPE)) < 0.03] = rng.choice([np.nan, 0.0, -0.2, 1.6])
    mask = np.where(rng.random((times, *SHAPE)) < 0.05, rng.choice([1, 2, 4, 8, 1 << 15], (times, *SHAPE)), 0).astype("uint16")
    mask[:, 2:6, 3:9] |= QC_FLAGS["cloud"]
    wet = kinds <= 1
    dem = rng.choice([rng.normal(10, 3, SHAPE), rng.integers(0, 4, SHAPE), np.where(wet, 1.0, 5.0) + rng.random(SHAPE)]).astype("float32")
    dem[rng.random(SHAPE) < 0.02] = np.nan
    occurrence = np.where(
        rng.random(SHAPE) < 0.1, np.nan, np.where(wet & (rng.random(SHAPE) < 0.5), 95.0, rng.choice([0.0, 0.0, 40.0], SHAPE))
    )
    extent = np.where(
        rng.random((times, *SHAPE)) < 0.2, rng.choice([253, 255, 251], (times, *SHAPE)), np.where(wet, rng.choice([1, 2, 4], SHAPE), 0)
    )
    return {
        **{b: noisy[..., i] for i, b in enumerate(BANDS)},
        "mask": mask,
        "occurrence": occurrence.astype("float32"),
        "dem": dem,
        "hand": np.where(wet, 0.3, 2.0).astype("float32") + rng.integers(0, 20, SHAPE).astype("float32") / 10,
        "drain": rng.integers(-1, SHAPE[0] * SHAPE[1], SHAPE).astype("float32"),
        "landcover": rng.choice([10.0, 30.0], SHAPE).astype("float32"),
        "extent": extent.astype("float32"),
        "probability": rng.random((times, *SHAPE)).astype("float32"),
    }


def nodes_of(spec, rasters, without=()):
    bundles = []
    for phase in spec.phases:
        names = (*spec.needs.get(phase, ()), *spec.optional.get(phase, ()))
        nodes = {n: None if n in without else load_node(f"s/{phase}", n, timed=rasters[n].ndim == 3) for n in names}
        bundles.append(Bundle(**nodes, mask=load_node(f"s/{phase}", "mask", dtype="uint16")))
    return bundles


def cuts(length):
    return st.sets(st.integers(1, length - 1), max_size=2).map(lambda s: (0, *sorted(s), length))


@pytest.mark.parametrize("name", [*OPTICAL, "flood.hand_stage"])
def test_any_tiling_gives_the_same_bits(evaluate, name):
    spec = algorithm_spec(name)
    spare = {"flood.hand_stage": ("hand", "probability", "landcover"), "flood.self_trained": ("swir16",), "flood.water_index": ("swir16",)}
    occurred, cases = set(), []
    for seed in range(16):
        rasters = small_scene(seed)
        bundles = nodes_of(spec, rasters, spare.get(name, ("occurrence",)) if seed % 2 else ())
        outputs = dict(spec.function(*bundles, **SMALL[name]))
        cases.append((outputs, rasters, evaluate(outputs, rasters, resolution=PIXEL)))
        occurred.update(np.unique(cases[-1][2]["extent"]))

    @settings(max_examples=200)
    @given(st.sampled_from(range(16)), cuts(SHAPE[0]), cuts(SHAPE[1]))
    def check(case, rows, cols):
        outputs, rasters, whole = cases[case]
        cut = evaluate(outputs, rasters, Tiles(rows, cols), PIXEL)
        for product, raster in whole.items():
            np.testing.assert_array_equal(cut[product], raster, err_msg=product)

    check()
    want = {0, 1, 2, 253, 255} | ({NOT_SEEN} if name == "flood.hand_stage" else set())
    assert occurred >= want, "the cases show what there is to see"
    assert occurred <= {c.value for c in spec.outputs[0].classes}


@pytest.mark.parametrize("name", OPTICAL)
def test_what_was_not_seen_is_never_dry_nor_is_it_water(name):
    """Cloud is no dry land, and the shadow of a cloud, as dark as water, is no water."""
    rasters = small_scene(1, times=1)
    dark = np.full((1, *SHAPE), 0.03, "float32")
    for band in BANDS:
        rasters[band] = rasters[band].copy()
        rasters[band][:, 10:14] = dark[:, 10:14] * (0.2 if band in ("nir08", "swir16", "swir22") else 1.0)
    rasters["mask"][:, 10:14] = QC_FLAGS["shadow"]
    got = mdive.apply(name, *datasets(name, rasters), **SMALL[name])
    unseen = got.qc.values & BLIND != 0
    assert unseen.any()
    assert (got.extent.values[unseen] >= flood.HAND_MASKED).all()
    # The shadow grows by its margin, but never into what it is not.
    assert (got.extent.values[10:14] >= flood.HAND_MASKED).all()
    assert np.isnan(got.probability.values[unseen]).all()


def datasets(name, rasters):
    spec, found = algorithm_spec(name), []
    coords = {"y": 5_000_000.0 - PIXEL * np.arange(SHAPE[0]), "x": 500_000.0 + PIXEL * np.arange(SHAPE[1])}
    for phase in sorted(spec.phases, key=lambda p: p not in spec.needs):
        names = (*spec.needs.get(phase, ()), *spec.optional.get(phase, ()), *(["mask"] if phase == "post" else []))
        rasters_of = {n: (("time", "y", "x")[3 - rasters[n].ndim :], rasters[n]) for n in names}
        found.append(xr.Dataset(rasters_of, coords=coords))
    return found


@pytest.mark.parametrize("name", OPTICAL)
@pytest.mark.parametrize("band", BANDS)
def test_two_bands_near_zero_are_no_infinite_index(name, band):
    """Division by a sum near zero: neither water nor an infinity may come of it."""
    rasters = small_scene(2, times=1)
    for i, b in enumerate(BANDS):
        rasters[b] = np.full((1, *SHAPE), SPECTRA[4, i], "float32")
    for b in (band, "green"):
        rasters[b] = np.where(np.indices(SHAPE)[1] < 5, np.float32(1e-7 if b == band else -1e-7), rasters[b])
    rasters["mask"] = np.zeros((1, *SHAPE), "uint16")
    got = mdive.apply(name, *datasets(name, rasters), **SMALL[name])
    for product in ("probability", "confidence", "uncertainty"):
        values = got[product].values
        assert not np.isinf(values).any()
        known = values[np.isfinite(values)]
        assert (known <= (1.0 if product != "uncertainty" else 3.2)).all()


def test_unsigned_numbers_do_not_wrap():
    """A band of stored uint16 below the other one: mdive takes reflectance, and its indices take stored numbers without wrapping."""
    green, nir = np.array([[100, 300]], "uint16"), np.array([[300, 100]], "uint16")
    for index in ("ndwi", "mndwi"):
        np.testing.assert_allclose(mdive.apply(index, green, nir), [[-0.5, 0.5]])
    got = mdive.apply("awei_nsh", green, nir, nir, nir)
    assert got[0, 0] < 0 < got[0, 1]


# Synthetic events


def event(seed, stage, n=240):
    """A river flood with clouds: reflectance with its cause plane, occurrence, and the water that is there."""
    landscape = Landscape(seed, (n, n), 10.0, LOWLAND, stage)
    window = Window(0, 0, n, n)
    land = landscape.window(window)
    ground = cover(landscape, FARMLAND, window, land)
    planes = reflectance(CloudField.of(landscape, "post", Sky(0.25, 158.0, 41.0)), window, land, ground, flooded=True)
    fmask = planes.pop("fmask")
    mask = np.zeros((n, n), "uint16")
    mask[fmask & CLOUD > 0] |= QC_FLAGS["cloud"]
    mask[fmask & SHADOW > 0] |= QC_FLAGS["shadow"]
    coords = {"y": 5e6 - 10.0 * np.arange(n), "x": 5e5 + 10.0 * np.arange(n)}
    post = xr.Dataset({b: (("y", "x"), v * np.float32(1e-4)) for b, v in planes.items()} | {"mask": (("y", "x"), mask)}, coords=coords)
    occurrence = np.where(land.permanent, 95.0, np.where(land.height < 1, 30.0, 0.0)).astype("float32")
    static = {
        "occurrence": occurrence,
        "dem": land.elevation,
        "hand": np.maximum(land.height, 0),
        "drain": np.arange(n * n).reshape(n, n).astype("float32"),
    }
    return post, xr.Dataset({k: (("y", "x"), v) for k, v in static.items()}, coords=coords), land.permanent | (land.depth > 0)


@pytest.fixture(scope="module")
def events():
    return [event(seed, stage) for seed, stage in enumerate((0.0, 1.0, 2.5, 4.0, 1.5, 3.0))]


def calibration_error(cases):
    """Expected calibration error over 20 bins, from (probability, truth)."""
    gaps, pixels = np.zeros(20), 0
    for p, truth in cases:
        known = np.isfinite(p)
        bins = np.clip((p[known] * 20).astype(int), 0, 19)
        gaps += np.bincount(bins, p[known].astype("float64") - truth[known], 20)
        pixels += known.sum()
    return np.abs(gaps).sum() / pixels


@pytest.mark.parametrize("name", OPTICAL)
def test_probability_is_reliable_and_the_map_right(events, name):
    found = [(mdive.apply(name, post, static[["occurrence"]]), truth) for post, static, truth in events]
    assert calibration_error([(got.probability.values, truth) for got, truth in found]) <= 0.05
    tp = fp = fn = 0
    for got, truth in found:
        seen, wet = got.extent.values < flood.HAND_MASKED, got.extent.values > 0
        tp, fp, fn = tp + (wet & truth & seen).sum(), fp + (wet & ~truth & seen).sum(), fn + (~wet & truth & seen).sum()
    assert tp / (tp + fp + fn) > 0.9
    for got, _ in found:
        p, extent = got.probability.values, got.extent.values
        assert (p[extent == flood.NOT_WATER] < 0.6).all()
        assert (p[np.isin(extent, (flood.FLOOD, flood.PERMANENT_WATER))] > 0.4).all()


def test_heights_tell_the_flood_under_the_clouds(events):
    seen, unseen, errors = [], [], []
    right = filled = missed = 0
    for post, static, truth in events[1:]:
        first = mdive.apply("flood.optical_index", post, static[["occurrence"]])
        got = mdive.apply("flood.hand_stage", first[["extent", "probability"]], static, reach_length=1500.0)
        hidden = first.extent.values >= flood.HAND_MASKED
        seen.append((got.probability.values, truth))
        unseen.append((np.where(hidden, got.probability_by_height.values, np.nan), truth))
        here = got.extent.values == NOT_SEEN
        filled, right = filled + here.sum(), right + (here & truth).sum()
        missed += (hidden & truth & ~here & (static.occurrence.values < 75)).sum()
        errors.append(got.uncertainty.values)
    assert calibration_error(seen) <= 0.05
    assert calibration_error(unseen) <= 0.05
    assert right / filled > 0.85
    assert right / (right + missed) > 0.75
    assert all(np.nanmax(e) == pytest.approx(np.sqrt(2) * 1.5) for e in errors)


@pytest.mark.parametrize("name", OPTICAL)
def test_usual_water_is_told_apart(events, name):
    post, static, _ = events[2]
    got = mdive.apply(name, post, static[["occurrence"]])
    usual, occurrence = got.reference_water.values, static.occurrence.values
    wet, seen = got.extent.values > 0, got.extent.values < flood.HAND_MASKED
    for value, where in (
        (1, wet & (occurrence == 30)),
        (2, wet & (occurrence == 95)),
        (3, wet & (occurrence == 0)),
        (0, ~wet & (occurrence == 0)),
    ):
        assert (where & seen).any()
        assert (usual[where & seen] == value).all()
    assert (usual[~seen] == 255).all()
    # Seasonal water is flood in the map, because the map does not know the season; permanent water never is.
    assert (got.extent.values[usual == 1] != flood.PERMANENT_WATER).all()
    assert (got.extent.values[usual == 2] == flood.PERMANENT_WATER).all()
