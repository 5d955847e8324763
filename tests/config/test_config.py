"""What a machine has, what a profile takes of it, and the settings that keep GDAL honest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest

from mdive import config
from mdive.config import GIB, MIB, Profile
from mdive.errors import InputError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("MDIVE_PROFILE", "MDIVE_WORKERS", "MDIVE_MEMORY"):
        monkeypatch.delenv(name, raising=False)


def test_profiles_grow_with_the_machine():
    names = list(config.PROFILES)
    assert names == ["edge", "laptop", "workstation", "cluster"]
    profiles = [config.profile(name) for name in names]
    for smaller, larger in pairwise(profiles):
        assert smaller.memory_share <= larger.memory_share < 1
        assert smaller.tile_size <= larger.tile_size
        assert smaller.fetch_threads <= larger.fetch_threads
        assert smaller.gdal_cache <= larger.gdal_cache
        assert smaller.block_store <= larger.block_store
    assert all(profile.fetch_threads >= 16 for profile in profiles[1:]), "fewer requests in flight leave the line idle"


def test_an_argument_beats_the_environment_which_beats_the_profile(monkeypatch):
    assert config.profile().name == "laptop"
    monkeypatch.setenv("MDIVE_PROFILE", "edge")
    assert config.profile().name == "edge"
    assert config.profile("cluster").name == "cluster"
    edge = config.profile()
    assert config.worker_count(edge) == 1
    monkeypatch.setenv("MDIVE_WORKERS", "3")
    assert config.worker_count(edge) == 3
    assert config.worker_count(edge, 2) == 2
    monkeypatch.setenv("MDIVE_MEMORY", "1.5 GiB")
    assert config.memory_budget(edge) == 3 * GIB // 2
    assert config.memory_budget(edge, 100 * MIB) == 100 * MIB


def test_the_share_is_of_what_is_free_and_capped(monkeypatch):
    monkeypatch.setattr(config, "available_memory", lambda: 10 * GIB)
    assert config.memory_budget(Profile("x", "", 0.5, None, None, 1, 1, 1, 1)) == 5 * GIB
    assert config.memory_budget(Profile("x", "", 0.5, 2 * GIB, None, 1, 1, 1, 1)) == 2 * GIB


@pytest.mark.parametrize(
    ("variable", "value", "ask"),
    [
        ("MDIVE_PROFILE", "labtop", config.profile),
        ("MDIVE_WORKERS", "many", lambda: config.worker_count(config.profile("edge"))),
        ("MDIVE_WORKERS", "-1", lambda: config.worker_count(config.profile("edge"))),
        ("MDIVE_WORKERS", "0", lambda: config.worker_count(config.profile("edge"))),
        ("MDIVE_MEMORY", "lots", lambda: config.memory_budget(config.profile("edge"))),
        ("MDIVE_MEMORY", "0", lambda: config.memory_budget(config.profile("edge"))),
    ],
)
def test_a_wrong_setting_is_two_lines(monkeypatch, variable, value, ask):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as caught:
        ask()
    assert caught.value.hint
    assert str(caught.value).count("\n") == 1


def test_a_misspelt_profile_is_told_the_near_one(monkeypatch):
    with pytest.raises(InputError, match=r"no profile 'labtop'\. Did you mean 'laptop'"):
        config.profile("labtop")
    monkeypatch.setenv("MDIVE_PROFILE", "cloud")
    with pytest.raises(InputError, match="from MDIVE_PROFILE"):
        config.profile()


def _group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_every_level_of_a_version_2_control_group_counts(tmp_path):
    root, table = tmp_path / "cgroup", tmp_path / "table"
    table.write_text("0::/slurm/job_7/step_0\n")
    _group(root)
    _group(root / "slurm", memory__max="max\n", memory__current="0\n", memory__stat="inactive_file 0\n")
    _group(root / "slurm/job_7", memory__max=f"{2 * GIB}\n", memory__current=f"{GIB}\n", memory__stat=f"anon 5\ninactive_file {GIB // 4}\n")
    _group(root / "slurm/job_7/step_0", memory__max=f"{4 * GIB}\n", memory__current=f"{GIB}\n", memory__stat="inactive_file 0\n")
    # File cache that the kernel would give back counts as free.
    assert sorted(config._control_group_room(table, root)) == [GIB + GIB // 4, 3 * GIB]


def test_version_1_and_a_container_that_does_not_see_its_own_path(tmp_path):
    root, table = tmp_path / "cgroup", tmp_path / "table"
    table.write_text("9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n")
    files = {"memory__limit_in_bytes": f"{GIB}\n", "memory__usage_in_bytes": f"{GIB // 2}\n", "memory__stat": "total_inactive_file 0\n"}
    _group(root / "memory", **files)
    assert list(config._control_group_room(table, root)) == [GIB // 2]


def test_no_control_groups_no_limit(tmp_path):
    assert list(config._control_group_room(tmp_path / "none", tmp_path)) == []
    assert list(config._control_group_cores(tmp_path / "none", tmp_path)) == []


def test_every_level_of_a_version_2_control_group_limits_the_cores(tmp_path):
    root, table = tmp_path / "cgroup", tmp_path / "table"
    table.write_text("0::/slurm/job_7/step_0\n")
    _group(root, cpu__max="no numbers\n")
    _group(root / "slurm", cpu__max="max 100000\n")
    _group(root / "slurm/job_7", cpu__max="150000 100000\n")
    _group(root / "slurm/job_7/step_0")  # a level without the controller
    assert list(config._control_group_cores(table, root)) == [1.5]


def test_version_1_limits_the_cores_whatever_shares_its_mount(tmp_path):
    root, table = tmp_path / "cgroup", tmp_path / "table"
    table.write_text("9:name=systemd:/\n7:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n")
    _group(root / "cpuset", cpu__cfs_quota_us="1\n", cpu__cfs_period_us="100000\n")
    _group(root / "cpu", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert list(config._control_group_cores(table, root)) == []
    # Seen from within, the path in the table is not there; seen from without, it is.
    _group(root / "cpu", cpu__cfs_quota_us="250000\n", cpu__cfs_period_us="100000\n")
    assert list(config._control_group_cores(table, root)) == [2.5]
    _group(root / "cpu/docker/abc", cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n")
    assert list(config._control_group_cores(table, root)) == [0.5, 2.5]


@pytest.mark.parametrize("path", [b"/", b"/../../other", b"/user.slice/a:b", b"/caf\xe9", b"/a\x85b\x1cc"])
def test_no_name_of_a_control_group_is_an_error(tmp_path, path):
    root, table = tmp_path / "cgroup", tmp_path / "table"
    table.write_bytes(b"0::" + path + b"\n")
    _group(root, cpu__max="300000 100000\n")
    assert list(config._control_group_cores(table, root)) == [3.0]


@pytest.mark.parametrize(("shares", "cores"), [([], 8), ([1.5], 2), ([0.01], 1), ([2.0, 64.0], 2), ([64.0], 8)])
def test_cores_are_those_that_binding_and_control_groups_leave(monkeypatch, shares, cores):
    monkeypatch.setattr(config.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(config, "_control_group_cores", lambda: iter(shares))
    assert config.core_count() == cores


def test_what_is_free_is_positive_and_less_than_the_machine():
    import psutil

    assert 0 < config.available_memory() < psutil.virtual_memory().total


def _python(code, *arguments, **environment):
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    run = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS binds only on Linux")
def test_an_address_space_limit_counts():
    code = (
        "import json, resource; from mdive import config; b = config.available_memory();"
        "resource.setrlimit(resource.RLIMIT_AS, (600 * config.MIB, resource.RLIM_INFINITY));"
        "print(json.dumps([b, config.available_memory()]))"
    )
    before, after = _python(code)
    assert 0 < after < 600 * MIB
    assert after < before


READ_VRT = """
import json, os, sys
from mdive.config import GDAL_SKIPPED, protect_gdal
import_first, use_first = json.loads(sys.argv[1])
if import_first:
    import rasterio
    if use_first:
        with rasterio.Env(): pass
held = protect_gdal()
import rasterio
try:
    rasterio.open(os.environ["LEAK"]).close()
    opened = True
except rasterio.errors.RasterioIOError:
    opened = False
with rasterio.Env() as env:
    left = [driver for driver in GDAL_SKIPPED if driver in env.drivers()]
print(json.dumps([held, opened, left, os.environ["GDAL_SKIP"]]))
"""


@pytest.mark.parametrize(("import_first", "use_first"), [(False, False), (True, False), (True, True)])
def test_a_vrt_that_points_elsewhere_is_not_opened_and_late_protection_says_that_it_is_none(tmp_path, import_first, use_first):
    leak = tmp_path / "leak.vrt"
    leak.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>')
    said = _python(READ_VRT, json.dumps([import_first, use_first]), LEAK=str(leak), GDAL_SKIP="DODS")
    held, opened, left, setting = said
    assert held is not use_first
    assert opened is use_first
    assert bool(left) is use_first
    assert setting.split(",")[0] == "DODS", "what the user switched off stays off"


def test_settings_of_the_user_win(monkeypatch):
    laptop = config.profile("laptop")
    monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", "NO")
    found = config.gdal_settings(laptop)
    assert "GDAL_DISABLE_READDIR_ON_OPEN" not in found
    assert found["GDAL_CACHEMAX"] == 64 * MIB
    assert "GDAL_NUM_THREADS" not in found


def test_gdal_takes_the_settings():
    import rasterio
    from rasterio._env import get_gdal_config

    with rasterio.Env(**config.gdal_settings(config.profile("edge"))):
        assert get_gdal_config("GDAL_DISABLE_READDIR_ON_OPEN") == "EMPTY_DIR"
        assert get_gdal_config("GDAL_CACHEMAX") == 32 * MIB


def test_profiles_are_told_in_words():
    assert all(profile.summary for profile in config.PROFILES.values())
