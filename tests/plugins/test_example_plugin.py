"""The example of a plugin, as a stranger has it: copied out of the source tree, installed by pip, found, and checked by the kit."""

import importlib.util
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "mdive-plugin-example"

_spec = importlib.util.spec_from_file_location("outside", ROOT / "tests" / "docs" / "outside.py")
outside = importlib.util.module_from_spec(_spec)
sys.modules["outside"] = outside
_spec.loader.exec_module(outside)


def test_it_installs_from_outside_and_keeps_its_promises(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    variables = outside.environment(tmp_path / "venv")
    outside.shell("pip install --quiet ./copy", tmp_path, variables)
    shutil.rmtree(copy)
    told = outside.shell("mdive algorithms", tmp_path, variables)
    assert "snow.ndsi" in told
    assert "snow.patches" in told
    found = outside.shell("pytest -q --mdive-plugin snow", tmp_path, variables)
    assert " passed" in found
    assert "failed" not in found


def test_its_own_test_is_short():
    lines = (EXAMPLE / "tests" / "test_snow.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) == 5
