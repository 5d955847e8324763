"""Plan now, run later: the file that `mdive plan` wrote is what `mdive run` carries out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mdive.testing import make_flood_event


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_flood_event(tmp_path_factory.mktemp("made"), seed=2, size_km=4.0)


@pytest.fixture(scope="module")
def planned(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    said = mdive("plan", "--event", made.event, "--catalog", made.catalog, "--out", path)
    assert said.returncode == 0, said.stderr
    return path


def mdive(*arguments):
    command = [sys.executable, "-m", "mdive", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_plan_is_explained_and_run_without_its_catalogue(made, planned, tmp_path):
    explained = mdive("explain", "--event", planned, "--json")
    direct = mdive("explain", "--event", made.event, "--catalog", made.catalog, "--json")
    assert explained.returncode == 0, explained.stderr
    assert json.loads(explained.stdout) == json.loads(direct.stdout)
    moved = made.catalog.rename(made.catalog.with_suffix(".away"))
    try:
        said = mdive("run", "--event", planned, "--out", tmp_path / "run", "--json")
    finally:
        moved.rename(made.catalog)
    assert said.returncode == 0, said.stderr
    result = json.loads(said.stdout)
    assert result["manifest"]["plan_identity"] == json.loads(explained.stdout)["plan"]


@pytest.mark.parametrize("option", [("--catalog", "earth-search"), ("--tile-size", "512"), ("--param", "looks=3")])
def test_a_plan_is_frozen(planned, tmp_path, option):
    said = mdive("run", "--event", planned, "--out", tmp_path / "run", *option)
    assert said.returncode == 2
    assert len(said.stderr.strip().splitlines()) == 2
    assert option[0] in said.stderr
    assert not (tmp_path / "run").exists()


def test_a_plan_that_was_edited_is_refused_where_it_is_wrong(planned, tmp_path):
    document = json.loads(planned.read_text())
    document["grid"]["resolution"] = -1
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document, indent=1))
    said = mdive("run", "--event", path, "--out", tmp_path / "run")
    assert said.returncode == 3
    assert "grid" in said.stderr
    assert "resolution" in said.stderr
    assert not (tmp_path / "run").exists()


def test_a_dry_run_writes_nothing(made, tmp_path):
    said = mdive("run", "--event", made.event, "--catalog", made.catalog, "--out", tmp_path / "run", "--dry-run")
    assert said.returncode == 0
    assert "memory" in said.stdout
    assert not (tmp_path / "run").exists()


def test_explain_offline_is_an_option(planned):
    asked = mdive("explain", "--event", planned, "--offline", "--json")
    assert asked.returncode == 0, asked.stderr
    assert "requests" not in json.loads(asked.stdout)
    assert json.loads(mdive("explain", "--event", planned, "--json").stdout)["requests"] == 0
