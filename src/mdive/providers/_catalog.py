"""What a catalogue is: something that can be searched by area, time and collection, and says what it could not use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property

import pystac
from shapely.geometry.base import BaseGeometry

from mdive.model.address import without_query
from mdive.model.datasource import Provider
from mdive.providers._documents import local_path, unsearchable
from mdive.providers._items import Query, Rejection, Report, select, warn


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
        return f"<{type(self).__name__} {without_query(self.name)}>"

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
        offered = self._offered(query, report)
        return select(offered if local_path(self.href) is not None else map(self._from_afar, offered), query)

    def _from_afar(self, item: pystac.Item) -> pystac.Item:
        """Return an item of a remote catalogue; it says itself where it lives, but it cannot say that it is one of this machine."""
        if local_path(item.get_self_href() or "") is not None:
            item.remove_links("self")
            item.set_self_href(self.href)
        return item

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
