"""Virtual rasters of a plan: GDAL opens them, and they show what mdive reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

import mdive
from mdive.cli.app import app
from mdive.cube import read_block
from mdive.cube.units import meaning, physical
from mdive.cube.virtual import gdal_name
from mdive.engine.virtual import write_virtual
from mdive.errors import NoDataError, UsageError
from mdive.model import load_event
from mdive.pipeline import Window
from mdive.products import write_json_atomic
from mdive.testing import make_flood_event

READ = """
import json, sys
import numpy as np
import rasterio
with rasterio.open(sys.argv[1]) as dataset:
    np.savez(sys.argv[2], *(dataset.read(band) for band in dataset.indexes))
    facts = {"crs": dataset.crs.to_epsg(), "transform": list(dataset.transform)[:6], "names": dataset.descriptions, "scales": dataset.scales}
    print(json.dumps(facts | {"offsets": dataset.offsets, "nodata": str(dataset.nodata), "dtypes": dataset.dtypes}))
"""
"""mdive switches off GDAL's VRT and GTI drivers for its own process: others read them."""


@pytest.fixture
def gdal(tmp_path):
    def read(path):
        free = {name: value for name, value in os.environ.items() if name != "GDAL_SKIP"}
        said = subprocess.run(
            [sys.executable, "-c", READ, path, tmp_path / "read.npz"], check=True, capture_output=True, text=True, env=free
        )
        with np.load(tmp_path / "read.npz") as bands:
            return json.loads(said.stdout), list(bands.values())

    return read


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Four overlapping scenes to each acquisition, with edges that have no data."""
    return make_flood_event(tmp_path_factory.mktemp("scenes"), seed=5, size_km=4.0, scenes=(2, 2), border_px=9)


def planned(made, **intent):
    event = load_event(made.event)
    document = event.model_dump(mode="json", exclude_none=True)
    return mdive.plan(type(event).model_validate({**document, "intent": intent}), catalog=str(made.catalog))


def read(plan, source, band):
    """What mdive reads of the first observation, before its quality band has a say."""
    only = source.model_copy(update={"observations": source.observations[:1]})
    return read_block(only, Window(0, 0, *plan.grid.shape), plan.grid, [band]).values[band][0]


def shown(plan, source, band, stored, nodata):
    """The same from stored numbers."""
    asset = next(i.assets[band] for i in source.items if i.id in source.observations[0].items and band in i.assets)
    return physical(stored, meaning(asset, nodata))


def vrt_of(written, source):
    (path,) = (p for p in written if p.name.startswith(f"{source.name}-{source.phase}"))
    return path


@pytest.mark.parametrize("event", ["several", "flood", "fire"])
@pytest.mark.parametrize("resolution", [None, 5.0])
def test_vrts_show_what_is_read(request, gdal, tmp_path, event, resolution):
    made = request.getfixturevalue(event)
    made = getattr(made, "made", made)
    plan = planned(made, **({"resolution": resolution} if resolution else {}))
    written, left_out = write_virtual(plan, tmp_path / "vrt", "vrt")
    assert left_out == []
    assert len(written) == sum(len(s.observations) for s in plan.sources)
    compared = 0
    for source in plan.sources:
        facts, pixels = gdal(vrt_of(written, source))
        assert facts["transform"] == [plan.grid.resolution, 0, plan.grid.x0, 0, -plan.grid.resolution, plan.grid.y0]
        assert pixels[0].shape == plan.grid.shape
        assert facts["names"] == [*source.bands, *([source.mask.band] if source.mask else [])]
        for band, stored in zip(facts["names"], pixels, strict=True):
            wanted = read(plan, source, band)
            found = shown(plan, source, band, stored, None if facts["nodata"] == "None" else float(facts["nodata"]))
            np.testing.assert_array_equal(found, wanted, err_msg=f"{source.key} {band}")
            compared += np.isfinite(wanted).sum()
    assert compared > 10_000


@pytest.mark.parametrize("event", ["several", "fire"])
def test_gtis_show_what_is_read(request, gdal, tmp_path, event):
    made = request.getfixturevalue(event)
    made = getattr(made, "made", made)
    plan = planned(made)
    written, left_out = write_virtual(plan, tmp_path / "gti", "gti")
    assert left_out == []
    assert written[0].name == "index.gpkg"
    files = {p.stem: p for p in written[1:]}
    compared = 0
    for source in plan.sources:
        for band in [*source.bands, *([source.mask.band] if source.mask else [])]:
            (path,) = (p for name, p in files.items() if name.startswith(f"{source.name}-{source.phase}") and name.endswith(f"-{band}"))
            facts, pixels = gdal(path)
            assert facts["names"] == [band]
            wanted = read(plan, source, band)
            found = shown(plan, source, band, pixels[0], None if facts["nodata"] == "None" else float(facts["nodata"]))
            np.testing.assert_array_equal(found, wanted, err_msg=f"{source.key} {band}")
            compared += 1
    assert compared == len(files)


def test_files_of_another_crs_keep_their_pixels_in_a_vrt_and_are_warped_by_a_gti(several, gdal, tmp_path):
    plan = planned(several, crs="EPSG:32634")
    vrts, _ = write_virtual(plan, tmp_path / "vrt", "vrt")
    gtis, _ = write_virtual(plan, tmp_path / "gti", "gti")
    source = next(s for s in plan.sources if s.sensor == "sar" and s.phase == "post")
    facts, pixels = gdal(vrt_of(vrts, source))
    assert facts["crs"] == 32633
    a, _, c, _, e, f = facts["transform"]
    best = source.items[[i.id for i in source.items].index(source.observations[0].items[0])].assets["vv"]
    with rasterio.open(best.href) as dataset:
        col, row = round((dataset.transform.c - c) / a), round((dataset.transform.f - f) / e)
        raw = dataset.read(best.index)
        top, left = max(row, 0), max(col, 0)
        part = raw[top - row :, left - col :]
        there = pixels[0][top : top + part.shape[0], left : left + part.shape[1]]
        part = part[: there.shape[0], : there.shape[1]]
        assert part.size > 1000
        good = np.isfinite(part) & (part != dataset.nodata)
        np.testing.assert_array_equal(there[good], part[good])
    path = next(p for p in gtis if p.name.startswith(f"{source.name}-{source.phase}") and p.name.endswith("-vv.gti"))
    facts, pixels = gdal(path)
    assert facts["crs"] == 32634
    assert pixels[0].shape == plan.grid.shape
    wanted = read(plan, source, "vv")
    found = shown(plan, source, "vv", pixels[0], float(facts["nodata"]))
    both = np.isfinite(wanted) & np.isfinite(found)
    assert both.mean() > 0.5
    assert np.corrcoef(np.log(wanted[both]), np.log(found[both]))[0, 1] > 0.9


def test_bands_that_mean_different_things_are_shown_as_quantities(several, gdal, tmp_path):
    plan = planned(several)
    source = next(s for s in plan.sources if s.sensor == "sar" and s.phase == "post")
    items = list(source.items)
    odd = items[0].model_copy(
        update={"assets": {b: a.model_copy(update={"scale": 2.0, "offset": 1.0}) for b, a in items[0].assets.items()}}
    )
    changed = source.model_copy(update={"items": (odd, *items[1:])})
    plan = plan.model_copy(update={"sources": tuple(changed if s is source else s for s in plan.sources)})
    written, _ = write_virtual(plan, tmp_path / "vrt", "vrt")
    facts, pixels = gdal(vrt_of(written, source))
    assert facts["nodata"] == "nan"
    decibel = np.where(np.isfinite(pixels[0]), np.exp(pixels[0].astype(float) * np.log(10) / 10), np.nan).astype("float32")
    np.testing.assert_allclose(decibel, read(plan, changed, "vv"), rtol=1e-5)
    gtis, _ = write_virtual(plan, tmp_path / "gti", "gti")
    assert sum(p.name.startswith(f"{source.name}-{source.phase}") and "-vv" in p.name for p in gtis) == 2


def test_one_file_for_all_bands(several, gdal, tmp_path):
    plan = planned(several)
    source = next(s for s in plan.sources if s.sensor == "sar" and s.phase == "post")

    def joined(item):
        path = tmp_path / f"{item.id}.tif"
        with rasterio.open(item.assets["vv"].href) as vv, rasterio.open(item.assets["vh"].href) as vh:
            with rasterio.open(path, "w", **{**vv.profile, "driver": "GTiff", "count": 2}) as out:
                out.write(np.stack([vv.read(1), vh.read(1)]))
        changes = {"vv": {"href": str(path)}, "vh": {"href": str(path), "index": 2}}
        return item.model_copy(update={"assets": {b: a.model_copy(update=changes.get(b, {})) for b, a in item.assets.items()}})

    changed = source.model_copy(update={"items": tuple(map(joined, source.items))})
    plan = plan.model_copy(update={"sources": (changed,)})
    for form in ("vrt", "gti"):
        written, _ = write_virtual(plan, tmp_path / form, form)
        paths = [p for p in written if p.suffix == f".{form}"]
        found = {name: band for p in paths for facts, pixels in [gdal(p)] for name, band in zip(facts["names"], pixels, strict=True)}
        for band in ("vv", "vh"):
            nodata = -9999.0 if (found[band] == -9999).any() else None
            np.testing.assert_array_equal(shown(plan, changed, band, found[band], nodata), read(plan, changed, band))


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("/data/a.tif", "/data/a.tif"),
        ("https://user:pass@host.example/a.tif?sig=SECRET&se=1", "/vsicurl/https://host.example/a.tif"),
        ("https://host.example/a.tif?version=2&token=SECRET", "/vsicurl/https://host.example/a.tif?version=2"),
        ("s3://bucket/a b.tif", "/vsis3/bucket/a b.tif"),
        ("gs://bucket/a.tif", "/vsigs/bucket/a.tif"),
    ],
)
def test_addresses_lose_what_opens_them(href, name):
    assert gdal_name(href) == name


def test_nothing_that_can_be_opened_is_an_error_and_one_file_less_is_not(several, tmp_path):
    plan = planned(several)

    def without(change):
        sources = [
            s.model_copy(
                update={"items": tuple(i.model_copy(update={"assets": {b: change(a) for b, a in i.assets.items()}}) for i in s.items)}
            )
            for s in plan.sources
        ]
        return plan.model_copy(update={"sources": tuple(sources)})

    with pytest.raises(NoDataError, match="nothing to show"):
        write_virtual(without(lambda a: a.model_copy(update={"href": "/nowhere/a.tif"})), tmp_path / "none", "vrt")
    assert not (tmp_path / "none").exists()
    lost = plan.sources[0].items[0].assets[plan.sources[0].bands[0]].href
    written, left_out = write_virtual(
        without(lambda a: a.model_copy(update={"href": f"{a.href}.gone"}) if a.href == lost else a), tmp_path / "some", "vrt"
    )
    assert [Path(m.href).name for m in left_out] == [f"{Path(lost).name}.gone"]
    assert written


def test_the_command_writes_both(several, gdal, tmp_path):
    plan = planned(several)
    path = tmp_path / "plan.json"
    write_json_atomic(path, plan.model_dump(mode="json", exclude_none=True))
    done = CliRunner().invoke(app, ["index", str(path), "--vrt", str(tmp_path / "a"), "--gti", str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    for folder, suffix in (("a", ".vrt"), ("b", ".gti")):
        found = sorted((tmp_path / folder).glob(f"*{suffix}"))
        assert found
        facts, pixels = gdal(found[0])
        assert pixels[0].shape == plan.grid.shape


def test_the_command_asks_what_to_write(several):
    with pytest.raises(UsageError, match="nothing to write"):
        CliRunner().invoke(app, ["index", str(several.event)], catch_exceptions=False)
