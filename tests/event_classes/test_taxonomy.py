"""The taxonomies are data: every file is sound, children inherit what they do not say, and every word means one class."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdive.errors import InputError, PluginError
from mdive.model.event_class import EventClassFile, Variant, resolve
from mdive.model.load import load_document
from mdive.plugins.registry import algorithms, event_class, event_classes
from mdive.plugins.resources import resource_files
from mdive.plugins.taxonomy import find_event_class, normal, words

FILES = {path.stem: path for path in resource_files("event_classes", "*.yaml")}
CLASSES = event_classes()
TRAITS = ("needs", "baseline", "recipe", "products", "significance", "default_resolution")


def walk(name, given):
    """Yield (full name, parent's full name, child as given) of all descendants."""
    for key, child in given.children.items():
        yield f"{name}.{key}", name, child
        yield from walk(f"{name}.{key}", child)


@pytest.mark.parametrize("stem", FILES)
def test_each_file_is_sound_and_named_after_its_class(stem):
    file = load_document(FILES[stem], EventClassFile)
    assert file.id == stem
    assert all(CLASSES[name].parent == parent for name, parent, _ in walk(stem, file))


PROMISED = {
    "flood": {"riverine", "flash", "coastal", "urban", "dam_break", "snowmelt", "groundwater"},
    "wildfire": {"forest", "grassland", "shrubland", "peat", "interface"},
    "storm": {"tropical_cyclone", "windstorm", "tornado", "hail", "derecho"},
}


@pytest.mark.parametrize("root", PROMISED)
def test_the_taxonomies_that_are_promised(root):
    assert PROMISED[root] <= {child.removeprefix(f"{root}.") for child in CLASSES[root].children}


@pytest.mark.parametrize("stem", FILES)
def test_children_inherit_all_that_they_do_not_override_and_nothing_of_the_words(stem):
    file = load_document(FILES[stem], EventClassFile)
    checked = 0
    for name, parent_name, child in walk(stem, file):
        resolved, parent = CLASSES[name], CLASSES[parent_name]
        for trait in TRAITS:
            own = getattr(child, trait)
            assert getattr(resolved, trait) == (getattr(parent, trait) if own is None else own)
            checked += own is None
        assert resolved.limits == {**parent.limits, **(child.limits or {})}
        for code, value in parent.codes.model_dump().items():
            assert getattr(resolved.codes, code) == (getattr(child.codes, code, None) or value)
        assert (resolved.title, resolved.synonyms, resolved.keywords) == (child.title, child.synonyms, child.keywords)
    assert checked


def test_a_grandchild_inherits_through_its_parent_and_tables_merge_entry_by_entry():
    child = {
        "title": "B",
        "description": "b",
        "default_resolution": 5,
        "limits": {"y": {"review": 0.2}},
        "codes": {"emdat": "nat-aaa-bbb-ccc"},
    }
    child["children"] = {"c": {"title": "C", "description": "c", "limits": {"x": {"block": 0.1}}}}
    file = EventClassFile.model_validate(minimal(id="a", codes={"glide": "OT"}, limits={"x": {"review": 0.9}}, children={"b": child}))
    found = resolve(file)
    assert list(found) == ["a", "a.b", "a.b.c"]
    last = found["a.b.c"]
    assert (last.parent, last.default_resolution, last.codes.glide, last.codes.emdat) == ("a.b", 5, "OT", "nat-aaa-bbb-ccc")
    assert {k: v.model_dump() for k, v in last.limits.items()} == {"x": {"review": None, "block": 0.1}, "y": {"review": 0.2, "block": None}}
    assert found["a"].children == ("a.b",)
    assert found["a"].limits["x"].review == 0.9


def test_every_synonym_means_one_class_and_is_no_other_class():
    for word, names in words(CLASSES).items():
        assert len(names) == 1, f"{word}: {sorted(names)}"
        assert word not in CLASSES
    own = defaultdict(list)
    for name, found in CLASSES.items():
        for synonym in found.synonyms:
            own[normal(synonym)].append(name)
    assert not {word: names for word, names in own.items() if len(names) > 1}


def test_each_class_has_words_for_those_who_read_reports():
    for name, found in CLASSES.items():
        assert found.title
        assert found.description.endswith(".")
        assert "en" in found.keywords, name
        for language, terms in found.keywords.items():
            assert len(set(map(normal, terms))) == len(terms), f"{name}, {language}: a keyword twice"


def test_recipes_name_algorithms_that_exist():
    named = {step.algorithm for found in CLASSES.values() for step in found.recipe}
    assert named == {"flood.sar_change", "flood.sar_threshold", "flood.optical_index", "wildfire.dnbr"}
    assert not named - set(algorithms())


def test_recipes_ask_for_sensors_that_the_class_says_it_needs():
    specs = algorithms()
    for name, found in CLASSES.items():
        asked = {(kind, need.phase) for need in found.needs for kind in need.any_of}
        for step in found.recipe:
            spec = specs[step.algorithm]
            assert {(spec.sensor, phase) for phase in spec.needs if phase != "static"} <= asked, (name, step.algorithm)


def test_the_recipes_are_in_order_of_preference_and_storm_has_none_yet():
    assert [step.algorithm for step in CLASSES["flood"].recipe] == ["flood.sar_change", "flood.sar_threshold", "flood.optical_index"]
    assert [step.algorithm for step in CLASSES["wildfire"].recipe] == ["wildfire.dnbr"]
    assert all(found.recipe == () for name, found in CLASSES.items() if name.partition(".")[0] == "storm")


def test_limits_are_those_that_are_measured():
    assert {limit for found in CLASSES.values() for limit in found.limits} == {"observed_share", "permanent_water_recall"}
    assert all(0 < found.significance.min_share < 0.01 for found in CLASSES.values())
    assert all(found.significance.min_area_ha > 0 for found in CLASSES.values())


SAID = {
    "flood": "flood",
    "FLOOD": "flood",
    " Flood.Riverine ": "flood.riverine",
    "flood.dam-break": "flood.dam_break",
    "flood.dam break": "flood.dam_break",
    "flood . dam\u2013break": "flood.dam_break",
    "fire": "wildfire",
    "fire.forest": "wildfire.forest",
    "wild-fire": "wildfire",
    "riverine flood": "flood.riverine",
    "flood-riverine": "flood.riverine",
    "Bushfire": "wildfire.shrubland",
    "hurricane": "storm.tropical_cyclone",
    "inundacion": "flood",
    "Überschwemmung": "flood",
    "ÜBERSCHWEMMUNG": "flood",
    "storm.extratropical-windstorm": None,
    "windstorm": "storm.windstorm",
    "jökulhlaup": "flood.glacial_lake",
}


@pytest.mark.parametrize("asked", SAID)
def test_a_class_is_found_by_what_people_call_it(asked):
    if SAID[asked] is None:
        with pytest.raises(InputError):
            event_class(asked)
    else:
        assert event_class(asked).name == SAID[asked]


@given(st.sampled_from(sorted({*CLASSES, *(s for c in CLASSES.values() for s in c.synonyms)})), st.randoms(use_true_random=False))
def test_spelling_never_changes_what_a_name_means(name, random):
    mangled = "".join(random.choice("-_ ") if c in "-_ " else random.choice([c, c.upper(), c.lower()]) for c in name)
    assert event_class(mangled) == event_class(name)


UNKNOWN = {
    "flood.riverin": [
        "'flood' is known but has no child 'riverin'",
        "Did you mean 'flood.riverine'?",
        "coastal, dam_break, flash",
        "Use 'flood' itself",
    ],
    "fire.forrest": ["'wildfire' is known", "Did you mean 'wildfire.forest'?"],
    "flood.tsunami": ["'flood' is known but has no child 'tsunami'.", "Its children are: "],
    "storm.tornado.ef5": ["'storm.tornado' is known but has no child 'ef5'", "It has no children"],
    "riverine": ["no event class 'riverine'. Did you mean 'flood.riverine'?"],
    "wildfyre": ["Did you mean 'wildfire'?", "Available: flood (coastal, "],
    "earthquake": ["no event class 'earthquake'.", "storm (derecho, ", "wildfire (cropland, "],
    "": ["no event class ''."],
    "flood.": ["'flood' is known but has no child ''."],
    "flood.riverine.danube.lower": ["'flood.riverine' is known but has no child 'danube.lower'"],
    "x" * 5000: ["no event class"],
    "." * 5000: ["no event class"],
    "flood" + ".riverine" * 500: ["'flood.riverine' is known but has no child 'riverine.riverine"],
}


@pytest.mark.parametrize("asked", UNKNOWN, ids=lambda asked: asked[:20] or "empty")
def test_an_unknown_name_is_told_its_parent_and_what_is_near(asked):
    with pytest.raises(InputError) as caught:
        event_class(asked)
    for part in UNKNOWN[asked]:
        assert part in str(caught.value)
    assert str(caught.value).count("\n") == 1
    assert caught.value.exit_code == 3


def minimal(**more):
    """Return the smallest class file."""
    return {
        "id": "quake",
        "title": "Quake",
        "description": "A quake.",
        "needs": [],
        "baseline": {"before": "P30D"},
        "recipe": [],
        "products": ["extent"],
        "limits": {},
        "significance": {"min_area_ha": 1, "min_share": 0.001},
        "default_resolution": 10,
        **more,
    }


WRONG = {
    "a Python path": {"recipe": [{"algorithm": "package.module:function"}]},
    "a dotted module": {"recipe": [{"algorithm": "os.path.join"}]},
    "an unknown condition": {"recipe": [{"algorithm": "a.b", "when": {"cloud_above": 0.1}}]},
    "a share above one": {"recipe": [{"algorithm": "a.b", "when": {"cloud_below": 60}}]},
    "a truth that is a text": {"recipe": [{"algorithm": "a.b", "when": {"has_baseline": "maybe"}}]},
    "block above review": {"limits": {"observed_share": {"review": 0.3, "block": 0.8}}},
    "an unknown sensor": {"needs": [{"any_of": ["lidar"], "phase": "post"}]},
    "an unknown phase": {"needs": [{"any_of": ["sar"], "phase": "during"}]},
    "a need of nothing": {"needs": [{"any_of": [], "phase": "post"}]},
    "an unknown language": {"keywords": {"xx": ["a"]}},
    "a code of another form": {"codes": {"glide": "FLOOD"}},
    "a baseline that is no time": {"baseline": {"before": "P0D"}},
    "a baseline in months": {"baseline": {"before": "P2M"}},
    "a preference that nobody has": {"baseline": {"before": "P30D", "prefer": "best"}},
    "no products": {"products": []},
    "no resolution": {"default_resolution": 0},
    "a child with a path for a name": {"children": {"../up": {"title": "X", "description": "x"}}},
    "a child with a stranger's field": {"children": {"up": {"title": "X", "description": "x", "depth": 3}}},
    "a name with a dot": {"id": "quake.deep"},
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_refused_in_two_lines(kind, tmp_path):
    import yaml

    path = tmp_path / "quake.yaml"
    path.write_text(yaml.safe_dump(minimal()))
    assert load_document(path, EventClassFile).id == "quake"
    path.write_text(yaml.safe_dump(minimal(**WRONG[kind])))
    with pytest.raises(InputError) as caught:
        load_document(path, EventClassFile)
    assert "quake.yaml" in caught.value.message
    assert str(caught.value).count("\n") <= 1


def test_an_ambiguous_synonym_is_an_error_that_names_all_it_may_mean_and_a_name_beats_synonyms():
    first = resolve(EventClassFile.model_validate(minimal(id="quake", synonyms=["shake", "slide"])))
    second = resolve(EventClassFile.model_validate(minimal(id="slide", synonyms=["shake"])))
    for classes in ({**first, **second}, {**second, **first}):
        with pytest.raises(InputError, match="may mean 'quake' or 'slide'"):
            find_event_class(classes, "Shake")
        assert find_event_class(classes, "slide").name == "slide"


def test_a_resolved_class_survives_the_journey_through_a_plan():
    for found in CLASSES.values():
        assert type(found).model_validate_json(found.model_dump_json()) == found
        assert type(found).model_validate(found.model_dump(mode="json", exclude_none=True)) == found
        assert type(found).model_validate(found.model_dump(mode="json")).identity == found.identity


def test_no_field_of_a_child_can_be_given_that_a_class_does_not_have():
    assert set(Variant.model_fields) == set(EventClassFile.model_fields) - {"id"}


def test_an_unknown_algorithm_is_a_plugin_error():
    from mdive.plugins.registry import algorithm_spec

    with pytest.raises(PluginError, match=r"Did you mean 'flood\.optical_index'"):
        algorithm_spec("flood.optical_indx")
