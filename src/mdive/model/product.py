"""What a product is: its numbers, its words and its colours, in one table that CF attributes, STAC and the report all read."""

from __future__ import annotations

from typing import Literal

from mdive.model.base import Document

Role = Literal["event", "background", "reference", "unobserved"]
"""What a class means to a decision: the event itself, seen and not the event, known beforehand (permanent water), or not seen."""


class ClassEntry(Document):
    """One class of a class raster."""

    value: int
    name: str
    """CF ``flag_meanings`` word, e.g. ``flood_open_water``."""
    role: Role
    title: str
    color: str
    """``#rrggbb``."""


class FlagEntry(Document):
    """One bit of a flag raster."""

    mask: int
    name: str


class RasterSpec(Document):
    """One raster product.

    A float layer is stored in its COG as scaled int16 (``stored * scale``); the xarray product is float32.
    """

    name: str
    long_name: str
    dtype: Literal["uint8", "uint16", "int16", "int64", "float32"]
    """``int64`` is for names of things (row * columns + column of a drain): nothing between two of them means anything."""
    units: str = "1"
    nodata: float | Literal["nan"] | None = 255
    classes: tuple[ClassEntry, ...] = ()
    flags: tuple[FlagEntry, ...] = ()
    scale: float | None = None
    """Step of the stored int16 of a float layer, e.g. 1e-4 for probabilities."""
    valid_min: float | None = None
    valid_max: float | None = None
