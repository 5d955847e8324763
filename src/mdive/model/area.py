"""Where: the area of an event, in longitude and latitude on WGS 84."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, WithJsonSchema, model_validator

from mdive.model.base import Document
from mdive.model.refusal import Refusal, UserDocument, shown, under

# shapely and pyproj (in mdive.model.geometry) take a quarter of a second to import: that is paid when the first area is made.

BBox = tuple[float, float, float, float]
"""West, south, east, north in degrees."""

Position = tuple[float, float]
"""Longitude and latitude in degrees."""

_FORMS: Final = ("bbox", "geojson", "file")
_ONE_FORM: Final = "Give exactly one: {bbox: [west, south, east, north]}, {geojson: {...}} or {file: outline.gpkg}."
_ORDER: Final = "Give four numbers: west, south, east, north, in degrees."


_THINNEST: Final = 1e-7
"""Degrees below which a side of a box is nothing: a centimetre, finer than any pixel, and far above the rounding of a double."""


class MultiPolygon(Document):
    """A GeoJSON geometry that was checked: valid, two-dimensional, cut at the antimeridian, exterior rings counter-clockwise."""

    type: Literal["MultiPolygon"] = "MultiPolygon"
    coordinates: tuple[tuple[tuple[Position, ...], ...], ...]
    """Polygons, rings (the exterior first), positions (longitude, latitude)."""


def _read_bbox(value: Any) -> BBox:
    """Return a bounding box with longitudes in [-180, 180]; ``west > east`` means that it crosses the antimeridian."""
    from mdive.model import geometry

    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != 4:
        raise Refusal(f"{shown(value)} is not a bounding box.", _ORDER)
    for number, entry in enumerate(value):
        if isinstance(entry, bool) or not isinstance(entry, Real) or not math.isfinite(entry):
            raise Refusal(f"{shown(entry)} is not a number of degrees.", _ORDER, path=(number,))
        (geometry.check_latitude if number % 2 else geometry.check_longitude)(float(entry), (number,))
    west, south, east, north = (float(entry) + 0.0 for entry in value)  # -0.0 becomes 0.0: one place, one identity
    if south > north:
        raise Refusal(f"south ({south:g}) is above north ({north:g}).", _ORDER)
    if east - west > 360:
        raise Refusal(f"the bounding box is {east - west:g} degrees wide.", "At most 360 degrees go round the globe.")
    if east - west == 360:
        west, east = -180.0, 180.0
    # Rounded to a tenth of a millimetre, so that 190.1 and -169.9 are one place.
    west = round(west - 360, 9) if west >= 180 else west
    east = round(east - 360, 9) if east > 180 else east
    east = 180.0 if east == -180 else east
    width = 360.0 if east - west == 360 else (east - west) % 360
    if min(width, north - south) < _THINNEST:
        shape = "a point" if max(width, north - south) < _THINNEST else "a line"
        raise Refusal(f"the bounding box is {shape}: it has no area.", f"{_ORDER} Give it some width and height.")
    geometry.check_size(geometry.box(west, south, east, north))
    return west, south, east, north


def _read_geojson(value: Any) -> MultiPolygon:
    from mdive.model import geometry

    given = value.model_dump() if isinstance(value, MultiPolygon) else value
    return MultiPolygon(coordinates=geometry.coordinates(geometry.read_geojson(given)))


def _read_file(path: Path) -> MultiPolygon:
    from mdive.model import geometry
    from mdive.model.outlines import read_outlines

    return MultiPolygon(coordinates=geometry.coordinates(read_outlines(path)))


_BBOX_SCHEMA: Final[dict[str, Any]] = {
    "type": "array",
    "prefixItems": [{"type": "number", "minimum": low, "maximum": high} for low, high in ((-180, 360), (-90, 90)) * 2],
    "minItems": 4,
    "maxItems": 4,
}
_GEOJSON_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": ["Polygon", "MultiPolygon", "GeometryCollection", "Feature", "FeatureCollection"]}},
}


def _add_forms(schema: dict[str, Any]) -> None:
    """Tell the JSON Schema what the validators know: the third form, and that there is one form only."""
    words = "Path of a GeoJSON file, GeoPackage or shapefile, relative to the document that names it."
    schema["properties"]["file"] = {"type": "string", "minLength": 1, "description": words}
    kinds = {"bbox": "array", "geojson": "object", "file": "string"}
    schema["oneOf"] = [{"required": [form], "properties": {form: {"type": kinds[form]}}} for form in _FORMS]


class Area(UserDocument):
    """An area on the globe, given as a bounding box or as an outline.

    Longitudes and latitudes are degrees on WGS 84. Longitudes from 0 to 360 are accepted and brought to [-180, 180]. A box with
    west > east crosses the antimeridian; so does an outline with an edge longer than 180 degrees. Edges are straight in longitude and
    latitude (GeoJSON). In a document on disk an area can also be {file: outline.gpkg}; what is kept is the outline, not the file's name.

    Examples
    --------
    >>> Area.from_bbox(-0.60, 39.20, -0.20, 39.50)
    Area.from_bbox(-0.6, 39.2, -0.2, 39.5)
    >>> round(Area.from_bbox(0, 60, 1, 61).area_m2 / 1e6)
    6123
    """

    model_config = ConfigDict(json_schema_extra=_add_forms)

    bbox: Annotated[BBox, BeforeValidator(_read_bbox), WithJsonSchema(_BBOX_SCHEMA)] | None = None
    """West, south, east, north in degrees; west > east crosses the antimeridian."""
    geojson: Annotated[MultiPolygon, BeforeValidator(_read_geojson), WithJsonSchema(_GEOJSON_SCHEMA)] | None = None
    """Outline: a GeoJSON Polygon or MultiPolygon, or a Feature, FeatureCollection or GeometryCollection of them."""

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        """Accept a shapely geometry, and read the file of ``{file: ...}``."""
        if isinstance(data, Area):
            return data
        if not isinstance(data, Mapping):
            if hasattr(data, "geom_type"):
                return {"geojson": cls.from_shapely(data).geojson}
            raise Refusal(f"{shown(data)} is not an area.", _ONE_FORM)
        given = [form for form in _FORMS if data.get(form) is not None]
        if len(given) > 1:
            raise Refusal(f"an area in two forms: {given[0]} and {given[1]}.", _ONE_FORM)
        if not given and "type" in data:
            raise Refusal("GeoJSON stands directly under the area.", "Put it one level deeper, under the name geojson.")
        if given == ["file"]:
            from mdive.model.load import beside

            try:
                outline = _read_file(beside(data["file"]))
            except Refusal as error:
                raise under("file", error) from None
            return {name: value for name, value in data.items() if name != "file"} | {"geojson": outline}
        return data

    @model_validator(mode="after")
    def _check_form(self) -> Area:
        if self.bbox is None and self.geojson is None:
            raise Refusal("the area is empty.", _ONE_FORM)
        return self

    @classmethod
    def from_bbox(cls, west: float, south: float, east: float, north: float) -> Area:
        """Return the area of a bounding box in degrees; ``west > east`` crosses the antimeridian."""
        return cls(bbox=(west, south, east, north))

    @classmethod
    def from_geojson(cls, value: Mapping[str, Any]) -> Area:
        """Return the area of a GeoJSON geometry, feature or feature collection, as a mapping."""
        return cls(geojson=value)

    @classmethod
    def from_shapely(cls, outline: Any) -> Area:
        """Return the area of a shapely Polygon or MultiPolygon in longitude and latitude."""
        from mdive.model import geometry

        return cls(geojson=MultiPolygon(coordinates=geometry.coordinates(geometry.read_shapely(outline))))

    @classmethod
    def from_file(cls, path: str | Path) -> Area:
        """Return the area of all polygons in a file: GeoJSON, GeoPackage or shapefile.

        Another CRS than longitude and latitude is converted.
        """
        return cls(geojson=_read_file(Path(path)))

    @property
    def polygons(self) -> list[Any]:
        """The shapely polygons, none of which crosses the antimeridian."""
        from mdive.model import geometry

        if self.bbox is not None:
            return geometry.box(*self.bbox)
        assert self.geojson is not None
        import shapely

        return [shapely.Polygon(exterior, holes) for exterior, *holes in self.geojson.coordinates]

    @property
    def geometry(self) -> Any:
        """The shapely Polygon or MultiPolygon in longitude and latitude, cut at the antimeridian."""
        import shapely

        polygons = self.polygons
        return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)

    @property
    def extent(self) -> BBox:
        """West, south, east, north of the narrowest box around; ``west > east`` where it crosses the antimeridian."""
        from mdive.model import geometry

        return self.bbox if self.bbox is not None else geometry.extent(self.polygons)

    @property
    def bboxes(self) -> tuple[BBox, ...]:
        """The boxes to search: one, or two where the extent crosses the antimeridian, each with ``west < east``."""
        west, south, east, north = self.extent
        return ((west, south, 180.0, north), (-180.0, south, east, north)) if west > east else ((west, south, east, north),)

    @property
    def crosses_antimeridian(self) -> bool:
        """Whether the extent contains the meridian of 180 degrees (polar caps that go all the way round do)."""
        west, _, east, _ = self.extent
        return west > east or east - west == 360

    @property
    def area_m2(self) -> float:
        """Area on the WGS 84 ellipsoid in square metres."""
        from mdive.model import geometry

        return geometry.area_m2(self.polygons)

    @property
    def centroid(self) -> Position:
        """Longitude and latitude of the centre of gravity, right across the antimeridian and over a pole."""
        from mdive.model import geometry

        return geometry.centroid(self.polygons)

    def __repr__(self) -> str:
        if self.bbox is not None:
            return f"Area.from_bbox({', '.join(f'{value:.10g}' for value in self.bbox)})"
        assert self.geojson is not None
        vertices = sum(len(ring) for polygon in self.geojson.coordinates for ring in polygon)
        parts = len(self.geojson.coordinates)
        around = ", ".join(f"{value:.6g}" for value in self.extent)
        return f"<Area: {parts} polygon{'s' * (parts > 1)}, {vertices} vertices, within ({around})>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        west, south, east, north = (f"{value:.6g}°" for value in self.extent)
        rows = {"west, south, east, north": f"{west}, {south}, {east}, {north}", "area": f"{self.area_m2 / 1e6:,.1f} km²"}
        cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table><caption>Area</caption>{cells}</table>"
