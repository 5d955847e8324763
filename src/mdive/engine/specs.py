"""The raster products of a run: those of its algorithm, and the cause raster that the engine adds."""

from __future__ import annotations

from mdive.model.flags import CAUSES, OUTSIDE_AREA
from mdive.model.product import ClassEntry, RasterSpec
from mdive.plugins import AlgorithmSpec

_COLORS = ("#ffffff", "#d9d9d9", "#bdbdbd", "#d7191c", "#bababa", "#737373", "#8073ac", "#e0c9a6")

CAUSE = RasterSpec(
    name="cause",
    long_name="Why a pixel was not observed",
    dtype="uint8",
    nodata=OUTSIDE_AREA,
    classes=tuple(
        ClassEntry(value=value, name=name, role="background" if value == 0 else "unobserved", title=title, color=color)
        for (value, name, title), color in zip(CAUSES, _COLORS, strict=True)
    ),
)
"""The cause raster: one value a pixel, from ``CAUSES``."""

POLYGONS = "polygons"
"""The product that is not a raster: one row per connected component of the event's classes."""

ZARR = "zarr"
"""All raster layers of the run once more, in one Zarr store."""


def raster_specs(spec: AlgorithmSpec) -> dict[str, RasterSpec]:
    """Return all raster products by name."""
    return {**{o.name: o for o in spec.outputs}, CAUSE.name: CAUSE}


def product_names(spec: AlgorithmSpec) -> list[str]:
    """Return everything that an intent may ask for."""
    return [*raster_specs(spec), POLYGONS, ZARR]
