"""New water by radar against the year of each pixel: the odds of water and of the land that a harmonic model expects on that day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numba
import numpy as np
from scipy.special import expit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.components import sieve
from mdive.algorithms.harmonic import LEAST_SCENES, phases, season
from mdive.algorithms.mosaic import best_observation, cause, first_valid, pick
from mdive.algorithms.sar import decibel, usable_power, window_mean
from mdive.algorithms.sar_change import pairs_of
from mdive.algorithms.sar_products import flag_ground, hide_unseen, sigma_said
from mdive.algorithms.sar_water import FALLBACK_QUALITY, ground_of
from mdive.algorithms.tables import CONFIDENCE, FILL, QUALITY, share, uncertainty
from mdive.errors import InputError
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.plugins import Bundle, Focal, Hectares, Local, Metres, algorithm, operation

Calibration = Literal["gamma0", "sigma0"]
"""What backscatter is: the published model of water is of sigma0 = gamma0 · cos θ."""

WATER_SLOPE: Final = -0.394181
WATER_LEVEL: Final = -4.142015
WATER_DEVIATION: Final = 2.754041
"""sigma0 VV of open water in dB: N(slope · θ + level, deviation²), θ in degrees (Bauer-Marschallinger 2022)."""

ANGLES: Final = (27.0, 48.0)
"""Degrees. Incidence for which the model of water was made; beyond it nothing is said."""
SWATH: Final = (29.1, 46.0)
"""Degrees. Incidence across the interferometric wide swath of Sentinel-1: what is possible where nobody tells it."""

SEPARABLE: Final = 0.5
"""Deviations of water by which the expected land must be brighter than water, else the two cannot be told apart."""
OUTLIER: Final = 3.0
"""Deviations: what is neither land within as many nor darker than water plus as many is something else (wet snow, ships, new buildings)."""
UNDECIDED: Final = 0.2
"""Where both classes are at least this probable, nothing is said."""
MEDIAN_REACH: Final = 2
"""Pixels: 5 x 5, as published."""
LEAST_DEVIATION: Final = 0.05
"""dB. No land varies less than the steps in which backscatter is stored."""

NO_SEASON, NO_ANGLE, INSEPARABLE, STRANGE, EITHER = 1, 2, 3, 4, 5
"""Why a pixel is excluded: no model of its year, incidence, land as dark as water, neither land nor water, both as likely."""

PRODUCTS: Final = (flood.EXTENT, share("probability", "Probability of flood"), CONFIDENCE, uncertainty("dB", 1e-3), QUALITY)


@algorithm(
    "flood.sar_harmonic",
    version="1.0.0",
    needs={"pre": ("vv",), "post": ("vv",)},
    optional={"static": ("incidence", "hand", "occurrence")},
    sensor="sar",
    outputs=PRODUCTS,
    references=(
        "10.3390/rs14153673",  # Bauer-Marschallinger 2022, Bayes decision between harmonic land and open water
        "10.1016/j.jag.2014.12.001",  # Schlaffer 2015, flood from harmonic analysis of a radar time series
    ),
)
def sar_harmonic(
    pre: Bundle,
    post: Bundle,
    static: Bundle,
    /,
    *,
    calibration: Calibration = "gamma0",
    minimum_mapping_unit: Hectares = 0.3,
    maximum_hand: Metres = 20.0,
    permanent_water: flood.Percent = 75.0,
) -> Mapping[str, Any]:
    """Flood by the odds of open water against the land that a pixel's own year lets expect (VV).

    Parameters
    ----------
    pre
        Linear VV power before the onset, (time, y, x): 32 scenes or more of the relative orbits of ``post``, with their times, all seasons.
    post
        Linear VV power after the onset, and its cause plane.
    static
        ``incidence`` angle in degrees; ``hand``, height above the nearest drainage in m; ``occurrence`` of water in percent. Without
        incidence the model of water is widened to the whole swath of Sentinel-1, and a class is worth at most 0.6. Where one of the other
        two was to be had and could not be read, flood has the flag ``insufficient_background`` and at most half of the confidence.
    calibration
        Whether power is gamma0 or sigma0.
    minimum_mapping_unit
        Smaller floods are dropped.
    maximum_hand
        Higher above the drainage nothing is called flood; what looks like it there is class 250.
    permanent_water
        Occurrence (%) from which water is permanent, not flood.

    Notes
    -----
    Land and water each have their own standard deviation, in the exponent and in front of it. Where the decision means nothing a pixel is
    255, never "not water": incidence outside 27 to 48 degrees (flag ``incidence``); no model of the year, or land as dark as water
    (``insufficient_background``; permanent water by occurrence excepted); neither of the two, or both as likely (``conflict``).

    Raises
    ------
    InputError
        If there are too few scenes before the onset, or nobody tells when they were taken.
    """
    before, after = _told(pre, "before"), _told(post, "after")
    if before and len(before) < LEAST_SCENES:
        raise InputError(
            f"flood.sar_harmonic needs {LEAST_SCENES} radar scenes of one orbit before the onset; there are {len(before)}.",
            f"Give a baseline of a year or more and intent.max_observations of {LEAST_SCENES} or more, or use flood.sar_change.",
        )
    choice = best_observation(post.mask, post.vv)
    why = cause(post.mask, choice)
    ground = ground_of(static)
    hand, occurrence, incidence = ground.hand, ground.occurrence, None if static.incidence is None else first_valid(static.incidence)
    stack = decibel(window_mean(usable_power(pre.vv, pre.mask)))
    db = decibel(window_mean(usable_power(pick(post.vv, choice), why)))
    limits = {"before": before, "after": after, "pairs": pairs_of(pre, post)}
    expected, deviation, count = (season(stack, choice, field=field, **limits) for field in ("expected", "deviation", "count"))

    reason = exclusion(db, expected, deviation, incidence, calibration=calibration)
    posterior = water_posterior(db, expected, deviation, incidence, reason, calibration=calibration)
    probability = window_median(posterior)
    found = {"maximum_hand": maximum_hand, "permanent_water": permanent_water}
    flooded = sieve(harmonic_flood(probability, hand, occurrence, **found), minimum_area=minimum_mapping_unit)
    extent = harmonic_class(flooded, probability, db, reason, why, incidence, hand, occurrence, calibration=calibration, **found)
    said = harmonic_probability(extent, probability)
    return {
        "extent": extent,
        "probability": said,
        "confidence": harmonic_confidence(extent, said, incidence, ground.lost),
        "uncertainty": sigma_said(extent, deviation),
        "qc": harmonic_flags(extent, why, reason, count, incidence, occurrence, ground.lost, permanent_water=permanent_water),
    }


def _told(bundle: Bundle, when: str) -> list[float]:
    if bundle.times is None:
        # A source without any acquisition has no times, and no mask tells that before pixels are read.
        if bundle.geometry is None and bundle.vv is not None and bundle.vv.source.startswith("none/"):
            return [0.0]
        raise InputError(
            f"flood.sar_harmonic needs the time of each radar scene {when} the onset, and nobody tells it.",
            "Give rasters with a time coordinate (datetime64).",
        )
    return phases(bundle.times)


def water_model(incidence: np.ndarray | None, calibration: str) -> tuple[np.ndarray | float, float]:
    """Return the mean of open water in dB at each pixel, and its deviation.

    Parameters
    ----------
    incidence
        Degrees, (y, x); None where nobody tells it: then the mean is that of the middle of the swath, and the deviation that of water over
        all angles of it, each as likely.
    calibration
        Of the backscatter that it will be compared with.
    """
    low, high = SWATH
    angle = np.asarray(0.5 * (low + high) if incidence is None else incidence, dtype="float64")
    mean = WATER_SLOPE * angle + WATER_LEVEL
    if calibration == "gamma0":
        mean = mean - 10.0 * np.log10(np.maximum(np.cos(np.radians(angle)), 1e-3))
    spread = WATER_DEVIATION if incidence is not None else float(np.hypot(WATER_DEVIATION, WATER_SLOPE * (high - low) / np.sqrt(12.0)))
    return mean, spread


@operation(Local(), dtype="uint8", fill=NO_SEASON)
def exclusion(
    db: np.ndarray, expected: np.ndarray, deviation: np.ndarray, incidence: np.ndarray | None, /, *, calibration: Calibration = "gamma0"
) -> np.ndarray:
    """Return why nothing can be said of a pixel: 0 where something can.

    Parameters
    ----------
    db
        Filtered backscatter after the onset in dB, (y, x).
    expected, deviation
        From ``season``.
    incidence
        Degrees, or None.
    calibration
        As in the algorithm.
    """
    mean, spread = water_model(incidence, calibration)
    sigma = np.maximum(deviation.astype("float64"), LEAST_DEVIATION)
    out = np.zeros(db.shape, dtype="uint8")
    with np.errstate(invalid="ignore", over="ignore"):
        water = expit(_log_odds(db, expected, sigma, mean, spread))
        out[np.minimum(water, 1.0 - water) >= UNDECIDED] = EITHER
        out[(np.abs(db - expected) > OUTLIER * sigma) & (db > mean + OUTLIER * spread)] = STRANGE
        out[expected <= mean + SEPARABLE * spread] = INSEPARABLE
        out[np.isnan(expected) | np.isnan(deviation)] = NO_SEASON
        if incidence is not None:
            out[~((incidence >= ANGLES[0]) & (incidence <= ANGLES[1]))] = NO_ANGLE
    return out


@operation(Local(), dtype="float32")
def water_posterior(
    db: np.ndarray,
    expected: np.ndarray,
    deviation: np.ndarray,
    incidence: np.ndarray | None,
    reason: np.ndarray,
    /,
    *,
    calibration: Calibration = "gamma0",
) -> np.ndarray:
    """Return the probability of open water against the expected land, each as likely beforehand.

    p = f_w / (f_w + f_l) with f_w the density of water at the incidence angle and f_l that of N(expected, deviation²).

    Parameters
    ----------
    db, expected, deviation, incidence, calibration
        As in ``exclusion``.
    reason
        From ``exclusion``.

    Returns
    -------
    (y, x); NaN where excluded or not observed.
    """
    mean, spread = water_model(incidence, calibration)
    sigma = np.maximum(deviation.astype("float64"), LEAST_DEVIATION)
    return np.where(reason != 0, np.nan, expit(_log_odds(db, expected, sigma, mean, spread)))


def _log_odds(db: np.ndarray, expected: np.ndarray, sigma: np.ndarray, mean: np.ndarray | float, spread: float) -> np.ndarray:
    land, water = (db - expected) / sigma, (db - mean) / spread
    odds: np.ndarray = 0.5 * (land * land - water * water) + np.log(sigma / spread)
    return odds


@operation(Focal(MEDIAN_REACH), dtype="float32")
def window_median(values: np.ndarray, /) -> np.ndarray:
    """Return the median over 5 x 5 pixels of what is not NaN, the mean of the middle two of an even number; NaN where the pixel itself is."""
    out = np.empty(values.shape, dtype="float32")
    _window_median(np.ascontiguousarray(values, dtype="float32"), out)
    return out


@operation(Local(), dtype="bool")
def harmonic_flood(
    probability: np.ndarray,
    hand: np.ndarray | None,
    occurrence: np.ndarray | None,
    /,
    *,
    maximum_hand: Metres = 20.0,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Where water is more likely than land, possible, and not permanent.

    Parameters
    ----------
    probability
        After the median, (y, x), NaN where nothing is said.
    hand, occurrence
        Height above the nearest drainage in m, and share of looks with water in percent; or None.
    maximum_hand, permanent_water
        As in the algorithm.
    """
    with np.errstate(invalid="ignore"):
        wet: np.ndarray = probability > 0.5
        if hand is not None:
            wet = wet & ~(hand > maximum_hand)
        if occurrence is not None:
            wet = wet & ~(occurrence >= permanent_water)
    return wet


@operation(Local(), dtype="uint8")
def harmonic_class(
    flooded: np.ndarray,
    probability: np.ndarray,
    db: np.ndarray,
    reason: np.ndarray,
    why: np.ndarray,
    incidence: np.ndarray | None,
    hand: np.ndarray | None,
    occurrence: np.ndarray | None,
    /,
    *,
    calibration: Calibration = "gamma0",
    maximum_hand: Metres = 20.0,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return the flood class of each pixel.

    Parameters
    ----------
    flooded
        From ``harmonic_flood``, small ones dropped, (y, x) bool.
    probability
        After the median.
    db
        Filtered backscatter after the onset in dB.
    reason
        From ``exclusion``.
    why
        Cause of each pixel, bits of ``QC_FLAGS``.
    incidence, hand, occurrence
        As in the algorithm, NaN where unknown, or None.
    calibration, maximum_hand, permanent_water
        As in the algorithm.

    Returns
    -------
    Codes of ``flood_tables.CLASSES``; 255 where the method is excluded.
    """
    out = np.where(flooded, np.uint8(flood.FLOOD), np.uint8(flood.NOT_WATER))
    with np.errstate(invalid="ignore"):
        if hand is not None:
            out[(hand > maximum_hand) & (probability > 0.5)] = flood.HAND_MASKED
        out[(reason != 0) | np.isnan(probability)] = FILL
        if occurrence is not None:
            mean, spread = water_model(incidence, calibration)
            dark = (reason == INSEPARABLE) & (db <= mean + OUTLIER * spread)
            out[(occurrence >= permanent_water) & (dark | ((reason == 0) & (probability > 0.5)))] = flood.PERMANENT_WATER
    hide_unseen(out, db, why)
    return out


@operation(Local(), dtype="float32")
def harmonic_probability(extent: np.ndarray, probability: np.ndarray, /) -> np.ndarray:
    """Return the probability of flood: that of water, at most 0.5 of what was too small to be called flood, and 0 of permanent water.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    probability
        After the median.
    """
    land = np.where(extent == flood.NOT_WATER, np.minimum(probability, np.float32(0.5)), probability)
    return np.where(extent >= flood.HAND_MASKED, np.nan, np.where(extent == flood.PERMANENT_WATER, np.float32(0.0), land))


@operation(Local(), dtype="float32")
def harmonic_confidence(
    extent: np.ndarray, probability: np.ndarray, incidence: np.ndarray | None, lost: np.ndarray | None, /
) -> np.ndarray:
    """Return the probability of the class that is given, times what it is worth.

    Parameters
    ----------
    extent, probability
        Flood classes, and the probability of flood, (y, x).
    incidence
        Degrees; None where nobody knows it: then a class is worth ``FALLBACK_QUALITY``.
    lost
        Where a static layer could not be read, or None: there flood is worth ``flood_tables.UNKNOWN_REFERENCE``.
    """
    quality = np.full(extent.shape, 1.0 if incidence is not None else FALLBACK_QUALITY, dtype="float32")
    if lost is not None:
        quality[lost & (extent == flood.FLOOD)] *= np.float32(flood.UNKNOWN_REFERENCE)
    return quality * np.where(extent == flood.FLOOD, probability, 1.0 - probability)


@operation(Local(), dtype="uint16")
def harmonic_flags(
    extent: np.ndarray,
    why: np.ndarray,
    reason: np.ndarray,
    count: np.ndarray,
    incidence: np.ndarray | None,
    occurrence: np.ndarray | None,
    lost: np.ndarray | None,
    /,
    *,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return the cause of each pixel with what the method adds to it.

    Parameters
    ----------
    extent, why
        Flood classes, and the cause of each pixel, (y, x).
    reason
        From ``exclusion``.
    count
        Scenes before the onset.
    incidence, occurrence
        As in the algorithm, or None.
    lost
        Where a static layer could not be read, or None.
    permanent_water
        Occurrence (%) from which water is permanent.

    Returns
    -------
    Bits ``insufficient_background`` and ``low_n_obs`` (no model of the year; land as dark as water, and flood whose static layer was lost,
    have the first alone), ``incidence``
    (outside the model, or not known), ``conflict``, ``hand_excluded``, ``permanent_water``, and ``nodata`` with ``edge_contaminated``
    where a scene was read but no excluded pixel explains the gap.
    """
    out = why.astype("uint16")
    seen = why & UNOBSERVED == 0
    out[seen & ((reason == NO_SEASON) | (reason == INSEPARABLE))] |= QC_FLAGS["insufficient_background"]
    out[seen & (count < LEAST_SCENES)] |= QC_FLAGS["low_n_obs"]
    out[seen & ((reason == STRANGE) | (reason == EITHER))] |= QC_FLAGS["conflict"]
    out[seen & (reason == NO_ANGLE)] |= QC_FLAGS["incidence"]
    if incidence is None:
        out[seen & (extent < flood.HAND_MASKED)] |= QC_FLAGS["incidence"]
    out[seen & (extent == FILL) & (reason == 0)] |= QC_FLAGS["nodata"] | QC_FLAGS["edge_contaminated"]
    flag_ground(out, extent, occurrence, lost, permanent_water)
    return out


@numba.njit(nogil=True, cache=True)
def _window_median(values: np.ndarray, out: np.ndarray) -> None:
    rows, cols = values.shape
    found = np.empty((2 * MEDIAN_REACH + 1) ** 2)
    for r in range(rows):
        for c in range(cols):
            if np.isnan(values[r, c]):
                out[r, c] = np.nan
                continue
            n = 0
            for i in range(max(r - MEDIAN_REACH, 0), min(r + MEDIAN_REACH + 1, rows)):
                for j in range(max(c - MEDIAN_REACH, 0), min(c + MEDIAN_REACH + 1, cols)):
                    x = np.float64(values[i, j])
                    if np.isnan(x):
                        continue
                    at = n
                    while at > 0 and found[at - 1] > x:
                        found[at] = found[at - 1]
                        at -= 1
                    found[at] = x
                    n += 1
            out[r, c] = 0.5 * (found[(n - 1) // 2] + found[n // 2])
