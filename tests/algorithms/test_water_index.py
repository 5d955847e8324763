"""A water index and a limit from the scene's shores."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms.flood_dswe import SIGMA_INDEX
from mdive.algorithms.index_threshold import SHORE_ERROR, STEP, above_limit, index_histogram, near_shore, shore_threshold
from mdive.algorithms.optical import AWEI_NSH, AWEI_SH, awei_nsh, awei_sh, sum_sigma
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid

FALLBACK = QC_FLAGS["threshold_fallback"]
EDGES = -1 + STEP * np.arange(451)


def histogram(*modes, n=20_000):
    """Expected counts of normal modes (share, mean, deviation)."""
    return sum(np.round(n * share * np.diff(norm.cdf(EDGES, mean, deviation))) for share, mean, deviation in modes).astype("int64")


@pytest.mark.parametrize("shift", [-0.2, -0.05, 0.0, 0.1, 0.25])
def test_two_modes_tell_the_limit_between_them(shift):
    """Equal modes: the best limit lies in their middle, and is moved to the bounds if it lies beyond."""
    got = shore_threshold(histogram((0.5, shift + 0.3, 0.08), (0.5, shift - 0.3, 0.08)))
    assert got["tau"] == pytest.approx(max(shift, -0.1), abs=0.03)
    assert (got["adaptive"], got["sigma"]) == (1, SHORE_ERROR)


@pytest.mark.parametrize(
    "counts",
    [
        histogram((1.0, -0.3, 0.1)),
        histogram((1.0, 0.0, 0.3)),
        histogram((0.97, -0.3, 0.1), (0.03, 0.4, 0.05)),
        histogram((0.5, 0.3, 0.08), (0.5, -0.3, 0.08), n=100),
        np.zeros(450, "int64"),
        histogram((0.5, -0.2, 0.03), (0.5, -0.6, 0.08)),  # two kinds of land
        histogram((0.5, 0.4, 0.03), (0.5, 0.8, 0.05)),  # two kinds of water
    ],
)
def test_one_mode_is_no_reason_to_move_the_limit(counts):
    got = shore_threshold(counts, fallback=0.05)
    assert (float(got["tau"]), int(got["adaptive"]), float(got["sigma"])) == (0.05, 0, SIGMA_INDEX)


def test_counts_are_of_fixed_bins_and_leave_nothing_out():
    index = np.array([[-1.5, -1.0, -0.99, 0.0, 0.999, 1.0, 7.0, np.nan, 0.5]], "float32")
    where = np.ones(index.shape, bool)
    where[0, -1] = False
    got = index_histogram(index, where)
    assert got.sum() == 7
    assert (got[0], got[2], got[225], got[449]) == (2, 1, 1, 3)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([10.0, 25.0, 45.0]))
def test_near_a_shore_both_sides_are_near(seed, metres):
    rng = np.random.default_rng(seed)
    index = rng.choice([-0.5, 0.5, np.nan], (14, 17), p=rng.dirichlet([5, 1, 1])).astype("float32")
    grid = Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=index.shape)
    got = near_shore(index, metres=metres, grid=grid)
    reach = int(np.ceil(metres / 10))
    for r, c in np.ndindex(*index.shape):
        near = [v for (i, j), v in np.ndenumerate(index) if (i - r) ** 2 + (j - c) ** 2 <= reach * reach]
        assert got[r, c] == (not np.isnan(index[r, c]) and any(v > 0 for v in near) and any(v <= 0 for v in near))


def test_probability_by_simulation():
    limit = {"tau": np.array(0.05), "sigma": np.array(0.03)}
    index, sigma = np.array([[0.12, 0.05, -0.02]], "float32"), np.full((1, 3), 0.04, "float32")
    got = above_limit(index, sigma, limit)[0]
    np.testing.assert_allclose(got, norm.cdf((index[0] - 0.05) / 0.05), atol=0.02)
    assert got[1] == 0.5


def test_weights_are_those_of_the_index():
    """The error of an index by simulation, whose function is another piece of code than the weights."""
    rng = np.random.default_rng(4)
    rho = np.array([0.06, 0.07, 0.05, 0.03, 0.02])  # blue, green, nir, swir16, swir22
    noisy = (rho[:, None] + rng.normal(size=(5, 50_000)) * np.hypot(0.005, 0.05 * rho)[:, None]).astype("float32")
    one = [np.array([[v]], "float32") for v in rho]
    assert sum_sigma(*one, weights=AWEI_SH)[0, 0] == pytest.approx(awei_sh(*noisy).std(), rel=0.02)
    assert sum_sigma(*one[1:], weights=AWEI_NSH)[0, 0] == pytest.approx(awei_nsh(*noisy[1:]).std(), rel=0.02)


# The algorithm


def scene(water=(0.06, 0.08, 0.07, 0.05, 0.03, 0.02), haze=0.0, share=0.3, n=80):
    """A lake in meadows, under haze that lifts all bands."""
    rng = np.random.default_rng(1)
    rows, cols = np.indices((n, n))
    truth = np.hypot(rows - n / 2, cols - n / 2) < n * np.sqrt(share / np.pi)
    spectrum = np.where(truth[..., None], water, (0.04, 0.08, 0.06, 0.40, 0.22, 0.11)) + haze
    noisy = (spectrum + rng.normal(0, 0.006, spectrum.shape)).astype("float32")
    coords = {"y": 5e6 - 10.0 * np.arange(n), "x": 5e5 + 10.0 * np.arange(n)}
    bands = {b: (("y", "x"), noisy[..., i]) for i, b in enumerate(("blue", "green", "red", "nir08", "swir16", "swir22"))}
    return xr.Dataset(bands, coords=coords), truth


@pytest.mark.parametrize("index", ["auto", "ndwi", "mndwi", "awei_sh", "awei_nsh"])
def test_every_index_finds_the_lake(index):
    data, truth = scene()
    got = mdive.apply("flood.water_index", data, index=index)
    assert ((got.extent.values == flood.FLOOD) == truth).mean() > 0.98
    assert np.isfinite(got.uncertainty.values).all()


def test_a_muddy_lake_needs_a_limit_of_its_own():
    """Muddy water at NDWI -0.04: the published limit loses most of it, the shores tell a lower one."""
    data, truth = scene(water=(0.10, 0.130, 0.14, 0.140, 0.05, 0.03))
    fixed = mdive.apply("flood.water_index", data, index="ndwi", lowest=0.0)
    got = mdive.apply("flood.water_index", data, index="ndwi")
    assert ((fixed.extent.values == flood.FLOOD) == truth).mean() < 0.8
    assert ((got.extent.values == flood.FLOOD) == truth).mean() > 0.98
    assert not (got.qc.values & FALLBACK).any()


def test_without_shores_the_limit_is_the_published_one_and_says_so():
    data, truth = scene(share=0.0)
    got = mdive.apply("flood.water_index", data)
    assert not truth.any()
    assert (got.extent == flood.NOT_WATER).all()
    assert (got.qc.values & FALLBACK).all()


def test_a_sensor_of_four_bands_is_enough_and_a_missing_band_is_named():
    data, truth = scene()
    got = mdive.apply("flood.water_index", data[["green", "nir08"]])
    assert ((got.extent.values == flood.FLOOD) == truth).mean() > 0.98
    with pytest.raises(mdive.errors.InputError, match="'mndwi' needs the band 'swir16'"):
        mdive.apply("flood.water_index", data[["green", "nir08"]], index="mndwi")


def test_pixels_too_dark_for_a_ratio_are_not_dry():
    data, _ = scene()
    data["green"][:5] = 0.001
    data["swir16"][:5] = 0.001
    got = mdive.apply("flood.water_index", data)
    assert (got.extent.values[:5] == 255).all()
    assert (got.qc.values[:5] & QC_FLAGS["nodata"]).all()
