"""Hash-based draws: published vectors, distributions at fixed seeds, independence, and the same numbers in any block."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mdive.algorithms.draws import ROW, hashed, key_of, mix, normal, uniform
from mdive.errors import InputError
from mdive.pipeline import Tiles

LIKE = np.zeros((500, 400), "float32")


def test_splitmix64_gives_the_published_sequence():
    # The first three outputs of splitmix64 with state 0, as in its reference implementation.
    with np.errstate(over="ignore"):
        got = [int(mix(np.uint64(n) * ROW)) for n in (1, 2, 3)]
    assert got == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_streams_and_seeds_are_told_apart():
    keys = {int(key_of(seed, name)) for seed in range(50) for name in ("vv", "vh", "1/vv")}
    assert len(keys) == 150
    assert key_of(7, "vv") == key_of(7, "vv")


def test_hash_is_uniform_and_uncorrelated():
    key = key_of(1, "test")
    bits = np.array([[int(hashed(key, r, c)) for c in range(-150, 150)] for r in range(-150, 150)], np.uint64)
    for shift in (0, 16, 32, 48):
        values = ((bits >> np.uint64(shift)) & np.uint64(0xFF)).astype(int)
        assert stats.chisquare(np.bincount(values.ravel(), minlength=256)).pvalue > 1e-4
        for axis in (0, 1):
            a, b = (np.delete(values, edge, axis) for edge in (0, -1))
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("seed", [0, 1, -5, 2**40])
@pytest.mark.parametrize("draw", [0, 1, 99])
def test_distributions(seed, draw):
    flat, bell = uniform(LIKE, seed=seed, draw=draw), normal(LIKE, seed=seed, draw=draw)
    assert flat.dtype == "float64"
    assert bell.dtype == "float32"
    assert 0 < flat.min() < 1e-4
    assert 1 - 1e-4 < flat.max() < 1
    assert stats.kstest(flat.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(bell.ravel().astype("float64"), "norm").pvalue > 1e-3
    # Half of the bits decide where a number of 2^26 strata lies, the rest where in it: both must be even.
    fine = (flat * 2**26) % 1
    assert stats.kstest(fine.ravel(), "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(bell, stats.norm.ppf(flat).astype("float32"))


def test_neighbours_draws_and_seeds_are_independent():
    n = LIKE.size
    base = normal(LIKE, seed=3)
    others = [np.roll(base, 1, axis=0), np.roll(base, 1, axis=1), np.roll(base, (1, 1), axis=(0, 1)), base[::-1], base[:, ::-1]]
    others += [normal(LIKE, seed=s, draw=d) for s, d in ((3, 1), (3, 2), (4, 0), (-3, 0), (30, 0))]
    for other in others:
        for f in (np.asarray, np.square):
            assert abs(np.corrcoef(f(base).ravel(), f(other).ravel())[0, 1]) < 4 / np.sqrt(n)
    # A sum over many draws of one pixel is a random walk: its variance is the number of steps.
    walk = sum(normal(LIKE[:60, :60], seed=1, draw=d).astype("float64") for d in range(100))
    assert walk.var() == pytest.approx(100, rel=0.1)
    assert abs(walk.mean()) < 4 * 10 / 60


def test_rows_columns_and_diagonals_have_no_bias():
    flat = uniform(LIKE, seed=11)
    for means, count in ((flat.mean(axis=0), 500), (flat.mean(axis=1), 400)):
        assert np.abs(means - 0.5).max() < 4.5 / np.sqrt(12 * count)
        assert means.var() * 12 * count == pytest.approx(1, rel=0.3)


@settings(max_examples=100)
@given(st.data())
def test_any_tile_gets_the_numbers_of_its_place(tiled, data):
    shape = data.draw(st.integers(1, 15)), data.draw(st.integers(1, 15))
    cut = [sorted(data.draw(st.sets(st.integers(1, n), max_size=4)) - {n}) for n in shape]
    tiles = Tiles(*((0, *inner, n) for inner, n in zip(cut, shape, strict=True)))
    like, seed = np.zeros(shape, "float32"), data.draw(st.integers(-5, 5))
    for operation in (uniform, normal):
        np.testing.assert_array_equal(
            tiled(operation, like, tiles=tiles, seed=seed, draw=2), operation(LIKE, seed=seed, draw=2)[: shape[0], : shape[1]]
        )


def test_a_draw_has_a_whole_number():
    with pytest.raises(InputError, match="valid integer"):
        uniform(LIKE, draw=0.5)
