"""Catalogues in files: static STAC, folders of items, item collections, stac-geoparquet; on disk and over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from shapely.geometry import box

from mdive.errors import CatalogError
from mdive.providers import open_catalog

AREA = box(0.2, 0.2, 0.4, 0.4)
START, END = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 31, tzinfo=UTC)


def write(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def document(kind, name, *links, **more):
    return {"type": kind, "id": name, "stac_version": "1.1.0", "description": "x", "links": list(links), **more}


def link(rel, href):
    return {"rel": rel, "href": href}


@pytest.fixture
def tree(item):
    """Return the files of a catalogue with two collections, one of them nested, and a loop."""
    one = item("one", collection="a", assets={"red": {"href": "./pixels/red.tif"}})
    two = item("two", collection="b", assets={"red": {"href": "../../shared/red.tif"}})
    two["collection"] = None
    return {
        "catalog.json": document(
            "Catalog", "root", link("root", "./catalog.json"), link("child", "./a.json"), link("child", "deep/b.json")
        ),
        "a.json": document(
            "Collection", "a", link("parent", "./catalog.json"), link("item", "./one.json"), link("child", "./catalog.json")
        ),
        "one.json": one,
        "deep/b.json": document(
            "Collection",
            "b",
            link("item", "items/two.json"),
            item_assets={"red": {"raster:bands": [{"scale": 0.5}], "title": "from the collection"}},
        ),
        "deep/items/two.json": two,
    }


@pytest.fixture
def folder(tree, tmp_path):
    for name, content in tree.items():
        write(tmp_path / name, content)
    return tmp_path


@pytest.mark.parametrize("how", ["catalog.json", ".", "file://"])
def test_a_catalogue_is_walked_and_its_hrefs_become_absolute(folder, how, monkeypatch):
    monkeypatch.chdir(folder)
    spec = (folder / "catalog.json").as_uri() if how == "file://" else how
    catalog = open_catalog(spec)
    one, two = catalog.search(AREA, START, END)
    assert catalog.collections() == ("a", "b")
    assert (one.id, two.id) == ("one", "two")
    assert one.assets["red"].href == str(folder / "pixels" / "red.tif")
    assert two.assets["red"].href == str(folder / "shared" / "red.tif")
    assert one.get_self_href() == str(folder / "one.json")


def test_an_item_belongs_to_the_collection_that_links_it_and_takes_its_item_assets(folder):
    two = open_catalog(str(folder)).search(AREA, START, END, ["b"])[0]
    assert two.collection_id == "b"
    assert two.assets["red"].extra_fields["raster:bands"] == [{"scale": 0.5}]
    assert two.assets["red"].title is None


@pytest.mark.parametrize("name", ["a.json", "one.json"])
def test_a_part_of_a_catalogue_is_a_catalogue(folder, name):
    assert "one" in [i.id for i in open_catalog(str(folder / name)).search(AREA, START, END)]


def test_a_folder_of_items_ignores_what_is_not_stac(folder, item):
    items = folder / "loose"
    write(items / "x.json", item("x"))
    write(items / "below" / "y.geojson", {"type": "FeatureCollection", "features": [item("y"), item("z")]})
    write(items / "notes.json", {"hello": "world"})
    write(items / "list.json", "[1, 2]")
    reported = []
    found = open_catalog(str(items)).search(AREA, START, END, report=reported.append)
    assert [i.id for i in found] == ["x", "y", "z"]
    assert reported == []


def test_what_cannot_be_read_is_reported_and_the_rest_is_used(folder, item):
    links = [link("item", f"./{n}.json") for n in ("one", "cut", "gone", "list", "deep")]
    write(folder / "a.json", document("Collection", "a", *links))
    write(folder / "cut.json", '{"type": "Feature", "id": ')
    write(folder / "list.json", "[]")
    write(folder / "deep.json", "[" * 100_000)
    reported = []
    found = open_catalog(str(folder)).search(AREA, START, END, ["a"], report=reported.append)
    assert [i.id for i in found] == ["one"]
    assert {(r.collection, r.item) for r in reported} == {("a", "cut"), ("a", "gone"), ("a", "list"), ("a", "deep")}
    assert all("cannot be read" in r.reason for r in reported)


def test_an_item_may_be_an_interval(folder, item):
    week = item("week", collection="a", when=None, start_datetime="2024-04-28T00:00:00Z", end_datetime="2024-05-01T00:00:00Z")
    write(folder / "one.json", week)
    catalog = open_catalog(str(folder))
    assert [i.id for i in catalog.search(AREA, START, END, ["a"])] == ["week"]
    assert catalog.search(AREA, datetime(2024, 5, 1, 0, 0, 1, tzinfo=UTC), END, ["a"]) == []
    assert [i.id for i in catalog.search(AREA, None, datetime(2024, 4, 28, tzinfo=UTC), ["a"])] == ["week"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ('{"type": "Point"}', "is no STAC document"),
        ('{"type": "Catalog", "id": "empty", "links": []}', "holds no STAC item"),
        ("\x00\xff", "is not JSON"),
    ],
)
def test_a_file_that_is_no_catalogue(tmp_path, content, says):
    path = write(tmp_path / "catalog.json", content)
    with pytest.raises(CatalogError, match=says) as failure:
        open_catalog(str(path)).search(AREA, START, END)
    assert len(str(failure.value).splitlines()) == 2


def test_an_empty_folder_is_no_catalogue(tmp_path):
    with pytest.raises(CatalogError, match="no JSON file"):
        open_catalog(str(tmp_path)).collections()


def test_over_http(server, tree):
    server.files = {f"/data/{name}": json.dumps(content) for name, content in tree.items()}
    found = open_catalog(f"{server.url}/data/catalog.json").search(AREA, START, END)
    assert [i.id for i in found] == ["one", "two"]
    assert found[0].assets["red"].href == f"{server.url}/data/pixels/red.tif"
    assert found[1].assets["red"].href == f"{server.url}/data/shared/red.tif"


def test_over_http_failing_for_good(server):
    with pytest.raises(CatalogError, match="answers 404") as failure:
        open_catalog(f"{server.url}/nothing/catalog.json")
    assert len(str(failure.value).splitlines()) == 2


def test_over_http_an_overloaded_server_is_asked_again(server, tree):
    server.files = {f"/{name}": json.dumps(content) for name, content in tree.items()}
    server.file_faults = [(503, {}), (429, {"Retry-After": "0"})]
    assert len(open_catalog(f"{server.url}/catalog.json").search(AREA, START, END)) == 2


def parquet(path, items):
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    to_parquet(parse_stac_items_to_arrow(items).read_all(), path)
    return path


def test_a_table_says_the_same_as_its_items(tmp_path, item, optical_assets):
    raws = [
        item("late", when="2024-05-09T00:00:00Z", assets=optical_assets("red", "nir"), **{"eo:cloud_cover": 7.5}),
        item("early", when="2024-05-02T00:00:00Z", assets=optical_assets("red"), platform="landsat-8"),
        item("elsewhere", bbox=(5, 5, 6, 6), assets=optical_assets("red")),
    ]
    table = open_catalog(str(parquet(tmp_path / "items.parquet", raws))).search(AREA, START, END)
    write(tmp_path / "items.json", {"type": "FeatureCollection", "features": raws})
    files = open_catalog(str(tmp_path / "items.json")).search(AREA, START, END)
    assert [i.id for i in table] == ["early", "late"] == [i.id for i in files]
    for a, b in zip(table, files, strict=True):
        assert a.datetime == b.datetime
        assert a.geometry["type"] == b.geometry["type"]
        assert {k: (v.href, v.extra_fields) for k, v in a.assets.items()} == {k: (v.href, v.extra_fields) for k, v in b.assets.items()}


def test_a_table_over_http(server, tmp_path, item):
    server.files = {"/t.parquet": parquet(tmp_path / "t.parquet", [item("x", assets={"red": {}})]).read_bytes()}
    assert [i.id for i in open_catalog(f"{server.url}/t.parquet").search(AREA, START, END)] == ["x"]


def test_a_table_that_is_none(tmp_path):
    path = write(tmp_path / "x.parquet", "not a table")
    with pytest.raises(CatalogError, match="not a stac-geoparquet file"):
        open_catalog(str(path)).collections()


@pytest.mark.parametrize("name", ["sentinel-2-l2a-pc", "landsat-c2-l2-pc", "sentinel-1-rtc-pc", "cop-dem-glo-30-pc"])
def test_recorded_items_survive_the_table(recorded, tmp_path, name):
    """Real items of Planetary Computer: what is read from the table is what is read from the JSON."""
    from mdive.providers._reading import read_item

    raws = recorded(f"stac_geoparquet/{name}.json")
    everywhere = box(-180, -90, 180, 90)
    write(tmp_path / "items.json", {"type": "FeatureCollection", "features": raws})
    table = open_catalog(str(parquet(tmp_path / "items.parquet", raws))).search(everywhere, None, None)
    files = open_catalog(str(tmp_path / "items.json")).search(everywhere, None, None)
    assert len(table) == len(files) == len(raws)
    for a, b in zip(table, files, strict=True):
        assert read_item(a, None) == read_item(b, None)
