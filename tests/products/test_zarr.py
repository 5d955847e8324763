"""The Zarr store: the same numbers and words as the GeoTIFFs, read by those who would read it, whole or not there, the same bytes each time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - the accessor
import xarray as xr
import zarr
from pyproj import CRS

from mdive.errors import KernelError, RunFolderError, UsageError
from mdive.pipeline.window import Window
from mdive.products import checksum, write_zarr

NAMES = ("extent", "probability", "uncertainty", "qc")


@pytest.fixture
def store(tmp_path, specs, make_grid, pictures):
    """Write the four kinds of layers into one store."""

    def make(shape=(700, 900), name="cube.zarr", arrays=None, **grid):
        grid = make_grid(shape, **grid)
        arrays = arrays or pictures(shape)
        layers = [getattr(specs, layer) for layer in NAMES]
        read = lambda layer, window: arrays[layer][window.within(Window(0, 0, *shape))]  # noqa: E731
        write_zarr(tmp_path / name, layers, grid, read, attributes={"algorithm": "family.method 1.0.0"})
        return tmp_path / name, grid, arrays

    return make


def test_xarray_reads_what_the_algorithm_gave(store):
    path, grid, arrays = store()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cube = xr.open_zarr(path)  # finds the consolidated metadata by itself
    assert list(cube.data_vars) == sorted(NAMES)
    assert cube.attrs["algorithm"] == "family.method 1.0.0"
    assert cube.extent.dims == ("y", "x")
    nodata = arrays["extent"] == 255
    np.testing.assert_array_equal(cube.extent.values, np.where(nodata, np.nan, arrays["extent"]))
    np.testing.assert_allclose(cube.probability.values, arrays["probability"], atol=5.1e-5)
    np.testing.assert_array_equal(cube.uncertainty.values, arrays["uncertainty"])
    assert cube.qc.dtype == np.uint16
    np.testing.assert_array_equal(cube.qc.values, arrays["qc"])
    np.testing.assert_array_equal(cube.x, grid.x0 + (np.arange(900) + 0.5) * 10)
    np.testing.assert_array_equal(cube.y, grid.y0 - (np.arange(700) + 0.5) * 10)


def test_the_words_are_those_of_cf(store):
    path, *_ = store()
    raw = xr.open_zarr(path, mask_and_scale=False)
    assert raw.extent.attrs["flag_values"] == [0, 1, 2, 3, 253]
    assert raw.extent.attrs["flag_meanings"].split()[1] == "affected"
    assert raw.extent.attrs["_FillValue"] == 255
    assert raw.qc.attrs["flag_masks"] == [1 << bit for bit in range(16)]
    assert "_FillValue" not in raw.qc.attrs
    assert raw.probability.dtype == np.int16
    assert {n: raw.probability.attrs[n] for n in ("_FillValue", "scale_factor", "add_offset")} == {
        "_FillValue": -32768,
        "scale_factor": 1e-4,
        "add_offset": 0.0,
    }
    assert raw.uncertainty.attrs["units"] == "dB"
    assert raw.x.attrs["standard_name"] == "projection_x_coordinate"
    assert raw.spatial_ref.attrs["grid_mapping_name"] == "transverse_mercator"


@pytest.mark.parametrize(
    ("crs", "resolution", "x0", "y0"), [("EPSG:32630", 10.0, 500_000.0, 4_400_000.0), ("EPSG:4326", 0.005, 10.0, 61.0)]
)
def test_rioxarray_knows_where_it_lies(store, crs, resolution, x0, y0):
    path, grid, _ = store((70, 90), crs=crs, resolution=resolution, x0=x0, y0=y0)
    cube = xr.open_zarr(path)
    for part in (cube, cube.extent, cube.qc):
        assert part.rio.crs == rasterio.crs.CRS.from_string(crs)
        assert part.rio.transform() == rasterio.Affine(*grid.transform)
    attrs = json.loads((path / "zarr.json").read_text())["attributes"]
    assert attrs["proj:code"] == crs
    assert attrs["spatial:transform"] == list(grid.transform)
    assert attrs["spatial:bbox"] == pytest.approx(cube.rio.bounds())
    assert {c["name"] for c in attrs["zarr_conventions"]} == {"proj", "spatial"}


def test_a_crs_without_a_code_is_written_in_full(store):
    local = CRS.from_proj4("+proj=laea +lat_0=39 +lon_0=-3 +datum=WGS84 +units=m").to_wkt()
    path, *_ = store((70, 90), crs=local, x0=0.0, y0=0.0)
    assert CRS.from_wkt(json.loads((path / "zarr.json").read_text())["attributes"]["proj:wkt2"]) == CRS.from_wkt(local)
    assert CRS.from_user_input(xr.open_zarr(path).rio.crs) == CRS.from_wkt(local)


def test_a_layer_is_stored_in_shards_of_chunks(tmp_path, specs, make_grid):
    """Shards hang on the first pixel of the grid, are asked for once and in order, and an empty one takes no file."""
    grid, asked = make_grid((2100, 4200)), []

    def read(_, window):
        asked.append((window.row, window.col, *window.shape))
        return np.full(window.shape, 255 if window.col == 0 else 1, np.uint8)

    write_zarr(tmp_path / "cube.zarr", [specs.extent], grid, read)
    assert asked == [(r, c, min(2048, 2100 - r), min(2048, 4200 - c)) for r in (0, 2048) for c in (0, 2048, 4096)]
    extent = zarr.open_group(tmp_path / "cube.zarr", mode="r")["extent"]
    assert (extent.shards, extent.chunks) == ((2048, 2048), (512, 512))
    files = sorted(
        p.relative_to(tmp_path / "cube.zarr/extent").as_posix() for p in (tmp_path / "cube.zarr/extent/c").rglob("*") if p.is_file()
    )
    assert files == ["c/0/1", "c/0/2", "c/1/1", "c/1/2"]
    assert (extent[:, :2048] == 255).all()
    assert (extent[:, 2048:] == 1).all()


def test_the_same_bytes_each_time(store):
    shape = (2100, 2300)
    one, two = (store(shape, name)[0] for name in ("one.zarr", "two.zarr"))
    digest, size = checksum(one)
    assert checksum(two) == (digest, size)
    assert size == sum(p.stat().st_size for p in one.rglob("*") if p.is_file())


def test_a_changed_bit_of_a_chunk_is_an_error_and_not_a_number(store):
    path, *_ = store()
    shard = path / "probability" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(Exception, match=r"(?i)zstd|checksum|corrupt"):
        xr.open_zarr(path).probability.load()


def test_the_digest_is_that_of_the_list_that_sha256sum_prints(store):
    path, *_ = store((70, 90))
    (path / ".nfs0001").write_text("left by a file system")
    command = r"find . -type f ! -name '.*' -printf '%P\n' | LC_ALL=C sort | xargs sha256sum"
    listed = subprocess.run(["bash", "-c", command], cwd=path, capture_output=True, check=True).stdout
    assert checksum(path)[0] == hashlib.sha256(listed).hexdigest()


@pytest.mark.parametrize("damage", ["bit", "missing", "more", "link", "pipe"])
def test_any_damage_changes_the_digest(store, damage):
    path, *_ = store((70, 90))
    before, _ = checksum(path)
    file = path / "extent" / "c" / "0" / "0"
    if damage == "bit":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    elif damage == "more":
        (path / "extent" / "c" / "0" / "1").write_bytes(b"")
    else:
        shutil.copy(file, path.parent / "copy")
        file.unlink()
        if damage == "link":
            file.symlink_to(path.parent / "copy")
        if damage == "pipe":
            os.mkfifo(file)  # reading it would wait for ever
    assert checksum(path)[0] != before


def test_a_store_that_cannot_be_finished_leaves_nothing(tmp_path, specs, make_grid):
    def read(_, window):
        if window.col:
            raise RuntimeError("stop")
        return np.ones(window.shape, np.uint8)

    with pytest.raises(RuntimeError, match="stop"):
        write_zarr(tmp_path / "cube.zarr", [specs.extent], make_grid((10, 2100)), read)
    assert list(tmp_path.iterdir()) == []


def test_an_older_store_of_that_name_is_replaced_whole(store):
    path, *_ = store((70, 90))
    fresh, _ = checksum(path)
    (path / "stale").mkdir()
    (path / "stale" / "zarr.json").write_text("{}")
    (path / "extent" / "zarr.json").write_text("half")
    store((70, 90))
    assert checksum(path)[0] == fresh


def test_a_block_that_breaks_its_specification_is_refused(store, pictures):
    arrays = pictures((70, 90)) | {"extent": np.full((70, 90), 77, np.uint8)}
    with pytest.raises(KernelError, match="none of its classes"):
        store((70, 90), arrays=arrays)


def test_a_store_that_does_not_read_back(store, monkeypatch):
    monkeypatch.setattr(zarr.Array, "__setitem__", lambda *_: None)
    with pytest.raises(RunFolderError, match="does not hold the pixels"):
        store((70, 90))


def test_a_folder_that_is_not_there(store):
    with pytest.raises(RunFolderError, match="could not be written"):
        store((70, 90), "none/cube.zarr")


@pytest.mark.parametrize(
    ("found", "there"),
    [
        (None, "it is not installed"),
        ("2.18.7", "needs zarr 3.1.2 or newer; zarr 2.18.7 is installed"),
        ("3.1.1", "zarr 3.1.1 is installed"),
    ],
)
def test_without_zarr_the_error_says_what_to_do(store, monkeypatch, found, there):
    def version(name):
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr("mdive.products.zarr.version", version)
    with pytest.raises(UsageError, match=there) as caught:
        store((70, 90))
    assert caught.value.hint == "Install it with `pip install 'mdive[zarr]'`, or leave the product out."
