"""Searching STAC APIs: paging, repeats, bad items, and servers that fail."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from shapely.geometry import MultiPolygon, Point, box

from mdive.errors import CatalogError, InputError
from mdive.providers import open_catalog, provider

AREA = box(10.0, 45.0, 10.4, 45.3)
START, END = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 31, tzinfo=UTC)


@pytest.fixture
def many(server, item):
    server.items = [item(f"i{n:02d}", bbox=(9, 44, 11, 46), when=f"2024-05-{n + 1:02d}T10:00:00Z") for n in range(20)]
    return server


def test_all_pages_come_first_each_item_once_in_order(many):
    many.items.reverse()
    many.page_size, many.overlap = 3, 1
    found = open_catalog(many.url).search(AREA, START, END)
    assert [i.id for i in found] == [f"i{n:02d}" for n in range(20)]
    assert len(many.searches) == 7
    assert {r.method for r in many.searches} == {"POST"}


def test_filters_again_what_the_server_returns(many, item):
    """A server that ignores the query gets no foreign item into a plan; both ends of the interval belong to it."""
    many.items = [
        item("start", bbox=(9, 44, 11, 46), when="2024-05-01T00:00:00Z"),
        item("end", bbox=(9, 44, 11, 46), when="2024-05-31T00:00:00Z"),
    ]
    elsewhere = item("elsewhere", bbox=(20, 44, 21, 46), when="2024-05-05T00:00:00Z")
    late = item("late", bbox=(9, 44, 11, 46), when="2024-05-31T00:00:01Z")
    many.faults = [json.dumps({"type": "FeatureCollection", "features": [elsewhere, late, *many.items], "links": []})]
    assert [i.id for i in open_catalog(many.url).search(AREA, START, END)] == ["start", "end"]


def test_a_search_by_post_is_repeated_after_an_overloaded_answer(many):
    many.faults = [(503, {}), (500, {}), (502, {})]
    assert len(open_catalog(many.url).search(AREA, START, END)) == 20
    assert len(many.searches) == 4


def test_a_page_in_the_middle_is_repeated_too(many):
    many.page_size = 8
    many.faults = [None, (504, {}), None]
    assert len(open_catalog(many.url).search(AREA, START, END)) == 20
    assert len(many.searches) == 4


@pytest.mark.parametrize("fault", ["CUT", '{"type": "FeatureColl'])
def test_an_answer_that_breaks_off_is_asked_for_again(many, fault):
    many.faults = [fault, fault]
    assert len(open_catalog(many.url).search(AREA, START, END)) == 20
    assert len(many.searches) == 3


def test_retry_after_is_obeyed(many):
    many.faults = [(429, {"Retry-After": "1"})]
    began = time.monotonic()
    assert len(open_catalog(many.url).search(AREA, START, END)) == 20
    assert time.monotonic() - began >= 1.0


def test_an_absurd_retry_after_is_cut(many, monkeypatch):
    monkeypatch.setattr("mdive.providers._api.LONGEST_WAIT", 0.05)
    many.faults = [(503, {"Retry-After": "86400"})]
    began = time.monotonic()
    assert len(open_catalog(many.url).search(AREA, START, END)) == 20
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("faults", "cause"),
    [
        ([(503, {})] * 6, "too many 503"),
        ([(403, {})], "{}"),
        (['{"type": "FeatureColl'] * 3, "Unterminated string"),
        (["CUT"] * 3, "IncompleteRead"),
        (["[]"], "list"),
        (["null"], "None"),
    ],
    ids=["always 503", "forbidden", "not JSON", "cut off", "no collection", "null"],
)
def test_a_catalogue_that_fails_is_two_lines(many, faults, cause):
    many.faults = list(faults)
    with pytest.raises(CatalogError) as failure:
        open_catalog(many.url).search(AREA, START, END)
    lines = str(failure.value).splitlines()
    assert len(lines) == 2
    assert cause in lines[0]
    assert "could not be searched" in lines[0]
    assert len(many.searches) == len(faults)


def test_nobody_answers(server, monkeypatch):
    monkeypatch.setenv("MDIVE_CATALOG_EARTH_SEARCH", "http://127.0.0.1:9/v1")
    with pytest.raises(CatalogError, match="refused") as failure:
        open_catalog("earth-search").search(AREA, START, END)
    assert len(str(failure.value).splitlines()) == 2


def test_paging_in_circles_ends(many):
    many.page_size, many.circling = 5, True
    with pytest.raises(CatalogError, match="circles"):
        open_catalog(many.url).search(AREA, START, END)
    assert len(many.searches) == 4


def test_bad_items_are_left_out_and_reported_once(many):
    good = many.items[3]
    nan_box = {**good, "id": "nan-bbox", "bbox": [float("nan")] * 4}
    nan_ring = {**good, "id": "nan-geometry", "geometry": {"type": "Polygon", "coordinates": [[[0, 1], [float("nan"), 1], [1, 2], [0, 1]]]}}
    no_shape = {**good, "id": "no-geometry", "geometry": None}
    no_time = {**good, "id": "no-time", "properties": {"datetime": None}}
    bad_time = {**good, "id": "bad-time", "properties": {"datetime": "yesterday"}}
    no_assets = {k: v for k, v in good.items() if k != "assets"} | {"id": "no-assets"}
    no_address = {**good, "id": "no-address", "assets": {"red": {"href": "http://[::1/red.tif"}}}
    bad = [nan_box, nan_ring, no_shape, no_time, bad_time, no_assets, no_address, "not an object", {"type": "Feature"}]
    page = {"type": "FeatureCollection", "features": [*bad, good], "links": []}
    # The same page twice: what stands on two pages is still one item, and one report.
    link = {"rel": "next", "href": f"{many.url}/search", "method": "POST", "body": {}}
    many.faults = [json.dumps({**page, "links": [link]}), json.dumps(page)]
    reported = []
    found = open_catalog(many.url).search(AREA, START, END, report=reported.append)
    assert [i.id for i in found] == [good["id"]]
    reasons = {r.item: r.reason for r in reported}
    assert len(reported) == len(bad)
    assert set(reasons) == {"nan-bbox", "nan-geometry", "no-geometry", "no-time", "bad-time", "no-assets", "no-address", None}
    assert "bbox" in reasons["nan-bbox"]
    assert "not finite" in reasons["nan-geometry"]
    assert all("\n" not in str(r) for r in reported)


def test_an_api_that_only_knows_get(many):
    many.only_get, many.page_size = True, 7
    found = open_catalog(many.url).search(AREA, START, END, ["things"])
    assert len(found) == 20
    assert {r.method for r in many.searches} == {"GET"}


def test_an_area_across_the_antimeridian_is_searched_part_by_part(server, item):
    west_side, east_side = item("fiji", bbox=(179.5, -17, 180, -16)), item("lau", bbox=(-180, -17, -179, -16))
    both = item("both")
    both["geometry"] = {"type": "Polygon", "coordinates": [[[179, -17], [-179, -17], [-179, -16], [179, -16], [179, -17]]]}
    both["bbox"] = [179, -17, -179, -16]
    far = item("greenwich", bbox=(-1, -17, 1, -16))
    server.items = [west_side, east_side, far]
    # A server on the sphere finds the footprint that a planar one takes for a belt around the globe.
    server.faults = [json.dumps({"type": "FeatureCollection", "features": [both, far, west_side], "links": []})]
    area = MultiPolygon([box(179.6, -16.8, 180, -16.2), box(-180, -16.8, -179.7, -16.2)])
    found = open_catalog(server.url).search(area, START, END)
    assert {i.id for i in found} == {"fiji", "lau", "both"}
    assert len(server.searches) == 2
    assert {r.body["intersects"]["type"] for r in server.searches} == {"Polygon"}


def test_a_detailed_outline_is_sent_as_its_hull_and_compared_itself(many, item):
    circle = Point(10.2, 45.15).buffer(0.1, quad_segs=400)
    ring = circle.difference(Point(10.2, 45.15).buffer(0.05, quad_segs=400))
    many.items += [item("in the hole", bbox=(10.19, 45.14, 10.21, 45.16), when="2024-05-09T00:00:00Z")]
    found = open_catalog(many.url).search(ring, START, END)
    sent = many.searches[0].body["intersects"]
    assert sum(map(len, sent["coordinates"])) < 2000
    assert len(found) == 20


def test_known_catalogues_by_name_and_by_their_own_url(server, monkeypatch):
    monkeypatch.setenv("MDIVE_CATALOG_PLANETARY_COMPUTER", server.url)
    assert open_catalog("planetary-computer").href == server.url
    assert open_catalog("planetary-computer").provider == provider("planetary-computer")
    assert open_catalog(provider("earth-search").url + "/").provider == provider("earth-search")
    assert open_catalog(None).name == "earth-search"
    assert server.requests == []


def test_collections(many, item):
    many.items.append(item("other", collection="a"))
    assert open_catalog(many.url).collections() == ("a", "things")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("earth-serch", "Did you mean 'earth-search'?"),
        ("nowhere", "no catalogue 'nowhere'"),
        ("some/where/catalog.json", "no file or folder"),
        ("missing.parquet", "no file or folder"),
    ],
)
def test_what_is_not_there_says_what_there_is(spec, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as failure:
        open_catalog(spec)
    assert says in failure.value.message
    assert "earth-search, planetary-computer" in failure.value.hint
