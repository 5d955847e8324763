"""Open water from one radar scene: a threshold per polarisation that follows the scene, both weighed together, grown from sure seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from scipy.special import expit, logit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.components import holes, hysteresis
from mdive.algorithms.evidence import decision_sigma, log_odds, pooled
from mdive.algorithms.lattice import lattice_histogram
from mdive.algorithms.looks import Looks, equivalent_looks
from mdive.algorithms.mosaic import best_observation, cause, first_valid, pick, unreadable
from mdive.algorithms.sar import decibel, lee, lee_looks, usable_power, variation, window_mean
from mdive.algorithms.tables import DISAGREE, FILL
from mdive.algorithms.threshold import minimum_error_threshold, surface
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.plugins import Bundle, Decibels, Fraction, Hectares, Local, Metres, algorithm, operation

CO_BOUNDS: Final = (-28.0, -11.0)
CROSS_BOUNDS: Final = (-28.0, -18.0)
"""dB. Thresholds outside separate two kinds of land, not land and water; those of DSWx-S1."""

FALLBACK_SUPPORT: Final = 0.5
"""Below this share of evidence from the scene's own windows the threshold is essentially the published one, and flagged so."""
FALLBACK_QUALITY: Final = 0.6
"""What a class is worth at most where the threshold does not come from the scene."""


@algorithm(
    "flood.sar_threshold",
    version="1.0.0",
    needs={"post": ("vv", "vh")},
    optional={"static": ("hand", "occurrence")},
    sensor="sar",
    outputs=flood.SAR_PRODUCTS,
    references=(
        "10.1016/0031-3203(86)90030-0",  # Kittler and Illingworth 1986, minimum-error threshold
        "10.1016/j.isprsjprs.2014.07.014",  # Martinis 2015, tiled thresholds for floods
        "10.1109/TGRS.2017.2737664",  # Chini 2017, bimodality on a hierarchy of windows
        "10.1080/01431161.2016.1192304",  # Twele 2016, automatic flood service
        "10.1109/TPAMI.1980.4766994",  # Lee 1980, speckle filter
        "10.1109/TGRS.2009.2019269",  # Anfinsen 2009, looks from the scene
    ),
)
def sar_threshold(
    post: Bundle,
    static: Bundle,
    /,
    *,
    minimum_mapping_unit: Hectares = 0.3,
    fallback_vv: Decibels = -15.5,
    fallback_vh: Decibels = -23.0,
    seed_probability: Fraction = 0.82,
    grow_probability: Fraction = 0.27,
    looks: Looks = None,
    maximum_hand: Metres = 20.0,
    permanent_water: flood.Percent = 75.0,
) -> Mapping[str, Any]:
    """Open water from one SAR scene by tiled minimum-error thresholds in both polarisations.

    Parameters
    ----------
    post
        Linear power (gamma0 or sigma0) after the onset, (time, y, x), and its cause plane.
    static
        ``hand``, height above the nearest drainage in m; ``occurrence``, how often water was seen there before, in percent. Without the
        second all water counts as flood. Where one of them was to be had and could not be read, water still counts as flood, but with
        the flag ``insufficient_background`` and at most half of the confidence.
    minimum_mapping_unit
        Smaller water bodies are dropped and smaller holes in water are closed.
    fallback_vv, fallback_vh
        Published thresholds (ASF HydroSAR), used as such where no window of the scene shows water and land as two modes, and as what the
        evidence of the scene is weighed against elsewhere.
    seed_probability
        A water body needs a pixel that is at least this probable (log-odds 1.5): where wind hides the water from one polarisation and
        leaves it undecided, the other reaches that alone.
    grow_probability
        It reaches as far as pixels are at least this probable (log-odds -1): next to water, water is more likely than elsewhere.
    looks
        Equivalent number of looks of a pixel of the grid. By default each polarisation of the scene tells its own, so that any product,
        pixel size and resampling is filtered by the speckle that it has.
    maximum_hand
        Higher above the drainage nothing is called flood; what looks like it there is class 250.
    permanent_water
        Occurrence (%) from which water is permanent, not flood.

    Notes
    -----
    Filter and averages are in power; decibels serve the thresholds alone. Thresholds are sought in plain window means: the scene's own
    looks, which the filter needs, are known only after the same walk over the scene. A scene of land alone has no threshold of its own and keeps the
    published one with its wide error, which takes a seed of about 3 dB below it in both polarisations.
    """
    choice = best_observation(post.mask, post.vv, post.vh)
    why = cause(post.mask, choice)
    hand = None if static.hand is None else first_valid(static.hand)
    occurrence = None if static.occurrence is None else first_valid(static.occurrence)

    planned = [band for band in (static.hand, static.occurrence) if band is not None]
    lost = unreadable(static.mask, *planned) if planned and static.mask is not None else None

    odds, support, looking, error = [], [], [], []
    for band, fallback, (lowest, highest) in ((post.vv, fallback_vv, CO_BOUNDS), (post.vh, fallback_vh, CROSS_BOUNDS)):
        power = usable_power(pick(band, choice), why)
        speckle = equivalent_looks(variation(power), looks=looks)
        counts = lattice_histogram(decibel(window_mean(power)), hand, maximum_height=maximum_hand)
        nodes = minimum_error_threshold(counts, fallback=fallback, lowest=lowest, highest=highest)
        tau, sigma, below, above, carried = (surface(power, nodes, field=field) for field in ("tau", "sigma", "below", "above", "support"))
        odds.append(log_odds(decibel(lee(power, speckle)), tau, sigma, below, above))
        support.append(carried)
        looking.append(lee_looks(power, speckle))
        error.append(sigma)

    evidence = window_mean(pooled(*odds, *support))
    limits = {"maximum_hand": maximum_hand}
    seed = likely(evidence, hand, probability=seed_probability, **limits)
    grow = likely(evidence, hand, probability=grow_probability, **limits)
    bodies = hysteresis(seed, grow, minimum_area=minimum_mapping_unit)
    known = likely(evidence, hand, probability=0.0, **limits)
    water = either(bodies, holes(bodies, known, minimum_area=minimum_mapping_unit))

    extent = flood_class(
        water, evidence, why, hand, occurrence, grow_probability=grow_probability, permanent_water=permanent_water, **limits
    )
    probability = water_probability(extent, evidence, grow_probability=grow_probability)
    return {
        "extent": extent,
        "probability": probability,
        "confidence": class_confidence(extent, probability, *support, lost),
        "uncertainty": decision_sigma(*looking, *error),
        "qc": quality_flags(extent, why, *odds, *support, occurrence, lost, permanent_water=permanent_water),
    }


@operation(Local(), dtype="bool")
def likely(evidence: np.ndarray, hand: np.ndarray | None, /, *, probability: Fraction = 0.5, maximum_hand: Metres = 20.0) -> np.ndarray:
    """Where open water is at least this probable and possible at all.

    Parameters
    ----------
    evidence
        Log-odds of water, (y, x), NaN where not observed.
    hand
        Height above the nearest drainage in m, or None; unknown height rules nothing out.
    probability
        Least probability; 0 asks only for a valid pixel.
    maximum_hand
        Water is not possible above it.

    Returns
    -------
    False where not observed.
    """
    with np.errstate(invalid="ignore"):
        good: np.ndarray = evidence >= logit(probability)
        if hand is not None:
            good = good & ~(hand > maximum_hand)
    return good


@operation(Local(), dtype="bool")
def either(a: np.ndarray, b: np.ndarray, /) -> np.ndarray:
    """Where one of two masks is true."""
    out: np.ndarray = a | b
    return out


@operation(Local(), dtype="uint8")
def flood_class(
    water: np.ndarray,
    evidence: np.ndarray,
    why: np.ndarray,
    hand: np.ndarray | None,
    occurrence: np.ndarray | None,
    /,
    *,
    grow_probability: Fraction = 0.27,
    maximum_hand: Metres = 20.0,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return the flood class of each pixel.

    Parameters
    ----------
    water
        Final water mask, (y, x).
    evidence
        Log-odds of water, NaN where not observed.
    why
        Cause of each pixel, bits of ``QC_FLAGS``.
    hand, occurrence
        Height above the nearest drainage in m, and share of looks with water in percent; NaN where unknown, or None.
    grow_probability, maximum_hand, permanent_water
        As in the algorithm.

    Returns
    -------
    Codes of ``flood_tables.CLASSES``. What was not seen is never "not water"; nor is what looks like water where none can be.
    """
    out = np.where(water, np.uint8(flood.FLOOD), np.uint8(flood.NOT_WATER))
    with np.errstate(invalid="ignore"):
        if occurrence is not None:
            out[water & (occurrence >= permanent_water)] = flood.PERMANENT_WATER
        if hand is not None:
            out[(hand > maximum_hand) & (evidence >= logit(grow_probability))] = flood.HAND_MASKED
    out[np.isnan(evidence)] = FILL
    out[why & QC_FLAGS["layover_shadow"] != 0] = flood.LAYOVER_SHADOW
    out[why & (UNOBSERVED & ~QC_FLAGS["layover_shadow"]) != 0] = FILL
    return out


@operation(Local(), dtype="float32")
def water_probability(extent: np.ndarray, evidence: np.ndarray, /, *, grow_probability: Fraction = 0.27) -> np.ndarray:
    """Return the probability of open water, given also the company that a pixel keeps.

    A pixel that belongs to a water body is one next to water, for which water is more likely beforehand by as much as growing allows for
    (so it is at least 0.5); one that does not is at most as probable as growing would have taken.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    evidence
        Log-odds of water.
    grow_probability
        As in the algorithm.

    Returns
    -------
    (y, x); NaN where nothing is said.
    """
    least = np.float32(logit(grow_probability))
    inside = expit(np.maximum(evidence - least, 0.0))
    outside = expit(np.minimum(evidence, least))
    return np.where(extent >= flood.HAND_MASKED, np.nan, np.where(extent == flood.NOT_WATER, outside, inside))


@operation(Local(), dtype="float32")
def class_confidence(
    extent: np.ndarray, probability: np.ndarray, co_support: np.ndarray, cross_support: np.ndarray, lost: np.ndarray | None, /
) -> np.ndarray:
    """Return the probability of the class that is given, times what it is worth.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    probability
        Of open water, NaN where nothing is said.
    co_support, cross_support
        How far windows of the scene carry the thresholds: below ``FALLBACK_SUPPORT`` a class is worth ``FALLBACK_QUALITY``.
    lost
        Where a static layer could not be read, or None: there flood is worth ``flood_tables.UNKNOWN_REFERENCE``.
    """
    fallback = np.maximum(co_support, cross_support) < FALLBACK_SUPPORT
    quality = np.where(fallback, np.float32(FALLBACK_QUALITY), np.float32(1.0))
    if lost is not None:
        quality[lost & (extent == flood.FLOOD)] *= np.float32(flood.UNKNOWN_REFERENCE)
    return quality * np.where(extent == flood.NOT_WATER, 1.0 - probability, probability)


@operation(Local(), dtype="uint16")
def quality_flags(
    extent: np.ndarray,
    why: np.ndarray,
    co: np.ndarray,
    cross: np.ndarray,
    co_support: np.ndarray,
    cross_support: np.ndarray,
    occurrence: np.ndarray | None,
    lost: np.ndarray | None,
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
        Cause of each pixel, bits of ``QC_FLAGS``.
    co, cross
        Log-odds of water by each polarisation.
    co_support, cross_support
        How far windows of the scene carry the thresholds.
    occurrence
        Share of looks with water, in percent, or None.
    lost
        Where a static layer could not be read, or None.
    permanent_water
        Occurrence (%) from which water is permanent.

    Returns
    -------
    Bits ``threshold_fallback``, ``conflict`` (the polarisations disagree), ``hand_excluded``, ``permanent_water``,
    ``insufficient_background`` (flood, but the layer that tells usual water was lost), and ``nodata`` with ``edge_contaminated`` where a
    scene was read but too little of the filter window was valid.
    """
    out = why.astype("uint16")
    seen = why & UNOBSERVED == 0
    out[seen & (extent == FILL)] |= QC_FLAGS["nodata"] | QC_FLAGS["edge_contaminated"]
    said = extent < flood.HAND_MASKED
    out[said & (np.maximum(co_support, cross_support) < FALLBACK_SUPPORT)] |= QC_FLAGS["threshold_fallback"]
    out[said & (np.abs(expit(co) - expit(cross)) > DISAGREE)] |= QC_FLAGS["conflict"]
    out[extent == flood.HAND_MASKED] |= QC_FLAGS["hand_excluded"]
    if occurrence is not None:
        out[occurrence >= permanent_water] |= QC_FLAGS["permanent_water"]
    if lost is not None:
        out[lost & (extent == flood.FLOOD)] |= QC_FLAGS["insufficient_background"]
    return out
