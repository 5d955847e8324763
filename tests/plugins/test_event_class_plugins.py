"""Event classes of strangers: a new hazard is a YAML file and a plugin, and cannot hurt the classes that are there."""

from __future__ import annotations

import pytest
import yaml

from mdive.errors import InputError, PluginError
from mdive.plugins import registry as registry_module

QUAKE = {
    "id": "quake",
    "title": "Quake",
    "description": "A quake.",
    "synonyms": ["tremor"],
    "needs": [{"any_of": ["sar"], "phase": "post"}],
    "baseline": {"before": "P30D", "prefer": "same_relative_orbit"},
    "recipe": [{"algorithm": "quake.damage"}],
    "products": ["extent"],
    "limits": {},
    "significance": {"min_area_ha": 1, "min_share": 0.001},
    "default_resolution": 10,
    "children": {"deep": {"title": "Deep quake", "description": "A deep quake."}},
}


@pytest.fixture
def install(site, monkeypatch):
    """Install a package with one event class file and make its registry the one of this process."""

    def run(package, text):
        path = site.folder / f"{package}.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        site.install(package, f"@hookimpl\ndef mdive_event_classes():\n    return [{str(path)!r}]\n")
        found = site.registry()
        monkeypatch.setattr(registry_module, "registry", lambda: found)
        return found

    return run


def test_a_new_hazard_is_a_file(install):
    install("quake-plugin", QUAKE)
    assert registry_module.event_class("Tremor.Deep").name == "quake.deep"
    assert registry_module.event_class("fire").name == "wildfire"
    assert "quake.deep" in registry_module.event_classes()


@pytest.mark.parametrize(
    "text", ["id: quake\nid: again\n", "a: &x 1\nb: *x\n", "{", "id: quake\n"], ids=["twice", "alias", "broken", "short"]
)
def test_a_broken_file_of_a_stranger_is_named_and_hurts_nobody(install, text):
    found = install("quake-plugin", text)
    assert registry_module.event_class("flood.riverine").name == "flood.riverine"
    with pytest.raises(InputError, match=r"failed to load: quake-plugin 1\.0"):
        registry_module.event_class("quake")
    assert "quake-plugin.yaml" in found.failures[0].reason


def test_a_class_with_two_owners_belongs_to_nobody(install):
    install("quake-plugin", {**QUAKE, "id": "flood", "synonyms": []})
    for name in ("flood", "Flood.Riverine", "flood.deep"):
        with pytest.raises(PluginError, match=r"'flood' has 2 owners: .*mdive .*quake-plugin 1\.0"):
            registry_module.event_class(name)
    assert registry_module.event_class("wildfire.peat").name == "wildfire.peat"
    listed = registry_module.event_classes()
    assert "wildfire" in listed
    assert not any(name.startswith("flood") for name in listed)


def test_a_strangers_synonym_cannot_take_a_classs_name(install):
    install("quake-plugin", {**QUAKE, "synonyms": ["flood", "fire"]})
    assert registry_module.event_class("flood").name == "flood"
    with pytest.raises(InputError, match="may mean 'quake' or 'wildfire'"):
        registry_module.event_class("fire")
