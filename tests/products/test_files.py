"""Files: whole or not at all, checksums, pre-flight, and no secrets."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

from mdive.errors import RunFolderError
from mdive.model.address import redact, without_query
from mdive.products import check_writable, publish, sha256_file, staged, write_json_atomic
from mdive.products.files import write_error


def test_sha256_and_size(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == (hashlib.sha256(data).hexdigest(), len(data))
    (tmp_path / "b").touch()
    assert sha256_file(tmp_path / "b") == (hashlib.sha256().hexdigest(), 0)


def test_publish_replaces_and_syncs_file_and_folder(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))[1])
    monkeypatch.setattr(type(tmp_path), "replace", lambda self, to: (events.append("rename"), replace(self, to))[1])
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    publish(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
    assert not (tmp_path / "new").exists()
    assert events == [str(tmp_path / "new"), "rename", str(tmp_path)]


def test_publish_syncs_and_replaces_a_folder_with_all_that_is_in_it(tmp_path, monkeypatch):
    for name in ("old/stale", "new/a/b", "new/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    events = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(Path(f"/proc/self/fd/{fd}").readlink()), fsync(fd))[1])
    publish(tmp_path / "new", tmp_path / "old")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["old", "old/a", "old/a/b", "old/c"]
    assert events == [tmp_path / name for name in ("new/a/b", "new/a", "new/c", "new", ".")]


def test_a_failed_block_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with staged(path) as target:
            target.write_text("half")
            (target.parent / "litter").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_sorted_readable_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json_atomic(path, {"b": [1, 2.5], "a": "é"})
    assert path.read_text() == '{\n  "a": "é",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(path, {"a": float("nan")})
    assert json.loads(path.read_text())["a"] == "é"


def test_errors_have_two_lines_and_travel(tmp_path):
    with pytest.raises(RunFolderError) as caught:
        write_json_atomic(tmp_path / "none" / "a.json", {})
    assert len(str(caught.value).splitlines()) == 2
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    hidden = RuntimeError("driver failed")
    hidden.__cause__ = OSError(28, "No space left on device")
    assert "No space left" in write_error(tmp_path / "a", hidden).message
    assert "Free some space" in write_error(tmp_path / "a", hidden).hint


def test_a_good_folder_passes_and_nothing_is_left_in_it(tmp_path):
    check_writable(tmp_path, 1)
    check_writable(tmp_path / "new", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing parent", "file", "parent is a file", "disk"])
def test_a_folder_that_cannot_take_the_result(tmp_path, kind):
    (tmp_path / "file").touch()
    folder, size = {
        "missing parent": (tmp_path / "a" / "b", 0),
        "file": (tmp_path / "file", 0),
        "parent is a file": (tmp_path / "file" / "b", 0),
        "disk": (tmp_path / "c", shutil.disk_usage(tmp_path).total * 2),
    }[kind]
    with pytest.raises(RunFolderError) as caught:
        check_writable(folder, size)
    assert len(str(caught.value).splitlines()) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_read_only_folder(tmp_path):
    """Even for root, who may write where permission bits say no."""
    place = tmp_path / "ro"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        place.chmod(0o500)
        if os.access(place, os.W_OK):
            pytest.skip("neither a read-only mount nor permission bits bind this user")
    try:
        for folder in (place, place / "new"):
            with pytest.raises(RunFolderError, match="cannot be written"):
                check_writable(folder, 0)
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("href", "clean"),
    [
        ("https://x.org/a.tif?sig=abc&se=1", "https://x.org/a.tif"),
        ("https://user:pass@x.org/a.tif#top", "https://x.org/a.tif"),
        ("s3://bucket/key with space.tif", "s3://bucket/key with space.tif"),
        ("/vsicurl/https://x.org/a.tif?token=1", "/vsicurl/https://x.org/a.tif"),
        ("/vsicurl?pc_url_signing=yes&url=https://x.org/a.tif", "https://x.org/a.tif"),
        ("https://x.org?key=1", "https://x.org"),
        ("/data/what?/a#1.tif", "/data/what?/a#1.tif"),
        ("", ""),
    ],
)
def test_addresses_lose_their_secrets(href, clean):
    assert without_query(href) == clean
    assert without_query(clean) == clean


def test_messages_lose_their_secrets():
    text = "GET https://me:CANARY@x.org/a.tif?sig=CANARY failed: token=CANARY; Authorization: Bearer CANARY, password : CANARY (HTTP 403)"
    assert "CANARY" not in redact(text)
    assert "HTTP 403" in redact(text)
    assert "https://x.org/a.tif" in redact(text)
