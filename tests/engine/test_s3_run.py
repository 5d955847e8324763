"""Runs over s3:// give the same bits as from files, resume, and leave no credential behind."""

from __future__ import annotations

import json
import logging
import shutil

import pytest

import mdive
from mdive.cube import native
from mdive.cube.native import NativeFiles
from mdive.cube.store import BlockStore
from mdive.errors import InputError
from mdive.products import read_ledger

SECRETS = ("CANARY", "AKIDREADER", "X-Amz-", "Sek/ret")


@pytest.fixture
def remote(flood, s3, monkeypatch, tmp_path):
    """A copy of the catalogue whose hrefs lead into a bucket."""
    monkeypatch.setattr(native, "_files", NativeFiles(BlockStore(2**28)))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary/CANARY")
    folder = tmp_path / "catalogue"
    folder.mkdir()
    for path in flood.made.folder.glob("*.json"):
        document = json.loads(path.read_text())
        for asset in document.get("assets", {}).values():
            name = asset["href"].rpartition("/")[2]
            asset["href"] = f"s3://scenes/event 1/{name}"
            s3.put("scenes", f"event 1/{name}", (flood.made.folder / name).read_bytes())
        (folder / path.name).write_text(json.dumps(document))
    shutil.copy(flood.made.event, folder)
    return str(folder / flood.made.catalog.name)


def rasters(shas, folder):
    return {name: sha for name, sha in shas(folder).items() if name != "ledger"}


def test_the_same_bits_each_range_once_and_no_secret(flood, calm, shas, s3, remote, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    plan = mdive.plan(flood.event, catalog=remote, tile_size=128)
    assert s3.requests == []
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect("threads", workers=4))
    assert report.status == "complete"
    assert rasters(shas, report.folder) == rasters(shas, calm.report.folder)
    asked = [(path, headers["range"]) for path, _, headers in s3.requests]
    assert len(asked) == len(set(asked)) >= 2 * len({path for path, _ in asked}) > 2
    assert all(query["X-Amz-Signature"] for _, query, _ in s3.requests)
    told = [path.read_bytes() for path in report.folder.rglob("*") if path.is_file()]
    told += [repr(x).encode() for x in (plan, report, native.native_files().web)]
    told += [f"{record.getMessage()}{record.exc_text or ''}".encode() for record in caplog.records]
    assert any(b"s3://scenes/event 1/" in text for text in told)
    for secret in SECRETS:
        assert not any(secret.encode() in text for text in told), secret


def test_a_run_that_was_stopped_resumes(flood, calm, shas, s3, remote, tmp_path, monkeypatch):
    plan = mdive.plan(flood.event, catalog=remote, tile_size=128)

    def stop_soon(progress):
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mdive.run(plan, tmp_path / "run", runtime=mdive.connect("serial"), watch=stop_soon)
    monkeypatch.setattr(native, "_files", NativeFiles(BlockStore(2**28)))  # a new process
    report = mdive.resume(tmp_path / "run")
    assert rasters(shas, report.folder) == rasters(shas, calm.report.folder)


def test_faults_that_pass_leave_no_trace(flood, calm, shas, s3, remote, tmp_path, monkeypatch):
    monkeypatch.setattr("mdive.cube.web.FIRST_PAUSE", 0.01)
    s3.faults = [None, (503, {}, b""), None, None, (500, {}, b""), (403, {}, b""), *[None, (429, {}, b"")] * 5]
    report = mdive.run(mdive.plan(flood.event, catalog=remote, tile_size=200), tmp_path / "run")
    assert report.status == "complete"
    assert rasters(shas, report.folder)["extent"] == calm.shas["extent"]


def test_a_key_that_is_gone_is_in_the_ledger(flood, s3, remote, tmp_path):
    from moto.s3.models import s3_backends

    plan = mdive.plan(flood.event, catalog=remote, tile_size=150)
    post = next(s for s in plan.sources if s.phase == "post")
    href = post.items[0].assets["vv"].href
    s3_backends["123456789012"]["aws"].delete_object("scenes", href.removeprefix("s3://scenes/"))
    report = mdive.run(plan, tmp_path / "run")
    rows = read_ledger(report.path("ledger"))
    assert report.status == "partial"
    assert {(r["band"], r["cause"], r["href"]) for r in rows} == {("vv", "http_404", href)}


def test_without_credentials_a_run_ends_at_once_with_two_lines(flood, s3, remote, tmp_path, monkeypatch):
    plan = mdive.plan(flood.event, catalog=remote)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(InputError) as caught:
        mdive.run(plan, tmp_path / "run")
    message, hint = str(caught.value).splitlines()
    assert message == "s3://scenes needs credentials, and there are none."
    assert "AWS_PROFILE" in hint
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDREADER")
    monkeypatch.setattr(native, "_files", NativeFiles(BlockStore(2**28)))
    assert mdive.resume(tmp_path / "run").status == "complete"
