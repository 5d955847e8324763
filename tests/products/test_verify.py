"""Verification: every kind of damage is found, named, and nothing outside the folder is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from mdive.products import sha256_file, verify_products


@pytest.fixture
def run(tmp_path, specs, make_grid, save, pictures):
    folder = tmp_path / "run"
    (folder / "products").mkdir(parents=True)
    save(folder / "products" / "extent.tif", specs.extent, make_grid((700, 700)), pictures((700, 700))["extent"])
    (folder / "report.html").write_text("<p>")
    products = []
    for path in ("products/extent.tif", "report.html"):
        sha, size = sha256_file(folder / path)
        products.append({"name": path, "path": path, "media_type": "x/y", "sha256": sha, "size": size})
    return folder, {"products": products}


def kinds(run):
    return [(p.path, p.kind) for p in verify_products(*run)]


def test_an_untouched_run_has_no_problem(run):
    assert verify_products(*run) == []


def test_a_missing_file(run):
    (run[0] / "report.html").unlink()
    assert kinds(run) == [("report.html", "missing")]


def test_a_shorter_file(run):
    path = run[0] / "products" / "extent.tif"
    path.write_bytes(path.read_bytes()[:-1])
    assert kinds(run) == [("products/extent.tif", "size")]


@pytest.mark.parametrize("place", [8, 0.3, 0.9, -1])
def test_one_flipped_bit(run, place):
    path = run[0] / "products" / "extent.tif"
    data = bytearray(path.read_bytes())
    data[int(place * len(data)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(data)
    assert kinds(run) == [("products/extent.tif", "sha256")]
    assert "was changed" in str(verify_products(*run)[0])


def test_a_raster_that_was_never_a_cog(run):
    folder, manifest = run
    path = folder / "products" / "extent.tif"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    sha, size = sha256_file(path)
    manifest["products"][0] |= {"sha256": sha, "size": size}
    assert kinds(run) == [("products/extent.tif", "unreadable")]


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "products/../../secret", "link"])
def test_a_path_that_leads_out(run, path):
    folder, manifest = run
    (folder.parent / "secret").write_text("s")
    (folder / "link").symlink_to(folder.parent / "secret")
    sha, size = sha256_file(folder.parent / "secret")
    manifest["products"].append({"name": "x", "path": path, "media_type": "x/y", "sha256": sha, "size": size})
    assert kinds(run) == [(path, "manifest"), *([] if path == "link" else [("link", "unlisted")])]


@pytest.mark.parametrize("path", ["products/flood_final.tif", "products/old/extent.tif", "notes.txt", "products/extent.tif.aux.xml"])
def test_a_file_that_nobody_listed(run, path):
    (run[0] / path).parent.mkdir(exist_ok=True)
    (run[0] / path).write_bytes(b"x")
    assert kinds(run) == [(path, "unlisted")]
    assert str(verify_products(*run)[0]) == f"{path}: is not of this run: manifest.json does not list it"


def test_a_linked_folder_is_a_stranger_and_is_not_walked(run):
    (run[0].parent / "elsewhere").mkdir()
    (run[0].parent / "elsewhere" / "secret").write_text("s")
    (run[0] / "products" / "more").symlink_to(run[0].parent / "elsewhere")
    assert kinds(run) == [("products/more", "unlisted")]


def test_lock_scratch_and_the_manifest_itself_are_no_strangers(run):
    (run[0] / ".lock").write_text("")
    (run[0] / "products" / ".nfs0001").write_text("")
    (run[0] / ".scratch").mkdir()
    (run[0] / ".scratch" / "p0-t0").write_text("x")
    (run[0] / "manifest.json").write_text("{}")
    (run[0] / "products" / "empty").mkdir()
    assert verify_products(*run) == []


def test_every_kind_of_damage_is_told_at_once(run):
    (run[0] / "report.html").unlink()
    (run[0] / "stranger").write_text("s")
    assert kinds(run) == [("report.html", "missing"), ("stranger", "unlisted")]


def test_an_entry_without_checksum(run):
    run[1]["products"].append({"name": "x", "path": "report.html"})
    assert kinds(run) == [("manifest.json", "manifest")]
