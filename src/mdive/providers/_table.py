"""stac-geoparquet: a whole catalogue in one table."""

from __future__ import annotations

import pystac
from pystac.utils import make_absolute_href

from mdive.providers._catalog import FileCatalog
from mdive.providers._documents import UnreadableError, local_path, read_bytes, unsearchable
from mdive.providers._items import Rejection, parse_items


class TableCatalog(FileCatalog):
    """A stac-geoparquet file."""

    hint = "Write it with stac-geoparquet 0.7 or later, one row per item."

    def _read(self) -> tuple[list[pystac.Item], list[Rejection]]:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from stac_geoparquet.arrow import stac_table_to_items

        try:
            path = local_path(self.href)
            table = pq.read_table(path if path is not None else pa.BufferReader(read_bytes(self.href)))
            raws = list(stac_table_to_items(table))
        except UnreadableError as error:
            raise unsearchable(self.name, error.message, "Check the address and the network.") from None
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise unsearchable(self.name, f"it is not a stac-geoparquet file ({type(error).__name__}: {error})", self.hint) from None
        bad: list[Rejection] = []
        items = parse_items(raws, bad.append)
        for item in items:
            for asset in item.assets.values():
                asset.href = make_absolute_href(asset.href, self.href)
        return items, bad
