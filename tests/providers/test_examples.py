"""The two examples, planned against recorded responses of the catalogues that they name, served on loopback.

The recorded items are of other places and times: the server gives them as if they had been taken over the example's area in its windows. All
that decides how they are read (collections, assets, bands, baselines, flags, orbits, hrefs) is as it was recorded.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mdive.model.event import load_event
from mdive.providers import candidates, open_catalog

EXAMPLES = Path(__file__).parents[2] / "examples"
ES = "responses/earth-search.aws.element84.com__FeatureCollection__"
PC = "responses/planetarycomputer.microsoft.com__FeatureCollection__"


@pytest.fixture
def around():
    """Return an event with its bounds, grown to a scene's footprint."""

    def load(name):
        event = load_event(EXAMPLES / name)
        west, south, east, north = event.area.geometry.bounds
        windows = {"pre": (event.baseline_window.start, event.baseline_window.end), "post": (event.window.start, event.window.end)}
        return event, (west - 0.4, south - 0.4, east + 0.4, north + 0.4), {**windows, "static": None}

    return load


def collection(items, name):
    return [i for i in items if i["collection"] == name]


def test_flood_event_on_earth_search(server, recorded, moved, around, monkeypatch):
    event, bbox, windows = around("flood_event.yaml")
    assert event.catalog == "earth-search"
    s2 = recorded(f"{ES}sentinel-2-c1-l2a+sentinel-2-l1c+sentinel-2-l2a__n10_next_POST.json")
    dem = recorded(f"{ES}cop-dem-glo-30__n1_next_POST.json")[0]
    l2a, c1, l1c = (collection(s2, f"sentinel-2-{c}") for c in ("l2a", "c1-l2a", "l1c"))
    days = {
        "post": ["2023-04-13T15:59:01+00:00", "2023-04-18T15:59:01+00:00"],
        "pre": ["2023-03-29T15:59:01+00:00", "2023-04-08T15:59:01+00:00"],
    }
    times = [t for phase in days.values() for t in phase]
    server.items = [moved(raw, bbox, t) for raw, t in zip(l2a, times, strict=True)]
    server.items += [moved(raw, bbox, t) for raw, t in zip(c1, times, strict=False)]
    server.items += [moved(raw, bbox, times[0]) for raw in l1c]
    server.items += [moved(dem, bbox, dem["properties"]["datetime"])]
    server.page_size = 3
    monkeypatch.setenv("MDIVE_CATALOG_EARTH_SEARCH", server.url)

    found = candidates(open_catalog(event.catalog), event.area.geometry, windows)

    keys = [s.key for s in found.sources]
    assert {"sentinel-2-l2a/post", "sentinel-2-l2a/pre", "sentinel-2-c1-l2a/post", "sentinel-2-c1-l2a/pre", "cop-dem-glo-30/static"} == set(
        keys
    )
    sources = {s.key: s for s in found.sources}
    for key, offset in (("sentinel-2-l2a/post", 0.0), ("sentinel-2-c1-l2a/post", -0.1)):
        source = sources[key]
        assert {"green", "red", "nir", "swir16", "swir22"} <= set(source.bands)
        assert source.mask.band == "scl"
        assert {i.assets["green"].offset for i in source.items} == {offset}
        assert all(a.href.startswith("https://") for i in source.items for a in i.assets.values())
        assert all(found.facts[key].coverage == 1.0 for key in sources)
    assert sources["cop-dem-glo-30/static"].items[0].assets["dem"].href.startswith("s3://")
    assert sources["sentinel-2-c1-l2a/post"].items[0].assets["red"].checksum.startswith("1220")
    assert [r.collection for r in found.rejected if r.item is None] == ["sentinel-1-grd"]
    assert not any("mdive:signing" in i.properties for s in found.sources for i in s.items)
    asked = [r.body["collections"] for r in server.searches if "token" not in r.body]
    assert len(asked) == 3
    assert all("sentinel-1-grd" not in c and "sentinel-2-l1c" not in c for c in asked)


def test_wildfire_event_on_planetary_computer(server, recorded, moved, around, monkeypatch):
    event, bbox, windows = around("wildfire_event.yaml")
    assert event.catalog == "planetary-computer"
    s2 = recorded("stac_geoparquet/sentinel-2-l2a-pc.json")
    old = recorded("responses/planetarycomputer.microsoft.com__Feature__sentinel-2-l2a__n1_GET.json")[0]
    landsat = [r for r in recorded("stac_geoparquet/landsat-c2-l2-pc.json") if r["properties"]["platform"] == "landsat-9"]
    rtc = recorded("stac_geoparquet/sentinel-1-rtc-pc.json")
    cover = recorded(f"{PC}esa-worldcover__n1_next_GET.json")[0]
    dem = recorded(f"{PC}cop-dem-glo-30__n1_next_GET.json")[0]
    server.items = [
        moved(s2[0], bbox, "2022-09-01T18:59:11+00:00"),
        moved(s2[1], bbox, "2022-09-11T18:59:11+00:00"),
        moved(old, bbox, "2022-07-23T18:59:11+00:00"),
        moved(landsat[0], bbox, "2022-09-05T18:45:51+00:00"),
        moved(landsat[1], bbox, "2022-07-19T18:45:51+00:00"),
        moved(rtc[0], bbox, "2022-08-21T14:14:20+00:00"),
        moved(rtc[1], bbox, "2022-07-16T14:14:20+00:00"),
        moved(cover, bbox, cover["properties"]["start_datetime"]),
        moved(dem, bbox, dem["properties"]["datetime"]),
    ]
    monkeypatch.setenv("MDIVE_CATALOG_PLANETARY_COMPUTER", server.url)

    found = candidates(open_catalog(event.catalog), event.area.geometry, windows)

    sources = {s.key: s for s in found.sources}
    assert set(sources) == {f"{c}/{p}" for c in ("sentinel-2-l2a", "landsat-c2-l2", "sentinel-1-rtc") for p in ("pre", "post")} | {
        "cop-dem-glo-30/static",
        "esa-worldcover/static",
    }
    assert {i.assets["nir08"].offset for i in sources["sentinel-2-l2a/post"].items} == {-0.1}
    assert {i.assets["nir08"].offset for i in sources["sentinel-2-l2a/pre"].items} == {0.0}
    assert {"nir08", "swir22"} <= set(sources["landsat-c2-l2/pre"].bands)
    assert sources["landsat-c2-l2/post"].mask.band == "qa_pixel"
    assert {a.unit for i in sources["sentinel-1-rtc/post"].items for a in i.assets.values()} == {"power"}
    assert {i.properties["mdive:signing"] for s in found.sources for i in s.items} == {"planetary-computer"}
    assert not any("?" in a.href for s in found.sources for i in s.items for a in i.assets.values())
    assert [r.collection for r in found.rejected] == ["sentinel-1-grd"]


@pytest.mark.parametrize(("name", "hazard"), [("flood_event.yaml", "flood.urban"), ("wildfire_event.yaml", "wildfire.forest")])
def test_the_examples_are_valid_events(name, hazard):
    event = load_event(EXAMPLES / name)
    assert event.event_class == hazard
    assert event.baseline_window.end < event.window.start
