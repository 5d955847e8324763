"""Minimum-error thresholds on distributions of known truth, and a lattice that no tiling can move."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from scipy.optimize import brentq
from scipy.special import ndtr
from skimage.filters import threshold_otsu

from mdive.algorithms.evidence import decision_sigma, log_odds, pooled
from mdive.algorithms.lattice import BINS, LOWEST, MOST_LEAVES, STEP, lattice_histogram, leaf_pixels
from mdive.algorithms.modes import UNSEEN, fit, minimum_error
from mdive.algorithms.threshold import CLASS_SPREAD, EDGE_PIXELS, PRIOR_ERROR, RATIO, SEPARABILITY, minimum_error_threshold, surface
from mdive.algorithms.uncertainty import decibel_std
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, Window, load_node

EDGES = LOWEST + STEP * np.arange(BINS + 1)
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
LIMITS = {"fallback": -15.5, "lowest": -28.0, "highest": -11.0}


def grid(shape, resolution=10.0):
    return Grid(crs="EPSG:32631", resolution=resolution, x0=0.0, y0=0.0, shape=shape)


def cuts(length):
    return st.sets(st.integers(1, length - 1), max_size=6).map(lambda s: (0, *sorted(s), length))


def mixture(water=0.25, m1=-20.0, s1=1.5, m2=-11.0, s2=2.0, n=10_000_000):
    """Expected counts of a mixture of two normal modes."""
    cdf = water * stats.norm(m1, s1).cdf(EDGES) + (1 - water) * stats.norm(m2, s2).cdf(EDGES)
    return np.diff(cdf) * n


def scene(shape=(512, 512), water=0.25, m1=-20.0, s1=1.5, m2=-11.0, s2=2.0, seed=5):
    """A scene in dB whose lowest rows are water."""
    rng = np.random.default_rng(seed)
    db = rng.normal(m2, s2, shape)
    rows = round(shape[0] * (1 - water))
    db[rows:] = rng.normal(m1, s1, (shape[0] - rows, shape[1]))
    return db.astype("float32")


def solved(db, resolution=10.0, **limits):
    g = grid(db.shape, resolution)
    return minimum_error_threshold(lattice_histogram(db, None, grid=g), grid=g, **{**LIMITS, **limits})


# One histogram


def test_the_minimum_error_threshold_of_the_specified_mixture():
    counts = mixture()
    got = minimum_error(counts)
    assert got == pytest.approx(-16.40, abs=0.051)
    best = brentq(lambda x: 0.25 * stats.norm(-20, 1.5).pdf(x) - 0.75 * stats.norm(-11, 2).pdf(x), -19, -12)
    assert best == pytest.approx(-16.42, abs=0.01)
    assert abs(got - best) < 0.1
    # Otsu splits the variance, not the error: it sits a decibel too high where the classes are unequal.
    assert threshold_otsu(hist=(counts, CENTRES)) == pytest.approx(-15.45, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(-24, -19), st.floats(1.0, 2.5), st.floats(7.5, 11), st.floats(1.0, 2.5))
def test_it_stays_near_the_bayes_error(water, m1, s1, apart, s2):
    counts = mixture(water, m1, s1, m1 + apart, s2)

    t = np.append(np.arange(m1, m1 + apart, 0.05), minimum_error(counts))
    error = water * ndtr((m1 - t) / s1) + (1 - water) * ndtr((t - m1 - apart) / s2)
    assert error[-1] < error.min() + 0.015


def test_the_threshold_does_not_cling_to_a_class_whose_speckle_is_averaged_away():
    """Water that is even within a window is not so over a scene: another gust, or calibration, must not lie on the wrong side."""
    narrow = (1.0, 0.5, 0.2, 0.05)
    got = [minimum_error(mixture(0.3, -17.0, s, -10.0, 2.2)) for s in narrow]
    least_error = [brentq(lambda x, s=s: 0.3 * stats.norm(-17, s).pdf(x) - 0.7 * stats.norm(-10, 2.2).pdf(x), -17, -13) for s in narrow]
    assert least_error[0] - least_error[-1] > 1.5, "this mixture tests nothing"
    assert got[0] - got[-1] < 0.9
    assert min(got) > -17.0 + 1.5
    # What spreads by itself is hardly moved.
    assert minimum_error(mixture(0.3, -17.0, 1.5, -10.0, 2.2)) == pytest.approx(-14.4, abs=0.11)


@pytest.mark.parametrize("apart", [2.5, 3.0, 4.0, 9.0])
@pytest.mark.parametrize("narrow", [0.1, 0.4])
def test_even_modes_that_are_near_are_not_joined(apart, narrow):
    assert -14.0 + 0.65 < minimum_error(mixture(0.3, -14.0, narrow, -14.0 + apart, narrow)) < -14.0 + apart - 0.65


def test_the_bin_at_the_threshold_belongs_to_the_lower_class():
    counts = np.zeros(BINS)
    counts[[100, 101, 102]] = 50, 100, 50
    counts[[200, 201, 202]] = 50, 100, 50
    got = minimum_error(counts)
    assert EDGES[103] - 1e-9 <= got <= EDGES[200] + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_separable_classes_of_comparable_size_lie_apart(seed):
    """Why no limit on Ashman's D is kept: the two limits that there are imply it."""
    rng = np.random.default_rng(seed)
    counts = rng.gamma(0.3, 1.0, BINS) * np.exp(-0.5 * ((np.arange(BINS) - rng.uniform(50, 400)) / rng.uniform(5, 200)) ** 2)
    n, x = counts.sum(), CENTRES
    for t in range(10, BINS - 10, 7):
        p = counts[:t].sum() / n
        if min(p, 1 - p) < RATIO * max(p, 1 - p):
            continue
        (m1, v1), (m2, v2) = (
            (np.average(x[s], weights=counts[s]), np.cov(x[s], aweights=counts[s], ddof=0)) for s in (slice(t), slice(t, None))
        )
        between, within = p * (1 - p) * (m1 - m2) ** 2, p * v1 + (1 - p) * v2
        if between > SEPARABILITY * (between + within):
            assert np.sqrt(2) * abs(m1 - m2) / np.sqrt(v1 + v2) > 2.2


@pytest.mark.parametrize("bins", [[], [7], [0], [0, BINS - 1], [0, 1], [200, 201], [BINS - 2, BINS - 1]])
def test_degenerate_histograms(bins):
    counts = np.zeros(BINS)
    counts[bins] = 100
    assert np.isnan(minimum_error(counts)) == (len(bins) < 2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, BINS - 1), st.integers(1, 10_000)), max_size=6))
def test_no_histogram_stops_a_run(filled):
    counts = np.zeros(BINS)
    for at, number in filled:
        counts[at] += number
    tau, share, separability, valley, below, above = fit(counts)
    if not np.isnan(tau):
        assert LOWEST < tau <= LOWEST + STEP * BINS
        assert 0 < share < 1
        assert 0 < separability <= 1 + 1e-6
        assert 0 <= valley <= 1 + 1e-9
        assert min(below, above) > 0


# The lattice


def test_leaves_are_anchored_at_the_grid_and_count_every_pixel_once():
    db = scene((170, 230))
    db[:40, :60] = np.nan
    db[50, 50], db[51, 51] = -60.0, 30.0
    got = lattice_histogram(db, None, grid=grid(db.shape))
    assert got["counts"].shape == (3, 4, BINS)
    assert int(got["leaf"]) == 75
    for i in range(3):
        for j in range(4):
            leaf = db[75 * i : 75 * (i + 1), 75 * j : 75 * (j + 1)]
            valid = np.clip(leaf[np.isfinite(leaf)].astype("float64"), LOWEST + STEP / 2, LOWEST + STEP * (BINS - 0.5))
            np.testing.assert_array_equal(got["counts"][i, j], np.bincount(((valid - LOWEST) / STEP).astype(int), minlength=BINS))
    assert got["counts"][0, 0, 0] == 1
    assert got["counts"][0, 0, -1] == 1


def test_high_ground_is_not_counted_but_unknown_height_is():
    db = np.full((75, 75), -12.0, "float32")
    height = np.zeros((75, 75), "float32")
    height[:10], height[10:20] = 50.0, np.nan
    got = lattice_histogram(db, height, grid=grid(db.shape), maximum_height=15.0)
    assert got["counts"].sum() == 65 * 75


@settings(max_examples=10, deadline=None)
@given(rows=cuts(170), cols=cuts(230))
def test_no_tiling_moves_a_count_or_a_threshold(evaluate, rows, cols):
    db = scene((170, 230))
    node = load_node("s/post", "db", timed=False)
    counts = lattice_histogram(node, None)
    nodes = minimum_error_threshold(counts, **LIMITS)
    outputs = {
        "counts": counts,
        "nodes": nodes,
        "tau": surface(node, nodes),
        "odds": log_odds(node, surface(node, nodes), node, surface(node, nodes, field="below"), node),
    }
    whole = evaluate(outputs, {"db": db})
    got = evaluate(outputs, {"db": db}, Tiles(rows, cols))
    np.testing.assert_array_equal(got["counts"]["counts"], whole["counts"]["counts"])
    for field, value in whole["nodes"].items():
        np.testing.assert_array_equal(got["nodes"][field], value)
    np.testing.assert_array_equal(got["tau"], whole["tau"])
    np.testing.assert_array_equal(got["odds"], whole["odds"])
    assert len(whole["nodes"]["windows"])


def test_the_memory_of_the_lattice_is_bounded_by_growing_leaves():
    assert leaf_pixels(grid((512, 512))) == 75
    assert leaf_pixels(grid((512, 512), 30.0)) == 25
    for shape in ((40_000, 40_000), (100_000, 120_000)):
        leaf = leaf_pixels(grid(shape))
        assert (shape[0] / leaf) * (shape[1] / leaf) < MOST_LEAVES
        assert leaf % 75 == 0
    window = Window(5000, 7000, 1024, 1024)
    part = lattice_histogram.kernel(np.zeros(window.shape, "float32"), None, window=window, grid=grid((100_000, 120_000)))
    assert part["counts"].nbytes < 100_000


def test_a_leaf_never_overflows_its_counter():
    fine = grid((600, 600), 2.0)
    got = lattice_histogram(np.full((600, 600), -12.0, "float32"), None, grid=fine)
    assert got["counts"].max() == 375 * 375
    assert got["counts"].sum() == 600 * 600


# Edges of water


def with_pond(share, seed=5, near=None):
    """A scene of land with some water in it, counted as a whole and around the water (or around ``near``)."""
    rng = np.random.default_rng(seed)
    db = rng.normal(-11.0, 1.2, (512, 512)).astype("float32")
    side = round(512 * np.sqrt(share))
    db[200 : 200 + side, 200 : 200 + side] = rng.normal(-20.0, 1.2, (side, side))
    rim = np.zeros(db.shape, bool)
    rim[200 - side // 4 : 200 + side + side // 4, 200 - side // 4 : 200 + side + side // 4] = True
    return db, np.where(rim if near is None else near(db), db, np.nan).astype("float32")


def solved_at_edges(db, near):
    g = grid(db.shape)
    return minimum_error_threshold(lattice_histogram(db, None, grid=g), lattice_histogram(near, None, grid=g), grid=g, **LIMITS)


def test_little_water_is_seen_around_its_edges():
    db, near = with_pond(0.004)
    assert len(solved(db)["windows"]) == 0
    state = solved_at_edges(db, near)
    assert len(state["windows"])
    assert state["support"].max() > 0.4
    np.testing.assert_allclose(state["windows"][:, 3], -15.6, atol=0.8)


@pytest.mark.parametrize("spread", [0.5, 1.2, 2.5])
@pytest.mark.parametrize("cut", [0.1, 1.0, 5.0])
def test_the_tail_of_land_makes_no_mode_of_its_own(spread, cut):
    """Mistake: a threshold from a histogram that was selected to hold dark pixels. What is beside a tail is as dense as the tail is."""
    db = np.random.default_rng(7).normal(-13.0, spread, (512, 512))
    db = (ndimage.gaussian_filter(db, 1.0) - db.mean()) * 3.5 + db.mean()
    guess = db < np.percentile(db, cut)
    near = np.where(ndimage.binary_dilation(guess, np.ones((11, 11))), db, np.nan)
    state = solved_at_edges(db.astype("float32"), near.astype("float32"))
    assert len(state["windows"]) == 0
    np.testing.assert_array_equal(state["support"], 0)


def test_few_pixels_around_edges_tell_nothing():
    db, near = with_pond(0.0004)
    assert np.isfinite(near).sum() < EDGE_PIXELS
    assert len(solved_at_edges(db, near)["windows"]) == 0


# The surface


def test_a_bimodal_scene_finds_its_own_threshold():
    state = solved(scene())
    assert len(state["windows"])
    assert np.median(state["windows"][:, 3]) == pytest.approx(-16.4, abs=0.4)
    # The published threshold has its share.
    assert state["tau"].mean() == pytest.approx(-16.4, abs=0.5)
    assert state["support"].min() > 0.5
    assert (state["sigma"] < PRIOR_ERROR).all()


@pytest.mark.parametrize(("s1", "s2"), [(0.9, 2.5), (2.5, 0.9)])
def test_a_bimodal_scene_tells_how_wide_each_class_is(s1, s2):
    state, unseen = solved(scene(water=0.5, s1=s1, s2=s2)), STEP * np.sqrt(((2 * UNSEEN + 1) ** 2 - 1) / 6)
    assert unseen == pytest.approx(0.7, abs=0.01)
    for name, spread, column in (("below", s1, 6), ("above", s2, 7)):
        told = np.hypot(spread, unseen)
        np.testing.assert_allclose(np.sqrt(state["windows"][:, column]), told, rtol=0.1)
        # Support is below one, so that what is known without the scene has its share.
        share = state["support"]
        np.testing.assert_allclose(state[name], np.sqrt(share * told**2 + (1 - share) * CLASS_SPREAD**2), rtol=0.05)


@pytest.mark.parametrize(("mean", "spread"), [(-9.0, 1.0), (-11.0, 2.0), (-14.0, 3.0), (-22.0, 2.0)])
def test_a_scene_with_one_mode_has_no_threshold_of_its_own(mean, spread):
    db = np.random.default_rng(2).normal(mean, spread, (512, 512)).astype("float32")
    state = solved(db)
    assert len(state["windows"]) == 0
    np.testing.assert_array_equal(state["tau"], np.float32(-15.5))
    np.testing.assert_array_equal(state["sigma"], np.float32(PRIOR_ERROR))
    np.testing.assert_array_equal(state["support"], 0)
    for name in ("below", "above"):
        np.testing.assert_array_equal(state[name], np.float32(CLASS_SPREAD))


def test_speckled_land_of_even_and_patchy_backscatter_has_no_threshold_of_its_own(speckle):
    rng = np.random.default_rng(9)
    patches = np.kron(rng.normal(-10.0, 1.5, (32, 32)), np.ones((16, 16)))
    for land in (np.full((512, 512), -10.0), patches):
        db = 10 * np.log10(speckle(10 ** (land / 10), looks=30))
        assert len(solved(db)["windows"]) == 0


def test_two_kinds_of_land_are_outside_the_bounds_of_water():
    state = solved(scene(m1=-11.5, s1=1.0, m2=-5.0, s2=1.0, water=0.5))
    assert len(state["windows"]) == 0
    assert len(solved(scene(m1=-11.5, s1=1.0, m2=-5.0, s2=1.0, water=0.5), highest=0.0)["windows"])


def test_too_little_water_or_too_few_pixels_make_no_window():
    assert len(solved(scene(water=0.01))["windows"]) == 0
    db = scene()
    db[:, 150:] = np.nan
    db[::2] = np.nan
    db[:, ::2] = np.nan
    assert len(solved(db)["windows"]) == 0


def test_evidence_fades_with_distance():
    db = np.random.default_rng(1).normal(-11.0, 2.0, (200, 4000)).astype("float32")
    db[:, :200] = scene((200, 200))
    state = solved(db, resolution=30.0)
    # From where the windows end (6 km, the third node).
    tau, support, sigma = (state[k][0, 2:] for k in ("tau", "support", "sigma"))
    assert len(state["windows"])
    assert (np.diff(support) < 0).all()
    assert (np.diff(sigma) > 0).all()
    assert (np.diff(np.abs(tau + 15.5)) < 0).all()
    assert support[-1] < 0.02
    assert tau[-1] == pytest.approx(-15.5, abs=0.05)


def test_windows_that_share_pixels_do_not_count_twice():
    one = solved(scene((150, 150), water=0.4))
    four = solved(scene((300, 300), water=0.4))
    precision = [1 / s["sigma"].max() ** 2 - 1 / PRIOR_ERROR**2 for s in (one, four)]
    assert len(one["windows"]) == 1
    assert precision[1] < 4 * precision[0]


def test_the_surface_is_linear_between_nodes_and_flat_beyond():
    field = np.array([[0.0, 3.0], [6.0, 9.0]], "float32")
    nodes = {"tau": field, "spacing": np.array(30)}
    got = surface(np.zeros((60, 60), "float32"), nodes)
    assert got[0, 0] == 0.0
    assert got[-1, -1] == 9.0
    row = got[29, 15:45]
    np.testing.assert_allclose(np.diff(row), 0.1, atol=1e-5)
    np.testing.assert_allclose(got[:, 5], got[:, 0])
    assert got[29:31, 29:31].mean() == pytest.approx(4.5)
    single = {"tau": np.array([[-15.5]], "float32"), "spacing": np.array(300)}
    np.testing.assert_array_equal(surface(np.zeros((9, 9), "float32"), single), np.float32(-15.5))


# Both polarisations


def test_pooled_odds_are_the_mean_and_one_polarisation_is_enough():
    a, b = np.array([[1.0, np.nan, 2.0, np.nan]], "float32"), np.array([[-2.0, 0.5, np.nan, np.nan]], "float32")
    one, half, none = (np.full((1, 4), v, "float32") for v in (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(pooled(a, b, one, none), np.array([[-0.5, 0.5, 2.0, np.nan]], "float32"))
    # The less the scene itself tells, the rarer water is beforehand: odds of one to three, halved like the evidence.
    np.testing.assert_allclose(pooled(a, b, none, none)[0, :3], np.array([-0.5, 0.5, 2.0]) - np.log(3) / 2, rtol=1e-6)
    np.testing.assert_allclose(pooled(a, b, none, half)[0, :3], np.array([-0.5, 0.5, 2.0]) - np.log(3) / 4, rtol=1e-6)


def test_no_polarisation_outvotes_the_other_by_being_extreme():
    tau, sigma = np.full((1, 2), -15.5, "float32"), np.full((1, 2), 0.5, "float32")
    dark, bright = (log_odds(np.array([db], "float32"), tau, sigma, sigma, sigma) for db in ([-60.0, -30.0], [-8.0, -8.0]))
    support = np.ones((1, 2), "float32")
    np.testing.assert_allclose(pooled(dark, bright, support, support), 0.0, atol=0.01)


def test_the_sigma_of_a_decision_adds_speckle_and_threshold():
    looks, sigma = np.array([[4.4, np.nan]], "float32"), np.array([[1.0, 1.0]], "float32")
    got = decision_sigma(looks, np.array([[20.0, np.nan]], "float32"), sigma, sigma)
    want = (np.hypot(decibel_std(4.4), 1.0) + np.hypot(decibel_std(20.0), 1.0)) / 2
    np.testing.assert_allclose(got, [[want, np.nan]], rtol=1e-6)
