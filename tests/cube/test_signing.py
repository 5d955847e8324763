"""What opens files is asked for when they are read: once, again before it ends, again when it is refused, and it is told to nobody."""

from __future__ import annotations

import datetime as dt
import json
import logging
import pickle
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

import mdive
from mdive.cube import native, read_block, signing
from mdive.cube.failures import Unreadable
from mdive.cube.files import with_raster
from mdive.cube.signing import LEAST, MARGIN, Bearer, PlanetaryComputer, Secret, Signed, Signers
from mdive.cube.web import ATTEMPTS, DENIALS
from mdive.pipeline.window import Window

PLACE = {"x0": 600000.0, "y0": 4000000.0, "res": 10.0}
NUMBERS = np.random.default_rng(0).integers(1, 9999, (400, 400)).astype("uint16")
LEFT, RIGHT = Window(0, 0, 400, 192), Window(0, 192, 400, 208)
"""Halves whose blocks are different ones: reading the second asks the server again."""
HREF = "http://scenes.blob.core.windows.net/s2/red.tif"
DENIED = (403, {"Content-Type": "application/xml"}, b"<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code></Error>")


class Cloud:
    """Azure and the Planetary Computer behind one server, which stands in for the world as a proxy; their time is ours."""

    def __init__(self, server):
        self.server = server
        self.now = 1_800_000_000.0
        self.lifetime = 2700.0
        self.tokens: dict[str, float] = {}
        """Until when each opens files."""
        self.asked: list[dict[str, str]] = []
        """Headers of each request for a token."""
        self.answers: list = []
        """What the token server says instead of a token, to the next requests."""
        self.denied = 0
        self.slow = threading.Event()
        self.slow.set()
        server.gate = self.gate

    def gate(self, path, headers):
        address = urlsplit(path)
        if address.path.startswith("/token/"):
            self.asked.append(headers)
            self.slow.wait(5)
            if self.answers:
                return self.answers.pop(0)
            name = f"CANARY{len(self.asked)}"
            self.tokens[name] = self.now + self.lifetime
            until = dt.datetime.fromtimestamp(self.tokens[name], dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return 200, {"Content-Type": "application/json"}, json.dumps({"msft:expiry": until, "token": f"se=x&sp=rl&sig={name}"}).encode()
        if (address.hostname or "").endswith(".blob.core.windows.net"):
            given = parse_qs(address.query).get("sig", [""])[0]
            if self.tokens.get(given, 0.0) <= self.now:
                self.denied += 1
                return DENIED
        return None

    def forget_tokens(self):
        self.tokens.clear()


@pytest.fixture
def cloud(server, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/token/")
    monkeypatch.delenv("PC_SDK_SUBSCRIPTION_KEY", raising=False)
    return Cloud(server)


@pytest.fixture
def fresh(new_process, cloud):
    return new_process(lambda: cloud.now)


@pytest.fixture
def source_at(write, item, source, server, packing):
    def make(href=HREF):
        asset = write("red", NUMBERS, nodata=0, compress=packing, **PLACE)
        server.files[urlsplit(href).path.lstrip("/")] = Path(asset.href).read_bytes()
        return source(item("i", {"red": asset.model_copy(update={"href": href})}, href="https://data.example/i.json"))

    return make


@pytest.fixture
def read(grid):
    def half(made, window):
        for asset in (a for i in made.items for a in i.assets.values()):
            native.native_files().pages.forget(asset.href)  # GDAL's way holds the whole of so small a file
        return read_block(made, window, grid((400, 400)), ["red"])

    return half


def assert_right(block, window):
    assert block.failures == ()
    np.testing.assert_array_equal(block.values["red"][0], NUMBERS[:, window.col : window.col_end])


def only(block):
    (failure,) = block.failures
    assert np.isnan(block.values["red"]).all()
    return failure


# Tokens


def test_a_signature_that_died_before_the_read_is_replaced(cloud, fresh, source_at, read, server):
    made = source_at(f"{HREF}?st=2024&se=2025&sp=rl&sv=2021-06-08&sr=c&sig=DEAD")
    for window in (LEFT, RIGHT):
        assert_right(read(made, window), window)
    assert (len(cloud.asked), cloud.denied) == (1, 0)
    assert "DEAD" not in "".join(server.requests)


def test_a_token_that_ends_between_two_reads_is_renewed_before(cloud, fresh, source_at, read):
    made = source_at()
    assert_right(read(made, LEFT), LEFT)
    cloud.now += cloud.lifetime - MARGIN + 1
    assert_right(read(made, RIGHT), RIGHT)
    assert (len(cloud.asked), cloud.denied) == (2, 0)


def test_a_token_that_is_refused_before_its_time_is_renewed_once(cloud, fresh, source_at, read):
    made = source_at()
    assert_right(read(made, LEFT), LEFT)
    cloud.now += LEAST
    cloud.forget_tokens()
    assert_right(read(made, RIGHT), RIGHT)
    assert len(cloud.asked) == 2
    assert cloud.denied >= 1


def test_a_container_that_denies_every_token(cloud, fresh, source_at, read, server):
    made = source_at()
    server.gate = lambda path, headers: DENIED if "/s2/" in path and "/token/" not in path else cloud.gate(path, headers)
    for window in (LEFT, RIGHT):
        failure = only(read(made, window))
        assert (failure.cause, failure.attempts) == ("denied", DENIALS)
        assert "AuthenticationFailed" in failure.message
    assert len(cloud.asked) == 1, "the token is new: it is not the token that is wrong"
    assert sum("/s2/" in r and "/token/" not in r for r in server.requests) == 2 * DENIALS


@pytest.mark.parametrize(("packing", "lifetime"), [("deflate", 2700.0), ("deflate", 3600.0), ("deflate", 360.0), ("lzw", 2700.0)])
def test_six_hours(cloud, fresh, source_at, read, lifetime, packing):
    """Each request finds a token that is good, and no more are asked for than their lifetime takes."""
    cloud.lifetime, made, begin = lifetime, source_at(), cloud.now
    asked = fresh()
    while cloud.now < begin + 6 * 3600:
        asked.get(HREF, 0, 100)
        if (cloud.now - begin) % 3600 < 30:
            native.native_files().store.forget(native.native_files().open_remote(HREF).file) if packing == "deflate" else None
            assert_right(read(made, LEFT), LEFT)
        cloud.now += 30
    assert cloud.denied == 0
    every = max(lifetime - MARGIN, lifetime / 2)
    assert 6 * 3600 / every <= len(cloud.asked) <= 6 * 3600 / every + 1
    assert len(cloud.asked) > 5


@pytest.mark.parametrize("packing", ["deflate"])
def test_many_threads_ask_once(cloud, fresh, source_at):
    source_at()
    asked, together = fresh(), threading.Barrier(16)
    cloud.slow.clear()

    def get(n):
        together.wait()
        return asked.get(HREF, n, n + 10).data

    with ThreadPoolExecutor(16) as pool:
        found = [pool.submit(get, n) for n in range(16)]
        time.sleep(0.2)
        cloud.slow.set()
        assert b"".join(f.result()[:1] for f in found) == cloud.server.files["s2/red.tif"][:16]
    assert len(cloud.asked) == 1


@pytest.mark.parametrize("packing", ["deflate"])
def test_nobody_waits_for_a_new_token_while_the_old_one_is_good(cloud, fresh, source_at):
    source_at()
    asked = fresh()
    asked.get(HREF, 0, 10)
    cloud.now += cloud.lifetime - MARGIN / 2
    cloud.slow.clear()
    with ThreadPoolExecutor(1) as other:
        renewing = other.submit(asked.get, HREF, 0, 10)
        while len(cloud.asked) < 2:
            time.sleep(0.001)
        asked.get(HREF, 10, 20)
        assert not renewing.done()
        cloud.slow.set()
        renewing.result()
    assert (len(cloud.asked), cloud.denied) == (2, 0)


def test_each_container_has_its_own_token(cloud, fresh, source_at, read, server):
    for href in (HREF, HREF.replace("scenes.", "other."), HREF.replace("/s2/", "/s1/")):
        assert_right(read(source_at(href), LEFT), LEFT)
    assert sorted(r for r in server.requests if "/token/" in r) == [f"GET /token/{c}" for c in ("other/s2", "scenes/s1", "scenes/s2")]


BROKEN = {
    "503": ((503, {}, b""), "503", ATTEMPTS),
    "429": ((429, {"Retry-After": "1"}, b""), "429", ATTEMPTS),
    "no json": ((200, {}, b"<html>CANARY</html>"), "the answer is none", 1),
    "no token": ((200, {}, b'{"error": "CANARY"}'), "the answer is none", 1),
    "no date": ((200, {}, b'{"token": "sig=CANARY", "msft:expiry": "soon"}'), "the answer is none", 1),
}


@pytest.mark.parametrize(("answer", "said", "attempts"), BROKEN.values(), ids=BROKEN)
def test_a_token_server_that_is_sick(cloud, fresh, source_at, read, server, answer, said, attempts):
    made = source_at()
    cloud.answers = [answer] * 100
    for window in (LEFT, RIGHT):
        failure = only(read(made, window))
        assert (failure.cause, failure.attempts, failure.item, failure.href) == ("signing", attempts, "i", HREF)
        assert failure.message.startswith("No token for scenes/s2 from 127.0.0.1: ")
        assert said in failure.message
        assert "CANARY" not in repr(failure)
    assert len(cloud.asked) == attempts, "who has just been told is not asked again for the next file"
    assert cloud.denied == 0
    cloud.answers.clear()
    cloud.now += LEAST
    assert_right(read(made, LEFT), LEFT)


def test_no_token_server_at_all(cloud, fresh, source_at, read, monkeypatch):
    monkeypatch.setenv("PC_SDK_SAS_URL", "http://127.0.0.1:9/token")
    failure = only(read(source_at(), LEFT))
    assert (failure.cause, failure.attempts) == ("signing", ATTEMPTS)
    assert "No connection" in failure.message


def test_a_token_server_that_is_sick_for_less_than_the_margin(cloud, fresh, source_at, read):
    made = source_at()
    assert_right(read(made, LEFT), LEFT)
    cloud.now += cloud.lifetime - MARGIN
    cloud.answers = [(500, {}, b"")] * ATTEMPTS
    assert_right(read(made, RIGHT), RIGHT)
    cloud.now += LEAST
    native.native_files().forget(HREF)
    assert_right(read(made, RIGHT), RIGHT)
    assert (len(cloud.asked), cloud.denied) == (1 + ATTEMPTS + 1, 0)


def test_a_container_that_is_not_theirs_is_read_without(cloud, fresh, source_at, read, server):
    made = source_at()
    cloud.answers = [(404, {}, b"")]
    server.gate = lambda path, headers: cloud.gate(path, headers) if "/token/" in path else None
    assert_right(read(made, LEFT), LEFT)
    assert_right(read(made, RIGHT), RIGHT)
    assert len(cloud.asked) == 1
    assert not any("sig=" in r for r in server.requests)


def test_the_subscription_key_goes_to_the_token_server_only(cloud, fresh, source_at, read, server, monkeypatch):
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "CANARYKEY")
    away = server.url.replace("127.0.0.1", "localhost")
    cloud.answers = [(307, {"Location": f"{away}/token/scenes/s2"}, b"")]
    assert_right(read(source_at(), LEFT), LEFT)
    first, second = cloud.asked
    assert first["Ocp-Apim-Subscription-Key"] == "CANARYKEY"
    assert "Ocp-Apim-Subscription-Key" not in second
    assert sum("CANARYKEY" in str(h) for h in server.headers) == 1


@pytest.mark.parametrize(
    ("href", "key"),
    [
        ("https://scenes.blob.core.windows.net/s2/a/b.tif", "scenes/s2"),
        ("https://SCENES.blob.core.windows.net/s2/b.tif?sig=x", "scenes/s2"),
        ("https://scenes.blob.core.windows.net/b.tif", None),
        ("https://blob.core.windows.net/s2/b.tif", None),
        ("https://.blob.core.windows.net/s2/b.tif", None),
        ("https://scenes.blob.core.windows.net.evil.example/s2/b.tif", None),
        ("https://evil.example/scenes.blob.core.windows.net/s2/b.tif", None),
        ("https://scenes.blob.core.windows.net@evil.example/s2/b.tif", None),
        ("s3://scenes.blob.core.windows.net/s2/b.tif", None),
        ("http://[nonsense/a.tif", None),
        ("/data/s2/a.tif", None),
    ],
)
def test_which_files_the_planetary_computer_signs(href, key):
    assert PlanetaryComputer(None).opens(href) == key


@pytest.mark.parametrize("left", [-7200.0, 0.0, 1.0])
def test_a_clock_that_goes_wrong_makes_no_storm(left):
    """A token that is over when it comes (this machine's clock is two hours ahead) is used until it is refused."""
    now, made = [0.0], []

    class Short:
        opens = staticmethod(lambda href: "all")
        sign = staticmethod(lambda href, secret: Signed(href + secret.value))

        def secret(self, key, href, at):
            made.append(at)
            return Secret(f"?{len(made)}", at + left)

    signers = Signers([Short()], lambda: now[0])
    for _ in range(100):
        assert signers.sign("a").address == f"a?{len(made)}"
        signers.renew("a")
        now[0] += 1
    assert len(made) == 100 / LEAST


# Functions of the user's own


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(signing, "_callbacks", {})


def test_a_function_of_the_users_own(cloud, fresh, source_at, read, server, registered):
    given = []

    def sign(href):
        given.append(href)
        return f"{href}?sig={len(given)}", dt.datetime.fromtimestamp(cloud.now + 3600, dt.UTC)

    server.gate = lambda path, headers: None
    mdive.sign_with("*.blob.core.windows.net", sign)
    made = source_at()
    assert_right(read(made, LEFT), LEFT)
    cloud.now += 3600 - MARGIN
    assert_right(read(made, RIGHT), RIGHT)
    assert given == [HREF, HREF]
    assert {r.rpartition("?")[2] for r in server.requests} == {"sig=1", "sig=2"}
    assert cloud.asked == []


def test_a_function_is_called_again_when_its_signature_is_refused(cloud, fresh, source_at, read, server, registered):
    good, given = ["one"], []

    def sign(href):
        given.append(href)
        return f"{href}?sig={good[0]}"

    mdive.sign_with("scenes.blob.core.windows.net", sign)
    server.gate = lambda path, headers: None if path.endswith(f"sig={good[0]}") else DENIED
    made = source_at()
    assert_right(read(made, LEFT), LEFT)
    good[0], cloud.now = "two", cloud.now + LEAST
    assert_right(read(made, RIGHT), RIGHT)
    assert len(given) == 2


def test_what_an_earlier_function_returned_does_not_serve_a_later_one(cloud, fresh, registered):
    asked = fresh()
    for word in ("one", "two"):
        mdive.sign_with("scenes.blob.core.windows.net", lambda href, word=word: f"{href}?{word}")
        assert asked.signed(HREF).address == f"{HREF}?{word}"
    mdive.sign_with("SCENES.blob.core.windows.net", None)
    assert "sig=" in asked.signed(HREF).address


def raising(href):
    raise RuntimeError("CANARY")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raising, "RuntimeError"),
        (lambda href: None, "TypeError"),
        (lambda href: (href, "soon"), "AttributeError"),
        (lambda href: "/etc/passwd", "no http address"),
        (lambda href: "file:///etc/passwd", "no http address"),
        (lambda href: "http:///a.tif", "no http address"),
    ],
)
@pytest.mark.parametrize("packing", ["deflate"])
def test_a_function_that_fails_is_named(cloud, fresh, source_at, read, registered, function, said):
    mdive.sign_with("scenes.blob.core.windows.net", function)
    failure = only(read(source_at(), LEFT))
    assert (failure.cause, failure.attempts) == ("signing", 1)
    assert "scenes.blob.core.windows.net" in failure.message
    assert said in failure.message
    assert "CANARY" not in repr(failure)


# Bearer tokens


def test_a_bearer_token_goes_to_its_host_only(cloud, fresh, source_at, read, server, monkeypatch):
    here, away = server.url.removeprefix("http://"), server.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("MDIVE_BEARER_TOKENS", f"data.example.org=OTHER, {here}=CANARY==")
    made = source_at(f"{server.url}/red.tif")
    assert_right(read(made, LEFT), LEFT)
    assert {h.get("Authorization") for h in server.headers} == {"Bearer CANARY=="}
    server.headers.clear()
    server.always = (302, {"Location": f"{away}/red.tif"}, b"")
    server.gate = lambda path, headers: None
    read(made, RIGHT)
    sent = {h["Host"].partition(":")[0]: h.get("Authorization") for h in server.headers}
    assert sent == {"127.0.0.1": "Bearer CANARY==", "localhost": None}


@pytest.mark.parametrize(
    ("href", "key"),
    [
        ("https://data.example.org/a.tif", "data.example.org"),
        ("https://me@DATA.example.org/a.tif", "data.example.org"),
        ("https://data.example.org:8080/a.tif", None),
        ("http://data.example.org/a.tif", None),
        ("https://data-example.org/a.tif", None),
        ("https://evil.data.example.org/a.tif", None),
        ("https://data.example.org@evil.example/a.tif", None),
        ("http://127.0.0.1/a.tif", "127.0.0.1"),
    ],
)
def test_which_hosts_get_a_bearer_token(monkeypatch, href, key):
    monkeypatch.setenv("MDIVE_BEARER_TOKENS", "data.example.org=A 127.0.0.1=B nonsense =C d.example.org=")
    assert Bearer().opens(href) == key


# Secrets


@pytest.mark.parametrize("fault", [None, 403, 503, "cut", "html"], ids=str)
def test_nobody_tells_a_secret(cloud, fresh, source_at, read, server, monkeypatch, registered, caplog, capfd, fault, packing):
    for name in (None, *logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "CANARY")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    place = server.url.replace("127.0.0.1", "localhost").removeprefix("http://")
    monkeypatch.setenv("MDIVE_BEARER_TOKENS", f"{place}=CANARY")
    mdive.sign_with("127.0.0.1", lambda href: f"{href}?sig=CANARY")
    told = []
    for href in (HREF, f"http://{place}/red.tif", f"{server.url}/red.tif"):
        made = source_at(href)
        asked = fresh()
        server.faults, server.always = [None] * (packing == "lzw"), fault
        block = read(made, LEFT)
        assert bool(block.failures) == (fault is not None)
        files = native.native_files()
        files._web.signed(href)
        objects = [
            block.failures,
            files,
            asked,
            asked._signers,
            *asked._signers._kept.values(),
            asked.signed(href),
            *files._remote.values(),
        ]
        objects += [entry._got for entry in asked._signers._kept.values()]
        told += [*map(repr, objects), *map(str, objects), repr(pickle.dumps(made))]
        try:
            with_raster(href, None, lambda raster: told.append(repr(raster)))  # noqa: B023
        except Unreadable as error:
            told += traceback.format_exception(error)
    said = [record.getMessage() + (record.exc_text or "") for record in caplog.records]
    assert any("red.tif" in text for text in said)
    out = capfd.readouterr()
    assert "CANARY" not in "\n".join([*told, *said, out.out, out.err])
    assert "CANARY" in str(server.headers)
    assert "CANARY" in str(server.requests)


def test_a_signed_address_is_not_shown():
    assert "CANARY" not in repr((Signed("http://x/?CANARY", {"a": "CANARY"}), Secret("CANARY")))
