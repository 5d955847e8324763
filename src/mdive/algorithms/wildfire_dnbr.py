"""Burned area and burn severity from one look before and one after: the difference of the normalised burn ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.special import ndtr

from mdive.algorithms import wildfire_tables as fire
from mdive.algorithms.components import holes, hysteresis
from mdive.algorithms.mosaic import best_observation, cause, pick
from mdive.algorithms.optical import BLIND, SURE, cloud_buffer, index_sigma, nbr, nbr2
from mdive.algorithms.tables import FILL, hide_unseen
from mdive.algorithms.wildfire_change import change_sigma, difference, joined, relativised, water_mask
from mdive.algorithms.wildfire_offset import Offset, background, minus_offset
from mdive.model.flags import QC_FLAGS
from mdive.plugins import Bundle, Fraction, Hectares, Local, Metres, algorithm, operation

Difference = Annotated[float, Field(ge=-2, le=2, description="difference of two normalised differences, -2 to 2")]


@algorithm(
    "wildfire.dnbr",
    version="1.0.0",
    needs={"pre": ("nir08", "swir22"), "post": ("nir08", "swir22")},
    optional={"pre": ("green", "swir16"), "post": ("green", "swir16")},
    sensor="optical",
    outputs=fire.SEVERITY_PRODUCTS,
    references=(
        "10.2737/RMRS-GTR-164",  # Key and Benson 2006: NBR, dNBR, severity classes
        "10.3390/rs6031827",  # Parks 2014: RBR
        "10.3390/rs10060879",  # Parks 2018: dNBR offset
        "10.1016/j.rse.2018.12.011",  # Roteta 2019: seeds and growing
    ),
)
def dnbr(
    pre: Bundle,
    post: Bundle,
    /,
    *,
    seed_dnbr: Difference = 0.27,
    seed_dnbr2: Difference = 0.05,
    seed_dnir: Difference = -0.03,
    seed_dgreen: Difference = 0.02,
    grow_dnbr: Difference = 0.10,
    grow_dnbr2: Difference = 0.02,
    offset: Offset = None,
    minimum_mapping_unit: Hectares = 1.0,
    fill_holes: Hectares = 1.0,
    date_correlation: Fraction = 0.0,
    cloud_margin: Metres = 60.0,
) -> Mapping[str, Any]:
    """Burned area and severity by the difference of the normalised burn ratio before and after the fire.

    Parameters
    ----------
    pre, post
        Reflectance before and after, and their cause planes. ``swir16`` and ``green`` are further evidence, and tell water.
    seed_dnbr, seed_dnbr2, seed_dnir, seed_dgreen
        A burn must hold a pixel with at least this dNBR (lower limit of moderate severity) and dNBR2, and at most this change of near
        infrared and green reflectance: fire takes leaves and leaves char. In seven fires of the western United States, 83 to 100 % of
        the pixels of such dNBR keep below 0.02 in green; harvest and ploughing, which lay pale soil bare, do not.
    grow_dnbr, grow_dnbr2
        It reaches as far as connected pixels have at least this dNBR (lower limit of low severity) and dNBR2. Where dNBR2 is not known (no
        ``swir16``, or too dark) it stops half way between ``grow_dnbr`` and ``seed_dnbr``: haze and thin shadow alone change dNBR as much
        as a light burn does.
    offset
        dNBR of ground that did not burn, taken off everywhere. By default the mode over vegetation.
    minimum_mapping_unit
        Burns smaller than this are dropped.
    fill_holes
        Unburned islands smaller than this count as burned area (their severity stays unburned).
    date_correlation
        Between the errors of the two dates.
    cloud_margin
        Metres by which cloud and shadow are grown before they are left out; at least one pixel, but for 0.

    Returns
    -------
    Nodes by product: burned area, probability, confidence in the class, standard deviation of dNBR, quality flags, severity, dNBR, RBR.
    """
    before, why_before = _clear(pre, cloud_margin)
    after, why_after = _clear(post, cloud_margin)
    nbr_before, nbr_after = nbr(before.nir08, before.swir22), nbr(after.nir08, after.swir22)
    why = joined(why_before, why_after)
    water = water_mask(before.green, before.nir08, before.swir16, after.green, after.nir08, after.swir16, why)
    change = difference(nbr_before, nbr_after, why, water)
    centre = background(change, nbr_before, offset=offset)
    severity_index = minus_offset(change, centre)

    second = None
    if before.swir16 is not None and after.swir16 is not None:
        second = difference(nbr2(before.swir16, before.swir22), nbr2(after.swir16, after.swir22), why, water)
    infrared = difference(after.nir08, before.nir08, why, water)
    green = None if before.green is None or after.green is None else difference(after.green, before.green, why, water)
    alone = (grow_dnbr + seed_dnbr) / 2
    grow = burn_like(severity_index, second, dnbr=grow_dnbr, alone=alone, dnbr2=grow_dnbr2)
    strict = burn_like(severity_index, second, dnbr=seed_dnbr, alone=seed_dnbr, dnbr2=seed_dnbr2)
    seed = darkened(strict, infrared, green, dnir=seed_dnir, dgreen=seed_dgreen)
    burned = hysteresis(seed, grow, minimum_area=minimum_mapping_unit)
    islands = holes(burned, seen(severity_index), minimum_area=fill_holes)

    sigma = change_sigma(
        index_sigma(before.nir08, before.swir22),
        index_sigma(after.nir08, after.swir22),
        severity_index,
        centre,
        correlation=date_correlation,
    )
    extent = burn_class(burned, islands, severity_index, why, water)
    probability = burn_probability(severity_index, sigma, burned, extent, inside=grow_dnbr, outside=seed_dnbr)
    return {
        "extent": extent,
        "probability": probability,
        "confidence": burn_confidence(extent, probability),
        "uncertainty": sigma,
        "qc": burn_flags(why, severity_index, water, centre),
        "severity": severity_class(severity_index, extent),
        "dnbr": severity_index,
        "rbr": relativised(severity_index, nbr_before),
    }


def _clear(phase: Bundle, margin: float) -> tuple[Bundle, Any]:
    """Return the clear mosaic of one phase and its cause plane."""
    mask = cloud_buffer(phase.mask, metres=margin)
    loaded = {name: getattr(phase, name) for name in ("green", "nir08", "swir16", "swir22")}
    choice = best_observation(mask, *(band for band in loaded.values() if band is not None))
    bands = {name: None if band is None else pick(band, choice) for name, band in loaded.items()}
    return Bundle(**bands), cause(mask, choice)


@operation(Local(), dtype="bool")
def burn_like(change: np.ndarray, second: np.ndarray | None, /, *, dnbr: Difference, alone: Difference, dnbr2: Difference) -> np.ndarray:
    """Return where both burn ratios fell at least so much.

    Parameters
    ----------
    change
        dNBR, (y, x): at least ``dnbr``, or at least ``alone`` where ``second`` is not known.
    second
        dNBR2, (y, x), NaN where not known; or None: at least ``dnbr2``.

    Returns
    -------
    (y, x); False where dNBR is not known.
    """
    by_one: np.ndarray = change >= alone
    return by_one if second is None else np.where(np.isnan(second), by_one, (change >= dnbr) & (second >= dnbr2))


@operation(Local(), dtype="bool")
def darkened(
    candidate: np.ndarray, infrared: np.ndarray, green: np.ndarray | None, /, *, dnir: Difference, dgreen: Difference
) -> np.ndarray:
    """Keep the candidates whose reflectance changed as char changes it.

    Parameters
    ----------
    candidate
        (y, x) bool.
    infrared
        Change of NIR reflectance, (y, x): at most ``dnir``. It falls with the leaves; it rises where the ground dried or lay in shadow.
    green
        Change of green reflectance, (y, x), or None: at most ``dgreen``. It rises where pale soil was laid bare.
    """
    out: np.ndarray = candidate & (infrared <= dnir)
    return out if green is None else out & (green <= dgreen)


@operation(Local(), dtype="bool")
def seen(values: np.ndarray, /) -> np.ndarray:
    """Return where there is a number, (y, x)."""
    finite: np.ndarray = np.isfinite(values)
    return finite


@operation(Local(), dtype="float32")
def burn_probability(
    change: np.ndarray,
    sigma: np.ndarray,
    burned: np.ndarray,
    extent: np.ndarray,
    /,
    *,
    inside: Difference = 0.10,
    outside: Difference = 0.27,
) -> np.ndarray:
    """Return the probability that dNBR is truly above the limit that holds at the pixel: Φ((dNBR - τ) / σ), given the class as well.

    The class knows more than dNBR does: the other bands, and the company that a pixel keeps. So what is burned is at least as likely burned
    as not (a small island in a burn, too), and what is not is at most that (a harvested field, too). Water cannot burn.

    Parameters
    ----------
    change, sigma
        dNBR and its standard deviation, (y, x).
    burned
        Where burns have grown to, (y, x) bool: next to a certain burn less evidence is asked for.
    extent
        Burned-area classes, (y, x).
    inside, outside
        The limit τ in burns, and elsewhere.

    Returns
    -------
    (y, x), between 1 - ``SURE`` and ``SURE``; NaN where nothing was seen.
    """
    limit = np.where(burned, inside, outside)
    # An error of zero leaves certainty, and at the limit itself nothing.
    likely = ndtr((change - limit) / np.maximum(sigma, np.float32(1e-6)))
    likely = np.where(extent == fire.BURNED, np.maximum(likely, 0.5), np.minimum(likely, 0.5))
    likely = np.where(extent == fire.WATER, 0.0, np.where(extent > fire.WATER, np.nan, likely))
    probability: np.ndarray = np.clip(likely, 1 - SURE, SURE)
    return probability


@operation(Local(), dtype="uint8")
def burn_class(burned: np.ndarray, islands: np.ndarray, change: np.ndarray, why: np.ndarray, water: np.ndarray, /) -> np.ndarray:
    """Return the burned-area class of each pixel.

    Parameters
    ----------
    burned, islands
        Burns, and the small holes in them, (y, x) bool.
    change
        dNBR, (y, x).
    why
        Causes of both dates, (y, x), bits of ``QC_FLAGS``.
    water
        (y, x) bool.

    Returns
    -------
    Codes of ``wildfire_tables.EXTENT_CLASSES``; what was not seen on both dates is never "unburned".
    """
    out = np.where(burned | islands, fire.BURNED, fire.UNBURNED).astype("uint8")
    out[np.isnan(change)] = FILL
    out[water] = fire.WATER
    hide_unseen(out, why)
    return out


@operation(Local(), dtype="uint8")
def severity_class(change: np.ndarray, extent: np.ndarray, /) -> np.ndarray:
    """Return the severity class of each pixel: the dNBR table inside burned area, unburned elsewhere.

    Parameters
    ----------
    change
        dNBR without offset, (y, x).
    extent
        Burned-area classes, (y, x).

    Returns
    -------
    Codes of ``wildfire_tables.SEVERITY_CLASSES``.

    References
    ----------
    Key and Benson (2006), RMRS-GTR-164.
    """
    limits = np.array(fire.SEVERITY_LIMITS, dtype="float32")
    table = np.array(fire.SEVERITY_ORDER, dtype="uint8")[np.digitize(np.nan_to_num(change), limits)]
    return np.where(extent == fire.BURNED, table, extent)


@operation(Local(), dtype="float32")
def burn_confidence(extent: np.ndarray, probability: np.ndarray, /) -> np.ndarray:
    """Return the probability of the class that is given, (y, x); NaN where nothing was seen."""
    return np.where(extent == fire.BURNED, probability, 1.0 - probability)


@operation(Local(), dtype="uint16")
def burn_flags(why: np.ndarray, change: np.ndarray, water: np.ndarray, centre: Mapping[str, np.ndarray], /) -> np.ndarray:
    """Return the causes of both dates with two more bits.

    ``insufficient_background``: no offset could be estimated. ``terrain_shadow``: seen, but too dark for a burn ratio, and not water.

    Parameters
    ----------
    why
        Causes of both dates, (y, x).
    change
        dNBR, (y, x).
    water
        (y, x) bool.
    centre
        State of ``background``.
    """
    out = why.copy()
    clear = why & BLIND == 0
    out[clear & ~water & np.isnan(change)] |= QC_FLAGS["terrain_shadow"]
    if not centre["found"][0]:
        out[clear] |= QC_FLAGS["insufficient_background"]
    return out
