"""Runs over HTTP: the same bits as from files, each range asked for once, and whatever the block store may hold."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import rasterio

import mdive
from mdive.cube import native
from mdive.cube.native import NativeFiles
from mdive.cube.store import BlockStore
from mdive.engine.work import make_job
from mdive.products import read_ledger


@pytest.fixture(scope="module")
def web(flood):
    """The event's files behind a server that notes what it is asked for, and a catalogue that points at it."""
    asked, broken = [], set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            name = self.path.lstrip("/")
            first, last = (int(n) for n in self.headers["Range"].removeprefix("bytes=").split("-"))
            asked.append((name, first, last + 1))
            data = (flood.made.folder / name).read_bytes()
            status = 404 if name in broken else 206
            part = data[first : last + 1] if status == 206 else b""
            self.send_response(status)
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def do_HEAD(self):
            asked.append(("HEAD", 0, 0))
            self.send_error(405)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", asked=asked, broken=broken)
    server.shutdown()
    server.server_close()


@pytest.fixture
def remote(flood, web, tmp_path):
    """A copy of the catalogue whose hrefs lead to the server."""
    folder = tmp_path / "catalogue"
    folder.mkdir()
    for path in flood.made.folder.glob("*.json"):
        document = json.loads(path.read_text())
        for asset in document.get("assets", {}).values():
            asset["href"] = f"{web.url}/{asset['href'].rpartition('/')[2]}"
        (folder / path.name).write_text(json.dumps(document))
    shutil.copy(flood.made.event, folder)
    web.asked.clear()
    web.broken.clear()
    return str(folder / flood.made.catalog.name)


@pytest.fixture
def files(monkeypatch):
    def fresh(budget):
        made = NativeFiles(BlockStore(budget))
        monkeypatch.setattr(native, "_files", made)
        return made

    return fresh


@pytest.mark.parametrize(("size", "runtime", "workers"), [(1024, "threads", 2), (128, "threads", 4), (200, "serial", None)])
def test_the_same_bits_and_no_range_twice(flood, calm, shas, web, remote, files, tmp_path, size, runtime, workers):
    store = files(2**28).store
    plan = mdive.plan(flood.event, catalog=remote, tile_size=size)
    assert web.asked == []
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect(runtime, workers=workers))
    assert {k: v for k, v in shas(report.folder).items() if k != "ledger"} == {k: v for k, v in calm.shas.items() if k != "ledger"}
    ranges = [r for r in web.asked if r[0] != "HEAD"]
    assert len(ranges) == len(web.asked) == len(set(ranges))
    blocks = sorted(r for r in ranges if r[1] > 0)
    for (name, _, end), (other, start, _) in itertools.pairwise(blocks):
        assert name != other or end <= start, "no byte of a block comes twice"
    assert store.traffic.requests == len(blocks)


@pytest.mark.parametrize("seed", range(4))
def test_no_timing_makes_a_range_come_twice(flood, calm, shas, web, remote, files, tmp_path, monkeypatch, seed):
    """Whoever sleeps, before a fetch, in it or after it: the requests are the same ones, in any budget."""
    rng = random.Random(seed)
    fetch = native.RemoteFile.fetch

    def late(file, ranges):
        time.sleep(rng.random() * 0.05)
        pieces = fetch(file, ranges)
        time.sleep(rng.random() * 0.05)
        return pieces

    submit = ThreadPoolExecutor.submit

    def later(pool, work, *args, **kwargs):
        def begun():
            time.sleep(rng.random() * 0.05)
            return work(*args, **kwargs)

        return submit(pool, begun)

    monkeypatch.setattr(native.RemoteFile, "fetch", late)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", later)
    files(2**28)
    plan = mdive.plan(flood.event, catalog=remote, tile_size=128)
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect("threads", workers=4))
    assert shas(report.folder)["extent"] == calm.shas["extent"]
    assert len(web.asked) == len(set(web.asked))


@pytest.mark.parametrize("budget", [0, 2**18])
def test_any_budget_gives_the_same_bits(flood, calm, shas, remote, files, tmp_path, budget):
    files(budget)
    plan = mdive.plan(flood.event, catalog=remote, tile_size=100)
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect("threads", workers=3))
    assert shas(report.folder)["extent"] == calm.shas["extent"]
    assert shas(report.folder)["probability"] == calm.shas["probability"]


def test_local_blocks_are_unpacked_once(flood, calm, shas, files, tmp_path):
    store = files(2**28).store
    plan = mdive.plan(flood.event, catalog=flood.catalog, tile_size=100)
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect("threads", workers=3))
    assert shas(report.folder)["extent"] == calm.shas["extent"]
    passes = sum(any(n.is_load for n in p.nodes) for p in make_job(tmp_path, plan).passes)
    held = sum(int((f.layout.counts > 0).sum()) for f in native._files._files.values())
    assert store.traffic.unpacked <= held * passes
    assert store.traffic.asked > 2 * store.traffic.unpacked


def test_a_server_without_the_file_is_in_the_ledger_count_for_count(flood, web, remote, files, tmp_path):
    files(2**28)
    plan = mdive.plan(flood.event, catalog=remote, tile_size=150)
    post = next(s for s in plan.sources if s.phase == "post")
    web.broken.add(post.items[0].assets["vv"].href.rpartition("/")[2])
    report = mdive.run(plan, tmp_path / "run")
    rows = read_ledger(report.path("ledger"))
    assert report.status == "partial"
    assert {(r["band"], r["cause"]) for r in rows} == {("vv", "http_404")}
    with rasterio.open(report.path("cause")) as dataset:
        assert sum(r["pixels"] for r in rows) == (dataset.read(1) == 3).sum()
