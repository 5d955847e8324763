"""Files on servers that go wrong: the pixels of a calm day, or a failure with its right name; and no request more than it takes."""

from __future__ import annotations

import logging
import socket
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mdive.cube import connections, native, read_block, web
from mdive.cube.connections import check_redirect
from mdive.cube.failures import Unreadable
from mdive.cube.files import with_raster
from mdive.cube.native import NativeFiles
from mdive.cube.patience import FAILURES, Patience
from mdive.cube.store import BlockStore
from mdive.cube.tiff import HEADER, read_layout
from mdive.cube.web import ATTEMPTS, DENIALS, Web
from mdive.model.flags import QC_FLAGS
from mdive.pipeline.window import Window

PLACE = {"x0": 600000.0, "y0": 4000000.0, "res": 10.0}
NUMBERS = np.random.default_rng(0).integers(1, 9999, (400, 400)).astype("uint16")
LEFT, RIGHT = Window(-10, -10, 420, 210), Window(-10, 200, 420, 210)
"""Each holds 400 x 200 pixels of the file, in 7 rows of blocks whose left or right halves do not touch each other in the file."""
ROWS = 7
CALM = 1 + 2 * ROWS
"""Requests of a calm day: the header, and 7 ranges for each window."""
PIXELS = 400 * 200
FAILED, NODATA = QC_FLAGS["read_failure"], QC_FLAGS["nodata"]
WEB_PAGE = b"<html><body>Please sign in</body></html>"


@pytest.fixture
def slept(server, monkeypatch):
    """Pauses that were made; none takes time."""
    pauses: list[float] = []
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(connections, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(connections, "SLOW_BYTES", 10_000.0)
    with_patience(monkeypatch, Patience(sleep=pauses.append))
    return pauses


def with_patience(monkeypatch, patience, threads=16):
    files = NativeFiles(BlockStore(2**28), threads)
    files._web = Web(threads, patience)
    monkeypatch.setattr(native, "_files", files)
    return files


@pytest.fixture
def packing():
    return "deflate"


@pytest.fixture
def source_at(write, item, source, server, packing):
    asset = write("red", NUMBERS, nodata=0, compress=packing, **PLACE)
    server.files["red.tif"] = Path(asset.href).read_bytes()

    def make(url=None):
        moved = asset.model_copy(update={"href": url or f"{server.url}/red.tif?sig=CANARY"})
        return source(item("i", {"red": moved}, href="https://data.example/i.json"))

    return make


@pytest.fixture
def read(source_at, slept, grid):
    """Read the left and the right half."""

    def both(url=None):
        made = source_at(url)
        return [read_block(made, window, grid((400, 400)), ["red"]) for window in (LEFT, RIGHT)]

    return both


def assert_calm(blocks):
    left, right = blocks
    assert left.failures == right.failures == ()
    np.testing.assert_array_equal(left.values["red"][0, 10:410, 10:210], NUMBERS[:, :200])
    np.testing.assert_array_equal(right.values["red"][0, 10:410, :200], NUMBERS[:, 200:])
    for block in blocks:
        assert (block.mask == 0).sum() == PIXELS
        assert (block.mask == NODATA).sum() == 420 * 210 - PIXELS


def assert_lost(block, window, cause, attempts):
    (failure,) = block.failures
    assert (failure.cause, failure.attempts, failure.window) == (cause, attempts, window)
    assert failure.message
    assert "CANARY" not in repr(block.failures)
    assert (block.mask == FAILED).sum() == PIXELS
    assert (block.mask == NODATA).sum() == 420 * 210 - PIXELS
    assert np.isnan(block.values["red"]).all()
    assert block.lost[0].sum() == PIXELS


# A calm day


def test_a_calm_day_takes_the_header_and_each_row_of_blocks_once(read, server):
    layout = read_layout(lambda start, end: server.files["red.tif"][start:end])
    first, last = layout.offsets[0], layout.offsets[0] + layout.counts[0]
    expected = [(0, HEADER - 1)]
    for cols in ((0, 3), (4, 6)):  # the block in the middle came with the left half, and is still held
        expected += [(int(first[r, cols[0]]), int(last[r, cols[1]]) - 1) for r in range(ROWS)]
    assert_calm(read())
    assert sorted(server.ranges) == sorted(expected)
    assert len(server.requests) == len(set(server.ranges)) == CALM
    assert {r.split()[0] for r in server.requests} == {"GET"}
    assert all(h["Accept-Encoding"] == "identity" for h in server.headers)


def test_connections_are_kept(read, server):
    assert_calm(read())
    native.native_files().forget(f"{server.url}/red.tif?sig=CANARY")
    assert_calm(read())
    assert len(server.requests) == 2 * CALM
    assert server.connections <= ROWS  # as many as there were requests at once


def test_no_more_connections_than_allowed(source_at, server):
    """Tiles ask from threads of their own, so the number of fetching threads is no bound."""
    source_at()
    asked = Web(2)
    with ThreadPoolExecutor(12) as tiles:
        answers = list(tiles.map(lambda n: asked.get(f"{server.url}/red.tif", n * 1000, n * 1000 + 1000), range(60)))
    assert b"".join(a.data for a in answers) == server.files["red.tif"][:60_000]
    assert server.connections == 2


@pytest.mark.parametrize("word", ["chunked", (503, {"Transfer-Encoding": "chunked"}, b"5\r\nsorry\r\n0\r\n\r\n")], ids=["part", "error"])
def test_a_connection_serves_again_after_a_chunked_body(read, server, word):
    """The end of the chunks must be taken off the connection too."""
    if isinstance(word, tuple):
        word = (word[0], {**word[1], "Content-Length": ""}, word[2])
    server.faults = [word]
    assert_calm(read())
    assert server.connections <= ROWS


def test_what_is_left_of_an_error_page_is_not_taken_for_the_next_answer(read, server):
    server.faults = [(503, {}, b"x" * 300_000), (503, {}, b"y" * 500)]
    assert_calm(read())
    assert len(server.requests) == CALM + 2
    assert server.connections <= 1 + ROWS


# What passes


PASSING = {
    "403": 403,
    "408": 408,
    "429": 429,
    "429 seconds": (429, {"Retry-After": "7"}, b"slow down"),
    "429 date": (429, {"Retry-After": formatdate(time.time() - 60, usegmt=True)}, b""),
    "429 nonsense": (429, {"Retry-After": "nan"}, b""),
    "500": (500, {}, b"x" * 300_000),
    "502": 502,
    "503": 503,
    "504": 504,
    "reset": "reset",
    "cut": "cut",
    "hang": "hang",
    "drip": "drip",
    "html": "html",
    "elsewhere": "elsewhere",
    "unnamed": "unnamed",
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("number", [1, 2, CALM])
def test_what_passes_leaves_every_pixel_as_it_is(read, server, slept, fault, number):
    server.faults = [*[None] * (number - 1), fault]
    assert_calm(read())
    assert len(server.requests) == CALM + 1
    assert len(slept) == 1


@pytest.mark.parametrize("number", range(1, 13))
def test_a_body_that_is_cut_at_any_request(read, server, number):
    server.faults = [*[None] * (number - 1), "cut"]
    assert_calm(read())
    assert len(server.requests) == CALM + 1


@pytest.mark.parametrize("word", ["whole", "stream", "chunked", "long"])
def test_rare_answers_that_hold_the_bytes(read, server, slept, word):
    """The whole of a small file, a part without its length, a part and more."""
    server.always = word
    assert_calm(read())
    assert len(server.requests) == CALM
    assert slept == []


def test_a_gateway_that_is_sick_for_a_while(read, server, slept):
    server.faults = [503, None, "cut", 502, None, "reset", 429, None, None, "html", 500]
    assert_calm(read())
    assert len(server.requests) == CALM + 7 == CALM + len(slept)


@pytest.mark.parametrize("faults", [[503, 403], [403, 503], ["cut", 429, 403]])
def test_one_denial_passes_whatever_came_before_it(read, server, faults):
    server.faults = list(faults)
    assert_calm(read())
    assert len(server.requests) == CALM + len(faults)


def test_the_server_says_how_long_to_wait(read, server, slept):
    server.faults = [(503, {"Retry-After": "7"}, b""), (429, {"Retry-After": formatdate(time.time() + 20, usegmt=True)}, b"")]
    assert_calm(read())
    first, second = slept
    assert 7 < first < 7 + 2 * web.FIRST_PAUSE
    assert 18 < second < 20 + 4 * web.FIRST_PAUSE


def test_pauses_grow_and_differ(read, server, slept):
    server.faults = [500, 500, 500]
    assert_calm(read())
    for n, pause in enumerate(slept):
        assert 0.5 <= pause / (web.FIRST_PAUSE * 2**n) <= 1.5
    assert len(slept) == 3


# What does not


FINAL = {
    "403": (403, "denied", DENIALS),
    "401": (401, "denied", DENIALS),
    "404": (404, "http_404", 1),
    "410": (410, "http_410", 1),
    "416": (416, "truncated", 1),
    "429": (429, "http_429", ATTEMPTS),
    "429 long": ((429, {"Retry-After": "86400"}, b""), "http_429", 1),
    "429 absurd": ((429, {"Retry-After": "9" * 300}, b""), "http_429", ATTEMPTS),
    "429 date": ((429, {"Retry-After": formatdate(time.time() + 9999, usegmt=True)}, b""), "http_429", 1),
    "500": (500, "http_500", ATTEMPTS),
    "502": (502, "http_502", ATTEMPTS),
    "503": (503, "http_503", ATTEMPTS),
    "reset": ("reset", "connection", ATTEMPTS),
    "cut": ("cut", "truncated", ATTEMPTS),
    "hang": ("hang", "timeout", ATTEMPTS),
    "drip": ("drip", "timeout", ATTEMPTS),
    "html": ("html", "not_a_raster", ATTEMPTS),
    "elsewhere": ("elsewhere", "truncated", ATTEMPTS),
    "unnamed": ("unnamed", "truncated", ATTEMPTS),
    "packed": ("packed", "encoded", 1),
    "nothing": ((302, {}, b""), "http_302", 1),
    "multipart": ((206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x--"), "truncated", ATTEMPTS),
    "length": ((200, {"Content-Length": "9" * 30}, b"x"), "no_ranges", 1),
}


@pytest.mark.parametrize(("fault", "cause", "attempts"), FINAL.values(), ids=FINAL)
def test_what_never_works_ends_with_its_name(read, server, fault, cause, attempts):
    server.always = fault
    for block, window in zip(read(), (LEFT, RIGHT), strict=True):
        assert_lost(block, window, cause, attempts)
    assert len(server.requests) == 2 * attempts


@pytest.mark.parametrize(("fault", "cause", "attempts"), FINAL.values(), ids=FINAL)
def test_what_breaks_off_after_the_header(source_at, slept, server, grid, fault, cause, attempts):
    server.faults, server.always = [None], fault
    assert_lost(read_block(source_at(), LEFT, grid((400, 400)), ["red"]), LEFT, cause, attempts)
    # The directory, then each row of blocks that was under way: nothing is asked for ahead of need and again when it is needed.
    assert 1 + attempts <= len(server.requests) <= 1 + ROWS * attempts
    server.always = None
    server.stopped.set()
    right = read_block(source_at(), RIGHT, grid((400, 400)), ["red"])  # the file itself is not given up
    assert right.failures == ()
    np.testing.assert_array_equal(right.values["red"][0, 10:410, :200], NUMBERS[:, 200:])


@pytest.mark.parametrize("word", ["whole", "stream"])
def test_a_large_file_is_not_taken_whole(read, server, monkeypatch, word):
    monkeypatch.setattr(web, "WHOLE", 100_000)
    server.always = word
    for block, window in zip(read(), (LEFT, RIGHT), strict=True):
        assert_lost(block, window, "no_ranges", 1)
    assert len(server.requests) == 2


def test_a_server_that_dies_before_it_is_asked(read, server):
    server.die()
    for block, window in zip(read(), (LEFT, RIGHT), strict=True):
        assert_lost(block, window, "connection", ATTEMPTS)
    assert server.requests == []


def test_a_server_that_dies_between_two_windows(source_at, slept, server, grid):
    made, target = source_at(), grid((400, 400))
    assert read_block(made, LEFT, target, ["red"]).failures == ()
    server.die()
    assert_lost(read_block(made, RIGHT, target, ["red"]), RIGHT, "connection", ATTEMPTS)
    again = read_block(made, Window(0, 0, 60, 60), target, ["red"])  # blocks of a file that failed are not kept
    assert [f.cause for f in again.failures] == ["connection"]


@pytest.mark.parametrize("change", [lambda data: data + bytes(5), lambda data: data[:-5]], ids=["longer", "shorter"])
def test_a_file_that_changes_under_the_reader(source_at, slept, server, grid, change):
    made, target = source_at(), grid((400, 400))
    assert read_block(made, Window(0, 0, 60, 60), target, ["red"]).failures == ()
    server.files["red.tif"] = change(server.files["red.tif"])
    assert_lost(read_block(made, RIGHT, target, ["red"]), RIGHT, "changed", 1)
    assert len(server.requests) <= 1 + 1 + ROWS


def test_blocks_of_two_states_of_a_file_never_meet(source_at, slept, server):
    """A thread that still reads the old file must not put its blocks where readers of the new one look."""
    source_at()
    files, href = native.native_files(), f"{server.url}/red.tif"
    old = files.open_remote(href)
    files.forget(href)
    server.files["red.tif"] += bytes(5)
    new = files.open_remote(href)
    assert old.file.key != new.file.key


def test_what_fails_ahead_is_told_once_and_not_tried_again(slept, server, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(native, "time", SimpleNamespace(monotonic=lambda: now[0]))
    files, href = native.native_files(), f"{server.url}/none.tif"

    def requests(*, ahead):
        server.requests.clear()
        with pytest.raises(Unreadable) as caught:
            files.open_remote(href, ahead=ahead)
        assert (caught.value.cause, caught.value.attempts, caught.value.final) == ("http_404", 1, True)
        return len(server.requests)

    assert [requests(ahead=a) for a in (True, True, False, True)] == [1, 0, 0, 0]
    assert [requests(ahead=a) for a in (False, True, False)] == [1, 0, 1]
    now[0] += native.KEPT_SECONDS
    assert [requests(ahead=a) for a in (True, True)] == [1, 0]
    now[0] += native.KEPT_SECONDS
    assert requests(ahead=False) == 1
    server.files["none.tif"] = b"no TIFF"
    assert files.open_remote(href) is None


def test_a_file_that_is_shorter_than_its_directory_says_is_not_asked_for_more(source_at, slept, server, grid):
    server_file = source_at()
    server.files["red.tif"] = server.files["red.tif"][:200_000]
    assert_lost(read_block(server_file, LEFT, grid((400, 400)), ["red"]), LEFT, "truncated", 1)
    assert len(server.requests) == 1


def test_an_empty_file(source_at, slept, server, grid):
    made = source_at()
    server.files["red.tif"] = b""
    assert_lost(read_block(made, LEFT, grid((400, 400)), ["red"]), LEFT, "truncated", 1)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:99999/a.tif", "http://a..b/a.tif", "http://[::1/a.tif", "http://" + "a" * 80 + "/a.tif"]
)
def test_addresses_that_are_none(slept, address):
    with pytest.raises(Unreadable) as caught:
        native.native_files().open_remote(address)
    assert (caught.value.cause, caught.value.attempts, caught.value.final) == ("refused", 1, True)


# Redirects


def test_a_redirect_is_followed(read, server, source_at):
    server.files["there.tif"] = server.files["red.tif"]
    server.faults = [(302, {"Location": f"{server.url}/there.tif?sig=CANARY"}, b"<a href=...>"), (307, {"Location": "there.tif"}, b"")]
    server.faults[1:1] = [None]
    assert_calm(read())
    assert len(server.requests) == CALM + 2
    assert server.requests[1] == "GET /there.tif?sig=CANARY"
    assert server.requests.count("GET /there.tif") == 1
    assert server.connections <= ROWS + 1


@pytest.mark.parametrize(
    ("location", "requests"),
    [
        ("/red.tif?sig=CANARY", 1 + connections.REDIRECTS),
        ("file:///etc/passwd", 1),
        ("ftp://data.example/a.tif", 1),
        ("https:///a.tif", 1),
        ("http://[nonsense/a.tif", 1),
    ],
    ids=["loop", "file", "ftp", "no host", "no address"],
)
def test_redirects_that_are_not_followed(read, server, location, requests):
    server.always = (302, {"Location": location}, b"")
    for block, window in zip(read(), (LEFT, RIGHT), strict=True):
        assert_lost(block, window, "refused", 1)
    assert len(server.requests) == 2 * requests


def test_as_many_redirects_as_are_allowed(read, server):
    server.faults = [(301, {"Location": "/red.tif"}, b"")] * connections.REDIRECTS
    assert_calm(read())


@pytest.mark.parametrize(
    ("origin", "target"),
    [
        ("https://data.example/a.tif", "http://data.example/a.tif"),
        ("https://data.example/a.tif", "file:///etc/passwd"),
        ("https://data.example/a.tif", "/vsimem/a.tif"),
        ("https://data.example/a.tif", "https://127.0.0.1/a.tif"),
        ("https://data.example/a.tif", "https://[::1]/a.tif"),
        ("https://data.example/a.tif", "https://[::ffff:10.0.0.1]/a.tif"),
        ("http://data.example/a.tif", "http://169.254.169.254/latest/meta-data"),
        ("https://data.example/a.tif", "https://inside.example/a.tif"),
        ("https://data.example/a.tif", "https://half.example/a.tif"),
    ],
)
def test_redirects_out_of_the_world(monkeypatch, origin, target):
    names(monkeypatch)
    with pytest.raises(Unreadable) as caught:
        check_redirect(origin, target)
    assert caught.value.cause == "refused"


@pytest.mark.parametrize(
    ("origin", "target"),
    [
        ("https://data.example/a.tif", "https://mirror.example/a.tif?sig=x"),
        ("http://data.example/a.tif", "https://data.example/a.tif"),
        ("https://inside.example/a.tif", "https://10.0.0.7/a.tif"),
        ("http://127.0.0.1:80/a.tif", "http://127.0.0.1:81/a.tif"),
        ("https://data.example/a.tif", "https://unknown.example/a.tif"),
    ],
)
def test_redirects_that_may_be_followed(monkeypatch, origin, target):
    names(monkeypatch)
    check_redirect(origin, target)


def names(monkeypatch):
    known = {
        "data.example": ["8.8.8.8"],
        "mirror.example": ["8.8.4.4", "2001:4860:4860::8888"],
        "inside.example": ["10.0.0.5"],
        "half.example": ["8.8.8.8", "192.168.1.1"],
    }

    real = socket.getaddrinfo

    def resolve(host, port, *rest, **named):
        if host == "127.0.0.1":
            return real(host, port, *rest, **named)
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_redirect_from_a_public_name_to_this_machine(read, server, monkeypatch):
    """The proxy stands in for the world: the name is public, the redirect leads home."""
    names(monkeypatch)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    with_patience(monkeypatch, None)
    server.always = (302, {"Location": f"{server.url}/red.tif"}, b"")
    for block, window in zip(read("http://data.example/red.tif"), (LEFT, RIGHT), strict=True):
        assert_lost(block, window, "refused", 1)
    assert server.requests == ["GET http://data.example/red.tif"] * 2


# Bounded


def test_a_host_that_is_down_is_left_alone(source_at, server, grid, monkeypatch):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(web, "FIRST_PAUSE", 1.0)
    with_patience(monkeypatch, Patience(clock=lambda: now[0], sleep=sleep))
    server.always = "reset"
    made, target = source_at(), grid((400, 400))
    causes = [read_block(made, LEFT, target, ["red"]).failures[0] for _ in range(6)]
    assert [(f.cause, f.attempts) for f in causes] == [("connection", ATTEMPTS)] * 2 + [("host_down", 0)] * 4
    assert len(server.requests) == FAILURES
    assert server.url.removeprefix("http://") in causes[-1].message
    now[0] += 31
    server.always = None
    assert read_block(made, LEFT, target, ["red"]).failures == ()
    assert read_block(made, RIGHT, target, ["red"]).failures == ()
    assert len(server.requests) == FAILURES + CALM


def test_a_host_that_answers_is_not_down(source_at, server, grid, slept):
    server.always = 503
    for _ in range(5):
        assert_lost(read_block(source_at(), LEFT, grid((400, 400)), ["red"]), LEFT, "http_503", ATTEMPTS)


def test_the_process_stops_to_try_again(source_at, server, grid, monkeypatch):
    with_patience(monkeypatch, Patience(5, sleep=lambda _: None))
    server.always = 500
    made, target = source_at(), grid((400, 400))
    attempts = [read_block(made, LEFT, target, ["red"]).failures[0].attempts for _ in range(4)]
    assert attempts == [4, 3, 1, 1]
    assert len(server.requests) == sum(attempts)


# Secrets


OURS = [None, 403, 503, "cut", "reset", "hang", "html", "packed", (302, {"Location": "/x?sig=CANARY"}, b"")]
GDALS = [None, 403, "cut", "html"]


@pytest.mark.parametrize(("packing", "fault"), [*(("deflate", f) for f in OURS), *(("lzw", f) for f in GDALS)], ids=str)
def test_nobody_tells_a_secret(source_at, packing, server, grid, slept, caplog, capfd, fault):
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)
    server.faults, server.always = [None] * (packing == "lzw"), fault  # GDAL is asked only for what begins as a TIFF
    made = source_at(f"{server.url.replace('//', '//CANARY:CANARY@')}/red.tif?se=2030&sig=CANARY#CANARY")
    block = read_block(made, LEFT, grid((400, 400)), ["red"])
    assert bool(block.failures) == (fault is not None)
    assert "CANARY" not in repr(block.failures)
    said = [record.getMessage() + (record.exc_text or "") for record in caplog.records]
    assert any("/red.tif" in text for text in said) or fault in ("reset", "hang")  # urllib3 tells of answers only
    files = native.native_files()
    objects = [files, files.store, files._web, files._web._connections, files._web._patience, *files._remote.values()]
    objects += [native.NativeRaster(file, files.store) for file in files._remote.values() if file]
    raised = []
    if fault is not None:
        try:
            with_raster(made.items[0].assets["red"].href, None, lambda raster: raster)
        except Unreadable as error:
            raised = traceback.format_exception(error)
        assert raised
    out = capfd.readouterr()
    assert "CANARY" not in "\n".join([*said, *map(repr, objects), *map(str, objects), *raised, out.out, out.err])


def test_user_and_password_go_to_their_own_server_only(read, server):
    server.faults = [(302, {"Location": f"{server.url.replace('127.0.0.1', 'localhost')}/red.tif"}, b"")]
    assert_calm(read(f"{server.url.replace('//', '//me:p%40ss@')}/red.tif"))
    sent = [(h["Host"].split(":")[0], h.get("Authorization")) for h in server.headers]
    assert sent[0] == ("127.0.0.1", "Basic bWU6cEBzcw==")
    assert sent[1] == ("localhost", None)
    assert all(pair == sent[0] for pair in sent[2:])


# Proxies


@pytest.fixture
def proxied(monkeypatch, server, slept):
    def through(**environment):
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with_patience(monkeypatch, Patience(sleep=slept.append))

    return through


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_is_asked(proxied, read, server, name, scheme):
    proxied(**{name: scheme + server.url.removeprefix("http://")})
    assert_calm(read("http://data.example/red.tif"))
    assert server.requests == ["GET http://data.example/red.tif"] * CALM


def test_a_proxy_gets_its_own_password_and_not_the_servers(proxied, read, server):
    proxied(http_proxy=server.url.replace("//", "//me:pw@"))
    assert_calm(read("http://you:there@data.example/red.tif"))
    assert server.requests[0] == "GET http://data.example/red.tif"
    assert {h["Proxy-Authorization"] for h in server.headers} == {"Basic bWU6cHc="}


def test_https_goes_through_a_tunnel(proxied, source_at, server, grid):
    proxied(HTTPS_PROXY=server.url)
    block = read_block(source_at("https://data.example/red.tif?sig=CANARY"), LEFT, grid((400, 400)), ["red"])
    assert_lost(block, LEFT, "connection", ATTEMPTS)
    assert "403" in block.failures[0].message
    assert server.requests == ["CONNECT data.example:443"] * ATTEMPTS


@pytest.mark.parametrize("value", ["127.0.0.1", "localhost,127.0.0.1", "*"])
def test_hosts_that_need_no_proxy(proxied, read, server, value):
    proxied(HTTP_PROXY="http://127.0.0.1:9", NO_PROXY=value)
    assert_calm(read())
    assert server.requests[0] == "GET /red.tif?sig=CANARY"


def test_without_it_the_proxy_is_asked_in_vain(proxied, read, server):
    proxied(HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="other.example")
    for block, window in zip(read(), (LEFT, RIGHT), strict=True):
        assert_lost(block, window, "connection", ATTEMPTS)
    assert server.requests == []


def test_a_proxy_of_another_kind_is_named(proxied, read):
    proxied(ALL_PROXY="socks5://127.0.0.1:1080")
    for block, window in zip(read(), (LEFT, RIGHT), strict=True):
        assert_lost(block, window, "refused", 1)
        assert "socks5" in block.failures[0].message


def test_certificates_of_the_environment_are_used(monkeypatch, tmp_path):
    """SSL_CERT_FILE is where the certificates come from: without one in it, nobody is trusted."""
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    empty = tmp_path / "none.pem"
    empty.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    context = Web(1)._connections._options["ssl_context"]
    assert context.get_ca_certs() == []
    assert context.check_hostname
