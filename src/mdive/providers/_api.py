"""STAC APIs, through pystac-client: all pages first, every request retried, every cause in two lines."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import pystac
import shapely
import stamina
from pystac_client import Client
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning
from requests.exceptions import ChunkedEncodingError
from shapely.geometry import mapping
from urllib3 import BaseHTTPResponse, Retry

from mdive.errors import CatalogError
from mdive.providers._catalog import Catalog
from mdive.providers._documents import LONGEST_WAIT, TIMEOUT, unsearchable
from mdive.providers._extent import crosses_antimeridian
from mdive.providers._items import Query, Report, parse_items

PAGE: Final = 100
"""Items per page: a Sentinel-2 item is about 25 kB, and serverless APIs cut answers off at 6 MB."""

BACKOFF: float = 0.5
"""Seconds; the waits before the second to the fifth retry are 2, 4, 8 and 16 times as long, and each a random share of it longer."""

STALE_PAGES: Final = 3
"""Pages in a row without a new item after which a server is taken to page in circles (single repeats across a page border are usual)."""

VERTICES: Final = 500
"""Corners of an area above which its convex hull is sent instead (servers refuse or time out on detailed coastlines); what comes back is
compared with the area itself in any case."""

_TROUBLE = (APIError, ClientTypeError, pystac.STACError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class _PatientRetry(Retry):
    """urllib3's retry, which obeys ``Retry-After`` up to a limit (urllib3 itself waits for hours)."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, LONGEST_WAIT)


def _cut_off(error: Exception) -> bool:
    """Return whether an answer began well and arrived incomplete, which urllib3's retry no longer sees."""
    return isinstance(error, ValueError) or isinstance(error.__context__, ChunkedEncodingError)


class _PatientIO(StacApiIO):
    """pystac-client's requests, with explicit time-outs and retries."""

    def __init__(self) -> None:
        # A search is a POST, and repeating it changes nothing; pystac-client's own default retries no POST and no 5xx.
        statuses = [429, 500, 502, 503, 504]
        retry = _PatientRetry(total=5, backoff_factor=BACKOFF, backoff_jitter=BACKOFF, status_forcelist=statuses, allowed_methods=None)
        super().__init__(max_retries=retry, timeout=TIMEOUT)

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the JSON behind a link; an answer that was cut off is asked for again."""
        read = stamina.retry(on=_cut_off, attempts=3, timeout=None, wait_initial=BACKOFF, wait_jitter=BACKOFF)(super().read_json)
        found: dict[str, Any] = read(source, *args, **kwargs)
        return found

    def json_loads(self, txt: str, *_: Any, **__: Any) -> dict[str, Any]:
        """Return parsed JSON by the standard library: a stricter parser drops a whole page for one NaN, and which one is there depends."""
        found: dict[str, Any] = json.loads(txt)
        return found


def looks_like_api(root: Any) -> bool:
    """Return whether a JSON document is the landing page of a STAC API that can be searched."""
    if not isinstance(root, Mapping) or "conformsTo" not in root:
        return False
    return any(isinstance(link, Mapping) and link.get("rel") == "search" for link in root.get("links") or [])


class ApiCatalog(Catalog):
    """A STAC API."""

    bounded = False

    @cached_property
    def _client(self) -> Client:
        return Client.open(self.href, stac_io=_PatientIO(), timeout=TIMEOUT)

    def collections(self) -> tuple[str, ...]:
        """Return the ids of its collections, sorted."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PystacClientWarning)
                return tuple(sorted(collection.id for collection in self._client.get_collections()))
        except _TROUBLE as error:
            raise self._unsearchable(error) from None

    def _offered(self, query: Query, report: Report) -> Iterable[pystac.Item]:
        """Return what the server finds; an area across the antimeridian is searched part by part."""
        parts = shapely.get_parts(query.geometry) if crosses_antimeridian(query.geometry) else [query.geometry]
        found: dict[str, Any] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PystacClientWarning)
                for part in parts:
                    for raw in self._pages(query._replace(geometry=part)):
                        # Keyed by everything that it says, so that a bad item that is on two pages is reported once.
                        found[repr(raw)] = raw
        except _TROUBLE as error:
            raise self._unsearchable(error) from None
        return parse_items(found.values(), report)

    def _pages(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """Yield the raw items of all pages."""
        geometry, start, end, collections = query
        area = geometry if shapely.get_num_coordinates(geometry) <= VERTICES else geometry.convex_hull
        methods = {link.extra_fields.get("method", "GET") for link in self._client.get_links("search")}
        search = self._client.search(
            method="POST" if "POST" in methods else "GET",
            intersects=mapping(area),
            datetime=None if start is None and end is None else (start, end),
            collections=None if collections is None else list(collections),
            limit=PAGE,
        )
        seen: set[str] = set()
        stale = 0
        for page in search.pages_as_dicts():
            features = page.get("features") or []
            names = {repr((f.get("collection"), f.get("id"))) if isinstance(f, Mapping) else repr(f) for f in features}
            stale = 0 if names - seen else stale + 1
            if stale >= STALE_PAGES:
                raise ValueError(f"it pages in circles: {STALE_PAGES} pages in a row without a new item")
            seen |= names
            yield from features

    def _unsearchable(self, error: BaseException) -> CatalogError:
        if getattr(error, "status_code", None) in {401, 403}:
            hint = "The catalogue wants credentials; mdive searches only open catalogues."
        else:
            hint = f"Try again later, or give another catalogue; {self.href} is what was asked."
        text = str(error) or type(error).__name__
        cause = text.split("Caused by", 1)[-1].strip("() ") if "Caused by" in text else text
        return unsearchable(self.name, cause, hint)
