"""Items as scenes over an area: duplicates of reprocessing removed, the rest grouped into what one sensor saw in one pass."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from mdive.model.datasource import Sensor
from mdive.providers._extent import surface
from mdive.providers._items import Rejection, Report
from mdive.providers._refs import Reading

SAME_PASS: Final = timedelta(minutes=30)
"""Longest gap between two scenes of one radar pass: a satellite crosses a hemisphere in less, and comes back to the orbit after days."""

COVERED: Final = 0.99
"""Share of an older processing that the newer one must cover to replace it: granules of two data strips share all names, not the ground."""

_TILES: Final = (
    ("grid:code",),
    ("s2:mgrs_tile",),
    ("mgrs:utm_zone", "mgrs:latitude_band", "mgrs:grid_square"),
    ("landsat:wrs_path", "landsat:wrs_row"),
)
"""Properties that name a scene's place in a tiling, whichever is there."""

_TIERS: Final = {"RT": 0, "T2": 1, "T1": 2}
"""Landsat collection categories by quality: a real-time scene is replaced by its final one."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An item that can be read, and its part of the area."""

    item: pystac.Item
    reading: Reading
    footprint: BaseGeometry
    """In longitude and latitude."""
    part: BaseGeometry
    """Of the area that it covers, in the equal-area plane."""
    start: datetime
    end: datetime

    @property
    def order(self) -> tuple[datetime, str]:
        """Sorting key."""
        return self.start, self.item.id

    def get(self, *names: str) -> Any:
        """Return the first of some properties that is there, or None."""
        return next((value for name in names if (value := self.item.properties.get(name)) is not None), None)

    @property
    def platform(self) -> str:
        """In lower case with hyphens; empty where the item does not tell."""
        return re.sub(r"[\s_]+", "-", str(self.get("platform") or "").strip().lower())

    @property
    def orbit(self) -> int | None:
        """Relative orbit."""
        value = self.get("sat:relative_orbit")
        return value if isinstance(value, int) else None

    @property
    def cloud(self) -> float | None:
        """Share of the scene under cloud, 0 to 1; None where the item does not tell."""
        value = self.get("eo:cloud_cover")
        return min(max(value / 100.0, 0.0), 1.0) if isinstance(value, int | float) and value >= 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one sensor saw of the area in one pass."""

    scenes: tuple[Scene, ...]
    """In mosaic order."""
    part: BaseGeometry
    """Of the area that they cover together, in the equal-area plane."""
    coverage: float
    """Share of the area, 0 to 1."""
    cloud: float | None
    """Share of what is covered, 0 to 1; None where no scene tells."""

    @property
    def start(self) -> datetime:
        """Of the first scene."""
        return min(scene.start for scene in self.scenes)

    @property
    def order(self) -> tuple[datetime, str]:
        """Sorting key: (datetime, id)."""
        return min(scene.order for scene in self.scenes)

    @property
    def orbit(self) -> int | None:
        """Relative orbit."""
        return self.scenes[0].orbit

    @property
    def geometry(self) -> tuple[int | None, str | None]:
        """Relative orbit and flight direction: what a radar sees of hills and houses depends on both."""
        return self.orbit, self.scenes[0].get("sat:orbit_state")

    @property
    def instruments(self) -> tuple[str, ...]:
        """Names, in lower case."""
        names = self.scenes[0].get("instruments")
        return tuple(sorted(str(n).lower() for n in names)) if isinstance(names, list) else ()


def without_duplicates(scenes: Iterable[Scene], report: Report) -> list[Scene]:
    """Return the scenes without older processings of the same acquisition; report what is left out.

    The newest one stays: highest processing baseline, best category, latest processing. An older one also stays where the newer does not
    cover it.
    """
    groups: dict[tuple[Any, ...], list[Scene]] = defaultdict(list)
    for scene in scenes:
        groups[_acquisition(scene)].append(scene)
    kept: list[Scene] = []
    for group in groups.values():
        newest: list[Scene] = []
        for scene in sorted(group, key=_edition, reverse=True):
            better = next((other for other in newest if _covers(other, scene)), None)
            if better is None:
                newest.append(scene)
            else:
                reason = f"it is another processing of {better.item.id}"
                report(Rejection(item=scene.item.id, collection=scene.item.collection_id, reason=reason))
        kept += newest
    return sorted(kept, key=lambda scene: scene.order)


def _acquisition(scene: Scene) -> tuple[Any, ...]:
    """Return what two processings of one acquisition have in common."""
    tile = next((tuple(str(scene.get(n)) for n in names) for names in _TILES if all(scene.get(n) is not None for n in names)), ())
    take = re.sub(r"_N\d\d\.\d\d$", "", str(scene.get("s2:datatake_id") or ""))
    if scene.reading.static:
        when = ""
    elif scene.get("landsat:wrs_row") is not None:
        # The final processing refines the orbit, and with it the centre time; a path and row is passed once a day.
        when = scene.start.date().isoformat()
    else:
        when = take or str(scene.get("start_datetime") or scene.start.isoformat())[:19]
    return scene.reading.source, scene.platform, tile, when, tuple(sorted(scene.reading.bands))


def _edition(scene: Scene) -> tuple[Any, ...]:
    """Return the sorting key of processings, oldest first."""
    baseline = re.fullmatch(r"(\d+)\.(\d+)", str(scene.get("s2:processing_baseline", "processing:version") or ""))
    return (
        (int(baseline[1]), int(baseline[2])) if baseline else (0, 0),
        _TIERS.get(str(scene.get("landsat:collection_category")), 0),
        str(scene.get("s2:generation_time", "processing:datetime") or ""),
        scene.end if scene.reading.static else scene.start,
        str(scene.get("updated", "created") or ""),
        scene.item.id,
    )


def _covers(newer: Scene, older: Scene) -> bool:
    return surface(shapely.intersection(newer.part, older.part)) >= COVERED * surface(older.part)


def passes(scenes: Sequence[Scene], sensor: Sensor, area: BaseGeometry, longitude: float) -> list[Pass]:
    """Group scenes into passes, sorted by (datetime, id).

    Radar scenes belong together when they are of one platform and relative orbit and follow each other closely; scenes of other sensors
    when they are of one platform and one solar day at the area's longitude (a UTC day ends in the middle of the morning over the Pacific).

    Parameters
    ----------
    scenes
        Without duplicates.
    sensor
        What took them.
    area
        In the equal-area plane.
    longitude
        Of the middle of the area, degrees.
    """
    groups: dict[tuple[Any, ...], list[Scene]] = defaultdict(list)
    last: dict[tuple[str, str], tuple[datetime, int]] = {}
    for scene in sorted(scenes, key=lambda scene: scene.order):
        if sensor == "sar":
            track = scene.platform, str(scene.get("sat:relative_orbit", "sat:absolute_orbit", "s1:datatake_id") or "")
            before, number = last.get(track, (scene.start, 0))
            number += scene.start - before > SAME_PASS
            last[track] = scene.start, number
            groups[(*track, number)].append(scene)
        else:
            groups[scene.platform, solar_day(scene.start, longitude)].append(scene)
    return sorted((make_pass(group, area) for group in groups.values()), key=lambda found: found.order)


def solar_day(moment: datetime, longitude: float) -> str:
    """Return the local solar date of a moment: four minutes of time for each degree of longitude."""
    return (moment + timedelta(minutes=4.0 * longitude)).date().isoformat()


def make_pass(scenes: Sequence[Scene], area: BaseGeometry) -> Pass:
    """Return scenes as one pass, in the given order."""
    part = shapely.union_all([scene.part for scene in scenes])
    told = [(surface(scene.part), scene.cloud) for scene in scenes if scene.cloud is not None]
    weight = sum(size for size, _ in told)
    return Pass(
        scenes=tuple(scenes),
        part=part,
        coverage=min(surface(part) / surface(area), 1.0),
        cloud=sum(size * cloud for size, cloud in told) / weight if weight > 0 else None,
    )
