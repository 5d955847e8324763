"""A read-only installation without a home still finds a place for compiled kernels, and one that nobody else can write."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from mdive import config


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Neither the package nor the home can be written."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    yield tmp_path
    os.environ.pop("NUMBA_CACHE_DIR", None)


def test_a_folder_of_its_own(nowhere):
    config.find_kernel_cache()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder.parent == nowhere
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    first = os.environ.pop("NUMBA_CACHE_DIR")
    config.find_kernel_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == first


@pytest.mark.parametrize("trap", ["open to all", "a link"])
def test_a_folder_that_others_could_fill_is_not_used(nowhere, trap):
    name = nowhere / f"mdive-kernels-{os.getuid()}"
    if trap == "a link":
        (nowhere / "elsewhere").mkdir(mode=0o700)
        name.symlink_to(nowhere / "elsewhere")
    else:
        name.mkdir()
        name.chmod(0o777)
    config.find_kernel_cache()
    assert Path(os.environ["NUMBA_CACHE_DIR"]) != name
    assert stat.S_IMODE(Path(os.environ["NUMBA_CACHE_DIR"]).stat().st_mode) == 0o700


def test_a_setting_of_the_users_own_stays(nowhere, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/mine")
    config.find_kernel_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == "/mine"


def test_where_the_package_can_be_written_nothing_changes(monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(os, "access", lambda *_: True)
    config.find_kernel_cache()
    assert "NUMBA_CACHE_DIR" not in os.environ
