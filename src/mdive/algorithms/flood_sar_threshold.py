"""Open water from one radar scene: a threshold per polarisation that follows the scene, both weighed together, grown from sure seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.evidence import decision_sigma
from mdive.algorithms.looks import Looks
from mdive.algorithms.reference_water import REFERENCE_WATER, usual_water
from mdive.algorithms.sar_products import flood_class, quality_flags, water_probability, where_said, worth
from mdive.algorithms.sar_water import ground_of, radar_water
from mdive.plugins import Bundle, Decibels, Fraction, Hectares, Local, Metres, algorithm, operation


@algorithm(
    "flood.sar_threshold",
    version="1.1.0",
    needs={"post": ("vv", "vh")},
    optional={"static": ("hand", "occurrence", "slope", "dem", "landcover")},
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
        the flag ``insufficient_background`` and at most half of the confidence. ``slope`` in degrees,
        or ``dem``, heights in m from which it is made: what is steep is hardly water. ``landcover``, WorldCover codes: over bare ground
        that ``occurrence`` knows as never wet, what is as dark as water is not told and stays unobserved, with the flag ``conflict``.
        Without them nothing speaks against dark pixels.
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
    ground = ground_of(static)
    seen = radar_water(
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
    permanent = {"permanent_water": permanent_water}
    limits = {"grow_probability": grow_probability, "maximum_hand": maximum_hand, **permanent}
    extent = flood_class(seen.water, seen.radar, seen.why, ground.hand, ground.occurrence, seen.doubt, **limits)
    probability = where_said(extent, water_probability(seen.water, seen.evidence, grow_probability=grow_probability))
    return {
        "extent": extent,
        "probability": probability,
        "confidence": class_confidence(extent, probability, *seen.support, ground.lost),
        "uncertainty": decision_sigma(*seen.looking, *(sigma for _, sigma, _, _ in seen.levels)),
        "qc": quality_flags(extent, seen.why, *seen.odds, *seen.support, ground.occurrence, ground.lost, seen.doubt, **permanent),
        "reference_water": usual_water(extent, ground.occurrence, seasonal_water=seasonal_water, **permanent),
    }


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
    co_support, cross_support, lost
        As in ``worth``; ``lost`` is where a static layer could not be read.
    """
    return worth(extent, co_support, cross_support, lost) * np.where(extent == flood.NOT_WATER, 1.0 - probability, probability)
