"""When and where an item looks: its times as UTC, its footprint as a valid geometry within ±180° of longitude."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pystac
import shapely
from shapely.geometry import MultiPolygon, box, shape
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union


class UnusableError(ValueError):
    """An item cannot be used; the message is the reason, as the end of a sentence that begins with the item."""


_WORLD = box(-180.0, -90.0, 180.0, 90.0)
_BEYOND = box(180.0, -90.0, 540.0, 90.0)


def utc(moment: datetime) -> datetime:
    """Return a moment in UTC; one without a zone is UTC already (STAC requires it)."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def interval(item: pystac.Item) -> tuple[datetime, datetime]:
    """Return the first and last moment that an item shows: its ``datetime``, or its ``start_datetime`` and ``end_datetime``."""
    if item.datetime is not None:
        return utc(item.datetime), utc(item.datetime)
    common = item.common_metadata
    start, end = common.start_datetime, common.end_datetime
    if start is None or end is None:
        raise UnusableError("it has no datetime")
    return utc(start), utc(end)


def order(item: pystac.Item) -> tuple[datetime, str]:
    """Return the sorting key of items: (datetime, id)."""
    return interval(item)[0], item.id


def footprint(geometry: Mapping[str, Any]) -> BaseGeometry:
    """Return a GeoJSON geometry as a valid planar geometry in longitude and latitude, cut at the antimeridian.

    A polygon wider than half the globe whose other reading is narrower (catalogues that write 179 and -179 as neighbours) is read the other
    way round.

    Raises
    ------
    UnusableError
        When it is empty or not a geometry, or has coordinates that are not finite.
    """
    try:
        # Asked before GEOS sees them, whose answer to NaN depends on its version.
        if not all(map(math.isfinite, _positions(geometry))):
            raise UnusableError("its geometry is not finite")
        found = shapely.force_2d(shape(geometry))
    except (AttributeError, KeyError, TypeError, IndexError, RecursionError, shapely.errors.ShapelyError) as error:
        raise UnusableError("its geometry is not GeoJSON") from error
    if found.is_empty:
        raise UnusableError("its geometry is empty")
    return normalise(found)


def _positions(value: Any) -> Iterator[float]:
    """Yield all numbers of a GeoJSON geometry."""
    if isinstance(value, Mapping):
        value = value["geometries"] if value["type"] == "GeometryCollection" else value["coordinates"]
    for each in value:
        if isinstance(each, int | float):
            yield each
        else:
            yield from _positions(each)


def normalise(geometry: BaseGeometry) -> BaseGeometry:
    """Return a geometry valid, within ±180°, cut where it crosses the antimeridian."""
    parts = [_wrap(part) for part in shapely.get_parts(shapely.make_valid(geometry))]
    return parts[0] if len(parts) == 1 else unary_union(parts)


def _wrap(part: BaseGeometry) -> BaseGeometry:
    west, _, east, _ = part.bounds
    if east - west > 180.0:
        eastern = shapely.make_valid(shapely.transform(part, _east))
        left, _, right, _ = eastern.bounds
        # A footprint of the whole globe would collapse to a line at 180° here; it is meant as it is written.
        if 0.0 < right - left < 180.0:
            part, west, east = eastern, left, right
    turns = math.floor((west + 180.0) / 360.0)
    if turns:
        part, east = shapely.transform(part, lambda xy: xy - np.array([360.0 * turns, 0.0])), east - 360.0 * turns
    if east <= 180.0:
        return part
    beyond = shapely.transform(part.intersection(_BEYOND), lambda xy: xy - np.array([360.0, 0.0]))
    return unary_union([part.intersection(_WORLD), beyond])


def crosses_antimeridian(geometry: BaseGeometry) -> bool:
    """Return whether a geometry lies on both sides of the antimeridian and touches it."""
    west, _, east, _ = geometry.bounds
    return isinstance(geometry, MultiPolygon) and west <= -180.0 and east >= 180.0


def centre_longitude(geometry: BaseGeometry) -> float:
    """Return the longitude of the middle of an area, also where it lies across the antimeridian."""
    if crosses_antimeridian(geometry):
        geometry = shapely.transform(geometry, _east)
    longitude = float(geometry.centroid.x)
    return longitude - 360.0 if longitude > 180.0 else longitude


def equal_area(geometry: BaseGeometry) -> BaseGeometry:
    """Return a geometry in Lambert's cylindrical equal-area projection of the sphere (x = longitude, y = sin latitude, both in degrees).

    Shares of an area are ratios, so that the sphere is good enough (0.3 % between equator and pole), and no zone has to be chosen.
    """
    return shapely.make_valid(shapely.transform(geometry, _cylindrical))


def surface(geometry: BaseGeometry) -> float:
    """Return the area of a geometry in its own plane."""
    return float(shapely.area(geometry))


def _cylindrical(xy: np.ndarray) -> np.ndarray:
    return np.column_stack([xy[:, 0], np.degrees(np.sin(np.radians(xy[:, 1])))])


def _east(xy: np.ndarray) -> np.ndarray:
    """Return coordinates with western longitudes counted on from 180°."""
    return np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360.0, xy[:, 0]), xy[:, 1]])
