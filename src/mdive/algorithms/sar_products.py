"""What a radar flood map says: the classes of water, its probability, what a class is worth, and why nothing is said."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import expit, logit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.sar_water import FALLBACK_QUALITY, FALLBACK_SUPPORT
from mdive.algorithms.tables import DISAGREE, FILL
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.plugins import Fraction, Local, Metres, operation

MOST_SIGMA: Final = 30.0
"""dB. Half of what lies between the noise of a radar and a corner reflector: whatever varies by more is no backscatter, and the product that
holds deviations ends at 32."""


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
    hide_unseen(out, evidence, why)
    return out


def hide_unseen(extent: np.ndarray, evidence: np.ndarray, why: np.ndarray) -> None:
    """Give the pixels that the radar did not see the code of the reason.

    Parameters
    ----------
    extent
        Flood classes, (y, x), changed in place.
    evidence
        What decides, NaN where not observed.
    why
        Cause of each pixel, bits of ``QC_FLAGS``.
    """
    extent[np.isnan(evidence)] = FILL
    extent[why & QC_FLAGS["layover_shadow"] != 0] = flood.LAYOVER_SHADOW
    extent[why & (UNOBSERVED & ~QC_FLAGS["layover_shadow"]) != 0] = FILL


@operation(Local(), dtype="float32")
def water_probability(water: np.ndarray, evidence: np.ndarray, /, *, grow_probability: Fraction = 0.27) -> np.ndarray:
    """Return the probability of open water, given also the company that a pixel keeps.

    A pixel that belongs to a water body is one next to water, for which water is more likely beforehand by as much as growing allows for
    (so it is at least 0.5). What is around one that does not is land as well, which says once more what the pixel says itself; if it is dark
    all the same, it was refused with its body. So it is at most as probable as growing would have taken, and its odds fall twice as fast
    below that.

    Parameters
    ----------
    water
        Water bodies, (y, x) bool.
    evidence
        Log-odds of water.
    grow_probability
        As in the algorithm.

    Returns
    -------
    (y, x); NaN where not observed.
    """
    least = np.float32(logit(grow_probability))
    inside = expit(np.maximum(evidence - least, 0.0))
    outside = expit(2.0 * np.minimum(evidence, least) - least)
    probability: np.ndarray = np.where(water, inside, outside)
    return probability


@operation(Local(), dtype="float32")
def where_said(extent: np.ndarray, values: np.ndarray, /) -> np.ndarray:
    """Return numbers where a class is said, NaN elsewhere.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    values
        Of anything, (y, x).
    """
    return np.where(extent >= flood.HAND_MASKED, np.float32(np.nan), values)


@operation(Local(), dtype="float32", units="dB")
def sigma_said(extent: np.ndarray, sigma: np.ndarray, /) -> np.ndarray:
    """Return standard deviations where a class is said, at most ``MOST_SIGMA``, and NaN elsewhere.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    sigma
        dB, (y, x).
    """
    return np.where(extent >= flood.HAND_MASKED, np.float32(np.nan), np.minimum(sigma, np.float32(MOST_SIGMA)))


def worth(extent: np.ndarray, co_support: np.ndarray, cross_support: np.ndarray, unknown: np.ndarray | None) -> np.ndarray:
    """Return what a class is worth, (y, x) float32.

    Parameters
    ----------
    extent
        Flood classes, (y, x).
    co_support, cross_support
        How far windows of the scene carry the thresholds: below ``FALLBACK_SUPPORT`` a class is worth ``FALLBACK_QUALITY``.
    unknown
        Where nobody knows whether water is the usual one, or None: there flood is worth ``flood_tables.UNKNOWN_REFERENCE``.
    """
    quality = np.where(np.maximum(co_support, cross_support) < FALLBACK_SUPPORT, np.float32(FALLBACK_QUALITY), np.float32(1.0))
    if unknown is not None:
        quality[unknown & (extent == flood.FLOOD)] *= np.float32(flood.UNKNOWN_REFERENCE)
    return quality


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
    flag_ground(out, extent, occurrence, lost, permanent_water)
    return out


def flag_ground(
    flags: np.ndarray, extent: np.ndarray, occurrence: np.ndarray | None, lost: np.ndarray | None, permanent_water: float
) -> None:
    """Add what static layers say to quality flags, changed in place; parameters as in ``quality_flags``."""
    flags[extent == flood.HAND_MASKED] |= QC_FLAGS["hand_excluded"]
    if occurrence is not None:
        flags[occurrence >= permanent_water] |= QC_FLAGS["permanent_water"]
    if lost is not None:
        flags[lost & (extent == flood.FLOOD)] |= QC_FLAGS["insufficient_background"]
