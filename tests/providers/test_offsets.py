"""Sentinel-2 reflectance: every flavour of offset, decided by metadata (applied twice or not at all, it moves each index, unseen)."""

from __future__ import annotations

from collections import Counter

import pytest

from mdive.providers import provider
from mdive.providers._extent import UnusableError
from mdive.providers._items import parse_item
from mdive.providers._reading import read_item

ES_BANDS = ("blue", "green", "red", "nir", "nir08", "swir16", "swir22")
PC_BANDS = ("B02", "B03", "B04", "B08", "B8A", "B11", "B12")
OFFSET = {"raster:bands": [{"data_type": "uint16", "nodata": 0, "scale": 0.0001, "offset": -0.1}]}
NO_OFFSET = {"raster:bands": [{"data_type": "uint16", "nodata": 0, "scale": 0.0001, "offset": 0}]}
SILENT: dict = {}


def earth_search(fields, collection="sentinel-2-l2a", name="S2B_24MVV_20250731_0_L2A", **properties):
    return collection, name, ES_BANDS, fields, "earth-search", properties


def planetary(name="S2B_MSIL2A_20250312T014549_R074_T53NKG_20250312T041213", **properties):
    return "sentinel-2-l2a", name, PC_BANDS, SILENT, "planetary-computer", properties


BASELINE, APPLIED = "s2:processing_baseline", "earthsearch:boa_offset_applied"

FLAVOURS = {
    # Earth Search adds the offset itself and still announces it: -0.1 in raster:bands is wrong there.
    "earth-search, applied": (earth_search(OFFSET, **{BASELINE: "05.11", APPLIED: True}), 0.0),
    "earth-search, applied, baseline 04.00": (earth_search(OFFSET, **{BASELINE: "04.00", APPLIED: True}), 0.0),
    "earth-search, not applied": (earth_search(OFFSET, **{BASELINE: "05.11", APPLIED: False}), -0.1),
    "earth-search, flag missing, new": (earth_search(OFFSET, **{BASELINE: "04.00"}), -0.1),
    "earth-search, flag missing, new, metadata 0": (earth_search(NO_OFFSET, **{BASELINE: "05.09"}), -0.1),
    "earth-search, old": (earth_search(NO_OFFSET, **{BASELINE: "03.01", APPLIED: False}), 0.0),
    "earth-search, old, metadata announces it": (earth_search(OFFSET, **{BASELINE: "02.14"}), 0.0),
    "earth-search, old scene reprocessed": (earth_search(OFFSET, name="S2A_24MVV_20160101_1_L2A", **{BASELINE: "05.00"}), -0.1),
    "earth-search, collection 1": (earth_search(OFFSET, "sentinel-2-c1-l2a", **{BASELINE: "05.11"}), -0.1),
    "earth-search, before collection 1": (earth_search(NO_OFFSET, "sentinel-2-pre-c1-l2a", **{BASELINE: "02.09"}), 0.0),
    "earth-search, version in the product's name": (
        earth_search(SILENT, **{"s2:product_uri": "S2B_MSIL2A_20250731T130249_N0511_R095_T24MVV_20250731T132745.SAFE"}),
        -0.1,
    ),
    "planetary-computer, old": (planetary(**{BASELINE: "02.12"}), 0.0),
    "planetary-computer, 03.01": (planetary(**{BASELINE: "03.01"}), 0.0),
    "planetary-computer, 04.00": (planetary(**{BASELINE: "04.00"}), -0.1),
    "planetary-computer, new": (planetary(**{BASELINE: "05.11"}), -0.1),
    "planetary-computer, version in the datatake": (planetary(**{"s2:datatake_id": "GS2A_20150704T101006_000162_N02.12"}), 0.0),
    # A processor that a user ran writes 99.99 whatever it did; the datatake keeps the version of what went in.
    "planetary-computer, 99.99 over old": (planetary(**{BASELINE: "99.99", "s2:datatake_id": "GS2A_20200731T080611_026673_N02.09"}), 0.0),
    "planetary-computer, 99.99 over new": (planetary(**{BASELINE: "99.99", "s2:datatake_id": "GS2A_20220731T080611_026673_N04.00"}), -0.1),
    "planetary-computer, version in the id": (planetary(name="S2B_MSIL2A_20220126T014549_N0400_R074_T53NKG_20220126T041213"), -0.1),
    "planetary-computer, version in the id, old": (planetary(name="S2A_MSIL2A_20210126T014549_N0214_R074_T53NKG_20210126T041213"), 0.0),
}


@pytest.fixture
def build(item):
    def make(flavour):
        collection, name, bands, fields, where, properties = flavour
        assets = {band: dict(fields) for band in bands} | {"scl": {}, "SCL": {}}
        raw = item(name, collection=collection, assets=assets, platform="sentinel-2b", constellation="sentinel-2", **properties)
        return parse_item(raw), provider(where)

    return make


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_scale_and_offset_of_every_flavour(build, flavour):
    source, expected = FLAVOURS[flavour]
    reading = read_item(*build(source))
    assert reading.bands == set(ES_BANDS)
    for band in ES_BANDS:
        asset = reading.assets[band]
        assert (asset.scale, asset.offset, asset.nodata, asset.unit) == (0.0001, expected, 0.0, "1"), band
    assert reading.assets["scl"].offset == 0.0
    assert reading.decided["mdive:offset"].startswith(f"{expected:g} (")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_date_decides_nothing(build, flavour):
    """The whole archive is being reprocessed: a scene of 2016 may carry the offset, and the day of the change says nothing."""
    source, expected = FLAVOURS[flavour]
    for year in (2016, 2023):
        scene, known = build(source)
        scene.datetime = scene.datetime.replace(year=year)
        assert read_item(scene, known).assets["red"].offset == expected


UNVERSIONED = planetary(name="S2A_MSIL2A_20220126T014549_N9999_R074_T53NKG_20220126T041213", **{BASELINE: "99.99"})


@pytest.mark.parametrize("source", [earth_search(OFFSET), earth_search(SILENT), planetary(), UNVERSIONED])
def test_a_scene_that_does_not_say_is_refused(build, source):
    with pytest.raises(UnusableError, match="does not say how it was processed"):
        read_item(*build(source))


def test_an_explicit_zero_stands_where_nothing_else_is_said(build):
    assert read_item(*build(earth_search(NO_OFFSET))).assets["red"].offset == 0.0


def test_a_copy_of_a_catalogue_is_read_like_the_catalogue(build):
    """In a static copy nobody knows the provider; collection, assets and properties are the same, and so is the result."""
    for source, expected in FLAVOURS.values():
        scene, _ = build(source)
        assert read_item(scene, None).assets["red"].offset == expected


@pytest.mark.parametrize(
    ("fields", "properties", "expected"),
    [
        (OFFSET, {APPLIED: True, BASELINE: "05.11"}, 0.0),
        (OFFSET, {BASELINE: "05.11"}, -0.1),
        (NO_OFFSET, {BASELINE: "02.12"}, 0.0),
        (NO_OFFSET, {BASELINE: "05.11"}, 0.0),
        ({"raster:bands": [{"data_type": "uint16", "scale": 0.0001}]}, {BASELINE: "05.11"}, -0.1),
        ({"raster:bands": [{"data_type": "uint16", "scale": 0.0001}]}, {"processing:version": "05.11"}, -0.1),
        ({"raster:bands": [{"data_type": "uint16", "scale": 0.0001}]}, {BASELINE: "02.12"}, 0.0),
        # Somebody's own float reflectance keeps the processing properties of the scene that it was made from.
        ({"raster:bands": [{"data_type": "float32"}]}, {BASELINE: "05.11"}, 0.0),
    ],
)
def test_unlisted_collections_go_by_flag_then_metadata_then_version(build, fields, properties, expected):
    scene, _ = build(earth_search(fields, "my-scenes", **properties))
    assert read_item(scene, None).assets["red"].offset == expected


def test_a_float_derivative_under_a_known_name_is_not_scaled(build):
    """A folder of own reflectance in a collection called like the original must not be multiplied by 0.0001."""
    scene, _ = build(earth_search({"raster:bands": [{"data_type": "float32", "nodata": "nan"}]}, **{BASELINE: "05.11"}))
    asset = read_item(scene, None).assets["red"]
    assert (asset.scale, asset.offset, asset.nodata, asset.dtype) == (1.0, 0.0, "nan", "float32")


SEARCH = "FeatureCollection__sentinel-2"
RECORDED = [
    # Of ten items three are Level-1C, three are of Collection 1, and four have the offset in their numbers and announce it all the same.
    (
        f"responses/earth-search.aws.element84.com__{SEARCH}-c1-l2a+sentinel-2-l1c+sentinel-2-l2a__n10_next_POST.json",
        "earth-search",
        {("sentinel-2-c1-l2a", "05.11", -0.1): 3, ("sentinel-2-l2a", "05.11", 0.0): 4},
    ),
    (
        f"responses/planetarycomputer.microsoft.com__{SEARCH}-l2a__n1_next_GET.json",
        "planetary-computer",
        {("sentinel-2-l2a", "05.11", -0.1): 1},
    ),
    (
        "responses/planetarycomputer.microsoft.com__Feature__sentinel-2-l2a__n1_GET.json",
        "planetary-computer",
        {("sentinel-2-l2a", "02.12", 0.0): 1},
    ),
    ("stac_geoparquet/sentinel-2-l2a-pc.json", "planetary-computer", {("sentinel-2-l2a", "05.10", -0.1): 4}),
    (
        "odc_stac/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json",
        "planetary-computer",
        {("sentinel-2-l2a", "02.12", 0.0): 1},
    ),
    ("odc_stac/site2-2020_jun_jul-35MNM.geojson", "planetary-computer", {("sentinel-2-l2a", "02.12", 0.0): 13}),
    (
        "stactools_s2/sentinel2-l2a-example/S2A_T07HFE_20190212T192646_L2A/S2A_T07HFE_20190212T192646_L2A.json",
        None,
        {("sentinel2-l2a-example", "02.12", 0.0): 1},
    ),
]


@pytest.mark.parametrize(("name", "where", "expected"), RECORDED)
def test_recorded_scenes(recorded, name, where, expected):
    """Real items: Level-2A with the offset that flag and baseline ask for, all bands and the scene classification."""
    found = Counter()
    for raw in recorded(name):
        scene = parse_item(raw)
        if "l1c" in (scene.collection_id or ""):
            continue
        scene.set_self_href(scene.get_self_href() or "/tmp/item.json")
        reading = read_item(scene, provider(where) if where else None)
        assert reading.assets == read_item(scene, None).assets, "a copy is read like the catalogue"
        assert set(ES_BANDS) <= reading.bands
        ((scale, offset, unit),) = {(reading.assets[b].scale, reading.assets[b].offset, reading.assets[b].unit) for b in reading.bands}
        assert (scale, unit) == (0.0001, "1")
        found[scene.collection_id, scene.properties[BASELINE], offset] += 1
        assert {reading.assets[b].nodata for b in ES_BANDS} <= {0.0}
        assert reading.mask.band == "scl"
        assert reading.assets["scl"].nodata == 0.0
        assert reading.assets["scl"].resampling == "nearest"
    assert found == expected


def test_recorded_items_that_lost_their_properties_are_refused(recorded):
    """Real Earth Search items that somebody cut down to date and cloud: their raster:bands still announce an applied offset."""
    for raw in recorded("terrakit_earthsearch_items.json"):
        with pytest.raises(UnusableError, match="does not say how it was processed"):
            read_item(parse_item(raw), None)
