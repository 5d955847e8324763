"""Packaged data is found from a wheel and from an editable install, and nothing else is taken for it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mdive
from mdive.errors import MdiveError
from mdive.plugins.resources import find_folder, resource_files, resource_folder

ROOT = Path(mdive.__file__).resolve().parents[2]
IS_CHECKOUT = (ROOT / "pyproject.toml").is_file() and (ROOT / "event_classes").is_dir()

ASK = """
import json, mdive
from mdive.plugins.registry import event_classes, providers, registry
from mdive.plugins.resources import resource_files
print(json.dumps({
    "from": mdive.__file__,
    "classes": sorted(event_classes()),
    "schemas": [path.name for path in resource_files("schemas", "*.schema.json")],
    "providers": sorted(providers()),
    "paths": [str(path) for path in (*resource_files("event_classes", "*.yaml"), *providers().values())],
    "failures": [str(failure) for failure in registry().failures],
}))
"""


def ask(cwd, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MDIVE_") and k != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", ASK], cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A wheel of this checkout, unpacked, as an installer would."""
    if not IS_CHECKOUT:
        pytest.skip("not a checkout: there is nothing to build a wheel from")
    out = tmp_path_factory.mktemp("wheel")
    if importlib.util.find_spec("hatchling"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    elif uv := shutil.which("uv"):
        command = [uv, "build", "--wheel", "--offline", "--python", sys.executable, "--out-dir", str(out), str(ROOT)]
    else:
        pytest.skip("needs hatchling or uv to build a wheel")
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if built.returncode and "hatchling" in built.stderr and "--offline" in command:
        pytest.skip("uv has no hatchling in its cache, and tests do not use the network")
    assert built.returncode == 0, built.stderr
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_a_wheel_carries_everything_and_finds_it(unpacked, tmp_path):
    said = ask(tmp_path, PYTHONPATH=str(unpacked))
    assert Path(said["from"]).is_relative_to(unpacked)
    assert not said["failures"]
    assert said["classes"] == sorted(ask(tmp_path)["classes"])
    assert said["schemas"] == sorted(path.name for path in (ROOT / "schemas").glob("*.schema.json"))
    assert said["schemas"]
    assert said["providers"] == sorted(path.stem for path in (ROOT / "src/mdive/providers/datasources").glob("*.yaml"))
    assert all(Path(path).is_relative_to(unpacked) for path in said["paths"])


def test_an_editable_install_finds_the_checkout_from_any_folder(tmp_path):
    if not IS_CHECKOUT:
        pytest.skip("mdive is not installed editable here")
    (tmp_path / "event_classes").mkdir()
    said = ask(tmp_path)
    assert not said["failures"]
    assert {"flood", "wildfire", "storm", "flood.riverine"} <= set(said["classes"])
    assert said["providers"]
    assert all(Path(path).is_relative_to(ROOT) for path in said["paths"])


def _layout(root, *, packaged, checkout, project=True, source="src"):
    package = root / source / "mdive"
    package.mkdir(parents=True)
    if project:
        (root / "pyproject.toml").touch()
    if packaged:
        (package / "_data" / "schemas").mkdir(parents=True)
    if checkout:
        (root / "schemas").mkdir()
    return package


def test_the_copy_in_the_wheel_comes_first(tmp_path):
    package = _layout(tmp_path, packaged=True, checkout=True)
    assert find_folder(package, "schemas") == package / "_data" / "schemas"


def test_a_strangers_folder_is_never_taken_for_mdives(tmp_path):
    for name, options in {
        "no-project": {"project": False},
        "site-packages": {"source": "site-packages"},
        "none": {"checkout": False},
    }.items():
        package = _layout(tmp_path / name, **{"packaged": False, "checkout": True, **options})
        with pytest.raises(MdiveError, match="Reinstall mdive"):
            find_folder(package, "schemas")


def test_the_packaged_folders_of_this_installation():
    assert resource_folder("event_classes").is_dir()
    assert [path.stem for path in resource_files("event_classes", "*.yaml")] == ["flood", "storm", "wildfire"]
