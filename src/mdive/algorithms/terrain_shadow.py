"""Slopes that turn away from the sun: dark ground that looks like water, and cannot hold any."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from mdive.algorithms.mosaic import NONE
from mdive.algorithms.terrain_slope import Azimuth, Elevation, gradient
from mdive.model.plan import Grid
from mdive.plugins import Focal, Window, operation

AWAY: Final = -5.0
"""Degrees. Slope along the sun's direction up to which ground turns away from it, as in DSWx-HLS."""
INCIDENCE: Final = 40.0
"""Degrees between the sun's rays and the normal of the ground, above which ground that turns away is dark, as in DSWx-HLS."""
STEEP: Final = 12.0
"""Degrees. Ground as steep as this is not believed to be water whatever the sun does, as in Water Observations from Space."""

Sun = Annotated[
    tuple[Azimuth, Elevation], Field(description="direction and height of the sun, degrees; direction clockwise from true north")
]
Seconds = Annotated[float, Field(description="seconds since 1970-01-01 UTC")]

J2000: Final = 946_728_000.0
"""Seconds since 1970-01-01 UTC of 2000-01-01 12:00."""


@operation(Focal(1), dtype="bool", working=69)
def terrain_shadow(
    height: np.ndarray, choice: np.ndarray, /, *, sun: Sun | None = None, times: Sequence[Seconds] | None = None, window: Window, grid: Grid
) -> np.ndarray:
    """Where ground is too steep or too far from the sun to be called water.

    Parameters
    ----------
    height
        Terrain height in m, (y, x), NaN where not known.
    choice
        Which of several scenes a pixel is taken from (`mosaic.best_observation`), (y, x).
    sun
        Where the sun stood, in all scenes.
    times
        When each scene was taken: where ``sun`` is not given, it follows from them and the place, for the middle of the grid.

    Returns
    -------
    True where the slope toward the sun is at most ``AWAY`` and the incidence above ``INCIDENCE``, or the slope above ``STEEP``, (y, x). Without
    ``sun`` and ``times`` only the last can be told. False where the slope is not known.

    References
    ----------
    OPERA DSWx-HLS algorithm theoretical basis document (JPL, 2022); Mueller et al. (2016), 10.1016/j.rse.2015.11.003.
    """
    east, north = gradient(height, window, grid)
    square = east * east + north * north
    with np.errstate(invalid="ignore"):
        out: np.ndarray = square > np.tan(np.radians(STEEP)) ** 2
    positions = [sun] if sun is not None else [sun_position(t, *_middle(grid)) for t in times or ()]
    turn = _convergence(grid) if positions else 0.0
    for scene, (azimuth, elevation) in enumerate(positions):
        a, h = np.radians(azimuth + turn), np.radians(elevation)
        toward = -(east * np.sin(a) + north * np.cos(a))
        cosine = (np.sin(h) + np.cos(h) * toward) / np.sqrt(1.0 + square)
        with np.errstate(invalid="ignore"):
            dark = (toward <= np.tan(np.radians(AWAY))) & (cosine < np.cos(np.radians(INCIDENCE)))
        out |= dark & ((choice != NONE) if sun is not None else (choice == scene))
    return out


def epochs(times: Sequence[datetime] | None) -> tuple[float, ...] | None:
    """Return times as seconds since 1970-01-01 UTC; a time without a zone is UTC. None stays None."""
    if times is None:
        return None
    return tuple((t if t.tzinfo is not None else t.replace(tzinfo=UTC)).timestamp() for t in times)


def sun_position(time: float, longitude: float, latitude: float) -> tuple[float, float]:
    """Return azimuth, clockwise from true north, and elevation of the sun in degrees, right to 0.02 degrees from 1950 to 2050.

    Parameters
    ----------
    time
        Seconds since 1970-01-01 UTC.
    longitude, latitude
        Degrees.

    Notes
    -----
    Refraction is left out: it lifts a sun 5 degrees high by 0.2 degrees, and less above.

    References
    ----------
    Michalsky (1988), 10.1016/0038-092X(88)90045-X.
    """
    days = (time - J2000) / 86_400.0
    hours = (time % 86_400.0) / 3_600.0
    g = np.radians(357.528 + 0.9856003 * days)
    ecliptic = np.radians(280.460 + 0.9856474 * days + 1.915 * np.sin(g) + 0.020 * np.sin(2.0 * g))
    tilt = np.radians(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(tilt) * np.sin(ecliptic), np.cos(ecliptic))
    declination = np.arcsin(np.sin(tilt) * np.sin(ecliptic))
    sidereal = np.radians(15.0 * (6.697375 + 0.0657098242 * days + hours) + longitude)
    angle, lat = sidereal - ascension, np.radians(latitude)
    sine = np.sin(declination) * np.sin(lat) + np.cos(declination) * np.cos(lat) * np.cos(angle)
    azimuth = np.arctan2(
        -np.sin(angle) * np.cos(declination), np.sin(declination) * np.cos(lat) - np.cos(declination) * np.sin(lat) * np.cos(angle)
    )
    return float(np.degrees(azimuth)) % 360.0, float(np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0))))


def _middle(grid: Grid) -> tuple[float, float]:
    return _geographic(grid.crs, *_centre(grid))


def _centre(grid: Grid) -> tuple[float, float]:
    return grid.x0 + grid.shape[1] * grid.resolution / 2, grid.y0 - grid.shape[0] * grid.resolution / 2


def _convergence(grid: Grid) -> float:
    """Return the direction of true north in the middle of the grid, degrees clockwise from the grid's north."""
    x, y = _centre(grid)
    longitude, latitude = _geographic(grid.crs, x, y)
    step = 1e-4 if latitude < 0 else -1e-4
    other_x, other_y = _projected(grid.crs, longitude, latitude + step)
    return float(np.degrees(np.arctan2((other_x - x) / step, (other_y - y) / step)))


@lru_cache(maxsize=64)
def _geographic(crs: str, x: float, y: float) -> tuple[float, float]:
    from pyproj import Transformer

    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return float(longitude), float(latitude)


@lru_cache(maxsize=64)
def _projected(crs: str, longitude: float, latitude: float) -> tuple[float, float]:
    from pyproj import Transformer

    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    return float(x), float(y)
