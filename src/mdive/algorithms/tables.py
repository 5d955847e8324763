"""What the products of all hazards share: layers, the codes of what was not seen, and when two opinions are in conflict."""

from __future__ import annotations

from typing import Final

import numpy as np

from mdive.model.flags import QC_FLAGS
from mdive.model.product import ClassEntry, FlagEntry, RasterSpec

SNOW: Final = 252
CLOUD: Final = 253
FILL: Final = 255

SNOW_CLASS: Final = ClassEntry(value=SNOW, name="snow", role="unobserved", title="Snow", color="#e0f7fa")
CLOUD_CLASS: Final = ClassEntry(value=CLOUD, name="cloud", role="unobserved", title="Cloud or its shadow", color="#b0b0b0")
FILL_CLASS: Final = ClassEntry(value=FILL, name="fill", role="unobserved", title="Not observed", color="#4a4a4a")

DISAGREE: Final = 0.6
"""Difference between the probabilities of two opinions from which a pixel is flagged as a conflict."""

QC: Final[tuple[FlagEntry, ...]] = tuple(FlagEntry(mask=bit, name=name) for name, bit in QC_FLAGS.items())

QUALITY: Final = RasterSpec(name="qc", long_name="Quality flags", dtype="uint16", nodata=None, flags=QC)


def share(name: str, long_name: str) -> RasterSpec:
    """Return a layer of numbers from 0 to 1, stored in steps of 1e-4."""
    return RasterSpec(name=name, long_name=long_name, dtype="float32", nodata="nan", scale=1e-4, valid_min=0.0, valid_max=1.0)


CONFIDENCE: Final = share("confidence", "Confidence in the class")


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


def hide_unseen(extent: np.ndarray, why: np.ndarray) -> None:
    """Give the pixels that an optical sensor did not see the code of the reason; where there are several: fill, cloud, snow.

    Parameters
    ----------
    extent
        Class raster, (y, x) uint8, changed in place.
    why
        Cause of each pixel, (y, x), bits of ``QC_FLAGS``.
    """
    extent[why & QC_FLAGS["snow"] != 0] = SNOW
    extent[why & (QC_FLAGS["cloud"] | QC_FLAGS["shadow"]) != 0] = CLOUD
    extent[why & (QC_FLAGS["nodata"] | QC_FLAGS["read_failure"] | QC_FLAGS["layover_shadow"]) != 0] = FILL
