"""Height above drainage as an algorithm of a plugin, so that DEMs too large for memory are measured through the whole engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mdive.algorithms.mosaic import first_valid
from mdive.algorithms.terrain_accumulation import drainage_area
from mdive.algorithms.terrain_direction import steepest_descent
from mdive.algorithms.terrain_drain import at_drain, drains
from mdive.algorithms.terrain_fill import filled
from mdive.algorithms.terrain_flats import flow_direction
from mdive.algorithms.terrain_hand import height_above_drain
from mdive.plugins import QC_FLAGS, Bundle, ClassEntry, FlagEntry, Local, RasterSpec, algorithm, hookimpl, operation

mdive_api = 1

LOW = 5.0
"""Metres above drainage below which ground is called low: the classes are there because every product has some."""

EXTENT = RasterSpec(
    name="extent",
    long_name="Low ground",
    dtype="uint8",
    nodata=255,
    classes=(
        ClassEntry(value=0, name="high", role="background", title="High above drainage", color="#eef3e2"),
        ClassEntry(value=1, name="low", role="event", title="Low above drainage", color="#2b5c8a"),
        ClassEntry(value=255, name="unknown", role="unobserved", title="Not known", color="#4a4a4a"),
    ),
)
HAND = RasterSpec(name="hand", long_name="Height above the nearest drainage", dtype="float32", units="m", nodata="nan")
QC = RasterSpec(
    name="qc",
    long_name="Quality flags",
    dtype="uint16",
    nodata=None,
    flags=tuple(FlagEntry(mask=bit, name=name) for name, bit in QC_FLAGS.items()),
)


@operation(Local(), dtype="uint8")
def low_ground(hand: np.ndarray, /) -> np.ndarray:
    """Return the class of each pixel, (y, x)."""
    return np.where(np.isnan(hand), np.uint8(255), (hand <= LOW).astype("uint8"))


@operation(Local(), dtype="uint16")
def unknown(hand: np.ndarray, /) -> np.ndarray:
    """Return why a pixel has no class, (y, x)."""
    return np.where(np.isnan(hand), np.uint16(QC_FLAGS["nodata"]), np.uint16(0))


@algorithm("bench.hand", version="1.0.0", needs={"static": ("dem",)}, sensor="elevation", outputs=(EXTENT, HAND, QC))
def low(static: Bundle, /, *, drain_area: float = 0.9) -> Mapping[str, Any]:
    """Height above drainage.

    Parameters
    ----------
    static
        ``dem`` in m.
    drain_area
        Least area upstream of a stream in km².
    """
    surface = filled(first_valid(static.dem))
    direction = flow_direction(steepest_descent(surface))
    streams = drains(drainage_area(direction), None, drain_area=drain_area)
    hand = height_above_drain(surface, at_drain(direction, streams, surface))
    return {"extent": low_ground(hand), "hand": hand, "qc": unknown(hand)}


@hookimpl
def mdive_algorithms() -> list[Any]:
    """The one that is measured."""
    return [low]


@hookimpl
def mdive_event_classes() -> list[Path]:
    """What it is for."""
    return [Path(__file__).with_name("terrain.yaml")]
