"""New water by radar: dark as water after the onset, and darker than the same geometry ever showed the place before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from scipy.special import expit, logit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.components import hysteresis
from mdive.algorithms.evidence import decision_sigma, log_odds, mean_of
from mdive.algorithms.looks import Looks
from mdive.algorithms.reference_water import REFERENCE_WATER, usual_water
from mdive.algorithms.sar import DECISION_REACH, speckle_median, usable_power, variation, window_mean
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
from mdive.algorithms.sar_products import flood_class, quality_flags, sigma_said, water_probability, worth
from mdive.algorithms.sar_water import either, ground_of, radar_water
from mdive.algorithms.tables import CONFIDENCE, QUALITY, share, uncertainty
from mdive.algorithms.water_bodies import rim_sums, surrounded
from mdive.model.flags import QC_FLAGS
from mdive.plugins import Bundle, Decibels, Fraction, Hectares, Local, Metres, algorithm, operation

STANDING: Final = (10, 90, 95)
"""WorldCover codes of plants that stand out of a flood: trees, herbaceous wetland, mangroves. Over others a rise is wet soil or growth."""
DOUBLE_BOUNCE: Final = (7.0, 12.0)
"""dB. VV over VH of flooded vegetation (DSWx-S1): trunks and water reflect VV like a corner, and VH hardly."""
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
        without which no flooded vegetation is sought; over bare ground without a reference it has its part in ``flood.sar_threshold``.
    minimum_mapping_unit
        Smaller floods are dropped and smaller holes in water are closed.
    minimum_change
        Smallest fall (for flooded vegetation: rise) of backscatter that means anything.
    deviations
        It must also exceed so many standard deviations of no change: of the pixel's own past from five references on, else of speckle.
    change_probability
        A flood needs a pixel of water whose backscatter fell, and that was no water before, each at least this probably (log-odds 1.5).
    fallback_vv, fallback_vh
        As in ``flood.sar_threshold``. References that are darker, and fell from a brighter middle, were flooded themselves and do not count.
    seed_probability, seed_share
        As in ``flood.sar_threshold``.
    grow_probability
        A flood reaches as far as pixels are at least this probably water, and as the mean of both claims lets them be new.
    looks
        Equivalent number of looks of a pixel of the grid; told by each scene where it is not given. Those after filtering always are.
    maximum_hand
        Higher above the drainage nothing is called flood; what looks like it there is class 250.
    permanent_water
        Occurrence (%) from which water is permanent, not flood.
    seasonal_water
        Occurrence (%) from which water is told apart as seasonal in ``reference_water``, and below which dark references may be dark land.

    Notes
    -----
    Water is found as in ``flood.sar_threshold``. Water that the references show as well is permanent water, with or without ``occurrence``. Where
    ``occurrence`` says that water is not even seasonal, the references show dark land, or a flood that had begun: it is flood if around it more
    came than stayed dry, and has the flag ``conflict`` either way. Pixels without a reference are classified as by ``flood.sar_threshold``, with
    the flag ``insufficient_background``; those with fewer than five have the flag ``low_n_obs``.

    The probability is that of water, times that of change: of flood, not of water.
    """
    pairs = pairs_of(pre, post)
    ground = ground_of(static)
    now = radar_water(
        post,
        ground,
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
    scene = zip(("vv", "vh"), (fallback_vv, fallback_vh), now.means, now.variations, now.levels, strict=True)
    for name, fallback, mean, speckle, levels in scene:
        single = usable_power(getattr(pre, name), pre.mask)
        stack = window_mean(single)
        asked = {"pairs": pairs, "dark": fallback, "minimum_drop": minimum_change}
        level, spread, n = (reference(stack, now.choice, field=field, **asked) for field in ("level", "spread", "count"))
        looked = filtered_looks(filtered_variation(mean), speckle), filtered_looks(filtered_variation(stack), variation(single))
        least = {"minimum_change": minimum_change, "deviations": deviations}
        fell.append(change_odds(mean, level, spread, n, *looked, **least))
        rose.append(change_odds(mean, level, spread, n, *looked, **least, rise=True))
        earlier = reference(single, now.choice, field="mean", pairs=pairs)
        before.append(log_odds(speckle_median(earlier), *levels))
        deviation.append(change_deviation(mean, spread, n, *looked))
        count.append(n)

    # Odds are averaged, not power: a mean over the bank of a river would hide the river, and pass its rim for flood.
    past = window_mean(opinions(*before), reach=DECISION_REACH)
    drop = opinions(*fell)
    change = came(drop, past)
    permanent = {"permanent_water": permanent_water}
    new = hysteresis(
        surely_new(now.water, drop, past, ground.occurrence, probability=change_probability, **permanent),
        possibly_new(now.water, change, past, ground.occurrence, probability=grow_probability, **permanent),
        minimum_area=minimum_mapping_unit,
    )
    if ground.occurrence is not None:
        rare = rare_water(now.water, new, ground.occurrence, seasonal_water=seasonal_water)
        new = either(new, surrounded(rare, rim_sums(new_or_dry(new, now.water, now.evidence), rare)))
    standing = None
    if ground.landcover is not None:
        wet = [
            double_bounce(*now.means, rose[0], ground.landcover, ground.hand, probability=p, maximum_hand=maximum_hand)
            for p in (change_probability, grow_probability)
        ]
        standing = hysteresis(*wet, minimum_area=minimum_mapping_unit)

    grow = {"grow_probability": grow_probability}
    # Dark land that references show is no flood by them.
    doubt = None if now.doubt is None else unknown_where(now.doubt, past)
    wet_now = flood_class(
        now.water, now.radar, now.why, ground.hand, ground.occurrence, doubt, maximum_hand=maximum_hand, **grow, **permanent
    )
    extent = change_class(wet_now, new, standing, past)
    water = water_probability(now.water, now.evidence, **grow)
    probability = flood_probability(extent, water, change, rose[0], change_probability=change_probability, **grow)
    flags = quality_flags(extent, now.why, *now.odds, *now.support, ground.occurrence, ground.lost, doubt, **permanent)
    error = decision_sigma(*now.looking, *(sigma for _, sigma, _, _ in now.levels))
    return {
        "extent": extent,
        "probability": probability,
        "confidence": change_confidence(extent, probability, water, past, *now.support, ground.occurrence, ground.lost),
        "uncertainty": sigma_said(extent, change_sigma(*deviation, error)),
        "qc": change_flags(flags, extent, wet_now, *count, past, ground.occurrence, **permanent),
        "reference_water": usual_water(extent, ground.occurrence, seasonal_water=seasonal_water, **permanent),
    }


@operation(Local(), dtype="float32")
def opinions(co: np.ndarray, cross: np.ndarray, /) -> np.ndarray:
    """Return the mean of two log-odds, or the one that is there; both polarisations look at the same surface, so a sum would count twice."""
    return mean_of(co, cross)


@operation(Local(), dtype="float32")
def came(fell: np.ndarray, past: np.ndarray, /) -> np.ndarray:
    """Return the log-odds that water came: backscatter fell, and there was none before.

    Parameters
    ----------
    fell, past
        Log-odds of a fall of backscatter, and of water before, (y, x).

    Returns
    -------
    The mean of both claims, which are of one event, and each bounded; NaN where one is not known. At the edge of a flood the window of the
    test holds bright land, and says less than what was there before; over land that was half as dark as water it is the other way round.
    """
    both: np.ndarray = np.float32(0.5) * (fell - past)
    return both


@operation(Local(), dtype="bool")
def surely_new(
    water: np.ndarray,
    fell: np.ndarray,
    past: np.ndarray,
    occurrence: np.ndarray | None,
    /,
    *,
    probability: Fraction = 0.82,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return the water of which backscatter fell, and that was none before, each with at least this probability.

    Both claims, not their mean: a lake that wind roughened before is bright, and falls as much as land does, but is still half like water.

    Parameters
    ----------
    water
        Water after the onset, (y, x) bool.
    fell, past
        Log-odds of a fall of backscatter, and of water before; NaN without references, where all water may be new.
    occurrence
        Share of looks with water, in percent, or None.
    probability
        Least probability.
    permanent_water
        Occurrence from which water is permanent.
    """
    with np.errstate(invalid="ignore"):
        new: np.ndarray = water & ((np.minimum(fell, -past) >= logit(probability)) | np.isnan(fell + past))
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
) -> np.ndarray:
    """Return the water that was not there before, as far as references tell.

    Parameters
    ----------
    water
        Water after the onset, (y, x) bool.
    change, past
        Log-odds that water came, and that there was water before; NaN without references.
    occurrence
        Share of looks with water, in percent, or None.
    probability
        Least probability of each claim of which ``change`` is the mean, so that half of its log-odds will do: next to new water, new water is
        more likely than elsewhere.
    permanent_water
        Occurrence from which water is permanent.
    """
    with np.errstate(invalid="ignore"):
        new: np.ndarray = water & (((change >= 0.5 * logit(probability)) & (past < 0.0)) | np.isnan(change))
        if occurrence is not None:
            new = new & ~(occurrence >= permanent_water)
    return new


@operation(Local(), dtype="bool")
def rare_water(water: np.ndarray, new: np.ndarray, occurrence: np.ndarray, /, *, seasonal_water: flood.Percent = 25.0) -> np.ndarray:
    """Return the water that the references show as well, where occurrence says that there is none in any season.

    It is land as dark as water, which cannot be seen to become water, or a flood that had begun.

    Parameters
    ----------
    water, new
        Water after the onset, and the part of it that came, (y, x) bool.
    occurrence
        Share of looks with water, in percent.
    seasonal_water
        Occurrence from which there is water in some season.
    """
    with np.errstate(invalid="ignore"):
        rare: np.ndarray = water & ~new & (occurrence < seasonal_water)
    return rare


@operation(Local(), dtype="uint16", fill=0)
def new_or_dry(new: np.ndarray, water: np.ndarray, evidence: np.ndarray, /) -> np.ndarray:
    """Return 2 where water came, 1 where there is none, 0 where water stayed and where nobody knows.

    Parameters
    ----------
    new, water
        Water that came, and all water after the onset, (y, x) bool.
    evidence
        Log-odds of water, NaN where not observed.
    """
    return np.where(new, np.uint16(2), np.where(water | np.isnan(evidence), np.uint16(0), np.uint16(1)))


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


@operation(Local(), dtype="bool")
def unknown_where(doubt: np.ndarray, past: np.ndarray, /) -> np.ndarray:
    """Where there is a doubt that no reference can settle.

    Parameters
    ----------
    doubt
        Where dark land passes for water, (y, x) bool.
    past
        Log-odds of water before, NaN without references.
    """
    unsettled: np.ndarray = doubt & np.isnan(past)
    return unsettled


@operation(Local(), dtype="uint8")
def change_class(wet: np.ndarray, new: np.ndarray, standing: np.ndarray | None, past: np.ndarray, /) -> np.ndarray:
    """Return the flood class of each pixel: what is wet now, and came.

    Parameters
    ----------
    wet
        Flood classes of the scene after the onset alone, (y, x), from ``flood_class``.
    new
        The part of its water that came, (y, x) bool.
    standing
        Flooded vegetation, or None where it was not sought.
    past
        Log-odds of water before; NaN without references.

    Returns
    -------
    Codes of ``flood_tables.CLASSES``. Water that did not come is permanent if it was there before, and else not water: a dark surface that
    was as dark before.
    """
    out = wet.copy()
    stayed = (wet == flood.FLOOD) & ~new
    with np.errstate(invalid="ignore"):
        out[stayed] = np.where(past >= 0.0, np.uint8(flood.PERMANENT_WATER), np.uint8(flood.NOT_WATER))[stayed]
    if standing is not None:
        out[standing & (out == flood.NOT_WATER)] = flood.FLOODED_VEGETATION
    return out


@operation(Local(), dtype="float32")
def flood_probability(
    extent: np.ndarray,
    water: np.ndarray,
    change: np.ndarray,
    rise: np.ndarray,
    /,
    *,
    grow_probability: Fraction = 0.27,
    change_probability: Fraction = 0.82,
) -> np.ndarray:
    """Return the probability of flood: of water, times that of change, given also the company that a pixel keeps.

    What a flood grows into counts as the seed that it hangs on: next to new water, that a pixel of it is new is more likely by as much as
    lies between a seed and the least that is grown into.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    water
        Probability of water, from ``water_probability``.
    change, rise
        Log-odds that water came, and of a rise of backscatter; NaN without references, where water alone decides.
    grow_probability, change_probability
        As in the algorithm.

    Returns
    -------
    (y, x), at least 0.5 in a flood of open water and at most ``grow_probability`` outside of any; NaN where nothing is said.
    """
    company = np.float32(logit(change_probability) - logit(grow_probability))
    new, joined = (np.where(np.isnan(change), np.float32(1.0), expit(odds)) for odds in (change, change + company))
    inside, outside = np.maximum(water * joined, np.float32(0.5)), np.minimum(water * new, np.float32(grow_probability))
    said = np.where(extent == flood.FLOOD, inside, np.where(extent == flood.FLOODED_VEGETATION, expit(rise), outside))
    return np.where(extent >= flood.HAND_MASKED, np.nan, said)


@operation(Local(), dtype="float32")
def change_confidence(
    extent: np.ndarray,
    probability: np.ndarray,
    water: np.ndarray,
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
    water
        Probability of water, from ``water_probability``.
    past
        Log-odds of water before; NaN without references.
    co_support, cross_support
        As in ``worth``.
    occurrence
        Share of looks with water, in percent, or None.
    lost
        Where a static layer could not be read, or None. There, and where neither references nor occurrence tell what was before, nobody knows
        whether water is the usual one.
    """
    blind = np.isnan(past) if occurrence is None else np.isnan(past) & np.isnan(occurrence)
    quality = worth(extent, co_support, cross_support, blind if lost is None else blind | lost)
    event = (extent == flood.FLOOD) | (extent == flood.FLOODED_VEGETATION)
    old = water * np.where(np.isnan(past), np.float32(1.0), expit(np.maximum(past, 0.0)))
    return quality * np.where(event, probability, np.where(extent == flood.PERMANENT_WATER, old, 1.0 - probability)) + 0.0 * probability


@operation(Local(), dtype="float32", units="dB")
def change_sigma(co: np.ndarray, cross: np.ndarray, decision: np.ndarray, /) -> np.ndarray:
    """Return the standard deviation of what decides: of backscatter against its references; against the threshold where there are none.

    Parameters
    ----------
    co, cross
        From ``change_deviation``, (y, x).
    decision
        From ``decision_sigma``.
    """
    change = mean_of(co, cross)
    return np.where(np.isnan(change), decision, change)


@operation(Local(), dtype="uint16")
def change_flags(
    flags: np.ndarray,
    extent: np.ndarray,
    wet: np.ndarray,
    co_count: np.ndarray,
    cross_count: np.ndarray,
    past: np.ndarray,
    occurrence: np.ndarray | None,
    /,
    *,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return quality flags with what references add to them.

    Parameters
    ----------
    flags
        From ``quality_flags``, (y, x).
    extent, wet
        Flood classes, and those of the scene after the onset alone.
    co_count, cross_count
        References of each polarisation.
    past
        Log-odds of water before.
    occurrence
        Share of looks with water, in percent, or None.
    permanent_water
        Occurrence (%) from which water is permanent.

    Returns
    -------
    The same with ``insufficient_background`` without a reference, ``low_n_obs`` with fewer than five, and ``conflict`` where water of before is
    none by occurrence, and where the scene shows water of which references tell neither that it was there nor that it came.
    """
    out, said, blind = flags.copy(), extent < flood.HAND_MASKED, np.isnan(past)
    out[said & blind] |= QC_FLAGS["insufficient_background"]
    out[said & ~blind & (np.maximum(co_count, cross_count) < STACK)] |= QC_FLAGS["low_n_obs"]
    out[(wet == flood.FLOOD) & (extent == flood.NOT_WATER)] |= QC_FLAGS["conflict"]
    if occurrence is not None:
        old = (extent == flood.PERMANENT_WATER) | (extent == flood.FLOOD)
        out[old & (past >= 0.0) & (occurrence < permanent_water)] |= QC_FLAGS["conflict"]
    return out
