"""A flood by heights: the stage of each reach from what was seen of the flood, its depth, and where it must reach under cloud and canopy."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms import terrain_hand
from mdive.algorithms.boundary_depth import boundary_level, level_depth
from mdive.algorithms.flood_optical_index import POOL
from mdive.algorithms.hand_stage import (
    WET,
    Highest,
    Step,
    below_stage,
    counts_by_rise,
    ground_squares,
    reach_counts,
    reach_stages,
    reaches,
    share_by_rise,
    stage_bins,
    stage_depth,
    stage_probability,
)
from mdive.algorithms.mosaic import NONE, cause, first_valid, pick
from mdive.algorithms.optical import SURE
from mdive.algorithms.tables import CONFIDENCE, DISAGREE, FILL, QUALITY, hide_unseen, share, uncertainty
from mdive.algorithms.terrain_drain import SquareKilometres
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.plugins import Bundle, ClassEntry, Fraction, Hectares, Local, Metres, RasterSpec, algorithm, operation

DepthFrom = Annotated[
    Literal["stage", "boundary"],
    Field(description="depth below the stage of the reach, or below the level of the nearest edge of the water"),
]

NOT_SEEN: Final = 249
"""Flood that heights tell of and no sensor saw: beside the other codes of what was not seen (250 to 255), so that no count takes it for seen."""

NOT_SEEN_CLASS: Final = ClassEntry(
    value=NOT_SEEN, name="flood_not_seen", role="unobserved", title="Flood by height, not seen", color="#7d9fd6"
)
EXTENT: Final = RasterSpec(
    name="extent",
    long_name="Flood and water extent, seen and by height",
    dtype="uint8",
    nodata=FILL,
    classes=tuple(sorted((*flood.CLASSES, NOT_SEEN_CLASS), key=lambda entry: entry.value)),
)
DEEPEST: Final = 300.0
"""Metres. More is no flood but an error of the DEM, and would not fit into centimetres of 16 bits."""
DEPTH: Final = RasterSpec(
    name="depth", long_name="Depth of the flood", dtype="float32", units="m", nodata="nan", scale=0.01, valid_min=0.0, valid_max=DEEPEST
)
BY_HEIGHT: Final = share("probability_by_height", "Probability of water by height alone, seen or not")

SEEN_RIGHT: Final = 0.95
"""What a class of a flood map that comes without a probability is worth: published maps are right in 90 to 97 of 100 pixels."""

HIDING: Final = (10, 95)
"""Codes of ESA WorldCover under whose canopy water is not seen: trees, mangroves."""


@algorithm(
    "flood.hand_stage",
    version="1.0.0",
    needs={"post": ("extent",), "static": ("dem",)},
    optional={"post": ("probability",), "static": ("hand", "drain", "occurrence", "landcover")},
    sensor="optical",
    outputs=(EXTENT, flood.PROBABILITY, CONFIDENCE, uncertainty("m", 1e-3), QUALITY, DEPTH, BY_HEIGHT),
    references=(
        "10.1002/hyp.10581",  # Nobre 2016: floods from HAND
        "10.1016/j.jhydrol.2011.03.051",  # Nobre 2011: HAND
        "10.5194/nhess-19-2053-2019",  # Cohen 2019: depth from the edge of the water
    ),
)
def hand_stage(
    post: Bundle,
    static: Bundle,
    /,
    *,
    drain_area: SquareKilometres = 1.0,
    reach_length: Metres = 3000.0,
    step: Step = 0.1,
    highest: Highest = 20.0,
    minimum_area: Hectares = 1.0,
    minimum_fit: Fraction = 0.5,
    depth_from: DepthFrom = "stage",
    boundary_distance: Metres = 3000.0,
    dem_error: Metres = 1.5,
    permanent_water: flood.Percent = 75.0,
) -> Mapping[str, Any]:
    """Stage, depth and unseen reach of a flood from the part of it that was seen, by height above the nearest drainage.

    Parameters
    ----------
    post
        ``extent``: a flood map in the codes of ``flood_tables.CLASSES`` (0 dry, 1 to 4 water, all else not seen); ``probability`` of water, if it
        has one.
    static
        ``dem``, terrain height in m. ``hand``, height above the nearest drainage in m: without it, it is made from the DEM, which then should
        reach beyond the area as far as its basins. ``drain``, which drainage that is (see ``reaches``): without it, the cells of one square of
        ground are a reach. ``occurrence`` of water in percent; ``landcover`` in the codes of ESA WorldCover.
    drain_area
        Least area upstream of a stream, where the drainage is made from the DEM. Floods of rivers are measured from rivers: 1 km² and more.
    reach_length
        Edge of the squares whose drainage (or ground) is one reach; 0 takes every drain as a reach of its own.
    step, highest
        Steps in which a stage is looked for, and the highest one.
    minimum_area, minimum_fit
        A reach has a stage if at least so much of it was seen wet, and if the flood of that stage agrees so well with what was seen (critical
        success index).
    depth_from
        How deep: below the stage, or below the level of the nearest edge of the water, which follows a sloping surface.
    boundary_distance
        How far away that edge may be; wider water has no depth in its middle.
    dem_error
        Standard deviation of a height of the DEM against its surroundings: 1 to 2 m on flat ground for Copernicus GLO-30.
    permanent_water
        Occurrence (%) from which unseen water would be no flood.

    Returns
    -------
    Nodes by product: extent (class 249 is flood that was not seen), probability of water and confidence where something was seen, standard
    deviation of the depth, quality flags (``conflict`` where what was seen and the height contradict each other; ``low_n_obs`` where a reach has no
    stage), depth, probability of water by height alone.
    """
    dem = first_valid(static.dem)
    occurrence, cover = (None if b is None else first_valid(b) for b in (static.occurrence, static.landcover))
    if static.hand is None:
        made = terrain_hand.hand(Bundle(dem=static.dem, occurrence=static.occurrence, mask=static.mask), drain_area=drain_area)
        hand, reach = made["hand"], reaches(made["drain_id"], reach_length=reach_length)
    elif static.drain is None:
        hand = first_valid(static.hand)
        reach = ground_squares(hand, reach_length=reach_length)
    else:
        hand, reach = first_valid(static.hand), reaches(first_valid(static.drain), reach_length=reach_length)
    choice = first_look(post.extent, post.mask)
    why = cause(post.mask, choice)
    seen = known_class(pick(post.extent, choice), why)
    given = None if post.probability is None else pick(post.probability, choice)

    counts = reach_counts(hand, reach, seen, step=step, highest=highest)
    stages = reach_stages(counts, step=step, highest=highest, minimum_area=minimum_area, minimum_fit=minimum_fit)
    stage = stage_bins(reach, stages)
    below = below_stage(hand, stage, stages)
    by_height = stage_probability(hand, stage, stages, share_by_rise(counts_by_rise(hand, stage, seen, stages)))

    extent = with_unseen(seen, below, occurrence, cover, permanent_water=permanent_water)
    probability = seen_probability(extent, given, by_height)
    depth = stage_depth(hand, stage, stages)
    if depth_from == "boundary":
        level = boundary_level(under_water(extent), seen_dry(extent), dem, distance=boundary_distance)
        depth = level_depth(level, dem)
    return {
        "extent": extent,
        "probability": probability,
        "confidence": seen_confidence(extent, probability),
        "uncertainty": depth_sigma(extent, error=dem_error),
        "qc": stage_flags(extent, seen, why, stage, probability, by_height, occurrence, permanent_water=permanent_water),
        "depth": depth_of_water(extent, depth),
        "probability_by_height": by_height,
    }


@operation(Local(), dtype="int16", fill=NONE, over_time=True)
def first_look(extent: np.ndarray, mask: np.ndarray, /) -> np.ndarray:
    """Choose one of several flood maps for each pixel: the first that saw something there, or else the first that has a number.

    Parameters
    ----------
    extent
        Classes as numbers, (time, y, x) or (y, x), NaN where there is none; 249 to 255 saw nothing.
    mask
        Cause plane of the same shape, bits of ``QC_FLAGS``.

    Returns
    -------
    Index along time, (y, x); ``mosaic.NONE`` where no map has a number.
    """
    stack, why = (a[np.newaxis] if a.ndim == extent.ndim == 2 else a for a in (extent, mask))
    with np.errstate(invalid="ignore"):
        saw = (stack < NOT_SEEN) & (why & UNOBSERVED == 0)
    there = np.isfinite(stack)
    first: np.ndarray = np.argmax(np.where(saw.any(axis=0), saw, there), axis=0).astype("int16")
    first[~there.any(axis=0)] = NONE
    return first


@operation(Local(), dtype="uint8")
def known_class(extent: np.ndarray, why: np.ndarray, /) -> np.ndarray:
    """Return flood classes as whole numbers.

    Parameters
    ----------
    extent
        Classes as numbers, (y, x).
    why
        Cause of each pixel, (y, x), bits of ``QC_FLAGS``.

    Returns
    -------
    Codes of ``flood_tables.CLASSES``, (y, x). What is no such code (NaN, 0.4, 77) is 255, never 0; what was masked has the code of the reason.
    """
    known = np.isin(extent, [entry.value for entry in flood.CLASSES])
    out = np.where(known, np.where(known, extent, FILL).astype("uint8"), np.uint8(FILL))
    hide_unseen(out, why)
    return out


@operation(Local(), dtype="uint8")
def with_unseen(
    seen: np.ndarray,
    below: np.ndarray,
    occurrence: np.ndarray | None,
    cover: np.ndarray | None,
    /,
    *,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Add the flood that was not seen to a flood map.

    Parameters
    ----------
    seen
        Flood classes, (y, x).
    below
        Where the ground lies no higher than the stage of its reach, (y, x) bool.
    occurrence
        Share of looks with water, in percent, or None.
    cover
        Land cover in the codes of ESA WorldCover, or None.
    permanent_water
        Occurrence from which unseen water would be no flood.

    Returns
    -------
    Codes of ``EXTENT``: 249 where the ground lies below the stage and nothing was seen, or nothing but canopy; what was seen stays.
    """
    hidden = (seen >= flood.HAND_MASKED) & (seen != flood.OCEAN)
    if cover is not None:
        hidden |= (seen == flood.NOT_WATER) & np.isin(cover, HIDING)
    if occurrence is not None:
        with np.errstate(invalid="ignore"):
            hidden &= ~(occurrence >= permanent_water)
    return np.where(hidden & below, NOT_SEEN, seen)


@operation(Local(), dtype="float32")
def seen_probability(extent: np.ndarray, given: np.ndarray | None, by_height: np.ndarray, /) -> np.ndarray:
    """Return the probability of water where something was seen: what the map and the height say, pooled log-linearly.

    Parameters
    ----------
    extent
        Codes of ``EXTENT``, (y, x).
    given
        Probability of water that came with the map, or None: then a class is worth ``SEEN_RIGHT``.
    by_height
        From ``stage_probability``, NaN where the reach has no stage.

    Returns
    -------
    (y, x); NaN where nothing was seen.
    """
    classes = np.where(extent == flood.NOT_WATER, 1.0 - SEEN_RIGHT, SEEN_RIGHT)
    p = classes if given is None else np.where(np.isnan(given), classes, given)
    p, q = (np.clip(x.astype("float64"), 1 - SURE, SURE) for x in (p, by_height))
    pooled = np.where(np.isnan(q), p, expit(POOL * (logit(p) + logit(q))))
    return np.where(extent >= NOT_SEEN, np.nan, np.clip(pooled, 1 - SURE, SURE))


@operation(Local(), dtype="float32")
def seen_confidence(extent: np.ndarray, probability: np.ndarray, /) -> np.ndarray:
    """Return the probability of the class that was seen, from that of water; both (y, x), NaN where nothing was seen."""
    return np.where(extent == flood.NOT_WATER, 1.0 - probability, probability)


@operation(Local(), dtype="bool")
def under_water(extent: np.ndarray, /) -> np.ndarray:
    """Where there is water by ``EXTENT``, seen or not, (y, x)."""
    return np.isin(extent, (*WET, NOT_SEEN))


@operation(Local(), dtype="bool")
def seen_dry(extent: np.ndarray, /) -> np.ndarray:
    """Where ground was seen dry by ``EXTENT``, (y, x)."""
    dry: np.ndarray = extent == flood.NOT_WATER
    return dry


@operation(Local(), dtype="float32", units="m")
def depth_of_water(extent: np.ndarray, depth: np.ndarray, /) -> np.ndarray:
    """Return the depth, (y, x): 0 where ground was seen dry, NaN where nobody knows whether there is water, or how deep."""
    return np.where(extent == flood.NOT_WATER, 0.0, np.where(np.isin(extent, (*WET, NOT_SEEN)), np.minimum(depth, DEEPEST), np.nan))


@operation(Local(), dtype="float32", units="m")
def depth_sigma(extent: np.ndarray, /, *, error: Metres = 1.5) -> np.ndarray:
    """Return the standard deviation of a depth, (y, x): it is a difference of two heights, each with the error of the DEM; NaN where unknown."""
    known = np.isin(extent, (flood.NOT_WATER, *WET, NOT_SEEN))
    return np.where(known, sqrt(2.0) * error, np.nan)


@operation(Local(), dtype="uint16")
def stage_flags(
    extent: np.ndarray,
    seen: np.ndarray,
    why: np.ndarray,
    stage: np.ndarray,
    probability: np.ndarray,
    by_height: np.ndarray,
    occurrence: np.ndarray | None,
    /,
    *,
    permanent_water: flood.Percent = 75.0,
) -> np.ndarray:
    """Return why a pixel is not what it seems.

    Parameters
    ----------
    extent, seen
        Codes of ``EXTENT``, and the flood map that was given, (y, x).
    why
        Cause of each pixel, (y, x), bits of ``QC_FLAGS``.
    stage
        From ``stage_bins``, (y, x).
    probability, by_height
        Of water where something was seen, and by height alone.
    occurrence
        Share of looks with water, in percent, or None.
    permanent_water
        Occurrence from which water is permanent.

    Returns
    -------
    The cause, and the bits that the classes of the map tell (``cloud``, ``snow``, ``layover_shadow``, ``hand_excluded``, ``nodata``), which flood that was not seen keeps;
    ``conflict`` where what was seen contradicts the height; ``low_n_obs`` where the reach has no stage; ``permanent_water``.
    """
    out = why.astype("uint16")
    for code, name in _BIT_OF:
        out[(seen == code) & (why == 0)] = QC_FLAGS[name]
    out[(seen >= NOT_SEEN) & (out == 0)] = QC_FLAGS["nodata"]
    with np.errstate(invalid="ignore"):
        out[np.abs(probability - by_height) > DISAGREE] |= QC_FLAGS["conflict"]
        if occurrence is not None:
            out[occurrence >= permanent_water] |= QC_FLAGS["permanent_water"]
    out[(extent == NOT_SEEN) & (seen == flood.NOT_WATER)] |= QC_FLAGS["conflict"]
    out[(stage < 0) & (seen < NOT_SEEN)] |= QC_FLAGS["low_n_obs"]
    return out


_BIT_OF: Final = (
    (flood.HAND_MASKED, "hand_excluded"),
    (flood.LAYOVER_SHADOW, "layover_shadow"),
    (252, "snow"),
    (253, "cloud"),
    (flood.OCEAN, "nodata"),
)
