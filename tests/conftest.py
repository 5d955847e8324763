"""A STAC API on loopback, and the recorded items of real ones: what several rooms search."""

from __future__ import annotations

import copy
import json
import os
import threading
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
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
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


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
