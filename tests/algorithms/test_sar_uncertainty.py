"""Speckle in decibels and the probability that a threshold is undershot: the table of the specification, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, ndtr, polygamma

from mdive.algorithms.evidence import HAND_EVEN, IMPOSSIBLE, MISLED, log_odds, slope_odds, terrain_odds
from mdive.algorithms.uncertainty import decibel_bias, decibel_std, log_odds_below, trigamma


@given(st.floats(0.05, 2000.0))
def test_trigamma_is_scipys(x):
    assert trigamma(x) == pytest.approx(float(polygamma(1, x)), rel=1e-10)


@pytest.mark.parametrize(
    ("looks", "bias", "std"), [(1, -2.51, 5.57), (4.4, -0.51, 2.19), (10, -0.22, 1.41), (20, -0.11, 0.98), (50, -0.04, 0.62)]
)
def test_speckle_in_decibels_by_looks(looks, bias, std):
    assert decibel_bias(looks) == pytest.approx(bias, abs=0.006)
    assert decibel_std(looks) == pytest.approx(std, abs=0.006)


def test_speckle_in_decibels_by_simulation(speckle):
    db = 10 * np.log10(speckle(np.ones(400_000)))
    assert db.std() == pytest.approx(decibel_std(4.4), rel=0.01)
    assert db.mean() == pytest.approx(decibel_bias(4.4), abs=0.02)


def test_log_odds_are_even_at_the_threshold_and_bounded():
    z = np.array([0.0, 50.0, -50.0])
    np.testing.assert_allclose(log_odds_below(z, 0.1), [0.0, np.log(19), -np.log(19)], atol=1e-12)
    assert expit(log_odds_below(np.array([1.0]), 0.1)) == pytest.approx(0.05 + 0.9 * ndtr(1.0))


def test_the_probability_of_undershooting_by_simulation():
    rng = np.random.default_rng(4)
    db, tau, sigma = np.float32(-17.0), np.float32(-15.5), np.float32(1.5)
    truth = db + decibel_std(4.4) * rng.normal(size=200_000) < tau + sigma * rng.normal(size=200_000)
    spread = np.float32(decibel_std(4.4))
    (got,) = log_odds(*(np.full((1, 1), v) for v in (db, tau, sigma, spread, np.float32(0.1))))[0]
    assert expit(got) == pytest.approx(MISLED / 2 + (1 - MISLED) * truth.mean(), abs=0.004)


def test_the_table_of_log_odds_is_the_formula():
    z = np.linspace(-9, 9, 20_001, dtype="float32")[np.newaxis]
    zero = np.zeros_like(z)
    spread = np.full_like(z, decibel_std(4.4))
    got = log_odds(-z * spread, zero, zero, spread, spread)
    np.testing.assert_allclose(got, log_odds_below(z.astype("float64"), MISLED), atol=4e-5)
    assert (np.diff(got[0]) >= 0).all()
    assert np.isnan(log_odds(zero * np.nan, zero, zero, spread, spread)).all()


def test_each_side_of_the_threshold_is_doubted_by_the_spread_of_its_own_class():
    db = np.array([[-17.0, -15.5, -14.0]], "float32")
    tau, sigma = np.full_like(db, -15.5), np.full_like(db, 0.5)
    below, above = np.full_like(db, 0.8), np.full_like(db, 2.5)
    want = [1.5 / np.hypot(0.8, 0.5), 0.0, -1.5 / np.hypot(2.5, 0.5)]
    got = log_odds(db, tau, sigma, below, above)[0]
    np.testing.assert_allclose(got, log_odds_below(np.array(want), MISLED), atol=1e-4)
    # Better known water is surer, and the land beside it is as doubtful as before.
    surer = log_odds(db, tau, sigma, below / 2, above)[0]
    assert surer[0] > got[0]
    np.testing.assert_array_equal(surer[1:], got[1:])


# Terrain


def test_terrain_speaks_against_water_and_never_for_it():
    evidence = np.array([[2.0, 2.0, 2.0, 2.0, np.nan]], "float32")
    hand = np.array([[0.0, HAND_EVEN, HAND_EVEN + 3.0, np.nan, 40.0]], "float32")
    np.testing.assert_allclose(terrain_odds.kernel(evidence, hand, None), [[2.0, 2.0, 1.0, 2.0, np.nan]], rtol=1e-6)
    slope = np.array([[0.0, 7.0, np.nan, 30.0, 30.0]], "float32")
    np.testing.assert_allclose(terrain_odds.kernel(evidence, None, slope), [[2.0, 2.0, 2.0, 2.0 + IMPOSSIBLE, np.nan]], rtol=1e-6)
    np.testing.assert_array_equal(terrain_odds.kernel(evidence, None, None), evidence)


def test_the_odds_of_a_slope_are_those_of_its_membership():
    degrees = np.linspace(-1, 20, 2101)
    a, b = 0.5, 15.0
    middle = (a + b) / 2
    member = np.select(
        [degrees <= a, degrees <= middle, degrees < b],
        [1.0, 1 - 2 * ((degrees - a) / (b - a)) ** 2, 2 * ((degrees - b) / (b - a)) ** 2],
        0.0,
    )
    with np.errstate(divide="ignore"):
        want = np.maximum(np.minimum(np.log(member / (1 - np.minimum(member, 1 - 1e-15))), 0.0), IMPOSSIBLE)
    np.testing.assert_allclose(slope_odds(degrees), want, atol=1e-9)
