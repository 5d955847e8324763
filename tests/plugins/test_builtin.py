"""mdive's own plugin enters by the same door, and a new file in the algorithms' room is the whole change."""

from __future__ import annotations

import importlib
import re
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
    functions = [f for f in vars(importlib.import_module(f"mdive.algorithms.{module}")).values() if hasattr(f, "__mdive_algorithm__")]
    own = {f.__mdive_algorithm__.name: f.__name__ for f in functions if f.__module__ == f"mdive.algorithms.{module}"}
    assert DECLARED[module], "an algorithm's name must stand as a literal right after @algorithm("
    assert dict(builtin.declared(ROOM / f"{module}.py")) == own
    assert set(own) == set(DECLARED[module])


def test_walking_the_room_finds_exactly_what_its_files_declare():
    names = [name for found in DECLARED.values() for name in found]
    assert sorted(builtin.mdive_algorithms()) == sorted(names)
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


def test_a_new_file_in_the_room_is_the_whole_change(tmp_path):
    (tmp_path / "new.py").write_text(
        "import heavy\n@algorithm(\n    \"x.new\",\n    version='1',\n)\ndef run(post, /):\n    'Run.'\n\n"
        "def helper():\n    pass\n\n@algorithm(\"x.other\", version='2')\ndef other(post, /):\n    'Run.'\n"
    )
    assert dict(builtin.declared(tmp_path / "new.py")) == {"x.new": "run", "x.other": "other"}


def test_asking_for_one_algorithm_imports_no_other(site):
    code = """
    import json, sys
    from mdive.plugins.registry import algorithm_spec
    spec = algorithm_spec("wildfire.dnbr")
    found = {m.rpartition(".")[2] for m in sys.modules if m.startswith("mdive.algorithms.")}
    print(json.dumps([spec.name, algorithm_spec("wildfire.dnbr") is spec, "wildfire_dnbr" in found, any(m.startswith("flood") for m in found)]))
    """
    assert site.ask(code) == ["wildfire.dnbr", True, True, False]


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
