"""How likely water is by backscatter and a threshold that is itself uncertain, in one polarisation and in both together."""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from mdive.algorithms.uncertainty import decibel_std, log_odds_below
from mdive.plugins import Local, operation

MISLED: Final = 0.1
"""Share of pixels of which one polarisation knows nothing (wind on water, wet smooth soil, noise floor): bounds its log-odds to 2.9."""
RARE_WATER: Final = 0.5 * float(np.log(1 / 3))
"""Log-odds of water where no window is bimodal: water is the exception there, one pixel in four at most. Halved like the evidence, which is
the mean of two polarisations that say nearly the same."""

HAND_EVEN: Final = 10.0
HAND_SCALE: Final = 3.0
"""Metres. Water and land are as likely at the first height above the drainage, and the odds fall to 1/e with each step of the second above:
half a percent at 26 m (idea: Tupas 2023, 10.3390/w15234034)."""
SLOPE_LEVEL: Final = 0.5
SLOPE_STEEP: Final = 15.0
"""Degrees. Fuzzy membership of water falls from one to nothing between them, and is a half at 7.75 (DSWx-S1, Twele 2016): a surface model at
30 m is no more level than that over floodplains with trees."""
IMPOSSIBLE: Final = -8.0
"""Log-odds of water where slope alone rules it out: no radar evidence outweighs them, which ends at 2.9."""

ODDS_STEPS: Final = 64
"""Entries per standard deviation in a table of log-odds from -6 to 6: straight lines between them are right to 4e-5, and six times faster."""
_ODDS: Final = log_odds_below(np.arange(-6 * ODDS_STEPS, 6 * ODDS_STEPS + 1) / ODDS_STEPS, MISLED)


@operation(Local(), dtype="float32")
def log_odds(db: np.ndarray, tau: np.ndarray, sigma: np.ndarray, below: np.ndarray, above: np.ndarray, /) -> np.ndarray:
    """Return the log-odds of water by one polarisation: that backscatter lies below a threshold that is itself uncertain.

    Backscatter is known up to the spread of the class that it would be in. The two classes differ in it: calm water is even, land is not.
    One spread for both would doubt all water that lies nearer to the threshold than land spreads, and the more so the better speckle is
    averaged, because the minimum-error threshold lies near the narrower class.

    Parameters
    ----------
    db
        Filtered backscatter in dB, (y, x).
    tau, sigma
        Threshold and its standard deviation in dB, (y, x).
    below, above
        Spread of backscatter inside the class below the threshold and the class above it in dB, (y, x): speckle that the filter left,
        texture, roughness.

    Returns
    -------
    Within ± ln((2 − m) / m) for m = ``MISLED``, ± 2.9; NaN where backscatter is.
    """
    out = np.empty(db.shape, dtype="float32")
    _log_odds(db, tau, sigma, below, above, _ODDS, out)
    return out


@operation(Local(), dtype="float32")
def pooled(co: np.ndarray, cross: np.ndarray, co_support: np.ndarray, cross_support: np.ndarray, /) -> np.ndarray:
    """Return the log-odds of water by both polarisations together: their mean, or the one that is there.

    The mean, not the sum: both look at the same surface at the same moment, and a sum would count their common errors twice. Each is
    bounded, so that one that is misled cannot outvote the other: wind roughens water for the co-polarised channel long before the
    cross-polarised one.

    Parameters
    ----------
    co, cross
        Log-odds of each polarisation, (y, x).
    co_support, cross_support
        How far windows of the scene carry each threshold: the less, the rarer water is beforehand.

    Returns
    -------
    (y, x); NaN where neither polarisation is valid.
    """
    prior: np.ndarray = mean_of(co, cross) + np.float32(RARE_WATER) * (1.0 - np.maximum(co_support, cross_support))
    return prior


@operation(Local(), dtype="float32")
def terrain_odds(evidence: np.ndarray, hand: np.ndarray | None, slope: np.ndarray | None, /) -> np.ndarray:
    """Return the log-odds of water with what the terrain says against it.

    Low and level ground says nothing for water: most of it is dry. So the terrain takes away and never adds: nothing up to ``HAND_EVEN``
    and to the slope of even membership, and odds of a logistic prior of height and of the membership of slope above.

    Parameters
    ----------
    evidence
        Log-odds of water by radar, (y, x).
    hand
        Height above the nearest drainage in m, or None.
    slope
        Degrees, or None. Where one of them is not known, it says nothing.

    Returns
    -------
    At most ``evidence``; NaN where that is.
    """
    odds = evidence
    if hand is not None:
        against = np.minimum((np.float32(HAND_EVEN) - hand) / np.float32(HAND_SCALE), np.float32(0.0))
        odds = odds + np.where(np.isnan(hand), np.float32(0.0), np.maximum(against, np.float32(IMPOSSIBLE)))
    if slope is not None:
        odds = odds + np.where(np.isnan(slope), np.float32(0.0), slope_odds(slope))
    return odds


def slope_odds(slope: np.ndarray) -> np.ndarray:
    """Return the log-odds that a slope leaves to water, 0 up to the slope of even membership: ln μ / (1 − μ) of the membership Z(0.5°, 15°).

    Z is 1 below its first bound, 0 above its second, and has two parabolas between that meet in the middle (Zadeh's function).
    """
    t = np.clip((slope - SLOPE_LEVEL) / (SLOPE_STEEP - SLOPE_LEVEL), 0.0, 1.0)
    member = np.where(t < 0.5, 1.0 - 2.0 * t * t, 2.0 * (1.0 - t) ** 2)
    with np.errstate(divide="ignore"):
        odds = np.log(member) - np.log1p(-np.minimum(member, 0.5))
    return np.clip(np.where(member >= 0.5, 0.0, odds), IMPOSSIBLE, 0.0)


def mean_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean of two rasters, or the one that is there; NaN where none is."""
    mean: np.ndarray = np.where(np.isnan(a), b, np.where(np.isnan(b), a, 0.5 * (a + b)))
    return mean


@operation(Local(), dtype="float32", units="dB")
def decision_sigma(co_looks: np.ndarray, cross_looks: np.ndarray, co_sigma: np.ndarray, cross_sigma: np.ndarray, /) -> np.ndarray:
    """Return the standard deviation of backscatter minus threshold: speckle left by the filter, and the threshold's own error.

    Parameters
    ----------
    co_looks, cross_looks
        Equivalent number of looks after filtering, (y, x).
    co_sigma, cross_sigma
        Standard deviation of the thresholds in dB, (y, x).

    Returns
    -------
    dB, mean over the valid polarisations (their errors are taken to be correlated); NaN where there is none.
    """
    out = np.empty((2, *co_looks.shape), dtype="float32")
    _sigma(co_looks, co_sigma, out[0])
    _sigma(cross_looks, cross_sigma, out[1])
    return mean_of(out[0], out[1])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _log_odds(
    db: np.ndarray, tau: np.ndarray, sigma: np.ndarray, below: np.ndarray, above: np.ndarray, table: np.ndarray, out: np.ndarray
) -> None:
    last = len(table) - 2
    for r in range(db.shape[0]):
        for c in range(db.shape[1]):
            margin, s = np.float64(tau[r, c]) - db[r, c], np.float64(sigma[r, c])
            spread = np.float64(below[r, c] if margin > 0.0 else above[r, c])
            at = margin / np.sqrt(spread * spread + s * s) * ODDS_STEPS + 0.5 * (last + 1)
            if np.isnan(at):
                out[r, c] = np.nan
                continue
            i = int(min(max(at, 0.0), last))
            f = min(max(at - i, 0.0), 1.0)
            out[r, c] = (1.0 - f) * table[i] + f * table[i + 1]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sigma(looks: np.ndarray, sigma: np.ndarray, out: np.ndarray) -> None:
    for r in range(looks.shape[0]):
        for c in range(looks.shape[1]):
            if np.isnan(looks[r, c]):
                out[r, c] = np.nan
            else:
                out[r, c] = np.sqrt(decibel_std(looks[r, c]) ** 2 + sigma[r, c] ** 2)
