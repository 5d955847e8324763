"""Raw items as catalogues give them: which are usable, which match a search, and what is said of the others."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from mdive.model.base import Document, digest
from mdive.providers._extent import UnusableError, footprint, interval, order

log = logging.getLogger("mdive.providers")


class Rejection(Document):
    """Something that the catalogue offered and that was not used, and why."""

    reason: str
    item: str | None = None
    collection: str | None = None
    """A rejection without an item speaks of the whole collection."""

    def __str__(self) -> str:
        what = "/".join(part for part in (self.collection, self.item) if part) or "an item"
        return f"{what}: {self.reason}"


Report = Callable[[Rejection], None]


def warn(rejection: Rejection) -> None:
    """Log a rejection: what happens to reports that nobody asked for."""
    log.warning("left out: %s", rejection)


def parse_item(raw: Any) -> pystac.Item:
    """Return an item that has what every item needs: an id, assets, a finite geometry and a time.

    Raises
    ------
    UnusableError
        With the reason.
    """
    if not isinstance(raw, Mapping) or raw.get("type") != "Feature" or not isinstance(raw.get("id"), str):
        raise UnusableError("it is not a STAC item")
    if not raw.get("geometry"):
        raise UnusableError("it has no geometry")
    footprint(raw["geometry"])
    bbox = raw.get("bbox")
    if bbox is not None and not (isinstance(bbox, list) and all(isinstance(b, int | float) and math.isfinite(b) for b in bbox)):
        raise UnusableError("its bbox is not finite")
    if not isinstance(raw.get("properties"), Mapping) or not isinstance(raw.get("assets"), Mapping):
        raise UnusableError("it has no properties or no assets")
    try:
        # Not migrated to the newest STAC: what is read here is read in all its dialects, and migration drops and warns.
        item = pystac.Item.from_dict(dict(raw), migrate=False, preserve_dict=False)
        interval(item)
        for href in filter(None, (item.get_self_href(), *(asset.href for asset in item.assets.values()))):
            urlsplit(href)
    except UnusableError:
        raise
    except (pystac.STACError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UnusableError(f"it is not a valid STAC item ({type(error).__name__}: {error})") from None
    return item


def parse_items(raws: Iterable[Any], report: Report) -> list[pystac.Item]:
    """Return the usable items among JSON objects; report the others."""
    items = []
    for raw in raws:
        try:
            items.append(parse_item(raw))
        except UnusableError as error:
            known = raw if isinstance(raw, Mapping) else {}
            name, collection = known.get("id"), known.get("collection")
            report(
                Rejection(
                    item=name if isinstance(name, str) else None,
                    collection=collection if isinstance(collection, str) else None,
                    reason=str(error),
                )
            )
    return items


class Query(NamedTuple):
    """What a catalogue is asked for."""

    geometry: BaseGeometry
    """Area in longitude and latitude; cut at the antimeridian where it crosses it."""
    start: datetime | None
    end: datetime | None
    """Inclusive; None is open."""
    collections: Sequence[str] | None
    """Ids; None for all."""


def select(items: Iterable[pystac.Item], query: Query) -> list[pystac.Item]:
    """Return the items that match a query, each once, sorted by (datetime, id)."""
    geometry, start, end, collections = query
    shapely.prepare(geometry)
    kept: dict[tuple[str, str], pystac.Item] = {}
    for item in items:
        first, last = interval(item)
        if (start is not None and last < start) or (end is not None and first > end):
            continue
        if collections is not None and item.collection_id not in collections:
            continue
        assert item.geometry is not None
        if not geometry.intersects(footprint(item.geometry)):
            continue
        key = (item.collection_id or "", item.id)
        kept[key] = max(kept[key], item, key=_edition) if key in kept else item
    return sorted(kept.values(), key=lambda item: (*order(item), item.collection_id or ""))


def _edition(item: pystac.Item) -> tuple[str, str]:
    """Return what tells two items of one id apart: when they were last written, then what they say."""
    properties = item.properties
    return str(properties.get("updated") or properties.get("created") or ""), digest(_finite(item.to_dict(transform_hrefs=False)))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
