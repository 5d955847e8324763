"""New and lost water between two classified maps of any origin, with what either did not see as a bound and not as dry land."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from mdive.algorithms import flood_tables as flood
from mdive.algorithms.tables import FILL, FILL_CLASS
from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_areas
from mdive.plugins import ClassEntry, Local, RasterSpec, Reduction, Window, operation

Codes = Annotated[tuple[int, ...], Field(description="values of a class raster, 0 to 255")]

DRY: Final = 0
NEW: Final = 1
LASTING: Final = 2
LOST: Final = 3

CHANGE: Final = RasterSpec(
    name="extent",
    long_name="Change of water",
    dtype="uint8",
    nodata=FILL,
    classes=(
        ClassEntry(value=DRY, name="not_water", role="background", title="Dry on both dates", color="#f2efe6"),
        ClassEntry(value=NEW, name="new_water", role="event", title="New water", color="#1769c2"),
        ClassEntry(value=LASTING, name="lasting_water", role="reference", title="Water on both dates", color="#8fb8de"),
        ClassEntry(value=LOST, name="lost_water", role="background", title="Water that has gone", color="#c98d4b"),
        FILL_CLASS,
    ),
)

WET_CODES: Final = (flood.FLOOD, flood.PERMANENT_WATER, flood.FLOODED_VEGETATION, flood.PARTIAL_WATER)
DRY_CODES: Final = (flood.NOT_WATER,)
"""Those of mdive's flood maps. The binary water of DSWx-S1 has 0 and 1 of them; the masked classes of DSWx-S1 and DSWx-HLS, 250 to 255, are neither."""

_DRY, _WET, _UNKNOWN = range(3)


@operation(Local(), dtype="uint8")
def water_change(before: np.ndarray, after: np.ndarray, /, *, wet: Codes = WET_CODES, dry: Codes = DRY_CODES) -> np.ndarray:
    """Return what became of water.

    Parameters
    ----------
    before, after
        Class rasters, (y, x), of integers or of numbers with NaN.
    wet, dry
        Codes that mean water, and that mean seen and dry; every other is unknown.

    Returns
    -------
    Codes of ``CHANGE``, (y, x): 255 where one of the two is unknown.
    """
    change: np.ndarray = _CHANGE_OF[_states(before, wet, dry) * 3 + _states(after, wet, dry)]
    return change


def _merge(parts: Iterable[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Add up the rows of all tiles."""
    total = np.zeros((0, 9), dtype="int64")
    for part in parts:
        first, counts = int(part["row"]), part["counts"]
        missing = first + len(counts) - len(total)
        if missing > 0:
            total = np.concatenate([total, np.zeros((missing, 9), dtype="int64")])
        total[first : first + len(counts)] += counts
    return total


def _bounds(counts: np.ndarray, *, grid: Grid, **_: Codes) -> dict[str, np.ndarray]:
    # Whole square decimetres: a sum of integers is the same in any order.
    pixel = np.rint(pixel_areas(grid, 0, len(counts)) * 100).astype("int64")
    area = (counts * pixel[:, np.newaxis]).sum(axis=0).reshape(3, 3)

    def of(rows: tuple[int, ...], cols: tuple[int, ...]) -> float:
        return float(area[np.ix_(rows, cols)].sum()) / 1e8

    every = (_DRY, _WET, _UNKNOWN)
    found = {
        "new": (of((_DRY,), (_WET,)), of((_DRY, _UNKNOWN), (_WET, _UNKNOWN))),
        "lost": (of((_WET,), (_DRY,)), of((_WET, _UNKNOWN), (_DRY, _UNKNOWN))),
        "before": (of((_WET,), every), of((_WET, _UNKNOWN), every)),
        "after": (of(every, (_WET,)), of(every, (_WET, _UNKNOWN))),
    }
    known = of((_DRY, _WET), (_DRY, _WET))
    return {**{name: np.array(bounds) for name, bounds in found.items()}, "known": np.array(known), "all": np.array(of(every, every))}


@operation(Reduction(merge=_merge, finish=_bounds), dtype="int64", units="km2")
def water_change_areas(
    before: np.ndarray, after: np.ndarray, /, *, window: Window, wet: Codes = WET_CODES, dry: Codes = DRY_CODES
) -> dict[str, np.ndarray]:
    """Measure new and lost water between two class rasters.

    Parameters
    ----------
    before, after
        Class rasters, (y, x), of integers or of numbers with NaN.
    wet, dry
        Codes that mean water, and that mean seen and dry; every other is unknown.

    Returns
    -------
    Areas in km². ``new``, ``lost``, ``before`` and ``after`` (water on either date), each (lowest, highest): what both maps know for certain, and
    that with all that is unknown and may be so. ``known``, where both know; ``all``, everything. Pixels are as large as `mdive.pipeline.ground`
    says, row by row.
    """
    joint = _states(before, wet, dry) * 3 + _states(after, wet, dry)
    rows = np.arange(len(joint), dtype="int64")[:, np.newaxis]
    counts = np.bincount((rows * 9 + joint).ravel(), minlength=9 * len(joint)).reshape(-1, 9)
    # A window that reaches beyond the grid holds nothing there.
    above = max(-window.row, 0)
    return {"row": np.array(window.row + above), "counts": counts[above:]}


_CHANGE_OF: Final = np.array([DRY, NEW, FILL, LOST, LASTING, FILL, FILL, FILL, FILL], dtype="uint8")


def _states(codes: np.ndarray, wet: Codes, dry: Codes) -> np.ndarray:
    """Return 0 dry, 1 wet, 2 unknown. Numbers are compared as they are: a NaN is no code, and 0.4 is not dry."""
    out = np.full(codes.shape, _UNKNOWN, dtype="int64")
    out[np.isin(codes, dry)] = _DRY
    out[np.isin(codes, wet)] = _WET
    return out
