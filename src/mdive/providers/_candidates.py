"""From a catalogue, an area and time windows to the sources that a plan can choose from, and why the rest was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from mdive.errors import InputError
from mdive.model.base import Document
from mdive.model.plan import Phase, Source
from mdive.providers._catalog import Catalog
from mdive.providers._extent import UnusableError, centre_longitude, equal_area, footprint, interval, normalise, surface
from mdive.providers._items import Rejection, Report
from mdive.providers._library import datasources, static_collections
from mdive.providers._ranking import Choice, choose
from mdive.providers._reading import read_item
from mdive.providers._refs import Reading
from mdive.providers._scenes import Pass, Scene, make_pass, passes, without_duplicates
from mdive.providers._sources import SourceFacts, comparable, make_facts, make_source, names_of

Window = tuple[datetime, datetime]

PHASES: Final[tuple[Phase, ...]] = ("post", "pre", "static")
"""In the order in which they are decided: what came after the event says which pass before it compares best."""

SLIVER: Final = 0.001
"""Share of the area below which an item is left out, if that is also a small part (``EDGE``) of the item itself."""

EDGE: Final = 0.01
"""Share of an item: less of it lies in the area only where a neighbour's overlap already covers the place."""

MAX_OBSERVATIONS: Final = 8
"""Passes per source and phase: with half of each scene under cloud, eight leave less than 1 % of a covered area unseen."""

_ACCESS: Final = {"open": 0, "signed": 1, "account": 2}


class Candidates(Document):
    """What a catalogue offers for an event."""

    catalog: str
    sources: tuple[Source, ...]
    """By phase (post, pre, static), then best first: open before signed before paid, then by the share of the area likely to be seen."""
    facts: dict[str, SourceFacts]
    """By the source's key."""
    rejected: tuple[Rejection, ...]
    """What was offered and left out, and why; sorted, each once."""


def candidates(
    catalog: Catalog,
    geometry: BaseGeometry,
    windows: Mapping[Phase, Window | None],
    *,
    collections: Sequence[str] | None = None,
    max_observations: int = MAX_OBSERVATIONS,
) -> Candidates:
    """Search a catalogue and return the sources that an event could be analysed with.

    Parameters
    ----------
    catalog
        From ``open_catalog``.
    geometry
        Area in longitude and latitude.
    windows
        Phase -> (start, end), inclusive, with time zones. A phase that is not there is not searched; ``pre`` or ``post`` with None neither;
        ``static`` needs no window.
    collections
        Ids to search; None for all that are known to be useful (or all of a catalogue in files).
    max_observations
        Most passes per source and phase.

    Returns
    -------
    Candidates
        The same value for the same items, in whatever order the catalogue gives them.

    Raises
    ------
    InputError
        For an empty area or a window that is naive or reversed.
    CatalogError
        When the catalogue cannot be searched.
    """
    _check(geometry, windows, max_observations)
    rejected: set[Rejection] = set()
    search = _Search(catalog, normalise(geometry), collections, rejected.add)
    onset = next((w[0] for w in (windows.get("post"),) if w), None) or next((w[1] for w in (windows.get("pre"),) if w), None)
    scenes = {phase: search.scenes(phase, windows[phase]) for phase in PHASES if phase in windows and (phase == "static" or windows[phase])}
    seen_after = {scene.item.id for scene in scenes.get("post", ())}
    if "pre" in scenes:
        # Where the windows touch, an acquisition of that very moment shows the event.
        scenes["pre"] = [scene for scene in scenes["pre"] if scene.item.id not in seen_after]
    sources = list(_sources(scenes, search, onset, max_observations))
    ordered = sorted(sources, key=lambda found: (PHASES.index(found[0].phase), *found[2], found[0].name))
    return Candidates(
        catalog=catalog.name,
        sources=tuple(source for source, _, _ in ordered),
        facts={source.key: facts for source, facts, _ in ordered},
        rejected=tuple(sorted(rejected, key=lambda r: (r.collection or "", r.item or "", r.reason))),
    )


def _check(geometry: BaseGeometry, windows: Mapping[Phase, Window | None], limit: int) -> None:
    if geometry.is_empty or surface(geometry) == 0.0:
        raise InputError("the area is empty: it has no surface.", "Give a polygon or a bounding box.")
    for phase, window in windows.items():
        if window is None:
            continue
        start, end = window
        if start.tzinfo is None or end.tzinfo is None:
            raise InputError(f"the {phase} window has no time zone.", "Give both ends in UTC.")
        if start > end:
            raise InputError(f"the {phase} window ends ({end:%Y-%m-%d %H:%M}) before it starts ({start:%Y-%m-%d %H:%M}).", "Swap its ends.")
    if limit < 1:
        raise InputError(f"max_observations is {limit}.", "It must be at least 1.")


class _Search:
    """One area in one catalogue."""

    def __init__(self, catalog: Catalog, geometry: BaseGeometry, collections: Sequence[str] | None, report: Report) -> None:
        self.catalog = catalog
        self.geometry = geometry
        self.area = equal_area(geometry)
        self.longitude = centre_longitude(geometry)
        self.report = report
        self._wanted = collections
        shapely.prepare(self.area)

    def scenes(self, phase: Phase, window: Window | None) -> list[Scene]:
        """Return what can be read of a phase, without duplicates."""
        start, end = window if window is not None and phase != "static" else (None, None)
        wanted = self._collections(phase)
        if wanted is not None and not wanted:
            return []
        items = self.catalog.search(self.geometry, start, end, wanted, report=self.report)
        found = [scene for item in items if (scene := self._scene(item, phase, start, end)) is not None]
        return without_duplicates(found, self.report)

    def _collections(self, phase: Phase) -> tuple[str, ...] | None:
        """Return the collections to search; None for all."""
        static = phase == "static"
        provider = self.catalog.provider
        known = static_collections()
        if self._wanted is not None:
            return tuple(self._wanted) if self.catalog.bounded else tuple(c for c in self._wanted if (c in known) == static)
        if provider is not None:
            for source in provider.datasources:
                for collection in source.collections if source.refuse and not static else ():
                    self.report(Rejection(collection=collection, reason=source.refuse or ""))
            return tuple(c for source in provider.datasources if not source.refuse and source.static == static for c in source.collections)
        if static and not self.catalog.bounded:
            # Everything that an archive holds of a place, at any time, is more than anybody wants; known collections are not.
            return tuple(c for c in self.catalog.collections() if c in known)
        return None

    def _scene(self, item: pystac.Item, phase: Phase, start: datetime | None, end: datetime | None) -> Scene | None:
        """Return an item as a scene, or None (reported) where it cannot be used for the phase."""
        try:
            reading = read_item(item, self.catalog.provider)
            return self._place(item, reading, phase, start, end) if reading.static == (phase == "static") else None
        except UnusableError as error:
            # The static search of a catalogue in files sees all its items, at all times; what those cannot do there is nobody's concern.
            if phase != "static" or item.collection_id in static_collections():
                self.report(Rejection(item=item.id, collection=item.collection_id, reason=str(error)))
            return None

    def _place(self, item: pystac.Item, reading: Reading, phase: Phase, start: datetime | None, end: datetime | None) -> Scene:
        """Return an item with its time and its part of the area."""
        first, last = interval(item)
        if phase != "static" and ((start is not None and first < start) or (end is not None and last > end)):
            raise UnusableError(f"it mixes moments inside and outside of the {phase} window")
        assert item.geometry is not None
        outline = footprint(item.geometry)
        whole = equal_area(outline)
        part = shapely.intersection(whole, self.area)
        size = surface(part)
        if size == 0.0 or (size < SLIVER * surface(self.area) and size < EDGE * surface(whole)):
            raise UnusableError("it covers next to nothing of the area")
        return Scene(item, reading, outline, part, first, last)

    def passes(self, scenes: Sequence[Scene]) -> list[Pass]:
        """Group the scenes of one source."""
        if scenes[0].reading.static:
            # No time, one mosaic: the newest edition on top.
            newest_first = sorted(sorted(scenes, key=lambda scene: scene.item.id), key=lambda scene: scene.end, reverse=True)
            return [make_pass(newest_first, self.area)]
        return passes(scenes, scenes[0].reading.sensor, self.area, self.longitude)


def _sources(
    scenes: Mapping[Phase, Sequence[Scene]], search: _Search, onset: datetime | None, limit: int
) -> Iterator[tuple[Source, SourceFacts, tuple[float, ...]]]:
    """Yield each source with its facts and its place among those of its phase."""
    groups: dict[tuple[str, str], list[Scene]] = defaultdict(list)
    phase_of = {id(scene): phase for phase, found in scenes.items() for scene in found}
    for scene in (scene for phase in PHASES for scene in scenes.get(phase, ())):
        groups[scene.reading.source, scene.reading.sensor].append(scene)
    names = names_of(groups)
    provider = search.catalog.provider
    order = [c for source in datasources(provider) for c in source.collections]
    for key in sorted(groups):
        usable = comparable(groups[key], search.report)
        after: tuple[Pass, ...] = ()
        for phase in PHASES:
            mine = [scene for scene in usable if phase_of[id(scene)] == phase]
            if not mine:
                continue
            offered = search.passes(mine)
            sensor = mine[0].reading.sensor
            when = onset or offered[0].start
            choice: Choice = choose(offered, phase=phase, sensor=sensor, area=search.area, onset=when, after=after, limit=limit)
            after = choice.passes if phase == "post" else after
            facts = make_facts(choice, len(offered))
            listed = order.index(key[0]) if key[0] in order else len(order)
            yield make_source(names[key], phase, choice, provider), facts, (_ACCESS[facts.access], -round(facts.clear, 2), listed)
