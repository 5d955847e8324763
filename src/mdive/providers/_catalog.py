"""What a catalogue is: something that can be searched by area, time and collection, and says what it could not use."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pystac
from shapely.geometry.base import BaseGeometry

from mdive.model.datasource import Provider
from mdive.providers._documents import fetch_json, local_path, unsearchable
from mdive.providers._items import Query, Rejection, Report, select, warn
from mdive.providers._library import provider, provider_names, unknown

DEFAULT_PROVIDER: Final = "earth-search"
"""Where to look when nobody says: open to everybody, without tokens."""


class Catalog(ABC):
    """A catalogue of STAC items.

    Parameters
    ----------
    name
        As the user wrote it.
    href
        Where it is.
    provider
        What is known about it, where it is a known one.
    """

    bounded: bool
    """Whether it can be searched without a time filter (a catalogue in files can, an archive of decades behind an API cannot)."""

    def __init__(self, name: str, href: str, provider: Provider | None = None) -> None:
        self.name = name
        self.href = href
        self.provider = provider

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @abstractmethod
    def collections(self) -> tuple[str, ...]:
        """Return the ids of its collections, sorted."""

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
        # A server is not believed: what it gives is compared with the question, as the content of files is.
        query = Query(geometry, start, end, collections)
        return select(self._offered(query, report), query)

    @abstractmethod
    def _offered(self, query: Query, report: Report) -> Iterable[pystac.Item]:
        """Return at least the matching items, in any order."""


class FileCatalog(Catalog):
    """A catalogue in files, read once, at the first question; its relative hrefs become absolute paths or URLs."""

    bounded = True
    hint: str
    """What to do about one that cannot be read."""

    @abstractmethod
    def _read(self) -> tuple[list[pystac.Item], list[Rejection]]:
        """Return all items, and what cannot be used."""

    @cached_property
    def _content(self) -> tuple[list[pystac.Item], list[Rejection]]:
        items, bad = self._read()
        if not items and not bad:
            raise unsearchable(self.name, "it holds no STAC item", self.hint)
        return items, bad

    def collections(self) -> tuple[str, ...]:
        """Return the ids of its collections, sorted."""
        return tuple(sorted({item.collection_id for item in self._content[0] if item.collection_id}))

    def _offered(self, query: Query, report: Report) -> Iterable[pystac.Item]:  # noqa: ARG002 - all of it is at hand
        items, bad = self._content
        for rejection in bad:
            report(rejection)
        return items


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
