"""``verify_inputs``: files that are not what their catalogue says are not read, and it is said how many could be compared."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mdive
from mdive.cube import checking, native
from mdive.cube.native import NativeFiles
from mdive.cube.patience import Patience
from mdive.cube.store import BlockStore
from mdive.cube.web import Web
from mdive.model import load_event
from mdive.model.checksum import as_multihash
from mdive.products import read_ledger
from mdive.testing import make_flood_event

HASHES = {
    "sha1": ("1114", hashlib.sha1),
    "sha2-256": ("1220", hashlib.sha256),
    "sha2-512": ("1340", hashlib.sha512),
    "md5": ("d50110", hashlib.md5),
    "blake2b-256": ("a0e40220", lambda data: hashlib.blake2b(data, digest_size=32)),
    "blake2b-512": ("c0e40240", hashlib.blake2b),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_flood_event(tmp_path_factory.mktemp("made"), seed=3, size_km=2.0, phases=("post",))


@pytest.fixture
def plan(made, tmp_path, faulty, monkeypatch):
    """A plan over a copy of the event whose items tell size and checksum of their files, here or behind a server."""
    monkeypatch.setattr(checking, "PIECE", 10_000)
    fresh = NativeFiles(BlockStore(2**26), 4)
    fresh._web = Web(4, Patience(sleep=lambda _: None))
    monkeypatch.setattr(native, "_files", fresh)

    def make(*, where="local", kind="sha2-256", tell=("file:checksum", "file:size"), only=""):
        folder = tmp_path / "event"
        shutil.copytree(made.folder, folder)
        prefix, function = HASHES[kind]
        for path in folder.glob("*.json"):
            document = json.loads(path.read_text())
            for asset in document.get("assets", {}).values():
                name = asset["href"].rpartition("/")[2]
                data = (folder / name).read_bytes()
                said = {"file:checksum": prefix + function(data).hexdigest(), "file:size": len(data)}
                if only in name:
                    asset.update({key: said[key] for key in tell})
                if where == "remote":
                    faulty.files[name] = data
                    asset["href"] = f"{faulty.url}/{name}"
            path.write_text(json.dumps(document))
        return mdive.plan(load_event(made.event), catalog=str(folder / made.catalog.name), tile_size=128)

    return make


def vv(plan):
    return next(s for s in plan.sources if s.phase == "post").items[0].assets["vv"]


def flip(plan, server, at=0.7):
    """Flip a bit deep in a block."""
    href = vv(plan).href
    name = href.rpartition("/")[2]
    data = bytearray(server.files[name] if href.startswith("http") else Path(href).read_bytes())
    data[int(len(data) * at)] ^= 4
    if href.startswith("http"):
        server.files[name] = bytes(data)
    else:
        Path(href).write_bytes(data)


def said(report):
    (reason,) = [r.text for r in report.plan.reasons if r.topic == "inputs"]
    return reason


@pytest.mark.parametrize(("where", "kind"), [("remote", "sha2-256"), *(("local", kind) for kind in HASHES)])
def test_good_files_change_nothing(plan, tmp_path, where, kind):
    found = plan(where=where, kind=kind)
    report = mdive.run(found, tmp_path / "run", verify_inputs=True)
    assert report.status == "complete"
    assert report.plan.identity == found.identity
    assert said(report) == "of 3 files, 3 were compared with their checksum and 0 with their size alone; 0 failed."


@pytest.mark.parametrize("where", ["local", "remote"])
def test_a_flipped_bit_is_a_failed_read(plan, faulty, tmp_path, where):
    found = plan(where=where)
    flip(found, faulty)
    report = mdive.run(found, tmp_path / "run", verify_inputs=True)
    assert report.status == "partial"
    rows = read_ledger(report.path("ledger"))
    assert {(r["band"], r["cause"]) for r in rows} == {("vv", "checksum")}
    assert all("sha256 checksum" in r["message"] for r in rows)
    assert said(report).endswith("; 1 failed.")
    assert sum(r["pixels"] for r in rows) > 0
    if where == "remote":
        asked = [r for r in faulty.requests if r.endswith(vv(found).href.rpartition("/")[2])]
        assert len(asked) == -(-len(faulty.files[asked[0].rpartition("/")[2]]) // 10_000), "fetched once, to be compared, and not again"


def test_without_the_option_a_flipped_bit_is_not_seen(plan, faulty, tmp_path):
    """What the option is for: a changed number in a file that inflates is a number."""
    found = plan()
    path = Path(vv(found).href)
    data = bytearray(path.read_bytes())
    # The place of the file on the ground, one metre off: nothing but a checksum tells.
    data[-1] ^= 1
    path.write_bytes(data)
    report = mdive.run(found, tmp_path / "run")
    assert [r for r in report.plan.reasons if r.topic == "inputs"] == []
    assert mdive.run(found, tmp_path / "again", verify_inputs=True).status == "partial"


@pytest.mark.parametrize("where", ["local", "remote"])
def test_a_size_alone_is_compared_without_fetching_the_file(plan, faulty, tmp_path, where):
    found = plan(where=where, tell=("file:size",))
    href = vv(found).href
    name = href.rpartition("/")[2]
    if where == "remote":
        faulty.files[name] += b"x"
    else:
        Path(href).write_bytes(Path(href).read_bytes() + b"x")
    report = mdive.run(found, tmp_path / "run", verify_inputs=True)
    assert {r["cause"] for r in read_ledger(report.path("ledger"))} == {"checksum"}
    assert said(report) == "of 3 files, 0 were compared with their checksum and 3 with their size alone; 1 failed."
    if where == "remote":
        assert sum(r.endswith(name) for r in faulty.requests) == 1


def test_files_of_which_nothing_is_told_are_counted(plan, tmp_path):
    report = mdive.run(plan(only="vh"), tmp_path / "run", verify_inputs=True)
    assert report.status == "complete"
    assert said(report) == (
        "of 3 files, 1 were compared with their checksum and 0 with their size alone; 0 failed; "
        "2 could not be compared: their catalogue tells neither."
    )


def test_a_file_that_cannot_be_fetched_is_named_by_its_own_cause(plan, faulty, tmp_path):
    found = plan(where="remote")
    del faulty.files[vv(found).href.rpartition("/")[2]]
    report = mdive.run(found, tmp_path / "run", verify_inputs=True)
    assert {r["cause"] for r in read_ledger(report.path("ledger"))} == {"http_404"}


def test_what_was_found_is_kept_for_resume(plan, faulty, tmp_path):
    found = plan()
    flip(found, faulty)

    def stop(progress):
        if progress.stage == "pass" and progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mdive.run(found, tmp_path / "run", runtime=mdive.connect("serial"), watch=stop, verify_inputs=True)
    report = mdive.resume(tmp_path / "run")
    assert {r["cause"] for r in read_ledger(report.path("ledger"))} == {"checksum"}


def test_the_command_line(plan, faulty, tmp_path):
    found = plan()
    flip(found, faulty)
    folder = Path(vv(found).href).parent
    command = [sys.executable, "-m", "mdive", "run", "--event", folder / "event.yaml", "--catalog", folder / "catalog.json"]
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "run"), "--verify-inputs"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert {r["cause"] for r in read_ledger(tmp_path / "run" / "ledger.parquet")} == {"checksum"}


def test_checksums_that_are_none():
    assert as_multihash("1220" + "A" * 64) == "1220" + "a" * 64
    for value in (None, "", 7, "d41d8cd98f00b204e9800998ecf8427e", "1220" + "a" * 63, "1220" + "g" * 64, "1620" + "a" * 64):
        assert as_multihash(value) is None
