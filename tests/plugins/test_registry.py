"""Strangers' plugins: isolated, named when they fail, and never able to win by being first."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points

import pytest

from mdive.errors import PluginError
from mdive.plugins import registry as registry_module
from mdive.plugins.registry import Registry
from mdive.providers import open_catalog


def test_an_installed_package_provides_an_algorithm_under_its_own_name_and_version(site):
    module = site.install("good-plugin", site.algorithms("quake.damage"), version="1.2.3")
    spec = site.registry().find("algorithm", "quake.damage").value
    assert spec.package == "good-plugin 1.2.3"
    # The function itself is untouched: it pickles by name, as workers need.
    function = sys.modules[module].quake_damage
    assert spec.function is function
    assert pickle.loads(pickle.dumps(function)) is function
    assert function.__mdive_algorithm__.package == "mdive"


BROKEN = {
    "import error": ("import a_library_that_is_not_there\n", "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"),
    "exit": ("import sys\nsys.exit(3)\n", "SystemExit: it called sys.exit(3)"),
    "syntax": ("def (:\n", "SyntaxError"),
    "misspelt hook": (
        "@hookimpl\ndef mdive_algoritms():\n    return []\n",
        "unknown hook 'mdive_algoritms'. Did you mean 'mdive_algorithms'?",
    ),
    "misspelt specname": (
        "@hookimpl(specname='mdive_writer')\ndef f():\n    return {}\n",
        "unknown hook 'mdive_writer'. Did you mean 'mdive_writers'?",
    ),
    "misspelt hook in disguise": ("@staticmethod\n@hookimpl\ndef mdive_algoritms():\n    return []\n", "unknown hook 'mdive_algoritms'"),
    "unmarked hook": ("def mdive_algorithms():\n    return []\n", "'mdive_algorithms' is not marked with @hookimpl"),
    "arguments": ("@hookimpl\ndef mdive_algorithms(config):\n    return []\n", "config"),
    "wrapper": ("@hookimpl(wrapper=True)\ndef mdive_algorithms():\n    return (yield)\n", "is a hook wrapper"),
    "no api": ("del mdive_api\n", "mdive_api None; this mdive has mdive_api = 1"),
    "later api": ("mdive_api = 2\n", "mdive_api 2; this mdive has mdive_api = 1"),
    "hook raises": ("@hookimpl\ndef mdive_algorithms():\n    raise RuntimeError('no\\nlicence')\n", "RuntimeError: no licence"),
    "hook exits": ("@hookimpl\ndef mdive_algorithms():\n    raise SystemExit\n", "SystemExit: it called sys.exit(None)"),
    "gives nothing": ("@hookimpl\ndef mdive_algorithms():\n    pass\n", "NoneType where a list is needed"),
    "gives a mapping": ("@hookimpl\ndef mdive_algorithms():\n    return {'a.b': len}\n", "is not of the form 'module:function'"),
    "gives a misspelt name": ("@hookimpl\ndef mdive_algorithms():\n    return {'A.b': 'json:loads'}\n", "not of the form 'family.name'"),
    "gives strangers": ("@hookimpl\ndef mdive_algorithms():\n    return [len]\n", "not declared with @algorithm"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_named_with_its_reason_and_takes_nobody_along(site, kind):
    body, reason = BROKEN[kind]
    site.install("broken-plugin", body, version="0.9")
    site.install("good-plugin", site.algorithms("quake.damage"))
    registry = site.registry()
    assert registry.find("algorithm", "quake.damage").plugin.package == "good-plugin"
    assert registry.find("runtime", "serial").value == "mdive.runtime:serial"
    with pytest.raises(PluginError) as caught:
        registry.find("algorithm", "what.it.would.have.provided")
    assert "These plugins failed to load: broken-plugin 0.9 (entry point 'broken-plugin'): " in caught.value.hint
    assert reason in caught.value.hint
    assert "\n" not in caught.value.hint
    assert len(registry.failures) == 1


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{module}:thing", "names a dict, not a module"),
        ("{module}:nothing", "AttributeError"),
        ("not_a_module_at_all", "ModuleNotFoundError"),
    ],
)
def test_an_entry_point_must_name_a_module(site, entry, reason):
    site.install("broken-plugin", "thing = {}\n", entry=entry)
    (failure,) = site.registry().failures
    assert reason in failure.reason


def test_a_user_who_interrupts_is_obeyed(site):
    site.install("slow-plugin", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        site.registry()


@pytest.mark.parametrize("mark", ["@hookimpl", "@staticmethod\n@hookimpl"])
def test_a_plugin_with_one_wrong_hook_provides_nothing_by_its_right_ones(site, mark):
    site.install("half-plugin", site.algorithms("quake.damage") + f"\n{mark}\ndef mdive_runtime():\n    return {{}}\n")
    registry = site.registry()
    assert "quake.damage" not in registry.offers("algorithm")
    assert "half-plugin" in registry.missing()


def test_a_hook_that_fails_half_way_provides_nothing_but_the_other_hooks_of_its_plugin_still_do(site):
    body = site.algorithms("quake.damage").replace("return [quake_damage]", "yield quake_damage\n    raise OSError('disk')")
    site.install("half-plugin", body + "\n@hookimpl\ndef mdive_writers():\n    return {'tiles': 'json:dumps'}\n")
    registry = site.registry()
    assert "quake.damage" not in registry.offers("algorithm")
    assert registry.find("writer", "tiles").plugin.package == "half-plugin"
    assert [failure.reason for failure in registry.failures] == ["OSError: disk"]


HEAD = """
from mdive.plugins import RasterSpec, algorithm, hookimpl
EXTENT = RasterSpec(name="extent", long_name="x", dtype="uint8")
"""
PLACES = "\n@hookimpl\ndef mdive_algorithms():\n    return {places}\n"


def test_an_algorithm_that_is_given_by_its_place_is_imported_when_it_is_asked_for(site):
    site.install("heavy-plugin", PLACES.format(places={"quake.damage": "heavy_parts:damage"}))
    parts = site.algorithms("quake.damage").partition("@hookimpl")[0].replace("def quake_damage", "def damage")
    (site.folder / "heavy_parts.py").write_text(f"{HEAD}{parts}")
    registry = site.registry()
    assert "quake.damage" in registry.offers("algorithm")
    assert "heavy_parts" not in sys.modules
    spec = registry.find("algorithm", "quake.damage").value
    assert (spec.name, spec.package) == ("quake.damage", "heavy-plugin 1.0")
    assert registry.all("algorithm")["quake.damage"] is spec
    del sys.modules["heavy_parts"]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("not_there_at_all:damage", "cannot be imported from 'not_there_at_all:damage': ModuleNotFoundError"),
        ("json:damage", "cannot be imported from 'json:damage': AttributeError"),
        ("json:loads", "which is not declared with @algorithm"),
        ("lazy_plugin_module:quake_other", "declared as 'quake.other'"),
    ],
)
def test_a_place_with_no_such_algorithm_is_named_and_takes_nobody_along(site, place, reason):
    places = PLACES.format(places={"quake.damage": place, "quake.other": "lazy_plugin_module:quake_other"})
    site.install("lazy-plugin", site.algorithms("quake.other").partition("\n@hookimpl")[0] + places)
    registry = site.registry()
    with pytest.raises(PluginError) as caught:
        registry.find("algorithm", "quake.damage")
    assert reason in str(caught.value)
    found = registry.all("algorithm")
    assert "quake.other" in found
    assert "quake.damage" not in found
    registry.all("algorithm")
    assert len(registry.failures) == 1
    assert reason in registry.missing()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def (:\n", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('no\\nlicence')\n", "RuntimeError: no licence"),
        ("import sys\nsys.exit(3)\n", "SystemExit: it called sys.exit(3)"),
    ],
)
def test_whatever_the_module_at_a_place_raises_is_told_in_two_lines(site, body, reason):
    site.install("lazy-plugin", PLACES.format(places={"quake.damage": "broken_parts:damage"}))
    (site.folder / "broken_parts.py").write_text(body)
    registry = site.registry()
    with pytest.raises(PluginError, match=r"cannot be imported from 'broken_parts:damage'") as caught:
        registry.find("algorithm", "quake.damage")
    assert reason in caught.value.message
    assert str(caught.value).count("\n") == 1
    assert "terrain.hand" in registry.all("algorithm")
    (failure,) = registry.failures
    assert reason in failure.reason
    assert not failure.reason.endswith(".")
    with pytest.raises(PluginError, match="MDIVE_STRICT_PLUGINS"):
        site.registry(strict=True).all("algorithm")


def test_a_name_that_is_claimed_lazily_has_two_owners_before_anything_is_imported(site):
    site.install("thief-plugin", PLACES.format(places={"quake.damage": "not_there_at_all:damage"}))
    site.install("good-plugin", site.algorithms("quake.damage"))
    registry = site.registry()
    with pytest.raises(PluginError, match=r"'quake.damage' has 2 owners: good-plugin 1.0 .* and thief-plugin 1.0"):
        registry.find("algorithm", "quake.damage")
    assert "quake.damage" not in registry.all("algorithm")
    assert registry.failures == []


def test_threads_that_first_ask_for_a_place_at_once_get_one_declaration(site):
    site.install("slow-plugin", PLACES.format(places={"quake.damage": "slow_parts:damage"}))
    parts = site.algorithms("quake.damage").partition("@hookimpl")[0].replace("def quake_damage", "def damage")
    (site.folder / "slow_parts.py").write_text(f"import time\ntime.sleep(0.05)\n{HEAD}{parts}")
    registry = site.registry()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: registry.find("algorithm", "quake.damage") if n % 2 else registry.all("algorithm"), range(16)))
    assert len({id(f["quake.damage"] if isinstance(f, dict) else f.value) for f in found}) == 1
    assert registry.failures == []
    del sys.modules["slow_parts"]


def test_one_plugin_that_gives_a_name_twice_is_broken(site):
    site.install("twice-plugin", site.algorithms("quake.damage").replace("[quake_damage]", "[quake_damage, quake_damage]"))
    registry = site.registry()
    assert "quake.damage" not in registry.offers("algorithm")
    assert "it gives the algorithm 'quake.damage' twice" in registry.missing()


def test_a_package_with_damaged_metadata_is_loaded_and_called_unknown(site):
    site.install("damaged-plugin", site.algorithms("quake.damage"), metadata=False)
    assert site.registry().find("algorithm", "quake.damage").value.package == "unknown unknown"


@pytest.fixture
def clash(site):
    site.install("alpha-plugin", site.algorithms("quake.damage", "quake.alpha"), version="1.0")
    site.install("beta-plugin", site.algorithms("quake.damage", "quake.beta"), version="2.0")
    return site


def test_two_owners_of_one_name_are_an_error_that_names_both_and_the_way_out(clash):
    registry = clash.registry()
    with pytest.raises(PluginError) as caught:
        registry.find("algorithm", "quake.damage")
    assert "alpha-plugin 1.0" in caught.value.message
    assert "beta-plugin 2.0" in caught.value.message
    assert "MDIVE_DISABLE_PLUGINS=beta-plugin" in caught.value.hint
    # Whoever asks for something else is not bothered, nor whoever asks for a list.
    assert registry.find("algorithm", "quake.alpha").plugin.package == "alpha-plugin"
    listed = registry.all("algorithm")
    assert {"quake.alpha", "quake.beta"} <= set(listed)
    assert "quake.damage" not in listed
    assert not registry.failures


def test_conflicts_of_every_noun_are_told_beside_broken_plugins(clash):
    clash.install("greedy-plugin", "@hookimpl\ndef mdive_runtimes():\n    return {'threads': 'os:system'}\n")
    clash.install("broken-plugin", BROKEN["exit"][0])
    registry = clash.registry()
    one, two = registry.conflicts()
    assert (one.noun, one.name, [p.package for p in one.owners]) == ("algorithm", "quake.damage", ["alpha-plugin", "beta-plugin"])
    assert "has 2 owners: alpha-plugin 1.0" in str(one)
    assert "MDIVE_DISABLE_PLUGINS=beta-plugin" in one.way_out
    assert (two.noun, two.name) == ("runtime", "threads")
    assert two.way_out == "Uninstall greedy-plugin, or switch one off with MDIVE_DISABLE_PLUGINS=greedy-plugin."
    assert len(registry.failures) == 1
    assert "\n" not in f"{one}{one.way_out}{two}{two.way_out}"


def test_without_a_clash_there_is_no_conflict(site):
    site.install("good-plugin", site.algorithms("quake.damage"))
    assert site.registry().conflicts() == []


def test_a_catalogue_with_two_owners_is_opened_by_nobody_and_hurts_no_other(site, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (site.folder / "earth-search.yaml").write_text("a: 1\n", encoding="utf-8")
    site.install("archive-plugin", f"@hookimpl\ndef mdive_providers():\n    return [{str(site.folder / 'earth-search.yaml')!r}]\n")
    found = site.registry()
    monkeypatch.setattr(registry_module, "registry", lambda: found)
    (tmp_path / "earth-search").mkdir()  # not even a folder of that name may stand in for it
    with pytest.raises(PluginError, match=r"provider 'earth-search' has 2 owners: archive-plugin"):
        open_catalog("earth-search")
    assert open_catalog("planetary-computer") is not None
    assert "earth-search" not in registry_module.providers()


def test_the_order_of_plugins_never_decides(clash):
    found = list(entry_points(group="mdive"))
    said = set()
    for order in (found, found[::-1]):
        with pytest.raises(PluginError) as caught:
            Registry(order).find("algorithm", "quake.damage")
        said.add(str(caught.value))
    assert len(said) == 1


def test_what_failed_is_told_in_one_order(site):
    site.install("alpha-plugin", BROKEN["exit"][0])
    site.install("beta-plugin", BROKEN["syntax"][0])
    found = list(entry_points(group="mdive"))
    assert Registry(found).missing() == Registry(found[::-1]).missing()


def test_switching_one_owner_off_is_a_way_out(clash):
    registry = clash.registry(off=["beta-plugin"])
    assert registry.find("algorithm", "quake.damage").plugin.package == "alpha-plugin"
    with pytest.raises(PluginError, match=r"Switched off by MDIVE_DISABLE_PLUGINS: beta-plugin 2\.0"):
        registry.find("algorithm", "quake.beta")


def test_a_stranger_cannot_take_a_name_of_mdive_and_only_the_stranger_is_told_to_go(site):
    site.install("greedy-plugin", "@hookimpl\ndef mdive_runtimes():\n    return {'threads': 'os:system', 'mine': 'json:dumps'}\n")
    registry = site.registry()
    with pytest.raises(PluginError) as caught:
        registry.find("runtime", "threads")
    assert "greedy-plugin" in caught.value.message
    assert "mdive " in caught.value.message
    assert caught.value.hint == "Uninstall greedy-plugin, or switch one off with MDIVE_DISABLE_PLUGINS=greedy-plugin."
    assert registry.find("runtime", "serial").value == "mdive.runtime:serial"


def test_only_mdive_itself_is_the_built_in_plugin(site):
    site.install("fake-plugin", site.algorithms("quake.damage"), name="builtin")
    registry = site.registry(off=["*"])
    assert [plugin.package for plugin in registry.disabled] == ["fake-plugin"]
    assert registry.find("runtime", "serial")


def test_strict_raises_at_once(site):
    site.install("broken-plugin", BROKEN["import error"][0])
    with pytest.raises(PluginError, match="MDIVE_STRICT_PLUGINS"):
        site.registry(strict=True)


def test_strict_raises_on_a_clash_that_nobody_asked_for(clash):
    with pytest.raises(PluginError, match="alpha-plugin"):
        clash.registry(strict=True).offers("algorithm")


def test_the_environment_switches_plugins_off_and_makes_them_strict(site):
    site.install("good-plugin", site.algorithms("quake.damage"))
    site.install("broken-plugin", BROKEN["exit"][0])
    code = """
    import json
    from mdive.errors import PluginError
    from mdive.plugins.registry import registry
    try:
        found = registry()
        names = [sorted(p.package for p in plugins) for plugins in (found.plugins.values(), found.disabled)]
        said = [*names, [f.reason for f in found.failures]]
    except PluginError as error:
        said = str(error)
    print(json.dumps(said))
    """
    assert site.ask(code) == [["good-plugin", "mdive"], [], ["SystemExit: it called sys.exit(3)"]]
    assert site.ask(code, MDIVE_DISABLE_PLUGINS="broken-plugin, Good_Plugin") == [["mdive"], ["broken-plugin", "good-plugin"], []]
    assert site.ask(code, MDIVE_DISABLE_PLUGINS="*") == [["mdive"], ["broken-plugin", "good-plugin"], []]
    assert "broken-plugin 1.0" in site.ask(code, MDIVE_STRICT_PLUGINS="1")


def test_a_near_miss_is_met_with_the_near_name_and_all_there_is(site):
    site.install("good-plugin", site.algorithms("quake.damage", "quake.depth"))
    only = [entry for entry in entry_points(group="mdive") if entry.name == "good-plugin"]
    with pytest.raises(PluginError) as caught:
        Registry(only).find("algorithm", "quake.damige")
    assert caught.value.message == "no algorithm 'quake.damige'. Did you mean 'quake.damage'?"
    assert caught.value.hint.startswith("Available: quake.damage, quake.depth.")
    assert "mdive is not installed" in caught.value.hint


def test_references_are_imported_when_asked_for_and_say_what_is_missing(site, monkeypatch):
    given = {"json": "json:dumps", "gone": "a_module_that_is_not_there:f", "bare": "json:nothing"}
    site.install("writer-plugin", f"@hookimpl\ndef mdive_writers():\n    return {given!r}\n")
    found = site.registry()
    monkeypatch.setattr(registry_module, "registry", lambda: found)
    assert registry_module.writer("json")({"a": 1}) == '{"a": 1}'
    for name, reason in (("gone", "ModuleNotFoundError"), ("bare", "AttributeError")):
        with pytest.raises(PluginError) as caught:
            registry_module.writer(name)
        assert reason in caught.value.message
        assert "writer-plugin 1.0" in caught.value.message


@pytest.mark.parametrize("reference", ["json.dumps", "json:", ":f", "rm -rf /:f", "json:dumps()"])
def test_a_reference_has_one_form(site, reference):
    site.install("writer-plugin", f"@hookimpl\ndef mdive_writers():\n    return {{'x': {reference!r}}}\n")
    registry = site.registry()
    assert "x" not in registry.offers("writer")
    assert "module:function" in registry.failures[0].reason


def test_a_provider_is_named_after_its_file(site):
    (site.folder / "my-archive.yaml").write_text("a: 1\n")
    site.install("archive-plugin", f"@hookimpl\ndef mdive_providers():\n    return [{str(site.folder / 'my-archive.yaml')!r}]\n")
    assert site.registry().all("provider")["my-archive"] == site.folder / "my-archive.yaml"


def test_a_provider_that_is_no_file_is_refused(site):
    site.install("archive-plugin", "@hookimpl\ndef mdive_providers():\n    return ['/nowhere/at-all.yaml']\n")
    registry = site.registry()
    assert "at-all" not in registry.offers("provider")
    assert "/nowhere/at-all.yaml" in registry.missing()


def test_threads_that_ask_at_once_ask_each_plugin_once(site):
    body = "calls = []\n" + site.algorithms("quake.damage").replace("    return [", "    calls.append(1)\n    return [")
    module = site.install("counting-plugin", body)
    registry = site.registry()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: registry.find("algorithm", "quake.damage"), range(64)))
    assert len(set(map(id, found))) == 1
    assert sys.modules[module].calls == [1]


def test_what_a_caller_does_to_a_list_changes_nothing_for_others(site):
    registry = site.registry()
    registry.all("runtime").clear()
    assert registry.all("runtime")
