"""Items made by hand, and a catalogue of them in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import pytest
from shapely.geometry import box, mapping

from mdive.providers._catalog import Catalog
from mdive.providers._items import parse_items

COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def make_item(name, collection="things", bbox=(0.0, 0.0, 1.0, 1.0), when="2024-05-01T10:00:00Z", assets=None, **properties):
    """Return a raw STAC item; assets are {key: fields}."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": mapping(box(*bbox)),
        "bbox": list(bbox),
        "properties": {"datetime": when, **properties},
        "links": [],
        "assets": {key: {"href": f"https://example.com/{name}/{key}.tif", "type": COG, **fields} for key, fields in (assets or {}).items()},
    }


def optical(*names, scale=1e-4, offset=0.0, nodata=0, dtype="uint16"):
    """Return assets of an unlisted optical collection."""
    return {n: {"raster:bands": [{"data_type": dtype, "scale": scale, "offset": offset, "nodata": nodata}]} for n in names}


def radar(*names, unit="dB", dtype="float32"):
    """Return assets of an unlisted radar collection."""
    said = {"data_type": dtype, "nodata": "nan"} | ({"unit": unit} if unit else {})
    return {n: {"raster:bands": [dict(said)]} for n in names}


class MemoryCatalog(Catalog):
    """A catalogue of raw items in memory, in the order in which they are given."""

    bounded = True

    def __init__(self, raws: Iterable[dict]) -> None:
        super().__init__("memory", "memory")
        self.raws = list(raws)

    def collections(self):
        return tuple(sorted({raw["collection"] for raw in self.raws}))

    def _offered(self, query, report):
        return parse_items(copy.deepcopy(self.raws), report)


@pytest.fixture
def memory():
    return MemoryCatalog


@pytest.fixture
def item():
    return make_item


@pytest.fixture
def optical_assets():
    return optical


@pytest.fixture
def radar_assets():
    return radar
