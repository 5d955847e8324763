"""The shared cases: real scenes in static catalogues that no datasource names."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
import yaml
from shapely.geometry import box

from mdive.providers import candidates, open_catalog

RADAR = [
    "flood-ghana-53713",
    "flood-india-900498",
    "flood-mekong-333434",
    "flood-nigeria-812045",
    "flood-paraguay-34417",
    "flood-usa-905409",
]
OPTICAL_BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")


@pytest.fixture
def case(real_data):
    def load(name):
        folder = real_data / "cases" / name
        event = yaml.safe_load((folder / "event.yaml").read_text())

        def window(value):
            first, last = (datetime.fromisoformat(value[k]).replace(tzinfo=UTC) for k in ("start", "end"))
            return first, datetime.combine(last, time.max, UTC)

        windows = {"post": window(event["window"]), "static": None}
        windows |= {"pre": window(event["baseline"])} if "baseline" in event else {}
        return folder, candidates(open_catalog(str(folder / "catalog.json")), box(*event["area"]["bbox"]), windows)

    return load


@pytest.mark.parametrize("name", RADAR)
def test_radar_chips(case, name):
    folder, found = case(name)
    assert found.rejected == ()
    (source,) = found.sources
    assert (source.key, source.sensor, source.bands, source.mask) == ("sentinel-1-grd-db/post", "sar", ("vv", "vh"), None)
    (item,) = source.items
    assert found.facts[source.key].coverage == 1.0
    for band in source.bands:
        asset = item.assets[band]
        assert (asset.unit, asset.nodata, asset.scale, asset.dtype, asset.resampling) == ("dB", "nan", 1.0, "float32", "bilinear")
        assert (asset.href, asset.crs, asset.shape) == (str(folder / f"s1_{band}.tif"), "EPSG:4326", (512, 512))
    assert item.href == str(next(folder.glob("s1-*.json")))


def test_landsat_before_and_after(case):
    folder, found = case("fire-cold-springs")
    assert [s.key for s in found.sources] == ["landsat-c1-l2/post", "landsat-c1-l2/pre"]
    assert found.rejected == ()
    for source, day, part in zip(found.sources, ("20160723", "20160707"), ("post", "pre"), strict=True):
        assert (source.sensor, source.bands, source.mask.band) == ("optical", OPTICAL_BANDS, "qa_pixel_c1")
        assert [i.id for i in source.items] == [f"LC08_034032_{day}"]
        red, quality = source.items[0].assets["red"], source.items[0].assets["qa_pixel_c1"]
        assert (red.scale, red.offset, red.nodata, red.unit, red.crs) == (0.0001, 0.0, -32768.0, "1", "EPSG:32613")
        assert red.href == str(folder / f"{part}_red.tif")
        assert (quality.nodata, quality.unit, quality.dtype, quality.resampling) == (1.0, "bits", "uint16", "nearest")


def test_hls(case):
    _, found = case("water-louisiana")
    (source,) = found.sources
    assert (source.key, source.bands, source.mask.band) == ("HLSS30_2.0/post", OPTICAL_BANDS, "fmask")
    item = source.items[0]
    assert {item.assets[b].scale for b in source.bands} == {0.0001}
    assert {item.assets[b].nodata for b in source.bands} == {-9999.0}
    assert (item.assets["fmask"].nodata, item.assets["fmask"].dtype) == (255.0, "uint8")
    assert source.observations[0].properties["eo:cloud_cover"] == 5.0
