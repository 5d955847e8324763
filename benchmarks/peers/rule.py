"""The rule of the workload, as a plugin author would write it: water by two indices, before and after, quality mask on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mdive.plugins import QC_FLAGS, UNOBSERVED, Bundle, ClassEntry, FlagEntry, Local, RasterSpec, algorithm, hookimpl, operation

mdive_api = 1

DRY, PERMANENT, NEW, RECEDED, MASKED = 0, 1, 2, 3, 255

HIDDEN = UNOBSERVED | QC_FLAGS["snow"]
"""Bits of the quality bands 0, 1, 3, 8, 9, 10 and 11 of a Sentinel-2 scene classification."""

EXTENT = RasterSpec(
    name="extent",
    long_name="Change of open water",
    dtype="uint8",
    nodata=MASKED,
    classes=(
        ClassEntry(value=DRY, name="dry", role="background", title="Dry before and after", color="#eef3e2"),
        ClassEntry(value=PERMANENT, name="permanent_water", role="reference", title="Water before and after", color="#2b5c8a"),
        ClassEntry(value=NEW, name="new_water", role="event", title="Water after only", color="#e31a1c"),
        ClassEntry(value=RECEDED, name="receded_water", role="background", title="Water before only", color="#a6cee3"),
        ClassEntry(value=MASKED, name="masked", role="unobserved", title="Not observed", color="#4a4a4a"),
    ),
)
QC = RasterSpec(
    name="qc",
    long_name="Quality flags",
    dtype="uint16",
    nodata=None,
    flags=tuple(FlagEntry(mask=bit, name=name) for name, bit in QC_FLAGS.items()),
)


@operation(Local(), dtype="bool", over_time=True)
def water(green: np.ndarray, nir: np.ndarray, swir16: np.ndarray, /) -> np.ndarray:
    """Return where NDWI and MNDWI of the first observation are above 0; (time, y, x) in, (y, x) out."""
    g, n, s = green[0], nir[0], swir16[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        wet: np.ndarray = ((g - n) / (g + n) > 0) & ((g - s) / (g + s) > 0)
    return wet


@operation(Local(), dtype="uint16", over_time=True)
def hidden(before: np.ndarray, after: np.ndarray, /) -> np.ndarray:
    """Return why a pixel was not seen in either first observation; (time, y, x) in, (y, x) out."""
    bits: np.ndarray = (before[0] | after[0]) & np.uint16(HIDDEN)
    return bits


@operation(Local(), dtype="uint8")
def change(before: np.ndarray, after: np.ndarray, why: np.ndarray, /) -> np.ndarray:
    """Return the class of each pixel, (y, x)."""
    out = np.where(before, np.where(after, np.uint8(PERMANENT), np.uint8(RECEDED)), np.where(after, np.uint8(NEW), np.uint8(DRY)))
    out[why != 0] = MASKED
    return out


@algorithm(
    "bench.change",
    version="1.0.0",
    needs={"pre": ("green", "nir", "swir16"), "post": ("green", "nir", "swir16")},
    sensor="optical",
    outputs=(EXTENT, QC),
    references=("10.1080/01431169608948714", "10.1080/01431160600589179"),  # McFeeters 1996: NDWI; Xu 2006: MNDWI
)
def change_of_water(pre: Bundle, post: Bundle, /) -> Mapping[str, Any]:
    """Change of open water between two scenes.

    Parameters
    ----------
    pre, post
        Reflectance before and after, each with its cause plane.
    """
    why = hidden(pre.mask, post.mask)
    before, after = water(pre.green, pre.nir, pre.swir16), water(post.green, post.nir, post.swir16)
    return {"extent": change(before, after, why), "qc": why}


@hookimpl
def mdive_algorithms() -> list[Any]:
    """The one that is measured."""
    return [change_of_water]


@hookimpl
def mdive_event_classes() -> list[Path]:
    """What it is for."""
    return [Path(__file__).with_name("change.yaml")]
