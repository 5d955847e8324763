"""What ``explain`` says of requests and bytes is what a server counts, to the request and to the byte."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import rasterio
from rasterio.shutil import copy as copy_raster

import mdive
from mdive.cube import native
from mdive.cube.native import NativeFiles
from mdive.cube.store import BlockStore
from mdive.model import load_event
from mdive.testing import make_flood_event, make_wildfire_event


@pytest.fixture
def web(tmp_path):
    """A server of byte ranges that counts."""
    asked, folder = [], tmp_path / "served"
    folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            first, last = (int(n) for n in self.headers["Range"].removeprefix("bytes=").split("-"))
            data = (folder / self.path.lstrip("/")).read_bytes()
            part = data[first : last + 1]
            asked.append((self.path, first, first + len(part)))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", asked=asked, folder=folder)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Small events, made when they are first asked for."""
    made = {}
    how = {
        "radar": lambda folder: make_flood_event(folder, seed=3, size_km=4.0),
        "scenes": lambda folder: make_flood_event(folder, seed=5, size_km=4.0, scenes=(2, 2)),
        "optical": lambda folder: make_flood_event(folder, seed=4, size_km=4.0, sensors=("optical",)),
        "derived": lambda folder: make_flood_event(folder, seed=3, size_km=4.0, phases=("post",), static=("dem", "occurrence")),
        "fire": lambda folder: make_wildfire_event(folder, seed=3, size_km=5.0),
    }

    def get(name):
        if name not in made:
            made[name] = how[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


def moved(plan, change):
    """Return a plan whose assets are others; ``change`` is given the band and the asset."""
    sources = []
    for source in plan.sources:
        items = tuple(
            item.model_copy(update={"assets": {band: change(item, band, asset) for band, asset in item.assets.items()}})
            for item in source.items
        )
        sources.append(source.model_copy(update={"items": items}))
    return plan.model_copy(update={"sources": tuple(sources), "derived": tuple(moved(made, change) for made in plan.derived)})


def serve(web, plan, **options):
    """Write all files anew, put them on the server, and return the plan that reads them there."""

    def change(_item, _band, asset):
        if asset.href.startswith("derived:"):
            return asset
        name = asset.href.rpartition("/")[2]
        if not (web.folder / name).exists():
            given = {"TILED": "YES", "COMPRESS": "DEFLATE", "BLOCKXSIZE": 256, "BLOCKYSIZE": 256, **options}
            copy_raster(asset.href, str(web.folder / name), driver="GTiff", **given)
        return asset.model_copy(update={"href": f"{web.url}/{name}"})

    return moved(plan, change)


def interleaved(web, plan):
    """Put the bands of each item into one file whose blocks hold all of them."""

    def change(item, band, asset):
        alike = [b for b, a in item.assets.items() if (a.dtype, a.transform, a.shape) == (asset.dtype, asset.transform, asset.shape)]
        name = f"{item.id}-{alike[0]}.tif"
        if not (web.folder / name).exists():
            with rasterio.open(item.assets[alike[0]].href) as first:
                profile = {**first.profile, "driver": "GTiff", "count": len(alike), "interleave": "pixel", "tiled": True}
                profile |= {"blockxsize": 128, "blockysize": 64, "compress": "deflate"}
            with rasterio.open(web.folder / name, "w", **profile) as out:
                for number, one in enumerate(alike, 1):
                    with rasterio.open(item.assets[one].href) as dataset:
                        out.write(dataset.read(item.assets[one].index), number)
        return asset.model_copy(update={"href": f"{web.url}/{name}", "index": 1 + alike.index(band)})

    return moved(plan, change)


def blocks(edge, **options):
    return lambda web, plan: serve(web, plan, BLOCKXSIZE=edge, BLOCKYSIZE=edge, **options)


def small(event):
    """The same event in a corner of its area."""
    west, south, east, north = event.area.geometry.bounds
    corner = [west + 0.6 * (east - west), south + 0.1 * (north - south), west + 0.9 * (east - west), south + 0.3 * (north - south)]
    return type(event).model_validate({**event.model_dump(mode="json", exclude_none=True), "area": {"bbox": corner}})


def meant(**intent):
    def change(event):
        document = event.model_dump(mode="json", exclude_none=True)
        return type(event).model_validate({**document, "intent": {**document.get("intent", {}), **intent}})

    return change


def as_it_is(event):
    return event


CASES = {
    "radar, four passes": ("radar", as_it_is, blocks(256), 128, 2**28, 4),
    "radar, tiles that no block fits": ("radar", as_it_is, blocks(64), 200, 2**28, 4),
    "radar, one tile": ("radar", as_it_is, blocks(512), 1024, 2**28, 2),
    "radar, strips of tiny blocks": ("radar", as_it_is, blocks(16, BIGTIFF="YES"), 150, 2**28, 3),
    "radar, a corner of the scene": ("radar", small, blocks(64), 64, 2**28, 4),
    "radar, one file for all bands": ("radar", as_it_is, interleaved, 100, 2**28, 4),
    "radar, a grid of its own": ("radar", meant(crs="EPSG:32634"), blocks(64), 128, 2**28, 4),
    "radar, coarser pixels": ("radar", meant(resolution=20.0), blocks(128), 64, 2**28, 4),
    "radar, hardly any memory": ("radar", as_it_is, blocks(128), 100, 2**16, 3),
    "radar, no memory at all": ("radar", as_it_is, blocks(128), 100, 0, 3),
    "a band that is derived": ("derived", as_it_is, blocks(128), 128, 2**28, 4),
    "several scenes": ("scenes", as_it_is, blocks(128), 128, 2**28, 4),
    "optical with clouds": ("optical", as_it_is, blocks(128), 128, 2**28, 4),
    "optical, one file for all bands, hardly any memory": ("optical", as_it_is, interleaved, 100, 2**17, 4),
    "fire, serial": ("fire", as_it_is, blocks(64), 96, 2**28, None),
    "fire, coarse and elsewhere": ("fire", meant(crs="EPSG:32634", resolution=70.0), blocks(64), 32, 2**28, 4),
}


@pytest.fixture
def case(request, web, events):
    name, change, put, size, budget, workers = CASES[request.param]
    made = events(name)
    plan = mdive.plan(change(load_event(made.event)), catalog=str(made.catalog), tile_size=size)
    return SimpleNamespace(plan=put(web, plan), budget=budget, workers=workers)


def run(case, folder):
    return mdive.run(case.plan, folder, runtime=mdive.connect("threads" if case.workers else "serial", workers=case.workers))


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_requests_and_bytes_are_those_that_the_server_counts(case, web, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "_files", NativeFiles(BlockStore(case.budget)))
    said = mdive.explain(case.plan)
    headers = len(web.asked)
    assert headers >= len(list(web.folder.iterdir()))
    assert said.unknown_files == 0
    report = run(case, tmp_path / "run")
    assert report.status == "complete"
    assert (said.requests, said.bytes_over_network) == (len(web.asked), sum(end - first for _, first, end in web.asked))
    assert said.requests > headers
    if case.budget == 2**28 and not case.plan.derived:
        assert len(web.asked) == len(set(web.asked)), "what explain has read is not read again"
    # A process that has explained nothing asks for the same.
    first, web.asked[:] = sorted(web.asked), []
    monkeypatch.setattr(native, "_files", NativeFiles(BlockStore(case.budget)))
    run(case, tmp_path / "again")
    assert sorted(web.asked) == first


def test_offline_asks_nobody_and_says_that_it_does_not_know(web, events, monkeypatch):
    monkeypatch.setattr(native, "_files", NativeFiles(BlockStore(2**28)))
    made = events("radar")
    plan = serve(web, mdive.plan(load_event(made.event), catalog=str(made.catalog)))
    said = mdive.explain(plan, headers=False)
    assert web.asked == []
    assert (said.requests, said.bytes_over_network) == (None, None)
    assert "unknown" in str(said)


def test_files_of_this_machine_take_no_requests(events):
    made = events("radar")
    said = mdive.explain(mdive.plan(load_event(made.event), catalog=str(made.catalog)))
    assert (said.requests, said.bytes_over_network, said.unknown_files) == (0, 0, 0)


def test_what_gdal_reads_and_what_is_not_there_is_called_unknown(web, events, monkeypatch):
    monkeypatch.setattr(native, "_files", NativeFiles(BlockStore(2**28)))
    made = events("radar")
    plan = serve(web, mdive.plan(load_event(made.event), catalog=str(made.catalog)), COMPRESS="LZW")
    said = mdive.explain(plan)
    assert said.unknown_files == len(list(web.folder.iterdir()))
    assert said.requests == len(web.asked)
    assert "blocks are not known" in str(said)
