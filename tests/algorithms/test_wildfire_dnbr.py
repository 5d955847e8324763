"""dNBR by hand, its offset, the severity table, burned area on drawn scars, and real fires with known answers."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import mdive
from mdive.algorithms import tables
from mdive.algorithms import wildfire_tables as fire
from mdive.algorithms.optical import nbr
from mdive.algorithms.wildfire_change import change_sigma, relativised, water_mask
from mdive.algorithms.wildfire_dnbr import (
    burn_class,
    burn_confidence,
    burn_flags,
    burn_like,
    burn_probability,
    darkened,
    dnbr,
    severity_class,
)
from mdive.algorithms.wildfire_offset import background
from mdive.model.flags import QC_FLAGS, UNOBSERVED

BANDS = ("green", "nir08", "swir16", "swir22")
CLOUD, SHADOW, SNOW, NODATA, FAILED, NO_OFFSET, TOO_DARK = (
    QC_FLAGS[n] for n in ("cloud", "shadow", "snow", "nodata", "read_failure", "insufficient_background", "terrain_shadow")
)

FOREST = (0.04, 0.30, 0.15, 0.08)
LAKE = (0.05, 0.02, 0.01, 0.005)
CHAR = (0.04, 0.10, 0.20, 0.20)


def row(*values, dtype="float32"):
    return np.array([values], dtype=dtype)


# By hand


def test_severity_table_by_hand():
    change = row(-0.30, -0.251, -0.25, -0.101, -0.10, 0.0, 0.099, 0.10, 0.269, 0.27, 0.439, 0.44, 0.659, 0.66, 1.2)
    got = severity_class(change, np.full(change.shape, fire.BURNED, "uint8"))[0]
    assert got.tolist() == [1, 1, 2, 2, 0, 0, 0, 3, 3, 4, 4, 5, 5, 6, 6]


def test_severity_lies_inside_burned_area_alone():
    extent = row(fire.UNBURNED, fire.BURNED, fire.WATER, tables.CLOUD, tables.SNOW, tables.FILL, dtype="uint8")
    got = severity_class(row(0.9, 0.9, 0.9, np.nan, np.nan, np.nan), extent)[0]
    assert got.tolist() == [0, fire.HIGH, fire.WATER, tables.CLOUD, tables.SNOW, tables.FILL]


def test_classes_have_one_meaning_each():
    for spec in (fire.EXTENT, fire.SEVERITY):
        values, names = [c.value for c in spec.classes], [c.name for c in spec.classes]
        assert len(set(values)) == len(values)
        assert len(set(names)) == len(names)
    assert {c.name for c in fire.SEVERITY_CLASSES if c.role == "event"} == {"low", "moderate_low", "moderate_high", "high"}


def test_rbr_by_hand():
    np.testing.assert_allclose(relativised(row(0.5, 0.5, 0.5), row(0.6, 0.1, -0.5))[0], [0.5 / 1.601, 0.5 / 1.101, np.nan], rtol=1e-6)


def test_sigma_of_change_by_hand():
    centre = {"offset": np.array([0.1]), "sigma": np.array([0.03]), "found": np.array([True])}
    a, b, change = row(0.04, 0.04), row(0.05, 0.05), row(0.2, np.nan)
    np.testing.assert_allclose(change_sigma(a, b, change, centre)[0], [np.sqrt(0.0016 + 0.0025 + 0.0009), np.nan], rtol=1e-6)
    correlated = change_sigma(a, b, change, centre, correlation=0.5)[0, 0]
    assert correlated == pytest.approx(np.sqrt(0.0016 + 0.0025 - 0.002 + 0.0009), rel=1e-5)


def test_probability_by_hand():
    burned = row(1, 0, 1, 0, 0, dtype=bool)
    extent = np.where(burned, fire.BURNED, row(0, 0, 0, 0, tables.FILL, dtype="uint8")).astype("uint8")
    got = burn_probability(row(0.17, 0.17, 2.0, -1.0, np.nan), row(0.07, 0.07, 0.07, 0.07, np.nan), burned, extent)[0]
    np.testing.assert_allclose(got, [norm.cdf(1.0), norm.cdf(-0.1 / 0.07), 0.99, 0.01, np.nan], rtol=1e-4)


def test_probability_never_contradicts_the_class():
    """An island in a burn, a harvested field with a high dNBR, and water."""
    extent = row(fire.BURNED, fire.UNBURNED, fire.WATER, tables.CLOUD, dtype="uint8")
    none = np.zeros(extent.shape, bool)
    got = burn_probability(row(0.0, 0.6, np.nan, np.nan), row(0.05, 0.05, 0.05, np.nan), none, extent)[0]
    np.testing.assert_allclose(got, [0.5, 0.5, 0.01, np.nan], rtol=1e-6)


def test_errors_that_cancel_leave_certainty_and_no_gap():
    centre = {"offset": np.zeros(1), "sigma": np.zeros(1), "found": np.array([True])}
    before = np.random.default_rng(0).uniform(0.01, 0.3, (1, 20_000)).astype("float32")
    after = np.nextafter(before, np.float32(1.0))
    sigma = change_sigma(before, after, before, centre, correlation=1.0)
    assert np.isfinite(sigma).all()
    assert (sigma < 1e-3).all()
    zero, burned = row(0.0, 0.0, 0.0), row(1, 1, 0, dtype=bool)
    got = burn_probability(row(0.10, 0.2, 0.1), zero, burned, burned.astype("uint8"))[0]
    np.testing.assert_allclose(got, [0.5, 0.99, 0.01], atol=1e-3)


def test_what_reflectance_below_zero_makes_of_a_ratio_is_no_severity():
    """NBR of 9 and of -0.2: 9.2 is no difference of two normalised differences, and no stored number either."""
    before, after = forest((12, 12)), forest((12, 12))
    before[3:6, 3:6] = (0.02, 0.10, 0.05, -0.08)
    after[3:6, 3:6] = (0.02, 0.08, 0.12, 0.12)
    got = run(phase(before, noise=0.0), phase(after, noise=0.0), offset=0.0)
    assert np.isnan(got.dnbr.values[3:6, 3:6]).all()
    assert (got.extent.values[3:6, 3:6] == tables.FILL).all()
    assert (got.qc.values[3:6, 3:6] == TOO_DARK).all()
    np.testing.assert_array_equal(np.isnan(relativised(row(1.9, 1.9), row(-0.35, 0.5))[0]), [True, False])


def test_confidence_is_the_probability_of_the_class():
    extent = row(fire.BURNED, fire.UNBURNED, fire.WATER, tables.CLOUD, dtype="uint8")
    np.testing.assert_allclose(burn_confidence(extent, row(0.8, 0.3, 0.01, np.nan))[0], [0.8, 0.7, 0.99, np.nan], rtol=1e-6)


def test_evidence():
    change, second = row(0.3, 0.3, 0.3, 0.2, np.nan), row(0.1, 0.0, np.nan, np.nan, 0.1)
    limits = {"dnbr": 0.1, "alone": 0.25, "dnbr2": 0.02}
    assert burn_like(change, second, **limits)[0].tolist() == [True, False, True, False, False]
    assert burn_like(change, None, **limits)[0].tolist() == [True, True, True, False, False]


def test_char_is_dark():
    candidate = row(1, 1, 1, 1, 0, dtype=bool)
    infrared, green = row(-0.10, -0.02, -0.10, np.nan, -0.10), row(0.0, 0.0, 0.05, 0.0, 0.0)
    limits = {"dnir": -0.03, "dgreen": 0.02}
    assert darkened(candidate, infrared, green, **limits)[0].tolist() == [True, False, False, False, False]
    assert darkened(candidate, infrared, None, **limits)[0].tolist() == [True, False, True, False, False]


def test_water_on_either_date():
    bands = [np.array([[b]], "float32") for b in LAKE[:3]]
    land = [np.array([[b]], "float32") for b in FOREST[:3]]
    seen, hidden = row(0, dtype="uint16"), row(CLOUD, dtype="uint16")
    assert water_mask(*land, *bands, seen)[0, 0]
    assert water_mask(*bands, *land, seen)[0, 0]
    assert not water_mask(*land, *land, seen)[0, 0]
    assert not water_mask(*bands, *bands, hidden)[0, 0]
    assert not water_mask(None, bands[1], bands[2], None, bands[1], bands[2], seen)[0, 0]


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (CLOUD, tables.CLOUD),
        (SHADOW, tables.CLOUD),
        (SNOW, tables.SNOW),
        (NODATA, tables.FILL),
        (FAILED | CLOUD, tables.FILL),
        (SNOW | CLOUD, tables.CLOUD),
    ],
)
def test_what_was_not_seen_is_never_unburned(bits, expected):
    for burned in (True, False):
        mask, none = row(burned, dtype=bool), row(False, dtype=bool)
        assert burn_class(mask, none, row(0.0), row(bits, dtype="uint16"), none)[0, 0] == expected
    assert burn_class(none, none, row(np.nan), row(0, dtype="uint16"), none)[0, 0] == tables.FILL


def test_flags():
    found, lost = ({"offset": np.zeros(1), "sigma": np.zeros(1), "found": np.array([f])} for f in (True, False))
    why, change, water = row(0, CLOUD, 0, 0, dtype="uint16"), row(0.1, np.nan, np.nan, np.nan), row(0, 0, 0, 1, dtype=bool)
    assert burn_flags(why, change, water, found)[0].tolist() == [0, CLOUD, TOO_DARK, 0]
    assert burn_flags(why, change, water, lost)[0].tolist() == [NO_OFFSET, CLOUD, TOO_DARK | NO_OFFSET, NO_OFFSET]


# The offset


def offset_of(change, vegetation=0.5, **parameters):
    change = np.atleast_2d(np.asarray(change, dtype="float32"))
    state = background(change, np.full(change.shape, vegetation, "float32"), **parameters)
    return float(state["offset"][0]), float(state["sigma"][0]), bool(state["found"][0])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("season", [-0.12, 0.0, 0.12])
def test_the_offset_is_that_of_what_did_not_burn(share, season):
    rng = np.random.default_rng(8)
    n = 40_000
    burned = rng.random(n) < share
    # Severity from light to complete: the distribution of Cold Springs is as flat as this one.
    change = season + rng.normal(0, 0.045, n) + burned * rng.uniform(0.1, 1.0, n)
    offset, sigma, found = offset_of(change)
    assert found
    assert sigma > 0
    assert offset == pytest.approx(season, abs=0.012)


@pytest.mark.parametrize("low", [0.05, 0.15, 0.3])
def test_a_scene_that_burned_as_a_whole_has_no_offset(low):
    rng = np.random.default_rng(9)
    offset, sigma, found = offset_of(low + rng.uniform(0, 0.7, 20_000) + rng.normal(0, 0.05, 20_000))
    assert (offset, found) == (0.0, False)
    assert sigma == 0.05


@pytest.mark.parametrize("everywhere", [0.23, 0.5, -0.4])
def test_what_no_season_does_is_no_offset(everywhere):
    rng = np.random.default_rng(10)
    assert offset_of(everywhere + rng.normal(0, 0.03, 20_000))[::2] == (0.0, False)


@pytest.mark.parametrize("change", [[np.nan] * 500, [0.12] * 50, []])
def test_too_little_to_go_by(change):
    assert offset_of(change)[::2] == (0.0, False)


def test_bare_ground_does_not_vote():
    assert not offset_of(np.full(5000, 0.12), vegetation=0.05)[2]


def test_a_given_offset_is_taken_as_it_is():
    assert offset_of(np.full(5000, 0.12), offset=0.03) == (0.03, 0.0, True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3000), max_size=6))
def test_the_histogram_is_the_sum_of_its_parts(seed, cuts):
    rng = np.random.default_rng(seed)
    change, before = rng.normal(0.1, 0.6, (2, 3000)).astype("float32")
    change[rng.random(3000) < 0.2] = np.nan
    whole = background.kernel(change[None], before[None])
    parts = [
        background.kernel(a[None], b[None]) for a, b in zip(np.split(change, sorted(cuts)), np.split(before, sorted(cuts)), strict=True)
    ]
    np.testing.assert_array_equal(whole, sum(parts))
    assert whole.sum() == (np.isfinite(change) & (before > 0.1)).sum()


# Drawn scars


def phase(spectra, mask=None, seed=0, noise=0.003):
    """A Dataset of one date from (y, x, band) reflectance, with 30 m pixels."""
    rng = np.random.default_rng(seed)
    rows, cols, _ = spectra.shape
    noisy = (spectra + rng.normal(0, noise, spectra.shape)).astype("float32")
    coords = {"y": 4_000_000.0 - 30 * np.arange(rows), "x": 30.0 * np.arange(cols)}
    bands = {b: (("y", "x"), noisy[..., i]) for i, b in enumerate(BANDS)}
    return xr.Dataset({**bands, "mask": (("y", "x"), np.zeros((rows, cols), "uint16") if mask is None else mask)}, coords=coords)


def forest(shape=(80, 90)):
    return np.broadcast_to(FOREST, (*shape, 4)).copy()


def scar(after, rows, cols, severity=1.0):
    after[rows, cols] = (1 - severity) * after[rows, cols] + severity * np.array(CHAR)


def run(before, after, **parameters):
    return mdive.apply("wildfire.dnbr", before, after, **parameters)


def test_a_scar_is_found_with_its_islands_and_without_specks():
    after = forest()
    scar(after, slice(20, 50), slice(20, 60))
    after[30:33, 30:33] = FOREST  # 0.81 ha: an island
    after[40:45, 40:45] = FOREST  # 2.25 ha: an unburned patch of its own
    scar(after, slice(70, 73), slice(70, 73))  # 0.81 ha: a speck
    got = run(phase(forest()), phase(after, seed=1))
    extent, severity = got.extent.values, got.severity.values
    expected = np.zeros(extent.shape, "uint8")
    expected[20:50, 20:60] = fire.BURNED
    expected[40:45, 40:45] = fire.UNBURNED
    np.testing.assert_array_equal(extent, expected)
    assert (severity[30:33, 30:33] == fire.UNBURNED).all()
    scarred = (severity >= fire.LOW) & (severity <= fire.HIGH)
    assert scarred.sum() == 30 * 40 - 9 - 25
    specks = run(phase(forest()), phase(after, seed=1), minimum_mapping_unit=0.5).extent.values
    assert (specks[70:73, 70:73] == fire.BURNED).all()
    open_ = run(phase(forest()), phase(after, seed=1), fill_holes=0.0).extent.values
    assert (open_[30:33, 30:33] == fire.UNBURNED).all()


def test_a_light_burn_belongs_only_beside_a_certain_one():
    after = forest()
    scar(after, slice(20, 40), slice(20, 40))
    scar(after, slice(20, 40), slice(40, 50), severity=0.25)
    scar(after, slice(60, 75), slice(60, 75), severity=0.25)
    got = run(phase(forest()), phase(after, seed=1))
    light = got.dnbr.values[20:40, 40:50]
    assert ((light > 0.10) & (light < 0.27)).all(), "the drawing is not what the test is about"
    assert (got.extent.values[20:40, 20:50] == fire.BURNED).all()
    assert (got.extent.values[60:75, 60:75] == fire.UNBURNED).all()
    assert (got.probability.values[20:40, 40:50] > 0.5).all()
    assert (got.probability.values[60:75, 60:75] < 0.5).all()


def test_a_season_that_moves_everything_is_no_fire():
    """A uniform change of +0.12 everywhere is phenology."""
    before = phase(forest())
    ratio = nbr.kernel(before.nir08.values, before.swir22.values) - np.float32(0.12)
    after = before.copy()
    after["swir22"] = before.nir08 * (1 - ratio) / (1 + ratio)
    got = run(before, after)
    assert not got.extent.any()
    np.testing.assert_allclose(got.dnbr, 0.0, atol=0.002)
    assert (got.probability.values < 0.01 + 1e-6).all()
    # The same without the offset is a light burn in the making: the offset is what the test is about.
    assert (run(before, after, offset=0.0).dnbr.values > 0.11).all()


def test_a_burn_is_found_through_the_season():
    rng = np.random.default_rng(2)
    after = forest()
    after[..., 1] *= 0.92
    after[..., 3] *= 1.22
    truth = np.zeros(after.shape[:2], bool)
    truth[10:70, 10:60] = True
    after[truth] += rng.uniform(0.5, 1.0, (truth.sum(), 1)) * (np.array(CHAR) - after[truth])
    got = run(phase(forest()), phase(after, seed=1))
    np.testing.assert_array_equal(got.extent.values == fire.BURNED, truth)
    assert abs(np.median(got.dnbr.values[~truth])) < 0.01
    assert not (got.qc.values & NO_OFFSET).any()


def test_a_scene_of_nothing_but_burn_says_that_it_has_no_background():
    rng = np.random.default_rng(4)
    after = forest()
    after += rng.uniform(0.3, 1.0, (*after.shape[:2], 1)) * (np.array(CHAR) - after)
    got = run(phase(forest()), phase(after, seed=1))
    assert (got.extent.values == fire.BURNED).all()
    assert (got.qc.values & NO_OFFSET).all()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("bit", "expected"), [(CLOUD, tables.CLOUD), (SHADOW, tables.CLOUD), (SNOW, tables.SNOW), (NODATA, tables.FILL)])
def test_what_one_date_hides_is_not_seen(when, bit, expected):
    mask = np.zeros((80, 90), "uint16")
    mask[30:40, 30:40] = bit
    after = forest()
    scar(after, slice(20, 50), slice(20, 60))
    got = run(
        phase(forest(), mask if when == "before" else None), phase(after, mask if when == "after" else None, seed=1), cloud_margin=0.0
    )
    assert (got.extent.values[30:40, 30:40] == expected).all()
    assert (got.severity.values[30:40, 30:40] == expected).all()
    assert (got.extent.values == fire.BURNED).sum() == 30 * 40 - 100
    for name in ("probability", "confidence", "uncertainty", "dnbr", "rbr"):
        np.testing.assert_array_equal(np.isnan(got[name].values), got.extent.values >= tables.SNOW, err_msg=name)


def test_a_hole_under_cloud_is_no_island():
    mask = np.zeros((80, 90), "uint16")
    mask[30:32, 30:32] = CLOUD
    after = forest()
    scar(after, slice(20, 50), slice(20, 60))
    after[30:33, 30:33] = FOREST
    got = run(phase(forest()), phase(after, mask, seed=1), cloud_margin=0.0).extent.values
    assert (got[30:32, 30:32] == tables.CLOUD).all()
    assert got[32, 32] == fire.UNBURNED, "how large the hole is under the cloud nobody knows"


def test_a_lake_that_fell_dry_is_no_burn():
    before, after = forest(), forest()
    before[20:50, 20:60] = LAKE
    after[20:50, 20:60] = (0.10, 0.14, 0.22, 0.20)
    got = run(phase(before), phase(after, seed=1)).extent.values
    assert (got[20:50, 20:60] == fire.WATER).all()
    assert not (got == fire.BURNED).any()
    # Without the bands that show water, the near infrared tells: it rose.
    bare = run(phase(before).drop_vars(["green"]), phase(after, seed=1).drop_vars(["green"])).extent.values
    assert not (bare == fire.BURNED).any()


def test_a_field_that_was_harvested_is_no_burn():
    before, after = forest(), forest()
    before[20:50, 20:60] = (0.06, 0.40, 0.20, 0.12)
    after[20:50, 20:60] = (0.12, 0.24, 0.29, 0.25)
    got = run(phase(before), phase(after, seed=1))
    assert (got.dnbr.values[20:50, 20:60] > 0.3).all(), "the drawing is not what the test is about"
    assert not (got.extent.values == fire.BURNED).any()


def test_two_bands_are_enough():
    after = forest()
    scar(after, slice(20, 50), slice(20, 60))
    pair = [d.drop_vars(["green", "swir16"]) for d in (phase(forest()), phase(after, seed=1))]
    assert (run(*pair).extent.values == fire.BURNED).sum() == 30 * 40


def test_ground_too_dark_for_a_ratio_says_so():
    before, after = forest(), forest()
    before[10:20, 10:20] = (0.002, 0.006, 0.004, 0.003)
    got = run(phase(before, noise=0.0), phase(after, noise=0.0))
    assert (got.extent.values[10:20, 10:20] == tables.FILL).all()
    assert (got.qc.values[10:20, 10:20] == TOO_DARK).all()


def widths(length):
    """Widths of tiles that any cuts make of a length."""
    return st.sets(st.integers(1, length - 1), max_size=4).map(lambda s: tuple(int(w) for w in np.diff((0, *sorted(s), length))))


@settings(max_examples=6, deadline=None)
@given(widths(80), widths(90))
def test_any_tiling_gives_the_same_bits(rows, cols):
    rng = np.random.default_rng(6)
    mask = np.where(rng.random((80, 90)) < 0.002, CLOUD, 0).astype("uint16")
    after = forest()
    severity = np.kron(rng.random((16, 18)) < 0.55, np.ones((5, 5))) * rng.random((80, 90))
    after += severity[..., None] * (np.array(CHAR) - after)
    before, after = phase(forest(), mask, noise=0.01), phase(after, seed=1, noise=0.01)
    whole = run(before, after)
    assert 0.05 < (whole.extent.values == fire.BURNED).mean() < 0.95
    tiled = run(before.chunk(y=rows, x=cols), after.chunk(y=rows, x=cols))
    xr.testing.assert_identical(whole, tiled.compute(scheduler="synchronous"))


def test_wrong_parameters_are_refused():
    pair = phase(forest((9, 9))), phase(forest((9, 9)))
    with pytest.raises(mdive.errors.InputError, match="offset"):
        run(*pair, offset=3.0)
    with pytest.raises(mdive.errors.InputError, match="swir22"):
        run(pair[0].drop_vars("swir22"), pair[1])


# Real fires


def real_data(*parts):
    base = Path(os.environ.get("MDIVE_REAL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    folder = base.joinpath(*parts)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set MDIVE_REAL_DATA)")
    return folder


def read(path):
    with rasterio.open(path) as source:
        return source.read(), source.nodata


@pytest.fixture(scope="module")
def cold_springs():
    folder = real_data("cases", "fire-cold-springs")
    truth = read(folder / "truth.tif")[0][0]
    rows, cols = truth.shape
    coords = {"y": 4_428_465.0 - 15 - 30 * np.arange(rows), "x": 455_655.0 + 15 + 30 * np.arange(cols)}
    phases = []
    for when in ("pre", "post"):
        bands = {}
        for band in BANDS:
            stored, nodata = read(folder / f"{when}_{band}.tif")
            bands[band] = (("y", "x"), np.where(stored[0] == nodata, np.float32(np.nan), stored[0] * np.float32(1e-4)))
        quality = read(folder / f"{when}_qa_pixel_c1.tif")[0][0]
        mask = np.zeros(truth.shape, "uint16")
        for bit, cause in ((0, NODATA), (3, SHADOW), (4, SNOW), (5, CLOUD)):
            mask[quality >> bit & 1 == 1] |= cause
        phases.append(xr.Dataset({**bands, "mask": (("y", "x"), mask)}, coords=coords))
    return phases, truth


def test_cold_springs_by_default(cold_springs):
    phases, truth = cold_springs
    got = run(*phases)
    extent, qc = got.extent.values, got.qc.values
    hidden = (phases[0].mask.values | phases[1].mask.values) & UNOBSERVED != 0
    assert 0.18 < hidden.mean() < 0.20
    assert (extent[hidden] == tables.CLOUD).all()
    assert not (qc & NO_OFFSET).any()
    seen = extent <= fire.BURNED
    burned, inside = extent == fire.BURNED, truth == 1
    tp, wrong = (burned & inside & seen).sum(), ((burned != inside) & seen).sum()
    assert 2 * tp / (2 * tp + wrong) >= 0.81
    # Reliability: within a percent on average, as far as a perimeter is the truth.
    p, bins = got.probability.values[seen], np.arange(0.1, 1.0, 0.1)
    groups = np.digitize(p, bins)
    gap = [abs((p - inside[seen])[groups == k].sum()) for k in range(10)]
    assert sum(gap) / p.size < 0.01
    assert ((p >= 0.5 - 1e-6) | (extent[seen] == fire.UNBURNED)).all()
    assert ((p <= 0.5 + 1e-6) | (extent[seen] == fire.BURNED)).all()
    # What changed outside of the perimeter centres on zero once the offset is off.
    assert abs(np.nanmedian(got.dnbr.values[seen & ~inside])) < 0.01


@pytest.mark.parametrize("name", ["gld", "san", "wal"])
def test_mean_severity_of_basins_follows_the_published_one(name):
    """Mean dNBR of each basin against the figures of the U.S. Geological Survey, on the fires whose pairs are free of season and cloud."""
    folder = real_data("raw", "fire", "pwfdf_basins")
    published, found = [], []
    with (folder / "usgs_basins_dev.csv").open(encoding="utf-8-sig") as lines:
        rows = [r for r in csv.DictReader(lines) if r["Fire_ID"] == name]
    for basin in rows:
        phases = []
        for when in ("before", "after"):
            stored = read(folder / name / f"{basin['Fire_SegID']}_{when}.tif")[0]
            rho = np.where((stored < 7273) | (stored > 43_636), np.nan, stored * 2.75e-5 - 0.2).astype("float32")
            coords = {"y": -30.0 * np.arange(rho.shape[1]), "x": 30.0 * np.arange(rho.shape[2])}
            phases.append(xr.Dataset({b: (("y", "x"), rho[i]) for b, i in zip(BANDS, (1, 3, 4, 5), strict=True)}, coords=coords))
        published.append(float(basin["dNBR/1000"]))
        found.append(float(run(*phases).dnbr.mean()))
    assert len(rows) >= 3
    assert np.corrcoef(published, found)[0, 1] >= 0.9


def test_the_declaration_is_complete():
    spec = dnbr.__mdive_algorithm__
    assert [o.name for o in spec.outputs] == ["extent", "probability", "confidence", "uncertainty", "qc", "severity", "dnbr", "rbr"]
    assert spec.schema()["properties"]["minimum_mapping_unit"]["default"] == 1.0
