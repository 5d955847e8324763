"""A planted secret appears nowhere: not in the run folder, logs, output, documents, reprs, pickled tasks or messages."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import rasterio

import mdive
from mdive.cube import connections, files, native
from mdive.cube.failures import Unreadable
from mdive.cube.files import with_raster
from mdive.cube.native import NativeFiles
from mdive.cube.patience import Patience
from mdive.cube.store import BlockStore
from mdive.cube.web import Web
from mdive.engine.run import run_tile
from mdive.errors import MdiveError
from mdive.model import load_event
from mdive.runtime import Task
from mdive.testing import make_flood_event

CANARY = "CANARY7f3a"
MARKS = tuple(
    text.encode() for text in (CANARY, base64.b64encode(f"{CANARY}:{CANARY}".encode()).decode(), CANARY.encode().hex(), CANARY.lower())
)
PAGE = f"<Error><Message>{CANARY}</Message><Code>AuthenticationFailed</Code></Error>".encode()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_flood_event(tmp_path_factory.mktemp("made"), seed=3, size_km=2.0)


@pytest.fixture
def planted(made, faulty, tmp_path, monkeypatch):
    """The event behind a server and a proxy, with a secret wherever one can be; return its catalogue's folder."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PC_SDK_SUBSCRIPTION_KEY", "AZURE_STORAGE_SAS_TOKEN", "GDAL_HTTP_USERPWD"):
        monkeypatch.setenv(name, CANARY)
    host = faulty.url.removeprefix("http://")
    monkeypatch.setenv("MDIVE_BEARER_TOKENS", f"data.example={CANARY}")
    monkeypatch.setenv("HTTP_PROXY", f"http://{CANARY}:{CANARY}@{host}")
    monkeypatch.setenv("http_proxy", f"http://{CANARY}:{CANARY}@{host}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(files, "FIRST_PAUSE", 0.0)
    fresh = NativeFiles(BlockStore(2**26), 4)
    fresh._web = Web(4, Patience(sleep=lambda _: None))
    monkeypatch.setattr(native, "_files", fresh)
    folder = tmp_path / "catalogue"
    folder.mkdir()
    for path in made.folder.glob("*.json"):
        document = json.loads(path.read_text())
        for band, asset in document.get("assets", {}).items():
            name = asset["href"].rpartition("/")[2]
            data = (made.folder / name).read_bytes()
            if band == "vh":  # one that GDAL decodes
                with rasterio.open(made.folder / name) as source, rasterio.MemoryFile() as memory:
                    with memory.open(**{**source.profile, "driver": "GTiff", "compress": "lzw"}) as target:
                        target.write(source.read())
                    data = bytes(memory.getbuffer())
            faulty.files[name] = data
            asset["href"] = f"http://{CANARY}:{CANARY}@data.example/{name}?se=2030&sig={CANARY}&token={CANARY}#{CANARY}"
            asset["alternate"] = {"s3": {"href": f"s3://bucket/{name}?X-Amz-Signature={CANARY}"}}
        (folder / path.name).write_text(json.dumps(document))
    shutil.copy(made.event, folder)
    return folder


def told_by(folder):
    """Yield what every file of a folder says, also packed inside."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        yield path.name.encode() + path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield repr((table.schema.metadata, table.to_pylist())).encode()
        if path.suffix == ".tif":
            with rasterio.open(path) as dataset:
                yield repr((dataset.tags(), [dataset.tags(b) for b in dataset.indexes], dataset.descriptions)).encode()


def assert_silent(texts):
    for text in texts:
        data = text if isinstance(text, bytes) else str(text).encode()
        for mark in MARKS:
            assert mark not in data, data[max(0, data.index(mark) - 200) : data.index(mark) + 100]


FAULTS = {
    "nothing": None,
    "403": (403, {"Content-Type": "application/xml"}, PAGE),
    "404": (404, {}, PAGE),
    "500": (500, {"X-Debug": CANARY}, PAGE),
    "redirect": (302, {"Location": f"http://data.example/x.tif?sig={CANARY}"}, b""),
    "redirect elsewhere": (302, {"Location": f"ftp://{CANARY}@data.example/x.tif?sig={CANARY}"}, b""),
    "html": "html",
    "cut": "cut",
    "hang": "hang",
    "reset": "reset",
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_run_tells_no_secret(planted, made, faulty, tmp_path, caplog, capfd, fault):
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)
    plan = mdive.plan(load_event(made.event), catalog=str(planted / made.catalog.name), tile_size=128)
    faulty.always = fault
    progress = []
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect("threads", workers=2), watch=progress.append, verify_inputs=True)
    assert report.status == ("complete" if fault is None else "partial")
    assert any(request.startswith("GET http://data.example/") for request in faulty.requests), "the secrets were at work"
    sent = [h for h in faulty.headers if "Proxy-Authorization" in h]
    assert len(sent) == len(faulty.headers) > 0
    reader = native.native_files()
    objects = [plan, report, reader, reader.web, reader.web._connections, reader.web._signers, *reader._remote.values(), reader.pages]
    tasks = [Task("p0-t0", run_tile, (str(tmp_path / "run"), 0, 0)), plan, plan.sources[0].items[0].assets]
    out = capfd.readouterr()
    assert_silent(told_by(tmp_path / "run"))
    assert_silent(record.getMessage() + (record.exc_text or "") for record in caplog.records)
    assert_silent([out.out, out.err, plan.model_dump_json(), *map(repr, objects), *map(str, objects), *map(repr, progress)])
    assert_silent(pickle.dumps(task) for task in tasks)
    assert caplog.records


@pytest.mark.parametrize("fault", [f for f in FAULTS.values() if f is not None], ids=[n for n, f in FAULTS.items() if f is not None])
def test_an_exception_tells_no_secret(planted, faulty, fault):
    faulty.always = fault
    name = next(name for name in faulty.files if "vh" in name)
    for href in (f"http://{CANARY}:{CANARY}@data.example/{name}?sig={CANARY}", f"http://data.example/{name}?sig={CANARY}&token={CANARY}"):
        with pytest.raises(Unreadable) as caught:
            with_raster(href, None, lambda raster: raster.read(1, (0, 10), (0, 10)))
        assert_silent(["".join(traceback.format_exception(caught.value)), repr(caught.value), caught.value.message])
        assert_silent([pickle.dumps(caught.value)])


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500, "dead"])
@pytest.mark.parametrize("kind", ["catalog.json", "items.parquet", "", "an event"])
def test_the_address_of_a_catalogue_is_told_without_its_secret(server, tmp_path, made, caplog, capfd, status, kind, monkeypatch):
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.setattr("mdive.providers._documents.ATTEMPTS", 2)
    monkeypatch.setattr("mdive.providers._documents.TIMEOUT", (0.5, 0.5))
    host = server.url.removeprefix("http://") if status != "dead" else "127.0.0.1:9"
    server.file_faults = [(status, {"X-Debug": CANARY})] * 50 if isinstance(status, int) else []
    server.faults = server.file_faults
    place = f"http://{CANARY}:{CANARY}@{host}/{'catalog.json' if kind == 'an event' else kind}?sig={CANARY}&token={CANARY}"
    event = load_event(made.event)
    event = event.model_copy(update={"catalog": place}) if kind == "an event" else event
    with pytest.raises(MdiveError) as caught:
        mdive.plan(event, catalog=None if kind == "an event" else place)
    assert_silent([str(caught.value), repr(caught.value), caught.value.hint, "".join(traceback.format_exception(caught.value))])
    out = capfd.readouterr()
    assert_silent([out.out, out.err, *(record.getMessage() + (record.exc_text or "") for record in caplog.records)])


def test_the_command_line_tells_no_secret(planted, made, faulty, tmp_path):
    command = [sys.executable, "-m", "mdive", "run", "--event", planted / "event.yaml", "--catalog", planted / made.catalog.name]
    faulty.gate = lambda path, headers: FAULTS["404"] if "vv" in path else None
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "run")], capture_output=True, check=False, env={**os.environ, "MDIVE_LOG": "DEBUG"}
    )
    assert done.returncode == 5, done.stderr
    assert_silent([done.stdout, done.stderr, *told_by(tmp_path / "run")])


def test_the_search_for_secrets_finds_them(tmp_path):
    """What looks for the secret sees it also where it is packed."""
    import pyarrow as pa

    pq.write_table(pa.table({"a": [f"x{CANARY}"] * 1000}), tmp_path / "a.parquet", compression="zstd")
    assert not any(mark in Path(tmp_path / "a.parquet").read_bytes().replace(b"x" + MARKS[0], b"") for mark in MARKS[1:2])
    with pytest.raises(AssertionError):
        assert_silent(told_by(tmp_path))
    with pytest.raises(AssertionError):
        assert_silent([repr({"Authorization": "Basic " + MARKS[1].decode()})])
