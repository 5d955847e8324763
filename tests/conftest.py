"""A STAC API on loopback, and the recorded items of real ones: what several rooms search."""

from __future__ import annotations

import copy
import gzip
import hashlib
import hmac
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import settings
from shapely.geometry import box, mapping, shape

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]

# New examples are looked for by people; a gate must say the same of the same code.
# The first example compiles kernels, so no example has a deadline.
settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def move(item, bbox, when):
    """Return a recorded item as if it had been taken elsewhere.

    Its footprint is ``bbox`` and its time ``when``; all other metadata is as it was recorded.
    """
    moved = copy.deepcopy(item)
    moved["geometry"], moved["bbox"] = mapping(box(*bbox)), list(bbox)
    shift = datetime.fromisoformat(when) - datetime.fromisoformat(item["properties"].get("datetime") or when)
    for name in ("start_datetime", "end_datetime"):
        if name in moved["properties"] and item["properties"].get("datetime"):
            moved["properties"][name] = (datetime.fromisoformat(moved["properties"][name]) + shift).isoformat()
    if item["properties"].get("datetime"):
        moved["properties"]["datetime"] = when
    return moved


@dataclass
class Request:
    method: str
    path: str
    body: dict


@dataclass
class StacServer:
    """Answers searches from ``items``, page by page, and goes wrong on demand."""

    url: str = ""
    items: list = field(default_factory=list)
    page_size: int = 100
    overlap: int = 0
    """Items of the page before that each page repeats."""
    only_get: bool = False
    circling: bool = False
    """The next link always leads to the first page."""
    faults: list = field(default_factory=list)
    """One per search, in order: None, (status, headers), the text of a body, or CUT for an answer that breaks off."""
    file_faults: list = field(default_factory=list)
    """The same, one per file."""
    files: dict = field(default_factory=dict)
    """Path -> text or bytes, for static catalogues."""
    requests: list = field(default_factory=list)

    @property
    def searches(self):
        return [r for r in self.requests if r.path.endswith("/search")]

    def landing(self):
        methods = ["GET"] if self.only_get else ["GET", "POST"]
        links = [{"rel": "search", "href": f"{self.url}/search", "method": m, "type": "application/geo+json"} for m in methods]
        links += [{"rel": "data", "href": f"{self.url}/collections"}, {"rel": "self", "href": self.url}, {"rel": "root", "href": self.url}]
        return {"type": "Catalog", "id": "loopback", "stac_version": "1.0.0", "description": "x", "conformsTo": CONFORMS, "links": links}

    def collections(self):
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2014-01-01T00:00:00Z", None]]}}
        names = sorted({i["collection"] for i in self.items})
        common = {"type": "Collection", "stac_version": "1.0.0", "description": "x", "license": "other", "extent": extent, "links": []}
        return {"collections": [{"id": name, **common} for name in names], "links": []}

    def search(self, query):
        found = [i for i in self.items if _matches(i, query)]
        start = int(query.get("token", 0))
        first = max(start - self.overlap, 0)
        stop = start + min(int(query.get("limit", 10)), self.page_size)
        links = []
        if stop < len(found):
            token = "0" if self.circling else str(stop)
            if self.only_get:
                plain = {k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items() if k != "token"}
                links = [{"rel": "next", "href": f"{self.url}/search?{urlencode({**plain, 'token': token})}", "method": "GET"}]
            else:
                links = [{"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": {**query, "token": token}}]
        return {"type": "FeatureCollection", "features": found[first:stop], "links": links}


def _matches(item, query):
    if query.get("collections") and item["collection"] not in query["collections"]:
        return False
    area = query.get("intersects")
    if area and item.get("geometry") and not shape(area).intersects(shape(item["geometry"])):
        return False
    if query.get("datetime") and item["properties"].get("datetime"):
        start, _, end = query["datetime"].partition("/")
        at = datetime.fromisoformat(item["properties"]["datetime"])
        return datetime.fromisoformat(start) <= at <= datetime.fromisoformat(end or start)
    return True


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            parts = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            for name in ("intersects", "collections"):
                if name in query:
                    query[name] = json.loads(query[name]) if query[name][0] in "{[" else query[name].split(",")
            self.answer(parts.path, query)

        def do_POST(self):
            self.answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, path, query):
            server.requests.append(Request(self.command, path, query))
            faults = server.faults if path.endswith("/search") else server.file_faults
            fault = faults.pop(0) if faults else None
            if isinstance(fault, tuple):
                self.send(fault[0], b"{}", fault[1])
            elif fault == "CUT":
                self.send(200, b'{"type": "Feat', {"Content-Length": "9000"})
                self.close_connection = True
            elif isinstance(fault, str):
                self.send(200, fault.encode(), {})
            elif path in server.files:
                content = server.files[path]
                self.send(200, content if isinstance(content, bytes) else content.encode(), {})
            elif path.endswith("/search"):
                self.send(200, json.dumps(server.search(query)).encode(), {})
            elif path.endswith("/collections"):
                self.send(200, json.dumps(server.collections()).encode(), {})
            elif path in {"", "/", "/v1"}:
                self.send(200, json.dumps(server.landing()).encode(), {})
            else:
                self.send(404, b"{}", {})

        def send(self, status, body, headers):
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("mdive.providers._api.BACKOFF", 0.005)
    monkeypatch.setattr("mdive.providers._documents.FIRST_WAIT", 0.005)
    state = StacServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture(scope="session")
def real_data():
    folder = Path(os.environ.get("MDIVE_REAL_DATA") or Path(__file__).parents[2] / "shared" / "data").resolve()
    if not folder.is_dir():
        pytest.skip("the folder of real data is not here (MDIVE_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def recorded(real_data):
    """Return the recorded items of a file below ``raw/stac``."""

    def read(name) -> list:
        content = json.loads((real_data / "raw" / "stac" / name).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content["features"] if content["type"] == "FeatureCollection" else [content]
        return content

    return read


@pytest.fixture
def moved():
    return move


@dataclass
class Store:
    """moto's S3 behind a gate that checks each signature by itself, because moto takes any; times, regions and faults are ours."""

    url: str
    app: Any
    requests: list = field(default_factory=list)
    """Path, query fields and headers of each GET."""
    faults: list = field(default_factory=list)
    """One per GET, in order: None, or (status, headers, body)."""
    keys: dict = field(default_factory=lambda: {"AKIDREADER": "Sek/ret+CANARY"})
    region: str = "us-east-1"
    late: float = 0.0
    """Seconds by which the server's clock is ahead."""

    def put(self, bucket, key, body, *, public=False):
        from moto.s3.models import s3_backends

        backend = s3_backends["123456789012"]["aws"]
        if bucket not in backend.buckets:
            backend.create_bucket(bucket, self.region)
        backend.put_object(bucket, key, body)
        if public:
            from moto.s3.models import get_canned_acl

            backend.put_object_acl(bucket, key, get_canned_acl("public-read"))

    def __call__(self, environ, start_response):
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        headers = {k[5:].replace("_", "-").lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
        self.requests.append((environ["RAW_URI"].partition("?")[0], {k: v[0] for k, v in query.items()}, headers))
        fault = self.faults.pop(0) if self.faults else None
        fault = fault or ("X-Amz-Signature" in query and self.wrong(environ, query, headers)) or None
        if fault is None:
            return self.app(environ, start_response)
        status, more, body = fault
        start_response(f"{status} X", [("Content-Length", str(len(body))), *more.items()])
        return [body]

    def wrong(self, environ, query, headers):
        """Return the answer to a request that is not signed as S3 wants it, by the definition of Signature Version 4."""
        key, day, region, *rest = query["X-Amz-Credential"][0].split("/")
        when = query["X-Amz-Date"][0]
        names = query["X-Amz-SignedHeaders"][0].split(";")
        made = datetime.strptime(when, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if key not in self.keys:
            return _s3_error(403, "InvalidAccessKeyId")
        if time.time() + self.late > made + float(query["X-Amz-Expires"][0]):
            return _s3_error(403, "AccessDenied")
        if region != self.region:
            return _s3_error(301, "PermanentRedirect", {"x-amz-bucket-region": self.region, "Location": f"{self.url}/elsewhere"})
        path, _, text = environ["RAW_URI"].partition("?")
        fields = "&".join(sorted(f for f in text.split("&") if not f.startswith("X-Amz-Signature=")))
        lines = "".join(f"{n}:{headers[n]}\n" for n in names)
        canonical = "\n".join(("GET", path, fields, lines, ";".join(names), "UNSIGNED-PAYLOAD"))
        said = "\n".join(("AWS4-HMAC-SHA256", when, "/".join((day, region, *rest)), hashlib.sha256(canonical.encode()).hexdigest()))
        secret = f"AWS4{self.keys[key]}".encode()
        for part in (day, region, *rest, said):
            secret = hmac.digest(secret, part.encode(), "sha256")
        payer = headers.get("x-amz-request-payer") == "requester" and "x-amz-request-payer" not in names
        return _s3_error(403, "SignatureDoesNotMatch") if payer or secret.hex() != query["X-Amz-Signature"][0] else None


def _s3_error(status, code, headers=None):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>CANARY</Message></Error>".encode()
    return status, {"Content-Type": "application/xml", **(headers or {})}, body


@pytest.fixture(scope="session")
def _moto():
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_):
            pass

    store = Store("", DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield store
    server.shutdown()


@pytest.fixture
def s3(_moto, monkeypatch):
    """A fresh object store, and an environment whose credentials open it."""
    from moto.s3.models import s3_backends

    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDREADER",
        "AWS_SECRET_ACCESS_KEY": _moto.keys["AKIDREADER"],
        "AWS_ENDPOINT_URL": _moto.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    s3_backends["123456789012"]["aws"].reset()
    _moto.requests.clear()
    _moto.faults.clear()
    _moto.late, _moto.region = 0.0, "us-east-1"
    return _moto


Reply = tuple[int, dict[str, str], bytes]


@dataclass
class FaultyServer:
    """A server of byte ranges on loopback whose n-th answer can be an error. It serves as a proxy too."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[int | str | Reply | None] = field(default_factory=list)
    """What to answer to the next requests: a status code, a whole reply, or a word (see `_Handler`)."""
    always: int | str | Reply | None = None
    """What to answer when ``faults`` is empty."""
    gate: Callable[[str, dict[str, str]], Reply | None] = lambda path, headers: None
    """Asked first, with path and headers: answers, or lets the request through."""
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
        fault = state.gate(self.path, dict(self.headers)) or (state.faults.pop(0) if state.faults else state.always)
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
def faulty(monkeypatch):
    """A server of files that goes wrong on demand; the process has met no server before."""
    from mdive.cube import native

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
