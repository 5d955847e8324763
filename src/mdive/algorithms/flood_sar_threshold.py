"""Open water from one radar scene: a threshold per polarisation that follows the scene, both weighed together, grown from sure seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from scipy.special import expit, logit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.components import holes
from mdive.algorithms.evidence import decision_sigma, log_odds, pooled, terrain_odds
from mdive.algorithms.lattice import lattice_histogram
from mdive.algorithms.looks import Looks, equivalent_looks
from mdive.algorithms.mosaic import best_observation, cause, first_valid, pick, unreadable
from mdive.algorithms.reference_water import REFERENCE_WATER, usual_water
from mdive.algorithms.sar import DECISION_REACH, decibel, median_looks, speckle_median, usable_power, variation, window_mean
from mdive.algorithms.tables import DISAGREE, FILL
from mdive.algorithms.terrain_slope import slope
from mdive.algorithms.threshold import minimum_error_threshold, surface
from mdive.algorithms.water_bodies import darkness_levels, rim_sums, water_bodies
from mdive.algorithms.water_edges import first_guess, only_where, with_rim
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.plugins import Bundle, Decibels, Fraction, Hectares, Local, Metres, algorithm, operation

CO_BOUNDS: Final = (-28.0, -11.0)
CROSS_BOUNDS: Final = (-28.0, -18.0)
"""dB. Thresholds outside separate two kinds of land, not land and water; those of DSWx-S1."""

FALLBACK_SUPPORT: Final = 0.5
"""Below this share of evidence from the scene's own windows the threshold is essentially the published one, and flagged so."""
FALLBACK_SEED: Final = 0.82
"""Least probability of a seed there (log-odds 1.5, about 3 dB below both published thresholds): ploughed fields and sand are as dark as those, and
no second mode says that the scene has anything darker."""
FALLBACK_QUALITY: Final = 0.6
"""What a class is worth at most where the threshold does not come from the scene."""

BARE: Final = 60
"""WorldCover code of bare ground and sparse vegetation."""
DARK_LAND: Final = (-14.6, -22.8)
"""dB. Sand and other smooth bare ground are as dark as water: what is darker over it in VV and in VH is told by neither (DSWx-S1)."""
NEVER_WATER: Final = 5.0
"""Occurrence (%) below which bare ground was hardly ever seen under water (DSWx-S1)."""


@algorithm(
    "flood.sar_threshold",
    version="1.1.0",
    needs={"post": ("vv", "vh")},
    optional={"static": ("hand", "occurrence"), "terrain": ("slope", "dem", "landcover")},
    sensor="sar",
    outputs=(*flood.SAR_PRODUCTS, REFERENCE_WATER),
    references=(
        "10.1016/0031-3203(86)90030-0",  # Kittler and Illingworth 1986, minimum-error threshold
        "10.1016/j.isprsjprs.2014.07.014",  # Martinis 2015, tiled thresholds for floods
        "10.1109/TGRS.2017.2737664",  # Chini 2017, bimodality on a hierarchy of windows
        "10.3390/rs12152469",  # Markert 2020, thresholds from the edges of water
        "10.1080/01431161.2016.1192304",  # Twele 2016, automatic flood service, fuzzy refinement by terrain
        "10.1109/TGRS.2009.2019269",  # Anfinsen 2009, looks from the scene
    ),
)
def sar_threshold(
    post: Bundle,
    static: Bundle,
    terrain: Bundle,
    /,
    *,
    minimum_mapping_unit: Hectares = 0.3,
    fallback_vv: Decibels = -15.5,
    fallback_vh: Decibels = -23.0,
    seed_probability: Fraction = 0.5,
    seed_share: Fraction = 0.4,
    grow_probability: Fraction = 0.27,
    looks: Looks = None,
    maximum_hand: Metres = 20.0,
    permanent_water: flood.Percent = 75.0,
    seasonal_water: flood.Percent = 25.0,
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
    terrain
        ``slope`` in degrees, or ``dem``, heights in m from which it is made: what is steep is hardly water. ``landcover``, WorldCover codes:
        over bare ground that ``occurrence`` knows as never wet, what is as dark as water is not told and stays unobserved, with the flag
        ``conflict``. Without them nothing speaks against dark pixels.
    minimum_mapping_unit
        Smaller water bodies are dropped and smaller holes in water are closed.
    fallback_vv, fallback_vh
        Published thresholds (ASF HydroSAR), used as such where no window of the scene shows water and land as two modes, and as what the
        evidence of the scene is weighed against elsewhere.
    seed_probability
        Pixels that are at least this probably water by themselves are seeds of a water body; up to 0.82 where the scene does not carry the
        threshold.
    seed_share
        A water body needs this share of seeds: the mixed pixels at its edge are none, so a small body has hardly more than half.
    grow_probability
        It reaches as far as pixels are at least this probable (log-odds -1): next to water, water is more likely than elsewhere.
    looks
        Equivalent number of looks of a pixel of the grid. By default each polarisation of the scene tells its own, so that the uncertainty
        of any product, pixel size and resampling is that of the speckle that it has.
    maximum_hand
        Higher above the drainage nothing is called flood; what looks like it there is class 250.
    permanent_water
        Occurrence (%) from which water is permanent, not flood.
    seasonal_water
        Occurrence (%) from which water is told apart as seasonal in ``reference_water``.

    Notes
    -----
    Filter and averages are in power; decibels serve the thresholds alone. Thresholds are sought in plain window means, of whole windows and of
    the surroundings of what the published thresholds take for water, because most scenes have too little of it to show as a mode of a
    window. A scene of land alone has no threshold of its own and keeps the published one with its wide error. How often there was water
    before has no part in finding it: it would speak against a flood, which is new water.
    """
    choice = best_observation(post.mask, post.vv, post.vh)
    why = cause(post.mask, choice)
    hand, occurrence = (None if band is None else first_valid(band) for band in (static.hand, static.occurrence))
    steepness, height, landcover = (None if band is None else first_valid(band) for band in (terrain.slope, terrain.dem, terrain.landcover))
    if steepness is None and height is not None:
        steepness = slope(height)

    planned = [band for band in (static.hand, static.occurrence) if band is not None]
    lost = unreadable(static.mask, *planned) if planned and static.mask is not None else None

    powers = [usable_power(pick(band, choice), why) for band in (post.vv, post.vh)]
    means = [decibel(window_mean(power)) for power in powers]
    around = with_rim(first_guess(*means, fallback_vv=fallback_vv, fallback_vh=fallback_vh))

    odds, support, looking, error = [], [], [], []
    for power, mean, fallback, (lowest, highest) in zip(powers, means, (fallback_vv, fallback_vh), (CO_BOUNDS, CROSS_BOUNDS), strict=True):
        counts = lattice_histogram(mean, hand, maximum_height=maximum_hand)
        edges = lattice_histogram(only_where(mean, around), hand, maximum_height=maximum_hand)
        nodes = minimum_error_threshold(counts, edges, fallback=fallback, lowest=lowest, highest=highest)
        tau, sigma, below, above, carried = (surface(power, nodes, field=field) for field in ("tau", "sigma", "below", "above", "support"))
        speckle = equivalent_looks(variation(power), looks=looks)
        odds.append(log_odds(decibel(speckle_median(power)), tau, sigma, below, above))
        support.append(carried)
        looking.append(median_looks(power, speckle))
        error.append(sigma)

    # Two means in a row weigh neighbours 1 2 3 2 1: pixels of detected products are twice finer than what the radar resolves.
    near = window_mean(pooled(*odds, *support), reach=DECISION_REACH)
    radar = window_mean(near, reach=DECISION_REACH)
    evidence = terrain_odds(radar, hand, steepness)
    limits = {"maximum_hand": maximum_hand}
    seed = seeds(likely(evidence, hand, probability=seed_probability, **limits), evidence, *support)
    grow = likely(evidence, hand, probability=grow_probability, **limits)
    known = likely(evidence, hand, probability=0.0, **limits)
    levels = darkness_levels(*means, known)
    bodies = water_bodies(seed, grow, levels, rim_sums(levels, grow), minimum_area=minimum_mapping_unit, seed_share=seed_share)
    water = either(bodies, holes(bodies, known, minimum_area=minimum_mapping_unit))

    doubt = dark_land(*means, landcover, occurrence) if landcover is not None and occurrence is not None else None
    extent = flood_class(
        water, radar, why, hand, occurrence, doubt, grow_probability=grow_probability, permanent_water=permanent_water, **limits
    )
    probability = water_probability(extent, evidence, grow_probability=grow_probability)
    return {
        "extent": extent,
        "probability": probability,
        "confidence": class_confidence(extent, probability, *support, lost),
        "uncertainty": decision_sigma(*looking, *error),
        "qc": quality_flags(extent, why, *odds, *support, occurrence, lost, doubt, permanent_water=permanent_water),
        "reference_water": usual_water(extent, occurrence, permanent_water=permanent_water, seasonal_water=seasonal_water),
    }


@operation(Local(), dtype="bool")
def dark_land(co: np.ndarray, cross: np.ndarray, landcover: np.ndarray, occurrence: np.ndarray, /) -> np.ndarray:
    """Where bare ground that was never seen under water is as dark as water.

    Parameters
    ----------
    co, cross
        Backscatter in dB of both polarisations, (y, x), NaN where not valid.
    landcover
        WorldCover codes.
    occurrence
        Share of looks with water, in percent; unknown is no evidence of dry land.

    References
    ----------
    OPERA DSWx-S1 algorithm, dark land.
    """
    with np.errstate(invalid="ignore"):
        dark: np.ndarray = (co < DARK_LAND[0]) & (cross < DARK_LAND[1]) & (landcover == BARE) & (occurrence < NEVER_WATER)
    return dark


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
def seeds(seed: np.ndarray, evidence: np.ndarray, co_support: np.ndarray, cross_support: np.ndarray, /) -> np.ndarray:
    """Return the seeds that count: without support by the scene those of ``FALLBACK_SEED`` alone, and the more support, the less it takes.

    Parameters
    ----------
    seed
        Seeds, (y, x) bool.
    evidence
        Log-odds of water, NaN where not observed.
    co_support, cross_support
        How far windows of the scene carry the thresholds; from ``FALLBACK_SUPPORT`` on, every seed counts.
    """
    lacking = 1.0 - np.maximum(co_support, cross_support) / np.float32(FALLBACK_SUPPORT)
    with np.errstate(invalid="ignore"):
        sure: np.ndarray = (lacking <= 0.0) | (evidence >= np.float32(logit(FALLBACK_SEED)) * lacking)
    counted: np.ndarray = seed & sure
    return counted


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
    doubt: np.ndarray | None,
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
        Log-odds of water by radar alone, NaN where not observed.
    why
        Cause of each pixel, bits of ``QC_FLAGS``.
    hand, occurrence
        Height above the nearest drainage in m, and share of looks with water in percent; NaN where unknown, or None.
    doubt
        Where dark land passes for water, (y, x) bool, or None: there water is not told.
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
    if doubt is not None:
        out[doubt & (out == flood.FLOOD)] = FILL
    out[np.isnan(evidence)] = FILL
    out[why & QC_FLAGS["layover_shadow"] != 0] = flood.LAYOVER_SHADOW
    out[why & (UNOBSERVED & ~QC_FLAGS["layover_shadow"]) != 0] = FILL
    return out


@operation(Local(), dtype="float32")
def water_probability(extent: np.ndarray, evidence: np.ndarray, /, *, grow_probability: Fraction = 0.27) -> np.ndarray:
    """Return the probability of open water, given also the company that a pixel keeps.

    A pixel that belongs to a water body is one next to water, for which water is more likely beforehand by as much as growing allows for
    (so it is at least 0.5). What is around one that does not is land as well, which says once more what the pixel says itself; if it is dark
    all the same, it was refused with its body. So it is at most as probable as growing would have taken, and its odds fall twice as fast
    below that.

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
    outside = expit(2.0 * np.minimum(evidence, least) - least)
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
    doubt: np.ndarray | None,
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
    doubt
        Where dark land passes for water, or None.
    permanent_water
        Occurrence (%) from which water is permanent.

    Returns
    -------
    Bits ``threshold_fallback``, ``conflict`` (the polarisations disagree, or the land cover with them), ``hand_excluded``, ``permanent_water``,
    ``insufficient_background`` (flood, but the layer that tells usual water was lost), and ``nodata`` with ``edge_contaminated`` where a
    scene was read but too little of the filter window was valid.
    """
    out = why.astype("uint16")
    seen = why & UNOBSERVED == 0
    if doubt is not None:
        out[seen & doubt & (extent == FILL)] |= QC_FLAGS["conflict"]
        seen = seen & ~doubt
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
