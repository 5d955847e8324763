"""When and from where the scenes along a time axis were taken, as an algorithm is told it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mdive.model.plan import Observation, Source
from mdive.plugins.declare import Geometry

if TYPE_CHECKING:
    import xarray as xr

ORBIT: Final = ("sat:relative_orbit", "relative_orbit")
DIRECTION: Final = ("sat:orbit_state", "orbit_state", "orbit_direction")
"""Names of coordinates and attributes that tell the geometry of scenes; those with a colon are STAC's, which most readers keep."""


def geometry_of(seen: Observation) -> Geometry:
    """Return the relative orbit and flight direction of an observation; None what the catalogue does not tell."""
    return seen.properties.get("sat:relative_orbit"), seen.properties.get("sat:orbit_state")


def told_by_source(source: Source) -> dict[str, Any]:
    """Return times and geometry of a source's observations, as ``Bundle`` holds them; nothing of a source that has no time."""
    if source.phase == "static" or not source.observations:
        return {}
    return {"times": [o.datetime for o in source.observations], "geometry": [geometry_of(o) for o in source.observations]}


def told_by_dataset(dataset: xr.Dataset) -> dict[str, Any]:
    """Return what coordinates and attributes of a dataset tell of its times and geometry; nothing where they tell nothing."""
    count = dataset.sizes.get("time", 1)
    orbits, directions = _values(dataset, ORBIT, count), _values(dataset, DIRECTION, count)
    told: dict[str, Any] = {}
    if orbits is not None or directions is not None:
        pairs = zip(orbits or [None] * count, directions or [None] * count, strict=True)
        told["geometry"] = [(None if o is None else int(o), None if d is None else str(d).lower()) for o, d in pairs]
    when = dataset.coords.get("time")
    if when is not None and when.dtype.kind == "M":
        told["times"] = [_utc(t) for t in np.atleast_1d(when.values)]
    return told


def _values(dataset: xr.Dataset, names: tuple[str, ...], count: int) -> list[Any] | None:
    """Return one value per time, or None where no name is there."""
    for name in names:
        if name in dataset.coords and set(dataset[name].dims) <= {"time"}:
            values = np.atleast_1d(dataset[name].values).tolist()
        elif name in dataset.attrs:
            values = [dataset.attrs[name]]
        else:
            continue
        values = [None if v is None or v != v or v == "" else v for v in values]
        return values * count if len(values) == 1 else values
    return None


def _utc(moment: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(moment.astype("datetime64[us]").astype("int64")) / 1e6, UTC)
