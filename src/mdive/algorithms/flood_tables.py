"""The words, numbers and colours of every flood product: one class table and five layers that all flood algorithms share."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from mdive.algorithms.tables import CLOUD_CLASS, CONFIDENCE, FILL, FILL_CLASS, QUALITY, SNOW_CLASS, share, uncertainty
from mdive.model.product import ClassEntry, RasterSpec

Percent = Annotated[float, Field(ge=0, le=100, description="share, 0 to 100 %")]

NOT_WATER: Final = 0
FLOOD: Final = 1
PERMANENT_WATER: Final = 2
FLOODED_VEGETATION: Final = 3
PARTIAL_WATER: Final = 4
HAND_MASKED: Final = 250
LAYOVER_SHADOW: Final = 251
OCEAN: Final = 254

UNKNOWN_REFERENCE: Final = 0.5
"""What the word *flood* is worth at most where a static layer that may speak against it (how often there is water, height above the
drainage) was to be had and could not be read: the water is seen, and it is as likely as not the usual one."""

CLASSES: Final[tuple[ClassEntry, ...]] = (
    ClassEntry(value=NOT_WATER, name="not_water", role="background", title="Not water", color="#f2efe6"),
    ClassEntry(value=FLOOD, name="flood_open_water", role="event", title="Flood, open water", color="#1769c2"),
    ClassEntry(value=PERMANENT_WATER, name="permanent_water", role="reference", title="Permanent water", color="#8fb8de"),
    ClassEntry(value=FLOODED_VEGETATION, name="flooded_vegetation", role="event", title="Flooded vegetation", color="#2a9d8f"),
    ClassEntry(value=PARTIAL_WATER, name="partial_surface_water", role="event", title="Partly water", color="#64b5f6"),
    ClassEntry(value=HAND_MASKED, name="hand_masked", role="unobserved", title="Too far above the drainage", color="#c9b79c"),
    ClassEntry(value=LAYOVER_SHADOW, name="layover_shadow", role="unobserved", title="Radar layover or shadow", color="#6d6875"),
    SNOW_CLASS,
    CLOUD_CLASS,
    ClassEntry(value=OCEAN, name="ocean", role="unobserved", title="Ocean", color="#0b3d66"),
    FILL_CLASS,
)
"""Class codes of flood extents.

0-4 are mdive's own; 250, 251, 254 and 255 are those of OPERA DSWx-S1 and 252-254 those of DSWx-HLS, so that both can be compared value
by value.
"""

EXTENT: Final = RasterSpec(name="extent", long_name="Flood and water extent", dtype="uint8", nodata=FILL, classes=CLASSES)
PROBABILITY: Final = share("probability", "Probability of open water")

SAR_PRODUCTS: Final[tuple[RasterSpec, ...]] = (EXTENT, PROBABILITY, CONFIDENCE, uncertainty("dB", 1e-3), QUALITY)
"""What a radar flood algorithm returns; the class raster first."""

OPTICAL_PRODUCTS: Final[tuple[RasterSpec, ...]] = (EXTENT, PROBABILITY, CONFIDENCE, uncertainty("1", 1e-4), QUALITY)
"""What an optical flood algorithm returns; the class raster first."""
