"""New water by radar: dark as water after the onset, and darker than the same geometry ever showed the place before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from scipy.special import expit, logit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.components import hysteresis
from mdive.algorithms.evidence import decision_sigma, log_odds, mean_of
from mdive.algorithms.flood_sar_threshold import FALLBACK_QUALITY, FALLBACK_SUPPORT
from mdive.algorithms.looks import Looks
from mdive.algorithms.mosaic import first_valid, unreadable
from mdive.algorithms.reference_water import REFERENCE_WATER, usual_water
from mdive.algorithms.sar import usable_power, window_mean
from mdive.algorithms.sar_change import (
    STACK,
    Deviations,
    change_deviation,
    change_odds,
    filtered_looks,
    filtered_variation,
    pairs_of,
    reference,
)
from mdive.algorithms.sar_water import radar_water
from mdive.algorithms.tables import CONFIDENCE, DISAGREE, FILL, QUALITY, share, uncertainty
from mdive.algorithms.terrain_slope import slope
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.plugins import Bundle, Decibels, Fraction, Hectares, Local, Metres, algorithm, operation

STANDING: Final = (10, 90, 95)
"""WorldCover codes of plants that stand out of a flood: trees, herbaceous wetland, mangroves. Over others a rise is wet soil or growth."""
DOUBLE_BOUNCE: Final = (7.0, 12.0)
"""dB. VV over VH of flooded vegetation (DSWx-S1): trunks and water reflect VV like a corner, and VH hardly."""
PAST_REACH: Final = 25.0
"""Metres over which the odds of water before are averaged: speckle of single references is not filtered otherwise."""
NOISE_FLOOR: Final = -26.0
"""dB. VH below it is noise, and no ratio with it means anything (DSWx-S1)."""

PRODUCTS: Final = (
    flood.EXTENT,
    share("probability", "Probability of flood"),
    CONFIDENCE,
    uncertainty("dB", 1e-3),
    QUALITY,
    REFERENCE_WATER,
)


@algorithm(
    "flood.sar_change",
    version="1.0.0",
    needs={"pre": ("vv", "vh"), "post": ("vv", "vh")},
    optional={"static": ("hand", "occurrence", "slope", "dem", "landcover")},
    sensor="sar",
    outputs=PRODUCTS,
    references=(
        "10.1109/TGRS.2002.808066",  # Conradsen 2003, ratio tests of speckled powers
        "10.1016/j.rse.2020.111664",  # DeVries 2020, deviation from a pixel's own past
        "10.1109/TGRS.2017.2737664",  # Chini 2017, water and change together, grown from seeds
        "10.1016/0031-3203(86)90030-0",  # Kittler and Illingworth 1986, minimum-error threshold
        "10.3390/rs12152469",  # Markert 2020, thresholds from the edges of water
        "10.1109/TGRS.2009.2019269",  # Anfinsen 2009, looks from the scene
    ),
)
def sar_change(
    pre: Bundle,
    post: Bundle,
    static: Bundle,
    /,
    *,
    minimum_mapping_unit: Hectares = 0.3,
    minimum_change: Decibels = 3.0,
    deviations: Deviations = 2.5,
    change_probability: Fraction = 0.82,
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
    """Flood by change of SAR backscatter: dark as water now, and darker than scenes of the same orbit before.

    Parameters
    ----------
    pre
        Linear power (gamma0 or sigma0) before the onset, (time, y, x), one scene or a stack; of the relative orbits of ``post``.
    post
        Linear power after the onset, and its cause plane.
    static
        ``hand``, height above the nearest drainage in m; ``occurrence``, how often water was seen there before, in percent. Where one of
        them was to be had and could not be read, flood has the flag ``insufficient_background`` and at most half of the confidence.
        ``slope`` in degrees, or ``dem``, heights in m from which it is made: what is steep is hardly water. ``landcover``, WorldCover codes,
        without which no flooded vegetation is sought.
    minimum_mapping_unit
        Smaller floods are dropped and smaller holes in water are closed.
    minimum_change
        Smallest fall (for flooded vegetation: rise) of backscatter that means anything.
    deviations
        It must also exceed so many standard deviations of no change: of the pixel's own past from five references on, else of speckle.
    change_probability
        A flood needs a pixel of water that is at least this probably new (log-odds 1.5).
    fallback_vv, fallback_vh
        As in ``flood.sar_threshold``. References that are darker, and fell from a brighter middle, were flooded themselves and do not count.
    seed_probability, seed_share
        As in ``flood.sar_threshold``.
    grow_probability
        A flood reaches as far as pixels are at least this probably water, and at least this probably new.
    looks
        Equivalent number of looks of a pixel of the grid; told by each scene where it is not given. Those after filtering always are.
    maximum_hand
        Higher above the drainage nothing is called flood; what looks like it there is class 250.
    permanent_water
        Occurrence (%) from which water is permanent, not flood.
    seasonal_water
        Occurrence (%) from which water is told apart as seasonal in ``reference_water``.

    Notes
    -----
    Water is found as in ``flood.sar_threshold``. Water that the references show as well is permanent water, with or without ``occurrence``. Where
    ``occurrence`` says that water is not even seasonal, the references show dark land, or the flood already: it is flood if it lies in a
    flood that came, and has the flag ``conflict`` either way. Pixels without a reference are classified as by ``flood.sar_threshold``, with
    the flag ``insufficient_background``; those with fewer than five have the flag ``low_n_obs``.

    The probability is that of water, times that of change: of flood, not of water.
    """
    pairs = pairs_of(pre, post)
    hand, occurrence, steepness, height, landcover = (
        None if band is None else first_valid(band) for band in (static.hand, static.occurrence, static.slope, static.dem, static.landcover)
    )
    if steepness is None and height is not None:
        steepness = slope(height)
    planned = [band for band in (static.hand, static.occurrence) if band is not None]
    lost = unreadable(static.mask, *planned) if planned and static.mask is not None else None

    now = radar_water(
        post,
        hand,
        steepness,
        minimum_mapping_unit=minimum_mapping_unit,
        fallback_vv=fallback_vv,
        fallback_vh=fallback_vh,
        seed_probability=seed_probability,
        seed_share=seed_share,
        grow_probability=grow_probability,
        looks=looks,
        maximum_hand=maximum_hand,
    )

    fell, rose, before, count, deviation = [], [], [], [], []
    for name, fallback, mean, level_of_water in zip(("vv", "vh"), (fallback_vv, fallback_vh), now.powers, now.levels, strict=True):
        single = usable_power(getattr(pre, name), pre.mask)
        stack = window_mean(single)
        limits = {"pairs": pairs, "dark": fallback, "minimum_drop": minimum_change}
        level, spread, n = (reference(stack, now.choice, field=field, **limits) for field in ("level", "spread", "count"))
        looked = filtered_looks(filtered_variation(mean)), filtered_looks(filtered_variation(stack))
        fell.append(change_odds(mean, level, spread, n, *looked, minimum_change=minimum_change, deviations=deviations))
        rose.append(change_odds(mean, level, spread, n, *looked, minimum_change=minimum_change, deviations=deviations, rise=True))
        before.append(log_odds(reference(single, now.choice, field="mean", pairs=pairs), *level_of_water))
        deviation.append(change_deviation(mean, spread, n, *looked))
        count.append(n)

    # Odds are averaged, not power: a mean over the bank of a river would hide the river, and pass its rim for flood.
    past = window_mean(opinions(*before), reach=PAST_REACH)
    change = came(opinions(*fell), past)
    limits = {"permanent_water": permanent_water}
    sure = surely_new(now.water, change, occurrence, probability=change_probability, **limits)
    possible = possibly_new(now.water, change, past, occurrence, probability=grow_probability, seasonal_water=seasonal_water, **limits)
    new = hysteresis(sure, possible, minimum_area=minimum_mapping_unit)
    standing = None
    if landcover is not None:
        wet = [
            double_bounce(*now.powers, rose[0], landcover, hand, probability=p, maximum_hand=maximum_hand)
            for p in (change_probability, grow_probability)
        ]
        standing = hysteresis(*wet, minimum_area=minimum_mapping_unit)

    limits |= {"grow_probability": grow_probability, "maximum_hand": maximum_hand}
    extent = change_class(now.water, new, standing, now.radar, past, now.why, hand, occurrence, **limits)
    limits = {"grow_probability": grow_probability, "change_probability": change_probability}
    probability = flood_probability(extent, now.evidence, change, rose[0], **limits)
    error = decision_sigma(*now.looking, *(sigma for _, sigma, _, _ in now.levels))
    return {
        "extent": extent,
        "probability": probability,
        "confidence": change_confidence(extent, probability, now.evidence, change, past, *now.support, occurrence, lost),
        "uncertainty": change_sigma(extent, *deviation, error),
        "qc": change_flags(extent, now.why, *now.odds, *now.support, *count, past, occurrence, lost, permanent_water=permanent_water),
        "reference_water": usual_water(extent, occurrence, permanent_water=permanent_water, seasonal_water=seasonal_water),
    }


@operation(Local(), dtype="float32")
def opinions(co: np.ndarray, cross: np.ndarray, /) -> np.ndarray:
    """Return the mean of two log-odds, or the one that is there; both polarisations look at the same surface, so a sum would count twice."""
    return mean_of(co, cross)


@operation(Local(), dtype="float32")
def came(fell: np.ndarray, past: np.ndarray, /) -> np.ndarray:
    """Return the log-odds that what is dark became so: backscatter fell, and it was no water before.

    Parameters
    ----------
    fell, past
        Log-odds of a fall of backscatter, and of water before, (y, x).

    Returns
    -------
    The lesser of the two claims; NaN where one is not known.
    """
    lesser: np.ndarray = np.minimum(fell, -past)
    return lesser


@operation(Local(), dtype="bool")
def surely_new(
    water: np.ndarray,
    change: np.ndarray,
    occurrence: np.ndarray | None,
    /,
    *,
    probability: Fraction = 0.82,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return the water that came with at least this probability.

    Parameters
    ----------
    water
        Water after the onset, (y, x) bool.
    change
        Log-odds that water came; NaN without references, where all water may be new.
    occurrence
        Share of looks with water, in percent, or None.
    probability
        Least probability.
    permanent_water
        Occurrence from which water is permanent.
    """
    with np.errstate(invalid="ignore"):
        new: np.ndarray = water & ((change >= logit(probability)) | np.isnan(change))
        if occurrence is not None:
            new = new & ~(occurrence >= permanent_water)
    return new


@operation(Local(), dtype="bool")
def possibly_new(
    water: np.ndarray,
    change: np.ndarray,
    past: np.ndarray,
    occurrence: np.ndarray | None,
    /,
    *,
    probability: Fraction = 0.27,
    permanent_water: flood.Percent = 75.0,
    seasonal_water: flood.Percent = 25.0,
) -> np.ndarray:
    """Return the water that was not there before, as far as anybody can tell.

    Land that was as dark as water cannot be seen to become water. Where occurrence says that water is not even seasonal, it may have: smooth
    fields in a flooded plain are flooded.

    Parameters
    ----------
    water
        Water after the onset, (y, x) bool.
    change, past
        Log-odds that water came, and that there was water before; NaN without references.
    occurrence
        Share of looks with water, in percent, or None.
    probability
        Least probability that it came: next to new water, new water is more likely than elsewhere.
    permanent_water, seasonal_water
        Occurrence from which water is permanent, and from which there is water in some season.
    """
    with np.errstate(invalid="ignore"):
        new: np.ndarray = ((change >= logit(probability)) & (past < 0.0)) | np.isnan(change)
        if occurrence is not None:
            new = (new | (occurrence < seasonal_water)) & ~(occurrence >= permanent_water)
        new &= water
    return new


@operation(Local(), dtype="bool")
def double_bounce(
    co: np.ndarray,
    cross: np.ndarray,
    rise: np.ndarray,
    landcover: np.ndarray,
    hand: np.ndarray | None,
    /,
    *,
    probability: Fraction = 0.5,
    maximum_hand: Metres = 20.0,
) -> np.ndarray:
    """Where plants that stand out of the water became as bright as flooded ones are.

    Parameters
    ----------
    co, cross
        Filtered VV and VH after the onset, linear power, (y, x).
    rise
        Log-odds of a rise of VV.
    landcover
        WorldCover codes.
    hand
        Height above the nearest drainage in m, or None.
    probability
        Least probability of a rise.
    maximum_hand
        No flood above it.

    References
    ----------
    OPERA DSWx-S1 algorithm (ratio and noise floor of inundated vegetation); Tsyganskaya et al. (2018), 10.1080/01431161.2017.1420938, for
    the rise of VV.
    """
    floor = np.float32(10.0 ** (0.1 * NOISE_FLOOR))
    low, high = (np.float32(10.0 ** (0.1 * ratio)) for ratio in DOUBLE_BOUNCE)
    with np.errstate(invalid="ignore"):
        good: np.ndarray = (rise >= logit(probability)) & (cross > floor) & (co > low * cross) & (co <= high * cross)
        good = good & ((landcover == STANDING[0]) | (landcover == STANDING[1]) | (landcover == STANDING[2]))
        if hand is not None:
            good = good & ~(hand > maximum_hand)
    return good


@operation(Local(), dtype="uint8")
def change_class(
    water: np.ndarray,
    new: np.ndarray,
    standing: np.ndarray | None,
    evidence: np.ndarray,
    past: np.ndarray,
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
    water, new
        Water after the onset, and the part of it that came, (y, x) bool.
    standing
        Flooded vegetation, or None where it was not sought.
    evidence, past
        Log-odds of water after and before; NaN where not observed.
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
    out = np.full(water.shape, flood.NOT_WATER, dtype="uint8")
    if standing is not None:
        out[standing] = flood.FLOODED_VEGETATION
    out[new] = flood.FLOOD
    with np.errstate(invalid="ignore"):
        old = water & ~new & (past >= 0.0)
        if occurrence is not None:
            old = old | (water & (occurrence >= permanent_water))
        out[old] = flood.PERMANENT_WATER
        if hand is not None:
            out[(hand > maximum_hand) & (evidence >= logit(grow_probability))] = flood.HAND_MASKED
    out[np.isnan(evidence)] = FILL
    out[why & QC_FLAGS["layover_shadow"] != 0] = flood.LAYOVER_SHADOW
    out[why & (UNOBSERVED & ~QC_FLAGS["layover_shadow"]) != 0] = FILL
    return out


@operation(Local(), dtype="float32")
def flood_probability(
    extent: np.ndarray,
    evidence: np.ndarray,
    change: np.ndarray,
    rise: np.ndarray,
    /,
    *,
    grow_probability: Fraction = 0.27,
    change_probability: Fraction = 0.82,
) -> np.ndarray:
    """Return the probability of flood: of water, times that of change, given also the company that a pixel keeps.

    What a flood grows into counts as the seed that it hangs on: next to water, water is more likely by as much as growing allows for, and
    next to new water, that it is new by as much as lies between a seed and the least that is grown into.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    evidence, change, rise
        Log-odds of water, that it came, and of a rise of backscatter; the last two NaN without references, where water alone decides.
    grow_probability, change_probability
        As in the algorithm.

    Returns
    -------
    (y, x), at least 0.5 in a flood of open water and at most ``grow_probability`` outside of any; NaN where nothing is said.
    """
    least = np.float32(logit(grow_probability))
    company = np.float32(logit(change_probability)) - least
    new, joined = (np.where(np.isnan(change), np.float32(1.0), expit(odds)) for odds in (change, change + company))
    inside = np.maximum(expit(np.maximum(evidence - least, 0.0)) * joined, np.float32(0.5))
    outside = np.minimum(expit(evidence) * new, np.float32(grow_probability))
    return np.where(
        extent >= flood.HAND_MASKED,
        np.nan,
        np.where(extent == flood.FLOOD, inside, np.where(extent == flood.FLOODED_VEGETATION, expit(rise), outside)),
    )


@operation(Local(), dtype="float32")
def change_confidence(
    extent: np.ndarray,
    probability: np.ndarray,
    evidence: np.ndarray,
    change: np.ndarray,
    past: np.ndarray,
    co_support: np.ndarray,
    cross_support: np.ndarray,
    occurrence: np.ndarray | None,
    lost: np.ndarray | None,
    /,
) -> np.ndarray:
    """Return the probability of the class that is given, times what it is worth.

    Parameters
    ----------
    extent, probability
        Flood classes, and the probability of flood, (y, x).
    evidence, change, past
        Log-odds of water after, that it came, and of water before; the last two NaN without references.
    co_support, cross_support
        How far windows of the scene carry the thresholds: below ``FALLBACK_SUPPORT`` a class is worth ``FALLBACK_QUALITY``.
    occurrence
        Share of looks with water, in percent, or None.
    lost
        Where a static layer could not be read, or None. There, and where neither references nor occurrence tell what was before, flood is
        worth ``flood_tables.UNKNOWN_REFERENCE``.
    """
    quality = np.where(np.maximum(co_support, cross_support) < FALLBACK_SUPPORT, np.float32(FALLBACK_QUALITY), np.float32(1.0))
    blind = np.isnan(change) if occurrence is None else np.isnan(change) & np.isnan(occurrence)
    if lost is not None:
        blind = blind | lost
    quality[blind & (extent == flood.FLOOD)] *= np.float32(flood.UNKNOWN_REFERENCE)
    event = (extent == flood.FLOOD) | (extent == flood.FLOODED_VEGETATION)
    old = expit(np.maximum(evidence, 0.0)) * np.where(np.isnan(past), np.float32(1.0), expit(np.maximum(past, 0.0)))
    return quality * np.where(event, probability, np.where(extent == flood.PERMANENT_WATER, old, 1.0 - probability)) + 0.0 * probability


@operation(Local(), dtype="float32", units="dB")
def change_sigma(extent: np.ndarray, co: np.ndarray, cross: np.ndarray, decision: np.ndarray, /) -> np.ndarray:
    """Return the standard deviation of what decides: of backscatter against its references; against the threshold where there are none.

    Parameters
    ----------
    extent
        Flood classes, (y, x): where nothing is said, nothing is uncertain.
    co, cross
        From ``change_deviation``.
    decision
        From ``decision_sigma``.
    """
    change = mean_of(co, cross)
    return np.where(extent >= flood.HAND_MASKED, np.nan, np.where(np.isnan(change), decision, change))


@operation(Local(), dtype="uint16")
def change_flags(
    extent: np.ndarray,
    why: np.ndarray,
    co: np.ndarray,
    cross: np.ndarray,
    co_support: np.ndarray,
    cross_support: np.ndarray,
    co_count: np.ndarray,
    cross_count: np.ndarray,
    past: np.ndarray,
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
    co, cross
        Log-odds of water by each polarisation.
    co_support, cross_support
        How far windows of the scene carry the thresholds.
    co_count, cross_count
        References of each polarisation.
    past
        Log-odds of water before.
    occurrence
        Share of looks with water, in percent, or None.
    lost
        Where a static layer could not be read, or None.
    permanent_water
        Occurrence (%) from which water is permanent.

    Returns
    -------
    Bits ``threshold_fallback``, ``hand_excluded``, ``nodata`` with ``edge_contaminated`` as in ``flood.sar_threshold``; ``permanent_water``
    where occurrence says so; ``insufficient_background`` without a reference, and on flood whose static layer was lost; ``low_n_obs`` with
    fewer than five; ``conflict`` where the polarisations disagree, and where water of before is none by occurrence.
    """
    out = why.astype("uint16")
    seen = why & UNOBSERVED == 0
    out[seen & (extent == FILL)] |= QC_FLAGS["nodata"] | QC_FLAGS["edge_contaminated"]
    said = extent < flood.HAND_MASKED
    n = np.maximum(co_count, cross_count)
    out[said & (np.maximum(co_support, cross_support) < FALLBACK_SUPPORT)] |= QC_FLAGS["threshold_fallback"]
    out[said & (np.abs(expit(co) - expit(cross)) > DISAGREE)] |= QC_FLAGS["conflict"]
    out[said & (n == 0)] |= QC_FLAGS["insufficient_background"]
    out[said & (n > 0) & (n < STACK)] |= QC_FLAGS["low_n_obs"]
    out[extent == flood.HAND_MASKED] |= QC_FLAGS["hand_excluded"]
    if occurrence is not None:
        out[occurrence >= permanent_water] |= QC_FLAGS["permanent_water"]
        old = (extent == flood.PERMANENT_WATER) | (extent == flood.FLOOD)
        out[old & (past >= 0.0) & (occurrence < permanent_water)] |= QC_FLAGS["conflict"]
    if lost is not None:
        out[lost & (extent == flood.FLOOD)] |= QC_FLAGS["insufficient_background"]
    return out
