"""Surface water by a classifier that the scene trains itself, from its own permanent water and its own land."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.flood_dswe import SIGMA_INDEX
from mdive.algorithms.flood_optical_index import said, water_confidence, where_seen
from mdive.algorithms.flood_water_index import class_by_probability
from mdive.algorithms.mosaic import best_observation, cause, first_valid, pick, unreadable
from mdive.algorithms.optical import BLIND, SURE, cloud_buffer, index_sigma, mndwi, ndvi, ndwi
from mdive.algorithms.reference_water import REFERENCE_WATER, usual_water
from mdive.algorithms.self_training import discriminant_sigma, self_trained
from mdive.algorithms.tables import FILL
from mdive.model.flags import QC_FLAGS
from mdive.plugins import Bundle, Hectares, Local, Metres, algorithm, operation

STEP = 1e-4
"""To which indices are rounded for their statistics: stored numbers of reflectance make no finer steps."""


@algorithm(
    "flood.self_trained",
    version="1.0.0",
    needs={"post": ("green", "red", "nir08"), "static": ("occurrence",)},
    optional={"post": ("swir16",)},
    sensor="optical",
    outputs=(*flood.OPTICAL_PRODUCTS, REFERENCE_WATER),
    references=(
        "10.1111/j.1469-1809.1936.tb02137.x",  # Fisher 1936: linear discriminant
        "10.1080/01431160600589179",  # Xu 2006: MNDWI
        "10.1038/nature20584",  # Pekel 2016: how often there is water
    ),
)
def self_trained_water(
    post: Bundle,
    static: Bundle,
    /,
    *,
    training_occurrence: flood.Percent = 90.0,
    minimum_training: Hectares = 5.0,
    permanent_water: flood.Percent = 75.0,
    seasonal_water: flood.Percent = 25.0,
    cloud_margin: Metres = 60.0,
) -> Mapping[str, Any]:
    """Open water by a linear rule between the scene's own permanent water and its own land.

    Parameters
    ----------
    post
        Reflectance after the onset, and its cause plane.
    static
        ``occurrence``: how often water was seen there before, in percent.
    training_occurrence
        Occurrence (%) from which a pixel teaches water; one where water was never seen teaches land.
    minimum_training
        Least area of clear permanent water, and of clear land, that the scene must show. With less there is no answer: everything is class 255,
        with the flag ``insufficient_background``.
    permanent_water, seasonal_water
        Occurrence (%) from which water is permanent and no flood, and from which it is told apart as seasonal in ``reference_water``.
    cloud_margin
        Metres by which cloud and shadow are grown before they are left out; at least one pixel, but for 0.

    Returns
    -------
    Nodes by product: extent, probability of open water, confidence in the class, standard deviation of the score (indices, weights of length 1),
    quality flags, usual water.
    """
    loaded = [post.green, post.red, post.nir08, *([] if post.swir16 is None else [post.swir16])]
    mask = cloud_buffer(post.mask, metres=cloud_margin)
    choice = best_observation(mask, *loaded)
    why = cause(mask, choice)
    green, red, nir08, *swir = [pick(band, choice) for band in loaded]
    occurrence = first_valid(static.occurrence)
    lost = None if static.mask is None else unreadable(static.mask, static.occurrence)

    # Two indices that do not repeat each other; without a shortwave infrared band, plants tell land.
    pairs = [(green, nir08), (green, swir[0]) if swir else (nir08, red)]
    features = [where_seen(index(*pair), why) for index, pair in zip((ndwi, mndwi if swir else ndvi), pairs, strict=True)]
    odds, rule = self_trained(
        occurrence,
        wet_by_index(features[0]),
        *features,
        step=STEP,
        spread=SIGMA_INDEX,
        minimum_area=minimum_training,
        permanent_water=training_occurrence,
    )
    probability = trained_probability(odds)
    extent = class_by_probability(probability, why, occurrence, permanent_water=permanent_water)
    return {
        "extent": extent,
        "probability": said(probability, extent),
        "confidence": said(water_confidence(extent, probability, probability, lost), extent),
        "uncertainty": where_seen(discriminant_sigma(rule, *(index_sigma(*pair) for pair in pairs)), why),
        "qc": training_flags(extent, why, rule, occurrence, lost, permanent_water=permanent_water),
        "reference_water": usual_water(extent, occurrence, permanent_water=permanent_water, seasonal_water=seasonal_water),
    }


@operation(Local(), dtype="bool")
def wet_by_index(index: np.ndarray, /) -> np.ndarray:
    """Where a water index, (y, x), is above 0, the published limit of NDWI and MNDWI; NaN is not."""
    with np.errstate(invalid="ignore"):
        wet: np.ndarray = index > 0
    return wet


@operation(Local(), dtype="float32")
def trained_probability(odds: np.ndarray, /) -> np.ndarray:
    """Return the probability of log-odds, (y, x), between 1 - ``SURE`` and ``SURE``; NaN stays."""
    probability: np.ndarray = np.clip(expit(odds.astype("float64")), 1 - SURE, SURE)
    return probability


@operation(Local(), dtype="uint16")
def training_flags(
    extent: np.ndarray,
    why: np.ndarray,
    rule: Mapping[str, np.ndarray],
    occurrence: np.ndarray,
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
        Cause of each pixel, (y, x).
    rule
        From ``discriminant``.
    occurrence
        Share of looks with water, in percent, (y, x).
    lost
        Where the reference could not be read, or None.
    permanent_water
        Occurrence (%) from which water is permanent.

    Returns
    -------
    Bits ``permanent_water``; ``insufficient_background`` where the scene could not be trained on, and for flood whose reference was lost;
    ``nodata`` where a pixel is too dark for an index.
    """
    out = why.astype("uint16")
    clear = why & BLIND == 0
    out[clear & (extent == FILL)] |= QC_FLAGS["nodata"] if rule["usable"] else QC_FLAGS["insufficient_background"]
    with np.errstate(invalid="ignore"):
        out[occurrence >= permanent_water] |= QC_FLAGS["permanent_water"]
    if lost is not None:
        out[lost & (extent == flood.FLOOD)] |= QC_FLAGS["insufficient_background"]
    return out
