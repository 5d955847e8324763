"""Which dark bodies are water, and where the edges of water are: against the whole array, on any tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mdive.algorithms.evidence import log_odds
from mdive.algorithms.threshold import CLASS_SPREAD, PRIOR_ERROR
from mdive.algorithms.water_bodies import DISTINCT, DOUBTED, LEVELS, RIM, darkness_levels, rim_sums, separation, surrounded, water_bodies
from mdive.algorithms.water_edges import first_guess, only_where, with_rim
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, load_node

SQUARE = np.ones((3, 3))


def cuts(length):
    return st.sets(st.integers(1, length - 1), max_size=length - 1).map(lambda s: (0, *sorted(s), length))


def by_hand(seed, grow, levels, least, share):
    """Bodies by scipy's components and numpy's moments, one body at a time."""
    labels, count = ndimage.label(grow, SQUARE)
    out = np.zeros(grow.shape, bool)
    # Beyond the grid there is no body, and nothing that is known.
    edge = grow & ~ndimage.binary_erosion(grow, ndimage.generate_binary_structure(2, 1), border_value=0)
    for k in range(1, count + 1):
        body = labels == k
        area, seeds = int(body.sum()), int((seed & body).sum())
        if area < least or seeds < max(share * area, 1):
            continue
        around = []
        for r, c in np.argwhere(edge & body):
            window = (slice(max(r - RIM, 0), r + RIM + 1), slice(max(c - RIM, 0), c + RIM + 1))
            around.append(levels[window][~grow[window] & (levels[window] > 0)])
        around = np.concatenate(around).astype(float) if around else np.empty(0)
        inside = levels[body & (levels > 0)].astype(float)
        if area >= DOUBTED and len(around) >= area:
            d = np.sqrt(2) * (around.mean() - inside.mean()) / np.sqrt(around.var() + inside.var() + 1 / 6) if len(inside) else 0.0
            if not d > DISTINCT:
                continue
        out |= body
    return out


@st.composite
def scenes(draw):
    shape = draw(st.integers(2, 24)), draw(st.integers(2, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = ndimage.gaussian_filter(rng.normal(size=shape), draw(st.sampled_from([0.0, 1.0, 3.0])))
    grow = field > np.quantile(field, draw(st.floats(0.1, 0.9)))
    contrast = draw(st.sampled_from([0, 20, 60]))
    levels = np.clip(400 - contrast * grow + rng.normal(0, 15, shape), 1, LEVELS - 1).astype("uint16")
    levels[rng.random(shape) < draw(st.sampled_from([0.0, 0.2]))] = 0
    return rng.random(shape) < draw(st.floats(0.2, 0.9)), grow, levels, Tiles(draw(cuts(shape[0])), draw(cuts(shape[1])))


def decided(evaluate, seed, grow, levels, tiles=None, **parameters):
    nodes = [load_node("s/post", n, dtype=d, timed=False) for n, d in (("seed", "bool"), ("grow", "bool"), ("levels", "uint16"))]
    rims = rim_sums(nodes[2], nodes[1])
    outputs = {"out": water_bodies(*nodes, rims, **parameters), "rims": rims}
    return evaluate(outputs, {"seed": seed, "grow": grow, "levels": levels}, tiles)


@settings(max_examples=200)
@given(scenes(), st.sampled_from([0.0, 0.02, 0.1]), st.sampled_from([0.0, 0.4, 0.7]))
def test_bodies_are_those_of_the_whole_array_on_any_tiles(evaluate, case, area, share):
    seed, grow, levels, tiles = case
    got = decided(evaluate, seed, grow, levels, tiles, minimum_area=area, seed_share=share)
    np.testing.assert_array_equal(got["rims"], decided(evaluate, seed, grow, levels)["rims"])
    np.testing.assert_array_equal(got["out"], by_hand(seed, grow, levels, round(area * 100), share))


@settings(max_examples=200)
@given(scenes())
def test_what_surrounds_a_body_is_counted_on_any_tiles(evaluate, case):
    _, bodies, levels, tiles = case
    kinds = np.where(levels == 0, 0, 1 + levels % 2).astype("uint16")
    nodes = [load_node("s/post", n, dtype=d, timed=False) for n, d in (("kinds", "uint16"), ("bodies", "bool"))]
    rims = rim_sums(*nodes)
    got = evaluate({"out": surrounded(nodes[1], rims)}, {"kinds": kinds, "bodies": bodies}, tiles)["out"]
    want = np.zeros(bodies.shape, bool)
    labels, count = ndimage.label(bodies, SQUARE)
    edge = bodies & ~ndimage.binary_erosion(bodies, ndimage.generate_binary_structure(2, 1), border_value=0)
    for k in range(1, count + 1):
        one = two = 0
        for r, c in np.argwhere(edge & (labels == k)):
            window = (slice(max(r - RIM, 0), r + RIM + 1), slice(max(c - RIM, 0), c + RIM + 1))
            one += int((~bodies[window] & (kinds[window] == 1)).sum())
            two += int((~bodies[window] & (kinds[window] == 2)).sum())
        want |= (labels == k) & (two > one)
    np.testing.assert_array_equal(got, want)


def pond(size=9, contrast=100, spread=3, shape=(60, 60)):
    rng = np.random.default_rng(1)
    grow = np.zeros(shape, bool)
    grow[20 : 20 + size, 20 : 20 + size] = True
    levels = (400 - contrast * grow + rng.normal(0, spread, shape)).astype("uint16")
    return grow, levels


def test_one_dark_pixel_makes_no_water_of_a_large_field(evaluate):
    grow, levels = pond(30)
    seed = np.zeros_like(grow)
    seed[25, 25:30] = True
    assert not decided(evaluate, seed, grow, levels)["out"].any()
    seed[20:34, 20:50] = True
    np.testing.assert_array_equal(decided(evaluate, seed, grow, levels)["out"], grow)


def test_a_body_must_stand_out_of_what_surrounds_it(evaluate):
    for contrast, spread, water in ((100, 20, True), (20, 20, False), (-60, 20, False)):
        grow, levels = pond(9, contrast, spread)
        assert decided(evaluate, grow, grow, levels)["out"].any() == water, contrast
    # Of few pixels nothing can be told, nor of one without a rim: a lake that fills the scene but for some holes.
    grow, levels = pond(6, 20, 20)
    assert decided(evaluate, grow, grow, levels)["out"].any()
    grow, levels = np.ones((60, 60), bool), np.full((60, 60), 300, "uint16")
    grow[30, 30] = False
    assert decided(evaluate, grow, grow, levels)["out"].sum() == 60 * 60 - 1


def test_the_separation_is_ashmans():
    rng = np.random.default_rng(3)
    water, land = rng.normal(-20, 1.5, 200_000), rng.normal(-12, 2.0, 200_000)
    inside, rim = (
        darkness_levels.kernel(x.astype("float32"), x.astype("float32"), np.ones(x.shape, bool)).astype("int64") for x in (water, land)
    )
    row = [len(inside), 0, len(inside), inside.sum(), (inside**2).sum(), len(rim), rim.sum(), (rim**2).sum()]
    assert separation(np.array([row]))[0] == pytest.approx(np.sqrt(2) * 8 / np.hypot(1.5, 2.0), rel=0.01)
    assert separation(np.zeros((1, 8), "int64"))[0] == 0.0


def test_levels_are_of_the_polarisations_that_are_there_and_unknown_is_not_dark():
    co, cross = np.array([[-12.0, np.nan, -12.0, np.nan, -90.0]], "float32"), np.array([[-20.0, -20.0, np.nan, np.nan, -90.0]], "float32")
    known = np.ones((1, 5), bool)
    np.testing.assert_array_equal(darkness_levels.kernel(co, cross, known), [[440, 400, 480, 0, 1]])
    assert not darkness_levels.kernel(co, cross, ~known).any()


def test_sums_over_a_rim_fit_into_one_number():
    bodies = np.zeros((11, 11), bool)
    bodies[5, 5] = True
    levels = np.full((11, 11), LEVELS - 1, "uint16")
    packed = int(rim_sums.kernel(levels, bodies)[5, 5])
    assert packed & 0xFF == 120
    assert packed >> 8 & 0xFFFFFF == 120 * (LEVELS - 1)
    assert packed >> 32 == 120 * (LEVELS - 1) ** 2


# The edges of water


def test_a_first_guess_is_the_published_threshold_with_its_error():
    co, cross = np.meshgrid(np.linspace(-25, -5, 41, dtype="float32"), np.linspace(-32, -12, 41, dtype="float32"))
    flat = [np.full_like(co, v) for v in (PRIOR_ERROR, CLASS_SPREAD, CLASS_SPREAD)]
    odds = (log_odds.kernel(co, np.full_like(co, -15.5), *flat) + log_odds.kernel(cross, np.full_like(co, -23.0), *flat)) / 2
    got = first_guess.kernel(co, cross)
    np.testing.assert_array_equal(got, odds >= np.log(0.4 / 0.6))
    assert not first_guess.kernel(co * np.nan, cross * np.nan).any()
    np.testing.assert_array_equal(first_guess.kernel(co, cross * np.nan), first_guess.kernel(co, co, fallback_vh=-15.5))


@settings(max_examples=200)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_a_rim_is_square_and_as_wide_on_any_tiles(tiled, data, seed):
    mask = np.random.default_rng(seed).random((23, 19)) < 0.02
    tiles = Tiles(data.draw(cuts(23)), data.draw(cuts(19)))
    got = tiled(with_rim, mask, tiles=tiles, resolution=20.0)
    np.testing.assert_array_equal(got, ndimage.binary_dilation(mask, np.ones((5, 5))))
    wide = with_rim.kernel(mask, grid=Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=mask.shape))
    np.testing.assert_array_equal(wide, ndimage.binary_dilation(mask, np.ones((11, 11))))


def test_values_outside_of_a_mask_are_unknown():
    values, mask = np.array([[1.0, 2.0, np.nan]], "float32"), np.array([[True, False, True]])
    np.testing.assert_array_equal(only_where.kernel(values, mask), np.array([[1.0, np.nan, np.nan]], "float32"))
