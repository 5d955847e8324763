"""Outlines on the globe: GeoJSON and shapely geometries brought to one form, and what can be measured on them.

That form is a list of valid, two-dimensional polygons in longitude and latitude (degrees, WGS 84) that never leave [-180, 180]: what
crosses the antimeridian is cut there (RFC 7946 §3.1.9). Edges are straight lines in longitude and latitude, as GeoJSON has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any, Final

import numpy as np
import pyproj
import shapely

from mdive.errors import nearest
from mdive.model.refusal import Path, Refusal, shown

MAX_VERTICES: Final[int] = 10_000
"""More corners than any hand-drawn or administrative area needs at 10 m, and few enough to be tested against every tile."""

MAX_AREA_M2: Final[float] = 1e14
"""A fifth of the Earth: more is a slip (swapped corners, the whole globe), not an event."""

MIN_AREA_M2: Final[float] = 1.0
"""Below a square metre an area is a point or a line that was rounded."""

_STEP_DEGREES: Final[float] = 0.01
"""Edges are cut to this length before they are projected: on no map are they then more than 3 cm (R·step²/8) beside their true place."""

_EQUAL_AREA: Final[str] = "+proj=cea +ellps=WGS84"
"""Lambert's cylinder: meridians and parallels stay straight, so the area of a box is that of the ellipsoid to rounding, poles included."""

_NOTHING: Final = "the area encloses nothing: it is a line or a point."
_SOME_SIZE: Final = "Give a polygon or bbox with some width and height."

_CRS_NAMES: Final[frozenset[str]] = frozenset(
    {"urn:ogc:def:crs:ogc:1.3:crs84", "urn:ogc:def:crs:ogc::crs84", "ogc:crs84", "epsg:4326", "urn:ogc:def:crs:epsg::4326"}
)
"""What GeoJSON files from before RFC 7946 call longitude/latitude on WGS 84."""

_INSIDE: Final[dict[str, tuple[str, ...]]] = {
    "FeatureCollection": ("",),
    "Feature": ("", "FeatureCollection"),
    "GeometryCollection": ("", "Feature"),
}
"""What each container may stand in (nothing, or another container)."""

_TYPES: Final[tuple[str, ...]] = ("Polygon", "MultiPolygon", "GeometryCollection", "Feature", "FeatureCollection")


def read_geojson(value: Any) -> list[Any]:
    """Return the polygons of a GeoJSON object in the one form.

    Parameters
    ----------
    value
        Geometry, Feature or FeatureCollection with polygons only.

    Raises
    ------
    InputError
        For anything else, and for what ``normalise`` refuses.
    """
    polygons = []
    vertices = 0
    for rings, path in _polygons(value, ()):
        read = []
        for number, ring in enumerate(rings):
            vertices += len(ring) if isinstance(ring, Sequence) else 0
            _check_count(vertices)
            read.append(_ring(ring, (*path, number)))
        polygons.append((read, path))
    return normalise(polygons)


def read_shapely(geometry: Any) -> list[Any]:
    """Return the polygons of a shapely geometry (longitude, latitude) in the one form."""
    if not isinstance(geometry, shapely.Geometry):
        raise Refusal(f"{shown(geometry)} is not a shapely geometry.", "Give a Polygon or a MultiPolygon in longitude and latitude.")
    if geometry.geom_type not in {"Polygon", "MultiPolygon", "GeometryCollection"}:
        _refuse_type(geometry.geom_type, ())
    _check_count(int(shapely.get_num_coordinates(geometry)))
    parts = [part for part in shapely.get_parts(shapely.get_parts(geometry)) if not part.is_empty]
    for part in parts:
        if part.geom_type != "Polygon":
            _refuse_type(part.geom_type, ())
    return normalise([([_xy(ring) for ring in (part.exterior, *part.interiors)], ()) for part in parts])


def _xy(ring: Any) -> list[tuple[float, float]]:
    return [_position((x, y), ()) for x, y in shapely.get_coordinates(ring).tolist()]


def _polygons(value: Any, path: Path, within: str = "") -> Iterator[tuple[Sequence[Any], Path]]:
    """Yield the coordinates of each polygon in a GeoJSON object, and where they are."""
    if not isinstance(value, Mapping):
        raise Refusal(f"{shown(value)} is not a GeoJSON object.", f"Give one of {', '.join(_TYPES)}.", path=path)
    _check_crs(value.get("crs"), path)
    kind = value.get("type")
    if kind in _INSIDE and within not in _INSIDE[kind]:
        raise Refusal(f"a {kind} inside a {within}.", "Features hold geometries, and collections are not nested.", path=path)
    if kind == "Feature":
        yield from _polygons(value.get("geometry"), (*path, "geometry"), kind)
    elif kind in {"FeatureCollection", "GeometryCollection"}:
        member = "features" if kind == "FeatureCollection" else "geometries"
        for number, part in enumerate(_list(value, member, path)):
            yield from _polygons(part, (*path, member, number), kind)
    elif kind == "Polygon":
        yield _list(value, "coordinates", path), (*path, "coordinates")
    elif kind == "MultiPolygon":
        for number, part in enumerate(_list(value, "coordinates", path)):
            if not isinstance(part, Sequence) or isinstance(part, str) or not part:
                hint = "A MultiPolygon is a list of polygons, each a list of rings."
                raise Refusal(f"{shown(part)} is not a list of rings.", hint, path=(*path, "coordinates", number))
            yield part, (*path, "coordinates", number)
    else:
        _refuse_type(kind, path)


def _list(value: Mapping[str, Any], member: str, path: Path) -> Sequence[Any]:
    """Return a member that must be a list with something in it."""
    found = value.get(member)
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise Refusal(f"{value['type']} without {member}.", f"Give {member}: a list with at least one entry.", path=path)
    _check_count(len(found))
    return found


def _refuse_type(kind: Any, path: Path) -> None:
    """Say why points, lines and misspelt types are no area."""
    if kind in {"Point", "MultiPoint", "LineString", "MultiLineString", "LinearRing"}:
        raise Refusal(f"a {kind} has no area.", "Give a Polygon or MultiPolygon, or a bbox; buffer the point or line first.", path=path)
    hint = f"Allowed: {', '.join(_TYPES)}.{nearest(str(kind), _TYPES)}"
    raise Refusal(f"{shown(kind)} is no GeoJSON type of an area.", hint, path=path)


def _check_crs(crs: Any, path: Path) -> None:
    """Refuse coordinates in another system: read as degrees they would be somewhere else."""
    if crs is None:
        return
    name = crs.get("properties", {}).get("name") if isinstance(crs, Mapping) and isinstance(crs.get("properties", {}), Mapping) else crs
    if str(name).lower() not in _CRS_NAMES:
        hint = "GeoJSON is longitude and latitude on WGS 84 (RFC 7946); a GeoPackage or shapefile may have any CRS."
        raise Refusal(f"the CRS of this GeoJSON is {shown(name)}, not WGS 84.", hint, path=(*path, "crs"))


def _check_count(vertices: int) -> None:
    if vertices > MAX_VERTICES:
        raise Refusal(f"the area has more than {MAX_VERTICES:,} vertices.", "Simplify it first (QGIS: Simplify).")


def _ring(ring: Any, path: Path) -> list[tuple[float, float]]:
    """Return the positions of one closed ring; a third dimension is dropped."""
    if not isinstance(ring, Sequence) or isinstance(ring, str):
        raise Refusal(f"{shown(ring)} is not a ring.", "A ring is a list of [longitude, latitude] positions.", path=path)
    positions = [_position(position, (*path, number)) for number, position in enumerate(ring)]
    if len(positions) < 4:
        hint = "A ring has at least four, the last equal to the first."
        raise Refusal(f"a ring of {len(positions)} positions encloses nothing.", hint, path=path)
    if positions[0] != positions[-1]:
        raise Refusal("the ring is not closed.", "Repeat its first position at the end.", path=path)
    return positions


def _position(position: Any, path: Path) -> tuple[float, float]:
    """Return longitude and latitude after checking that they can be."""
    numbers = isinstance(position, Sequence) and len(position) >= 2 and all(_is_number(value) for value in position[:2])
    if not numbers:
        raise Refusal(f"{shown(position)} is not a position.", "A position is [longitude, latitude], two finite numbers.", path=path)
    x, y = float(position[0]), float(position[1])
    check_longitude(x, path)
    check_latitude(y, path)
    return x + 0.0, y + 0.0  # -0.0 becomes 0.0: one place, one identity


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def check_longitude(x: float, path: Path = ()) -> None:
    """Refuse a longitude outside [-180, 360]."""
    if not -180 <= x <= 360:
        hint = "Longitudes go from -180 to 180 (or 0 to 360) degrees east; metres or feet must be converted first."
        raise Refusal(f"longitude {x:g} is out of range.", hint, path=path)


def check_latitude(y: float, path: Path = ()) -> None:
    """Refuse a latitude outside [-90, 90]."""
    if not -90 <= y <= 90:
        hint = "Latitudes go from -90 to 90 degrees north; the order is longitude, latitude."
        raise Refusal(f"latitude {y:g} is out of range.", hint, path=path)


def normalise(polygons: Sequence[tuple[Sequence[Sequence[tuple[float, float]]], Path]]) -> list[Any]:
    """Return valid polygons within [-180, 180], exterior rings counter-clockwise, in a fixed order.

    Parameters
    ----------
    polygons
        For each the rings (exterior first) and its path in the document.

    Raises
    ------
    InputError
        Where a ring crosses itself or goes round a pole, and where nothing is enclosed.
    """
    if not polygons:
        raise Refusal("the area is empty.", "Give at least one polygon.")
    whole = []
    for rings, path in polygons:
        exterior, *holes = (unwrap(ring, (*path, number)) for number, ring in enumerate(rings))
        polygon = shapely.Polygon(exterior, [_beside(hole, exterior) for hole in holes])
        if shapely.convex_hull(polygon).area == 0:
            raise Refusal(_NOTHING, _SOME_SIZE, path=path)
        if not shapely.is_valid(polygon):
            reason, _, place = shapely.is_valid_reason(polygon).partition("[")
            where = f" near ({place.rstrip(']').replace(' ', ', ')})" if place else ""
            raise Refusal(f"the polygon is not valid: {reason.lower()}{where}.", "Repair it first (QGIS: Fix geometries).", path=path)
        whole.extend(cut(polygon))
    merged = shapely.MultiPolygon(whole)
    if not shapely.is_valid(merged):
        # Overlapping polygons would count their common ground twice; others keep the very numbers that were given.
        merged = shapely.union_all(whole)
    tidy = shapely.orient_polygons(shapely.normalize(merged), exterior_cw=False)
    parts = [part for part in shapely.get_parts(tidy) if part.geom_type == "Polygon"]
    _check_count(int(shapely.get_num_coordinates(tidy)))
    check_size(parts)
    return parts


def check_size(polygons: Sequence[Any]) -> None:
    """Refuse what has no area, and what is larger than any event."""
    size = area_m2(polygons)
    if size < MIN_AREA_M2:
        raise Refusal(_NOTHING, _SOME_SIZE)
    if size > MAX_AREA_M2:
        hint = f"At most {MAX_AREA_M2 / 1e12:,.0f} million km² can be asked for; check the order (west, south, east, north)."
        raise Refusal(f"the area covers {size / 1e12:,.0f} million km².", hint)


def unwrap(ring: Sequence[tuple[float, float]], path: Path = ()) -> list[tuple[float, float]]:
    """Return a ring whose longitudes never jump: an edge longer than half a turn is taken to cross the antimeridian.

    Edges along a pole, and those of exactly a whole turn, are how planar outlines of polar regions are closed; they stay.
    """
    turned = 0.0
    result = [ring[0]]
    for (x0, y0), (x1, y1) in pairwise(ring):
        step = x1 - x0
        if abs(step) > 180 and abs(step) != 360 and not (abs(y0) == 90 and y0 == y1):
            turned -= math.copysign(360, step)
        result.append((x1 + turned if turned else x1, y1))
    if turned:
        hint = "Close it along the pole ([180, 90], [-180, 90]), or give a bbox such as [-180, 80, 180, 90]."
        raise Refusal("the ring goes round a pole without closing.", hint, path=path)
    return result


def _beside(hole: list[tuple[float, float]], exterior: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a hole shifted by whole turns to where its exterior is."""
    west, east = min(x for x, _ in exterior), max(x for x, _ in exterior)
    first, last = min(x for x, _ in hole), max(x for x, _ in hole)
    turn = next((t for t in (0, 360, -360) if west <= first + t and last + t <= east), 0)
    return [(x + turn, y) for x, y in hole] if turn else hole


def cut(polygon: Any) -> list[Any]:
    """Return the parts of a polygon on each turn of the globe, moved into [-180, 180]."""
    west, south, east, north = polygon.bounds
    if west >= -180 and east <= 180:
        return [polygon]
    if east - west > 360:
        raise Refusal("the polygon goes more than once round the globe.", "Give its longitudes from -180 to 180.")
    parts: list[Any] = []
    for turn in range(math.floor((west + 180) / 360), math.floor((east + 180) / 360) + 1):
        strip = shapely.box(-180 + 360 * turn, south, 180 + 360 * turn, north)
        piece = shapely.intersection(polygon, strip)
        moved = shapely.transform(piece, lambda xy, turn=turn: np.column_stack((np.clip(xy[:, 0] - 360 * turn, -180, 180), xy[:, 1])))
        parts.extend(part for part in shapely.get_parts(moved) if part.geom_type == "Polygon" and part.area > 0)
    return parts


def box(west: float, south: float, east: float, north: float) -> list[Any]:
    """Return the polygons of a bounding box; ``west > east`` crosses the antimeridian and gives two."""
    if west > east:
        return [shapely.box(west, south, 180.0, north), shapely.box(-180.0, south, east, north)]
    return [shapely.box(west, south, east, north)]


def extent(polygons: Sequence[Any]) -> tuple[float, float, float, float]:
    """Return west, south, east, north of the narrowest box round polygons; ``west > east`` where it crosses the antimeridian."""
    bounds = shapely.bounds(np.asarray(polygons, dtype=object))
    south, north = float(bounds[:, 1].min()), float(bounds[:, 3].max())
    spans = sorted((float(west), float(east)) for west, east in bounds[:, [0, 2]])
    gap, west, east = spans[0][0] + 360 - max(e for _, e in spans), spans[0][0], max(e for _, e in spans)
    reach = spans[0][1]
    for start, stop in spans[1:]:
        # A gap between two polygons that is wider than the one behind the antimeridian: the box goes the other way.
        if start - reach > gap:
            gap, west, east = start - reach, start, reach
        reach = max(reach, stop)
    return west, south, east, north


def area_m2(polygons: Sequence[Any]) -> float:
    """Return the area on the WGS 84 ellipsoid in square metres."""
    return float(sum(shapely.area(_projected(polygon, _EQUAL_AREA)) for polygon in polygons))


def centroid(polygons: Sequence[Any]) -> tuple[float, float]:
    """Return longitude and latitude of the centre of gravity on the ellipsoid, through an equal-area map around a first guess."""
    west, south, east, north = extent(polygons)
    middle = west + ((east - west) % 360 or 360) / 2
    first = ((middle + 180) % 360 - 180, (south + north) / 2)
    local = f"+proj=laea +lon_0={first[0]!r} +lat_0={first[1]!r} +ellps=WGS84"
    point = shapely.centroid(shapely.MultiPolygon([_projected(polygon, local) for polygon in polygons]))
    if point.is_empty or not math.isfinite(point.x + point.y):
        return first
    x, y = pyproj.Transformer.from_crs(local, "+proj=longlat +ellps=WGS84", always_xy=True).transform(point.x, point.y)
    return float(x), float(y)


def _projected(polygon: Any, crs: str) -> Any:
    """Return a polygon on a map, its edges cut short so that they bend where they should."""
    transformer = pyproj.Transformer.from_crs("+proj=longlat +ellps=WGS84", crs, always_xy=True)
    fine = shapely.segmentize(polygon, _STEP_DEGREES)
    return shapely.transform(fine, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))


def coordinates(polygons: Sequence[Any]) -> tuple[tuple[tuple[tuple[float, float], ...], ...], ...]:
    """Return the coordinates of a GeoJSON MultiPolygon."""
    return tuple(
        tuple(tuple((x, y) for x, y in shapely.get_coordinates(ring).tolist()) for ring in (polygon.exterior, *polygon.interiors))
        for polygon in polygons
    )
