"""Outlines of areas in files: GeoJSON, GeoPackage, shapefile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely

from mdive.model.geometry import MAX_VERTICES, read_geojson, read_shapely
from mdive.model.load import load_mapping
from mdive.model.refusal import Refusal, dotted

MAX_GEOJSON_BYTES: Final[int] = 16_000_000
"""Largest GeoJSON file: ten thousand corners take one megabyte, the rest is room for attributes."""

MAX_FEATURES: Final[int] = 2_500
"""Most features: each has at least four vertices, so more cannot be within ``MAX_VERTICES``."""

_MAGIC: Final[dict[str, bytes]] = {".gpkg": b"SQLite format 3\x00", ".shp": b"\x00\x00\x27\x0a"}
"""How a file of each kind begins. GDAL looks into files, not at their names: a VRT named ``.gpkg`` could send it anywhere."""

_STEP_METRES: Final[float] = 10_000.0
"""Longest edge of a projected outline before it is converted: a straight line of 10 km leaves the map's line by 2 m (L²/8R)."""


def read_outlines(path: Path) -> list[Any]:
    """Return the polygons of a file in longitude and latitude, as ``mdive.model.geometry`` normalises them.

    Raises
    ------
    InputError
        For a file that is missing, of another kind, broken, without a CRS or without polygons.
    """
    suffix = path.suffix.lower()
    if suffix in {".json", ".geojson"}:
        try:
            return read_geojson(load_mapping(path, max_bytes=MAX_GEOJSON_BYTES))
        except Refusal as error:
            raise _in_file(path, error) from None
    if suffix not in _MAGIC:
        raise Refusal(f"{path.name!r} is not a kind of file that outlines are read from.", "Allowed: .geojson, .json, .gpkg, .shp.")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Refusal(f"{str(path)!r} cannot be read: {reason}.", "Paths are relative to the document that names them.") from None
    if not start.startswith(_MAGIC[suffix]):
        raise Refusal(f"{path.name!r} is not a {suffix} file inside.", "Export the outline again, or give it as GeoJSON.")
    try:
        return read_shapely(_read_vector(path))
    except Refusal as error:
        raise _in_file(path, error) from None


def _in_file(path: Path, error: Refusal) -> Refusal:
    """Return an error that says in which file it is, and where in it."""
    if path.name in error.message:
        return error
    first = error.problems[0]
    where = f"{path.name}: {dotted(first.path)}" if first.path else path.name
    return Refusal(f"{where}: {first.message}", first.hint)


def _read_vector(path: Path) -> Any:
    """Return the geometries of a GeoPackage or shapefile in longitude and latitude."""
    import geopandas

    try:
        layers = geopandas.list_layers(path)["name"].tolist()
        frame: Any = geopandas.read_file(path, columns=[], rows=MAX_FEATURES + 1, engine="pyogrio") if len(layers) == 1 else None
    except (RuntimeError, ValueError, shapely.GEOSException) as error:
        raise Refusal(f"GDAL cannot read it: {error}.", "Export the outline again, or give it as GeoJSON.") from None
    if len(layers) > 1:
        raise Refusal(f"it has {len(layers)} layers.", "Keep only the layer with the outline in the file.")
    shapes = [shape for shape in frame.geometry if shape is not None and not shape.is_empty] if hasattr(frame, "geometry") else []
    if not shapes:
        raise Refusal("there is no geometry in it.", "Export the layer with the outline.")
    if len(frame) > MAX_FEATURES or sum(shapely.get_num_coordinates(shapes)) > MAX_VERTICES:
        raise Refusal(f"more than {MAX_VERTICES:,} vertices.", "Dissolve and simplify the outline first.")
    if frame.crs is None:
        hint = "Add one (a shapefile needs its .prj), or give the outline as GeoJSON in longitude and latitude."
        raise Refusal("it has no CRS.", hint)
    series = geopandas.GeoSeries(shapely.force_2d(shapes), crs=frame.crs)
    if frame.crs.is_projected:
        series = series.segmentize(_STEP_METRES / frame.crs.axis_info[0].unit_conversion_factor)
    try:
        converted = series.to_crs(4326)
    except RuntimeError as error:
        raise Refusal(f"its CRS ({frame.crs.name}) cannot be converted: {error}.", "Give the outline in longitude and latitude.") from None
    if not np.isfinite(converted.total_bounds).all():
        raise Refusal(f"its coordinates do not fit its CRS ({frame.crs.name}).", "Set the CRS that the coordinates are in.")
    return shapely.GeometryCollection([part for shape in converted for part in shapely.get_parts(shape)])
