"""A run that makes a Zarr store: what is in it, the same bytes for any tiling and after any death, and verified like every product."""

import json

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - the accessor
import xarray as xr

import mdive
from mdive.errors import UsageError
from mdive.products import verify_products

NAMES = ["cause", "extent", "probability", "qc", "uncertainty"]


@pytest.fixture(scope="module")
def plan(flood):
    def make(tile_size):
        intent = flood.event.intent.model_copy(update={"products": ("uncertainty", "zarr")})
        return mdive.plan(flood.event.model_copy(update={"intent": intent}), catalog=flood.catalog, tile_size=tile_size)

    return make


@pytest.fixture(scope="module")
def done(plan, tmp_path_factory):
    return mdive.run(plan(128), tmp_path_factory.mktemp("zarr") / "run", runtime=mdive.connect("serial"))


def entry(report):
    (product,) = [p for p in report.manifest.products if p.name == "zarr"]
    return product


def test_it_holds_every_raster_layer_of_the_run(done):
    assert done.path("zarr") == done.folder / "products" / "cube.zarr"
    cube = xr.open_zarr(done.path("zarr"), mask_and_scale=False)
    assert sorted(cube.data_vars) == NAMES
    for name in NAMES:
        with rasterio.open(done.path(name)) as dataset:
            np.testing.assert_array_equal(cube[name].values, dataset.read(1), err_msg=name)
            assert cube[name].rio.crs == dataset.crs
            assert cube[name].rio.transform() == dataset.transform
    assert not [p for p in done.manifest.products if p.name == "polygons"]


def test_manifest_stac_provenance_and_report_name_it(done):
    product = entry(done)
    assert product.media_type == "application/vnd.zarr; version=3"
    assert product.size == sum(p.stat().st_size for p in done.path("zarr").rglob("*") if p.is_file())
    asset = done.item.assets["zarr"]
    assert (asset.href, asset.media_type) == ("../products/cube.zarr", product.media_type)
    assert sorted(band["name"] for band in asset.extra_fields["bands"]) == NAMES
    assert "file:checksum" not in asset.extra_fields
    outputs = {o["path"]: o["sha256"] for o in json.loads((done.folder / "provenance.json").read_text())["outputs"]}
    assert outputs["products/cube.zarr"] == product.sha256
    assert product.sha256 in (done.folder / "report.html").read_text()


@pytest.mark.parametrize("size", [100, 1024])
def test_tiles_change_no_byte(plan, done, shas, tmp_path, size):
    report = mdive.run(plan(size), tmp_path / "run")
    assert entry(report) == entry(done)
    assert shas(report.folder) == shas(done.folder)


@pytest.mark.parametrize("killed", ["half staged", "staged", "published", "half published"])
def test_a_run_that_died_at_the_store_resumes_to_the_same_bytes(plan, done, shas, tmp_path, monkeypatch, killed):
    from mdive.engine import finish as engine
    from mdive.products import files

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        if killed == "half staged":
            import zarr

            write = zarr.Array.__setitem__
            layers = []
            patch.setattr(zarr.Array, "__setitem__", lambda s, k, v: die() if len(layers) == 5 else (layers.append(s), write(s, k, v))[1])
            tidy = files.shutil.rmtree  # a killed process does not clean up
            patch.setattr(files.shutil, "rmtree", lambda path, **k: die() if ".cube.zarr." in str(path) else tidy(path, **k))
        elif killed == "staged":
            patch.setattr(engine, "write_stac", die)
        else:
            patch.setattr(engine, "Manifest", die)
        with pytest.raises(Killed):
            mdive.run(plan(128), tmp_path / "run", runtime=mdive.connect("serial"))
    if killed == "half staged":
        assert list((tmp_path / "run" / ".staging" / "products").glob(".cube.zarr.*/cube.zarr/zarr.json"))
    if killed == "half published":
        # What a power cut between two renames, or a copy that was not finished, may leave.
        (tmp_path / "run" / "products" / "cube.zarr" / "zarr.json").unlink()
        (tmp_path / "run" / "products" / "cube.zarr" / "stranger").write_text("x")
    assert (tmp_path / "run" / "products" / "cube.zarr").exists() == ("published" in killed)
    report = mdive.resume(tmp_path / "run")
    assert entry(report) == entry(done)
    assert shas(report.folder) == shas(done.folder)
    assert sorted(p.name for p in report.folder.iterdir() if p.name.startswith(".")) == [".lock"]


def test_verify_finds_what_is_wrong_with_it(plan, tmp_path):
    report = mdive.run(plan(128), tmp_path / "run")
    manifest = report.manifest.model_dump(mode="json")

    def kinds():
        return [(p.path, p.kind) for p in verify_products(report.folder, manifest)]

    assert kinds() == []
    shard = report.path("zarr") / "extent" / "c" / "0" / "0"
    data = shard.read_bytes()
    shard.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert kinds() == [("products/cube.zarr", "sha256")]
    shard.unlink()
    assert kinds() == [("products/cube.zarr", "size")]
    shard.write_bytes(data)
    (shard.parent / "7").write_bytes(b"")
    assert kinds() == [("products/cube.zarr", "sha256")]
    (shard.parent / "7").unlink()
    (report.folder / "products" / "other.zarr").mkdir()
    (report.folder / "products" / "other.zarr" / "zarr.json").write_text("{}")
    assert kinds() == [("products/other.zarr/zarr.json", "unlisted")]


def test_without_zarr_nothing_is_begun(plan, tmp_path, monkeypatch):
    made = plan(128)  # a plan may be made here for a machine that has it
    monkeypatch.setattr("mdive.products.zarr.version", lambda _: "2.18.7")
    with pytest.raises(UsageError, match="or newer; zarr 2.18.7 is installed"):
        mdive.run(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()
