"""The files of a synthetic event: valid COGs, a STAC catalogue that tells the truth about them, an event that lies inside, the same bytes always."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from pyproj import Transformer
from pystac.validation import validate_dict
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import box, shape

from mdive.errors import InputError, MdiveError, RunFolderError
from mdive.model import load_event
from mdive.pipeline.window import Window
from mdive.testing import make_flood_event, make_wildfire_event
from mdive.testing._area import AreaMask, area_inside
from mdive.testing._raster import Footprint, rounded


@pytest.fixture(params=["flood", "fire"])
def event(request):
    return request.getfixturevalue(request.param)


def items_of(event):
    return list(pystac.Catalog.from_file(str(event.catalog)).get_items(recursive=True))


def test_every_raster_is_a_valid_cog(event):
    rasters = sorted(event.folder.glob("*.tif"))
    assert len(rasters) > 10
    for path in rasters:
        valid, errors, warnings = cog_validate(path, quiet=True)
        assert valid, (path.name, errors)
        assert not warnings, (path.name, warnings)
        with rasterio.open(path) as file:
            assert file.block_shapes == [(512, 512)]
            assert file.overviews(1)
            assert file.compression.name == "deflate"


def test_nothing_but_the_event_is_left(event):
    assert {p.suffix for p in event.folder.iterdir()} == {".tif", ".json", ".yaml"}
    assert event.truth.exists()
    assert all(path.exists() for path in event.layers.values())


def test_catalogue_is_valid_and_names_every_scene(flood, fire):
    assert {i.id for i in items_of(flood)} == {
        "synthetic-sar-20240301",
        "synthetic-sar-20240313",
        "synthetic-optical-20240304",
        "synthetic-optical-20240314",
        "synthetic-dem-2021",
        "synthetic-occurrence-2021",
    }
    assert {i.id for i in items_of(fire)} == {
        "synthetic-optical-20230718",
        "synthetic-optical-20230822",
        "synthetic-dem-2021",
        "synthetic-landcover-2021",
    }
    for event in (flood, fire):
        for path in event.folder.glob("*.json"):
            document = json.loads(path.read_text())
            assert document["stac_version"] == "1.1.0"
            validate_dict(document, extensions=[])
            assert str(event.folder) not in path.read_text(), "hrefs are relative"


def test_metadata_is_what_the_files_hold(event):
    for item in items_of(event):
        for key, asset in item.assets.items():
            (band,) = asset.extra_fields["bands"]
            assert band["name"] == key
            with rasterio.open(asset.get_absolute_href()) as file:
                assert file.dtypes == (band["data_type"],)
                nodata = {"nan": math.nan}.get(band.get("nodata"), band.get("nodata"))
                assert file.nodata == nodata or (math.isnan(file.nodata) and math.isnan(nodata))
                assert file.crs == item.properties["proj:code"]
                assert list(file.shape) == asset.extra_fields["proj:shape"]
                assert list(file.transform)[:6] == asset.extra_fields["proj:transform"]
                assert file.scales == (band.get("raster:scale", 1.0),)
                assert file.offsets == (band.get("raster:offset", 0.0),)
                assert (file.units[0] or "") == band.get("unit", "")
                corners = box(*Transformer.from_crs(file.crs, 4326, always_xy=True).transform_bounds(*file.bounds, densify_pts=21))
            assert shape(item.geometry).symmetric_difference(corners).area < 0.02 * corners.area
            assert shape(item.geometry).exterior.is_ccw


def test_units_make_physical_numbers(flood, band):
    by_id = {i.id: i for i in items_of(flood)}
    assert by_id["synthetic-sar-20240313"].assets["vv"].extra_fields["bands"][0]["unit"] == "dB"
    assert -30 < np.median(band(flood, "sar_post_vv")) < 0
    scale = by_id["synthetic-optical-20240314"].assets["nir08"].extra_fields["bands"][0]["raster:scale"]
    assert 0.05 < np.median(band(flood, "optical_pre_nir08")) * scale < 0.6
    occurrence, truth = band(flood, "occurrence"), band(flood, "truth")
    assert np.array_equal((occurrence >= 75)[truth != 255], (truth == 2)[truth != 255])
    assert np.isfinite(band(flood, "sar_pre_vh")).all()


def test_cloud_cover_is_what_was_written(flood, band):
    for item in items_of(flood):
        if "fmask" in item.assets:
            phase = "pre" if "0304" in item.id else "post"
            share = ((band(flood, f"optical_{phase}_fmask") & 2) > 0).mean()
            assert item.properties["eo:cloud_cover"] == pytest.approx(100 * share, abs=0.01)


def test_truth_agrees_with_its_layers(flood, band):
    truth, depth, cover = (band(flood, name) for name in ("truth", "depth", "landcover"))
    asked = truth != 255
    assert np.array_equal((truth == 1)[asked], (depth > 0)[asked])
    assert np.array_equal((truth == 2)[asked], (cover == 80)[asked])
    assert set(np.unique(truth)) == {0, 1, 2, 255}
    with rasterio.open(flood.truth) as file:
        assert file.tags(1)["flag_meanings"] == "not_event event permanent_water unknown"


def test_event_file_is_one_and_its_area_lies_inside(event):
    document = load_event(event.event)
    assert document.id.startswith("synthetic-")
    west, south, east, north = event.bbox
    grid, margin = event.grid, 64
    side = np.linspace(0, 1, 101)
    lon = np.concatenate([west + side * (east - west)] * 2 + [np.full(101, west), np.full(101, east)])
    lat = np.concatenate([np.full(101, south), np.full(101, north)] + [south + side * (north - south)] * 2)
    x, y = Transformer.from_crs(4326, grid.crs, always_xy=True).transform(lon, lat)
    cols, rows = (x - grid.x0) / grid.resolution, (grid.y0 - y) / grid.resolution
    assert margin - 0.02 <= cols.min() < margin + 3
    assert margin - 0.02 <= rows.min() < margin + 3
    assert cols.max() <= grid.shape[1] - margin + 0.02
    assert rows.max() <= grid.shape[0] - margin + 0.02


def test_area_mask_is_the_projected_box(flood):
    mask = AreaMask(flood.grid, area_inside(flood.grid, 40))
    window = Window(20, 30, 200, 260)
    got = mask.window(window)
    cols, rows = np.meshgrid(np.arange(window.col, window.col_end) + 0.5, np.arange(window.row, window.row_end) + 0.5)
    x, y = flood.grid.x0 + 10 * cols, flood.grid.y0 - 10 * rows
    lon, lat = Transformer.from_crs(flood.grid.crs, 4326, always_xy=True).transform(x, y)
    west, south, east, north = mask.bbox
    assert np.array_equal(got, (lon >= west) & (lon < east) & (lat > south) & (lat <= north))


def test_same_bytes_for_any_number_of_workers_and_another_seed_differs(tmp_path):
    def sums(name, **how):
        made = make_flood_event(tmp_path / name, shape_px=(1100, 1050), phases=("post",), layers=("terrain",), static=(), **how)
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(made.folder.glob("*.tif"))}

    one, three = sums("one", seed=1, workers=1), sums("three", seed=1, workers=3)
    assert one == three
    other = sums("other", seed=2, workers=2)
    assert one.keys() == other.keys()
    assert not set(one.values()) & set(other.values())


def test_folder_can_move(flood, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(flood.folder, moved)
    for item in pystac.Catalog.from_file(str(moved / "catalog.json")).get_items(recursive=True):
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).is_relative_to(moved)
            assert Path(asset.get_absolute_href()).exists()


def test_gaps_are_where_they_were_asked_for(tmp_path, band):
    made = make_flood_event(
        tmp_path, shape_px=(300, 400), sensors=("sar", "optical"), border_px=7, swath_edge=0.3, layers=(), static=(), workers=2
    )
    vv, vv_pre, nir, fmask = (band(made, n) for n in ("sar_post_vv", "sar_pre_vv", "optical_post_nir08", "optical_post_fmask"))
    valid = Footprint(Window(0, 0, 300, 400), 7, (150, 120)).valid(Window(0, 0, 300, 400))
    assert np.array_equal(np.isfinite(vv), valid)
    assert np.array_equal(nir != -9999, valid)
    assert np.array_equal(fmask != 255, valid)
    inside = np.zeros((300, 400), bool)
    inside[7:-7, 7:-7] = True
    assert np.array_equal(np.isfinite(vv_pre), inside)
    assert valid[150, 120:393].all()
    assert not valid[150, :119].any()
    geometry = {i.id: shape(i.geometry).area for i in items_of(made)}
    assert geometry["synthetic-sar-20240313"] / geometry["synthetic-sar-20240301"] == pytest.approx(valid.sum() / inside.sum(), rel=0.005)
    assert (band(made, "truth") != 255).any(where=~valid), "what the sensor missed is still known"


def test_scenes_are_parts_of_one_picture(tmp_path, band):
    kinds = {"shape_px": (300, 340), "phases": ("post",), "layers": (), "static": (), "workers": 2}
    whole = band(make_flood_event(tmp_path / "one", **kinds), "sar_post_vv")
    split = make_flood_event(tmp_path / "four", scenes=(2, 2), **kinds)
    items = items_of(split)
    assert len(items) == 4
    covered = np.zeros(whole.shape, int)
    for item in items:
        with rasterio.open(item.assets["vv"].get_absolute_href()) as file:
            col, row = (round(v) for v in ~rasterio.Affine(*split.grid.transform) @ (file.transform.c, file.transform.f))
            part = (slice(row, row + file.height), slice(col, col + file.width))
            assert np.array_equal(file.read(1), whole[part])
            covered[part] += 1
    assert covered.min() == 1
    assert covered.max() == 4


def test_linear_power_is_the_same_scene(tmp_path, band):
    kinds = {"shape_px": (128, 128), "phases": ("post",), "layers": (), "static": (), "workers": 1}
    decibels = band(make_flood_event(tmp_path / "db", **kinds), "sar_post_vh")
    power = band(make_flood_event(tmp_path / "power", sar_unit="power", **kinds), "sar_post_vh")
    assert np.allclose(10 * np.log10(power), decibels, atol=0.01)
    assert (
        items_of(make_flood_event(tmp_path / "power", sar_unit="power", **kinds))[0].assets["vh"].extra_fields["bands"][0]["unit"]
        == "power"
    )


def test_rounding_keeps_decibels_within_a_hundredth_and_gaps():
    values = np.linspace(-40, 5, 9001, dtype=np.float32)
    assert np.abs(rounded(values) - values).max() < 0.005
    assert np.array_equal(rounded(rounded(values)), rounded(values))
    assert np.isnan(rounded(np.array([np.nan], np.float32))).all()


def test_memory_follows_the_block_not_the_scene(tmp_path, monkeypatch):
    monkeypatch.setattr("mdive.testing._raster.COMPUTE", 256)

    def peak(edge):
        tracemalloc.start()
        make_flood_event(tmp_path / str(edge), shape_px=(edge, edge), phases=("post",), layers=(), static=(), workers=2)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(64)
    # Two threads do not always hold their largest arrays at the same moment: the least of one and the most of the other differ by chance.
    assert peak(2048) < 1.25 * max(peak(1024) for _ in range(3))


@pytest.mark.parametrize(
    ("maker", "arguments", "word"),
    [
        (make_flood_event, {"seed": -1}, "seed"),
        (make_flood_event, {"size_km": 0}, "size"),
        (make_flood_event, {"shape_px": (20, 300)}, "too small"),
        (make_flood_event, {"shape_px": (128, 128), "margin_px": 40}, "margin"),
        (make_flood_event, {"resolution": 0}, "resolution"),
        (make_flood_event, {"sensors": ("sar", "radar")}, "sensor 'radar'"),
        (make_flood_event, {"sensors": ()}, "sensor"),
        (make_flood_event, {"phases": ("pre",)}, "post"),
        (make_flood_event, {"stage": 9}, "stage"),
        (make_flood_event, {"looks": 0.2}, "looks"),
        (make_flood_event, {"wind": 2}, "wind"),
        (make_flood_event, {"cloud": 1.0}, "cloud"),
        (make_flood_event, {"sar_unit": "db"}, "unit 'db'"),
        (make_flood_event, {"layers": ("dept",)}, "Did you mean 'depth'"),
        (make_flood_event, {"static": ("hand",)}, "static layer"),
        (make_flood_event, {"scenes": (0, 1)}, "scenes"),
        (make_flood_event, {"swath_edge": 1.5}, "swath"),
        (make_flood_event, {"border_px": 5000}, "border"),
        (make_flood_event, {"crs": "EPSG:4326"}, "metres"),
        (make_flood_event, {"crs": "nonsense"}, "crs"),
        (make_wildfire_event, {"phenology": 0.5}, "phenology"),
        (make_wildfire_event, {"static": ("occurrence",)}, "static layer"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, maker, arguments, word):
    target = tmp_path / "new"
    with pytest.raises(InputError) as caught:
        maker(target, **arguments)
    assert word in str(caught.value)
    assert caught.value.hint
    assert not list(tmp_path.rglob("*.*"))


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError) as caught:
        make_flood_event(tmp_path / "file")
    assert isinstance(caught.value, MdiveError)
    assert "file" in caught.value.message
