"""The noise: known vectors, distributions, and the same bits for any block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mdive.algorithms.draws import key_of
from mdive.pipeline.window import Window
from mdive.testing._noise import fbm, gamma_levels, normal_levels

OCTAVES = [(37, 0.8), (9, 0.5), (2, 0.3)]


@settings(max_examples=60, deadline=None)
@given(row=st.integers(-3000, 3000), col=st.integers(-3000, 3000), height=st.integers(1, 40), width=st.integers(1, 40))
def test_any_block_is_a_cut_of_the_whole(row, col, height, width):
    key = key_of(0, "blocks")
    whole = fbm(Window(row - 23, col - 31, 90, 90), key, OCTAVES)
    part = fbm(Window(row, col, height, width), key, OCTAVES)
    assert np.array_equal(part, whole[23 : 23 + height, 31 : 31 + width])


def test_a_coarse_look_samples_the_same_field():
    key = key_of(0, "blocks")
    fine = fbm(Window(-100, 50, 200, 300), key, OCTAVES)
    assert np.array_equal(fbm(Window(-100, 50, 40, 60), key, OCTAVES, step=5), fine[::5, ::5])


@pytest.mark.parametrize("cell", [2, 7, 16])
def test_smooth_noise_has_unit_variance(cell):
    field = fbm(Window(0, 0, 1200, 1200), key_of(5, f"variance{cell}"), [(cell, 1.0)]).astype(float)
    # Standard errors from the number of independent cells, about (1200 / 2 cell)^2.
    cells = (1200 / (2 * cell)) ** 2
    assert abs(field.mean()) < 5 / np.sqrt(cells)
    assert abs(field.var() - 1) < 8 / np.sqrt(cells)


def test_smooth_noise_has_no_direction():
    field = fbm(Window(0, 0, 1500, 1500), key_of(2, "direction"), [(12, 1.0)]).astype(float)
    along, down = np.diff(field, axis=1).var(), np.diff(field, axis=0).var()
    diagonal = (field[1:, 1:] - field[:-1, :-1]).var() / 2
    assert along == pytest.approx(down, rel=0.06)
    assert diagonal == pytest.approx(along, rel=0.06)


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_gamma_levels_are_the_gamma_distribution(looks):
    levels = gamma_levels(looks).astype(float)
    assert levels.mean() == pytest.approx(1, abs=1e-6)
    assert levels.var() * looks == pytest.approx(1, rel=3e-4)
    assert stats.kstest(levels[::16], stats.gamma(looks, scale=1 / looks).cdf).statistic < 1e-3


def test_speckle_in_decibels_has_the_bias_and_spread_of_its_looks():
    # psi(L) - ln L and psi1(L) in decibels, at L = 4.4.
    decibels = 10 * np.log10(gamma_levels(4.4).astype(float))
    assert decibels.mean() == pytest.approx(-0.512, abs=2e-3)
    assert decibels.std() == pytest.approx(2.193, abs=3e-3)


def test_normal_levels_are_the_normal_distribution():
    levels = normal_levels().astype(float)
    assert levels.mean() == pytest.approx(0, abs=1e-9)
    assert levels.var() == pytest.approx(1, abs=1e-4)
    assert stats.kstest(levels[::16], "norm").statistic < 1e-3
