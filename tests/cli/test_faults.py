"""Faults of the data and of the disk, through the command line: said in two lines, nothing lost, nothing called dry."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from mdive.products import read_ledger
from mdive.testing import make_flood_event

MDIVE = [sys.executable, "-m", "mdive"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_flood_event(tmp_path_factory.mktemp("made"), seed=5, size_km=5.0)


@pytest.fixture(scope="module")
def calm(made, tmp_path_factory):
    """The rasters of an undisturbed run."""
    out = tmp_path_factory.mktemp("calm") / "out"
    assert run(made.folder, out, "--tile-size", "256").returncode == 0
    return out


@pytest.fixture
def catalogue(made, tmp_path):
    folder = tmp_path / "catalogue"
    shutil.copytree(made.folder, folder)
    return folder


def mdive(*arguments, **options):
    return subprocess.run([*MDIVE, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **options)


def run(folder, out, *more, **options):
    return mdive("run", "--event", folder / "event.yaml", "--catalog", folder / "catalog.json", "--out", out, *more, **options)


def item_of(folder, word):
    (path,) = [p for p in folder.glob("*.json") if word in p.name and json.loads(p.read_text()).get("type") == "Feature"]
    return path, json.loads(path.read_text())


def two_lines(said):
    lines = [line for line in said.stderr.splitlines() if line.strip()]
    assert len(lines) == 2, said.stderr
    assert said.stdout == ""
    return said.stderr


def rasters(out):
    manifest = json.loads((out / "manifest.json").read_text())
    return {p["name"]: p["sha256"] for p in manifest["products"] if p["path"].endswith(".tif")}


def test_a_band_that_no_item_has(catalogue, tmp_path):
    path, item = item_of(catalogue, "20240313")
    item["assets"] = {"thumbnail": {"href": "thumbnail.png", "type": "image/png"}}
    path.write_text(json.dumps(item))
    said = run(catalogue, tmp_path / "out")
    assert said.returncode == 4
    assert "synthetic-sar-20240313" in two_lines(said)
    assert not (tmp_path / "out").exists()


def reproject(item, code):
    item["properties"]["proj:code"] = code
    for asset in item["assets"].values():
        if "proj:code" in asset:
            asset["proj:code"] = code


def test_a_catalogue_that_names_another_crs_than_its_files_have(catalogue, calm, tmp_path):
    """File and footprint agree, the item's projection does not: two witnesses against one."""
    path, item = item_of(catalogue, "20240313")
    reproject(item, "EPSG:32634")
    path.write_text(json.dumps(item))
    assert run(catalogue, tmp_path / "out").returncode == 0
    found, right = (folder / "products" / "extent.tif" for folder in (tmp_path / "out", calm))
    with rasterio.open(found) as a, rasterio.open(right) as b:
        np.testing.assert_array_equal(a.read(1), b.read(1))


def test_a_file_that_lies_elsewhere_than_its_catalogue_says(catalogue, tmp_path):
    """The file itself is in another place: nothing of it is used, and nobody calls it dry."""
    for path in catalogue.glob("sar_post_*.tif"):
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
            dataset.crs = rasterio.CRS.from_epsg(32634)
    out = tmp_path / "out"
    said = run(catalogue, out)
    assert said.returncode == 5, said.stderr
    rows = read_ledger(out / "ledger.parquet")
    assert {(r["cause"], r["band"]) for r in rows} == {("misplaced", "vv"), ("misplaced", "vh")}
    with rasterio.open(out / "products" / "extent.tif") as extent, rasterio.open(out / "products" / "cause.tif") as cause:
        causes = cause.read(1)
        assert set(np.unique(extent.read(1))) == {255}
        assert set(np.unique(causes)) <= {3, 255}
    for band in ("vv", "vh"):
        assert sum(r["pixels"] for r in rows if r["band"] == band) == (causes == 3).sum()


def test_a_folder_that_cannot_be_written(catalogue):
    said = run(catalogue, "/proc/mdive-out")
    assert said.returncode == 1
    two_lines(said)


@pytest.mark.parametrize("limit", [150, 400])
def test_a_disk_that_is_full_in_the_middle_of_a_run(catalogue, calm, tmp_path, limit):
    """Files cannot grow beyond a limit: checkpoints or products fail, resume ends the run to the same bytes."""
    out = tmp_path / "out"

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit << 10, limit << 10))

    # The calm run has filled the cache of compiled kernels, so the limit meets only what a run writes.
    said = run(catalogue, out, "--tile-size", "256", preexec_fn=small)
    assert not (out / "manifest.json").exists()
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    assert "could not be written" in said.stderr
    assert mdive("verify", out).returncode == 1
    assert mdive("resume", out).returncode == 0
    assert rasters(out) == rasters(calm)


def test_a_folder_on_a_full_disk_is_refused_before_anything_is_written(catalogue, tmp_path, monkeypatch):
    from mdive.cli import main

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 5 << 20))
    out = tmp_path / "out"
    command = ["mdive", "run", "--event", catalogue / "event.yaml", "--catalog", catalogue / "catalog.json", "--out", out]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert not out.exists()


def test_what_was_found_does_not_depend_on_where_it_was_started(catalogue, calm, tmp_path):
    said = mdive("run", "--event", "event.yaml", "--catalog", "catalog.json", "--out", "../b", cwd=catalogue)
    assert said.returncode == 0, said.stderr
    assert rasters(tmp_path / "b") == rasters(calm)
    assert Path(tmp_path / "b" / "manifest.json").exists()


def test_a_full_stdout_is_said_and_a_reader_that_leaves_is_not():
    with Path("/dev/full").open("w") as full:
        said = subprocess.run([*MDIVE, "algorithms"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert said.returncode == 1
    assert "stdout could not be written" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 2
    left = subprocess.run(f"{sys.executable} -m mdive schema event | head -1", shell=True, capture_output=True, text=True, check=False)
    assert left.stdout.strip() == "{"
    assert left.stderr == ""


def test_a_locale_without_signs_ends_nothing(made, tmp_path):
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert mdive("algorithms", "flood.sar_threshold", env=plain).returncode == 0
    said = run(made.folder, tmp_path / "out", env=plain)
    assert said.returncode == 0, said.stderr


def test_a_user_without_a_home_or_a_writable_installation(made, tmp_path):
    """A container or a batch node: compiled kernels go to a folder of the user's own."""
    source = Path(sys.modules["mdive"].__file__).parent
    install = tmp_path / "site"
    shutil.copytree(source, install / "mdive", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import os, sys; os.access = lambda *a, **k: False; from mdive.cli import main; main()"
    command = [sys.executable, "-B", "-c", code, "algorithms"]
    env = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "PYTHONPATH": str(install), "TMPDIR": str(tmp_path)}
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert said.returncode == 0, said.stderr
    assert (tmp_path / f"mdive-kernels-{os.getuid()}").is_dir()


@pytest.mark.parametrize("harm", [lambda p: p.write_text("{"), lambda p: p.write_text(p.read_text().replace('"x0"', '"x9"'))])
def test_a_damaged_plan_is_refused(calm, tmp_path, harm):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(calm / "plan.json", folder)
    harm(folder / "plan.json")
    said = mdive("resume", folder)
    assert said.returncode == 1
    assert "is no plan of this version" in two_lines(said)
