"""Two modes in one histogram of backscatter: where they part with the least error, how wide they are, and whether they are two at all."""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from mdive.algorithms.lattice import BINS, LOWEST, STEP

SMOOTH: Final = 5
"""Bins on each side of the window of the two means taken before peaks and valley are sought: 1 dB, about the speckle left by the filter."""
UNSEEN: Final = 8
"""The same before the threshold is sought: a spread of 0.7 dB that a histogram does not show, because calibration (0.4 dB) and the roughness
of water vary over the ground that a threshold is for. Without it the threshold would cling to the narrower class the better speckle is
averaged: coarse pixels would lose water, and what is left would look doubtful. Much more would join modes that lie 3 dB apart."""
TAIL: Final = 0.02
"""Share of the pixels on each side within which the criterion is not minimised: a tail is no class."""


def minimum_error(counts: np.ndarray) -> float:
    """Return the Kittler-Illingworth threshold of one histogram over the fixed bins, in dB; NaN if it has none.

    Minimises J(t) = 1 + 2 (P₁ ln σ₁ + P₂ ln σ₂) − 2 (P₁ ln P₁ + P₂ ln P₂) over bins of the histogram, smoothed by ``UNSEEN``, and returns
    the *right* edge of the best one, since that bin belongs to the lower class.

    References
    ----------
    Kittler and Illingworth (1986), 10.1016/0031-3203(86)90030-0.
    """
    return float(fit(np.ascontiguousarray(counts, dtype="float64"))[0])


@numba.njit(nogil=True, cache=True)
def fit(counts: np.ndarray) -> tuple[float, float, float, float, float, float]:
    """Return threshold, share below it, separability, valley depth, and the variances below and above; NaN where there are no two classes."""
    nothing = (np.nan, np.nan, np.nan, np.nan, np.nan, np.nan)
    separability = _separability(counts)
    if np.isnan(separability):
        return nothing
    wide = _smoothed(counts, UNSEEN)
    n, s, q = _sums(wide)
    # A bin holds a uniform piece of the distribution: its own variance keeps a class of one bin (an end bin) from having none.
    within = STEP * STEP / 12.0
    best = np.inf
    bin_, share, below, above = -1, np.nan, np.nan, np.nan
    n1 = 0.0
    s1 = 0.0
    q1 = 0.0
    for b in range(BINS - 1):
        x = LOWEST + (b + 0.5) * STEP
        n1 += wide[b]
        s1 += wide[b] * x
        q1 += wide[b] * x * x
        p1, p2 = n1 / n, (n - n1) / n
        if p1 < TAIL or p2 < TAIL:
            continue
        m1, m2 = s1 / n1, (s - s1) / (n - n1)
        v1 = max(q1 / n1 - m1 * m1, 0.0) + within
        v2 = max((q - q1) / (n - n1) - m2 * m2, 0.0) + within
        j = p1 * np.log(v1) + p2 * np.log(v2) - 2.0 * (p1 * np.log(p1) + p2 * np.log(p2))
        if j < best:
            best, bin_, share, below, above = j, b, p1, v1, v2
    if bin_ < 0:
        return nothing
    return LOWEST + (bin_ + 1) * STEP, share, separability, _valley(counts, bin_), below, above


@numba.njit(nogil=True, cache=True)
def _sums(counts: np.ndarray) -> tuple[float, float, float]:
    """Return the sums of counts, of values and of squared values."""
    n = 0.0
    s = 0.0
    q = 0.0
    for b in range(BINS):
        x = LOWEST + (b + 0.5) * STEP
        n += counts[b]
        s += counts[b] * x
        q += counts[b] * x * x
    return n, s, q


@numba.njit(nogil=True, cache=True)
def _separability(counts: np.ndarray) -> float:
    """Return the largest share of the variance that lies between two classes; NaN where there are no two values."""
    n, s, q = _sums(counts)
    between, n1, s1 = 0.0, 0.0, 0.0
    for b in range(BINS - 1):
        n1 += counts[b]
        s1 += counts[b] * (LOWEST + (b + 0.5) * STEP)
        if 0.0 < n1 < n:
            between = max(between, n1 / n * (n - n1) / n * (s1 / n1 - (s - s1) / (n - n1)) ** 2)
    if between == 0.0:
        return np.nan
    return between / (q / n - (s / n) ** 2)


@numba.njit(nogil=True, cache=True)
def _smoothed(counts: np.ndarray, reach: int) -> np.ndarray:
    """Return two moving sums over so many bins on each side."""
    smooth = counts
    for _ in range(2):
        previous, smooth = smooth, np.zeros(BINS)
        for b in range(BINS):
            for i in range(max(b - reach, 0), min(b + reach + 1, BINS)):
                smooth[b] += previous[i]
    return smooth


@numba.njit(nogil=True, cache=True)
def _valley(counts: np.ndarray, at: int) -> float:
    """Return the lowest density between the peaks on both sides of a bin, relative to the lower peak; 1 where one side is empty."""
    smooth = _smoothed(counts, SMOOTH)
    left, right = 0, at
    for b in range(at + 1):
        if smooth[b] > smooth[left]:
            left = b
    for b in range(at, BINS):
        if smooth[b] > smooth[right]:
            right = b
    lowest = smooth[left]
    for b in range(left, right + 1):
        lowest = min(lowest, smooth[b])
    lower = min(smooth[left], smooth[right])
    return lowest / lower if lower > 0.0 else 1.0
