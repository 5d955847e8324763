"""A small synthetic event with truth, planned once."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import mdive
from mdive.model import load_event
from mdive.testing import make_flood_event, make_wildfire_event


@pytest.fixture(scope="session")
def flood(tmp_path_factory):
    made = make_flood_event(tmp_path_factory.mktemp("flood"), seed=3, size_km=4.0)
    return SimpleNamespace(made=made, event=load_event(made.event), catalog=str(made.catalog))


@pytest.fixture(scope="session")
def fire(tmp_path_factory):
    made = make_wildfire_event(tmp_path_factory.mktemp("fire"), seed=3, size_km=5.0)
    return SimpleNamespace(made=made, event=load_event(made.event), catalog=str(made.catalog))


@pytest.fixture(params=["flood", "fire"])
def scene(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def shas():
    def read(folder):
        manifest = json.loads((Path(folder) / "manifest.json").read_text())
        return {p["name"]: p["sha256"] for p in manifest["products"] if p["path"].endswith((".tif", ".parquet"))}

    return read


@pytest.fixture(scope="session")
def calm(flood, tmp_path_factory, shas):
    """The products of an undisturbed serial run of the flood."""
    plan = mdive.plan(flood.event, catalog=flood.catalog, tile_size=128)
    report = mdive.run(plan, tmp_path_factory.mktemp("calm") / "run", runtime=mdive.connect("serial"))
    return SimpleNamespace(plan=plan, report=report, shas=shas(report.folder))


@pytest.fixture(scope="session")
def cases():
    root = Path(os.environ.get("MDIVE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data")) / "cases"
    if not root.is_dir():
        pytest.skip(f"real data are not here ({root})")
    return root
