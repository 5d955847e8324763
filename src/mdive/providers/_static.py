"""Static STAC catalogues: JSON files in a folder or behind a URL, walked link by link. What cannot be read is reported, not fatal."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pystac
from pystac.utils import make_absolute_href

from mdive.providers._catalog import FileCatalog
from mdive.providers._documents import UnreadableError, local_path, read_json, unsearchable
from mdive.providers._extent import UnusableError
from mdive.providers._items import Rejection, parse_item

READERS: Final = 8
"""Documents read at once: enough to hide the latency of object stores, few enough for any server."""

DOCUMENTS: Final = 100_000
"""Documents of one catalogue: beyond it, a catalogue in files is the wrong form (stac-geoparquet is the right one) or has no end."""

_NAMES: Final = ("catalog.json", "collection.json")


@dataclass(frozen=True, slots=True)
class _Visit:
    """A document to read, and what its parents say about it."""

    href: str
    role: Literal["root", "bystander", "link"] = "link"
    """``bystander``: it only lies in the folder that was given, and need not be STAC at all."""
    collection: str | None = None
    item_assets: Mapping[str, Any] | None = None


class StaticCatalog(FileCatalog):
    """A catalogue in JSON files."""

    hint = "Give a STAC catalog.json, collection.json, item collection, a folder with one of them or with items, or a .parquet file."

    def _read(self) -> tuple[list[pystac.Item], list[Rejection]]:
        items: list[pystac.Item] = []
        bad: list[Rejection] = []
        todo = self._roots()
        seen = {visit.href for visit in todo}
        with ThreadPoolExecutor(READERS) as pool:
            while todo:
                following: dict[str, _Visit] = {}
                for visit, document in zip(todo, pool.map(_try_read, todo), strict=True):
                    try:
                        linked = _unfold(document, visit, items, bad)
                    except UnreadableError as error:
                        if visit.role == "root":
                            raise unsearchable(self.name, error.message, self.hint) from None
                        bad.append(
                            Rejection(item=_stem(visit.href), collection=visit.collection, reason=f"it cannot be read: {error.message}")
                        )
                    else:
                        following |= {link.href: link for link in linked if link.href not in seen}
                seen |= following.keys()
                todo = list(following.values())
                if len(seen) > DOCUMENTS:
                    raise unsearchable(self.name, f"it has more than {DOCUMENTS} documents", "Convert it to one stac-geoparquet file.")
        return items, bad

    def _roots(self) -> list[_Visit]:
        path = local_path(self.href)
        if path is None or not path.is_dir():
            return [_Visit(self.href, "root")]
        for name in _NAMES:
            if (path / name).is_file():
                return [_Visit(str(path / name), "root")]
        found = sorted(str(p) for pattern in ("*.json", "*.geojson") for p in path.rglob(pattern))
        if not found:
            raise unsearchable(self.name, "the folder holds no JSON file", self.hint)
        return [_Visit(href, "bystander") for href in found]


def _try_read(visit: _Visit) -> Any:
    try:
        return read_json(visit.href)
    except UnreadableError as error:
        return error


def _unfold(document: Any, visit: _Visit, items: list[pystac.Item], bad: list[Rejection]) -> list[_Visit]:
    """Add the items of a document to ``items`` and return the documents that it links to."""
    if isinstance(document, UnreadableError):
        raise document
    kind = document.get("type") if isinstance(document, Mapping) else None
    if kind in {"Feature", "FeatureCollection"}:
        for feature in [document] if kind == "Feature" else document.get("features") or []:
            _add(feature, visit, items, bad)
        return []
    if kind in {"Catalog", "Collection"}:
        inside = (str(document.get("id")), document.get("item_assets")) if kind == "Collection" else (visit.collection, visit.item_assets)
        links = [link for link in document.get("links") or [] if isinstance(link, Mapping) and isinstance(link.get("href"), str)]
        return [
            _Visit(make_absolute_href(k["href"], visit.href), "link", *inside) for k in links if k.get("rel") in {"child", "item", "items"}
        ]
    if visit.role == "bystander":
        return []
    raise UnreadableError(f"{visit.href} is no STAC document (type {kind!r})")


def _add(raw: Any, visit: _Visit, items: list[pystac.Item], bad: list[Rejection]) -> None:
    name = raw.get("id") if isinstance(raw, Mapping) else None
    try:
        item = parse_item(raw)
    except UnusableError as error:
        bad.append(Rejection(item=name if isinstance(name, str) else _stem(visit.href), collection=visit.collection, reason=str(error)))
        return
    if item.collection_id is None:
        item.collection_id = visit.collection
    for key, common in (visit.item_assets or {}).items():
        if key in item.assets and isinstance(common, Mapping):
            own = item.assets[key].extra_fields
            own.update({k: v for k, v in common.items() if k not in own and k not in {"href", "type", "roles", "title", "description"}})
    for asset in item.assets.values():
        asset.href = make_absolute_href(asset.href, visit.href)
    # A copied catalogue's own ``self`` links still point to its origin, which is what provenance wants.
    if item.get_self_href() is None:
        item.set_self_href(visit.href)
    items.append(item)


def _stem(href: str) -> str:
    return Path(href.split("?", 1)[0]).stem
