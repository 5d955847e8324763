"""mdive's own plugin enters by the same door, and a new file in the algorithms' room is the whole change."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

import mdive.algorithms
from mdive import builtin
from mdive.plugins.registry import algorithm_spec, algorithms, providers, registry, runtimes

ROOM = Path(mdive.algorithms.__file__).parent
DECLARED = {
    path.relative_to(ROOM).with_suffix("").as_posix().replace("/", "."): re.findall(r"^@algorithm\(\s*\"([^\"]+)\"", text, re.MULTILINE)
    for path in sorted(ROOM.rglob("*.py"))
    for text in [path.read_text()]
    if "@algorithm(" in text
}


def test_mdive_is_a_plugin_like_any_other_and_none_of_it_fails():
    found = registry()
    for noun in ("algorithm", "provider", "runtime", "writer", "event class"):
        found.offers(noun)
    assert not [str(failure) for failure in found.failures if failure.plugin.package == "mdive"]
    assert "mdive" in {plugin.package for plugin in found.plugins.values()}


@pytest.mark.parametrize("module", DECLARED)
def test_every_file_that_declares_algorithms_has_all_of_them_found(module):
    found = {f.__mdive_algorithm__.name for f in builtin.declared(importlib.import_module(f"mdive.algorithms.{module}"))}
    assert DECLARED[module], "an algorithm's name must stand as a literal right after @algorithm("
    assert found == set(DECLARED[module])


def test_walking_the_room_finds_exactly_what_its_files_declare():
    names = [name for found in DECLARED.values() for name in found]
    assert sorted(f.__mdive_algorithm__.name for f in builtin.mdive_algorithms()) == sorted(names)
    assert names


def test_every_algorithm_says_what_a_planner_and_a_reader_need():
    for name, spec in algorithms().items():
        assert spec.name == name
        assert spec.package.startswith("mdive ")
        assert spec.summary, name
        assert spec.references, name
        assert set(spec.phases) >= set(spec.needs), name
        assert spec.schema()["additionalProperties"] is False
        assert algorithm_spec(name) is spec


def test_a_new_file_in_the_room_is_the_whole_change(tmp_path, monkeypatch):
    package = tmp_path / "room_of_a_test"
    (package / "family").mkdir(parents=True)
    source = (
        "from mdive.plugins import RasterSpec, algorithm\n"
        "@algorithm({0!r}, version='1', needs={{}}, outputs=(RasterSpec(name='e', long_name='e', dtype='uint8'),), sensor='sar')\n"
        "def run(post, /):\n    'Run.'\n    return {{}}\n"
    )
    (package / "__init__.py").touch()
    (package / "new.py").write_text(source.format("x.new"))
    (package / "other.py").write_text("from room_of_a_test.new import run\n")
    (package / "_private.py").write_text("raise AssertionError('not to be walked')\n")
    (package / "family" / "__init__.py").touch()
    (package / "family" / "deep.py").write_text(source.format("x.deep"))
    monkeypatch.syspath_prepend(str(tmp_path))
    room = importlib.import_module("room_of_a_test")
    found = [f.__mdive_algorithm__.name for module in builtin.modules(room) for f in builtin.declared(module)]
    assert found == ["x.deep", "x.new"]
    for name in [name for name in sys.modules if name.startswith("room_of_a_test")]:
        del sys.modules[name]


def test_asking_for_event_classes_and_providers_imports_no_algorithm_and_no_heavy_library(site):
    code = """
    import json, sys
    from mdive.plugins.registry import event_class, event_classes, providers, runtimes
    event_class("fire"), event_classes(), providers(), runtimes()
    heavy = ("numba", "xarray", "dask", "distributed", "rasterio", "geopandas", "matplotlib", "scipy", "odc", "pystac")
    found = {m.split(".")[0] for m in sys.modules} & set(heavy) | {m for m in sys.modules if m.startswith("mdive.algorithms")}
    print(json.dumps(sorted(found)))
    """
    assert site.ask(code) == []


def test_runtimes_and_providers_are_there():
    assert runtimes() == {"serial": "mdive.runtime:serial", "threads": "mdive.runtime:threads"}
    assert {"earth-search", "planetary-computer"} <= set(providers())
    assert all(path.is_file() for path in providers().values())
