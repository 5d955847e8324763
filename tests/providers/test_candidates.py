"""From items to sources: which scenes, in which passes, in which order, and what was left out and why."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box

from mdive.errors import InputError
from mdive.providers import candidates
from mdive.providers._extent import UnusableError, centre_longitude, equal_area, footprint, surface
from mdive.providers._scenes import solar_day

AREA = box(10.0, 45.0, 10.4, 45.3)
WEST, EAST = (9.9, 44.9, 10.2, 45.4), (10.2, 44.9, 10.5, 45.4)
WHOLE = (9.0, 44.0, 11.0, 46.0)


def day(month, number, hour=10):
    return datetime(2024, month, number, hour, tzinfo=UTC)


POST, PRE = (day(5, 10), day(5, 25)), (day(4, 1), day(5, 9))
WINDOWS = {"pre": PRE, "post": POST, "static": None}


def stamp(moment):
    return moment.isoformat().replace("+00:00", "Z")


@pytest.fixture
def scene(item, optical_assets, radar_assets):
    """Return a maker of items: optical by default, radar with ``orbit``."""

    def make(name, when, bbox=WHOLE, *, cloud=None, orbit=None, platform=None, collection=None, assets=None, **more):
        properties = dict(more)
        if cloud is not None:
            properties["eo:cloud_cover"] = cloud
        if orbit is not None:
            properties["sat:relative_orbit"] = orbit
        if platform:
            properties["platform"] = platform
        assets = assets or (radar_assets("vv", "vh") if orbit is not None else optical_assets("green", "nir", "swir16"))
        collection = collection or ("radar" if orbit is not None else "optical")
        return item(name, collection=collection, bbox=bbox, when=stamp(when), assets=assets, **properties)

    return make


def find(found, key):
    return next(s for s in found.sources if s.key == key)


def picked(found, key):
    return [o.items for o in find(found, key).observations]


def reasons(found):
    return {r.item: r.reason for r in found.rejected}


# Windows


def test_a_phase_takes_what_its_window_holds_to_the_last_moment(memory, scene):
    raws = [scene("first", POST[0]), scene("last", POST[1]), scene("before", PRE[1]), scene("after", POST[1] + timedelta(seconds=1))]
    found = candidates(memory(raws), AREA, WINDOWS)
    assert {i.id for i in find(found, "optical/post").items} == {"first", "last"}
    assert {i.id for i in find(found, "optical/pre").items} == {"before"}


def test_an_acquisition_at_the_onset_is_after_it(memory, scene):
    found = candidates(memory([scene("x", POST[0])]), AREA, {"pre": (PRE[0], POST[0]), "post": POST})
    assert [s.key for s in found.sources] == ["optical/post"]


def test_a_composite_over_the_onset_is_neither_before_nor_after(memory, item, optical_assets):
    raw = item(
        "week",
        bbox=WHOLE,
        when=None,
        assets=optical_assets("red"),
        start_datetime=stamp(POST[0] - timedelta(days=3)),
        end_datetime=stamp(POST[0] + timedelta(days=3)),
    )
    found = candidates(memory([raw]), AREA, WINDOWS)
    assert found.sources == ()
    assert {r.reason for r in found.rejected} == {f"it mixes moments inside and outside of the {p} window" for p in ("pre", "post")}


@pytest.mark.parametrize(
    ("when", "phase"),
    [
        ("2024-05-10T08:00:00Z", "pre"),
        ("2024-05-10T12:00:00Z", "post"),
        # Without a zone it is UTC, as STAC has it; with one it is the moment that counts, not the hour that is written.
        ("2024-05-10T08:00:00", "pre"),
        ("2024-05-10T12:00:00", "post"),
        ("2024-05-10T12:00:00+04:00", "pre"),
        ("2024-05-10T08:00:00-04:00", "post"),
    ],
)
def test_before_and_after_are_told_by_the_moment(memory, item, optical_assets, when, phase):
    raw = item("x", bbox=WHOLE, when=when, assets=optical_assets("red"))
    found = candidates(memory([raw]), AREA, {"pre": (PRE[0], POST[0] - timedelta(seconds=1)), "post": POST})
    assert [s.phase for s in found.sources] == [phase]


def test_only_the_phases_that_are_asked_for(memory, scene):
    raws = [scene("a", POST[0]), scene("b", PRE[0])]
    assert [s.key for s in candidates(memory(raws), AREA, {"post": POST}).sources] == ["optical/post"]
    assert [s.key for s in candidates(memory(raws), AREA, {"post": POST, "pre": None}).sources] == ["optical/post"]


@pytest.mark.parametrize(
    ("geometry", "windows", "more", "says"),
    [
        (AREA, {"post": (POST[0].replace(tzinfo=None), POST[1])}, {}, "no time zone"),
        (AREA, {"post": (POST[1], POST[0])}, {}, "before it starts"),
        (box(0, 0, 0, 1), {"post": POST}, {}, "empty"),
        (AREA, {"post": POST}, {"max_observations": 0}, "max_observations"),
    ],
)
def test_what_cannot_mean_anything(memory, geometry, windows, more, says):
    with pytest.raises(InputError, match=says):
        candidates(memory([]), geometry, windows, **more)


def test_nothing_is_a_valid_answer(memory):
    found = candidates(memory([]), AREA, WINDOWS)
    assert (found.sources, found.facts, found.rejected) == ((), {}, ())


# Passes


def test_radar_scenes_of_one_pass_are_one_observation(memory, scene):
    """Slices follow each other by 25 s and may lie on both sides of midnight; the next satellite and the next orbit are other passes."""
    t = datetime(2024, 5, 12, 23, 59, 50, tzinfo=UTC)
    raws = [
        scene("s1", t, WEST, orbit=80, platform="sentinel-1a"),
        scene("s2", t + timedelta(seconds=25), EAST, orbit=80, platform="sentinel-1a"),
        scene("other orbit", t + timedelta(hours=12), EAST, orbit=15, platform="sentinel-1a"),
        scene("other satellite", t + timedelta(minutes=5), EAST, orbit=80, platform="sentinel-1c"),
        scene("next cycle", t + timedelta(days=12), WEST, orbit=80, platform="sentinel-1a"),
    ]
    found = candidates(memory(raws), AREA, {"post": POST}, max_observations=9)
    offered = found.facts["radar/post"].offered
    assert offered == 4
    assert picked(found, "radar/post") == [("s1", "s2")]
    assert find(found, "radar/post").observations[0].properties["sat:relative_orbit"] == 80


def test_optical_scenes_of_one_solar_day_are_one_observation(memory, scene):
    """Over the Pacific the UTC day changes at noon."""
    pacific = box(179.0, -17.5, 179.4, -17.2)
    left, right = (178.9, -18, 179.2, -17), (179.2, -18, 179.5, -17)
    t = datetime(2024, 5, 12, 0, 10, tzinfo=UTC)
    raws = [scene("a", t - timedelta(minutes=20), left, platform="s2a"), scene("b", t, right, platform="s2a")]
    assert picked(candidates(memory(raws), pacific, {"post": POST}), "optical/post") == [("a", "b")]
    assert solar_day(t, 179.2) == "2024-05-12"
    assert solar_day(t, -179.9) == "2024-05-11"
    assert solar_day(datetime(2024, 5, 12, 22, 40, tzinfo=UTC), -120.0) == "2024-05-12"


def test_mosaic_order_is_by_time_and_id(memory, scene):
    t = day(5, 12)
    raws = [scene("b", t, EAST), scene("a", t, WEST), scene("c", t - timedelta(seconds=9), (10.1, 44.9, 10.3, 45.4))]
    assert picked(candidates(memory(raws), AREA, {"post": POST}), "optical/post") == [("c", "a", "b")]


# Duplicates


def reprocessed(scene, name, baseline, **more):
    return scene(
        name,
        day(5, 12),
        platform="sentinel-2a",
        **{"grid:code": "MGRS-32TNR", "s2:datatake_id": f"GS2A_20240512T101031_1_N{baseline}", "s2:processing_baseline": baseline, **more},
    )


def test_the_newest_processing_replaces_the_others(memory, scene):
    raws = [reprocessed(scene, "old", "02.14"), reprocessed(scene, "new", "05.10"), reprocessed(scene, "mid", "04.00")]
    found = candidates(memory(raws), AREA, {"post": POST})
    assert picked(found, "optical/post") == [("new",)]
    assert reasons(found) == {"old": "it is another processing of new", "mid": "it is another processing of new"}


def test_of_one_baseline_the_latest_processing_stays(memory, scene):
    raws = [
        reprocessed(scene, "z", "05.10", **{"s2:generation_time": "2024-05-12T14:00:00Z"}),
        reprocessed(scene, "a", "05.10", **{"s2:generation_time": "2024-05-13T02:00:00Z"}),
    ]
    assert picked(candidates(memory(raws), AREA, {"post": POST}), "optical/post") == [("a",)]


def test_granules_of_two_data_strips_both_stay(memory, scene):
    """Same datatake, tile and platform, other ground: nothing is lost by de-duplication."""
    one, two = reprocessed(scene, "one", "05.10"), reprocessed(scene, "two", "05.10")
    for raw, bbox in ((one, WEST), (two, EAST)):
        raw["bbox"], raw["geometry"] = list(bbox), box(*bbox).__geo_interface__
    found = candidates(memory([one, two]), AREA, {"post": POST})
    assert picked(found, "optical/post") == [("one", "two")]
    assert found.facts["optical/post"].coverage == 1.0


def test_a_final_landsat_scene_replaces_the_real_time_one(memory, scene):
    rows = {"landsat:wrs_path": "193", "landsat:wrs_row": "028"}
    raws = [
        scene("rt", day(5, 12) + timedelta(seconds=2), platform="landsat-9", **rows, **{"landsat:collection_category": "RT"}),
        scene("t1", day(5, 12), platform="landsat-9", **rows, **{"landsat:collection_category": "T1"}),
        scene("row 29", day(5, 12) + timedelta(seconds=24), EAST, platform="landsat-9", **(rows | {"landsat:wrs_row": "029"})),
    ]
    found = candidates(memory(raws), AREA, {"post": POST})
    assert set(reasons(found)) == {"rt"}


def test_the_same_item_twice_counts_once(memory, scene):
    raws = [scene("x", day(5, 12), WEST)] * 3
    found = candidates(memory(raws), AREA, {"post": POST})
    assert picked(found, "optical/post") == [("x",)]
    assert found.facts["optical/post"].coverage == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize("stamped", [True, False])
def test_of_two_editions_of_one_item_always_the_same_stays(memory, scene, stamped):
    """The one written last; where neither says when, still one and the same."""
    when = ({"updated": "2024-06-01T00:00:00Z"}, {"updated": "2024-07-01T00:00:00Z"}) if stamped else ({}, {})
    raws = [scene("x", day(5, 12), cloud=cloud, **more) for cloud, more in zip((70, 20), when, strict=True)]
    cloud = [candidates(memory(order), AREA, {"post": POST}).facts["optical/post"].cloud for order in (raws, raws[::-1])]
    assert cloud[0] == cloud[1]
    assert not stamped or cloud[0] == 0.2


# Order and choice


def test_after_the_event_the_clearest_and_fullest_optical_pass_is_best(memory, scene):
    raws = [
        scene("cloudy", day(5, 11), cloud=80),
        scene("half", day(5, 12), WEST, cloud=0),
        scene("clear", day(5, 13), cloud=10),
        scene("untold", day(5, 14)),
        scene("overcast", day(5, 15), cloud=100),
    ]
    found = candidates(memory(raws), AREA, {"post": POST})
    order = [items[0] for items in picked(found, "optical/post")]
    assert order[0] == "clear"
    assert "overcast" not in order
    facts = found.facts["optical/post"]
    assert (facts.offered, facts.coverage, facts.cloud) == (5, 1.0, 0.1)
    assert facts.clear > 0.9


def test_an_overcast_area_is_reported_as_overcast_not_as_never_seen(memory, scene):
    found = candidates(memory([scene("x", day(5, 12), cloud=100)]), AREA, {"post": POST})
    assert picked(found, "optical/post") == [("x",)]
    assert found.facts["optical/post"].clear == 0.0


def test_after_the_event_radar_prefers_coverage_then_the_first_look(memory, scene):
    raws = [
        scene("half", day(5, 10, 11), WEST, orbit=1),
        scene("late", day(5, 20), orbit=2),
        scene("early", day(5, 12), orbit=3),
    ]
    found = candidates(memory(raws), AREA, {"post": POST})
    assert picked(found, "radar/post") == [("early",)]
    assert find(found, "radar/post").mask is None


def test_passes_are_added_while_they_add_ground(memory, scene):
    raws = [scene("w", day(5, 12), WEST, orbit=1), scene("e", day(5, 14), EAST, orbit=2), scene("w again", day(5, 16), WEST, orbit=3)]
    found = candidates(memory(raws), AREA, {"post": POST})
    assert picked(found, "radar/post") == [("w",), ("e",)]
    assert found.facts["radar/post"].coverage == 1.0
    assert len(picked(candidates(memory(raws), AREA, {"post": POST}, max_observations=1), "radar/post")) == 1


def test_a_wide_area_is_filled_before_clouds_are_averaged_out(memory, scene):
    """With two looks to spend, the uncovered half is worth more than a second look at the covered one."""
    raws = [scene("w1", day(5, 12), WEST, cloud=30), scene("w2", day(5, 13), WEST, cloud=35), scene("e", day(5, 14), EAST, cloud=60)]
    found = candidates(memory(raws), AREA, {"post": POST}, max_observations=2)
    assert {items[0] for items in picked(found, "optical/post")} == {"w1", "e"}
    # In the mosaic the clearer look still comes first.
    found = candidates(memory(raws), AREA, {"post": POST}, max_observations=3)
    assert [items[0] for items in picked(found, "optical/post")] == ["w1", "w2", "e"]


def test_before_the_event_nearness_and_clearness_are_weighed(memory, scene):
    raws = [
        scene("post", day(5, 12), cloud=0),
        scene("yesterday, overcast", day(5, 9), cloud=95),
        scene("last week, clear", day(5, 2), cloud=3),
        scene("last month, clear", day(4, 3), cloud=0),
    ]
    found = candidates(memory(raws), AREA, WINDOWS, max_observations=1)
    assert picked(found, "optical/pre") == [("last week, clear",)]


def test_before_the_event_the_instrument_of_afterwards_is_preferred(memory, scene):
    raws = [
        scene("post", day(5, 12), cloud=0, instruments=["oli", "tirs"]),
        scene("etm", day(5, 6), cloud=0, instruments=["etm"]),
        scene("oli", day(5, 3), cloud=0, instruments=["tirs", "oli"]),
    ]
    found = candidates(memory(raws), AREA, WINDOWS, max_observations=1)
    assert picked(found, "optical/pre") == [("oli",)]


def test_before_the_event_radar_keeps_to_the_orbits_of_afterwards(memory, scene):
    """Another viewing geometry looks like change."""
    raws = [
        scene("post", day(5, 12), orbit=80),
        scene("near, other orbit", day(5, 8), orbit=15),
        scene("same orbit", day(4, 30), orbit=80),
        scene("same orbit, older", day(4, 18), orbit=80),
    ]
    found = candidates(memory(raws), AREA, WINDOWS)
    assert picked(found, "radar/pre") == [("same orbit",), ("same orbit, older",)]
    found = candidates(memory(raws[:2]), AREA, WINDOWS)
    assert picked(found, "radar/pre") == [("near, other orbit",)]


def test_radar_before_the_event_is_a_stack_that_no_other_direction_enters(memory, scene):
    """Each earlier pass makes the past better known; the latest go first, and the way back over the same orbit number is another geometry."""
    raws = [scene("post", day(5, 12), orbit=80, **{"sat:orbit_state": "ascending"})]
    raws += [scene(f"pre {d:02d}", day(4, d), orbit=80, **{"sat:orbit_state": "ascending"}) for d in range(1, 31, 3)]
    raws += [scene("way back", day(5, 5), orbit=80, **{"sat:orbit_state": "descending"})]
    found = candidates(memory(raws), AREA, WINDOWS)
    assert picked(found, "radar/pre") == [(f"pre {d:02d}",) for d in range(28, 4, -3)]
    found = candidates(memory(raws), AREA, WINDOWS, max_observations=50)
    assert len(picked(found, "radar/pre")) == 10


def test_orbits_take_turns_where_each_sees_a_part(memory, scene):
    west, east = (9.0, 44.0, 10.24, 46.0), (10.18, 44.0, 11.0, 46.0)
    raws = [scene("post west", day(5, 12), west, orbit=80), scene("post east", day(5, 13), east, orbit=15)]
    raws += [scene(f"{n} {d}", day(4, d), box, orbit=o) for d in range(1, 29, 4) for n, box, o in (("w", west, 80), ("e", east, 15))]
    found = candidates(memory(raws), AREA, WINDOWS, max_observations=6)
    assert sorted(name[0] for (name,) in picked(found, "radar/pre")) == list("eeewww")


def test_sources_are_ordered_by_phase_then_by_what_they_are_likely_to_show(memory, scene):
    raws = [
        scene("a", day(5, 12), cloud=90, collection="cloudy"),
        scene("b", day(5, 12), cloud=10, collection="clear"),
        scene("c", day(5, 1), cloud=0, collection="cloudy"),
    ]
    assert [s.key for s in candidates(memory(raws), AREA, WINDOWS).sources] == ["clear/post", "cloudy/post", "cloudy/pre"]


# What is left out


def test_slivers_and_strangers_are_left_out_with_a_reason(memory, scene, radar_assets):
    raws = [
        scene("good", day(5, 12), orbit=1),
        scene("edge", day(5, 12), (10.3999, 44.0, 12.0, 46.0), orbit=1),
        scene("grd", day(5, 12), orbit=1, collection="sentinel-1-grd", assets=radar_assets("vv", unit=None, dtype="uint16")),
        scene("bare", day(5, 12), assets={"photo": {}}),
    ]
    found = candidates(memory(raws), AREA, {"post": POST})
    assert [i.id for s in found.sources for i in s.items] == ["good"]
    assert "next to nothing" in reasons(found)["edge"]
    assert "terrain-corrected" in reasons(found)["grd"]
    assert "none of its assets" in reasons(found)["bare"]
    assert [str(r).partition(":")[0] for r in found.rejected] == ["optical/bare", "radar/edge", "sentinel-1-grd/grd"]


def test_a_small_item_inside_a_large_area_is_no_sliver(memory, scene):
    small = (10.1, 45.1, 10.11, 45.11)
    found = candidates(memory([scene("small", day(5, 12), small)]), AREA, {"post": POST})
    assert [i.id for i in find(found, "optical/post").items] == ["small"]


def test_one_poor_item_does_not_take_a_band_from_all(memory, scene, optical_assets):
    raws = [scene(f"i{n}", day(5, 12 + n), cloud=40) for n in range(4)]
    raws[2]["assets"].pop("swir16")
    raws[3] = scene("i3", day(5, 15), cloud=40, assets=optical_assets("coastal", "green", "nir", "swir16"))
    found = candidates(memory(raws), AREA, {"post": POST})
    source = find(found, "optical/post")
    assert source.bands == ("green", "nir", "swir16")
    assert reasons(found) == {"i2": "it lacks swir16, which the other items have"}


def test_bands_are_in_one_order_and_items_hold_nothing_else(memory, scene, optical_assets):
    assets = optical_assets("swir22", "red", "blue", "nir") | {"scl": {}, "thumbnail": {"type": "image/png"}}
    source = find(candidates(memory([scene("x", day(5, 12), assets=assets)]), AREA, {"post": POST}), "optical/post")
    assert source.bands == ("blue", "red", "nir", "swir22")
    assert set(source.items[0].assets) == {*source.bands, "scl"}
    assert source.mask.band == "scl"


def test_a_collection_of_two_sensors_is_two_sources(memory, scene):
    raws = [scene("r", day(5, 12), orbit=1, collection="mix"), scene("o", day(5, 12), collection="mix")]
    assert {s.name for s in candidates(memory(raws), AREA, {"post": POST}).sources} == {"mix-sar", "mix-optical"}


# Static data


def test_static_data_has_no_time_and_its_newest_edition_is_on_top(memory, scene, item):
    dem = {"dem": {"raster:bands": [{"unit": "m", "data_type": "float32"}]}}
    cover = {"landcover": {"raster:bands": [{"data_type": "uint8", "nodata": 0}]}}
    raws = [
        scene("now", day(5, 12)),
        item("dem-w", collection="dem", bbox=WEST, when="2021-04-22T00:00:00Z", assets=dem),
        item("dem-e", collection="dem", bbox=EAST, when="2021-04-22T00:00:00Z", assets=dem),
        item("cover-2020", collection="cover", bbox=WHOLE, when="2020-06-01T00:00:00Z", assets=cover, **{"grid:code": "X-1"}),
        item("cover-2021", collection="cover", bbox=WHOLE, when="2021-06-01T00:00:00Z", assets=cover, **{"grid:code": "X-1"}),
    ]
    found = candidates(memory(raws), AREA, WINDOWS)
    assert {s.key for s in found.sources} == {"optical/post", "dem/static", "cover/static"}
    assert picked(found, "dem/static") == [("dem-e", "dem-w")]
    assert picked(found, "cover/static") == [("cover-2021",)]
    assert [s.phase for s in found.sources] == ["post", "static", "static"]
    raws[-1] = item("cover-2021", collection="cover", bbox=WEST, when="2021-06-01T00:00:00Z", assets=cover)
    assert picked(candidates(memory(raws), AREA, WINDOWS), "cover/static") == [("cover-2021", "cover-2020")]


# Geography


def test_an_area_across_the_antimeridian(memory, scene):
    area = MultiPolygon([box(179.8, -17.0, 180, -16.8), box(-180, -17.0, -179.8, -16.8)])
    belt = scene("belt", day(5, 12), WHOLE)
    belt["geometry"] = {"type": "Polygon", "coordinates": [[[179, -18], [-179, -18], [-179, -16], [179, -16], [179, -18]]]}
    found = candidates(memory([belt]), area, {"post": POST})
    source = find(found, "optical/post")
    assert found.facts["optical/post"].coverage == 1.0
    assert source.items[0].geometry["type"] == "MultiPolygon"
    assert abs(abs(centre_longitude(area)) - 180.0) < 1e-9


@pytest.mark.parametrize("shift", [0.0, 360.0, -360.0, -720.0])
def test_longitudes_beyond_180_are_brought_back(shift):
    ring = [[178 + shift, 0], [182 + shift, 0], [182 + shift, 1], [178 + shift, 1], [178 + shift, 0]]
    found = footprint({"type": "Polygon", "coordinates": [ring]})
    assert found.bounds == (-180.0, 0.0, 180.0, 1.0)
    assert found.area == pytest.approx(4.0)


def test_a_footprint_of_the_whole_globe_stays_whole():
    globe = footprint(box(-180, -90, 180, 90).__geo_interface__)
    assert globe.area == pytest.approx(360 * 180)


def test_a_bow_tie_is_mended():
    tie = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    assert footprint(tie).is_valid


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": "0 0"},
        {"type": "Globe", "coordinates": [[0, 0]]},
        {"coordinates": [[0, 0]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [float("inf"), 0], [1, 1], [0, 0]]]},
    ],
)
def test_what_is_no_footprint(geometry):
    with pytest.raises(UnusableError):
        footprint(geometry)


def test_shares_are_of_the_ground_not_of_degrees():
    """A degree at 60° N is half as wide as at the equator; the ellipsoid's own shares agree within 0.5 %."""
    from pyproj import Geod

    tall, north = box(0, 0, 1, 60), box(0, 30, 1, 60)
    share = surface(equal_area(north)) / surface(equal_area(tall))
    geod = Geod(ellps="WGS84")
    truth = abs(geod.geometry_area_perimeter(north.segmentize(0.1))[0]) / abs(geod.geometry_area_perimeter(tall.segmentize(0.1))[0])
    assert share == pytest.approx(truth, rel=0.005)
    assert share != pytest.approx(0.5, rel=0.1)


# Determinism


def pool(item):
    """Return items of several kinds, with ties and duplicates."""
    vv = {"vv": {"raster:bands": [{"data_type": "float32", "unit": "dB"}]}}
    red = {"red": {"raster:bands": [{"data_type": "uint16", "scale": 1e-4}]}, "scl": {}}
    boxes = [WEST, EAST, WHOLE]
    raws = []
    for n in range(24):
        when = stamp(day(4, 20 + n % 6) if n % 4 == 0 else day(5, 10 + n % 7))
        collection = "radar" if n % 3 == 0 else "optical"
        raw = item(f"i{n:02d}", collection=collection, bbox=boxes[n % 3], when=when, assets=vv if n % 3 == 0 else red)
        raw["properties"] |= {"eo:cloud_cover": 30.0} if n % 5 else {}
        raw["properties"] |= {"sat:relative_orbit": n % 2} if n % 3 == 0 else {}
        raws.append(raw)
    edited = {**raws[1], "properties": {**raws[1]["properties"], "eo:cloud_cover": 1.0}}
    return [*raws, raws[5], edited]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_the_order_in_which_items_come_changes_nothing(memory, item, seed):
    raws = pool(item)
    calm = candidates(memory(raws), AREA, WINDOWS)
    random.Random(seed).shuffle(raws)
    shaken = candidates(memory(raws), AREA, WINDOWS)
    assert shaken == calm
    assert shaken.identity == calm.identity
    assert calm.sources


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_chosen_is_possible_and_honest(memory, item, data):
    """For random scenes: shares are shares, no pass is chosen twice, nothing is outside its window, and coverage is what footprints cover."""
    corner = st.tuples(st.floats(9.5, 10.4), st.floats(44.5, 45.3), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
    corners = data.draw(st.lists(corner, min_size=1, max_size=8))
    days = data.draw(st.lists(st.integers(10, 24), min_size=len(corners), max_size=len(corners)))
    clouds = data.draw(st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=len(corners), max_size=len(corners)))
    red = {"red": {"raster:bands": [{"data_type": "uint16", "scale": 1e-4}]}}
    raws = []
    for n, ((x, y, w, h), d, c) in enumerate(zip(corners, days, clouds, strict=True)):
        more = {} if c is None else {"eo:cloud_cover": c}
        raws.append(item(f"i{n}", bbox=(x, y, x + w, y + h), when=stamp(day(5, d, 11)), assets=red, **more))
    found = candidates(memory(raws), AREA, {"post": POST}, max_observations=3)
    for source in found.sources:
        facts = found.facts[source.key]
        assert 1 <= facts.chosen <= min(3, facts.offered)
        assert 0.0 <= facts.clear <= facts.coverage <= 1.0
        names = [i for o in source.observations for i in o.items]
        assert len(names) == len(set(names)) == len(source.items)
        assert all(POST[0] <= i.datetime <= POST[1] for i in source.items)
        union = equal_area(box(0, 0, 0.1, 0.1)).difference(equal_area(box(0, 0, 0.1, 0.1)))
        for each in source.items:
            union = union.union(equal_area(footprint(each.geometry)))
        truth = surface(union.intersection(equal_area(AREA))) / surface(equal_area(AREA))
        assert facts.coverage == pytest.approx(truth, abs=1e-3)
