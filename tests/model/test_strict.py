"""Strict reading: what every scalar means, and that no text does anything but give a document or an InputError."""

import json
import time

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdive.errors import InputError
from mdive.model import Event, dump_document, load_event, load_mapping
from mdive.model.strict import MAX_DEPTH, parse_json, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("Yes", "Yes"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("true", True), ("False", False), ("TRUE", True), ("tRue", "tRue"),
        ("null", None), ("~", None), ("", None), ("NULL", None), ("none", "none"),
        ("1:30", "1:30"), ("1:30:59.5", "1:30:59.5"), ("190:20:30", "190:20:30"),
        ("1e3", 1000.0), ("1E3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-.5e-3", -0.0005), ("+1.5", 1.5), ("685_230", "685_230"),
        ("010", 10), ("-012", -12), ("0o14", 12), ("0x1F", 31), ("0b11", "0b11"), ("+7", 7), ("0", 0),
        ("2016-07-09", "2016-07-09"), ("2016-07-09T12:00:00Z", "2016-07-09T12:00:00Z"),
        ("'12'", "12"), ('"true"', "true"), ("'.inf'", ".inf"), ("=", "="), ("1.2.3", "1.2.3"), ("EPSG:32630", "EPSG:32630"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    data = parse_yaml(f"key: {text}\n", "x").data
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_these_scalars_are_where_the_usual_loader_differs():
    """The oracle that the table above is needed: plain PyYAML reads them in its own way."""
    usual = yaml.safe_load("{a: no, b: 1:30, c: 1e3, d: 010, e: 2016-07-09}")
    strict = parse_yaml("{a: no, b: '1:30', c: 1e3, d: 010, e: 2016-07-09}", "x").data
    assert all(usual[key] != strict[key] for key in strict)


def test_names_are_text():
    assert parse_yaml("{no: 1, 1: 2, ~: 3}", "x").data == {"no": 1, "1": 2, "~": 3}


def test_places_count_from_one():
    parsed = parse_yaml("a: 1\nb:\n  - x\n  - {c: 2}\n", "x")
    assert parsed.place(("b", 1, "c")) == (4, 9)
    assert parsed.place(("b", 1, "c"), of_name=True) == (4, 6)
    assert parsed.place(("b", 1, "missing")) == (4, 5)
    assert parsed.place(()) == (1, 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=6), json_values, max_size=4), st.sampled_from([None, 1, "\t"]))
def test_json_means_what_json_says(value, indent):
    assert parse_json(json.dumps(value, indent=indent), "x").data == value


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text("abcdefg -:#'\"", min_size=1, max_size=6), json_values, max_size=4))
def test_yaml_written_by_others_is_read_back(value):
    """Every text is quoted by the emitter of YAML 1.1 where 1.2 needs it too, except numbers such as ``1e+30``, so floats are compared as such."""
    text = yaml.safe_dump(value)
    if "&" in text and "*" in text:  # the emitter writes aliases for equal collections
        return
    expected = json.loads(json.dumps(value))
    assert parse_yaml(text, "x").data == expected


def test_depth_is_limited_alike():
    deep = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert parse_yaml(f"a: {deep}\n", "x").data == parse_json(f'{{"a": {deep}}}', "x").data
    for parse, text in ((parse_yaml, f"a: [{deep}]\n"), (parse_json, f'{{"a": [{deep}]}}')):
        with pytest.raises(InputError, match="nested deeper than 32"):
            parse(text, "x")


NASTY = 150_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * NASTY, "{a: " * NASTY, "- " * NASTY, "? " * NASTY, '{"a": ' * NASTY, "a: " + "9" * NASTY, '{"a": ' + "9" * NASTY + "}",
        "a: 1." + "9" * NASTY, "a: " + "1" * NASTY + "x", "a: [" + "1," * NASTY + "]", "\n".join(f"k{n}: 1" for n in range(NASTY // 10)),
        "a" * NASTY + ": 1", "window: ['" + "1" * NASTY + "-01-01', 2]", "a: |\n" + " \n" * NASTY, "id: " + "a" * NASTY,
        "baseline: {before: P" + "9" * NASTY + "D}", "intent: {crs: " + "a" * NASTY + "}", "&a " * NASTY, "%TAG ! x\n" * 1000,
    ],
)  # fmt: skip
def test_no_text_takes_long(text):
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        load_event(text + "\n")
    assert time.process_time() - start < 4
    assert str(caught.value).count("\n") == 1


def outcome(text):
    """Load a text; only a document or an InputError of two lines may come out."""
    try:
        event = load_event(text + "\n")
    except InputError as error:
        assert str(error).count("\n") == 1
        assert error.message
        assert error.hint
        assert str(error).replace("\n", "").isprintable()
        return None
    assert isinstance(event, Event)
    assert load_event(dump_document(event)) == event
    return event


@settings(max_examples=400, deadline=None)
@given(st.text())
@example("\ufeff{}")
@example("\x85")
@example("a: \u2028b")
@example("? a")
@example("!")
@example("%YAML 9.9\n---\na: 1")
def test_any_text_gives_an_input_error(text):
    assert outcome(text) is None


YAML_BITS = ["a", "area", "bbox", "window", "start", ": ", ":", "- ", "\n", "  ", "[", "]", "{", "}", ",", "&x", "*x", "!t", "|", ">", "'", '"', "#", "?",
             "1", "-3.5", "1e999", ".nan", "~", "true", "2024-10-28", "%", "@", "`", "---", "...", "\t", "\\", "<<", "é", "\U0001f30a", "\x00"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(YAML_BITS), max_size=40).map("".join))
def test_anything_made_of_the_signs_of_yaml(text):
    outcome(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_good_event_with_something_replaced(data):
    good = "id: a\nevent_class: alpha\narea:\n  bbox: [-0.6, 39.2, -0.2, 39.5]\nwindow:\n  start: 2024-10-28\n  end: 2024-11-08\nintent: {resolution: 30}\n"
    start = data.draw(st.integers(0, len(good)))
    stop = data.draw(st.integers(start, min(len(good), start + 12)))
    outcome(good[:start] + data.draw(st.text(max_size=6) | st.sampled_from(YAML_BITS)) + good[stop:])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.dates().map(str) | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["bbox", "geojson", "type", "coordinates", "start", "end", "before", "x"]), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
entries = st.fixed_dictionaries({}, optional={name: anything for name in ("area", "window", "baseline", "intent", "id", "event_class", "description", "catalog")})  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(entries)
def test_any_values_under_the_right_names(value):
    """In Python too: whatever is passed, it is an event or an InputError."""
    try:
        Event(**value)
    except InputError as error:
        assert str(error).count("\n") == 1
    outcome(json.dumps(value))


def test_a_mapping_can_be_loaded_without_a_model(event_file):
    assert load_mapping(event_file("a: {b: [1, no]}\n")) == {"a": {"b": [1, "no"]}}
    assert load_mapping(event_file('{"a": 1}', "x.json")) == {"a": 1}
    assert load_mapping(event_file("\ufeffa: 1\n")) == {"a": 1}
