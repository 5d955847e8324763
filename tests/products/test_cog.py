"""COGs: what was given is what is read, on exactly the grid, in the same bytes every time, in bounded memory, or nothing at all."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
from rio_cogeo.cogeo import cog_validate

from mdive.errors import KernelError, RunFolderError
from mdive.model.product import RasterSpec
from mdive.pipeline.window import Window
from mdive.products import cog, raster, tiff, write_cog
from mdive.products.tiff import Image

KINDS = ("extent", "probability", "uncertainty", "qc")


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 600), (37, 511), (512, 512), (513, 513), (1100, 700)])
def test_what_was_given_is_what_is_read(tmp_path, specs, make_grid, save, pictures, kind, shape):
    spec, grid, array = getattr(specs, kind), make_grid(shape), pictures(shape)[kind]
    path = save(tmp_path / "a.tif", spec, grid, array, tags={"plan": "abc"})

    valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert dataset.shape == shape
        assert dataset.crs == "EPSG:32630"
        assert tuple(dataset.transform)[:6] == (10, 0, 500_000, 0, -10, 4_400_000)
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.tags()["plan"] == "abc"
        stored = dataset.read(1)
        if kind == "probability":
            assert dataset.dtypes == ("int16",)
            assert np.array_equal(stored == -32768, np.isnan(array))
            assert np.nanmax(np.abs(np.where(stored == -32768, np.nan, stored * 1e-4) - array), initial=0) <= 0.5e-4 + 1e-9
        else:
            assert np.array_equal(stored, array, equal_nan=kind == "uncertainty")
            assert stored.dtype == array.dtype
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif"]


MEASURED = [
    ("uint8", 255),
    ("uint8", None),
    ("uint16", 0),
    ("int16", -9999),
    ("float32", "nan"),
    ("float32", -9999),
]


@pytest.mark.parametrize(("dtype", "nodata"), MEASURED)
@pytest.mark.parametrize("shape", [(1, 1), (1, 1999), (511, 513), (1031, 797)])
def test_every_type_of_number_is_read_by_others_as_it_was_given(tmp_path, make_grid, save, dtype, nodata, shape):
    """Noise over the whole range of the type: each predictor wraps, each byte of a number matters."""
    rng = np.random.default_rng(5)
    if dtype == "float32":
        array = (rng.normal(0, 1, shape) * 10.0 ** rng.integers(-30, 30, shape)).astype(np.float32)
        array[rng.random(shape) < 0.1] = np.nan
    else:
        limits = np.iinfo(dtype)
        array = rng.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    spec = RasterSpec(name="m", long_name="", units="", dtype=dtype, nodata=nodata)
    with rasterio.open(save(tmp_path / "a.tif", spec, make_grid(shape), array)) as dataset:
        assert dataset.dtypes == (dtype,)
        assert str(dataset.nodata) == str(None if nodata is None else float(nodata))
        assert np.array_equal(dataset.read(1), array, equal_nan=dtype == "float32")
        assert dataset.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == ("3" if dtype == "float32" else "2")


def test_which_nan_a_processor_gave_is_not_kept(tmp_path, specs, make_grid, save, pictures):
    array = pictures((700, 530))["uncertainty"]
    array[:512, :512] = np.nan  # a uniform tile, too
    other = array.view(np.uint32).copy()
    other[np.isnan(array)] = 0xFFC00001
    one, two = (
        save(tmp_path / f"{i}.tif", specs.uncertainty, make_grid(array.shape), a.view(np.float32)) for i, a in enumerate((array, other))
    )
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("shape", [(3000, 1), (2000, 3), (1, 3000), (5000, 2), (3000, 5)])
def test_strips_a_few_pixels_wide_are_written_too(tmp_path, specs, make_grid, save, pictures, shape):
    array = pictures(shape)["extent"]
    with rasterio.open(save(tmp_path / "a.tif", specs.extent, make_grid(shape), array)) as dataset:
        assert np.array_equal(dataset.read(1), array)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_do_not_depend_on_windows_or_threads(tmp_path, specs, make_grid, save, pictures, monkeypatch, kind):
    shape = (2300, 1300)
    spec, grid, array = getattr(specs, kind), make_grid(shape), pictures(shape)[kind]
    first = sha(save(tmp_path / "a.tif", spec, grid, array))
    assert sha(save(tmp_path / "b.tif", spec, grid, array)) == first
    monkeypatch.setattr(raster, "WINDOW", 512)
    monkeypatch.setenv("GDAL_NUM_THREADS", "ALL_CPUS")
    assert sha(save(tmp_path / "c.tif", spec, grid, array)) == first


def test_windows_come_in_reading_order_and_cover_the_grid_once(tmp_path, specs, make_grid):
    shape, seen = (2600, 4200), []

    def read(window):
        seen.append(window)
        return np.zeros(window.shape, np.uint8)

    write_cog(tmp_path / "a.tif", specs.extent, make_grid(shape), read)
    assert seen == sorted(seen)
    count = np.zeros(shape, int)
    for window in seen:
        count[window.row : window.row_end, window.col : window.col_end] += 1
    assert (count == 1).all()


def test_rioxarray_reads_physical_numbers_and_cf_words(tmp_path, specs, make_grid, save, pictures):
    arrays, grid = pictures((600, 300)), make_grid((600, 300))
    with rioxarray.open_rasterio(save(tmp_path / "p.tif", specs.probability, grid, arrays["probability"]), mask_and_scale=True) as found:
        assert found.dtype.kind == "f"
        assert np.allclose(found[0], arrays["probability"], atol=0.51e-4, equal_nan=True)
        assert found.attrs["long_name"] == "Probability"
        assert found.rio.crs == "EPSG:32630"
        assert float(found.x[0]) == 500_005
        assert float(found.y[0]) == 4_399_995
    with rioxarray.open_rasterio(save(tmp_path / "e.tif", specs.extent, grid, arrays["extent"])) as found:
        values = [int(v) for v in found.attrs["flag_values"].split(",")]
        table = dict(zip(found.attrs["flag_meanings"].split(), values, strict=True))
        assert table == {entry.name: entry.value for entry in specs.extent.classes}
        assert found.rio.nodata == 255
        assert np.array_equal(found[0], arrays["extent"])
    with rioxarray.open_rasterio(save(tmp_path / "q.tif", specs.qc, grid, arrays["qc"])) as found:
        masks = [int(v) for v in found.attrs["flag_masks"].split(",")]
        assert dict(zip(found.attrs["flag_meanings"].split(), masks, strict=True)) == {f.name: f.mask for f in specs.qc.flags}


def test_the_scoring_tool_understands_the_tags(tmp_path, specs, make_grid, save, pictures):
    tool = Path(__file__).parents[2].parent / "shared" / "tools" / "score.py"
    if not tool.is_file():
        pytest.skip("the scoring tool is not beside the repository")
    loader = importlib.util.spec_from_file_location("score", tool)
    score = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(score)
    with rasterio.open(save(tmp_path / "e.tif", specs.extent, make_grid((64, 64)), pictures((64, 64))["extent"])) as dataset:
        event, unknown = score.class_sets(dataset)
    assert event == {1, 2, 3}
    assert unknown == {253, 255}


def test_colours_are_those_of_the_class_table(tmp_path, specs, make_grid, save, pictures):
    with rasterio.open(save(tmp_path / "e.tif", specs.extent, make_grid((64, 64)), pictures((64, 64))["extent"])) as dataset:
        colours = dataset.colormap(1)
    assert colours[1][:3] == (0x05, 0x71, 0xB0)
    assert colours[253][:3] == (0x99, 0x99, 0x99)


def test_overviews_keep_classes_and_average_measurements(tmp_path, specs, make_grid, save):
    shape = (1024, 1024)
    # In each 2 x 2 square three pixels of one class and one of another: the majority is known everywhere.
    major = np.random.default_rng(1).choice(np.array([0, 1, 3, 253], np.uint8), (512, 512))
    extent = np.repeat(np.repeat(major, 2, 0), 2, 1)
    extent[::2, ::2] = 2
    with rasterio.open(save(tmp_path / "e.tif", specs.extent, make_grid(shape), extent), overview_level=0) as overview:
        assert np.array_equal(overview.read(1), major)
    probability = np.random.default_rng(2).random(shape).astype(np.float32)
    with rasterio.open(save(tmp_path / "p.tif", specs.probability, make_grid(shape), probability), overview_level=0) as overview:
        mean = probability.reshape(512, 2, 512, 2).mean(axis=(1, 3))
        assert np.abs(overview.read(1) * 1e-4 - mean).max() <= 1.01e-4
    qc = np.random.default_rng(3).integers(0, 65536, shape).astype(np.uint16)
    with rasterio.open(save(tmp_path / "q.tif", specs.qc, make_grid(shape), qc), overview_level=0) as overview:
        parts = np.stack([qc[i::2, j::2] for i in (0, 1) for j in (0, 1)])
        assert (parts == overview.read(1)).any(axis=0).all()  # no word that is not in the data


@pytest.mark.parametrize(
    ("kind", "value", "dtype", "words"),
    [
        ("extent", 9, "uint8", "none of its classes"),
        ("extent", 1, "int16", "declared uint8"),
        ("probability", 1.001, "float32", "outside 0 ... 1"),
        ("probability", -0.001, "float32", "outside 0 ... 1"),
        ("probability", np.inf, "float32", "outside 0 ... 1"),
        ("uncertainty", -np.inf, "float32", "outside"),
    ],
)
def test_a_product_that_breaks_its_specification_is_refused(tmp_path, specs, make_grid, kind, value, dtype, words):
    def read(window):
        block = np.zeros(window.shape, dtype)
        block[3, 5] = value
        return block

    with pytest.raises(KernelError, match=words) as caught:
        write_cog(tmp_path / "a.tif", getattr(specs, kind), make_grid((40, 40)), read)
    assert dtype == "int16" or "row 3, column 5" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_unknown_bits_and_wrong_shapes_are_refused(tmp_path, specs, make_grid):
    few = specs.qc.model_copy(update={"flags": specs.qc.flags[:3]})
    with pytest.raises(KernelError, match="bits outside its table 0x7"):
        write_cog(tmp_path / "a.tif", few, make_grid((4, 4)), lambda w: np.full(w.shape, 8, np.uint16))
    with pytest.raises(KernelError, match="shape"):
        write_cog(tmp_path / "a.tif", few, make_grid((4, 4)), lambda w: np.zeros((4, 5), np.uint16))
    assert list(tmp_path.iterdir()) == []


def test_a_limit_counts_as_it_is_stored(tmp_path, specs, make_grid):
    just_above = np.nextafter(np.float32(1), np.float32(2))
    write_cog(tmp_path / "a.tif", specs.probability, make_grid((4, 4)), lambda w: np.full(w.shape, just_above, np.float32))
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert (dataset.read(1) == 10_000).all()


def test_a_scaled_layer_without_limits_refuses_what_int16_cannot_hold(tmp_path, specs, make_grid):
    free = specs.probability.model_copy(update={"valid_min": None, "valid_max": None})
    with pytest.raises(KernelError, match="outside"):
        write_cog(tmp_path / "a.tif", free, make_grid((4, 4)), lambda w: np.full(w.shape, 3.2768, np.float32))


def test_an_error_of_the_reader_comes_through_and_leaves_nothing(tmp_path, specs, make_grid):
    def read(window):
        if window.row:
            raise OSError("scratch is gone")
        return np.zeros(window.shape, np.uint8)

    with pytest.raises(OSError, match="scratch is gone") as caught:
        write_cog(tmp_path / "a.tif", specs.extent, make_grid((2100, 10)), read)
    assert not isinstance(caught.value, RunFolderError)
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_write(tmp_path, specs, make_grid, save, pictures):
    path = save(tmp_path / "a.tif", specs.extent, make_grid((64, 64)), pictures((64, 64))["extent"])
    before = sha(path)
    with pytest.raises(KernelError):
        write_cog(path, specs.extent, make_grid((64, 64)), lambda w: np.full(w.shape, 77, np.uint8))
    assert sha(path) == before


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


HARM = {
    "the header": lambda path: flip(path, 300),
    "a tile": lambda path: flip(path, path.stat().st_size // 2),
    "the last byte": lambda path: flip(path, -1),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_file_that_does_not_read_back_is_not_published(tmp_path, specs, make_grid, save, pictures, monkeypatch, harm):
    def forgetful(target, head, levels):
        assemble(target, head, levels)
        HARM[harm](target)

    assemble = cog._assemble
    monkeypatch.setattr(cog, "_assemble", forgetful)
    with pytest.raises(RunFolderError, match="does not hold the pixels"):
        save(tmp_path / "a.tif", specs.extent, make_grid((640, 64)), pictures((640, 64))["extent"])
    assert list(tmp_path.iterdir()) == []


def test_what_waits_on_the_disk_is_checked_too(tmp_path, specs, make_grid, save, pictures, monkeypatch):
    """Packed tiles lie in a file before they are put together; a disk that loses them there is found out as well."""
    monkeypatch.setattr(os, "pread", lambda file, size, place, pread=os.pread: pread(file, size, place)[:-1] + b"?")
    with pytest.raises(RunFolderError, match="does not hold the pixels"):
        save(tmp_path / "a.tif", specs.extent, make_grid((64, 64)), pictures((64, 64))["extent"])


def test_a_header_that_says_something_else_is_not_published(tmp_path, specs, make_grid, save, pictures, monkeypatch):
    monkeypatch.setattr(cog, "Image", lambda grid, *more: Image(grid.model_copy(update={"x0": 0.0}), *more))
    with pytest.raises(RunFolderError, match="was to be"):
        save(tmp_path / "a.tif", specs.extent, make_grid((64, 64)), pictures((64, 64))["extent"])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_valid_cog_is_not_published(tmp_path, specs, make_grid, save, pictures, monkeypatch):
    monkeypatch.setattr(tiff, "_NOTE", tiff._NOTE.replace(b"NO\n ", b"YES\n"))
    with pytest.raises(RunFolderError, match="no valid COG: This file used to have optimizations"):
        save(tmp_path / "a.tif", specs.extent, make_grid((64, 64)), pictures((64, 64))["extent"])


def test_a_disk_that_refuses_to_flush_is_named(tmp_path, specs, make_grid, save, pictures, monkeypatch):
    def refuse(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunFolderError, match="Input/output error") as caught:
        save(tmp_path / "a.tif", specs.extent, make_grid((64, 64)), pictures((64, 64))["extent"])
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_what_waits_has_no_name(tmp_path, specs, make_grid):
    """A process that is killed leaves no half of a raster behind."""
    seen = []

    def read(window):
        seen.extend(p for p in tmp_path.rglob("*") if p.is_file())
        return np.zeros(window.shape, np.uint8)

    write_cog(tmp_path / "a.tif", specs.extent, make_grid((2100, 100)), read)
    assert seen == []


PRELUDE = """
import resource, sys
from pathlib import Path
import numpy as np
from mdive.errors import RunFolderError
from mdive.model.plan import Grid
from mdive.model.product import ClassEntry, RasterSpec
from mdive.products import write_cog
classes = tuple(ClassEntry(value=v, name=f"c{v}", role="event", title="C", color="#000000") for v in range(4))
spec = RasterSpec(name="extent", long_name="Extent", dtype="uint8", classes=classes)
def grid(rows, cols):
    return Grid(crs="EPSG:32630", resolution=10, x0=500000, y0=4400000, shape=(rows, cols))
noise = np.random.default_rng(0).integers(0, 4, (2048, 2048)).astype(np.uint8)
def read(window):
    return noise[: window.height, : window.width]
"""


def python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_leaves_no_file(tmp_path):
    """Every file size limit from nothing to enough: an error of two lines and an empty folder, or a whole file."""
    code = """
    out = Path(sys.argv[1])
    write_cog(out / "calm.tif", spec, grid(700, 700), read)
    calm = (out / "calm.tif").read_bytes()
    (out / "calm.tif").unlink()
    refused = written = 0
    for limit in [*range(0, 3 * len(calm), len(calm) // 4), 4 * len(calm)]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write_cog(out / "a.tif", spec, grid(700, 700), read)
        except RunFolderError as error:
            assert error.message and error.hint and "\\n" not in error.message, error
            assert list(out.iterdir()) == [], list(out.iterdir())
            refused += 1
        else:
            assert (out / "a.tif").read_bytes() == calm
            (out / "a.tif").unlink()
            written += 1
    print(refused, written)
    """
    refused, written = map(int, python(code, tmp_path).split())
    assert refused >= 4
    assert written >= 1


def test_a_real_full_disk_is_named_as_such(tmp_path, specs, make_grid):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        rng = np.random.default_rng(0)
        with pytest.raises(RunFolderError, match="could not be written") as caught:
            write_cog(small / "a.tif", specs.qc, make_grid((1500, 1500)), lambda w: rng.integers(0, 65536, w.shape).astype(np.uint16))
        assert "space" in str(caught.value).lower()
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_memory_does_not_grow_with_the_area(tmp_path):
    code = """
    write_cog(Path(sys.argv[1]) / "a.tif", spec, grid(int(sys.argv[2]), int(sys.argv[2])), lambda w: read(w) // 2 * 2)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    """
    small, large = (float(python(code, tmp_path, edge)) for edge in (2500, 7000))
    assert large - small < 20, f"{small:.0f} MB for 6 Mpx, {large:.0f} MB for 49 Mpx"


def test_memory_does_not_depend_on_the_height(tmp_path, specs, make_grid):
    """Ten times the rows, the same peak: noise, so that nothing is saved by packing it."""
    noise = np.random.default_rng(0).integers(0, 4, (2048, 1100)).astype(np.uint8)
    peaks = []
    for rows in (2000, 2000, 20_000):  # the first one loads kernels and what GDAL needs
        tracemalloc.start()
        write_cog(tmp_path / "a.tif", specs.extent, make_grid((rows, 1100)), lambda w: noise[: w.height, : w.width])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1], peaks


def test_which_nan_it_was_is_not_stored(specs):
    from mdive.products.encoding import encode

    plain = specs.probability.model_copy(update={"scale": None})
    block = np.full((2, 3), np.nan, np.float32)
    block[0] = np.array([0x7FC00001, 0xFFC00000, 0x7F800001], np.uint32).view(np.float32)
    stored = encode(plain, block, Window(0, 0, 2, 3))
    assert set(stored.view(np.uint32).ravel().tolist()) == {0x7FC00000}
