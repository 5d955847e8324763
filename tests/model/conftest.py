"""What the tests of the documents share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

GOOD_EVENT = """\
id: river-2024
event_class: alpha.beta
description: What happened
area:
  bbox: [-0.60, 39.20, -0.20, 39.50]
window:
  start: 2024-10-28
  end: '2024-11-08'
baseline: {before: P60D}
intent:
  resolution: 30
  products: [extent]
"""


@pytest.fixture
def good_event():
    return GOOD_EVENT


@pytest.fixture
def event_file(tmp_path):
    """Write an event file and return its path."""

    def write(content, name="event.yaml"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def case_events():
    """Paths of the event files of the recorded real cases."""
    folder = Path(os.environ.get("MDIVE_REAL_DATA") or ROOT.parent / "shared" / "data")
    events = sorted(folder.glob("cases/*/event.yaml"))
    if not events:
        pytest.skip(f"no recorded cases in {folder} (set MDIVE_REAL_DATA)")
    return events


@pytest.fixture(scope="session")
def repository():
    return ROOT
