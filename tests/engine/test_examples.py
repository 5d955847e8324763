"""The examples, planned against what their catalogues have really answered, served on loopback.

No recorded answer covers the place and the days of an example. So the recorded items are served twice: as if they had been taken over an
example's area in its windows, with all that decides how they are read (collections, assets, bands, baselines, flags, orbits, hrefs) as it was
recorded; and as they are, to events that lie where they lie.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import rasterio
from rasterio.warp import transform_bounds

import mdive
from mdive.cli import main
from mdive.model import Plan, load_document, load_event
from mdive.providers import candidates, open_catalog

EXAMPLES = Path(__file__).parents[2] / "examples"
ES = "responses/earth-search.aws.element84.com__FeatureCollection__"
PC = "responses/planetarycomputer.microsoft.com__FeatureCollection__"
ARCHIVES = {
    "earth-search": (f"{ES}sentinel-2-c1-l2a+sentinel-2-l1c+sentinel-2-l2a__n10_next_POST.json", f"{ES}cop-dem-glo-30__n1_next_POST.json"),
    "planetary-computer": (
        f"{PC}sentinel-1-grd__n1_next_GET.json",
        f"{PC}sentinel-1-rtc__n1_next_GET.json",
        f"{PC}sentinel-2-l2a__n1_next_GET.json",
        f"{PC}landsat-c2-l2__n10_next_GET.json",
        f"{PC}esa-worldcover__n1_next_GET.json",
        "odc_stac/site2-2020_jun_jul-35MNM.geojson",
        "stac_geoparquet/sentinel-1-rtc-pc.json",
        "stac_geoparquet/sentinel-2-l2a-pc.json",
        "stac_geoparquet/landsat-c2-l2-pc.json",
        "stac_geoparquet/cop-dem-glo-30-pc.json",
    ),
}
OPTICAL = ("blue", "green", "red", "nir08", "swir16", "swir22")


@pytest.fixture(autouse=True)
def opened(monkeypatch):
    """Every raster that is opened, by its address; none can be."""
    seen = []

    def refuse(href, *args, **kwargs):
        seen.append(href)
        raise rasterio.errors.RasterioIOError(f"{href} does not exist")

    monkeypatch.setattr("rasterio.open", refuse)
    monkeypatch.setattr("mdive.cube.files.FIRST_PAUSE", 0.0)
    # The tiling follows from free memory, which changes between two plans.
    monkeypatch.setenv("MDIVE_MEMORY", "2GiB")
    return seen


@pytest.fixture
def serve(server, monkeypatch):
    """Return a function that lets a known catalogue offer raw items."""

    def start(catalog, items):
        monkeypatch.setenv(f"MDIVE_CATALOG_{catalog.upper().replace('-', '_')}", server.url)
        server.items = items

    return start


def grown(event, degrees=0.4):
    """Return the bounds of an event's area, as large as a scene's footprint."""
    west, south, east, north = event.area.geometry.bounds
    return west - degrees, south - degrees, east + degrees, north + degrees


@pytest.fixture
def flood(serve, server, recorded, moved):
    """The first example with what Earth Search would offer, in pages of three."""
    event = load_event(EXAMPLES / "flood_event.yaml")
    scenes, (dem, *_) = (recorded(name) for name in ARCHIVES["earth-search"])
    days = ["2023-04-13T15:59:01+00:00", "2023-04-18T15:59:01+00:00", "2023-03-29T15:59:01+00:00", "2023-04-08T15:59:01+00:00"]
    items = [moved(dem, grown(event), dem["properties"]["datetime"])]
    for level in ("l2a", "c1-l2a", "l1c"):
        found = [raw for raw in scenes if raw["collection"] == f"sentinel-2-{level}"]
        items += [moved(raw, grown(event), day) for raw, day in zip(found, days, strict=False)]
    serve("earth-search", items)
    server.page_size = 3
    return SimpleNamespace(event=event, path=EXAMPLES / "flood_event.yaml", catalog="earth-search")


@pytest.fixture
def wildfire(serve, recorded, moved):
    """The second example with what Planetary Computer would offer."""
    event = load_event(EXAMPLES / "wildfire_event.yaml")
    (old,) = recorded("odc_stac/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json")
    new, landsat, rtc = (recorded(f"stac_geoparquet/{name}-pc.json") for name in ("sentinel-2-l2a", "landsat-c2-l2", "sentinel-1-rtc"))
    (cover,), (dem,) = recorded(f"{PC}esa-worldcover__n1_next_GET.json"), recorded(f"{PC}cop-dem-glo-30__n1_next_GET.json")
    taken = {
        "2022-09-01T18:59:11+00:00": new[0],
        "2022-09-11T18:59:11+00:00": new[1],
        "2022-07-23T18:59:11+00:00": old,
        "2022-09-05T18:45:51+00:00": landsat[0],
        "2022-07-19T18:45:51+00:00": landsat[1],
        "2022-08-21T14:14:20+00:00": rtc[0],
        "2022-07-16T14:14:20+00:00": rtc[1],
        cover["properties"]["start_datetime"]: cover,
        dem["properties"]["datetime"]: dem,
    }
    serve("planetary-computer", [moved(raw, grown(event), when) for when, raw in taken.items()])
    return SimpleNamespace(event=event, path=EXAMPLES / "wildfire_event.yaml", catalog="planetary-computer")


@pytest.fixture(params=["flood", "wildfire"])
def example(request):
    return request.getfixturevalue(request.param)


def command(capsys, monkeypatch, *arguments):
    """Return what the command line prints."""
    monkeypatch.setattr(sys, "argv", ["mdive", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    return said.out


def source(plan, key):
    (found,) = [s for s in plan.sources if s.key == key]
    return found


def numbers(plan):
    """Return what is done to the stored numbers of each item's bands, without the quality band: {item: {(scale, offset, unit)}}."""
    return {i.id: {(i.assets[b].scale, i.assets[b].offset, i.assets[b].unit) for b in s.bands} for s in plan.sources for i in s.items}


# The examples


def test_the_flood_is_planned_from_collection_1_reflectance(flood):
    plan = mdive.plan(flood.event)
    taken = {"post": ("sentinel-2-c1-l2a/post",), "static": ("cop-dem-glo-30/static",)}
    assert (plan.algorithm.name, plan.algorithm.sources) == ("flood.optical_index", taken)
    post = source(plan, "sentinel-2-c1-l2a/post")
    assert (post.sensor, post.bands, post.mask.band) == ("optical", OPTICAL, "scl")
    # The clearer pass first; the items are those of the window, in the order of their times.
    assert [o.items for o in post.observations] == [("S2B_T24MXV_20250731T130245_L2A",), ("S2B_T24MWV_20250731T130245_L2A",)]
    assert [i.id for i in post.items] == ["S2B_T24MWV_20250731T130245_L2A", "S2B_T24MXV_20250731T130245_L2A"]
    told = numbers(plan)
    assert {i.id: told[i.id] for i in post.items} == {i.id: {(0.0001, -0.1, "1")} for i in post.items}
    assert {i.properties["mdive:offset"] for i in post.items} == {"-0.1 (s2:processing_baseline: version 05.11)"}
    assert all(a.href.startswith("https://e84-earth-search-sentinel-data.s3") for i in post.items for a in i.assets.values())
    assert all(i.assets["red"].checksum.startswith("1220") for i in post.items)
    assert not any("mdive:signing" in i.properties for i in post.items)
    assert plan.products[:3] == ("extent", "qc", "cause")
    reasons = [(r.topic, r.text) for r in plan.reasons]
    assert ("algorithm", "not flood.sar_threshold: no sar acquisition for its post phase.") in reasons
    assert [text for topic, text in reasons if topic == "rejected" and text.startswith("sentinel-1-grd: its numbers are uncalibrated")]


def test_the_wildfire_is_planned_from_one_sensor_across_the_change_of_baseline(wildfire):
    plan = mdive.plan(wildfire.event)
    assert (plan.algorithm.name, plan.algorithm.sources) == (
        "wildfire.dnbr",
        {"pre": ("sentinel-2-l2a/pre",), "post": ("sentinel-2-l2a/post",)},
    )
    old, new = source(plan, "sentinel-2-l2a/pre"), source(plan, "sentinel-2-l2a/post")
    assert set(old.bands) == set(new.bands) == {"nir08", "swir22", "green", "swir16"}
    assert [i.properties["s2:processing_baseline"] for i in old.items] == ["02.12"]
    assert {i.properties["s2:processing_baseline"] for i in new.items} == {"05.10"}
    assert numbers(plan) == {i.id: {(0.0001, 0.0, "1")} for i in old.items} | {i.id: {(0.0001, -0.1, "1")} for i in new.items}
    assert {i.assets["nir08"].href.rpartition("_")[0][-4:] for i in (*old.items, *new.items)} == {"_B8A"}
    assert {i.properties["mdive:signing"] for s in plan.sources for i in s.items} == {"planetary-computer"}


@pytest.mark.parametrize(("name", "zone", "resolution"), [("flood", "EPSG:32617", 10.0), ("wildfire", "EPSG:32610", 20.0)])
def test_the_grid_is_the_areas_own_utm_zone_snapped(request, name, zone, resolution):
    example = request.getfixturevalue(name)
    grid = mdive.plan(example.event).grid
    assert (grid.crs, grid.resolution) == (zone, resolution)
    assert grid.x0 % resolution == grid.y0 % resolution == 0
    west, south, east, north = transform_bounds("EPSG:4326", zone, *example.event.area.geometry.bounds, densify_pts=201)
    right, bottom = grid.x0 + grid.shape[1] * resolution, grid.y0 - grid.shape[0] * resolution
    for edge, bound in ((west, grid.x0), (right, east), (south, bottom), (grid.y0, north)):
        assert -0.01 <= edge - bound < resolution


def test_what_the_wildfire_could_choose_from(wildfire):
    windows = {"pre": wildfire.event.baseline_window, "post": wildfire.event.window}
    windows = {phase: (window.start, window.end) for phase, window in windows.items()} | {"static": None}
    found = candidates(open_catalog(wildfire.catalog), wildfire.event.area.geometry, windows)
    sources = {s.key: s for s in found.sources}
    both = {f"{name}/{phase}" for name in ("sentinel-2-l2a", "landsat-c2-l2", "sentinel-1-rtc") for phase in ("pre", "post")}
    assert set(sources) == both | {"cop-dem-glo-30/static", "esa-worldcover/static"}
    assert all(facts.coverage == 1.0 for facts in found.facts.values())
    assert sources["landsat-c2-l2/post"].mask.band == "qa_pixel"
    assert {(a.scale, a.offset) for i in sources["landsat-c2-l2/pre"].items for b, a in i.assets.items() if b in OPTICAL} == {
        (2.75e-5, -0.2)
    }
    assert {(a.unit, a.scale, a.nodata) for i in sources["sentinel-1-rtc/post"].items for a in i.assets.values()} == {
        ("power", 1.0, -32768)
    }
    assert sources["cop-dem-glo-30/static"].items[0].assets["dem"].unit == "m"
    assert [r.collection for r in found.rejected] == ["sentinel-1-grd"]


def test_what_the_flood_could_choose_from(flood):
    windows = {"post": (flood.event.window.start, flood.event.window.end), "static": None}
    found = candidates(open_catalog(flood.catalog), flood.event.area.geometry, windows)
    sources = {s.key: s for s in found.sources}
    assert set(sources) == {"sentinel-2-c1-l2a/post", "sentinel-2-l2a/post", "cop-dem-glo-30/static"}
    # The same acquisitions: Collection 1 carries the offset, the other collection has it in its numbers and announces it all the same.
    assert {i.assets["green"].offset for i in sources["sentinel-2-c1-l2a/post"].items} == {-0.1}
    assert {i.assets["green"].offset for i in sources["sentinel-2-l2a/post"].items} == {0.0}
    assert sources["cop-dem-glo-30/static"].items[0].assets["dem"].href.startswith("s3://copernicus-dem-30m/")


def test_planning_only_searches_and_asks_for_no_collection_that_it_would_refuse(example, server):
    mdive.plan(example.event)
    assert {(r.method, r.path) for r in server.requests} == {("GET", "/"), ("POST", "/search")}
    asked = {c for r in server.searches for c in r.body["collections"]}
    assert {"sentinel-2-l2a", "cop-dem-glo-30"} <= asked
    assert not asked & {"sentinel-1-grd", "sentinel-2-l1c"}


def test_planning_opens_no_file(example, opened):
    mdive.plan(example.event)
    assert opened == []


def test_with_tiles_of_a_given_size_planning_opens_no_file(example, opened):
    mdive.plan(example.event, tile_size=1024)
    assert opened == []


def test_tiles_are_no_part_of_a_plans_identity(example):
    plans = [mdive.plan(example.event, tile_size=size) for size in (None, 512, 1024)]
    assert len({plan.tiling for plan in plans}) > 1
    assert len({plan.identity for plan in plans}) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_plan_does_not_depend_on_the_order_and_the_pages_of_the_answer(example, server, seed):
    plan = mdive.plan(example.event)
    assert mdive.plan(example.event) == plan
    random.Random(seed).shuffle(server.items)
    server.page_size = 2 + seed
    again = mdive.plan(example.event)
    assert again.identity == plan.identity
    assert again == plan


def test_another_offer_is_another_plan(example, server):
    """The identity that the tests above compare does see the items."""
    plan = mdive.plan(example.event)
    chosen = plan.sources[-1].items[0].id
    server.items = [raw for raw in server.items if raw["id"] != chosen]
    assert mdive.plan(example.event).identity != plan.identity


def test_the_address_of_a_mirror_gives_the_same_plan(flood, server):
    """``catalog`` wins over the event's own; the items are known by their collection wherever they are found."""
    named, found = mdive.plan(flood.event), mdive.plan(flood.event, catalog=server.url)
    assert found.sources == named.sources
    assert found.identity == named.identity
    assert (named.catalog, found.catalog) == ("earth-search", server.url)


def test_the_command_prints_the_plan_that_the_function_gives(example, capsys, monkeypatch):
    printed = command(capsys, monkeypatch, "plan", "--event", example.path, "--json")
    assert json.loads(printed) == mdive.plan(example.event).model_dump(mode="json", exclude_none=True)


def test_the_command_plans_for_people(example, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    said = command(capsys, monkeypatch, "plan", "--event", example.path)
    plan = mdive.plan(example.event)
    for word in (plan.identity[:12], plan.algorithm.name, plan.grid.crs, example.catalog, "sentinel-1-grd"):
        assert word in said


# Tokens


def signed(raw):
    """Return an item as a catalogue gives it that signs each address in its answer."""
    raw = copy.deepcopy(raw)
    for asset in raw["assets"].values():
        asset["href"] = f"{asset['href'].partition('?')[0]}?st=2024-01-01&se=CANARY&sp=rl&sv=2021-06-08&sr=c&sig=CANARY%3D"
    raw["links"] = [{"rel": "self", "href": f"https://user:CANARY@example.com/items/{raw['id']}?token=CANARY"}]
    return raw


def test_no_token_of_a_signed_answer_gets_into_a_plan(wildfire, server, tmp_path, capsys, monkeypatch):
    plain = mdive.plan(wildfire.event)
    server.items = [signed(raw) for raw in server.items]
    path = tmp_path / "plan.json"
    printed = command(capsys, monkeypatch, "plan", "--event", wildfire.path, "--json", "--out", path)
    assert "CANARY" in json.dumps(server.items)
    for text in (printed, path.read_text()):
        assert "CANARY" not in text
        assert "sig=" not in text
    plan = load_document(path, Plan, max_bytes=10**8)
    hrefs = [{i.id: {b: a.href for b, a in i.assets.items()} for s in p.sources for i in s.items} for p in (plan, plain)]
    assert hrefs[0] == hrefs[1]
    assert {i.href for s in plan.sources for i in s.items} == {f"https://example.com/items/{i.id}" for s in plan.sources for i in s.items}


# Where and when the recorded items were taken

PLACES = {
    # Zambia, one Sentinel-2 tile over two months, all processed before baseline 04.00.
    "planetary-computer, sentinel-2 before baseline 04.00": (
        "planetary-computer",
        {
            "event_class": "wildfire",
            "bbox": (27.3, -8.0, 27.6, -7.7),
            "window": ("2020-07-01", "2020-07-31"),
            "baseline": ("2020-06-01", "2020-06-30"),
        },
        ("wildfire.dnbr", "EPSG:32735"),
        {
            "sentinel-2-l2a/pre": [
                "S2B_MSIL2A_20200626T080609_R078_T35MNM_20200824T052748",
                "S2A_MSIL2A_20200621T080611_R078_T35MNM_20200823T125142",
            ],
            "sentinel-2-l2a/post": ["S2B_MSIL2A_20200716T080609_R078_T35MNM_20200816T092511"],
        },
        (0.0001, 0.0, "1"),
    ),
    # The Arctic Ocean, two tiles of two zones in one pass.
    "planetary-computer, sentinel-2 since baseline 04.00": (
        "planetary-computer",
        {"event_class": "flood", "bbox": (93.5, 81.2, 95.0, 81.5), "window": ("2024-04-10", "2024-04-25")},
        ("flood.optical_index", "EPSG:32646"),
        {
            "sentinel-2-l2a/post": [
                "S2B_MSIL2A_20240419T095549_R122_T46XER_20240419T124342",
                "S2B_MSIL2A_20240419T095549_R122_T47XML_20240419T123458",
            ]
        },
        (0.0001, -0.1, "1"),
    ),
    # Libya, two slices of one radar pass.
    "planetary-computer, sentinel-1": (
        "planetary-computer",
        {"event_class": "flood", "bbox": (14.5, 30.6, 15.0, 31.0), "window": ("2024-04-10", "2024-04-25")},
        ("flood.sar_threshold", "EPSG:32633"),
        {
            "sentinel-1-rtc/post": [
                "S1A_IW_GRDH_1SDV_20240419T045839_20240419T045904_053498_067DF2_rtc",
                "S1A_IW_GRDH_1SDV_20240419T045904_20240419T045916_053498_067DF2_rtc",
            ]
        },
        (1.0, 0.0, "power"),
    ),
    # Tasmania.
    "planetary-computer, landsat": (
        "planetary-computer",
        {"event_class": "flood.riverine", "bbox": (148.0, -42.6, 148.3, -42.3), "window": ("2024-04-10", "2024-04-25")},
        ("flood.optical_index", "EPSG:32755"),
        {"landsat-c2-l2/post": ["LC09_L2SP_089089_20240417_02_T1", "LC09_L2SP_089090_20240417_02_T1"]},
        (2.75e-5, -0.2, "1"),
    ),
    # Ceará in Brazil, where the recorded page has both collections of one tile, and then only one of the next.
    "earth-search, collection 1": (
        "earth-search",
        {"event_class": "flood", "bbox": (-38.6, -4.9, -38.4, -4.7), "window": ("2025-07-25", "2025-08-05")},
        ("flood.optical_index", "EPSG:32724"),
        {"sentinel-2-c1-l2a/post": ["S2B_T24MWV_20250731T130245_L2A"]},
        (0.0001, -0.1, "1"),
    ),
    "earth-search, offset applied": (
        "earth-search",
        {"event_class": "flood", "bbox": (-39.5, -4.7, -39.3, -4.6), "window": ("2025-07-25", "2025-08-05")},
        ("flood.optical_index", "EPSG:32724"),
        {"sentinel-2-l2a/post": ["S2B_24MVV_20250731_0_L2A"]},
        (0.0001, 0.0, "1"),
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_planned_where_the_recorded_items_lie(place, serve, server, recorded):
    catalog, fields, (algorithm, crs), passes, meaning = PLACES[place]
    serve(catalog, [raw for name in ARCHIVES[catalog] for raw in recorded(name)])
    event = mdive.Event(**{k: v for k, v in fields.items() if k != "bbox"}, area=mdive.Area.from_bbox(*fields["bbox"]), catalog=catalog)
    plan = mdive.plan(event, tile_size=512)
    assert (plan.algorithm.name, plan.grid.crs) == (algorithm, crs)
    assert {s.key: [name for o in s.observations for name in o.items] for s in plan.sources} == passes
    assert numbers(plan) == {name: {meaning} for names in passes.values() for name in names}
    random.Random(place).shuffle(server.items)
    assert mdive.plan(event, tile_size=512) == plan
