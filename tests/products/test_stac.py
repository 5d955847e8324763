"""STAC: read back by pystac and loaded by odc-stac, with the same words as the rasters, and no secret in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import odc.stac
import pystac
import pytest
from jsonschema import Draft7Validator
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from mdive.model.area import Area
from mdive.model.event import Event
from mdive.model.manifest import ProductFile
from mdive.model.plan import AlgorithmRef, AssetRef, ItemRef, Observation, Pipeline, Plan, Source, Tiling
from mdive.products import sha256_file, write_stac

GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
WHEN = datetime(2024, 10, 30, 10, tzinfo=UTC)


def item_ref(name, href):
    band = AssetRef(href=f"https://x.org/{name}.tif")
    return ItemRef(
        id=name, collection="c", datetime=WHEN, geometry={"type": "Point", "coordinates": [0, 0]}, assets={"green": band}, href=href
    )


@pytest.fixture
def make_plan():
    def make(grid, area=None):
        event = Event(
            id="test-1", event_class="family.child", area=area or Area.from_bbox(-3, 39, -2.9, 39.1), window=("2024-10-28", "2024-11-08")
        )
        items = (item_ref("b", "https://x.org/b.json?sig=CANARY"), item_ref("a", "https://x.org/a.json"), item_ref("unlinked", None))
        seen = Observation(id="o", datetime=WHEN, items=tuple(i.id for i in items))
        source = Source(name="sensor-1", phase="post", sensor="optical", bands=("green",), observations=(seen,), items=items)
        return Plan(
            event=event.model_dump(mode="json"),
            event_class={"id": "family.child"},
            catalog="test",
            sources=(source,),
            grid=grid,
            algorithm=AlgorithmRef(name="family.method", version="1.0.0", sources={"post": (source.key,)}),
            pipeline=Pipeline(nodes=(), outputs={}),
            products=("extent",),
            tiling=Tiling(size=512),
            software={"mdive": "0.1.0", "gdal": "3.10"},
        )

    return make


@pytest.fixture
def result(tmp_path, specs, make_grid, make_plan, save, pictures):
    """A run folder with three rasters and their STAC."""
    grid, arrays = make_grid((200, 150)), pictures((200, 150))
    (tmp_path / "products").mkdir()
    files, table = [], {"extent": specs.extent, "probability": specs.probability, "qc": specs.qc}
    for name, spec in table.items():
        sha, size = sha256_file(save(tmp_path / "products" / f"{name}.tif", spec, grid, arrays[name]))
        files.append(ProductFile(name=name, path=f"products/{name}.tif", media_type=GEOTIFF, sha256=sha, size=size))
    files.append(
        ProductFile(name="polygons", path="products/polygons.parquet", media_type="application/vnd.apache.parquet", sha256="0" * 64, size=5)
    )
    written = write_stac(
        tmp_path / "stac", plan=make_plan(grid), files=files, specs=table, properties={"mdive:decision": "no_significant_event"}
    )
    return tmp_path, dict(written), files, arrays


def test_pystac_reads_the_collection_and_its_item(result):
    folder, written, files, _ = result
    assert set(written) == {"item", "collection"}
    collection = pystac.Collection.from_file(folder / "stac" / "collection.json")
    (item,) = collection.get_items()
    assert item.id == "test-1"
    assert item.get_collection().id == collection.id == item.collection_id
    assert item.get_parent() is collection
    assert item.bbox == [-3, 39, -2.9, 39.1]
    assert item.datetime is None
    assert item.common_metadata.start_datetime == datetime(2024, 10, 28, tzinfo=UTC)
    assert item.common_metadata.end_datetime.date().isoformat() == "2024-11-08"
    assert item.properties["mdive:decision"] == "no_significant_event"
    assert item.properties["processing:software"] == {"gdal": "3.10", "mdive": "0.1.0"}
    for file in files:
        asset = item.assets[file.name]
        assert (FileExtension.ext(asset).size, FileExtension.ext(asset).checksum) == (file.size, "1220" + file.sha256)
        assert file.name == "polygons" or asset.get_absolute_href() == str(folder / file.path)


def test_core_schemas_accept_it(result):
    """Those of STAC 1.1, as pystac carries them; the extensions' own schemas are on the net only."""
    _, written, *_ = result
    registry = Registry().with_resources([(uri, Resource.from_contents(schema)) for uri, schema in get_local_schema_cache().items()])
    for path in written.values():
        document = json.loads(path.read_text())
        assert document["stac_version"] == "1.1.0"
        kind = "item" if document["type"] == "Feature" else "collection"
        schema = f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{kind}.json"
        check = Draft7Validator({"$ref": schema}, registry=registry)
        assert list(check.iter_errors(document)) == []
        assert list(check.iter_errors({**document, "links": [{"rel": "item"}]}))  # the schema can say no
        for link in document["links"]:
            assert link["href"].startswith("./") or link["rel"] == "derived_from"


def test_projection_is_that_of_the_grid(result):
    item = pystac.Item.from_file(result[1]["item"])
    projection = ProjectionExtension.ext(item)
    assert projection.code == "EPSG:32630"
    assert projection.shape == [200, 150]
    assert projection.transform[:6] == [10, 0, 500_000, 0, -10, 4_400_000]
    assert projection.bbox == [500_000, 4_398_000, 501_500, 4_400_000]


def test_classes_and_bits_are_those_of_the_rasters(result, specs):
    item = pystac.Item.from_file(result[1]["item"])
    classes = ClassificationExtension.ext(item.assets["extent"]).classes
    assert [(c.value, c.name, "#" + c.color_hint.lower()) for c in classes] == [(c.value, c.name, c.color) for c in specs.extent.classes]
    bits = ClassificationExtension.ext(item.assets["qc"]).bitfields
    assert {bit.name: 1 << bit.offset for bit in bits} == {flag.name: flag.mask for flag in specs.qc.flags}
    assert {bit.length for bit in bits} == {1}
    (band,) = item.assets["probability"].to_dict()["bands"]
    assert (band["data_type"], band["nodata"], band["unit"], band["raster:scale"]) == ("int16", -32768, "1", 1e-4)
    (band,) = item.assets["extent"].to_dict()["bands"]
    assert (band["data_type"], band["nodata"]) == ("uint8", 255)


def test_a_zarr_store_is_one_asset_with_a_band_for_each_layer(result, specs, make_grid, make_plan):
    folder, _, files, _ = result
    store = ProductFile(name="zarr", path="products/cube.zarr", media_type="application/vnd.zarr; version=3", sha256="0" * 64, size=5)
    table = {"extent": specs.extent, "probability": specs.probability, "qc": specs.qc}
    written = dict(write_stac(folder / "other", plan=make_plan(make_grid((200, 150))), files=[*files, store], specs=table))
    item = pystac.Item.from_file(written["item"])
    asset = item.assets["zarr"]
    assert (asset.href, asset.media_type, asset.roles) == ("../products/cube.zarr", store.media_type, ["data"])
    assert [band["name"] for band in asset.extra_fields["bands"]] == ["extent", "probability", "qc"]
    assert asset.extra_fields["bands"][1]["raster:scale"] == 1e-4
    assert not [key for key in asset.extra_fields if key.startswith("file:")]
    assert [link.get_href() for link in item.get_links("store")] == ["../products/cube.zarr"]
    assert odc.stac.load([item], bands=["extent"], chunks={}).extent.shape == (1, 200, 150)


def test_odc_stac_loads_the_result(result):
    _, written, _, arrays = result
    item = pystac.Item.from_file(written["item"])
    loaded = odc.stac.load([item], bands=["extent", "qc"])
    assert np.array_equal(loaded["extent"].values[0], arrays["extent"])
    assert loaded["extent"].nodata == 255
    assert np.array_equal(loaded["qc"].values[0], arrays["qc"])
    assert loaded.odc.geobox.crs.epsg == 32630


def test_sources_are_linked_and_named_without_secrets(result):
    text = result[1]["item"].read_text()
    assert "CANARY" not in text
    document = json.loads(text)
    links = [(link["title"], link["href"]) for link in document["links"] if link["rel"] == "derived_from"]
    assert links == [("a", "https://x.org/a.json"), ("b", "https://x.org/b.json")]
    assert document["properties"]["mdive:sources"] == {"sensor-1/post": ["b", "a", "unlinked"]}


def test_same_input_same_bytes(tmp_path, specs, make_grid, make_plan):
    texts = set()
    for name in ("a", "b"):
        written = write_stac(tmp_path / name, plan=make_plan(make_grid((5, 5))), files=[], specs={})
        texts.add(tuple(path.read_bytes() for _, path in written))
    assert len(texts) == 1
    dated = write_stac(tmp_path / "c", plan=make_plan(make_grid((5, 5))), files=[], specs={}, created=WHEN)
    assert pystac.Item.from_file(dict(dated)["item"]).common_metadata.created == WHEN


def test_an_area_over_the_antimeridian_and_a_crs_without_code(tmp_path, make_grid, make_plan):
    grid = make_grid((50, 50), crs="+proj=laea +lat_0=-17 +lon_0=180 +datum=WGS84", resolution=100, x0=-2500, y0=2500)
    written = write_stac(tmp_path / "stac", plan=make_plan(grid, Area.from_bbox(179, -18, -179, -16)), files=[], specs={})
    item = pystac.Item.from_file(dict(written)["item"])
    assert item.bbox == [179, -18, -179, -16]
    assert item.geometry["type"] == "MultiPolygon"
    assert item.properties["proj:code"] is None
    assert item.properties["proj:projjson"]["type"] == "ProjectedCRS"
