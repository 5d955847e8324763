"""How sure a radar decision can be: speckle in decibels, and what a threshold's own error does to a probability."""

from __future__ import annotations

from math import log, sqrt
from typing import Final

import numba
import numpy as np
from scipy.special import digamma, logit, ndtr

PER_NEPER: Final = 10.0 / log(10.0)
"""Decibels of power per natural logarithm."""


@numba.njit(nogil=True, cache=True, error_model="numpy")
def trigamma(x: float) -> float:
    """Return ψ₁(x) for x > 0: the variance of the logarithm of a unit gamma variable of shape x.

    Shifted up by its recurrence to where six terms of the asymptotic series are exact to 1e-12; a scalar loop, so equal on any block.
    """
    shifted = 0.0
    while x < 12.0:
        shifted += 1.0 / (x * x)
        x += 1.0
    q = 1.0 / (x * x)
    return shifted + 1.0 / x + q / 2.0 + q / x * (1.0 / 6.0 + q * (-1.0 / 30.0 + q * (1.0 / 42.0 - q / 30.0)))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decibel_std(looks: float) -> float:
    """Return the standard deviation of speckle in dB after so many looks: 10/ln 10 · √ψ₁(L).

    References
    ----------
    Lee and Pottier (2009), Polarimetric Radar Imaging, ch. 4: intensity of L looks is gamma distributed with shape L.
    """
    db: float = PER_NEPER * sqrt(trigamma(looks))
    return db


def decibel_bias(looks: float) -> float:
    """Return how far the mean of dB lies from the dB of the mean after so many looks: 10/ln 10 · (ψ(L) − ln L), never positive.

    It is what averaging decibels instead of power costs: −0.5 dB at 4.4 looks.
    """
    return float(PER_NEPER * (digamma(looks) - np.log(looks)))


def log_odds_below(z: np.ndarray, misled: float) -> np.ndarray:
    """Return the log-odds that a true value lies below a threshold, both known with an error.

    Parameters
    ----------
    z
        Threshold minus measured value, in standard deviations of that difference, √(σ_x² + σ_τ²).
    misled
        Share of cases in which the measurement says nothing, 0 < misled < 1. It bounds the answer to ± ln((2 − misled) / misled), so
        that no single measurement outvotes another however extreme it is.

    Returns
    -------
    Log-odds of p = misled / 2 + (1 − misled) Φ(z).
    """
    odds: np.ndarray = logit(0.5 * misled + (1.0 - misled) * ndtr(z))
    return odds
