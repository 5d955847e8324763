"""Quantiles against numpy on the sorted pixels, for any type, zones and tiles."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mdive.algorithms.quantiles import NORMAL, absolute_deviation, median_deviation, order_counts, quantiles
from mdive.errors import InputError
from mdive.pipeline import Tiles, load_node

TYPES = ("float32", "float64", "float16", "int16", "uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64", "bool")
SHARES = (0.0, 0.05, 0.25, 0.5, 0.77, 1.0)


@st.composite
def zoned(draw):
    """Numbers of any type, often equal, from all of its range; zones, some of them empty, some of them none; a partition."""
    dtype = draw(st.sampled_from(TYPES))
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    whole = dtype[0] in "uib"
    special = st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 1e-40, 3.0])
    one = None if whole else st.one_of(special, st.floats(width={"float16": 16, "float32": 32}.get(dtype, 64)))
    values = draw(arrays(dtype, shape, elements=one, fill=None if whole else special))
    zones = draw(arrays("int16", shape, elements=st.integers(-1, 4)))
    cut = [sorted(draw(st.sets(st.integers(1, n), max_size=4)) - {n}) for n in shape]
    return values, zones, Tiles(*((0, *inner, n) for inner, n in zip(cut, shape, strict=True)))


def truth(pixels, method):
    pixels = pixels.astype("float64")
    pixels = pixels[~np.isnan(pixels)]
    if not pixels.size:
        return np.full(len(SHARES), np.nan), 0
    rank = np.array(SHARES) * (pixels.size - 1)
    lower, higher = (np.sort(pixels)[np.minimum(np.floor(rank).astype(int) + i, pixels.size - 1)] for i in (0, 1))
    if method == "lower":
        np.testing.assert_array_equal(lower, np.quantile(pixels, SHARES, method="lower"))
        return lower, pixels.size
    with np.errstate(invalid="ignore", over="ignore"):
        want = np.quantile(pixels, SHARES)
        infinite = np.where((lower == higher) | (rank % 1 == 0), lower, lower + higher)
    return np.where(np.isfinite(lower) & np.isfinite(higher), want, infinite), pixels.size


@pytest.fixture(scope="session")
def walk(evaluate):
    def run(values, zones, tiles, **parameters):
        nodes = {
            name: load_node("s/post", name, dtype=str(a.dtype), timed=False) for name, a in (("v", values), ("z", zones)) if a is not None
        }
        out = quantiles(nodes["v"], nodes.get("z"), **parameters)
        rasters = {name: a for name, a in (("v", values), ("z", zones)) if a is not None}
        return evaluate({"out": out}, rasters, tiles)["out"]

    return run


@settings(max_examples=200)
@given(zoned(), st.sampled_from(["linear", "lower"]))
@example((np.full((3, 3), np.nan, "float32"), np.zeros((3, 3), "int16"), Tiles((0, 1, 3), (0, 3))), "linear")
@example((np.array([[np.inf, np.inf, -np.inf]]), np.zeros((1, 3), "int16"), Tiles((0, 1), (0, 1, 2, 3))), "linear")
def test_quantiles_are_numpys_to_the_last_bit(walk, case, method):
    values, zones, tiles = case
    state = walk(values, None, tiles, q=SHARES, method=method)
    want, count = truth(values, method)
    np.testing.assert_array_equal(state["value"], [want])
    assert state["count"].tolist() == [count]
    state = walk(values, zones, tiles, q=SHARES, method=method, zone_count=4)
    for zone in range(4):
        want, count = truth(values[zones == zone], method)
        np.testing.assert_array_equal(state["value"][zone], want)
        assert state["count"][zone] == count


def test_more_zones_than_a_block_counts_in_an_array():
    rng = np.random.default_rng(1)
    values, zones = rng.normal(size=(60, 50)).astype("float32"), rng.integers(0, 500, (60, 50)).astype("uint16")
    state = quantiles(values, zones, q=(0.5,), zone_count=500)
    for zone in range(500):
        here = values[zones == zone].astype("float64")
        assert np.array_equal(state["value"][zone], [np.median(here) if here.size else np.nan], equal_nan=True)


def test_neighbouring_floats_are_told_apart(walk):
    """All numbers share their upper 16 bits: only the second walk can tell their order."""
    values = (np.float32(1.0) + np.arange(101, dtype="float32") * np.float32(2**-23)).reshape(1, -1)
    state = walk(np.random.default_rng(0).permuted(values), None, Tiles((0, 1), (0, 40, 101)), q=(0.5, 0.01))
    assert state["value"].tolist() == [[values[0, 50], values[0, 1]]]


def test_parts_are_small_and_so_is_what_they_add_up_to():
    rng = np.random.default_rng(0)
    parts = [order_counts.kernel(rng.normal(size=(n, n)).astype("float32"), None, None) for n in (200, 1000)]
    assert all(len(part["key"]) < 5000 for part in parts)
    total = order_counts.locality.merge(iter(parts * 300))
    assert total["met"].sum() == 300 * (200**2 + 1000**2)
    assert len(total["key"]) < 5000


@pytest.mark.parametrize("outliers", [0.0, 0.2])
def test_the_deviation_is_that_of_normal_numbers_whatever_a_minority_is(outliers):
    rng = np.random.default_rng(4)
    values = rng.normal(3.0, 0.5, (300, 300))
    values[rng.random(values.shape) < outliers / 10] = 1000.0
    values[:3] = np.nan
    for numbers in (values, values.astype("float32")):
        median, spread = median_deviation(numbers)
        known = numbers[np.isfinite(numbers)].astype("float64")
        assert median["value"][0, 0] == np.median(known)
        assert spread["value"][0, 0] == pytest.approx(stats.median_abs_deviation(known), rel=1e-7)
        assert NORMAL * spread["value"][0, 0] == pytest.approx(0.5, rel=0.03)
    assert pytest.approx(1 / stats.norm.ppf(0.75), rel=1e-15) == NORMAL


def test_deviations_are_from_the_middle_of_the_own_zone():
    values = np.array([[1.0, 2.0, 9.0], [4.0, 8.0, np.nan]], "float32")
    zones = np.array([[0, 0, 0], [1, 1, 1]], "uint8")
    centre, spread = median_deviation(values, zones, zone_count=3)
    assert centre["value"][:2, 0].tolist() == [2.0, 6.0]
    assert np.isnan(centre["value"][2, 0])
    np.testing.assert_array_equal(absolute_deviation(values, zones, centre), np.array([[1, 0, 7], [2, 2, np.nan]], "float32"))
    assert spread["value"][:2, 0].tolist() == [1.0, 2.0]
    outside = absolute_deviation(values, np.full(values.shape, 7, "uint8"), centre)
    assert np.isnan(outside).all()


def test_what_has_no_order_is_refused_in_two_lines():
    with pytest.raises(InputError, match="complex128") as caught:
        quantiles(np.zeros((2, 2), complex))
    assert len(str(caught.value).splitlines()) == 2
    with pytest.raises(InputError, match="less than or equal to 1"):
        quantiles(np.zeros((2, 2)), q=(50.0,))
