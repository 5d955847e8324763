"""The five water tests, exact to the stored number; classes, probability and confidence; the operational product as reference."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms import tables
from mdive.algorithms.flood_dswe import (
    AGGRESSIVE,
    CONSERVATIVE,
    DRY,
    LIMITS,
    STRENGTH,
    SURE_WATER,
    WATER,
    Limits,
    dswe_probability,
    dswe_tests,
)
from mdive.algorithms.flood_optical_index import index_probability, optical_index, pool, water_class, water_confidence, water_flags
from mdive.model.flags import QC_FLAGS, UNOBSERVED

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
PUBLISHED = {"wigt": 0.0124}
"""What DSWx-HLS sets otherwise than DSWE."""

CLOUD, SHADOW, SNOW, NODATA, FAILED, CONFLICT, PERMANENT = (
    QC_FLAGS[n] for n in ("cloud", "shadow", "snow", "nodata", "read_failure", "conflict", "permanent_water")
)

OPEN_WATER = (0.06, 0.07, 0.05, 0.02, 0.01, 0.005)
MARSH = (0.05, 0.06, 0.05, 0.10, 0.06, 0.04)
DARK_SOIL = (0.06, 0.09, 0.12, 0.20, 0.24, 0.09)
MEADOW = (0.04, 0.08, 0.06, 0.40, 0.22, 0.11)
SILENT_TREE = np.full((1, 5), 255, "uint8")


def pixels(*spectra):
    """One (1, n) float32 raster per band, from spectra in band order."""
    return [np.array([[s[i] for s in spectra]], dtype="float32") for i in range(6)]


def reference_word(dn, limits, scale=Fraction(1, 10_000), offset=Fraction(0)):
    """The five tests in exact rational arithmetic on stored numbers."""
    b, g, r, n, s, t = (Fraction(int(v)) * scale + offset for v in dn)
    at = {k: Fraction(str(v)) for k, v in limits._asdict().items()}

    def above(p, q, limit):
        # A ratio with a sum of 0 is ±inf or NaN in floating point: above any limit only if it is +inf.
        return p > q if p + q == 0 else (p - q) / (p + q) > limit

    def below(p, q, limit):
        return p < q if p + q == 0 else (p - q) / (p + q) < limit

    tests = (
        above(g, s, at["wigt"]),
        g + r > n + s,
        b + Fraction(5, 2) * g - Fraction(3, 2) * (n + s) - t / 4 > at["awgt"],
        above(g, s, at["pswt_1_mndwi"]) and s < at["pswt_1_swir1"] and n < at["pswt_1_nir"] and below(n, r, at["pswt_1_ndvi"]),
        above(g, s, at["pswt_2_mndwi"])
        and b < at["pswt_2_blue"]
        and s < at["pswt_2_swir1"]
        and t < at["pswt_2_swir2"]
        and n < at["pswt_2_nir"],
    )
    return sum(1 << i for i, passed in enumerate(tests) if passed)


# The tests


@pytest.mark.parametrize(
    ("spectrum", "word"), [(OPEN_WATER, 0b11111), (MARSH, 0b11000), (DARK_SOIL, 0b10000), (MEADOW, 0b00000), ((0.9,) * 6, 0b00100)]
)
def test_known_spectra(spectrum, word):
    assert dswe_tests(*pixels(spectrum))[0, 0] == word


# Numbers that lie on a limit, one step beside it, near zero, and anywhere.
STORED = st.one_of(st.sampled_from([0, 1, 899, 900, 901, 999, 1000, 1499, 1500, 2499, 2500, 2999, 3000]), st.integers(-300, 12_000))


@settings(max_examples=300, deadline=None)
@given(st.lists(STORED, min_size=6, max_size=6), st.sampled_from([LIMITS, Limits(wigt=0.0124), Limits(awgt=0.1, pswt_1_mndwi=0.0)]))
def test_word_equals_exact_arithmetic_on_stored_numbers(dn, limits):
    expected = reference_word(dn, limits)
    as_stored = np.array(dn, dtype="float32") * np.float32(1e-4)
    divided = (np.array(dn) / 10_000).astype("float32")
    for rho in (as_stored, divided):
        assert dswe_tests(*pixels(rho), limits=limits)[0, 0] == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from([10_546, 10_545, 10_909, 12_728, 16_364, 18_182]), st.integers(7273, 43_636)), min_size=6, max_size=6
    )
)
def test_word_is_exact_for_landsat_numbers_too(dn):
    rho = np.array(dn, dtype="float32") * np.float32(2.75e-5) + np.float32(-0.2)
    expected = reference_word(dn, LIMITS, Fraction(275, 10_000_000), Fraction(-2, 10))
    assert dswe_tests(*pixels(rho))[0, 0] == expected


def test_a_ratio_on_its_limit_is_not_above_it():
    # MNDWI = (562 - 438) / 1000 = 0.124, in any order of rounding.
    on, beside = (0.05, 0.0562, 0.03, 0.02, 0.0438, 0.01), (0.05, 0.0563, 0.03, 0.02, 0.0438, 0.01)
    assert (dswe_tests(*pixels(on, beside))[0] & 1).tolist() == [0, 1]
    assert (dswe_tests(*pixels((0.05, 0.06, 0.05, 0.1, 0.09, 0.04), (0.05, 0.06, 0.05, 0.1, 0.0899, 0.04)))[0] & 8).tolist() == [0, 8]


def test_a_missing_band_leaves_no_word():
    spectra = [[*OPEN_WATER[:i], np.nan, *OPEN_WATER[i + 1 :]] for i in range(6)]
    assert (dswe_tests(*pixels(*spectra)) == 255).all()
    assert np.isnan(dswe_probability(*pixels(*spectra))).all()


def test_strength_follows_the_number_of_tests():
    for word in range(32):
        passed = word.bit_count()
        expected = {0: DRY, 1: DRY, 2: AGGRESSIVE, 3: WATER, 4: SURE_WATER, 5: SURE_WATER}[passed]
        expected = {16: AGGRESSIVE, 24: CONSERVATIVE}.get(word, expected)
        assert STRENGTH[word] == expected, f"{word:05b}"


# Probability


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_probability_is_above_one_half_exactly_where_the_tests_say_so(seed):
    rng = np.random.default_rng(seed)
    dn = rng.integers(5, 4000, (6, 1, 200))
    bands = list((dn / 10_000).astype("float32"))
    strength = STRENGTH[dswe_tests(*bands)]
    for partial, least in (("none", WATER), ("conservative", CONSERVATIVE), ("aggressive", AGGRESSIVE)):
        p = dswe_probability(*bands, partial=partial)
        assert ((p >= 0) & (p <= 1)).all()
        decided = np.abs(p - 0.5) > 1e-6
        np.testing.assert_array_equal((p > 0.5)[decided], (strength >= least)[decided])


def test_probability_of_tests_by_simulation():
    """Tests 4 and 5 hold by a wide margin, 2 and 3 fail by one, so the first alone decides: the share of noisy copies that pass it."""
    spectrum = np.array((0.02, 0.085, 0.03, 0.12, 0.07, 0.08))
    assert dswe_tests(*pixels(spectrum))[0, 0] == 0b11000
    sigma = np.hypot(0.005, 0.05 * spectrum)
    rng = np.random.default_rng(5)
    noisy = spectrum[:, None] + rng.normal(size=(6, 40_000)) * sigma[:, None]
    share = (STRENGTH[dswe_tests(*[row[None].astype("float32") for row in noisy])] >= WATER).mean()
    sigma_f = 2 / 0.155**2 * np.hypot(0.07 * sigma[1], 0.085 * sigma[4])
    distance = 0.015 / 0.155 - 0.124
    assert share == pytest.approx(norm.cdf(distance / sigma_f), abs=0.02)
    # The probability knows of the limit's own error as well.
    expected = norm.cdf(distance / np.hypot(sigma_f, 0.06))
    assert dswe_probability(*pixels(spectrum))[0, 0] == pytest.approx(expected, abs=1e-5)


def test_second_opinion_by_hand():
    g, n, s = (np.array([[v]], "float32") for v in (0.06, 0.04, 0.05))
    mean = ((0.06 - 0.04) / 0.10 + (0.06 - 0.05) / 0.11) / 2
    sigma = [np.hypot(0.005, 0.05 * v) for v in (0.06, 0.04, 0.05)]
    f_n = 2 / 0.10**2 * np.hypot(0.04 * sigma[0], 0.06 * sigma[1])
    f_s = 2 / 0.11**2 * np.hypot(0.05 * sigma[0], 0.06 * sigma[2])
    z = mean / np.sqrt((f_n**2 + f_s**2) / 4 + 0.06**2)
    expected = 1 / (1 + np.exp(-z * np.pi / np.sqrt(3)))
    assert index_probability(g, n, s)[0, 0] == pytest.approx(expected, rel=1e-5)
    # A logistic curve of the same variance stays within 0.02 of the normal one.
    assert expected == pytest.approx(norm.cdf(z), abs=0.02)


def test_pooling_by_hand():
    a, b, why = (np.array([[v]]) for v in (0.9, 0.6, 0))
    odds = 2 / 3 * (np.log(9) + np.log(1.5))
    got = pool(a.astype("float32"), b.astype("float32"), why.astype("uint16"))[0, 0]
    assert got == pytest.approx(1 / (1 + np.exp(-odds)), rel=1e-5)


def test_pooling_where_an_opinion_is_missing_or_nothing_was_seen():
    p, q = np.array([[0.8, 0.8, 1.0, 0.8]], "float32"), np.array([[np.nan, 0.8, 1.0, 0.9]], "float32")
    got = pool(p, q, np.array([[0, CLOUD, 0, SNOW]], "uint16"))[0]
    assert got[0] == pytest.approx(0.8)
    assert got[2] == pytest.approx(0.99)
    assert np.isnan(got[[1, 3]]).all()


# Classes


@pytest.mark.parametrize("partial", ["none", "conservative", "aggressive"])
def test_classes_of_all_words(partial):
    words = np.arange(32, dtype="uint8")[None]
    got = water_class(words, np.zeros_like(words, "uint16"), None, partial=partial)[0]
    assert set(got[STRENGTH[:32] >= WATER]) == {flood.FLOOD}
    wet = {"none": [], "conservative": [24], "aggressive": [3, 5, 6, 9, 10, 12, 16, 17, 18, 20, 24]}[partial]
    assert np.flatnonzero(got == flood.PARTIAL_WATER).tolist() == wet


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (CLOUD, tables.CLOUD),
        (SHADOW, tables.CLOUD),
        (SNOW, tables.SNOW),
        (CLOUD | SNOW, tables.CLOUD),
        (NODATA, tables.FILL),
        (FAILED, tables.FILL),
        (CLOUD | FAILED, tables.FILL),
    ],
)
@pytest.mark.parametrize("word", [0, 24, 31, 255])
def test_what_was_not_seen_is_never_dry(bits, expected, word):
    one = np.array([[word]], "uint8")
    occurrence = np.array([[100.0]], "float32")
    assert water_class(one, np.array([[bits]], "uint16"), occurrence)[0, 0] == expected


def test_a_pixel_without_a_word_is_fill_even_if_no_bit_says_why():
    assert water_class(np.array([[255]], "uint8"), np.array([[0]], "uint16"), None)[0, 0] == tables.FILL


def test_permanent_water_is_no_flood():
    words = np.array([[31, 31, 24, 31, 0]], "uint8")
    occurrence = np.array([[75.0, 74.9, 90.0, np.nan, 100.0]], "float32")
    got = water_class(words, np.zeros((1, 5), "uint16"), occurrence)[0]
    assert got.tolist() == [flood.PERMANENT_WATER, flood.FLOOD, flood.PERMANENT_WATER, flood.FLOOD, flood.NOT_WATER]
    p = np.full((1, 5), 0.9, "float32")
    flags = water_flags(got[np.newaxis], np.zeros((1, 5), "uint16"), p, p, SILENT_TREE, occurrence, None)[0]
    assert (flags & PERMANENT != 0).tolist() == [True, False, True, False, True]


def test_two_opinions_far_apart_are_a_conflict_where_something_was_seen():
    why = np.array([[0, 0, CLOUD, 0]], "uint16")
    extent = np.array([[flood.FLOOD, flood.FLOOD, tables.CLOUD, flood.FLOOD]], "uint8")
    flags = water_flags(extent, why, np.array([[0.9, 0.9, 0.9, 0.9]]), np.array([[0.2, 0.4, 0.2, np.nan]]), SILENT_TREE[:, :4], None, None)[
        0
    ]
    assert (flags & CONFLICT != 0).tolist() == [True, False, False, False]


def test_confidence_is_the_probability_of_the_class():
    extent = np.array([[flood.FLOOD, flood.PARTIAL_WATER, flood.NOT_WATER, flood.PERMANENT_WATER, tables.CLOUD]], "uint8")
    open_water = np.array([[0.7, 0.2, 0.1, 0.7, np.nan]], "float32")
    wet = np.array([[0.8, 0.9, 0.3, 0.8, np.nan]], "float32")
    np.testing.assert_allclose(water_confidence(extent, open_water, wet, None)[0], [0.7, 0.7, 0.7, 0.7, np.nan], rtol=1e-6)
    lost = np.ones((1, 5), bool)
    np.testing.assert_allclose(water_confidence(extent, open_water, wet, lost)[0], [0.35, 0.35, 0.7, 0.7, np.nan], rtol=1e-6)


def test_flood_whose_reference_was_lost_says_so():
    extent = np.array([[flood.FLOOD, flood.PARTIAL_WATER, flood.NOT_WATER, flood.PERMANENT_WATER, tables.CLOUD]], "uint8")
    why = np.array([[0, 0, 0, 0, CLOUD]], "uint16")
    p, lost = np.full((1, 5), 0.9, "float32"), np.ones((1, 5), bool)
    alone = QC_FLAGS["insufficient_background"]
    assert water_flags(extent, why, p, p, SILENT_TREE[:, :5], None, lost)[0].tolist() == [alone, alone, 0, 0, CLOUD]
    assert not (water_flags(extent, why, p, p, SILENT_TREE[:, :5], None, ~lost) & alone).any()


# The algorithm


def scene(seed=0, times=2, shape=(40, 50)):
    """Patches of water, marsh, soil and meadow with noise, clouds that move, and holes."""
    rng = np.random.default_rng(seed)
    kinds = np.kron(rng.integers(0, 4, (shape[0] // 5, shape[1] // 5)), np.ones((5, 5), int))
    spectra = np.array([OPEN_WATER, MARSH, DARK_SOIL, MEADOW])[kinds]
    noisy = spectra + rng.normal(0, 0.004, (times, *spectra.shape))
    mask = np.zeros((times, *shape), "uint16")
    for t in range(times):
        mask[t, 5 + 9 * t : 16 + 9 * t, 8:21] |= CLOUD
        mask[t, 30:34, 5 * t : 5 * t + 9] |= SHADOW
    mask[:, :3, :3] |= FAILED
    mask[:, -4:, -4:] |= SNOW
    noisy[:, :3, :3] = np.nan
    noisy[0, 20, 20, 3] = np.nan
    coords = {"y": 5_000_000.0 - 30 * np.arange(shape[0]), "x": 30.0 * np.arange(shape[1])}
    bands = {b: (("time", "y", "x"), noisy[..., i].astype("float32")) for i, b in enumerate(BANDS)}
    return xr.Dataset({**bands, "mask": (("time", "y", "x"), mask)}, coords=coords)


def test_products_keep_their_promises():
    data = scene()
    got = mdive.apply("flood.optical_index", data)
    extent, qc = got.extent.values, got.qc.values
    silent = (qc & (UNOBSERVED | SNOW)) != 0
    np.testing.assert_array_equal(silent, extent >= flood.HAND_MASKED)
    for name in ("probability", "confidence"):
        np.testing.assert_array_equal(np.isnan(got[name].values), silent, err_msg=name)
        assert np.nanmin(got[name]) >= 0 <= 1 >= np.nanmax(got[name])
    assert np.isnan(got.uncertainty.values[silent]).all()
    event = np.isin(extent, (flood.FLOOD, flood.PARTIAL_WATER))
    assert (got.probability.values[event] > 0.4).all()
    assert (got.probability.values[extent == flood.NOT_WATER] < 0.6).all()
    assert (got.dswe_tests.values[(qc & CLOUD) != 0] != 255).all(), "the word is there under cloud too"


def test_a_second_date_fills_what_the_first_did_not_see():
    data = scene()
    one, two = mdive.apply("flood.optical_index", data.isel(time=[0])), mdive.apply("flood.optical_index", data)
    seen_once, seen_twice = one.extent.values < 250, two.extent.values < 250
    assert seen_twice.sum() > seen_once.sum()
    np.testing.assert_array_equal(two.extent.values[seen_once], one.extent.values[seen_once])


def widths(length):
    """Widths of tiles that any cuts make of a length."""
    return st.sets(st.integers(1, length - 1), max_size=4).map(lambda s: tuple(int(w) for w in np.diff((0, *sorted(s), length))))


@settings(max_examples=6, deadline=None)
@given(widths(40), widths(50))
def test_any_tiling_gives_the_same_bits(rows, cols):
    data = scene()
    whole = mdive.apply("flood.optical_index", data)
    tiled = mdive.apply("flood.optical_index", data.chunk(y=rows, x=cols))
    xr.testing.assert_identical(whole, tiled.compute(scheduler="synchronous"))


def test_unknown_limits_are_refused():
    with pytest.raises(mdive.errors.InputError, match="wight"):
        mdive.apply("flood.optical_index", scene(), wight=0.1)
    with pytest.raises(mdive.errors.InputError, match="partial"):
        mdive.apply("flood.optical_index", scene(), partial="some")


# The operational product


@pytest.fixture(scope="module")
def louisiana():
    base = Path(os.environ.get("MDIVE_REAL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    folder = base / "cases" / "water-louisiana"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set MDIVE_REAL_DATA)")

    def read(name):
        with rasterio.open(folder / f"{name}.tif") as source:
            return source.read(1)

    rasters = {}
    for name in BANDS:
        stored = read(name)
        rasters[name] = (("y", "x"), np.where(stored == -9999, np.float32(np.nan), stored * np.float32(1e-4)))
    fmask = read("fmask")
    mask = np.where(fmask == 255, NODATA, 0).astype("uint16")
    for bits, cause in (((1, 2), CLOUD), ((3,), SHADOW), ((4,), SNOW)):
        for bit in bits:
            mask[(fmask != 255) & (fmask >> bit & 1 == 1)] |= cause
    coords = {"y": 3_600_000.0 - 15 - 30 * np.arange(1000), "x": 600_015.0 + 30 * np.arange(1000)}
    return xr.Dataset({**rasters, "mask": (("y", "x"), mask)}, coords=coords), read("reference_diag"), read("truth")


def test_test_word_equals_the_operational_product_on_every_valid_pixel(louisiana):
    data, reference, _ = louisiana
    words = mdive.apply("flood.optical_index", data, **PUBLISHED).dswe_tests.values
    valid = np.logical_and.reduce([np.isfinite(data[b].values) for b in BANDS])
    assert valid.sum() == 999_992
    np.testing.assert_array_equal(words[valid], reference[valid])
    assert (words[~valid] == 255).all()


def test_water_of_the_operational_product_is_found_by_default(louisiana):
    data, _, truth = louisiana
    extent = mdive.apply("flood.optical_index", data).extent.values
    known = (truth != 255) & (extent < flood.HAND_MASKED)
    wet, water = extent > 0, truth == 1
    tp, wrong = (wet & water & known).sum(), ((wet != water) & known).sum()
    assert 2 * tp / (2 * tp + wrong) >= 0.95
    assert known.sum() / (truth != 255).sum() >= 0.95, "most of what the product saw is seen"


def test_the_declaration_is_complete():
    spec = optical_index.__mdive_algorithm__
    assert [o.name for o in spec.outputs] == ["extent", "probability", "confidence", "uncertainty", "qc", "dswe_tests", "reference_water"]
    assert spec.parameters.keys() >= set(Limits._fields)
    assert {k: spec.bind({})[k] for k in Limits._fields} == LIMITS._asdict()
