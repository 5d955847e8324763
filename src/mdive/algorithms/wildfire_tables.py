"""The words, numbers and colours of every burn product: the class tables and layers that all fire algorithms share."""

from __future__ import annotations

from typing import Final

from mdive.algorithms.tables import CLOUD_CLASS, CONFIDENCE, FILL, FILL_CLASS, QUALITY, SNOW_CLASS, share, uncertainty
from mdive.model.product import ClassEntry, RasterSpec

UNBURNED: Final = 0
BURNED: Final = 1
WATER: Final = 20

REGROWTH_HIGH: Final = 1
REGROWTH_LOW: Final = 2
LOW: Final = 3
MODERATE_LOW: Final = 4
MODERATE_HIGH: Final = 5
HIGH: Final = 6

_NOT_SEEN: Final = (
    ClassEntry(value=WATER, name="water_masked", role="background", title="Water", color="#8fb8de"),
    SNOW_CLASS,
    CLOUD_CLASS,
    FILL_CLASS,
)

EXTENT_CLASSES: Final[tuple[ClassEntry, ...]] = (
    ClassEntry(value=UNBURNED, name="unburned", role="background", title="Unburned", color="#e9efdf"),
    ClassEntry(value=BURNED, name="burned", role="event", title="Burned", color="#b5321c"),
    *_NOT_SEEN,
)
"""Class codes of burned area. Water is seen and cannot burn; snow, cloud and fill are not seen."""

SEVERITY_CLASSES: Final[tuple[ClassEntry, ...]] = (
    ClassEntry(value=UNBURNED, name="unburned", role="background", title="Unburned", color="#1a9641"),
    ClassEntry(value=REGROWTH_HIGH, name="regrowth_high", role="background", title="Enhanced regrowth, high", color="#7fbf7b"),
    ClassEntry(value=REGROWTH_LOW, name="regrowth_low", role="background", title="Enhanced regrowth, low", color="#d9f0d3"),
    ClassEntry(value=LOW, name="low", role="event", title="Low severity", color="#ffffb2"),
    ClassEntry(value=MODERATE_LOW, name="moderate_low", role="event", title="Moderate to low severity", color="#fecc5c"),
    ClassEntry(value=MODERATE_HIGH, name="moderate_high", role="event", title="Moderate to high severity", color="#fd8d3c"),
    ClassEntry(value=HIGH, name="high", role="event", title="High severity", color="#bd0026"),
    *_NOT_SEEN,
)
"""Class codes of burn severity, after Key and Benson (2006), RMRS-GTR-164."""

SEVERITY_LIMITS: Final = (-0.25, -0.10, 0.10, 0.27, 0.44, 0.66)
"""Upper limits of dNBR (exclusive) of all severity classes but the last, in the order of ``SEVERITY_ORDER``: FIREMON's table / 1000."""

SEVERITY_ORDER: Final = (REGROWTH_HIGH, REGROWTH_LOW, UNBURNED, LOW, MODERATE_LOW, MODERATE_HIGH, HIGH)

EXTENT: Final = RasterSpec(name="extent", long_name="Burned area", dtype="uint8", nodata=FILL, classes=EXTENT_CLASSES)
SEVERITY: Final = RasterSpec(name="severity", long_name="Burn severity from dNBR", dtype="uint8", nodata=FILL, classes=SEVERITY_CLASSES)
PROBABILITY: Final = share("probability", "Probability of burn")
DNBR: Final = RasterSpec(
    name="dnbr", long_name="Difference of the normalised burn ratio, offset removed", dtype="float32", nodata="nan", scale=1e-4
)
RBR: Final = RasterSpec(name="rbr", long_name="Relativised burn ratio, offset removed", dtype="float32", nodata="nan", scale=1e-4)

BURN_PRODUCTS: Final[tuple[RasterSpec, ...]] = (EXTENT, PROBABILITY, CONFIDENCE, uncertainty("1", 1e-4), QUALITY)
"""What every burned-area algorithm returns; the class raster first."""

SEVERITY_PRODUCTS: Final[tuple[RasterSpec, ...]] = (*BURN_PRODUCTS, SEVERITY, DNBR, RBR)
"""What an algorithm that compares two dates returns beside them."""
