"""The target grid: mdive's own, in a projection that does not cut the area, snapped to multiples of the pixel; never guessed from items."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
import shapely.affinity
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.pipeline.window import Window

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

UTM_HALF_WIDTH = 4.0
"""Degrees of arc (at the equator) from the middle of an area to its side up to which UTM is used.

At 4 degrees from the central meridian the scale of UTM is 1.002, so that areas are 0.4 % too large; an area in the corner of its zone may
reach 7 degrees (1.2 %). Wider areas get an equal-area projection.
"""

UTM_LATITUDES = (-80.0, 84.0)
"""Where UTM ends by its definition; beyond it the universal polar stereographic grid takes over."""

LARGEST_RADIUS = 3.3e6
"""Metres from the centre of the area to its farthest point (30 degrees of arc): beyond it a Lambert azimuthal projection bends angles and
lengths by more than 3.5 %, and a window of so many metres is no longer a window of so many pixels."""

SCALE_TOLERANCE = 0.1
"""Largest departure of a pixel's true edge from its nominal edge in a CRS that the user chose. UTM even two zones off stays below 2 %;
Web Mercator exceeds 10 % from 24 degrees of latitude on."""

USE_MARGIN = 6.0
"""Degrees beyond its area of use up to which a CRS that the user chose is accepted: one UTM zone to either side. Farther out a projection
may still give numbers, upside down even, and they mean nothing."""

SNAP_TOLERANCE = 1e-6
"""Part of a pixel by which a bound may miss a multiple of the pixel and still count as being on it (rounding of the projection)."""

EDGE_STEP = 0.01
"""Longest piece, in degrees, into which edges in longitude and latitude are cut before they are projected: a parallel is an arc on the
grid, and over 1.1 km its sagitta is 2.4 cm times the tangent of the latitude."""


def make_grid(geometry: BaseGeometry, resolution_m: float, crs: str | None = None) -> Grid:
    """Return the grid that covers an area.

    Parameters
    ----------
    geometry
        Area in longitude and latitude (WGS 84); a multipolygon where it was split at the antimeridian.
    resolution_m
        Edge of a pixel in metres.
    crs
        Projected CRS in metres. By default the UTM zone of the area's centroid, also across the antimeridian; the universal polar
        stereographic grid beyond UTM; a Lambert azimuthal equal-area projection centred on the area where it is too wide for UTM.

    Returns
    -------
    Grid
        North-up, square pixels, edges on multiples of ``resolution_m``, covering the area's bounds.

    Raises
    ------
    InputError
        If the area is empty or too wide, the resolution is not positive, or the CRS is unknown, geographic, not in metres or does not
        fit the place.
    """
    if not (math.isfinite(resolution_m) and resolution_m > 0):
        raise InputError(f"A resolution of {resolution_m} m was asked for.", "Give a positive number of metres.")
    area = unwrapped(_checked(geometry))
    name = local_crs(area) if crs is None else _accepted_crs(crs, area)
    x, y = _boundary(area, name)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(f"The area cannot be drawn in {name}.", "Leave the CRS out, or choose one that is valid there.")
    columns = _snapped(float(x.min()), float(x.max()), resolution_m)
    rows = _snapped(-float(y.max()), -float(y.min()), resolution_m)
    return Grid(
        crs=name,
        resolution=resolution_m,
        x0=columns[0] * resolution_m,
        y0=-rows[0] * resolution_m,
        shape=(rows[1] - rows[0], columns[1] - columns[0]),
    )


def to_geobox(grid: Grid, window: Window | None = None) -> GeoBox:
    """Return the grid, or a window of it, as a GeoBox with shape (rows, columns)."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    window = window or Window(0, 0, *grid.shape)
    res = grid.resolution
    transform = Affine(res, 0.0, grid.x0 + window.col * res, 0.0, -res, grid.y0 - window.row * res)
    return GeoBox(window.shape, transform, grid.crs)


def local_crs(area: BaseGeometry) -> str:
    """Return the projection for an area in unwrapped longitude and latitude (see `make_grid`)."""
    west, south, east, north = area.bounds
    centre = area.centroid
    lon = (centre.x + 180.0) % 360.0 - 180.0
    if north > UTM_LATITUDES[1]:
        return "EPSG:5041"
    if south < UTM_LATITUDES[0]:
        return "EPSG:5042"
    nearest_equator = 0.0 if south <= 0.0 <= north else min(abs(south), abs(north))
    if (east - west) / 2 * math.cos(math.radians(nearest_equator)) > UTM_HALF_WIDTH:
        return f"+proj=laea +lat_0={round(centre.y)} +lon_0={round(lon)} +datum=WGS84 +units=m +no_defs"
    return f"EPSG:{(32600 if centre.y >= 0.0 else 32700) + utm_zone(lon, centre.y)}"


def utm_zone(lon: float, lat: float) -> int:
    """Return the UTM zone (1 to 60), with the widened zones of Norway and Svalbard, in which the scenes there are delivered too."""
    if 56.0 <= lat < 64.0 and 3.0 <= lon < 12.0:
        return 32
    if 72.0 <= lat <= 84.0 and 0.0 <= lon < 42.0:
        return next(zone for zone, east in ((31, 9.0), (33, 21.0), (35, 33.0), (37, 42.0)) if lon < east)
    return min(int((lon + 180.0) // 6.0) + 1, 60)


def unwrapped(geometry: BaseGeometry) -> BaseGeometry:
    """Return an area that was split at the antimeridian with its western pieces moved to longitudes beyond 180."""
    west, _, east, _ = geometry.bounds
    parts = shapely.get_parts(geometry)
    if east - west <= 180.0 or len(parts) == 1:
        return geometry
    moved = shapely.multipolygons([shapely.affinity.translate(p, 360.0) if p.bounds[2] <= 0.0 else p for p in parts])
    return moved if moved.bounds[2] - moved.bounds[0] < east - west else geometry


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> pyproj.Transformer:
    """Return the (thread-safe) transformer between two CRSs, x before y on both sides."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=256)
def same_crs(a: str, b: str) -> bool:
    """Return whether two CRS texts mean the same coordinates."""
    return a == b or bool(pyproj.CRS.from_user_input(a).equals(pyproj.CRS.from_user_input(b), ignore_axis_order=True))


def _checked(geometry: BaseGeometry) -> BaseGeometry:
    if geometry.is_empty or not geometry.area > 0:
        raise InputError(f"The area is an empty or flat {geometry.geom_type}.", "Give a polygon that encloses some ground.")
    west, south, east, north = geometry.bounds
    if not (west >= -360.0 and east <= 360.0 and south >= -90.0 and north <= 90.0):
        raise InputError(
            f"The area reaches from ({west:g}, {south:g}) to ({east:g}, {north:g}), which is not longitude and latitude.",
            "Give degrees: longitude first, -180 to 180, then latitude, -90 to 90.",
        )
    return geometry


def _boundary(area: BaseGeometry, crs: str) -> tuple[np.ndarray, np.ndarray]:
    lon, lat = shapely.get_coordinates(shapely.segmentize(area, EDGE_STEP)).T
    to_grid = transformer("EPSG:4326", crs)
    x, y = to_grid.transform(lon, lat)
    if np.isfinite(x).all() and "+proj=laea" in crs:
        cx, cy = to_grid.transform(area.centroid.x, area.centroid.y)
        radius = float(np.hypot(x - cx, y - cy).max())
        if radius > LARGEST_RADIUS:
            raise InputError(
                f"The area reaches {radius / 1e3:,.0f} km from its centre; one grid covers at most {LARGEST_RADIUS / 1e3:,.0f} km.",
                "Split the area.",
            )
    return np.asarray(x), np.asarray(y)


def _snapped(low: float, high: float, step: float) -> tuple[int, int]:
    first = math.floor(low / step + SNAP_TOLERANCE)
    return first, max(math.ceil(high / step - SNAP_TOLERANCE), first + 1)


def _accepted_crs(text: str, area: BaseGeometry) -> str:
    try:
        crs = pyproj.CRS.from_user_input(text)
    except CRSError:
        raise InputError(f"The CRS {text!r} is unknown.", "Give a projected CRS such as 'EPSG:32630', or leave it out.") from None
    if not crs.is_projected:
        raise InputError(
            f"The CRS {text!r} ({crs.name}) is not a map projection, so a pixel would have no size in metres.",
            "Give a projected CRS such as 'EPSG:32630', or leave it out.",
        )
    units = {axis.unit_name for axis in crs.axis_info if axis.unit_conversion_factor != 1.0}
    if units:
        raise InputError(f"The CRS {text!r} ({crs.name}) counts in {', '.join(sorted(units))}.", "Give a CRS in metres, or leave it out.")
    _check_place(text, crs, area)
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else _written(text, crs)


def _written(text: str, crs: pyproj.CRS) -> str:
    """Return a CRS without a number as WKT that says all of its parameters: readers of CF attributes ask for each of them."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PROJ strings lose names; it is the numbers that count
        spelt_out = crs.to_proj4()
    for candidate in (crs, pyproj.CRS.from_user_input(spelt_out)):
        try:
            candidate.to_cf()
        except KeyError:
            continue
        return str(candidate.to_wkt())
    raise InputError(f"The CRS {text[:60]!r} lacks parameters that files must name.", "Give it as EPSG:n or as a PROJ string.")


def _check_place(text: str, crs: pyproj.CRS, area: BaseGeometry) -> None:
    hint = "Leave the CRS out, or choose one made for that place."
    centre, use = area.centroid, crs.area_of_use
    if use is not None:
        span, offset = (use.east - use.west) % 360.0 or 360.0, (centre.x - use.west + USE_MARGIN) % 360.0
        if offset > span + 2 * USE_MARGIN or not use.south - USE_MARGIN <= centre.y <= use.north + USE_MARGIN:
            raise InputError(
                f"The CRS {text!r} ({crs.name}) is made for {use.west:g} to {use.east:g} east, {use.south:g} to {use.north:g} north;"
                f" the area lies at {centre.x:.1f}, {centre.y:.1f}.",
                hint,
            )
    west, south, east, north = area.bounds
    try:
        factors = pyproj.Proj(crs).get_factors([centre.x, west, east, west, east], [centre.y, south, south, north, north], errcheck=True)
    except ProjError:
        raise InputError(f"The area lies outside the CRS {text!r}.", hint) from None
    scales = [*np.atleast_1d(factors.meridional_scale), *np.atleast_1d(factors.parallel_scale)]
    worst = max(abs(math.log(scale)) for scale in scales)
    if not worst <= math.log1p(SCALE_TOLERANCE):
        raise InputError(f"In {text!r} lengths at the area are wrong by a factor of {math.exp(worst):.2f}.", hint)
