"""The words, numbers and colours of every flood product: one class table and five layers that all flood algorithms share."""

from __future__ import annotations

from typing import Final

from mdive.model.flags import QC_FLAGS
from mdive.model.product import ClassEntry, FlagEntry, RasterSpec

NOT_WATER: Final = 0
FLOOD: Final = 1
PERMANENT_WATER: Final = 2
FLOODED_VEGETATION: Final = 3
PARTIAL_WATER: Final = 4
HAND_MASKED: Final = 250
LAYOVER_SHADOW: Final = 251
SNOW: Final = 252
CLOUD: Final = 253
OCEAN: Final = 254
FILL: Final = 255

CLASSES: Final[tuple[ClassEntry, ...]] = (
    ClassEntry(value=NOT_WATER, name="not_water", role="background", title="Not water", color="#f2efe6"),
    ClassEntry(value=FLOOD, name="flood_open_water", role="event", title="Flood, open water", color="#1769c2"),
    ClassEntry(value=PERMANENT_WATER, name="permanent_water", role="reference", title="Permanent water", color="#8fb8de"),
    ClassEntry(value=FLOODED_VEGETATION, name="flooded_vegetation", role="event", title="Flooded vegetation", color="#2a9d8f"),
    ClassEntry(value=PARTIAL_WATER, name="partial_surface_water", role="event", title="Partly water", color="#64b5f6"),
    ClassEntry(value=HAND_MASKED, name="hand_masked", role="unobserved", title="Too far above the drainage", color="#c9b79c"),
    ClassEntry(value=LAYOVER_SHADOW, name="layover_shadow", role="unobserved", title="Radar layover or shadow", color="#6d6875"),
    ClassEntry(value=SNOW, name="snow", role="unobserved", title="Snow", color="#e0f7fa"),
    ClassEntry(value=CLOUD, name="cloud", role="unobserved", title="Cloud or its shadow", color="#b0b0b0"),
    ClassEntry(value=OCEAN, name="ocean", role="unobserved", title="Ocean", color="#0b3d66"),
    ClassEntry(value=FILL, name="fill", role="unobserved", title="Not observed", color="#4a4a4a"),
)
"""Class codes of flood extents.

0-4 are mdive's own; 250, 251, 254 and 255 are those of OPERA DSWx-S1 and 252-254 those of DSWx-HLS, so that both can be compared value
by value.
"""

QC: Final[tuple[FlagEntry, ...]] = tuple(FlagEntry(mask=bit, name=name) for name, bit in QC_FLAGS.items())

EXTENT: Final = RasterSpec(name="extent", long_name="Flood and water extent", dtype="uint8", nodata=FILL, classes=CLASSES)
PROBABILITY: Final = RasterSpec(
    name="probability", long_name="Probability of open water", dtype="float32", nodata="nan", scale=1e-4, valid_min=0.0, valid_max=1.0
)
CONFIDENCE: Final = RasterSpec(
    name="confidence", long_name="Confidence in the class", dtype="float32", nodata="nan", scale=1e-4, valid_min=0.0, valid_max=1.0
)
QUALITY: Final = RasterSpec(name="qc", long_name="Quality flags", dtype="uint16", nodata=None, flags=QC)


def uncertainty(units: str, scale: float) -> RasterSpec:
    """Return the layer that tells one standard deviation of the quantity that decides the class.

    Parameters
    ----------
    units
        Those of the deciding quantity: ``dB`` of a radar threshold, ``1`` of an index.
    scale
        Step of the stored int16; 32767 steps must hold the largest value that can occur.
    """
    return RasterSpec(
        name="uncertainty",
        long_name="Standard deviation of the deciding quantity",
        dtype="float32",
        units=units,
        nodata="nan",
        scale=scale,
        valid_min=0.0,
    )


SAR_PRODUCTS: Final[tuple[RasterSpec, ...]] = (EXTENT, PROBABILITY, CONFIDENCE, uncertainty("dB", 1e-3), QUALITY)
"""What a radar flood algorithm returns; the class raster first."""

OPTICAL_PRODUCTS: Final[tuple[RasterSpec, ...]] = (EXTENT, PROBABILITY, CONFIDENCE, uncertainty("1", 1e-4), QUALITY)
"""What an optical flood algorithm returns; the class raster first."""
