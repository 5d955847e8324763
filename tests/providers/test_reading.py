"""How items become bands with physical units: datasources, mask conventions, and items that only have their metadata."""

from __future__ import annotations

import jsonschema
import pytest

from mdive.errors import InputError
from mdive.model.datasource import Provider
from mdive.model.flags import QC_FLAGS
from mdive.model.load import load_document, load_mapping
from mdive.model.schema import generate_schema
from mdive.plugins.registry import providers as files
from mdive.providers import describe_providers, provider, provider_names
from mdive.providers._extent import UnusableError
from mdive.providers._items import parse_item
from mdive.providers._library import datasources, mask_conventions, offset_rules
from mdive.providers._metadata import OPTICAL, SENSOR_OF
from mdive.providers._reading import read_item

PC = "planetarycomputer.microsoft.com__"
LANDSAT = {"coastal", "blue", "green", "red", "nir08", "swir16", "swir22"}


# Documents


def test_every_datasource_names_what_exists():
    assert provider_names() == ("earth-search", "planetary-computer")
    for source in datasources():
        assert set(source.bands) <= set(SENSOR_OF)
        assert source.mask is None or source.mask in mask_conventions()
        assert source.offset_rule is None or source.offset_rule in offset_rules()
        assert {SENSOR_OF[band] for band in source.bands} <= {source.sensor, "thermal"}
        assert source.static == (source.sensor in {"elevation", "reference"})


MEANING = {
    # Collection: bands, then (scale, offset, nodata, unit) of the stored numbers; None is what the items say. The sources are those of
    # the providers' own product guides, written down here a second time.
    "sentinel-1-rtc": ({"vv", "vh", "hh", "hv"}, (1.0, 0.0, -32768, "power"), None),
    "sentinel-2-l2a": (set(OPTICAL), (0.0001, None, 0, "1"), "scl"),
    "sentinel-2-c1-l2a": (set(OPTICAL), (0.0001, None, 0, "1"), "scl"),
    "sentinel-2-pre-c1-l2a": (set(OPTICAL), (0.0001, None, 0, "1"), "scl"),
    "hls2-s30": (set(OPTICAL) - {"nir09"}, (0.0001, 0.0, -9999, "1"), "fmask"),
    "hls2-l30": (LANDSAT, (0.0001, 0.0, -9999, "1"), "fmask"),
    "landsat-c2-l2": (LANDSAT | {"lwir11"}, (0.0000275, -0.2, 0, "1"), "qa_pixel"),
    "cop-dem-glo-30": ({"dem"}, (None, None, None, "m"), None),
    "jrc-gsw": ({"occurrence"}, (1.0, 0.0, 255, "%"), None),
    "esa-worldcover": ({"landcover"}, (1.0, 0.0, 0, "class"), None),
}


def test_every_collection_means_what_its_producer_says():
    seen = set()
    for source in datasources():
        for collection in source.collections if not source.refuse else ():
            bands, numbers, mask = MEANING[collection]
            said = source.numbers
            assert (set(source.bands), source.mask) == (bands, mask), collection
            assert (said.scale, said.offset, said.nodata, said.unit) == numbers, collection
            assert source.offset_rule == ("sentinel-2-boa" if collection.startswith("sentinel-2") else None)
            heat = source.bands.get("lwir11")
            assert heat is None or (heat.scale, heat.offset, heat.unit) == (0.00341802, 149.0, "K")
            assert said.resampling == ("nearest" if source.sensor == "reference" else None)
            seen.add(collection)
    assert seen == set(MEANING)


def test_bands_are_not_mixed_up_between_sensors():
    """The two near infrared bands of Sentinel-2 differ in width and resolution; Landsat's numbers are shifted against them."""
    sources = {c: s for s in provider("planetary-computer").datasources for c in s.collections}
    names = ("blue", "green", "red", "nir", "nir08", "swir16", "swir22")
    for collection in ("sentinel-2-l2a", "hls2-s30"):
        assert [sources[collection].bands[name].assets for name in names] == [
            (f"B{n}",) for n in ("02", "03", "04", "08", "8A", "11", "12")
        ]
    assert [sources["hls2-l30"].bands[name].assets for name in names if name != "nir"] == [(f"B0{n}",) for n in range(2, 8)]


def test_rows_for_people():
    rows = describe_providers()
    assert {"provider", "collection", "sensor", "title"} <= set(rows[0])
    assert {r["collection"] for r in rows if r["refused"]} == {"sentinel-1-grd"}
    listed = {(r["provider"], r["collection"]) for r in rows}
    assert {("planetary-computer", c) for c in ("sentinel-1-rtc", "hls2-s30", "hls2-l30", "jrc-gsw", "esa-worldcover")} <= listed
    assert {(p, c) for p in provider_names() for c in ("sentinel-2-l2a", "landsat-c2-l2", "cop-dem-glo-30")} <= listed


@pytest.fixture(scope="module")
def schema():
    return jsonschema.Draft202012Validator(generate_schema("datasource"))


def test_every_provider_file_satisfies_the_schema(schema):
    for path in files().values():
        assert [error.message for error in schema.iter_errors(load_mapping(path))] == [], path
    assert len(files()) == 2


@pytest.mark.parametrize(
    ("change", "says", "beyond_schema"),
    [
        (("sensor: optical", "sensor: optic"), "sensor", False),
        (("    mask: scl\n", ""), "belong together", True),
        (("[sentinel-2-l2a]", "[sentinel-2-l2a, sentinel-2-l2a]"), "described twice", True),
        (("url: https:", "url: ftp:"), "url", False),
        (("bands:", "band:"), "band", False),
        (("red: B04", "red: 4"), "red", False),
        (("assets: [B08, B8A]", "assets: []"), "nir", False),
        (("    title: Reflectance\n", ""), "title", False),
        (('scale: 0.0001, unit: "1"', "scale: 0.0001, unit: furlong"), "unit", False),
    ],
)
def test_a_wrong_provider_file_says_where(tmp_path, schema, change, says, beyond_schema):
    text = """\
name: somewhere
title: Somewhere
url: https://example.com/stac
datasources:
  - collections: [sentinel-2-l2a]
    title: Reflectance
    sensor: optical
    numbers: {scale: 0.0001, unit: "1"}
    bands: {red: B04, nir: {assets: [B08, B8A], minor: true}}
    mask: scl
    mask_asset: SCL
    license: other
"""
    path = tmp_path / "somewhere.yaml"
    path.write_text(text)
    assert load_document(path, Provider).datasources[0].bands["red"].assets == ("B04",)
    assert not list(schema.iter_errors(load_mapping(path)))
    path.write_text(text.replace(*change))
    with pytest.raises(InputError, match=says):
        load_document(path, Provider)
    # What the schema does not say, the document checks itself.
    assert bool(list(schema.iter_errors(load_mapping(path)))) != beyond_schema


# Masks


def test_the_words_of_the_mask_conventions():
    causes = {name: {k: set(v) for k, v in c.causes.items()} for name, c in mask_conventions().items()}
    assert causes["scl"] == {"nodata": {0, 1}, "cloud": {8, 9, 10}, "shadow": {3}, "snow": {11}}
    assert causes["fmask"] == {"cloud": {1, 2}, "shadow": {3}, "snow": {4}}
    assert causes["qa_pixel"] == {"nodata": {0}, "cloud": {1, 2, 3}, "shadow": {4}, "snow": {5}}
    assert causes["qa_pixel_c1"] == {"nodata": {0}, "cloud": {5}, "shadow": {3}, "snow": {4}}
    assert causes["opera_rtc_mask"] == {"layover_shadow": {1, 2, 3}}
    assert all(set(c) <= set(QC_FLAGS) for c in causes.values())


@pytest.mark.parametrize("value", [322, 386, 834, 898, 1346, 324, 388, 836, 900, 1348])
def test_landsat_collection_1_clear_values_are_clear(value):
    """The producer's clear land and water values, high-confidence cirrus among them, set no cause."""
    bits = {b for b in range(16) if value >> b & 1}
    assert not any(bits & set(listed) for listed in mask_conventions()["qa_pixel_c1"].causes.values())


@pytest.mark.parametrize(
    ("key", "assets", "band", "nodata"),
    [
        ("SCL", ["red"], "scl", 0.0),
        ("Fmask", ["red"], "fmask", 255.0),
        ("qa_pixel", ["red"], "qa_pixel", 1.0),
        ("pixel_qa", ["red"], "qa_pixel_c1", 1.0),
        ("mask", ["vv"], "opera_rtc_mask", 255.0),
    ],
)
def test_quality_bands_are_recognised_by_name(item, optical_assets, radar_assets, key, assets, band, nodata):
    values = (radar_assets if assets == ["vv"] else optical_assets)(*assets)
    reading = read_item(parse_item(item("x", assets=values | {key: {}})), None)
    assert reading.mask.band == band
    assert reading.bands == set(assets)
    assert (reading.assets[band].nodata, reading.assets[band].resampling) == (nodata, "nearest")
    assert reading.assets[band].unit in {"bits", "class"}


def test_a_mask_of_another_sensor_is_no_mask(item, optical_assets):
    """``mask`` means OPERA's layover mask only beside radar bands."""
    assert read_item(parse_item(item("x", assets=optical_assets("red") | {"mask": {}})), None).mask is None


def test_what_the_metadata_says_of_a_mask_wins(item, optical_assets):
    scl = {"scl": {"raster:bands": [{"nodata": 99, "data_type": "uint16"}]}}
    asset = read_item(parse_item(item("x", assets=optical_assets("red") | scl)), None).assets["scl"]
    assert (asset.nodata, asset.dtype) == (99.0, "uint16")


# Unlisted collections: the metadata is enough


@pytest.mark.parametrize(
    "asset",
    [
        {"raster:bands": [{"data_type": "int16", "scale": 0.0001, "offset": -0.2, "nodata": -9999}]},
        {"bands": [{"name": "red", "data_type": "int16", "raster:scale": 0.0001, "raster:offset": -0.2, "nodata": -9999}]},
        {"data_type": "int16", "raster:scale": 0.0001, "raster:offset": -0.2, "nodata": "-9999"},
        {"bands": [{"raster:scale": 0.0001, "raster:offset": -0.2}], "raster:bands": [{"scale": 9, "data_type": "int16", "nodata": -9999}]},
    ],
    ids=["1.0", "1.1 bands", "1.1 asset", "1.1 before 1.0"],
)
def test_dialects_of_stac(item, asset):
    got = read_item(parse_item(item("x", assets={"red": asset})), None).assets["red"]
    assert (got.scale, got.offset, got.nodata, got.dtype, got.unit) == (0.0001, -0.2, -9999.0, "int16", "1")


@pytest.mark.parametrize(
    ("key", "bands", "expected"),
    [
        ("RED", [{}], {"red"}),
        ("B4", [{"name": "red"}], {"red"}),
        ("B4", [{"name": "B4", "common_name": "red"}], {"red"}),
        ("B5", [{"common_name": "rededge", "center_wavelength": 0.704}], {"rededge1"}),
        ("B8A", [{"common_name": "rededge", "center_wavelength": 0.865}], {"nir08"}),
        ("B5", [{"common_name": "nir", "center_wavelength": 0.865, "full_width_half_max": 0.03}], {"nir08"}),
        ("B8", [{"common_name": "nir", "center_wavelength": 0.842, "full_width_half_max": 0.145}], {"nir"}),
        ("B6", [{"eo:common_name": "rededge075"}], {"rededge2"}),
        ("all", [{"name": "green"}, {"name": "x"}, {"name": "nir"}], {"green", "nir"}),
    ],
)
def test_names_of_bands(item, key, bands, expected):
    asset = {"bands": [{"raster:scale": 0.001, "data_type": "uint16", **band} for band in bands]}
    reading = read_item(parse_item(item("x", assets={key: asset})), None)
    assert reading.bands == expected
    if key == "all":
        assert (reading.assets["green"].index, reading.assets["nir"].index) == (1, 3)


def test_of_several_assets_the_named_and_finest_one_is_taken(item):
    def band(gsd, common="red"):
        return {"gsd": gsd, "eo:bands": [{"common_name": common}], "raster:bands": [{"scale": 0.1, "data_type": "uint8"}]}

    coarse_first = {"a_60m": band(60), "b_10m": band(10), "c_20m": band(20), "preview": band(1) | {"roles": ["overview"]}}
    assert read_item(parse_item(item("x", assets=coarse_first)), None).assets["red"].href.endswith("b_10m.tif")
    named = coarse_first | {"red": band(60)}
    assert read_item(parse_item(item("x", assets=named)), None).assets["red"].href.endswith("/red.tif")
    formats = {"red-jp2": band(10) | {"type": "image/jp2"}, "red-cog": band(10)}
    assert read_item(parse_item(item("x", assets=formats)), None).assets["red"].href.endswith("red-cog.tif")


@pytest.mark.parametrize(
    ("unit", "dtype", "expected"),
    [
        ("dB", "float32", "dB"),
        ("decibel", "float32", "dB"),
        ("power", "float32", "power"),
        ("linear power", "float32", "power"),
        ("1", "float32", "power"),
        ("amplitude", "float32", "amplitude"),
        ("dB", "int16", "dB"),
    ],
)
def test_units_of_radar(item, radar_assets, unit, dtype, expected):
    reading = read_item(parse_item(item("x", assets=radar_assets("vv", "vh", unit=unit, dtype=dtype))), None)
    assert reading.sensor == "sar"
    assert {reading.assets[b].unit for b in ("vv", "vh")} == {expected}


@pytest.mark.parametrize(
    ("unit", "dtype"), [(None, "uint16"), (None, "float32"), ("1", "uint16"), ("amplitude", "uint16"), ("counts", "float32")]
)
def test_radar_without_a_physical_unit_is_refused(item, radar_assets, unit, dtype):
    with pytest.raises(UnusableError, match="uncalibrated"):
        read_item(parse_item(item("x", assets=radar_assets("vv", unit=unit, dtype=dtype))), None)


@pytest.mark.parametrize("where", ["earth-search", "planetary-computer", None])
def test_ground_range_detected_is_refused_unless_calibrated(item, radar_assets, where):
    known = provider(where) if where else None
    raw = parse_item(item("x", collection="sentinel-1-grd", assets=radar_assets("vv", unit=None, dtype="uint16")))
    with pytest.raises(UnusableError, match="use terrain-corrected gamma0"):
        read_item(raw, known)
    calibrated = parse_item(item("x", collection="sentinel-1-grd", assets=radar_assets("vv")))
    assert read_item(calibrated, known).assets["vv"].unit == "dB"


@pytest.mark.parametrize(
    ("assets", "properties", "says"),
    [
        ({"red": {"raster:bands": [{"data_type": "uint16"}]}}, {}, "without a scale"),
        ({"red": {}}, {}, "without a scale"),
        ({"red": {"raster:bands": [{"data_type": "uint16", "scale": 1e-4, "unit": "W m-2 sr-1"}]}}, {}, "unit 'W m-2 sr-1'"),
        ({"red": {"raster:bands": [{"data_type": "uint16", "scale": 1e-4, "unit": "dB"}]}}, {}, "unit 'dB'"),
        ({"red": {"raster:bands": [{"scale": "big"}]}}, {}, "its scale is 'big'"),
        ({"red": {"raster:bands": [{"scale": 1e-4, "nodata": "none"}]}}, {}, "its nodata"),
        ({"red": {"raster:bands": [{"scale": 1e-4, "nodata": "inf"}]}}, {}, "its nodata"),
        ({"elevation": {}}, {}, "states no unit"),
        ({"photo": {}}, {}, "none of its assets"),
        ({}, {}, "none of its assets"),
        ({"red": {"raster:bands": [{"scale": 1e-4}]}}, {"s2:product_type": "S2MSI1C"}, "atmosphere"),
        ({"red": {"raster:bands": [{"scale": 1e-4}]}}, {"processing:level": "L1C"}, "atmosphere"),
        ({"red": {"raster:bands": [{"scale": 1e-4}]}}, {"landsat:correction": "L1TP"}, "atmosphere"),
    ],
)
def test_what_has_no_physical_meaning_is_refused(item, assets, properties, says):
    with pytest.raises(UnusableError, match=says):
        read_item(parse_item(item("x", assets=assets, **properties)), None)


@pytest.mark.parametrize(
    ("key", "unit", "expected"),
    [
        ("dem", "metre", ("elevation", "m", "bilinear")),
        ("elevation", "m", ("elevation", "m", "bilinear")),
        ("occurrence", "%", ("reference", "%", "nearest")),
        ("landcover", None, ("reference", "class", "nearest")),
        ("lwir11", "kelvin", ("thermal", "K", "bilinear")),
    ],
)
def test_other_sensors(item, key, unit, expected):
    said = {"data_type": "uint8", "scale": 1.0} | ({"unit": unit} if unit else {})
    reading = read_item(parse_item(item("x", assets={key: {"raster:bands": [said]}})), None)
    (asset,) = reading.assets.values()
    assert (reading.sensor, asset.unit, asset.resampling) == expected
    assert reading.static == (expected[0] in {"elevation", "reference"})


def test_the_grid_and_the_checksum_of_an_asset(item):
    band = {"raster:bands": [{"scale": 1e-4}], "proj:shape": [10, 20], "proj:transform": [30, 0, 5, 0, -30, 7, 0, 0, 1]}
    sha = "1220" + "ab" * 32
    raws = {
        "red": band | {"proj:code": "EPSG:32610", "file:checksum": sha},
        "nir": band | {"file:checksum": "0715c62c603222df3a60f36473e19d13"},
    }
    assets = read_item(parse_item(item("x", assets=raws, **{"proj:epsg": 32611})), None).assets
    assert (assets["red"].crs, assets["nir"].crs) == ("EPSG:32610", "EPSG:32611")
    assert (assets["red"].shape, assets["red"].transform) == ((10, 20), (30, 0, 5, 0, -30, 7))
    assert (assets["red"].checksum, assets["nir"].checksum) == (sha, None)


# Addresses


@pytest.mark.parametrize(
    ("href", "kept"),
    [
        (
            "https://x.blob.core.windows.net/a/b.tif?st=2024&se=2025&sp=rl&sv=2021-06-08&sr=c&skoid=1&sig=CANARY%3D",
            "https://x.blob.core.windows.net/a/b.tif",
        ),
        ("https://x.com/a.tif?X-Amz-Credential=CANARY&X-Amz-Expires=60&x-amz-signature=CANARY", "https://x.com/a.tif"),
        ("https://x.com/a.tif?AWSAccessKeyId=CANARY&Expires=1&Signature=CANARY", "https://x.com/a.tif"),
        ("https://x.com/a.tif?Expires=1&%53ig=CANARY", "https://x.com/a.tif"),
        ("https://x.com/a.tif?access_token=CANARY", "https://x.com/a.tif"),
        ("https://x.com/a.tif?apikey=CANARY#CANARY", "https://x.com/a.tif"),
        ("https://user:CANARY@x.com:8080/a.tif", "https://x.com:8080/a.tif"),
        # Two files of one server must not become one.
        ("https://x.com/get?file=a.tif&token=CANARY&v=2", "https://x.com/get?file=a.tif&v=2"),
        ("https://x.com/get?file=sign%2Fa.tif", "https://x.com/get?file=sign%2Fa.tif"),
        ("s3://bucket/a%20b.tif?versionId=1", "s3://bucket/a%20b.tif?versionId=1"),
        ("/data/what?sig=is-a-name.tif", "/data/what?sig=is-a-name.tif"),
    ],
)
def test_an_address_loses_what_opens_it_and_keeps_what_names_it(item, optical_assets, href, kept):
    raw = item("x", assets=optical_assets("red"))
    raw["assets"]["red"]["href"] = href
    assert read_item(parse_item(raw), None).assets["red"].href == kept


# Recorded items


def test_recorded_radar(recorded):
    for name in (f"responses/{PC}FeatureCollection__sentinel-1-rtc__n1_next_GET.json", "stac_geoparquet/sentinel-1-rtc-pc.json"):
        for raw in recorded(name):
            reading = read_item(parse_item(raw), provider("planetary-computer"))
            assert (reading.sensor, reading.access) == ("sar", "signed")
            for band in reading.bands:
                asset = reading.assets[band]
                assert (asset.unit, asset.nodata, asset.scale, asset.dtype) == ("power", -32768.0, 1.0, "float32")
                assert asset.valid_min > 0
                assert asset.crs.startswith("EPSG:32")
                assert asset.checksum is None
    with pytest.raises(UnusableError, match="uncalibrated"):
        read_item(parse_item(recorded(f"responses/{PC}FeatureCollection__sentinel-1-grd__n1_next_GET.json")[0]), None)


def test_recorded_landsat(recorded):
    for name in (
        f"responses/{PC}FeatureCollection__landsat-c2-l2__n10_next_GET.json",
        f"responses/{PC}Feature__landsat-c2-l2__n1_GET.json",
        "stac_geoparquet/landsat-c2-l2-pc.json",
    ):
        for raw in recorded(name):
            reading = read_item(parse_item(raw), provider("planetary-computer"))
            assert {"blue", "green", "red", "nir08", "swir16", "swir22"} <= reading.bands
            red = reading.assets["red"]
            assert (red.scale, red.offset, red.nodata, red.unit) == (2.75e-5, -0.2, 0.0, "1")
            if "lwir11" in reading.bands:
                heat = reading.assets["lwir11"]
                assert (heat.scale, heat.offset, heat.unit) == (0.00341802, 149.0, "K")
            assert "lwir11" in reading.bands or raw["properties"]["landsat:correction"] == "L2SR" or "lwir11" not in raw["assets"]
            assert (reading.mask.band, reading.assets["qa_pixel"].nodata) == ("qa_pixel", 1.0)


def test_recorded_static_data(recorded):
    def one(name, where="planetary-computer"):
        return read_item(parse_item(recorded(f"responses/{name}")[0]), provider(where))

    for reading in (
        one(f"{PC}FeatureCollection__cop-dem-glo-30__n1_next_GET.json"),
        one("earth-search.aws.element84.com__FeatureCollection__cop-dem-glo-30__n1_next_POST.json", "earth-search"),
    ):
        assert (reading.sensor, reading.static, reading.assets["dem"].unit) == ("elevation", True, "m")
    assert reading.assets["dem"].href.startswith("s3://copernicus-dem-30m/")
    cover = one(f"{PC}FeatureCollection__esa-worldcover__n1_next_GET.json")
    asset = cover.assets["landcover"]
    assert (cover.sensor, asset.unit, asset.nodata, asset.resampling) == ("reference", "class", 0.0, "nearest")


def test_recorded_hls_of_another_catalogue(recorded):
    """stactools' own HLS items are in no datasource: their metadata is enough, down to the narrow near infrared that it calls ``nir``."""
    narrow = {
        "stactools_hls/HLS.S30.T19LDD.2022166T144741.v2.0/HLS.S30.T19LDD.2022166T144741.v2.0.json": "B8A",
        "stactools_hls/HLS.L30.T19LDD.2022165T144027.v2.0/HLS.L30.T19LDD.2022165T144027.v2.0.json": "B05",
    }
    for name, code in narrow.items():
        reading = read_item(parse_item(recorded(name)[0]), None)
        assert {"blue", "green", "red", "nir08", "swir16", "swir22"} <= reading.bands
        assert reading.assets["nir08"].href.endswith(f"{code}.tif")
        assert ("nir" in reading.bands) == ("S30" in name)
        red = reading.assets["red"]
        assert (red.scale, red.offset, red.nodata, red.dtype) == (0.0001, 0.0, -9999.0, "int16")
        assert (reading.mask.band, reading.assets["fmask"].nodata) == ("fmask", 255.0)
