"""Chosen passes as the plan keeps them: sources with observations, items and references, and the facts that a planner compares."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import shapely

from mdive.model.address import unsigned
from mdive.model.base import Document
from mdive.model.datasource import Access, Provider
from mdive.model.plan import ItemRef, Observation, Phase, Source
from mdive.providers._items import Rejection, Report
from mdive.providers._metadata import SENSOR_OF
from mdive.providers._ranking import Choice
from mdive.providers._scenes import Pass, Scene

_KEPT: Final = (
    "platform",
    "constellation",
    "instruments",
    "eo:cloud_cover",
    "view:sun_azimuth",
    "view:sun_elevation",
    "view:off_nadir",
    "sat:relative_orbit",
    "sat:absolute_orbit",
    "sat:orbit_state",
    "sar:polarizations",
    "sar:instrument_mode",
    "sar:looks_equivalent_number",
    "s1:datatake_id",
    "s2:datatake_id",
    "s2:processing_baseline",
    "processing:version",
    "earthsearch:boa_offset_applied",
    "grid:code",
    "s2:mgrs_tile",
    "landsat:wrs_path",
    "landsat:wrs_row",
    "landsat:correction",
    "landsat:collection_category",
    "start_datetime",
    "end_datetime",
    "created",
    "updated",
)
"""Properties that decided something, or that an algorithm may ask for (sun, looks); the rest stays in the catalogue."""


class SourceFacts(Document):
    """What a planner needs to compare sources, beside the source itself."""

    title: str
    access: Access = "open"
    offered: int
    """Passes that the catalogue has."""
    chosen: int
    coverage: float
    """Share of the area under the footprints of the chosen passes."""
    clear: float
    """Share of the area that is likely to be seen at least once, by the cloud shares of the scenes."""
    cloud: float | None = None
    """Cloud share of the best pass; None where the catalogue does not tell, and for sensors that see through clouds."""
    platforms: tuple[str, ...] = ()
    relative_orbits: tuple[int, ...] = ()


def comparable(scenes: Sequence[Scene], report: Report) -> list[Scene]:
    """Return the scenes of one source that have what most of them have; report the others.

    The bands of a source are those that all its items share, so one poor item would take a band from all.
    """
    count = Counter(name for scene in scenes for name in scene.reading.assets)
    usual = {name for name, number in count.items() if 2 * number > len(scenes)}
    kept = []
    for scene in scenes:
        missing = sorted(usual - set(scene.reading.assets) - scene.reading.minor)
        if missing:
            reason = f"it lacks {', '.join(missing)}, which the other items have"
            report(Rejection(item=scene.item.id, collection=scene.item.collection_id, reason=reason))
        else:
            kept.append(scene)
    return kept


def make_source(name: str, phase: Phase, choice: Choice, provider: Provider | None) -> Source:
    """Return chosen passes as a source."""
    scenes = sorted((scene for found in choice.passes for scene in found.scenes), key=lambda scene: scene.order)
    masks = [scene.reading.mask for scene in scenes]
    mask = masks[0] if all(each == masks[0] for each in masks) else None
    common = frozenset.intersection(*(scene.reading.bands for scene in scenes))
    bands = tuple(band for band in SENSOR_OF if band in common)
    return Source(
        name=name,
        phase=phase,
        sensor=scenes[0].reading.sensor,
        bands=bands,
        mask=mask,
        observations=_observations(choice.passes),
        items=tuple(_item_ref(scene, (*bands, mask.band) if mask else bands, provider) for scene in scenes),
    )


def make_facts(choice: Choice, offered: int) -> SourceFacts:
    """Return the facts of a source."""
    scenes = [scene for found in choice.passes for scene in found.scenes]
    return SourceFacts(
        title=scenes[0].reading.title,
        access=scenes[0].reading.access,
        offered=offered,
        chosen=len(choice.passes),
        coverage=round(choice.coverage, 4),
        clear=round(choice.clear, 4),
        cloud=_rounded(choice.passes[0].cloud),
        platforms=tuple(sorted({scene.platform for scene in scenes if scene.platform})),
        relative_orbits=tuple(sorted({scene.orbit for scene in scenes if scene.orbit is not None})),
    )


def _observations(chosen: Sequence[Pass]) -> tuple[Observation, ...]:
    found = []
    for each in chosen:
        first = each.scenes[0]
        properties = {
            "platform": first.platform or None,
            "sat:relative_orbit": first.orbit,
            "sat:orbit_state": first.get("sat:orbit_state"),
            "eo:cloud_cover": None if each.cloud is None else round(100.0 * each.cloud, 2),
            "mdive:coverage": round(each.coverage, 4),
        }
        parts = (f"{each.start:%Y%m%dT%H%M%SZ}", first.platform, "" if first.orbit is None else f"r{first.orbit:03d}")
        found.append(
            Observation(
                id="_".join(part for part in parts if part),
                datetime=each.start,
                items=tuple(scene.item.id for scene in each.scenes),
                properties={name: value for name, value in properties.items() if value is not None},
            )
        )
    return tuple(found)


def _item_ref(scene: Scene, bands: Sequence[str], provider: Provider | None) -> ItemRef:
    item = scene.item
    home = item.get_self_href()
    properties = {name: item.properties[name] for name in _KEPT if _plain(item.properties.get(name))}
    properties |= scene.reading.decided
    if provider is not None and provider.signing is not None:
        properties["mdive:signing"] = provider.signing
    return ItemRef(
        id=item.id,
        collection=item.collection_id or scene.reading.source,
        datetime=scene.start,
        geometry=json.loads(shapely.to_geojson(scene.footprint)),
        assets={band: scene.reading.assets[band] for band in bands},
        properties=properties,
        href=unsigned(home) if home else None,
    )


def _plain(value: Any) -> bool:
    """Return whether a value can stand in a document: a finite number, a text, or a list of them."""
    if isinstance(value, list):
        return all(_plain(v) for v in value)
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def names_of(groups: Mapping[tuple[str, str], Any]) -> dict[tuple[str, str], str]:
    """Return the name of each (collection, sensor) group: the collection's, with the sensor where one collection mixes several."""
    mixed = {name for name, number in Counter(collection for collection, _ in groups).items() if number > 1}
    plain = {key: key[0].replace("/", "-") for key in groups}
    return {key: f"{plain[key]}-{key[1]}" if key[0] in mixed else plain[key] for key in groups}
