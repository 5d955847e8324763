"""Counter-based noise: every number is a pure function of (key, global row, global column), so any block order gives the same field.

No generator has a state here (SCIENCE P11). A pixel's white noise is one splitmix64 hash of its place; smooth fields are cubic B-splines
through hashed lattice values, which have no preferred direction and no visible lattice, unlike bilinear value noise.
"""

# numba infers the types of the kernels from their calls.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mdive.algorithms.draws import ROW, hashed, unit
from mdive.pipeline.window import Window

Octave = tuple[int, float]
"""(cell in pixels, amplitude): the field varies over two to three cells."""

SPLINE_1D = np.sqrt(1 / 3 * 151 / 315)
SPLINE_2D = np.sqrt(1 / 3) * 151 / 315
"""Standard deviation of a B-spline through values uniform on [-1, 1]: their variance is 1/3, and the mean of the summed squared weights
over a cell is 151/315 per axis. Dividing by it makes every field unit variance."""


@njit(nogil=True, cache=True)
def smoothstep(t):
    """Return 0 below 0, 1 above 1, and the cubic with level ends between."""
    t = min(max(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(nogil=True, cache=True)
def _spline_weights(t):
    """Return the four cubic B-spline weights at fraction ``t`` of a cell."""
    s = 1.0 - t
    return s * s * s / 6.0, (3.0 * t * t * (t - 2.0) + 4.0) / 6.0, (3.0 * s * s * (s - 2.0) + 4.0) / 6.0, t * t * t / 6.0


@njit(nogil=True, cache=True)
def spline_at(key, lane, position):
    """Return unit-variance noise on a line, at ``position`` in cells; ``lane`` tells independent lines of one key apart."""
    node = np.int64(np.floor(position))
    a, b, c, d = _spline_weights(position - node)
    total = 0.0
    for n, weight in ((node - 1, a), (node, b), (node + 1, c), (node + 2, d)):
        total += weight * (2.0 * unit(hashed(key, lane, n)) - 1.0)
    return total / SPLINE_1D


@njit(nogil=True, cache=True)
def _add_octave(out, row0, col0, step, cell, key, amplitude):
    """Add ``amplitude`` times unit-variance noise to the pixels (row0 + step i, col0 + step j)."""
    height, width = out.shape
    first = (col0 // cell) - 1
    nodes = ((col0 + step * (width - 1)) // cell) + 3 - first
    at = np.empty(width, np.int64)
    weights = np.empty((4, width), np.float32)
    for j in range(width):
        col = col0 + step * j
        node = col // cell
        at[j] = node - 1 - first
        for n, w in enumerate(_spline_weights((col - node * cell + 0.5) / cell)):
            weights[n, j] = w
    scale = amplitude / SPLINE_2D
    lattice = np.empty((4, nodes))
    line = np.empty(nodes, np.float32)
    held = np.int64(-9223372036854775807)
    for i in range(height):
        row = row0 + step * i
        node = row // cell
        if node != held:
            for n in range(4):
                for k in range(nodes):
                    lattice[n, k] = scale * (2.0 * unit(hashed(key, node - 1 + n, first + k)) - 1.0)
            held = node
        a, b, c, d = _spline_weights((row - node * cell + 0.5) / cell)
        for k in range(nodes):
            line[k] = a * lattice[0, k] + b * lattice[1, k] + c * lattice[2, k] + d * lattice[3, k]
        for j in range(width):
            k = at[j]
            out[i, j] += weights[0, j] * line[k] + weights[1, j] * line[k + 1] + weights[2, j] * line[k + 2] + weights[3, j] * line[k + 3]


def fbm(window: Window, key: np.uint64, octaves: Sequence[Octave], *, step: int = 1) -> NDArray[np.float32]:
    """Return a sum of octaves of smooth noise on a window, float32 (y, x).

    Parameters
    ----------
    window
        Global pixel indices of the first pixel; its height and width are those of the result.
    key
        Stream (``key_of``); each octave draws its own from it.
    octaves
        (cell in pixels, amplitude) each; the variance of the field is the sum of the squared amplitudes.
    step
        Distance between sampled pixels: a coarse look at a large scene.
    """
    out = np.zeros(window.shape, np.float32)
    for n, (cell, amplitude) in enumerate(octaves):
        _add_octave(out, window.row, window.col, step, max(1, cell), np.uint64((int(key) + n * int(ROW)) % 2**64), amplitude)
    return out


LEVELS = 1 << 16
"""Strata of the tabulated distributions below: a draw takes 16 bits of a hash, so one hash gives a pixel four draws."""


@cache
def gamma_levels(looks: float) -> NDArray[np.float32]:
    """Return the speckle of ``looks`` looks as 65,536 equally likely powers: the means of the equal-probability strata of Gamma(L, 1/L).

    This is the inverse distribution function at 16 bits. The mean over all levels is one exactly; what the strata hide is less than
    0.01 % of the variance. Tabulating it makes speckle one hash and one look-up, the same bits on every machine.
    """
    from scipy.special import gammainc, gammaincinv

    edges = gammaincinv(looks, np.linspace(0.0, 1.0, LEVELS + 1))
    return np.asarray(np.diff(gammainc(looks + 1.0, edges)) * LEVELS, np.float32)


@cache
def normal_levels() -> NDArray[np.float32]:
    """Return the standard normal distribution as 65,536 equally likely values, the means of its strata."""
    from scipy.special import ndtri

    density = np.exp(-0.5 * ndtri(np.linspace(0.0, 1.0, LEVELS + 1)) ** 2) / np.sqrt(2 * np.pi)
    return np.asarray((density[:-1] - density[1:]) * LEVELS, np.float32)
