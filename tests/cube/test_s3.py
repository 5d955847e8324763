"""Files of object stores are read as those of web servers are: the same requests, retries and names of failures."""

from __future__ import annotations

import builtins
import logging
import pickle
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mdive.cube import native, objects, read_block
from mdive.cube.failures import Unreadable
from mdive.cube.files import driver_for, with_raster
from mdive.cube.objects import GOOD_FOR, S3, Google, open_address
from mdive.cube.signing import LEAST, MARGIN
from mdive.cube.web import ATTEMPTS, DENIALS, Web
from mdive.errors import InputError
from mdive.pipeline.window import Window

PLACE = {"x0": 600000.0, "y0": 4000000.0, "res": 10.0}
NUMBERS = np.random.default_rng(0).integers(1, 9999, (400, 400)).astype("uint16")
LEFT, RIGHT = Window(0, 0, 400, 192), Window(0, 192, 400, 208)
KEY = "s 2/é+~/red.tif"
HREF = f"s3://scenes/{KEY}"
ROWS = 7


@pytest.fixture
def now():
    """Seconds that the reader's clock is ahead."""
    return [0.0]


@pytest.fixture
def fresh(new_process, now):
    return new_process(lambda: time.time() + now[0])


@pytest.fixture
def source_at(write, item, source, s3, fresh, packing):
    def make(href=HREF, **how):
        asset = write("red", NUMBERS, nodata=0, compress=packing, **PLACE)
        s3.put("scenes", KEY, Path(asset.href).read_bytes(), **how)
        return source(item("i", {"red": asset.model_copy(update={"href": href})}, href="https://data.example/i.json"))

    return make


@pytest.fixture
def read(grid):
    def half(made, window=LEFT):
        return read_block(made, window, grid((400, 400)), ["red"])

    return half


def assert_right(block, window=LEFT):
    assert block.failures == ()
    np.testing.assert_array_equal(block.values["red"][0], NUMBERS[:, window.col : window.col_end])


def assert_lost(block, cause, attempts, said=""):
    (failure,) = block.failures
    assert (failure.cause, failure.href, failure.item) == (cause, HREF, "i")
    assert failure.attempts in attempts if isinstance(attempts, tuple) else failure.attempts == attempts
    assert said in failure.message
    assert "CANARY" not in repr(failure)
    assert np.isnan(block.values["red"]).all()


def test_the_same_pixels_by_signed_requests(source_at, read, s3):
    made = source_at()
    assert_right(read(made), LEFT)
    assert_right(read(made, RIGHT), RIGHT)
    assert {path for path, _, _ in s3.requests} == {"/scenes/s%202/%C3%A9%2B~/red.tif"}
    assert all(query["X-Amz-Credential"].startswith("AKIDREADER/") for _, query, _ in s3.requests)
    assert not any("authorization" in headers for _, _, headers in s3.requests)


@pytest.mark.parametrize("packing", ["deflate"])
def test_as_many_requests_as_from_a_web_server(source_at, read, s3):
    made = source_at()
    read(made), read(made, RIGHT)
    ranges = [headers["range"] for _, _, headers in s3.requests]
    assert len(ranges) == len(set(ranges)) == 1 + 2 * ROWS
    assert len({query["X-Amz-Signature"] for _, query, _ in s3.requests}) == 1, "one signature opens all parts of a file"


@pytest.mark.parametrize(
    "fault", [(503, {}, b"<Error><Code>SlowDown</Code></Error>"), (500, {}, b""), (403, {}, b"")], ids=["503", "500", "403"]
)
@pytest.mark.parametrize("number", [1, 2])
def test_what_passes_is_tried_again(source_at, read, s3, fault, number):
    made = source_at()
    s3.faults = [*[None] * (number - 1), fault]
    assert_right(read(made))


def test_what_does_not_pass_has_its_name(source_at, read, s3, packing):
    made = source_at()
    s3.faults = [(503, {"Content-Type": "application/xml"}, b"<Error><Code>SlowDown</Code></Error>")] * 100
    assert_lost(read(made), "http_503", ATTEMPTS, "SlowDown")


def test_a_key_that_is_not_there(source_at, read, s3):
    made = source_at()
    from moto.s3.models import s3_backends

    s3_backends["123456789012"]["aws"].delete_object("scenes", KEY)
    assert_lost(read(made), "http_404", 1, "NoSuchKey")
    assert len(s3.requests) == 1


# Credentials


def test_a_wrong_secret(source_at, read, s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anotherCANARY")
    assert_lost(read(source_at()), "denied", DENIALS, "SignatureDoesNotMatch")
    assert len(s3.requests) == DENIALS


def test_an_unknown_key(source_at, read, s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDCANARY")
    assert_lost(read(source_at()), "denied", DENIALS, "InvalidAccessKeyId")


def test_a_profile_of_the_shared_file(source_at, read, s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    shared = tmp_path / "credentials"
    shared.write_text(f"[reader]\naws_access_key_id = AKIDREADER\naws_secret_access_key = {s3.keys['AKIDREADER']}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_PROFILE", "reader")
    assert_right(read(source_at()))


def test_a_session_token_is_sent(source_at, read, s3, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary/CANARY")
    assert_right(read(source_at()))
    assert {query["X-Amz-Security-Token"] for _, query, _ in s3.requests} == {"temporary/CANARY"}


def test_a_signature_is_renewed_before_it_ends(source_at, read, s3, now):
    made = source_at()
    assert_right(read(made))
    now[0] = GOOD_FOR - MARGIN + 1
    assert_right(read(made, RIGHT), RIGHT)
    (kept,) = native.native_files().web._signers._kept.values()
    assert kept._got.since - time.time() > GOOD_FOR - MARGIN - 30, "it was made anew"


@pytest.mark.parametrize("packing", ["deflate"])
def test_temporary_credentials_that_end_are_400_and_renewed(source_at, read, s3, now, fresh):
    made = source_at()
    assert_right(read(made))
    now[0] = LEAST
    s3.faults = [(400, {"Content-Type": "application/xml"}, b"<Error><Code>ExpiredToken</Code></Error>")]
    assert_right(read(made, RIGHT), RIGHT)
    (kept,) = native.native_files().web._signers._kept.values()
    assert kept._got.since - time.time() > LEAST - 5, "it was made anew"


@pytest.mark.parametrize("answer", ["header", "page"])
@pytest.mark.parametrize("packing", ["deflate"])
def test_a_bucket_of_another_region_is_named(source_at, read, s3, answer):
    made = source_at()
    if answer == "header":
        s3.region = "eu-central-1"
    else:
        page = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>"
        s3.faults = [(400, {"Content-Type": "application/xml"}, page)]
    assert_lost(read(made), "region", 1, "Set AWS_REGION=eu-central-1.")
    assert len(s3.requests) == 1


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_of_the_environment(source_at, read, s3, monkeypatch, name):
    made = source_at()
    s3.region = "eu-central-1"
    monkeypatch.setenv(name, "eu-central-1")
    assert_right(read(made))


def test_the_reader_pays_if_it_says_so(source_at, read, s3, monkeypatch):
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    assert_right(read(source_at()))
    assert {headers.get("x-amz-request-payer") for _, _, headers in s3.requests} == {"requester"}
    assert all("x-amz-request-payer" in query["X-Amz-SignedHeaders"] for _, query, _ in s3.requests)


def test_nobody_pays_unasked(source_at, read, s3):
    assert_right(read(source_at()))
    assert not any("x-amz-request-payer" in headers for _, _, headers in s3.requests)


@pytest.mark.parametrize("value", ["YES", "true", "1"])
def test_an_open_bucket_needs_no_library(source_at, read, s3, monkeypatch, value):
    monkeypatch.setattr(objects, "_client", lambda bucket: pytest.fail("no library is needed"))
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", value)
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    assert_right(read(source_at(public=True)))
    for _, query, headers in s3.requests:
        assert query == {}
        assert not {"authorization", "x-amz-request-payer"} & set(headers)


def test_a_closed_bucket_stays_closed(source_at, read, s3, monkeypatch):
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert_lost(read(source_at()), "denied", (2, 3))


@pytest.mark.parametrize("style", ["TRUE", "FALSE"])
def test_gdals_names_for_a_store_of_ones_own(source_at, s3, monkeypatch, fresh, style):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_S3_ENDPOINT", "store.example:9000")
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", style)
    start = "http://scenes.store.example:9000/a.tif" if style == "TRUE" else "http://store.example:9000/scenes/a.tif"
    assert fresh().signed("s3://scenes/a.tif").address.startswith(f"{start}?X-Amz-")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert fresh().signed("s3://scenes/a.tif").address == start


@pytest.mark.parametrize(
    ("given", "bucket", "address"),
    [
        ({}, "scenes", "https://scenes.s3.amazonaws.com/a/b%20%3F%23.tif"),
        ({"AWS_REGION": "eu-central-1"}, "scenes", "https://scenes.s3.eu-central-1.amazonaws.com/a/b%20%3F%23.tif"),
        ({"AWS_DEFAULT_REGION": "us-west-2"}, "with.dots", "https://s3.us-west-2.amazonaws.com/with.dots/a/b%20%3F%23.tif"),
        ({"AWS_ENDPOINT_URL": "https://store.example/"}, "scenes", "https://store.example/scenes/a/b%20%3F%23.tif"),
        ({"AWS_ENDPOINT_URL": "https://a", "AWS_ENDPOINT_URL_S3": "https://b"}, "scenes", "https://b/scenes/a/b%20%3F%23.tif"),
    ],
)
def test_addresses_of_open_buckets(s3, monkeypatch, given, bucket, address):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert open_address(bucket, "a/b ?#.tif") == address


@pytest.mark.parametrize("signed", [True, False])
def test_a_version_of_a_file(s3, monkeypatch, signed):
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "NO" if signed else "YES")
    address = Web(1).signed("s3://scenes/a.tif?versionId=x/1").address
    assert address.startswith(f"{s3.url}/scenes/a.tif?")
    assert "versionId=x%2F1" in address
    assert ("X-Amz-Signature=" in address) == signed


@pytest.mark.parametrize("href", ["s3://scenes", "s3://scenes/", "s3://Not_A_Bucket!/a.tif"])
def test_addresses_that_name_no_file(s3, href):
    with pytest.raises(Unreadable) as caught:
        Web(1).get(href, 0, 10)
    assert (caught.value.cause, caught.value.final) == ("refused", True)


# What is missing: two lines, and nothing is read


def refused(read, made):
    with pytest.raises(InputError) as caught:
        read(made)
    message, hint = str(caught.value).splitlines()
    assert "CANARY" not in message + hint
    return f"{message} / {hint}"


def test_without_the_library(source_at, read, monkeypatch):
    made = source_at()
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "botocore":
            raise ImportError(name)
        return real(name, *rest)

    for name in [n for n in sys.modules if n.split(".")[0] == "botocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    said = refused(read, made)
    assert 'pip install "mdive[s3]"' in said
    assert "AWS_NO_SIGN_REQUEST=YES" in said


def test_without_credentials(source_at, read, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    said = refused(read, source_at())
    assert said.startswith("s3://scenes needs credentials, and there are none. / ")
    assert "AWS_PROFILE" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "nonsense://["), ("AWS_SECRET_ACCESS_KEY", "")],
    ids=["profile", "endpoint", "half"],
)
def test_a_set_up_that_is_wrong(source_at, read, monkeypatch, name, value):
    made = source_at()
    monkeypatch.setenv(name, value)
    assert "s3://scenes" in refused(read, made)


# Other stores


def test_open_files_of_google():
    assert Google().opens("gs://bucket/a b/c.tif") == "gs://bucket/a b/c.tif"
    signed = Web(1).signed("gs://bucket/a b/c.tif")
    assert (signed.address, signed.headers) == ("https://storage.googleapis.com/bucket/a%20b/c.tif", {})
    assert driver_for("gs://bucket/a.tif") == "GTiff"


@pytest.mark.parametrize("scheme", ["az", "abfs", "abfss", "wasbs"])
def test_addresses_of_azure_that_do_not_name_a_server(scheme):
    with pytest.raises(Unreadable, match=r"https://ACCOUNT\.blob\.core\.windows\.net/") as caught:
        driver_for(f"{scheme}://container/a.tif")
    assert caught.value.cause == "refused"


def test_s3_signs_s3_only():
    assert S3().opens("https://bucket.s3.amazonaws.com/a.tif") is None


# Secrets


@pytest.mark.parametrize("fault", [None, (403, {}, b"CANARY"), (503, {}, b"CANARY")], ids=["calm", "403", "503"])
def test_nobody_tells_a_secret(source_at, read, s3, monkeypatch, fresh, fault, packing, caplog, capfd):
    import botocore.auth
    import botocore.session  # noqa: F401 - their loggers must be there to be listened to

    monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary/CANARY")
    for name in (None, *logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)
    made = source_at()
    s3.faults = [*[None] * (packing == "lzw"), *[fault] * 100]
    block = read(made)
    assert bool(block.failures) == (fault is not None)
    files = native.native_files()
    told = [*map(repr, (block.failures, files, files.web, files.web.signed(HREF), *files._remote.values())), repr(pickle.dumps(made))]
    try:
        with_raster(HREF, None, lambda raster: told.append(repr(raster)))
    except Unreadable as error:
        told.append(str(error))
    said = [record.getMessage() + (record.exc_text or "") for record in caplog.records]
    assert any("red.tif" in text for text in said)
    out = capfd.readouterr()
    everything = "\n".join([*told, *said, out.out, out.err])
    for secret in ("CANARY", "AKIDREADER", *{query["X-Amz-Signature"] for _, query, _ in s3.requests}):
        assert secret not in everything
