"""Moments against fractions, which round nothing, on any tiles and at the ends of what fits."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mdive.algorithms.moments import LARGEST, moments
from mdive.errors import InputError
from mdive.pipeline import Tiles, load_node


@st.composite
def bands(draw):
    """Two bands whose multiples of the step reach from nothing to the largest that is allowed, with gaps; zones; a partition."""
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    step = draw(st.sampled_from([1.0, 0.1, 2.0**-10, 1e-6, 7e5]))
    steps = st.one_of(st.integers(-LARGEST, LARGEST), st.sampled_from([LARGEST, -LARGEST, 0, 1]))
    number = st.one_of(steps.map(lambda k: k * step), st.sampled_from([np.nan, np.inf]), st.floats(-1e3 * step, 1e3 * step))
    pair = [draw(arrays("float64", shape, elements=number, fill=st.nothing())) for _ in range(2)]
    zones = draw(arrays("int16", shape, elements=st.integers(-1, 3)))
    cut = [sorted(draw(st.sets(st.integers(1, n), max_size=4)) - {n}) for n in shape]
    return pair, zones, step, Tiles(*((0, *inner, n) for inner, n in zip(cut, shape, strict=True)))


def truth(a, b, step):
    """Count, means and covariances of multiples of the step, as fractions."""
    pairs = [(round(x / step), round(y / step)) for x, y in zip(a, b, strict=True) if np.isfinite([x, y]).all()]
    n = len(pairs)
    if not n:
        return 0, np.full(2, np.nan), np.full((2, 2), np.nan)
    mean = [Fraction(sum(p[i] for p in pairs), n) for i in range(2)]
    covariance = [[sum((p[i] - mean[i]) * (p[j] - mean[j]) for p in pairs) / n for j in range(2)] for i in range(2)]
    exact = Fraction(step)
    return n, np.array([float(m * exact) for m in mean]), np.array([[float(c * exact * exact) for c in row] for row in covariance])


@pytest.fixture(scope="session")
def walk(evaluate):
    def run(pair, zones, tiles, **parameters):
        a, b = (load_node("s/post", name, dtype="float64", timed=False) for name in "ab")
        z = None if zones is None else load_node("s/post", "z", dtype="int16", timed=False)
        rasters = {"a": pair[0], "b": pair[1]} | ({} if zones is None else {"z": zones})
        return evaluate({"out": moments(z, a, b, **parameters)}, rasters, tiles)["out"]

    return run


FULL = [np.full((9, 9), float(LARGEST)), np.where(np.indices((9, 9)).sum(axis=0) % 2, -1.0, 1.0) * LARGEST]


@settings(max_examples=200)
@given(bands())
@example((FULL, np.zeros((9, 9), "int16"), 1.0, Tiles((0, 4, 9), (0, 1, 9))))
def test_moments_are_those_of_fractions_rounded_once(walk, case):
    pair, zones, step, tiles = case
    state = walk(pair, None, tiles, step=step)
    n, mean, covariance = truth(*(band.ravel() for band in pair), step)
    assert state["count"].tolist() == [n]
    np.testing.assert_array_equal(state["mean"], [mean])
    np.testing.assert_array_equal(state["covariance"], [covariance])
    state = walk(pair, zones, tiles, step=step, zone_count=3)
    for zone in range(3):
        n, mean, covariance = truth(*(band[zones == zone] for band in pair), step)
        assert state["count"][zone] == n
        np.testing.assert_array_equal(state["mean"][zone], mean)
        np.testing.assert_array_equal(state["covariance"][zone], covariance)


def test_the_sums_of_a_huge_block_fit():
    """2^31 pixels of the largest square, as a block of that size would send them."""
    n = 2**31
    low, high = (LARGEST * LARGEST) & 0xFFFFFFFF, (LARGEST * LARGEST) >> 32
    assert max(n * low, n * high, n * LARGEST) < 2**63
    part = {
        "count": np.array([n]),
        "total": np.array([[n * LARGEST]]),
        "lower": np.array([[[n * low]]]),
        "upper": np.array([[[n * high]]]),
    }
    total = moments.locality.merge(iter([part] * 1000))
    assert total["product"][0, 0, 0] == 1000 * n * LARGEST * LARGEST
    state = moments.locality.finish(total, step=0.5, zone_count=1)
    assert state["mean"].tolist() == [[LARGEST / 2]]
    assert state["covariance"].tolist() == [[[0.0]]]


def test_large_means_do_not_drown_small_variances():
    values = 1e6 + np.arange(100, dtype="float64").reshape(10, 10) / 1024
    state = moments(None, values, step=2.0**-10)
    assert state["covariance"][0, 0, 0] == (np.arange(100) / 1024).var()


def test_the_step_costs_what_the_docstring_says():
    values = np.random.default_rng(0).normal(0.3, 0.5, (400, 400))
    state = moments(None, values, step=0.25)
    assert state["mean"][0, 0] == pytest.approx(values.mean(), abs=2e-3)
    assert state["covariance"][0, 0, 0] == pytest.approx(values.var() + 0.25**2 / 12, rel=5e-3)


def test_numbers_beyond_the_largest_are_refused_with_a_step_that_serves():
    values = np.array([[1.0, 3e12]])
    with pytest.raises(InputError, match="2\\^31 steps") as caught:
        moments(None, values, step=1.0)
    assert len(str(caught.value).splitlines()) == 2
    step = float(str(caught.value).split("step of ")[-1].rstrip("."))
    assert moments(None, values, step=step)["mean"][0, 0] == pytest.approx(1.5e12, rel=1e-9)
