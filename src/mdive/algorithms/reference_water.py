"""Where water is usual: permanent and seasonal water, told apart by how often it was seen, beside the flood map and not in it."""

from __future__ import annotations

from typing import Final

import numpy as np

from mdive.algorithms.flood_tables import HAND_MASKED, Percent
from mdive.algorithms.tables import FILL, FILL_CLASS
from mdive.plugins import ClassEntry, Local, RasterSpec, operation

LAND: Final = 0
SEASONAL: Final = 1
PERMANENT: Final = 2
NEW: Final = 3
DRY_SEASONAL: Final = 4
DRY_PERMANENT: Final = 5

REFERENCE_WATER: Final = RasterSpec(
    name="reference_water",
    long_name="Water seen against how usual it is",
    dtype="uint8",
    nodata=FILL,
    classes=(
        ClassEntry(value=LAND, name="land", role="background", title="Dry as usual", color="#f2efe6"),
        ClassEntry(value=SEASONAL, name="seasonal_water", role="reference", title="Water, seasonal", color="#6fb7b0"),
        ClassEntry(value=PERMANENT, name="permanent_water", role="reference", title="Water, permanent", color="#8fb8de"),
        ClassEntry(value=NEW, name="unusual_water", role="event", title="Water where it is rare", color="#1769c2"),
        ClassEntry(value=DRY_SEASONAL, name="dry_seasonal", role="background", title="Dry, water in some seasons", color="#d9c9a3"),
        ClassEntry(value=DRY_PERMANENT, name="dry_permanent", role="background", title="Dry, water usually", color="#b58b4c"),
        FILL_CLASS,
    ),
)
"""The flood map calls seasonal water flood, because it does not know the season; this layer lets its reader decide."""


@operation(Local(), dtype="uint8")
def usual_water(
    extent: np.ndarray, occurrence: np.ndarray | None, /, *, permanent_water: Percent = 75.0, seasonal_water: Percent = 25.0
) -> np.ndarray:
    """Set the water of a flood map against how often water was seen there.

    Parameters
    ----------
    extent
        Flood classes, (y, x): codes of ``flood_tables.CLASSES``.
    occurrence
        Share of looks with water, in percent, (y, x), NaN where unknown; or None. Zero is a number, not an absence of one.
    permanent_water, seasonal_water
        Occurrence (%) from which water is permanent, and seasonal. 25 % is one season of three months each year (Pekel et al. 2016,
        10.1038/nature20584, whose seasonal water is under water less than twelve months of a year).

    Returns
    -------
    Codes of ``REFERENCE_WATER``, (y, x); fill where nothing was seen, or nobody knows how usual water is there.
    """
    out = np.full(extent.shape, FILL, dtype="uint8")
    if occurrence is None:
        return out
    wet, seen = (extent > 0) & (extent < HAND_MASKED), extent < HAND_MASKED
    with np.errstate(invalid="ignore"):
        always, often = occurrence >= permanent_water, occurrence >= seasonal_water
        known = np.isfinite(occurrence) & seen
    out[known] = np.where(always, DRY_PERMANENT, np.where(often, DRY_SEASONAL, LAND))[known]
    there = known & wet
    out[there] = np.where(always, PERMANENT, np.where(often, SEASONAL, NEW))[there]
    return out
