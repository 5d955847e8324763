"""Whole runs against a server that goes wrong: the pixels of a calm day, or a ledger that agrees with the cause plane count for count."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio

import mdive
from mdive.cube import connections, files, native, web
from mdive.cube.native import NativeFiles
from mdive.cube.patience import Patience
from mdive.cube.store import BlockStore
from mdive.cube.web import ATTEMPTS, DENIALS, Web
from mdive.model import load_event
from mdive.products import read_ledger
from mdive.testing import make_flood_event

TILE = 104
"""Four tiles, whose halos and edges cut the blocks of 32 x 32 pixels."""

BLOCK = 32
SECONDS = 15.0
"""Most that any run may take: a calm one takes less than one."""


@pytest.fixture(scope="module")
def event(tmp_path_factory):
    """A small event, its files packed as mdive unpacks them and as GDAL does (in small blocks), and the rasters of a calm run from the disk."""
    made = make_flood_event(tmp_path_factory.mktemp("event"), seed=3, size_km=2.0, phases=("post",))
    found = load_event(made.event)
    packed: dict[str, dict[str, bytes]] = {"deflate": {}, "lzw": {}}
    for path, packing in itertools.product(made.folder.glob("*.tif"), packed):
        with rasterio.open(path) as source, rasterio.MemoryFile() as memory:
            profile = {**source.profile, "driver": "GTiff", "compress": packing, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
            with memory.open(**profile) as target:
                target.write(source.read())
            packed[packing][path.name] = bytes(memory.getbuffer())
    report = mdive.run(mdive.plan(found, catalog=str(made.catalog), tile_size=TILE), tmp_path_factory.mktemp("calm") / "run")
    return SimpleNamespace(made=made, event=found, packed=packed, calm=rasters(report))


def rasters(report):
    found = {}
    for product in report.manifest.products:
        if product.path.endswith(".tif"):
            with rasterio.open(report.folder / product.path) as dataset:
                found[product.name] = dataset.read(1)
    return found


@pytest.fixture
def day(event, faulty, tmp_path, monkeypatch):
    """Run the event over the server, as a new process would, in little time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr("mdive.engine.finish.map_picture", lambda *_, **__: ("", []))
    # The server shares this process, whose threads import libraries meanwhile: shorter silences than these happen by themselves.
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(connections, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(connections, "SLOW_BYTES", 10_000.0)
    monkeypatch.setattr(web, "WHOLE", 1000)
    monkeypatch.setattr(files, "FIRST_PAUSE", 0.0)
    pauses: list[float] = []
    made = NativeFiles(BlockStore(2**26), 8)
    made._web = Web(8, Patience(sleep=pauses.append))
    monkeypatch.setattr(native, "_files", made)

    def run(packing="deflate", query="", **how):
        faulty.files.update(event.packed[packing])
        folder = tmp_path / "catalogue"
        folder.mkdir()
        for path in event.made.folder.glob("*.json"):
            document = json.loads(path.read_text())
            for asset in document.get("assets", {}).values():
                asset["href"] = f"{faulty.url}/{asset['href'].rpartition('/')[2]}{query}"
            (folder / path.name).write_text(json.dumps(document))
        shutil.copy(event.made.event, folder)
        plan = mdive.plan(event.event, catalog=str(folder / event.made.catalog.name), tile_size=TILE)
        assert faulty.requests == [], "planning asks the catalogue only"
        since = time.monotonic()
        report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect("threads", workers=2), **how)
        assert time.monotonic() - since < SECONDS
        return report

    return SimpleNamespace(run=run, pauses=pauses, server=faulty)


def assert_calm(report, event):
    assert report.status == "complete"
    assert read_ledger(report.path("ledger")) == []
    found = rasters(report)
    assert found.keys() == event.calm.keys()
    for name, pixels in event.calm.items():
        np.testing.assert_array_equal(found[name], pixels, err_msg=name)


def assert_named(report, event, cause, band="vv", attempts=None):
    """One band is lost: in the ledger and in the cause plane, count for count, with item, asset and window."""
    post = next(s for s in report.plan.sources if s.phase == "post")
    (item,) = post.items
    rows = read_ledger(report.path("ledger"))
    assert report.status == "partial"
    assert {(r["source"], r["item"], r["band"], r["cause"]) for r in rows} == {(post.key, item.id, band, cause)}
    assert {r["href"] for r in rows} == {item.assets[band].href}
    assert all(r["message"] for r in rows)
    found = rasters(report)
    lost = found["cause"] == 3
    assert lost.any()
    marked = np.zeros_like(lost)
    for row in rows:
        window = np.s_[row["row"] : row["row"] + row["height"], row["col"] : row["col"] + row["width"]]
        assert row["pixels"] == lost[window].sum()
        assert not marked[window].any()
        marked[window] = True
    assert sum(r["pixels"] for r in rows) == lost.sum()
    assert marked[lost].all()
    assert set(np.unique(found["extent"][lost])) == {255}
    if attempts is not None:
        assert max(r["attempts"] for r in rows) == attempts


# What passes

PASSING = {
    "403": 403,
    "429 Retry-After": (429, {"Retry-After": "3"}, b"slow down"),
    "500": 500,
    "502": 502,
    "503": 503,
    "reset": "reset",
    "hang": "hang",
    "html": "html",
    "drip": "drip",
}


@pytest.mark.parametrize("number", [1, 9])
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_leaves_every_pixel_as_it_is(day, event, fault, number):
    day.server.faults = [*[None] * (number - 1), fault]
    assert_calm(day.run(), event)
    assert day.server.faults == []
    assert len(day.pauses) == 1
    if isinstance(fault, tuple):
        assert day.pauses[0] > 3


@pytest.mark.parametrize("number", range(1, 21))
def test_a_body_that_is_cut_at_any_request(day, event, number):
    day.server.faults = [*[None] * (number - 1), "cut"]
    assert_calm(day.run(), event)
    assert day.server.faults == [], "there were as many requests"
    assert len(day.pauses) == 1


@pytest.mark.parametrize("fault", [403, 503, "reset", "cut", "hang", "html"], ids=str)
@pytest.mark.parametrize("number", [9])
def test_what_gdal_decodes_is_fetched_with_the_same_care(day, event, fault, number):
    day.server.faults = [*[None] * (number - 1), fault]
    assert_calm(day.run("lzw"), event)
    assert day.server.faults == []
    assert len(day.pauses) == 1


# What does not

LASTING = {
    "403": (403, "denied", DENIALS),
    "404": (404, "http_404", 1),
    "429": ((429, {"Retry-After": "2"}, b""), "http_429", ATTEMPTS),
    "429 for a day": ((429, {"Retry-After": "86400"}, b""), "http_429", 1),
    "500": (500, "http_500", ATTEMPTS),
    "502": (502, "http_502", ATTEMPTS),
    "503": (503, "http_503", ATTEMPTS),
    "reset": ("reset", "connection", ATTEMPTS),
    "cut": ("cut", "truncated", ATTEMPTS),
    "hang": ("hang", "timeout", ATTEMPTS),
    "drip": ("drip", "timeout", ATTEMPTS),
    "html": ("html", "not_a_raster", ATTEMPTS),
    "no ranges": ("whole", "no_ranges", 1),
}


def only_vv(fault, after=0):
    """Answer so to all requests for one of the two bands, from some request on."""
    seen = [0]

    def gate(path, headers):
        if "vv" not in urlsplit(path).path:
            return None
        seen[0] += 1
        return fault if seen[0] > after else None

    return gate


@pytest.mark.parametrize(("fault", "cause", "attempts"), LASTING.values(), ids=LASTING)
def test_what_lasts_is_in_ledger_and_cause_plane(day, event, fault, cause, attempts):
    day.server.gate = only_vv(fault)
    assert_named(day.run(), event, cause, attempts=attempts)


@pytest.mark.parametrize("fault", [403, 503, "cut"], ids=str)
def test_what_breaks_off_after_the_header(day, event, fault):
    cause, attempts = next((c, a) for f, c, a in LASTING.values() if f == fault)
    day.server.gate = only_vv(fault, after=1)
    report = day.run()
    assert {r["cause"] for r in read_ledger(report.path("ledger"))} == {cause}
    lost = rasters(report)["cause"] == 3
    assert sum(r["pixels"] for r in read_ledger(report.path("ledger"))) == lost.sum() > 0


@pytest.mark.parametrize("fault", [403, 404, 503, "html", "hang"], ids=str)
def test_what_lasts_under_gdal_has_the_same_name(day, event, fault):
    cause, attempts = next((c, a) for f, c, a in LASTING.values() if f == fault)
    day.server.gate = only_vv(fault)
    assert_named(day.run("lzw"), event, cause, attempts=attempts)


@pytest.mark.parametrize("packing", ["deflate", "lzw"])
def test_a_server_that_is_gone_costs_bounded_time(day, event, packing):
    """The breaker: after a few failures nobody asks any more."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds + 2.0

    native._files._web = Web(8, Patience(clock=lambda: now[0], sleep=sleep))
    day.server.always = "reset"
    report = day.run(packing)
    assert {r["cause"] for r in read_ledger(report.path("ledger"))} <= {"connection", "host_down"}
    assert "host_down" in {r["cause"] for r in read_ledger(report.path("ledger"))}
    assert len(day.server.requests) <= 40
    assert report.decision == "not_observable"


@pytest.mark.parametrize("packing", ["deflate", "lzw"])
def test_the_process_has_a_budget_of_retries(day, event, packing):
    native._files._web = Web(8, Patience(5, sleep=lambda _: None))
    day.server.always = 503
    report = day.run(packing)
    rows = read_ledger(report.path("ledger"))
    assert {r["cause"] for r in rows} == {"http_503"}
    assert sum(r["attempts"] - 1 for r in rows) <= 5 * len({r["tile"] for r in rows})
    assert len(day.server.requests) <= 5 + 3 * len({r["tile"] for r in rows}) * 4


# Signatures in the catalogue


def signed(path, headers):
    return None if "sig=GOOD" in path else (403, {}, b"<Error><Code>AuthenticationFailed</Code></Error>")


def test_a_signature_of_the_catalogue_is_not_kept_and_its_loss_is_named(day, event):
    """The plan keeps no signature: without anybody who signs, every file is denied, and said to be."""
    day.server.gate = signed
    report = day.run(query="?sig=GOOD&se=2030")
    assert {r["cause"] for r in read_ledger(report.path("ledger"))} == {"denied"}
    assert report.decision == "not_observable"
    assert "GOOD" not in (report.folder / "plan.json").read_text()


@pytest.mark.parametrize("packing", ["deflate", "lzw"])
def test_a_signature_that_dies_between_plan_and_read_is_made_again(day, event, packing):
    day.server.gate = signed
    mdive.sign_with("127.0.0.1", lambda href: f"{href}?sig=GOOD")
    try:
        assert_calm(day.run(packing, query="?sig=DEAD&se=2020"), event)
    finally:
        mdive.sign_with("127.0.0.1", None)
    assert not any("DEAD" in request for request in day.server.requests)


# The file is another one


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("packing", ["deflate", "lzw"])
def test_a_file_that_is_written_anew_between_header_and_blocks(day, event, header, packing):
    """Of the same length: only what the server calls its state tells."""
    state, seen = (
        {"ETag": ('"one"', '"two"'), "Last-Modified": ("Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:05 GMT")}[header],
        [0],
    )

    def gate(path, headers):
        name = urlsplit(path).path.lstrip("/")
        if "vv" not in name:
            return None
        seen[0] += 1
        first, _, last = headers["Range"].removeprefix("bytes=").partition("-")
        data = event.packed[packing][name]
        part = data[int(first) : int(last) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return 206, {"Content-Range": span, header: state[seen[0] > 2]}, part

    day.server.gate = gate
    report = day.run(packing)
    rows = read_ledger(report.path("ledger"))
    assert {r["cause"] for r in rows} == {"changed"}
    assert sum(r["pixels"] for r in rows) == (rasters(report)["cause"] == 3).sum() > 0
