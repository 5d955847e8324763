"""Stages of reaches by exact search, depth, and what was not seen: by hand, against brute force, in any tiles, on synthetic floods."""

from fractions import Fraction

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms.flood_hand_stage import EXTENT, NOT_SEEN, first_look, known_class
from mdive.algorithms.hand_stage import (
    below_stage,
    ground_squares,
    height_bins,
    reach_counts,
    reach_stages,
    reaches,
    share_by_rise,
    stage_bins,
    stage_depth,
)
from mdive.algorithms.mosaic import cause, pick
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid
from mdive.pipeline import Tiles

CLOUD, NODATA, CONFLICT, FEW = (QC_FLAGS[n] for n in ("cloud", "nodata", "conflict", "low_n_obs"))
ANY = {"minimum_area": 0.0, "minimum_fit": 0.0}


def grid(shape, resolution=10.0):
    return Grid(crs="EPSG:32631", resolution=resolution, x0=500_000.0, y0=5_000_000.0, shape=shape)


def located(arrays, resolution=10.0):
    shape = next(iter(arrays.values())).shape
    coords = {"y": 5_000_000.0 - resolution * (np.arange(shape[0]) + 0.5), "x": 500_000.0 + resolution * (np.arange(shape[1]) + 0.5)}
    return xr.Dataset({n: (("y", "x"), a) for n, a in arrays.items()}, coords=coords)


def best_by_brute_force(hand, wet, dry, step, highest):
    """The lowest of the stages with the largest TP / (TP + FP + FN), in fractions; None where nothing wet was seen."""
    found = (Fraction(0), None)
    bins = height_bins(hand, step, highest)
    for k in range(round(highest / step) + 1):
        flooded = bins <= k
        tp, fp, fn = (wet & flooded).sum(), (dry & flooded).sum(), (wet & ~flooded).sum()
        fit = Fraction(int(tp), int(tp + fp + fn)) if tp + fp + fn else Fraction(0)
        if fit > found[0]:
            found = (fit, k)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_height_on_the_edge_of_a_bin_belongs_to_it(dtype):
    heights = np.array([0, 0.05, 0.1, 0.3, 0.7, 0.7001, 19.9, 20.0, 20.1, np.nan, -0.0], dtype)
    assert height_bins(heights, 0.1, 20.0).tolist() == [0, 1, 1, 3, 7, 8, 199, 200, 201, -1, 0]


def test_a_flood_of_a_known_stage_is_found_again():
    """V-shaped valley: HAND = |x|, flooded up to 2.3 m."""
    hand = np.tile(np.abs(np.arange(101) - 50) * 0.1, (40, 1)).astype("float32")
    extent = (hand <= np.float32(2.3)).astype("uint8")
    counts = reach_counts(hand, np.zeros(hand.shape, "int64"), extent)
    stages = reach_stages(counts, grid=grid(hand.shape))
    assert stages["stage"].tolist() == [pytest.approx(2.3)]
    assert stages["fit"].tolist() == [1.0]
    at = stage_bins(np.zeros(hand.shape, "int64"), stages)
    np.testing.assert_array_equal(below_stage(hand, at, stages), extent == 1)
    np.testing.assert_allclose(stage_depth(hand, at, stages), np.maximum(2.3 - hand, 0), atol=1e-5)


def test_of_equally_good_stages_the_lowest():
    hand = np.array([[0.1, 0.5, 0.9, 1.5]], "float32")
    seen = np.array([[1, 255, 255, 0]], "uint8")
    stages = reach_stages(reach_counts(hand, np.zeros((1, 4), "int64"), seen), grid=grid((1, 4)), **ANY)
    assert stages["bin"].tolist() == [1]
    # 1 of 2 either way: TP/(TP+FP+FN) is 1/2 at the first bin, 2/4 at the last.
    hand, seen = np.array([[0.1, 0.2, 0.2, 0.3]], "float32"), np.array([[1, 0, 0, 1]], "uint8")
    stages = reach_stages(reach_counts(hand, np.zeros((1, 4), "int64"), seen), grid=grid((1, 4)), **ANY)
    assert (stages["bin"].tolist(), stages["fit"].tolist()) == ([1], [0.5])


@st.composite
def cases(draw, least=2):
    shape = draw(st.integers(least, 23)), draw(st.integers(least, 23))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hand = rng.choice([rng.gamma(2, 1, shape), rng.integers(0, 30, shape) / 10, rng.uniform(0, 30, shape)]).astype("float32")
    hand[rng.random(shape) < 0.1] = np.nan
    drain = rng.integers(0, shape[0] * shape[1], shape)
    drain[rng.random(shape) < 0.1] = -1
    wet = rng.random(shape) < 1 / (1 + np.exp(2 * (np.nan_to_num(hand) - 2)))
    extent = np.where(
        rng.random(shape) < 0.3, rng.choice([253, 255, 251], shape), np.where(wet, rng.choice([1, 2, 3, 4], shape), 0)
    ).astype("uint8")
    cut = [draw(st.sets(st.integers(1, n - 1), max_size=n - 1)) for n in shape]
    return hand, drain, extent, Tiles(*((0, *sorted(c), n) for c, n in zip(cut, shape, strict=True)))


@settings(max_examples=100)
@given(cases())
def test_stages_are_those_of_brute_force(case):
    hand, drain, extent, _ = case
    reach = reaches(drain, grid=grid(hand.shape), reach_length=80.0)
    stages = reach_stages(reach_counts(hand, reach, extent, step=0.2, highest=4.0), grid=grid(hand.shape), step=0.2, highest=4.0, **ANY)
    used = np.isfinite(hand) & (reach >= 0) & (extent < 250)
    assert stages["reach"].tolist() == np.unique(reach[used]).tolist()
    for name, found, fit in zip(stages["reach"], stages["bin"], stages["fit"], strict=True):
        here = used & (reach == name)
        want, k = best_by_brute_force(hand[here], extent[here] > 0, extent[here] == 0, 0.2, 4.0)
        assert found == (-1 if k is None else k)
        assert np.isnan(fit) or fit == pytest.approx(float(want))


@settings(max_examples=200)
@given(cases(), st.sampled_from([0.0, 40.0, 3000.0]))
def test_any_tiling_gives_the_same_table(tiled, case, length):
    hand, drain, extent, tiles = case
    reach = reaches(drain, grid=grid(hand.shape), reach_length=length)
    np.testing.assert_array_equal(tiled(reaches, drain, tiles=tiles, reach_length=length), reach)
    whole, cut = (tiled(reach_counts, hand, reach, extent, tiles=t) for t in (None, tiles))
    for name in ("reach", "bin", "wet", "dry"):
        np.testing.assert_array_equal(cut[name], whole[name], err_msg=name)
    assert (np.diff(whole["reach"]) >= 0).all()
    assert whole["wet"].sum() + whole["dry"].sum() == ((extent < 250) & np.isfinite(hand) & (reach >= 0)).sum()


def test_the_table_follows_reaches_and_heights_not_pixels():
    """More pixels of the same reaches and heights add no row: what is merged is bounded."""
    sizes = []
    for n in (200, 400):
        rng = np.random.default_rng(0)
        hand = rng.integers(0, 300, (n, n)).astype("float32") / 10
        reach = np.indices((n, n))[0].astype("int64") * 4 // n
        table = reach_counts(hand, reach, rng.integers(0, 2, (n, n)).astype("uint8"))
        sizes.append(sum(a.nbytes for a in table.values()))
    assert sizes[0] == sizes[1] == 4 * 202 * 32


def test_reaches_are_squares_of_drainage_and_do_not_depend_on_the_tile():
    drain = np.array([[0, 299, 300, 301, 300 * 1000, -1]])
    at = grid((2000, 1000))
    assert reaches(drain, grid=at, reach_length=3000.0).tolist() == [[0, 0, 1, 1, 1 << 32, -1]]
    assert reaches(drain, grid=at, reach_length=0.0).tolist() == drain.tolist()
    assert reaches(np.array([[np.nan, 5.0]], "float32"), grid=at, reach_length=0.0).tolist() == [[-1, 5]]


@settings(max_examples=50)
@given(cases(), st.sampled_from([0.0, 40.0, 130.0]))
def test_squares_of_ground_hang_on_the_grid(tiled, case, length):
    hand, _, _, tiles = case
    got = tiled(ground_squares, hand, tiles=tiles, reach_length=length)
    edge = int(length / 10) or max(hand.shape)
    for (r, c), name in np.ndenumerate(got):
        assert name == (-1 if np.isnan(hand[r, c]) else (r // edge << 32) + c // edge)


def test_heights_without_a_name_of_their_drainage_are_enough(valley):
    post, static, _ = valley
    named, nameless = (mdive.apply("flood.hand_stage", post, s) for s in (static, static.drop_vars("drain")))
    np.testing.assert_array_equal(named.extent.values, nameless.extent.values)


def test_labels_that_lost_digits_are_refused():
    with pytest.raises(mdive.errors.InputError, match="exact up to 16777216"):
        reaches(np.array([[3e7]], "float32"), grid=grid((9000, 9000)))


def test_probability_by_height_never_rises_with_height_and_is_the_share_that_was_seen():
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 50, (2, 201))
    share = share_by_rise(counts)
    assert (np.diff(share) <= 1e-12).all()
    assert ((share > 0) & (share < 1)).all()
    # Already in order, it is the share itself.
    counts = np.stack([np.linspace(200, 0, 201), np.linspace(0, 200, 201)]).astype(int)
    np.testing.assert_allclose(share_by_rise(counts), (counts[0] + 0.5) / 201, rtol=1e-12)


# The algorithm


@pytest.fixture(scope="module")
def valley():
    """A valley with a channel in its middle, flooded up to 2 m above it; a cloud over half of it, and a wood."""
    rows, cols = np.indices((60, 121))
    hand = (np.abs(cols - 60) * 0.1).astype("float32")
    truth = hand <= np.float32(2.0)
    extent = truth.astype("uint8")
    extent[:, 60] = flood.PERMANENT_WATER
    extent[20:35] = 253
    extent[40:50, 30:60] = 0  # canopy hides it
    cover = np.full(hand.shape, 30.0, "float32")
    cover[40:50, 30:60] = 10.0
    occurrence = np.where(cols == 60, 100.0, 0.0).astype("float32")
    drain = (rows * 121 + 60).astype("float32")
    static = located({"dem": hand + 50, "hand": hand, "drain": drain, "occurrence": occurrence, "landcover": cover})
    return located({"extent": extent}), static, truth


def test_flood_under_cloud_and_canopy_is_told_apart_from_what_was_seen(valley):
    post, static, truth = valley
    got = mdive.apply("flood.hand_stage", post, static)
    extent, seen = got.extent.values, post.extent.values
    hidden = (seen == 253) | (static.landcover.values == 10)
    np.testing.assert_array_equal(extent == NOT_SEEN, hidden & truth & (static.occurrence.values == 0))
    np.testing.assert_array_equal(extent[~hidden], seen[~hidden])
    assert (extent[(seen == 253) & ~truth] == 253).all(), "no height makes unseen ground dry"
    qc = got.qc.values
    assert (qc[seen == 253] & CLOUD).all()
    assert (qc[(extent == NOT_SEEN) & (seen == 0)] & CONFLICT).all()
    silent = extent >= NOT_SEEN
    for name in ("probability", "confidence"):
        np.testing.assert_array_equal(np.isnan(got[name].values), silent)
    np.testing.assert_allclose(got.depth.values[extent == NOT_SEEN], (2.0 - static.hand.values)[extent == NOT_SEEN], atol=1e-5)
    assert np.isnan(got.depth.values[extent == 253]).all()
    assert (got.depth.values[extent == 0] == 0).all()
    np.testing.assert_allclose(got.uncertainty.values[~silent], np.sqrt(2) * 1.5, rtol=1e-6)
    roles = {c.value: c.role for c in EXTENT.classes}
    assert roles[NOT_SEEN] == "unobserved"


def test_depth_from_the_edge_of_the_water(valley):
    post, static, truth = valley
    got = mdive.apply("flood.hand_stage", post, static, depth_from="boundary")
    wet = np.isin(got.extent.values, (1, 2)) & truth
    np.testing.assert_allclose(got.depth.values[wet], (2.0 - static.hand.values)[wet], atol=1e-4)


def test_without_hand_the_dem_tells_it(valley):
    post, static, truth = valley
    rows = np.indices(truth.shape)[0]
    sloping = static.drop_vars(["hand", "drain"])
    sloping["dem"] = sloping.dem + (0.001 * (60 - rows)).astype("float32")
    got = mdive.apply("flood.hand_stage", post, sloping, drain_area=0.02)
    filled = (got.extent.values == NOT_SEEN) & (post.extent.values == 253)
    assert filled.sum() > 0.9 * (truth & (post.extent.values == 253)).sum()
    assert truth[filled].mean() > 0.95


@pytest.mark.parametrize(
    ("change", "parameters"),
    [
        (lambda e: np.where(e > 0, 253, e), {}),  # nothing wet was seen
        (lambda e: np.where(np.indices(e.shape)[1] > 61, 253, e), {"minimum_area": 50.0}),  # too little was
        (lambda e: np.where(np.isin(e, (0, 1)), 1 - e, e), {}),  # the hills are wet and the valley is dry
    ],
)
def test_a_reach_without_a_stage_says_so_and_fills_nothing(valley, change, parameters):
    post, static, _ = valley
    seen = change(post.extent.values.astype(int)).astype("uint8")
    got = mdive.apply("flood.hand_stage", post.assign(extent=(("y", "x"), seen)), static, **parameters)
    assert not (got.extent == NOT_SEEN).any()
    assert (got.qc.values[seen < 250] & FEW).all()
    assert np.isnan(got.probability_by_height).all()


def test_classes_of_two_dates_are_chosen_not_averaged():
    """Between dry (0) and permanent water (2) lies no flood (1); the date that saw something counts."""
    stack = np.array([[[0, 253, 255, 2, np.nan, 0]], [[2, 2, 253, 0, np.nan, 2]]], "float32")
    mask = np.zeros(stack.shape, "uint16")
    mask[0, 0, 5] = CLOUD
    choice = first_look(stack, mask)
    assert choice[0].tolist() == [0, 1, 0, 0, -1, 1]
    assert known_class(pick(stack, choice), cause(mask, choice))[0].tolist() == [0, 2, 255, 2, 255, 2]


@pytest.mark.parametrize("code", [np.nan, 0.4, 77.0, 255.0, -1.0])
def test_numbers_that_are_no_code_are_not_dry(code):
    """255 becomes NaN where fill is decoded, and NaN becomes 0 where numbers are cast: neither may end as dry land."""
    assert known_class(np.array([[code]], "float32"), np.zeros((1, 1), "uint16")).tolist() == [[255]]


def test_a_map_with_fill_decoded_gives_the_same_result(valley):
    post, static, _ = valley
    masked = post.extent.where(post.extent != 253).astype("float32")
    a = mdive.apply("flood.hand_stage", post, static)
    b = mdive.apply("flood.hand_stage", masked.to_dataset(), static)
    np.testing.assert_array_equal(a.depth.values, b.depth.values)
    assert (b.extent.values[post.extent.values == 253] >= NOT_SEEN).all()
    assert (b.qc.values[post.extent.values == 253] & NODATA).all()
