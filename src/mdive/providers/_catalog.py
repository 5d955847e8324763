"""What a catalogue is: something that can be searched by area, time and collection, and says what it could not use."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from mdive.model.base import Document, digest
from mdive.model.datasource import Provider
from mdive.providers._extent import UnusableError, footprint, interval, order
from mdive.providers._library import provider, provider_names, unknown

log = logging.getLogger("mdive.providers")

DEFAULT_PROVIDER: Final = "earth-search"
"""Where to look when nobody says: open to everybody, without tokens."""


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


class Catalog(Protocol):
    """A catalogue of STAC items."""

    name: str
    """As the user wrote it."""
    provider: Provider | None
    """What is known about it, where it is a known one."""
    bounded: bool
    """Whether it can be searched without a time filter (a catalogue in files can, an archive of decades behind an API cannot)."""

    def collections(self) -> tuple[str, ...]:
        """Return the ids of its collections, sorted."""
        ...

    def search(
        self,
        geometry: BaseGeometry,
        start: datetime | None,
        end: datetime | None,
        collections: Sequence[str] | None = None,
        *,
        report: Report = warn,
    ) -> list[pystac.Item]:
        """Return all items that touch an area and a time interval, each once, sorted by (datetime, id).

        Parameters
        ----------
        geometry
            Area in longitude and latitude; cut at the antimeridian where it crosses it.
        start, end
            Inclusive; None is open.
        collections
            Ids; None for all.
        report
            Called with each item that cannot be used (no geometry, no time, not readable).

        Raises
        ------
        CatalogError
            When the catalogue itself cannot be searched.
        """
        ...


def open_catalog(spec: str | None = None) -> Catalog:
    """Open a catalogue.

    Parameters
    ----------
    spec
        One of: the name of a known catalogue (``earth-search``, ``planetary-computer``); the URL of a STAC API; the path or URL of a static
        STAC catalogue, collection, item or item collection (JSON), or of a folder that holds one, or items; the path or URL of a
        stac-geoparquet file (``.parquet``). None is ``earth-search``. The environment variable ``MDIVE_CATALOG_<NAME>`` (say,
        ``MDIVE_CATALOG_EARTH_SEARCH``) replaces the URL of a known catalogue: for a mirror, a proxy or a test.

    Raises
    ------
    InputError
        When it is neither a known name nor anything that is there.
    CatalogError
        When it is there and cannot be read as a catalogue.
    """
    from mdive.providers._api import ApiCatalog, looks_like_api
    from mdive.providers._documents import fetch_json, local_path
    from mdive.providers._static import StaticCatalog
    from mdive.providers._table import TableCatalog

    spec = (spec or DEFAULT_PROVIDER).strip()
    if spec in provider_names():
        known = provider(spec)
        return ApiCatalog(spec, os.environ.get(f"MDIVE_CATALOG_{_shout(spec)}", known.url), known)
    path = local_path(spec)
    if path is not None:
        path = _existing(spec, path)
        return TableCatalog(spec, str(path)) if path.suffix == ".parquet" else StaticCatalog(spec, str(path))
    if urlsplit(spec).path.endswith(".parquet"):
        return TableCatalog(spec, spec)
    same = next((p for p in map(provider, provider_names()) if p.url.rstrip("/") == spec.rstrip("/")), None)
    if same is not None:
        return ApiCatalog(spec, spec, same)
    root = fetch_json(spec)
    return ApiCatalog(spec, spec, None) if looks_like_api(root) else StaticCatalog(spec, spec)


def _shout(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).upper()


def _existing(spec: str, path: Path) -> Path:
    if not path.exists():
        raise unknown(spec, is_path="/" in spec or path.suffix in {".json", ".geojson", ".parquet"})
    return path.resolve()


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


def select(
    items: Iterable[pystac.Item],
    geometry: BaseGeometry,
    start: datetime | None,
    end: datetime | None,
    collections: Sequence[str] | None,
) -> list[pystac.Item]:
    """Return the items that touch an area and a time interval (inclusive), each once, sorted by (datetime, id)."""
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
