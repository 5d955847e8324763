"""Whatever cannot be read is named, counted, and never called anything else; only bugs raise."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from mdive.cube import ReadFailure, files, gdal, native, read_block, web
from mdive.cube.failures import Unreadable, diagnosed, without_secrets
from mdive.cube.files import driver_for
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import MaskRule
from mdive.pipeline.window import Window

PLACE = {"x0": 600000.0, "y0": 4000000.0, "res": 10.0}
WINDOW = Window(-10, -10, 120, 140)
NODATA, FAILED = QC_FLAGS["nodata"], QC_FLAGS["read_failure"]
RULE = MaskRule(band="scl", kind="values", causes={"cloud": (9,)})
NUMBERS = np.random.default_rng(0).integers(1, 9999, (100, 120)).astype("uint16")


def cut(path, share):
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * share)])


def only(block):
    (failure,) = block.failures
    return failure


def test_a_deleted_file_is_a_failure_of_its_footprint(write, item, source, grid):
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    Path(asset.href).unlink()
    block = read_block(source(item("i", {"red": asset})), WINDOW, grid(), ["red"])
    failure = only(block)
    assert (failure.source, failure.item, failure.band, failure.cause, failure.attempts) == ("sat/post", "i", "red", "missing", 1)
    assert failure.window == WINDOW
    assert failure.href == asset.href
    assert np.isnan(block.values["red"]).all()
    assert (block.mask == FAILED).sum() == 100 * 120
    assert (block.mask == NODATA).sum() == 120 * 140 - 100 * 120
    assert (block.mask[0, 10:110, 10:130] == FAILED).all()


@pytest.mark.parametrize(
    ("break_it", "cause"),
    [
        (lambda p: cut(p, 0.5), "truncated"),
        (lambda p: cut(p, 0.98), "truncated"),
        (lambda p: cut(p, 0.001), "truncated"),
        (lambda p: p.write_text("<html>please sign in</html>"), "not_a_raster"),
        (lambda p: p.write_text('<VRTDataset rasterXSize="9" rasterYSize="9"></VRTDataset>'), "not_a_raster"),
        (lambda p: p.write_bytes(b""), "not_a_raster"),
        (lambda p: (p.unlink(), p.mkdir()), "not_a_raster"),
    ],
    ids=["half", "last bytes", "header", "html", "vrt", "empty", "folder"],
)
def test_broken_files(write, item, source, grid, break_it, cause):
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    break_it(Path(asset.href))
    block = read_block(source(item("i", {"red": asset})), WINDOW, grid(), ["red"])
    assert only(block).cause == cause
    assert only(block).message
    assert (block.mask == FAILED).sum() == 100 * 120


def test_a_file_that_is_cut_still_gives_the_windows_before_the_cut(write, item, source, grid):
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    cut(asset.href, 0.6)
    src = source(item("i", {"red": asset}))
    np.testing.assert_array_equal(read_block(src, Window(0, 0, 60, 60), grid(), ["red"]).values["red"][0], NUMBERS[:60, :60])
    assert only(read_block(src, Window(80, 80, 20, 20), grid(), ["red"])).cause == "truncated"


@pytest.mark.parametrize("case", ["no crs", "wrong band", "misplaced", "complex"])
def test_files_that_are_no_such_raster(write, item, source, grid, case, tmp_path):
    import rasterio

    asset = write("red", NUMBERS, nodata=0, **PLACE)
    cause = {"no crs": "crs", "wrong band": "no_band", "misplaced": "misplaced", "complex": "dtype"}[case]
    if case == "wrong band":
        asset = asset.model_copy(update={"index": 3})
    elif case == "misplaced":
        asset = write("red", NUMBERS, nodata=0, x0=700000.0, y0=4000000.0, res=10.0)
        asset = asset.model_copy(update={"transform": (10.0, 0.0, 600000.0, 0.0, -10.0, 4000000.0)})
    else:
        profile = {"width": 120, "height": 100, "count": 1, "dtype": "complex64" if case == "complex" else "uint16"}
        crs = {"crs": "EPSG:32630"} if case == "complex" else {}
        with rasterio.open(asset.href, "w", driver="GTiff", transform=rasterio.Affine(*asset.transform), **profile, **crs):
            pass
    block = read_block(source(item("i", {"red": asset})), WINDOW, grid(), ["red"])
    assert only(block).cause == cause
    assert (block.mask == FAILED).sum() == 100 * 120


def test_a_monstrous_block_is_not_decoded(write, item, source, grid, monkeypatch):
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    for module in (gdal, native):
        monkeypatch.setattr(module, "LARGEST_BLOCK", 64 * 64 * 2 - 1)
    assert only(read_block(source(item("i", {"red": asset})), WINDOW, grid(), ["red"])).cause == "too_large"


def test_what_another_item_supplies_is_no_loss(write, item, source, grid):
    """Two items of one pass overlap; the better one is gone: only what nobody else had is lost."""
    whole = write("whole", NUMBERS, nodata=0, **PLACE)
    right = write("right", NUMBERS[:, 40:], nodata=0, x0=600400.0, y0=4000000.0, res=10.0)
    Path(whole.href).unlink()
    src = source(item("whole", {"red": whole}), item("right", {"red": right}))
    block = read_block(src, WINDOW, grid(), ["red"])
    assert only(block).item == "whole"
    assert (block.mask == FAILED).sum() == 100 * 40
    np.testing.assert_array_equal(block.values["red"][0, 10:110, 50:130], NUMBERS[:, 40:])
    assert not block.mask[0, 10:110, 50:130].any()


def test_a_failure_belongs_to_its_own_observation(write, item, source, grid):
    gone, there = (item(n, {"red": write(n, NUMBERS, nodata=0, **PLACE)}) for n in ("gone", "there"))
    Path(gone.assets["red"].href).unlink()
    block = read_block(source(gone, there, observations=[("gone",), ("there",)]), WINDOW, grid(), ["red"])
    assert (block.mask[0] == FAILED).sum() == 100 * 120
    assert not (block.mask[1] & FAILED).any()
    np.testing.assert_array_equal(block.values["red"][1, 10:110, 10:130], NUMBERS)


def test_one_failed_band_marks_the_pixel_and_leaves_the_others(write, item, source, grid):
    assets = {"red": write("red", NUMBERS, nodata=0, **PLACE), "nir": write("nir", NUMBERS, nodata=0, **PLACE)}
    Path(assets["nir"].href).unlink()
    block = read_block(source(item("i", assets)), WINDOW, grid(), ["red", "nir"])
    assert only(block).band == "nir"
    np.testing.assert_array_equal(block.values["red"][0, 10:110, 10:130], NUMBERS)
    assert (block.mask[0, 10:110, 10:130] == FAILED).all()


def test_without_its_quality_band_an_item_is_lost(write, item, source, grid):
    """Nobody knows where its clouds are: its pixels are not used, and another item may stand in."""
    quality = np.full((100, 120), 4, "uint8")
    first = item("first", {"red": write("r1", NUMBERS, nodata=0, **PLACE), "scl": write("s1", quality, unit="class", **PLACE)})
    second = item(
        "second",
        {
            "red": write("r2", NUMBERS[50:] + 1, nodata=0, x0=600000.0, y0=3999500.0, res=10.0),
            "scl": write("s2", quality[50:], unit="class", x0=600000.0, y0=3999500.0, res=10.0),
        },
    )
    Path(first.assets["scl"].href).unlink()
    block = read_block(source(first, second, mask=RULE), WINDOW, grid(), ["red"])
    assert (only(block).item, only(block).band, only(block).cause) == ("first", "scl", "missing")
    assert (block.mask[0, 10:60, 10:130] == FAILED).all()
    assert np.isnan(block.values["red"][0, 10:60]).all()
    np.testing.assert_array_equal(block.values["red"][0, 60:110, 10:130], NUMBERS[50:] + 1)
    assert not block.mask[0, 60:110, 10:130].any()


@pytest.mark.parametrize("missing", ["red", "scl"])
def test_an_item_without_the_asset_is_named(write, item, source, grid, missing):
    quality = write("s", np.full((100, 120), 4, "uint8"), unit="class", **PLACE)
    red = write("r", NUMBERS, nodata=0, **PLACE)
    full = item("full", {"red": red, "scl": quality})
    partial = item("partial", {k: v for k, v in full.assets.items() if k != missing})
    src = source(full, partial, mask=RULE, observations=[("full",), ("partial",)])
    block = read_block(src, WINDOW, grid(), ["red"])
    assert (only(block).item, only(block).band, only(block).cause) == ("partial", missing, "no_asset")
    assert (block.mask[1] == FAILED).sum() == 100 * 120
    assert not (block.mask[0] & FAILED).any()


@pytest.mark.parametrize("claim", [True, False], ids=["grid known", "polygon only"])
def test_flagged_pixels_are_those_of_the_footprint_on_a_foreign_grid(write, item, source, grid, claim):
    """EPSG:4326 under UTM: as many pixels are flagged as would have been read."""
    place = {"res": 1e-4, "x0": -1.8880, "y0": 36.1370, "crs": "EPSG:4326"}
    full = write("a", np.ones((60, 90), "uint8"), **place, resampling="nearest")
    good = source(item("i", {"red": full}))
    seen = read_block(good, WINDOW, grid(), ["red"])
    expected = np.isfinite(seen.values["red"][0])
    assert 500 < expected.sum() < 120 * 140
    broken = full if claim else full.model_copy(update={"crs": None, "transform": None, "shape": None})
    Path(full.href).unlink()
    block = read_block(source(item("i", {"red": broken}, geometry=good.items[0].geometry)), WINDOW, grid(), ["red"])
    flagged = block.mask[0] == FAILED
    np.testing.assert_array_equal(flagged, expected)


def test_windows_count_each_lost_pixel_once(write, item, source, grid):
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    Path(asset.href).unlink()
    src = source(item("i", {"red": asset}))
    tiles = [Window(r, c, 37, 41) for r in range(-20, 120, 37) for c in range(-20, 140, 41)]
    blocks = [read_block(src, w, grid(), ["red"]) for w in tiles]
    assert sum(int((b.mask == FAILED).sum()) for b in blocks) == 100 * 120
    for block in blocks:
        assert len(block.failures) == bool((block.mask == FAILED).any())


def test_files_without_projection_metadata_are_read(write, item, source, grid):
    """The catalogue tells no grid: the footprint says where to look, the header says how it lies."""
    asset = write("red", NUMBERS, nodata=0, claim=False, **PLACE)
    known = write("known", NUMBERS, nodata=0, **PLACE)
    geometry = item("x", {"red": known}).geometry
    block = read_block(source(item("i", {"red": asset}, geometry=geometry)), WINDOW, grid(), ["red"])
    np.testing.assert_array_equal(block.values["red"][0, 10:110, 10:130], NUMBERS)


def test_bugs_raise(write, item, source, grid, monkeypatch):
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    monkeypatch.setattr("mdive.cube.reader.sample", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read_block(source(item("i", {"red": asset})), WINDOW, grid(), ["red"])


def test_failures_and_blocks_pickle(write, item, source, grid):
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    src, target = source(item("i", {"red": asset})), grid()
    Path(asset.href).unlink()
    block = read_block(*pickle.loads(pickle.dumps((src, WINDOW, target, ["red"]))))
    again = pickle.loads(pickle.dumps(block))
    assert again.failures == block.failures
    assert isinstance(again.failures[0], ReadFailure)
    np.testing.assert_array_equal(again.mask, block.mask)


def test_random_bytes_never_escape(write, item, source, grid):
    """Any damage gives pixels or a failure, never an exception."""
    rng = random.Random(7)
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    data = Path(asset.href).read_bytes()
    causes = set()
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 40)):
            broken[rng.randrange(min(len(broken), rng.choice((64, 400, len(broken)))))] = rng.randrange(256)
        Path(asset.href).write_bytes(broken[: rng.randint(1, len(broken))])
        block = read_block(source(item("i", {"red": asset})), WINDOW, grid(), ["red"])
        causes |= {f.cause for f in block.failures}
        assert bool(block.failures) == bool((block.mask & FAILED).any())
    assert "truncated" in causes


# What may be opened at all


@pytest.mark.parametrize(
    "href",
    [
        "/vsicurl/http://example.com/a.tif",
        "/vsizip/data.zip/a.tif",
        "//host/share/a.tif",
        "file:///etc/passwd",
        "relative/a.tif",
        "PG:host=localhost dbname=x",
        "<VRTDataset></VRTDataset>",
        "GTIFF_DIR:1:/data/a.tif",
        "NETCDF:/data/a.nc:v",
        "zip+https://example.com/a.zip!a.tif",
        "ftp://example.com/a.tif",
        "http:///a.tif",
        "/data/a.vrt",
        "https://example.com/a.VRT?sig=1",
        "https://example.com/tiles.json",
        "",
    ],
)
def test_addresses_that_are_refused(href):
    with pytest.raises(Unreadable) as caught:
        driver_for(href)
    assert caught.value.cause == "refused"


@pytest.mark.parametrize(
    ("href", "driver"),
    [
        ("/data/a.tif", "GTiff"),
        ("/data/odd:name.TIF", "GTiff"),
        ("https://example.com/a.tif?sv=1&sig=x", "GTiff"),
        ("https://example.com/download", "GTiff"),
        ("s3://bucket/key/a.jp2", "JP2OpenJPEG"),
        ("https://example.com/a.nc", "netCDF"),
    ],
)
def test_addresses_that_are_opened_by_one_driver(href, driver):
    assert driver_for(href) == driver


def test_an_item_from_the_network_may_not_point_home(write, item, source, grid):
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    src = source(item("i", {"red": asset}, href="https://example.com/items/i.json"))
    assert only(read_block(src, WINDOW, grid(), ["red"])).cause == "refused"
    local = source(item("i", {"red": asset}, href="/data/i.json"))
    assert read_block(local, WINDOW, grid(), ["red"]).failures == ()


# Over HTTP


@pytest.fixture(params=["deflate", "lzw"], ids=["ours", "gdal's"])
def remote(write, item, source, server, monkeypatch, request):
    """A source behind the server, of a packing that mdive reads itself, and of one that GDAL does; addresses that nobody has met."""
    for module in (files, web):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    asset = write("red", NUMBERS, nodata=0, compress=request.param, **PLACE)
    server.files["red.tif"] = Path(asset.href).read_bytes()
    moved = asset.model_copy(update={"href": f"{server.url}/red.tif?sig=CANARY"})
    return source(item("i", {"red": moved}, href=f"{server.url}/i.json"))


def test_a_remote_file_is_read(remote, grid):
    block = read_block(remote, WINDOW, grid(), ["red"])
    np.testing.assert_array_equal(block.values["red"][0, 10:110, 10:130], NUMBERS)


@pytest.mark.parametrize("faults", [[403], ["html"], [503, 500], ["cut"], [None, "cut", 502]], ids=str)
def test_failures_that_pass_are_tried_again(remote, server, grid, faults):
    server.faults = list(faults)
    block = read_block(remote, WINDOW, grid(), ["red"])
    assert block.failures == ()
    np.testing.assert_array_equal(block.values["red"][0, 10:110, 10:130], NUMBERS)


def test_a_missing_remote_file_is_not_asked_for_again(remote, server, grid):
    del server.files["red.tif"]
    failure = only(read_block(remote, WINDOW, grid(), ["red"]))
    assert (failure.cause, failure.attempts) == ("http_404", 1)
    assert len(server.requests) == 1


def test_what_never_works_ends(remote, server, grid):
    server.faults = [403] * 100
    block = read_block(remote, WINDOW, grid(), ["red"])
    failure = only(block)
    assert failure.cause == "denied"
    assert failure.attempts in (2, files.ATTEMPTS)
    assert (block.mask == FAILED).sum() == 100 * 120
    assert "CANARY" not in repr(block.failures)


# Words


def test_secrets_do_not_reach_the_ledger():
    said = "'/vsicurl/https://me:pw@example.com/a.tif?sig=CANARY' not recognized"
    assert without_secrets(said) == "'https://example.com/a.tif' not recognized"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (PermissionError(13, "Permission denied"), "denied"),
        (OSError("HTTP response code: 503"), "http_503"),
        (OSError("HTTP response code: 401"), "denied"),
        (OSError("CURL error: Operation timed out after 60001 milliseconds"), "timeout"),
        (OSError("CURL error: Could not resolve host: nowhere.invalid"), "connection"),
        (OSError("ZIPDecode:Decoding error at scanline 0"), "corrupt"),
        (OSError("something new"), "unreadable"),
    ],
)
def test_causes(error, cause):
    assert diagnosed(error).cause == cause
