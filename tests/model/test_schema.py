"""The JSON Schemas: as generated, sound, and saying the same as the documents."""

import json
import re
import subprocess
import sys
from importlib import import_module

import jsonschema
import pytest
from referencing import Registry, Resource

from mdive.errors import InputError, UsageError
from mdive.model import Event, dump_document, load_event, load_mapping
from mdive.model.schema import DIALECT, DOCUMENTS, file_name, generate_schema, generate_schemas, write_schemas

SCHEMAS = generate_schemas()
BAD_FOR_BOTH = [
    {"event_class": 3}, {"event_class": None}, {"event_class": "a" * 65}, {"description": 3}, {"id": "A"}, {"id": "../a"}, {"id": ""}, {"windw": 1},
    {"window": "2024-01-01"}, {"window": ["2024-01-01"]}, {"window": {"start": "2024-01-01"}}, {"window": {"start": "1/1/2024", "end": "2024-01-02"}},
    {"window": {"start": "2024-01-01T10:00", "end": "2024-01-02"}}, {"window": {"start": 20240101, "end": "2024-01-02"}}, {"window": None},
    {"area": {}}, {"area": 3}, {"area": {"bbox": [0, 0, 1]}}, {"area": {"bbox": [0, 0, 1, 91]}}, {"area": {"bbox": [0, 0, 400, 1]}}, {"area": {"bbox": ["0", 0, 1, 1]}},
    {"area": {"bbox": [0, 0, 1, 1], "geojson": {"type": "Polygon"}}}, {"area": {"geojson": {"type": "Point", "coordinates": [0, 0]}}}, {"area": {"geojson": 3}},
    {"area": {"bbx": [0, 0, 1, 1]}}, {"area": None},
    {"baseline": {"before": "60 days"}}, {"baseline": {"before": "P1Y"}}, {"baseline": {"after": "P1D"}}, {"baseline": 3},
    {"intent": {"resolution": "10"}}, {"intent": {"resolution": 0}}, {"intent": {"products": "extent"}}, {"intent": {"products": ["A"]}},
    {"intent": {"max_failed_fraction": 2}}, {"intent": {"max_observations": 0}}, {"intent": {"x": 1}}, {"intent": {"parameters": {"a": None}}},
]  # fmt: skip
GOOD = {"event_class": "a", "area": {"bbox": [0, 0, 1, 1]}, "window": {"start": "2024-01-01", "end": "2024-01-02"}}
GOOD_CHANGES = [
    {}, {"id": "a-1_b"}, {"window": ["2024-01-01", "2024-01-02T10:00:00.5+02:00"]}, {"baseline": {"before": "P60D"}}, {"baseline": ["2023-01-01", "2023-02-01"]},
    {"area": {"bbox": [170, -10, -170, 10]}}, {"area": {"bbox": [0, 0, 1, 1], "geojson": None}},
    {"area": {"geojson": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}}}, {"baseline": None, "intent": {}, "description": None, "catalog": None},
    {"intent": {"resolution": 10, "crs": "EPSG:32630", "products": ["extent"], "algorithm": "a.b", "parameters": {"a": 1, "b": [1, "x"], "c": True}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def event_validator():
    return jsonschema.Draft202012Validator(SCHEMAS["event.schema.json"])


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_the_file_is_what_the_model_says(repository, name):
    path = repository / "schemas" / file_name(name)
    assert path.is_file(), "run: python -m mdive.model.schema"
    assert json.loads(path.read_text(encoding="utf-8")) == SCHEMAS[file_name(name)], "run: python -m mdive.model.schema"


def test_there_is_no_other_schema(repository):
    assert {path.name for path in (repository / "schemas").iterdir()} == {file_name(name) for name in DOCUMENTS}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_schema_is_sound(name):
    schema = SCHEMAS[file_name(name)]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"].endswith(f"/{name}.schema.json")
    assert schema["title"]
    assert schema["description"]
    resolver = Registry().with_resource(schema["$id"], Resource.from_contents(schema)).resolver(schema["$id"])
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(schema))
    for reference in references:
        assert resolver.lookup(reference).contents
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


def test_the_check_of_references_can_fail():
    broken = {"$schema": DIALECT, "$id": "https://example.com/x", "$ref": "#/$defs/missing"}
    resolver = Registry().with_resource(broken["$id"], Resource.from_contents(broken)).resolver(broken["$id"])
    with pytest.raises(Exception, match="missing"):
        resolver.lookup("#/$defs/missing")


@pytest.mark.parametrize("name", ["area", "event", "intent", "manifest", "provenance", "quality"])
def test_every_field_is_described(name):
    schema = SCHEMAS[file_name(name)]
    for part in (schema, *schema.get("$defs", {}).values()):
        forms = [part, *(form for form in part.get("anyOf", ()) if "additionalProperties" in form)]
        for field, below in ((f, b) for form in forms for f, b in form.get("properties", {}).items()):
            assert below.get("description") or (part["title"], field) == ("MultiPolygon", "type"), (name, part["title"], field)
    module, cls = DOCUMENTS[name]
    assert getattr(import_module(module), cls).__doc__.splitlines()[0] in schema["description"]


def test_events_that_are_right_are_right_for_both(event_validator):
    for change in GOOD_CHANGES:
        data = GOOD | change
        assert list(event_validator.iter_errors(data)) == [], change
        event = Event(**data)
        assert list(event_validator.iter_errors(json.loads(dump_document(event)))) == []
        assert list(event_validator.iter_errors(event.model_dump(mode="json"))) == []


@pytest.mark.parametrize("change", BAD_FOR_BOTH, ids=str)
def test_events_that_are_wrong_are_wrong_for_both(event_validator, change):
    data = GOOD | change
    assert list(event_validator.iter_errors(data)), "the schema accepts it"
    with pytest.raises(InputError):
        Event(**data)


@pytest.mark.parametrize("missing", ["area", "window", "event_class"])
def test_what_is_needed_is_needed_by_both(event_validator, missing):
    data = {name: value for name, value in GOOD.items() if name != missing}
    assert list(event_validator.iter_errors(data)), "the schema accepts it"
    with pytest.raises(InputError):
        Event(**data)


def test_the_recorded_cases_satisfy_the_schema(event_validator, case_events):
    for path in case_events:
        assert list(event_validator.iter_errors(load_mapping(path))) == [], path


def test_the_examples_satisfy_the_schema(event_validator, repository):
    examples = sorted((repository / "examples").glob("*event*.yaml"))
    assert examples
    for path in examples:
        assert list(event_validator.iter_errors(load_mapping(path))) == [], path
        assert load_event(path).event_class


def test_the_event_classes_and_datasources_are_documents(repository):
    """Their schemas are of what a program sees; the files are loaded where they belong. Here: the schemas exist and name their fields."""
    assert "recipe" in SCHEMAS["event_class.schema.json"]["properties"]
    assert "datasources" in SCHEMAS["datasource.schema.json"]["properties"]


def test_an_unknown_schema_says_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'event'"):
        generate_schema("evnt")


def test_the_command_writes_them(tmp_path):
    subprocess.run([sys.executable, "-m", "mdive.model.schema", str(tmp_path / "new")], check=True, capture_output=True)
    assert {p.name: json.loads(p.read_text(encoding="utf-8")) for p in (tmp_path / "new").iterdir()} == SCHEMAS
    assert [p.read_bytes() for p in write_schemas(tmp_path / "again")] == [(tmp_path / "new" / name).read_bytes() for name in SCHEMAS]
