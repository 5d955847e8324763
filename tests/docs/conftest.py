"""The guides as they are written, and the two small events that they speak of."""

import shutil
from pathlib import Path

import pytest

from mdive.testing import make_flood_event, make_wildfire_event

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def demos(tmp_path_factory):
    """What ``mdive demo KIND --size-km 5`` leaves behind, without the run."""
    folder = tmp_path_factory.mktemp("demos")
    make_flood_event(folder / "demo/flood/event", size_km=5.0)
    make_wildfire_event(folder / "demo/wildfire/event", size_km=5.0)
    return folder


@pytest.fixture
def place(demos, tmp_path, monkeypatch):
    """A working directory with the demo events, as a reader of the guides has it; commands print 110 columns."""
    shutil.copytree(demos, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    return tmp_path


@pytest.fixture(scope="session")
def docs():
    return ROOT / "docs"


@pytest.fixture(scope="session")
def notebook():
    return ROOT / "notebooks" / "first_event.ipynb"
