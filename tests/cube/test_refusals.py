"""What is refused, with a clear error, before anything is opened: addresses that lead elsewhere, and files that claim too much."""

from __future__ import annotations

import json
import resource
import socket
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
import shapely.geometry

import mdive
from mdive.config import GDAL_SKIPPED, allowed_hosts
from mdive.cube import files, gdal, native, read_block, tiff
from mdive.cube.failures import Unreadable
from mdive.cube.files import driver_for
from mdive.cube.native import NativeFiles
from mdive.cube.patience import Patience
from mdive.cube.store import BlockStore
from mdive.cube.web import Web
from mdive.errors import MdiveError
from mdive.model.flags import QC_FLAGS
from mdive.pipeline.window import Window
from mdive.providers import open_catalog

PLACE = {"x0": 600000.0, "y0": 4000000.0, "res": 10.0}
NUMBERS = np.random.default_rng(0).integers(1, 9999, (100, 120)).astype("uint16")
WINDOW = Window(0, 0, 100, 120)
FAILED = QC_FLAGS["read_failure"]


@pytest.fixture(autouse=True)
def untouched(monkeypatch, server):
    """A reader of a new process; GDAL and the system's open() fail the test where they are asked for anything that was to be refused."""
    monkeypatch.setattr(native, "_files", made := NativeFiles(BlockStore(2**26), 4))
    made._web = Web(4, Patience(sleep=lambda _: None))
    monkeypatch.setattr(files, "FIRST_PAUSE", 0.0)
    return made


@pytest.fixture
def refused(write, item, source, grid, monkeypatch, server):
    """Read an item whose asset is an address; return the failure. Nobody may open anything."""

    def read(href, *, origin="https://data.example/i.json", cause="refused"):
        def nobody(*arguments, **named):
            raise AssertionError(f"opened {arguments}")

        known = write("known", NUMBERS, nodata=0, **PLACE)
        made = source(item("i", {"red": known.model_copy(update={"href": href})}, href=origin))
        with monkeypatch.context() as strict:
            strict.setattr(rasterio, "open", nobody)
            strict.setattr("os.open", nobody)
            block = read_block(made, WINDOW, grid(), ["red"])
        (failure,) = block.failures
        assert failure.cause == cause
        assert (block.mask == FAILED).sum() == NUMBERS.size
        return failure

    return read


# Addresses


@pytest.mark.parametrize("name", ["a.vrt", "a.VRT?sig=1", "a.gti", "a.xml", "a.json"])
def test_a_remote_description_of_other_files(refused, server, name):
    server.files["a.vrt"] = b"<VRTDataset><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>"
    assert "describes other files" in refused(f"{server.url}/{name}").message
    assert server.requests == []


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "/vsicurl/http://data.example/a.tif",
        "/vsimem/a.tif",
        "/vsizip//data/a.zip/a.tif",
        "PG:host=localhost dbname=x",
        "NETCDF:/etc/passwd:v",
        "GTIFF_DIR:1:/data/a.tif",
        "<VRTDataset></VRTDataset>",
        "ftp://data.example/a.tif",
        "../../etc/passwd",
    ],
)
def test_an_address_that_is_no_address_of_a_file(refused, href):
    assert "neither an absolute path nor" in refused(href).message


def test_a_file_of_this_machine_in_a_remote_item(refused, write):
    assert "a file of this machine" in refused(write("home", NUMBERS, **PLACE).href).message


@pytest.mark.parametrize("suffix", [".exe", ".hdr", ".zip", ".tar.gz", ".sqlite", ".gpkg", ".pdf", ".wms"])
def test_an_extension_that_is_not_on_the_list(refused, server, suffix):
    assert f"A {suffix[suffix.rindex('.') :]} file is none of those that are read" in refused(f"{server.url}/a{suffix}").message
    assert server.requests == []


def test_extensions_that_are_on_the_list():
    for name in ("a.tif", "a.TIFF", "a.cog", "download", "product.2024", "a.jp2", "a.nc"):
        assert driver_for(f"https://data.example/{name}") in {"GTiff", "JP2OpenJPEG", "netCDF"}


@pytest.mark.parametrize("packing", ["deflate", "lzw"])
def test_a_redirect_to_a_private_address(write, item, source, grid, server, monkeypatch, packing):
    """The proxy stands in for the world: the name is public, the redirect leads into the network of this machine."""
    monkeypatch.setattr(socket, "getaddrinfo", _world(socket.getaddrinfo))
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    native._files._web = Web(4, Patience(sleep=lambda _: None))
    asset = write("red", NUMBERS, nodata=0, compress=packing, **PLACE)
    server.files["red.tif"] = Path(asset.href).read_bytes()
    made = source(item("i", {"red": asset.model_copy(update={"href": "http://data.example/red.tif"})}))
    server.always = (302, {"Location": "http://169.254.169.254/latest/meta-data/red.tif"}, b"")
    (failure,) = read_block(made, WINDOW, grid(), ["red"]).failures
    assert (failure.cause, failure.attempts) == ("refused", 1)
    assert "169.254.169.254" in failure.message
    assert server.requests == ["GET http://data.example/red.tif"]


def _world(real):
    def resolve(host, port, *rest, **named):
        if host == "data.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port or 0))]
        return real(host, port, *rest, **named)

    return resolve


def test_a_host_that_is_not_on_the_list_of_the_environment(refused, server, monkeypatch):
    monkeypatch.setenv("MDIVE_HOSTS", "*.example.org, data.example")
    assert allowed_hosts() == ("*.example.org", "data.example")
    assert "127.0.0.1 is none of the hosts in MDIVE_HOSTS" in refused(f"{server.url}/red.tif").message
    assert server.requests == []


def test_a_redirect_to_a_host_that_is_not_on_the_list(refused, server, monkeypatch):
    monkeypatch.setenv("MDIVE_HOSTS", "127.0.0.1")
    server.files["red.tif"] = b"x"
    server.always = (302, {"Location": f"{server.url.replace('127.0.0.1', 'localhost')}/red.tif"}, b"")
    assert "localhost is none" in refused(f"{server.url}/red.tif").message
    assert len(server.requests) == 1


def test_a_thread_that_fails_while_another_one_imports_gdal_says_what_failed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mdive.cube.gdal", ModuleType("mdive.cube.gdal"))  # begun, and nothing in it yet
    with pytest.raises(Unreadable, match="No such file"):
        files.with_raster("/nowhere/at-all.tif", None, lambda raster: raster)
    files.close_files()


def test_drivers_that_follow_references_are_off(server):
    with gdal.environment() as env:
        assert rasterio.env.getenv()["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
        assert not set(files.DRIVERS.values()) & set(GDAL_SKIPPED)
        # Even a driver that asks the web by itself finds nothing there.
        server.files["red.tif"] = b"II*\0"
        with pytest.raises(rasterio.RasterioIOError):
            rasterio.open(f"/vsicurl/{server.url}/red.tif", driver="GTiff")
    assert server.requests == []
    assert env is not None


@pytest.mark.parametrize("place", ["catalogue", "api-like self link"])
def test_file_addresses_in_a_remote_catalogue(server, tmp_path, write, place):
    """The catalogue comes over the network: none of its assets is a file of this machine, wherever its items say that they live."""
    secret = write("home", NUMBERS, nodata=0, **PLACE)
    west, south, east, north = -1.9, 36.1, -1.8, 36.2
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    document = {
        "type": "Feature", "stac_version": "1.0.0", "id": "i", "collection": "sentinel-2-l2a", "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"datetime": "2024-10-30T10:50:00Z"},
        "links": [{"rel": "self", "href": "/home/i.json"}] if place != "catalogue" else [],
        "assets": {"red": {"href": f"file://{secret.href}", "roles": ["data"]}},
    }  # fmt: skip
    server.files["i.json"] = json.dumps(document).encode()
    (found,) = open_catalog(f"{server.url}/i.json").search(shapely.geometry.shape(document["geometry"]), None, None)
    assert found.get_self_href() == f"{server.url}/i.json"
    from mdive.providers._extent import UnusableError
    from mdive.providers._refs import asset_ref

    with pytest.raises(UnusableError, match="points at a file of this machine"):
        asset_ref(found, "red", 1, {})


# Files that claim too much


def directory(tags, *, count=None, loop=False, big=False):
    """Return a TIFF of one directory."""
    order = "<"
    head = struct.pack(order + "2sHI", b"II", 42, 8)
    body, extra = b"", b""
    at = 8 + 2 + 12 * len(tags) + 4
    for tag, kind, values in sorted(tags):
        packed = struct.pack(f"{order}{len(values)}{ {3: 'H', 4: 'I', 12: 'd'}[kind] }", *values)
        if len(packed) > 4:
            body += struct.pack(order + "HHII", tag, kind, len(values), at + len(extra))
            extra += packed
        else:
            body += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return (
        head + struct.pack(order + "H", len(tags) if count is None else count) + body + struct.pack(order + "I", 8 if loop else 0) + extra
    )


def claims(width, height, tile=512, compression=8):
    return [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [16]), (259, 3, [compression]), (262, 3, [1]), (277, 3, [1]), (322, 4, [tile]),
        (323, 4, [tile]), (324, 4, [9000]), (325, 4, [100]), (339, 3, [1]), (33550, 12, [10.0, 10.0, 0.0]),
        (33922, 12, [0.0, 0.0, 0.0, 6e5, 4e6, 0.0]), (34735, 3, [1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32630]),
    ]  # fmt: skip


@pytest.fixture
def bomb(write, item, source, server, tmp_path, grid):
    """Read a hostile file, here or on a server; return the failure and the bytes that it took."""

    def read(data, where):
        known = write("known", NUMBERS, nodata=0, claim=False, **PLACE)
        path = tmp_path / "bomb.tif"
        path.write_bytes(data)
        server.files["bomb.tif"] = data
        href = str(path) if where == "local" else f"{server.url}/bomb.tif"
        made = source(
            item("i", {"red": known.model_copy(update={"href": href})}, geometry=item("k", {"red": write("k", NUMBERS, **PLACE)}).geometry)
        )
        read_block(made, Window(0, 0, 1, 1), grid(), ["red"])  # whatever is set up once
        tracemalloc.start()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        block = read_block(made, WINDOW, grid(), ["red"])
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        (failure,) = block.failures
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        return failure, max(most, grown)

    return read


WHERE = pytest.mark.parametrize("where", ["local", "remote"])


@WHERE
@pytest.mark.parametrize("compression", [8, 5], ids=["deflate", "lzw"])
def test_a_tiff_of_a_million_times_a_million_pixels(bomb, where, compression):
    failure, took = bomb(directory(claims(10**6, 10**6, compression=compression)), where)
    assert failure.cause == "too_large"
    assert "1,000,000 x 1,000,000 pixels" in failure.message
    assert took < 2**25


def test_the_largest_rasters_that_are_real_are_not_refused():
    tiff.check_pixels((432_000, 1_296_000))  # the Earth at one arc second
    with pytest.raises(Unreadable):
        tiff.check_pixels((10**6, 10**6))


@WHERE
@pytest.mark.parametrize("mebibytes", [16, 256])
def test_a_block_that_inflates_to_far_more_than_it_should(bomb, where, mebibytes):
    """Mebibytes of zeros, where a block of 64 x 64 numbers was promised."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(mebibytes)) + packer.flush()
    tags = dict((t[0], t) for t in claims(64, 64, tile=64))
    tags[325] = (325, 4, [len(packed)])
    data = directory(list(tags.values()))
    data += bytes(9000 - len(data)) + packed
    failure, took = bomb(data, where)
    assert failure.cause == "corrupt"
    assert took < 2**23


@WHERE
@pytest.mark.parametrize("compression", [8, 5], ids=["deflate", "lzw"])
def test_a_block_of_gigabytes(bomb, where, compression):
    failure, took = bomb(directory(claims(60_000, 60_000, tile=60_000 // 16 * 16 + 16, compression=compression)), where)
    assert failure.cause == "too_large"
    assert took < 2**25


@WHERE
@pytest.mark.parametrize("count", [4097, 65535])
def test_a_directory_of_too_many_entries(bomb, where, count):
    tags = [(60_000, 4, [1])] * (count - 14) + claims(100, 100)
    failure, took = bomb(directory(tags), where)
    assert failure.cause == "too_large"
    assert f"{count:,} entries" in failure.message
    assert took < 2**25


def test_a_bigtiff_whose_directory_has_more_entries_than_there_are_bytes(bomb):
    data = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 2**60) + bytes(64)
    failure, _ = bomb(data, "remote")
    assert failure.cause == "too_large"


@WHERE
def test_directories_that_go_in_circles(bomb, where):
    """Only the first is read; GDAL, which gets the file for its packing, notices."""
    failure, took = bomb(directory(claims(100, 100, compression=5), loop=True), where)
    assert failure.cause in ("unreadable", "truncated", "not_a_raster", "corrupt")
    assert took < 2**25


def test_tables_of_blocks_beyond_any_file(bomb):
    tags = [t if t[0] not in (324, 325) else (t[0], 4, [0] * 4) for t in claims(100_000, 100_000, tile=16)]
    failure, took = bomb(directory(tags), "remote")
    assert failure.cause != ""
    assert took < 2**26


# Names that become paths


@pytest.mark.parametrize("name", ["../../../escape", "/tmp/escape", "a/../../b", "..", "a\0b"])
def test_ids_never_become_paths(tmp_path, name):
    """Item, collection and asset key of a catalogue, and with them the key of a source, hold a way out of the run folder."""
    from mdive.model import load_event
    from mdive.testing import make_flood_event

    folder = tmp_path / "in"
    made = make_flood_event(folder, seed=3, size_km=2.0)
    for path in made.folder.glob("*.json"):
        document = json.loads(path.read_text())
        if document.get("type") == "Feature":
            document["id"] = f"{name}{document['id']}"
            document["collection"] = f"{name}{document['collection']}"
            document["assets"]["../out"] = dict(next(iter(document["assets"].values())))
        path.write_text(json.dumps(document))
    before = {p for p in tmp_path.rglob("*") if not p.is_relative_to(folder)}
    out = tmp_path / "deep" / "er" / "run"
    report = None
    try:
        report = mdive.run(mdive.plan(load_event(made.event), catalog=str(made.catalog)), out)
    except MdiveError as error:
        assert error.hint
    written = {p for p in tmp_path.rglob("*") if not p.is_relative_to(folder) and p.is_file()} - before
    assert all(p.resolve().is_relative_to(out.resolve()) for p in written)
    assert not Path("/tmp/escape").exists()
    if report is not None:
        for product in report.manifest.products:
            assert ".." not in Path(product.path).parts


@pytest.mark.parametrize("name", ["../escape", "a/b", "..", "/etc"])
def test_an_event_id_that_is_a_path_is_refused(name):
    with pytest.raises(MdiveError):
        mdive.Event(id=name, area={"bbox": [0, 0, 1, 1]}, window={"start": "2024-01-01", "end": "2024-01-02"}, event_class="flood")


# Windows


def test_a_window_never_asks_for_more_than_the_plan(write, item, source, grid, monkeypatch):
    """Whatever is asked for, at, across and beyond the edges of a file: what is read lies in the file and in what was planned for it."""
    asked = []
    real = BlockStore.read

    def noted(store, file, index, rows, cols):
        asked.append((rows, cols))
        return real(store, file, index, rows, cols)

    monkeypatch.setattr(BlockStore, "read", noted)
    asset = write("red", NUMBERS, nodata=0, **PLACE)
    made = source(item("i", {"red": asset}))
    rng = np.random.default_rng(0)
    for _ in range(200):
        row, col = rng.integers(-200, 200, 2)
        height, width = rng.integers(1, 150, 2)
        asked.clear()
        read_block(made, Window(int(row), int(col), int(height), int(width)), grid(), ["red"])
        for rows, cols in asked:
            assert max(row, 0) <= rows[0] < rows[1] <= min(row + height, 100)
            assert max(col, 0) <= cols[0] < cols[1] <= min(col + width, 120)


def test_a_file_finer_than_planned_by_orders_is_read_in_bounded_memory(write, item, source, grid):
    """The header says 0.01 m where 10 m were planned: a tile would need a million numbers for each of its pixels."""
    fine = write("fine", np.ones((64, 64), "uint8"), x0=600000.0, y0=4000000.0, res=0.01, nodata=0)
    tracemalloc.start()
    block = read_block(source(item("i", {"red": fine})), WINDOW, grid(), ["red"])
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()
    assert block.values["red"].shape == (1, *WINDOW.shape)
