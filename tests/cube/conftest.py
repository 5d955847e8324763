"""Builders for small files and the plan's documents about them; real files, no mocks."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from shapely.geometry import box, mapping

from mdive.cube import native
from mdive.cube.files import close_files
from mdive.model.plan import AssetRef, Grid, ItemRef, MaskRule, Observation, Source

DAY = dt.datetime(2024, 10, 30, 10, 50, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_files()


@pytest.fixture(scope="session")
def real_data() -> Path:
    root = Path(os.environ.get("MDIVE_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not (root / "cases").is_dir():
        pytest.skip(f"no real data at {root}; set MDIVE_REAL_DATA to the folder that holds cases/")
    return root


@pytest.fixture
def write(tmp_path):
    """Write an array as a tiled GeoTIFF; return its AssetRef."""

    def make(name, pixels, *, x0, y0, res, crs="EPSG:32630", nodata=None, claim=True, block=64, compress="deflate", **asset):
        path = tmp_path / f"{name}.tif"
        pixels = np.asarray(pixels)
        pixels = pixels[None] if pixels.ndim == 2 else pixels
        rx, ry = res if isinstance(res, tuple) else (res, res)
        transform = Affine(rx, 0, x0, 0, -ry, y0)
        profile = {"driver": "GTiff", "width": pixels.shape[2], "height": pixels.shape[1], "count": pixels.shape[0], "dtype": pixels.dtype}
        with rasterio.open(
            path, "w", **profile, crs=crs, transform=transform, tiled=True, blockxsize=block, blockysize=block, compress=compress
        ) as dataset:
            dataset.write(pixels)
        claimed = {"crs": crs, "transform": tuple(transform)[:6], "shape": pixels.shape[1:]} if claim else {}
        return AssetRef(href=str(path), dtype=str(pixels.dtype), nodata=nodata, **{**claimed, **asset})

    return make


@pytest.fixture
def item():
    """Return an ItemRef around assets; its footprint is that of the first asset unless given."""

    def make(name, assets, *, geometry=None, href=None, when=DAY):
        first = next(iter(assets.values()), None)
        if geometry is None and first is not None and first.shape:
            a, _, c, _, e, f = first.transform
            rows, cols = first.shape
            native = mapping(box(c, f + e * rows, c + a * cols, f).segmentize(max(a * cols, -e * rows) / 20))
            geometry = transform_geom(first.crs, "EPSG:4326", native)
        return ItemRef(id=name, collection="c", datetime=when, geometry=geometry, assets=assets, href=href)

    return make


@pytest.fixture
def source():
    """Return a Source: one observation with all items in order, unless observations (tuples of item ids) are given."""

    def make(*items, mask: MaskRule | None = None, observations=None, bands=None, sensor="optical"):
        groups = observations or [tuple(i.id for i in items)]
        seen = tuple(Observation(id=f"o{n}", datetime=DAY + dt.timedelta(days=n), items=tuple(group)) for n, group in enumerate(groups))
        quality = mask.band if mask else None
        known = bands or tuple(dict.fromkeys(b for i in items for b in i.assets if b != quality))
        return Source(name="sat", phase="post", sensor=sensor, bands=tuple(known), mask=mask, observations=seen, items=tuple(items))

    return make


@pytest.fixture
def grid():
    """Return a Grid near 600000 E, 4000000 N."""

    def make(shape=(100, 120), *, res=10.0, x0=600000.0, y0=4000000.0, crs="EPSG:32630"):
        return Grid(crs=crs, resolution=res, x0=x0, y0=y0, shape=shape)

    return make


Reply = tuple[int, dict[str, str], bytes]


@dataclass
class FaultyServer:
    """A server of byte ranges on loopback whose n-th answer can be an error. It serves as a proxy too."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[int | str | Reply | None] = field(default_factory=list)
    """What to answer to the next requests: a status code, a whole reply, or a word (see `server`)."""
    always: int | str | Reply | None = None
    """What to answer when ``faults`` is empty."""
    requests: list[str] = field(default_factory=list)
    """Method and address."""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    die: Callable[[], None] = lambda: None
    """Close all connections and take no others."""
    stopped: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    """Words for faults.

    ``cut`` (half the body, then hang up), ``reset`` (hang up at once), ``hang`` (say nothing), ``drip`` (a byte now and then), ``html``
    (a web page instead), ``whole`` (the file instead of the part), ``stream`` (the same, without its length), ``chunked`` (the part,
    without its length), ``elsewhere`` (another part), ``unnamed`` (no Content-Range), ``long`` (the part and more), ``packed`` (gzip).
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: FaultyServer

    def setup(self):
        super().setup()
        self.state.connections += 1
        self.server.open_sockets.append(self.connection)

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_CONNECT(self):
        self.state.requests.append(f"{self.command} {self.path}")
        self.reply(403, {}, b"")

    def answer(self):
        state = self.state
        state.requests.append(f"{self.command} {self.path}")
        state.headers.append(dict(self.headers))
        first, last = 0, None
        if "Range" in self.headers:
            first, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
            first, last = int(first), int(end) if end else None
            state.ranges.append((first, last))
        fault = state.faults.pop(0) if state.faults else state.always
        name = urlsplit(self.path).path.lstrip("/")
        if isinstance(fault, tuple):
            self.reply(*fault)
        elif isinstance(fault, int) or name not in state.files:
            self.reply(fault if isinstance(fault, int) else 404, {}, b"")
        else:
            self.part(state.files[name], first, last, fault)

    def part(self, data, first, last, fault):
        last = len(data) - 1 if last is None else min(last, len(data) - 1)
        if first > last:
            self.reply(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            return
        part, span = data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        match fault:
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
            case "hang":
                self.state.stopped.wait(10)
                self.close_connection = True
            case "html":
                self.reply(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html><body>Please sign in</body></html>")
            case "whole":
                self.reply(200, {}, data)
            case "stream":
                self.stream(200, {}, data)
            case "chunked":
                self.stream(206, span, part)
            case "elsewhere":
                self.reply(206, {"Content-Range": f"bytes {first + 7}-{last + 7}/{len(data)}"}, part)
            case "unnamed":
                self.reply(206, {}, part)
            case "long":
                self.reply(206, span, part + bytes(1000))
            case "packed":
                self.reply(206, {**span, "Content-Encoding": "gzip"}, gzip.compress(part))
            case _:
                ranged = "Range" in self.headers
                self.reply(206 if ranged else 200, span if ranged else {}, part, cut=fault == "cut", drip=fault == "drip")

    def reply(self, status, headers, body, *, cut=False, drip=False):
        self.send_response(status)
        for key, value in {"Accept-Ranges": "bytes", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if drip:
            for byte in body:
                if self.state.stopped.wait(0.01):
                    break
                self.wfile.write(bytes([byte]))
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut

    def stream(self, status, headers, body):
        self.send_response(status)
        for key, value in {"Transfer-Encoding": "chunked", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        for at in range(0, len(body), 9999):
            chunk = body[at : at + 9999]
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class _Httpd(ThreadingHTTPServer):
    def __init__(self, state):
        super().__init__(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
        self.open_sockets = []

    def handle_error(self, *_):
        pass  # clients hang up in the middle of an answer: that is what they are tested for


@pytest.fixture
def server(monkeypatch):
    """Serve `FaultyServer.files`; the process has met no server before."""
    monkeypatch.setattr(native, "_files", None)
    state = FaultyServer()
    httpd = _Httpd(state)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def die():
        state.stopped.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()
        for connection in httpd.open_sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    state.die = die
    yield state
    if thread.is_alive():
        die()
