"""Surface water from clear optical observations: the five DSWE tests, seconded by two water indices and a decision tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.flood_dswe import (
    AGGRESSIVE,
    CONSERVATIVE,
    DSWE_TESTS,
    LIMITS,
    NOT_COMPUTED,
    SIGMA_INDEX,
    STRENGTH,
    WATER,
    Awei,
    Index,
    Limits,
    Partial,
    Reflectance,
    dswe_probability,
    dswe_tests,
)
from mdive.algorithms.mosaic import best_observation, cause, first_valid, pick, unreadable
from mdive.algorithms.optical import BLIND, SURE, cloud_buffer, index_sigma, mndwi, ndwi
from mdive.algorithms.reference_water import REFERENCE_WATER, usual_water
from mdive.algorithms.tables import DISAGREE, FILL, hide_unseen
from mdive.algorithms.terrain_shadow import epochs, terrain_shadow
from mdive.algorithms.wofs import wofs_tree
from mdive.errors import InputError
from mdive.model.flags import QC_FLAGS
from mdive.plugins import Bundle, Local, Metres, algorithm, operation

SURE_OF_CONTRARY: Final = 0.9
"""Difference of the tests' probability from the tree's yes or no that is a conflict. The tree says no probability: it is right in 97 of 100
cases (Mueller 2016), but hardest cases are where both err, so that only a firm contradiction counts."""

POOL: Final = 2 / 3
"""Weight of each of two opinions from one sensor in a log-linear pool, 1 / (1 + (K - 1) r): K = 2, and errors correlated by r = 0.5."""


SunAzimuth = Annotated[
    float | None,
    Field(ge=0, le=360, description="direction of the sun, degrees clockwise from north; empty: from the time of each scene"),
]
SunElevation = Annotated[
    float | None, Field(ge=0, le=90, description="height of the sun above the horizon, degrees; empty: from the time of each scene")
]


@algorithm(
    "flood.optical_index",
    version="1.1.0",
    needs={"post": ("blue", "green", "red", "nir08", "swir16", "swir22")},
    optional={"static": ("occurrence", "dem")},
    sensor="optical",
    outputs=(*flood.OPTICAL_PRODUCTS, DSWE_TESTS, REFERENCE_WATER),
    references=(
        "10.3390/rs11040374",  # Jones 2019: DSWE
        "10.1080/01431160600589179",  # Xu 2006: MNDWI
        "10.1080/01431169608948714",  # McFeeters 1996: NDWI
        "10.1016/j.rse.2013.08.029",  # Feyisa 2014: AWEI
        "10.1016/j.rse.2015.11.003",  # Mueller 2016: decision tree of WOfS
    ),
)
def optical_index(
    post: Bundle,
    static: Bundle,
    /,
    *,
    wigt: Index = LIMITS.wigt,
    awgt: Awei = LIMITS.awgt,
    pswt_1_mndwi: Index = LIMITS.pswt_1_mndwi,
    pswt_1_swir1: Reflectance = LIMITS.pswt_1_swir1,
    pswt_1_nir: Reflectance = LIMITS.pswt_1_nir,
    pswt_1_ndvi: Index = LIMITS.pswt_1_ndvi,
    pswt_2_mndwi: Index = LIMITS.pswt_2_mndwi,
    pswt_2_blue: Reflectance = LIMITS.pswt_2_blue,
    pswt_2_swir1: Reflectance = LIMITS.pswt_2_swir1,
    pswt_2_swir2: Reflectance = LIMITS.pswt_2_swir2,
    pswt_2_nir: Reflectance = LIMITS.pswt_2_nir,
    partial: Partial = "conservative",
    permanent_water: flood.Percent = 75.0,
    seasonal_water: flood.Percent = 25.0,
    cloud_margin: Metres = 60.0,
    sun_azimuth: SunAzimuth = None,
    sun_elevation: SunElevation = None,
) -> Mapping[str, Any]:
    """Open and partial surface water from clear optical observations, by five spectral tests.

    Parameters
    ----------
    post
        Reflectance after the onset, and its cause plane.
    static
        ``occurrence``: how often water was seen there before, in percent. Without it all water is given as flood; where it was to be had
        and could not be read, with the flag ``insufficient_background`` and half of the confidence. ``dem``, terrain height in m: without
        it no slope is known, and dark slopes may pass for water.
    wigt, awgt, pswt_1_mndwi, pswt_1_swir1, pswt_1_nir, pswt_1_ndvi, pswt_2_mndwi, pswt_2_blue, pswt_2_swir1, pswt_2_swir2, pswt_2_nir
        Limits of the tests, see ``flood_dswe.Limits``.
    partial
        Which partly wet pixels are class 4. The fifth test alone also holds for dark soil, so by default it takes the fourth as well.
    permanent_water
        Occurrence (%) from which water is permanent and no flood.
    seasonal_water
        Occurrence (%) from which water is told apart as seasonal in ``reference_water``.
    cloud_margin
        Metres by which cloud and shadow are grown before they are left out; at least one pixel, but for 0.
    sun_azimuth, sun_elevation
        Where the sun stood, both or none; by default it is computed from the time of each scene and the place. Where neither is known, only
        the steepness of a slope speaks against water on it.

    Returns
    -------
    Nodes by product: extent, probability of water (open, or partial where that is a class), confidence in the class, standard deviation
    of MNDWI, quality flags, test word, usual water.

    Raises
    ------
    InputError
        If only one of the sun's two angles is given.
    """
    if (sun_azimuth is None) != (sun_elevation is None):
        raise InputError("only one of the sun's two angles was given.", "Give both sun_azimuth and sun_elevation, or none.")
    limits = Limits(
        wigt=wigt,
        awgt=awgt,
        pswt_1_mndwi=pswt_1_mndwi,
        pswt_1_swir1=pswt_1_swir1,
        pswt_1_nir=pswt_1_nir,
        pswt_1_ndvi=pswt_1_ndvi,
        pswt_2_mndwi=pswt_2_mndwi,
        pswt_2_blue=pswt_2_blue,
        pswt_2_swir1=pswt_2_swir1,
        pswt_2_swir2=pswt_2_swir2,
        pswt_2_nir=pswt_2_nir,
    )
    loaded = [post.blue, post.green, post.red, post.nir08, post.swir16, post.swir22]
    mask = cloud_buffer(post.mask, metres=cloud_margin)
    choice = best_observation(mask, *loaded)
    why = cause(mask, choice)
    bands = [pick(band, choice) for band in loaded]
    _, green, _, nir08, swir16, _ = bands
    occurrence = None if static.occurrence is None else first_valid(static.occurrence)
    lost = None if static.occurrence is None or static.mask is None else unreadable(static.mask, static.occurrence)

    shaded = None
    if static.dem is not None:
        sun = None if sun_azimuth is None or sun_elevation is None else (sun_azimuth, sun_elevation)
        shaded = terrain_shadow(first_valid(static.dem), choice, sun=sun, times=epochs(post.times) if sun is None else None)

    tests = dswe_tests(*bands, limits=limits)
    by_tests = dswe_probability(*bands, limits=limits)
    by_index = index_probability(green, nir08, swir16)
    open_water = pool(by_tests, by_index, why)
    wet = with_partial(open_water, by_tests, dswe_probability(*bands, limits=limits, partial=partial))
    extent = water_class(tests, why, occurrence, shaded, partial=partial, permanent_water=permanent_water)
    return {
        "extent": extent,
        "probability": said(wet, extent),
        "confidence": said(water_confidence(extent, open_water, wet, lost), extent),
        "uncertainty": where_seen(index_sigma(green, swir16), why),
        "qc": water_flags(extent, why, by_tests, by_index, wofs_tree(*bands), occurrence, lost, shaded, permanent_water=permanent_water),
        "dswe_tests": tests,
        "reference_water": usual_water(extent, occurrence, permanent_water=permanent_water, seasonal_water=seasonal_water),
    }


@operation(Local(), dtype="float32")
def index_probability(green: np.ndarray, nir08: np.ndarray, swir16: np.ndarray, /) -> np.ndarray:
    """Return what NDWI and MNDWI say of their own published limit, zero: logistic in their mean over its standard deviation.

    Parameters
    ----------
    green, nir08, swir16
        Surface reflectance, (y, x).

    Returns
    -------
    Probability of open water, (y, x); NaN where a band is missing or too dark for a ratio (then this opinion is not heard).
    """
    # NDWI falls for built-up land as for water, MNDWI falls for wet vegetation: each excuses the other's best-known error.
    mean = (ndwi.kernel(green, nir08) + mndwi.kernel(green, swir16)) / 2
    variance = (index_sigma.kernel(green, nir08) ** 2 + index_sigma.kernel(green, swir16) ** 2) / 4 + SIGMA_INDEX**2
    probability: np.ndarray = expit(mean / np.sqrt(variance) * (np.pi / np.sqrt(3)))
    return probability


@operation(Local(), dtype="float32")
def pool(first: np.ndarray, second: np.ndarray, why: np.ndarray, /) -> np.ndarray:
    """Pool two probabilities log-linearly: the log-odds of both, each weighted by ``POOL``.

    Parameters
    ----------
    first, second
        Probabilities, (y, x). Where the second is NaN, the first stands alone.
    why
        Cause of each pixel, (y, x).

    Returns
    -------
    Probability, at most ``SURE`` and at least 1 - ``SURE``; NaN where nothing was seen.
    """
    p, q = (np.clip(x.astype("float64"), 1 - SURE, SURE) for x in (first, second))
    pooled = np.where(np.isnan(q), p, expit(POOL * (logit(p) + logit(q))))
    return np.where(why & BLIND != 0, np.nan, np.clip(pooled, 1 - SURE, SURE))


@operation(Local(), dtype="uint8")
def water_class(
    tests: np.ndarray,
    why: np.ndarray,
    occurrence: np.ndarray | None,
    shaded: np.ndarray | None = None,
    /,
    *,
    partial: Partial = "conservative",
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return the flood class of each pixel.

    Parameters
    ----------
    tests
        Test word, (y, x).
    why
        Cause of each pixel, (y, x), bits of ``QC_FLAGS``.
    occurrence
        Share of looks with water, in percent, (y, x), NaN where unknown; or None.
    shaded
        Where a slope is too dark or too steep to be called water, (y, x) bool; or None.
    partial, permanent_water
        As in the algorithm.

    Returns
    -------
    Codes of ``flood_tables.CLASSES``; what was not seen is never "not water", nor is what looks like water on a dark slope. Water that is
    known to be permanent is believed there.
    """
    strength = STRENGTH[tests]
    lowest = {"none": WATER, "conservative": CONSERVATIVE, "aggressive": AGGRESSIVE}[partial]
    wet = strength >= lowest
    out = np.where(strength >= WATER, flood.FLOOD, np.where(wet, flood.PARTIAL_WATER, flood.NOT_WATER)).astype("uint8")
    if occurrence is not None:
        out[wet & (occurrence >= permanent_water)] = flood.PERMANENT_WATER
    if shaded is not None:
        out[shaded & ((out == flood.FLOOD) | (out == flood.PARTIAL_WATER))] = FILL
    hide_unseen(out, why)
    out[(tests == NOT_COMPUTED) & (out < flood.HAND_MASKED)] = FILL
    return out


@operation(Local(), dtype="float32")
def said(values: np.ndarray, extent: np.ndarray, /) -> np.ndarray:
    """Return values where the flood map says anything, NaN elsewhere; both (y, x)."""
    return np.where(extent >= flood.HAND_MASKED, np.nan, values)


@operation(Local(), dtype="float32")
def with_partial(open_water: np.ndarray, by_tests: np.ndarray, at_least_partial: np.ndarray, /) -> np.ndarray:
    """Add the probability of partial water, on which the tests alone have an opinion.

    Parameters
    ----------
    open_water
        Pooled probability of open water, (y, x).
    by_tests, at_least_partial
        Probabilities of open water, and of open or partial water, by the tests.

    Returns
    -------
    Probability of open or partial water, at most ``SURE``; NaN where nothing was seen.
    """
    wet: np.ndarray = np.minimum(open_water + np.maximum(at_least_partial - by_tests, 0.0), SURE)
    return wet


@operation(Local(), dtype="float32")
def water_confidence(extent: np.ndarray, open_water: np.ndarray, wet: np.ndarray, lost: np.ndarray | None, /) -> np.ndarray:
    """Return the probability of the class that is given, times ``flood_tables.UNKNOWN_REFERENCE`` for water whose reference was lost.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    open_water, wet
        Probabilities of open water, and of open or partial water.
    lost
        Where the reference could not be read, or None.

    Returns
    -------
    (y, x); NaN where nothing was seen.
    """
    water = (extent == flood.FLOOD) | (extent == flood.PERMANENT_WATER)
    confidence = np.where(water, open_water, np.where(extent == flood.PARTIAL_WATER, wet - open_water, 1.0 - wet))
    if lost is not None:
        confidence[lost & _event(extent)] *= np.float32(flood.UNKNOWN_REFERENCE)
    return confidence


@operation(Local(), dtype="float32")
def where_seen(values: np.ndarray, why: np.ndarray, /) -> np.ndarray:
    """Return values where the ground was seen, NaN elsewhere; both (y, x)."""
    return np.where(why & BLIND != 0, np.nan, values)


@operation(Local(), dtype="uint16")
def water_flags(
    extent: np.ndarray,
    why: np.ndarray,
    by_tests: np.ndarray,
    by_index: np.ndarray,
    tree: np.ndarray,
    occurrence: np.ndarray | None,
    lost: np.ndarray | None,
    shaded: np.ndarray | None = None,
    /,
    *,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return the cause of each pixel with what the method adds to it.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    why
        Cause of each pixel, (y, x).
    by_tests, by_index
        Probability of water by each opinion, NaN where it has none.
    tree
        What the decision tree of WOfS says: 1 wet, 0 dry, 255 nothing.
    occurrence
        Share of looks with water, in percent, or None.
    lost
        Where the reference could not be read, or None.
    shaded
        Where a slope is too dark or too steep to be called water, or None.
    permanent_water
        Occurrence (%) from which water is permanent.

    Returns
    -------
    Bits ``permanent_water``, ``conflict`` (tests and indices disagree, or the tests are sure of the contrary of what the tree says),
    ``terrain_shadow`` and ``insufficient_background`` (flood, but the layer that tells usual water was lost).
    """
    out = why.copy()
    apart = np.abs(by_tests - by_index) > DISAGREE
    apart |= (tree != NOT_COMPUTED) & (np.abs(by_tests - tree) > SURE_OF_CONTRARY)
    if shaded is not None:
        out[shaded & (why & BLIND == 0)] |= QC_FLAGS["terrain_shadow"]
    out[apart & (why & BLIND == 0)] |= QC_FLAGS["conflict"]
    if occurrence is not None:
        out[occurrence >= permanent_water] |= QC_FLAGS["permanent_water"]
    if lost is not None:
        out[lost & _event(extent)] |= QC_FLAGS["insufficient_background"]
    return out


def _event(extent: np.ndarray) -> np.ndarray:
    """Return where water is called flood, wholly or in part."""
    wet: np.ndarray = (extent == flood.FLOOD) | (extent == flood.PARTIAL_WATER)
    return wet
