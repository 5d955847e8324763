"""Surface water from one spectral index and a limit that the scene itself tells: what a sensor of four bands can do, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.flood_optical_index import water_confidence, where_seen
from mdive.algorithms.index_threshold import Limit, above_limit, index_histogram, near_shore, shore_threshold
from mdive.algorithms.mosaic import best_observation, cause, first_valid, pick, unreadable
from mdive.algorithms.optical import AWEI_NSH, AWEI_SH, BLIND, SURE, awei_nsh, awei_sh, cloud_buffer, index_sigma, mndwi, ndwi, sum_sigma
from mdive.algorithms.reference_water import REFERENCE_WATER, usual_water
from mdive.algorithms.tables import FILL, hide_unseen
from mdive.errors import InputError
from mdive.model.flags import QC_FLAGS
from mdive.plugins import Bundle, Local, Metres, algorithm, operation

Index = Annotated[
    Literal["auto", "ndwi", "mndwi", "awei_sh", "awei_nsh"],
    Field(description="water index; auto: MNDWI where there is a shortwave infrared band, else NDWI"),
]

BANDS_OF = {
    "ndwi": ("green", "nir08"),
    "mndwi": ("green", "swir16"),
    "awei_sh": ("blue", "green", "nir08", "swir16", "swir22"),
    "awei_nsh": ("green", "nir08", "swir16", "swir22"),
}


@algorithm(
    "flood.water_index",
    version="1.0.0",
    needs={"post": ("green", "nir08")},
    optional={"post": ("blue", "swir16", "swir22"), "static": ("occurrence",)},
    sensor="optical",
    outputs=(*flood.OPTICAL_PRODUCTS, REFERENCE_WATER),
    references=(
        "10.1080/01431169608948714",  # McFeeters 1996: NDWI
        "10.1080/01431160600589179",  # Xu 2006: MNDWI
        "10.1016/j.rse.2013.08.029",  # Feyisa 2014: AWEI
        "10.1016/0031-3203(86)90030-0",  # Kittler and Illingworth 1986: minimum-error threshold
        "10.3390/rs8050386",  # Donchyts 2016: thresholds from shores
    ),
)
def water_index(
    post: Bundle,
    static: Bundle,
    /,
    *,
    index: Index = "auto",
    fallback: Limit = 0.0,
    lowest: Limit = -0.1,
    highest: Limit = 0.3,
    permanent_water: flood.Percent = 75.0,
    seasonal_water: flood.Percent = 25.0,
    cloud_margin: Metres = 60.0,
) -> Mapping[str, Any]:
    """Open water from clear optical observations, by one water index and a threshold that is found along the scene's shores.

    Parameters
    ----------
    post
        Reflectance after the onset, and its cause plane.
    static
        ``occurrence``: how often water was seen there before, in percent. Without it all water is given as flood; where it was to be had
        and could not be read, with the flag ``insufficient_background`` and half of the confidence.
    index
        Which index. AWEI without shadow (``awei_nsh``) is for scenes with bright buildings and no relief.
    fallback
        Published limit of the index: what parts wet from dry for a start, and the limit where shores show no two modes.
    lowest, highest
        Bounds of a limit, see ``shore_threshold``.
    permanent_water, seasonal_water
        Occurrence (%) from which water is permanent and no flood, and from which it is told apart as seasonal in ``reference_water``.
    cloud_margin
        Metres by which cloud and shadow are grown before they are left out; at least one pixel, but for 0.

    Returns
    -------
    Nodes by product: extent, probability of open water, confidence in the class, standard deviation of the index, quality flags
    (``threshold_fallback`` where the limit is the published one), usual water.

    Raises
    ------
    InputError
        If the index needs a band that is not there.
    """
    name = index if index != "auto" else "ndwi" if post.swir16 is None else "mndwi"
    missing = [band for band in BANDS_OF[name] if getattr(post, band) is None]
    if missing:
        raise InputError(
            f"the index {name!r} needs the band {missing[0]!r}, which the images do not have.",
            "Use index='ndwi' (green, nir08), or 'auto' for the best that the bands allow.",
        )
    loaded = {band: getattr(post, band) for band in BANDS_OF[name]}
    mask = cloud_buffer(post.mask, metres=cloud_margin)
    choice = best_observation(mask, *loaded.values())
    why = cause(mask, choice)
    bands = [pick(band, choice) for band in loaded.values()]
    value = {"ndwi": ndwi, "mndwi": mndwi, "awei_sh": awei_sh, "awei_nsh": awei_nsh}[name](*bands)
    if name in {"ndwi", "mndwi"}:
        sigma = index_sigma(*bands)
    else:
        sigma = sum_sigma(*bands, weights=AWEI_SH if name == "awei_sh" else AWEI_NSH)
    occurrence = None if static.occurrence is None else first_valid(static.occurrence)
    lost = None if static.occurrence is None or static.mask is None else unreadable(static.mask, static.occurrence)

    seen = where_seen(value, why)
    shores = index_histogram(seen, near_shore(seen, limit=fallback))
    limit = shore_threshold(shores, fallback=fallback, lowest=lowest, highest=highest)
    probability = bounded(above_limit(seen, sigma, limit))
    extent = class_by_probability(probability, why, occurrence, permanent_water=permanent_water)
    return {
        "extent": extent,
        "probability": probability,
        "confidence": water_confidence(extent, probability, probability, lost),
        "uncertainty": where_seen(sigma, why),
        "qc": index_flags(extent, why, limit, occurrence, lost, permanent_water=permanent_water),
        "reference_water": usual_water(extent, occurrence, permanent_water=permanent_water, seasonal_water=seasonal_water),
    }


@operation(Local(), dtype="float32")
def bounded(probability: np.ndarray, /) -> np.ndarray:
    """Return a probability between 1 - ``SURE`` and ``SURE``: the error of reflectance is not all that can go wrong; NaN stays."""
    within: np.ndarray = np.minimum(np.maximum(probability, np.float32(1 - SURE)), np.float32(SURE))
    return within


@operation(Local(), dtype="uint8")
def class_by_probability(
    probability: np.ndarray, why: np.ndarray, occurrence: np.ndarray | None, /, *, permanent_water: flood.Percent = 75.0
) -> np.ndarray:
    """Return the flood class by the probability of water alone.

    Parameters
    ----------
    probability
        Of open water, (y, x), NaN where nothing can be said.
    why
        Cause of each pixel, (y, x), bits of ``QC_FLAGS``.
    occurrence
        Share of looks with water, in percent, (y, x), NaN where unknown; or None.
    permanent_water
        Occurrence from which water is permanent.

    Returns
    -------
    Codes of ``flood_tables.CLASSES``: water from a probability above one half; what was not seen, or too dark for the index, is never "not water".
    """
    with np.errstate(invalid="ignore"):
        wet = probability > np.float32(0.5)
        out = np.where(wet, flood.FLOOD, flood.NOT_WATER).astype("uint8")
        if occurrence is not None:
            out[wet & (occurrence >= permanent_water)] = flood.PERMANENT_WATER
    out[np.isnan(probability)] = FILL
    hide_unseen(out, why)
    return out


@operation(Local(), dtype="uint16")
def index_flags(
    extent: np.ndarray,
    why: np.ndarray,
    limit: Mapping[str, np.ndarray],
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
        Cause of each pixel, (y, x).
    limit
        From ``shore_threshold``.
    occurrence
        Share of looks with water, in percent, or None.
    lost
        Where the reference could not be read, or None.
    permanent_water
        Occurrence (%) from which water is permanent.

    Returns
    -------
    Bits ``threshold_fallback``, ``permanent_water``, ``insufficient_background`` (flood, but the layer that tells usual water was lost), and
    ``nodata`` where the pixel is too dark for the index.
    """
    out = why.astype("uint16")
    out[(extent == FILL) & (why & BLIND == 0)] |= QC_FLAGS["nodata"]
    if not limit["adaptive"]:
        out[extent < flood.HAND_MASKED] |= QC_FLAGS["threshold_fallback"]
    with np.errstate(invalid="ignore"):
        if occurrence is not None:
            out[occurrence >= permanent_water] |= QC_FLAGS["permanent_water"]
    if lost is not None:
        out[lost & (extent == flood.FLOOD)] |= QC_FLAGS["insufficient_background"]
    return out
