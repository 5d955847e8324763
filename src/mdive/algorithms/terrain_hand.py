"""Height above the nearest drainage: how high each cell lies above the stream that its own water comes to, on the filled surface.

References
----------
Rennó et al. (2008), 10.1016/j.rse.2008.03.018; Nobre et al. (2011), 10.1016/j.jhydrol.2011.03.051.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from mdive.algorithms.mosaic import first_valid, unreadable
from mdive.algorithms.tables import FILL, FILL_CLASS, QUALITY
from mdive.algorithms.terrain_accumulation import SQUARE_DECIMETRES, drainage_area
from mdive.algorithms.terrain_direction import NODATA, OUTLET, steepest_descent
from mdive.algorithms.terrain_drain import NO_DRAIN, Percent, SquareKilometres, at_drain, drain_id, drains
from mdive.algorithms.terrain_fill import filled
from mdive.algorithms.terrain_flats import flow_direction
from mdive.model.flags import QC_FLAGS
from mdive.model.product import ClassEntry, RasterSpec
from mdive.plugins import Bundle, Focal, Local, Metres, algorithm, operation

PAD: Final = 20_000.0
"""Metres around an area from which its small streams come. Basins that are larger still show as cut off, but a stream that they feed is one anyway."""

SLOPE: Final = 0
DRAINAGE: Final = 1
PERMANENT_WATER: Final = 2
NO_DRAIN_IN_DOMAIN: Final = 254

EXTENT: Final = RasterSpec(
    name="extent",
    long_name="Drainage",
    dtype="uint8",
    nodata=FILL,
    classes=(
        ClassEntry(value=SLOPE, name="slope", role="background", title="Drains to a stream", color="#f2efe6"),
        ClassEntry(value=DRAINAGE, name="drainage", role="reference", title="Stream, by the area upstream", color="#4f93d2"),
        ClassEntry(value=PERMANENT_WATER, name="permanent_water", role="reference", title="Permanent water", color="#8fb8de"),
        ClassEntry(
            value=NO_DRAIN_IN_DOMAIN, name="no_drain_in_domain", role="unobserved", title="Leaves the data before a stream", color="#c9b79c"
        ),
        FILL_CLASS,
    ),
)
HAND: Final = RasterSpec(
    name="hand", long_name="Height above the nearest drainage", dtype="float32", units="m", nodata="nan", valid_min=0.0
)
AREA: Final = RasterSpec(
    name="drainage_area", long_name="Area upstream, itself included", dtype="float32", units="km2", nodata="nan", valid_min=0.0
)
DRAIN_ID: Final = RasterSpec(
    name="drain_id", long_name="Drain of each cell: row * columns + column in the grid", dtype="int64", nodata=float(NO_DRAIN)
)


@operation(Local(), dtype="float32", units="m")
def burned(dem: np.ndarray, occurrence: np.ndarray, /, *, depth: Metres = 0.0, permanent: Percent = 90.0) -> np.ndarray:
    """Lower a DEM where there is always water, so that streams follow known rivers through bridges and dams that a surface model shows as ground.

    Parameters
    ----------
    dem
        Heights in m, (y, x).
    occurrence
        How often there is water, (y, x) in %, NaN where unknown.
    depth
        How deep the bed is cut.
    permanent
        Least occurrence of water that is always there.
    """
    with np.errstate(invalid="ignore"):
        return np.where(occurrence >= permanent, dem - np.float32(depth), dem)


@operation(Local(), dtype="float32", units="m")
def unburned(surface: np.ndarray, dem: np.ndarray, /) -> np.ndarray:
    """Return a surface that was filled after cutting, with the cuts closed up to the DEM again: heights are measured on the real bed."""
    result: np.ndarray = np.maximum(surface, dem)
    return result


@operation(Focal(1), dtype="bool")
def beside_unknown(surface: np.ndarray, /) -> np.ndarray:
    """Return which cells lie beside nodata or the edge of the grid, (y, x)."""
    rows, cols = surface.shape
    wide = np.pad(np.isnan(surface), 1, constant_values=True)
    found = np.zeros((rows, cols), dtype=bool)
    for r in range(3):
        for c in range(3):
            found |= wide[r : r + rows, c : c + cols]
    result: np.ndarray = found & ~np.isnan(surface)
    return result


@operation(Local(), dtype="uint8", fill=NODATA)
def ending_at_edge(direction: np.ndarray, beside: np.ndarray, /) -> np.ndarray:
    """Return directions where no water passes through cells beside the unknown: where those flow, more data may tell otherwise."""
    return np.where(beside & (direction < OUTLET), np.uint8(OUTLET), direction)


@operation(Local(), dtype="bool")
def cut_off(area: np.ndarray, certain: np.ndarray, direction: np.ndarray, beside: np.ndarray, /) -> np.ndarray:
    """Return which cells the edge of what is known cuts off from part of their area: cells there that drain into it, and all below them.

    Parameters
    ----------
    area, certain
        Area upstream, and that of ``ending_at_edge``, (y, x) int64.
    direction, beside
        (y, x) uint8 of ``flow_direction``, and (y, x) bool of ``beside_unknown``.
    """
    result: np.ndarray = (area != certain) | (beside & (direction < OUTLET))
    return result


@operation(Local(), dtype="bool")
def either(first: np.ndarray, second: np.ndarray, /) -> np.ndarray:
    """Return where one or the other is."""
    result: np.ndarray = first | second
    return result


@operation(Local(), dtype="float32")
def doubt(sure: np.ndarray, cut: np.ndarray, /) -> np.ndarray:
    """Return 1 where only more data would tell whether a cell is a drain, else 0: its area is cut off, and what is certain of it does not suffice."""
    result: np.ndarray = (cut & ~sure).astype("float32")
    return result


@operation(Local(), dtype="float32", units="m")
def height_above_drain(surface: np.ndarray, at_its_drain: np.ndarray, /) -> np.ndarray:
    """Return how high a cell lies above its drain, in the units of the surface; never below 0, NaN where there is no drain."""
    result: np.ndarray = np.maximum(surface - at_its_drain, 0)
    return result


@operation(Local(), dtype="float32", units="km2")
def square_kilometres(area: np.ndarray, surface: np.ndarray, /) -> np.ndarray:
    """Return an area given in dm² in km²; NaN for nodata."""
    return np.where(np.isnan(surface), np.nan, area / (1e6 * SQUARE_DECIMETRES))


@operation(Local(), dtype="uint8")
def drainage_classes(
    hand: np.ndarray, drain: np.ndarray, occurrence: np.ndarray | None, surface: np.ndarray, /, *, permanent: Percent = 90.0
) -> np.ndarray:
    """Return the class of each cell: slope, drainage, permanent water, no drain in the domain, fill."""
    extent = np.where(np.isnan(hand), np.uint8(NO_DRAIN_IN_DOMAIN), np.where(drain, np.uint8(DRAINAGE), np.uint8(SLOPE)))
    if occurrence is not None:
        with np.errstate(invalid="ignore"):
            extent = np.where(drain & (occurrence >= permanent), np.uint8(PERMANENT_WATER), extent)
    return np.where(np.isnan(surface), np.uint8(FILL), extent)


@operation(Local(), dtype="uint16")
def hand_flags(extent: np.ndarray, cut: np.ndarray, doubted: np.ndarray, lost: np.ndarray | None, /) -> np.ndarray:
    """Return the quality flags of HAND.

    Parameters
    ----------
    extent
        Class, (y, x) uint8 of ``drainage_classes``.
    cut
        Cells whose area upstream is cut off, (y, x) bool.
    doubted
        1 where a cell's water meets a cell in ``doubt`` before a drain, (y, x) float; NaN where it meets neither.
    lost
        Where the heights could not be read, (y, x) bool; or None.

    Returns
    -------
    (y, x) bits of ``QC_FLAGS``. ``edge_contaminated``: the edge of the data cuts off the area upstream of the cell; or of one on its way, so that
    another stream may be the nearest; or its water leaves the data before it meets a stream. A lake or depression that reaches beyond the edge
    is not seen: water is taken to leave there.
    """
    unknown = extent == np.uint8(FILL)
    qc = np.where(unknown, np.uint16(QC_FLAGS["nodata"]), np.uint16(0))
    at_edge = ~unknown & (cut | (doubted == 1) | (extent == np.uint8(NO_DRAIN_IN_DOMAIN)))
    qc[at_edge] |= np.uint16(QC_FLAGS["edge_contaminated"])
    qc[extent == np.uint8(PERMANENT_WATER)] |= np.uint16(QC_FLAGS["permanent_water"])
    if lost is not None:
        qc[lost] |= np.uint16(QC_FLAGS["read_failure"])
    return qc


@algorithm(
    "terrain.hand",
    version="1.0.0",
    needs={"static": ("dem",)},
    optional={"static": ("occurrence",)},
    sensor="elevation",
    outputs=(EXTENT, HAND, AREA, DRAIN_ID, QUALITY),
    references=(
        "10.1016/j.rse.2008.03.018",  # HAND
        "10.1016/j.jhydrol.2011.03.051",
        "10.1016/j.cageo.2016.07.001",  # filling in tiles
        "10.1016/j.cageo.2013.01.009",  # flats
        "10.1016/j.envsoft.2017.02.022",  # accumulation in tiles
    ),
    pad=PAD,
)
def hand(static: Bundle, /, *, drain_area: SquareKilometres = 0.09, permanent: Percent = 90.0, burn: Metres = 0.0) -> Mapping[str, Any]:
    """Height above the nearest drainage of a DEM, with its streams, drained areas and drains.

    Depressions are filled, water follows the steepest way down and crosses flats towards their outlet; streams begin where enough area lies
    upstream. A cell's height is that above the first stream that its water meets. The DEM should reach beyond the area of interest as far as
    the basins that matter: what its edge cuts off is flagged.

    Parameters
    ----------
    static
        ``dem`` in m; ``occurrence`` of water in %, if there is any.
    drain_area
        Least area upstream of a stream.
    permanent
        Least occurrence of permanent water, which is drainage whatever lies upstream.
    burn
        How deep permanent water is cut into the DEM before it is filled; 0 leaves it as it is.
    """
    dem = first_valid(static.dem)
    occurrence = None if static.occurrence is None else first_valid(static.occurrence)
    cutting = burn > 0 and occurrence is not None
    surface = filled(burned(dem, occurrence, depth=burn, permanent=permanent) if cutting else dem)
    direction = flow_direction(steepest_descent(surface))
    area = drainage_area(direction)
    drain = drains(area, occurrence, drain_area=drain_area, permanent=permanent)
    beside = beside_unknown(surface)
    certain = drainage_area(ending_at_edge(direction, beside))
    sure = drains(certain, occurrence, drain_area=drain_area, permanent=permanent)
    cut = cut_off(area, certain, direction, beside)
    level = unburned(surface, dem) if cutting else surface
    height = height_above_drain(level, at_drain(direction, drain, level))
    doubted = at_drain(direction, either(drain, cut), doubt(sure, cut))
    extent = drainage_classes(height, drain, occurrence, surface, permanent=permanent)
    planned = [band for band in (static.dem, static.occurrence) if band is not None]
    lost = None if static.mask is None else unreadable(static.mask, *planned)
    return {
        "extent": extent,
        "hand": height,
        "drainage_area": square_kilometres(area, surface),
        "drain_id": drain_id(direction, drain),
        "qc": hand_flags(extent, cut, doubted, lost),
    }
