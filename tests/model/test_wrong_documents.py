"""Every kind of wrong event file: exit code 3, two lines, with the place, the path and the nearest name."""

import json

import pytest

from mdive.errors import EXIT_BAD_INPUT, InputError, MdiveError
from mdive.model import load_document, load_event
from mdive.model.event_class import EventClassFile

AREA = "area: {bbox: [-0.6, 39.2, -0.2, 39.5]}\n"
WINDOW = "window: {start: 2024-10-28, end: 2024-11-08}\n"
HEAD = "event_class: alpha\n"
RING = "[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]"


def event(**lines):
    """Return an event file with some of its entries replaced."""
    parts = {"event_class": HEAD, "area": AREA, "window": WINDOW} | lines
    return "".join(parts.values())


def area(text):
    return event(area=f"area: {text}\n")


def window(text):
    return event(window=f"window: {text}\n")


# name of the case, the text, and the words that must be in the message, in this order
WRONG = [
    # the text itself
    ("empty", "", ["the document is empty"]),
    ("only a comment", "# nothing\n", ["top level is nothing"]),
    ("a list", "- a\n- b\n", [":1:1: ", "top level is a list"]),
    ("a scalar", "hello\n", [":1:1: ", "top level is a single value"]),
    ("not YAML", "id: [a\nwindow: 3\n", [":2:7: ", "not YAML"]),
    ("a tab", "area:\n\tbbox: 3\n", [":2:1: ", "not YAML"]),
    ("control character", "id: a\x07\n", [":1:1: ", "not YAML", "control characters"]),
    ("not UTF-8", b"id: a\ndescription: \xff\xfe\n", [":2:1: ", "byte 19 is not UTF-8"]),
    ("UTF-16", "id: a\n".encode("utf-16"), [":1:1: ", "not UTF-8"]),
    ("two documents", event() + "---\n" + event(), [":4:1: ", "second document"]),
    ("a name twice", event() + HEAD, [":4:1: ", "event_class: ", "given twice", "line 1"]),
    ("a name twice, inside", window("{start: 2024-10-28, start: 2024-10-29}"), [":3:29: ", "window.start: ", "'start' is given twice"]),
    ("alias", "a: &x [1]\nb: *x\n", [":1:4: ", "a: ", "anchors are not read"]),
    ("alias only", "b: *x\n", [":1:4: ", "b: ", "aliases are not read"]),
    ("bomb", "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(20)), [":1:4: ", "anchors are not read"]),
    ("tag", "id: !!python/object:os.system x\n", [":1:5: ", "id: ", "tags are not read"]),
    ("merge key", event() + "<<: {id: a}\n", [":4:1: ", "<<: ", "no such name"]),
    ("a list as a name", event() + "? [a, b]\n: c\n", [":4:3: ", "cannot be a name"]),
    ("YAML infinity", event() + "intent: {resolution: .inf}\n", [":4:22: ", "intent.resolution: ", "'.inf' is not a finite number"]),
    ("YAML NaN", event() + "intent: {resolution: .nan}\n", [":4:22: ", "not a finite number"]),
    ("YAML overflow", event() + "intent: {resolution: 1e999}\n", [":4:22: ", "'1e999' is not a finite number"]),
    ("long number", event() + f"intent: {{resolution: {'9' * 65}}}\n", [":4:22: ", "65 digits"]),
    ("deep", event() + "id: " + "[" * 33 + "]" * 33 + "\n", [":4:36: ", "nested deeper than 32"]),
    # names and types
    ("misspelt name", event(window="windw: {start: 2024-10-28, end: 2024-11-08}\n"), [":3:1: ", "windw: ", "no such name", "Did you mean 'window'?"]),
    ("misspelt name, inside", window("{start: 2024-10-28, ende: 2024-11-08}"), [":3:29: ", "window.ende: ", "Did you mean 'end'?"]),
    ("misspelt form", area("{bbx: [-0.6, 39.2, -0.2, 39.5]}"), [":2:8: ", "area.bbx: ", "no such name", "file", "Did you mean 'bbox'?"]),
    ("no area", event(area=""), [":1:1: ", "area: ", "missing", "bbox"]),
    ("no window", event(window=""), [":1:1: ", "window: ", "missing"]),
    ("no class", event(event_class=""), [":1:1: ", "needs an event_class or a description"]),
    ("class is a number", event(event_class="event_class: 12\n"), [":1:14: ", "event_class: ", "valid string (given: 12)"]),
    ("class is empty", event(event_class="event_class: ' '\n"), [":1:14: ", "event_class: ", "cannot be an event class"]),
    ("description with NUL", event() + 'description: "a\\0b"\n', [":4:14: ", "description: ", "no description"]),
    ("id with a path", event() + "id: ../../etc\n", [":4:5: ", "id: ", "'../../etc' cannot be an id", "a-z"]),
    ("id in capitals", event() + "id: Valencia\n", [":4:5: ", "id: ", "'Valencia' cannot be an id"]),
    ("id too long", event() + f"id: {'a' * 65}\n", [":4:5: ", "id: ", "cannot be an id"]),
    ("catalogue with password", event() + "catalog: https://me:secret@host.invalid/stac\n", [":4:10: ", "catalog: ", "holds credentials"]),
    ("catalogue with a token", event() + "catalog: 'https://host.invalid/stac?token=secret'\n", [":4:10: ", "catalog: ", "or a query"]),
    # where
    ("area is a number", area("3"), [":2:7: ", "area: ", "3 is not an area", "bbox"]),
    ("two forms", area("{bbox: [0, 0, 1, 1], file: a.gpkg}"), [":2:7: ", "area: ", "two forms: bbox and file"]),
    ("bare GeoJSON", area(f"{{type: Polygon, coordinates: [{RING}]}}"), [":2:7: ", "area: ", "under the name geojson"]),
    ("three numbers", area("{bbox: [0, 0, 1]}"), [":2:14: ", "area.bbox: ", "not a bounding box", "west, south, east, north"]),
    ("text in a bbox", area("{bbox: [0, 0, 1, '1']}"), [":2:24: ", "area.bbox[3]: ", "'1' is not a number"]),
    ("true in a bbox", area("{bbox: [true, 0, 1, 1]}"), [":2:15: ", "area.bbox[0]: ", "True is not a number"]),
    ("metres", area("{bbox: [500000, 4500000, 510000, 4510000]}"), [":2:15: ", "area.bbox[0]: ", "longitude 500000 is out of range"]),
    ("latitude first", area("{bbox: [39.2, -100, 39.5, -99]}"), [":2:21: ", "area.bbox[1]: ", "latitude -100 is out of range"]),
    ("upside down", area("{bbox: [0, 2, 1, 1]}"), [":2:14: ", "area.bbox: ", "south (2) is above north (1)"]),
    ("a bbox on a line", area("{bbox: [0, 1, 2, 1]}"), [":2:14: ", "area.bbox: ", "is a line"]),
    ("a bbox on a point", area("{bbox: [1, 1, 1, 1]}"), [":2:14: ", "area.bbox: ", "is a point"]),
    ("the whole Earth", area("{bbox: [-180, -90, 180, 90]}"), [":2:14: ", "area.bbox: ", "510 million km²", "At most 100"]),
    ("a line", area("{geojson: {type: LineString, coordinates: [[0, 0], [1, 1]]}}"), [":2:17: ", "area.geojson: ", "a LineString has no area"]),
    ("a point", area("{geojson: {type: Point, coordinates: [0, 0]}}"), [":2:17: ", "area.geojson: ", "a Point has no area"]),
    ("flat polygon", area("{geojson: {type: Polygon, coordinates: [[[0, 0], [1, 1], [2, 2], [0, 0]]]}}"), ["area.geojson", "a line or a point"]),
    ("misspelt type", area(f"{{geojson: {{type: Poligon, coordinates: [{RING}]}}}}"), ["area.geojson: ", "'Poligon'", "Did you mean 'Polygon'?"]),
    ("bow tie", area("{geojson: {type: Polygon, coordinates: [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}}"), ["area.geojson.coordinates: ", "self-intersection near (0.5, 0.5)"]),
    ("open ring", area("{geojson: {type: Polygon, coordinates: [[[0, 0], [1, 0], [1, 1], [0, 1]]]}}"), [":2:47: ", "area.geojson.coordinates[0]: ", "not closed"]),
    ("bad position", area("{geojson: {type: Polygon, coordinates: [[[0, 0], [1], [1, 1], [0, 0]]]}}"), [":2:56: ", "coordinates[0][1]: ", "not a position"]),
    ("far position", area("{geojson: {type: Polygon, coordinates: [[[0, 0], [1, 95], [1, 1], [0, 0]]]}}"), ["coordinates[0][1]: ", "latitude 95"]),
    ("other CRS", area(f"{{geojson: {{type: Polygon, crs: {{properties: {{name: 'EPSG:32630'}}}}, coordinates: [{RING}]}}}}"), ["area.geojson.crs: ", "'EPSG:32630', not WGS 84"]),
    ("no such file", area("{file: outline.gpkg}"), [":2:14: ", "area.file: ", "outline.gpkg", "No such file"]),
    ("unknown kind of file", area("{file: outline.kml}"), [":2:14: ", "area.file: ", ".geojson, .json, .gpkg, .shp"]),
    ("file is a number", area("{file: 3}"), ["area.file: ", "3 is not the name of a file"]),
    # when
    ("reversed", window("{start: 2024-11-08, end: 2024-10-28}"), [":3:9: ", "window: ", "reversed", "2024-11-08"]),
    ("no length", window("{start: 2024-11-08T10:00Z, end: 2024-11-08T11:00+01:00}"), ["window: ", "has no length"]),
    ("naive time", window("{start: 2024-10-28T06:00, end: 2024-11-08}"), [":3:17: ", "window.start: ", "has no time zone", "2024-10-28T06:00:00Z"]),
    ("no such day", window("{start: 2024-02-30, end: 2024-11-08}"), [":3:17: ", "window.start: ", "not in the calendar"]),
    ("no leap day", window("{start: 2023-02-29, end: 2024-11-08}"), [":3:17: ", "window.start: ", "not in the calendar"]),
    ("another order of the date", window("{start: 28/10/2024, end: 2024-11-08}"), [":3:17: ", "window.start: ", "not a date or time"]),
    ("slip of the pen", window("{start: 0216-07-09, end: 2024-11-08}"), [":3:17: ", "window.start: ", "year 216"]),
    ("a number for a date", window("{start: 20241028, end: 2024-11-08}"), [":3:17: ", "window.start: ", "20241028 is not a date"]),
    ("three dates", window("[2024-10-28, 2024-10-29, 2024-10-30]"), [":3:9: ", "window: ", "3 values are not a time window"]),
    ("one date", window("2024-10-28"), [":3:9: ", "window: ", "not a time window"]),
    ("baseline in months", event() + "baseline: {before: P2M}\n", [":4:20: ", "baseline.before: ", "'P2M' is not a duration", "P60D"]),
    ("baseline both ways", event() + "baseline: {before: P2W, start: 2024-01-01, end: 2024-02-01}\n", [":4:11: ", "baseline: ", "either start and end, or before"]),
    ("baseline half", event() + "baseline: {start: 2024-01-01}\n", [":4:11: ", "baseline: ", "only one end"]),
    ("baseline during the event", event() + "baseline: {start: 2024-10-01, end: 2024-10-28}\n", [":4:11: ", "baseline: ", "overlaps the window"]),
    ("baseline before our time", event(window="window: [1901-01-01, 1901-02-01]\n") + "baseline: {before: P3000D}\n", [":4:11: ", "baseline.start: ", "year 1892"]),
    # what is wanted
    ("resolution is text", event() + "intent: {resolution: '30'}\n", [":4:22: ", "intent.resolution: ", "valid number (given: '30')", "metres"]),
    ("resolution is zero", event() + "intent: {resolution: 0}\n", [":4:22: ", "intent.resolution: ", "greater than 0 (given: 0)"]),
    ("resolution is true", event() + "intent: {resolution: true}\n", [":4:22: ", "intent.resolution: ", "given: True"]),
    ("unknown CRS", event() + "intent: {crs: 'EPSG:99999'}\n", [":4:15: ", "intent.crs: ", "'EPSG:99999'", "EPSG:32630"]),
    ("vertical CRS", event() + "intent: {crs: 'EPSG:5773'}\n", [":4:15: ", "intent.crs: ", "not a map projection"]),
    ("products are text", event() + "intent: {products: extent}\n", [":4:20: ", "intent.products: ", "valid tuple (given: 'extent')"]),
    ("product with a path", event() + "intent: {products: [extent, ../x]}\n", [":4:29: ", "intent.products[1]: ", "'../x'"]),
    ("product twice", event() + "intent: {products: [extent, extent]}\n", [":4:29: ", "intent.products[1]: ", "'extent' is given twice"]),
    ("unknown intent", event() + "intent: {resolutoin: 30}\n", [":4:10: ", "intent.resolutoin: ", "Did you mean 'resolution'?"]),
    ("share above one", event() + "intent: {max_failed_fraction: 1.5}\n", [":4:31: ", "intent.max_failed_fraction: ", "less than or equal to 1"]),
    ("half an observation", event() + "intent: {max_observations: 1.5}\n", [":4:28: ", "intent.max_observations: ", "valid integer"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_document_is_refused_in_two_lines(event_file, text, words):
    path = event_file(text)
    before = sorted(path.parent.iterdir())
    with pytest.raises(MdiveError) as caught:
        load_event(path)
    lines = str(caught.value).split("\n")
    assert len(lines) == 2, lines
    assert all(line.strip() == line and line for line in lines)
    assert all(len(line) < 400 for line in lines)
    assert isinstance(caught.value, InputError)
    assert caught.value.exit_code == EXIT_BAD_INPUT == 3
    assert lines[0].startswith(str(path))
    assert "secret" not in str(caught.value)
    position = 0
    for word in words:
        found = str(caught.value).find(word, position)
        assert found >= 0, (word, lines)
        position = found
    assert sorted(path.parent.iterdir()) == before


def test_the_table_is_long_enough():
    assert len(WRONG) >= 30
    assert len({name for name, *_ in WRONG}) == len(WRONG)


def test_the_document_that_the_table_starts_from_is_right():
    assert load_event(event()).event_class == "alpha"


def test_several_faults_are_counted_and_the_misspelt_name_comes_first():
    text = "event_class: alpha\nintent: {resolution: -1}\narae: 3\nwindow: {start: 2024-01-01, end: x}\n"
    with pytest.raises(InputError) as caught:
        load_event(text)
    assert str(caught.value).startswith("<text>:3:1: arae: there is no such name (and 3 more).\n")
    assert caught.value.hint.endswith("Did you mean 'area'?")


def test_a_missing_file_says_the_nearest_name(event_file):
    path = event_file("", "event.yaml")
    with pytest.raises(InputError, match="there is no such file") as caught:
        load_event(path.with_name("evnet.yaml"))
    assert "Did you mean 'event.yaml'?" in caught.value.hint


@pytest.mark.parametrize("path", ["no/such/folder/event.yaml", ".", "\0.yaml", "a" * 5000 + ".yaml"])
def test_a_path_that_cannot_be_read(path):
    with pytest.raises(InputError) as caught:
        load_event(path)
    assert str(caught.value).count("\n") == 1
    assert str(caught.value).replace("\n", "").isprintable()


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "event.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match=r"larger than 1,000,000 bytes"):
        load_event(path)


def test_a_device_without_end_is_not_read_forever():
    with pytest.raises(InputError, match="larger than"):
        load_event("/dev/zero")


def test_a_text_may_not_name_local_files():
    with pytest.raises(InputError, match="only in a document that is itself a file"):
        load_event(area("{file: /etc/passwd.geojson}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"event_class": "a",}', ":1:21: this is not JSON"),
        ('{"event_class": NaN}', ":1:17: event_class: 'NaN' is not a finite number"),
        ('{"event_class": -Infinity}', ":1:17: event_class: '-Infinity' is not a finite number"),
        ('{\n\t"event_class": 1e999}', ":2:17: event_class: '1e999' is not a finite number"),
        ('{"a": 1,\n "a": 2}', ":2:2: a: the name 'a' is given twice"),
        ('{"a":' * 40 + "1" + "}" * 40, "nested deeper than 32 levels"),
        ('{"a":' * 200_000, "nested deeper than 32 levels"),
        ("[1]", "the top level is a list"),
        ('{"event_class": "a",\n\t"windw": 3}', ":2:2: windw: there is no such name"),
        ('{"description": "\\ud800"}', "description: input should be a valid string"),
    ],
)  # fmt: skip
def test_json_is_read_as_strictly(event_file, text, words):
    path = event_file(text, "event.json")
    with pytest.raises(InputError) as caught:
        load_event(path)
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 1


def test_faults_of_other_documents_are_told_in_the_same_way(event_file):
    path = event_file("id: alpha\ntitle: Alpha\nneeds:\n- {any_of: [sra], phase: post}\nbaselin: 3\n")
    with pytest.raises(InputError) as caught:
        load_document(path, EventClassFile)
    assert ":5:1: baselin: there is no such name" in caught.value.message
    assert "Did you mean 'baseline'?" in caught.value.hint
    path = event_file("id: alpha\ntitle: Alpha\ndescription: A\nneeds:\n- {any_of: [sra], phase: post}\nbaseline: {before: P1D}\nrecipe: []\n"
                      "products: [a]\nlimits: {}\nsignificance: {min_area_ha: 1, min_share: 0}\ndefault_resolution: 10\n")  # fmt: skip
    with pytest.raises(InputError) as caught:
        load_document(path, EventClassFile)
    assert ":5:13: needs[0].any_of[0]: 'sra' is not allowed" in caught.value.message
    assert "Allowed: sar, optical" in caught.value.hint
    assert "Did you mean 'sar'?" in caught.value.hint


def test_the_whole_error_can_be_handled_by_a_program():
    with pytest.raises(InputError) as caught:
        load_event(json.dumps({"event_class": "a", "windw": 3}) + "\n")
    assert [problem.path for problem in caught.value.problems] == [("windw",), ("area",), ("window",)]
