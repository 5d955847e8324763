"""stac-geoparquet: a whole catalogue in one table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

import pystac
from pystac.utils import make_absolute_href
from shapely.geometry.base import BaseGeometry

from mdive.model.datasource import Provider
from mdive.providers._catalog import Rejection, Report, parse_items, select, warn
from mdive.providers._documents import UnreadableError, local_path, read_bytes, unsearchable


class TableCatalog:
    """A stac-geoparquet file, read once, at the first question."""

    provider: Provider | None = None
    bounded = True

    def __init__(self, name: str, href: str) -> None:
        self.name = name
        self.href = href

    def __repr__(self) -> str:
        return f"<Catalog {self.name} stac-geoparquet>"

    @cached_property
    def _content(self) -> tuple[list[pystac.Item], list[Rejection]]:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from stac_geoparquet.arrow import stac_table_to_items

        hint = "Write it with stac-geoparquet 0.7 or later, one row per item."
        try:
            path = local_path(self.href)
            table = pq.read_table(path if path is not None else pa.BufferReader(read_bytes(self.href)))
            raws = list(stac_table_to_items(table))
        except UnreadableError as error:
            raise unsearchable(self.name, error.message, "Check the address and the network.") from None
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise unsearchable(self.name, f"it is not a stac-geoparquet file ({type(error).__name__}: {error})", hint) from None
        bad: list[Rejection] = []
        items = parse_items(raws, bad.append)
        if not items and not bad:
            raise unsearchable(self.name, "it holds no STAC item", hint)
        for item in items:
            for asset in item.assets.values():
                asset.href = make_absolute_href(asset.href, self.href)
        return items, bad

    def collections(self) -> tuple[str, ...]:
        """Return the ids of its collections, sorted."""
        return tuple(sorted({item.collection_id for item in self._content[0] if item.collection_id}))

    def search(
        self,
        geometry: BaseGeometry,
        start: datetime | None,
        end: datetime | None,
        collections: Sequence[str] | None = None,
        *,
        report: Report = warn,
    ) -> list[pystac.Item]:
        """Return all matching items; see ``Catalog.search``."""
        items, bad = self._content
        for rejection in bad:
            report(rejection)
        return select(items, geometry, start, end, collections)
