"""Events: how they are written, what they are equal to, and that they survive storage and process borders."""

import pickle
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
import shapely
import yaml

from mdive.errors import InputError
from mdive.model import Area, Baseline, Event, Intent, TimeWindow, dump_document, load_document, load_event
from mdive.model.plan import Plan


def make(**changes):
    given = {"event_class": "alpha.beta", "area": Area.from_bbox(-0.60, 39.20, -0.20, 39.50), "window": ("2024-10-28", "2024-11-08")}
    return Event(**given | changes)


def test_the_form_of_the_readme():
    event = Event(event_class="alpha.beta", area=Area.from_bbox(-0.60, 39.20, -0.20, 39.50), window=("2024-10-28", "2024-11-08"))
    assert event.id == "alpha-beta-20241028-20241108"
    assert event.window == TimeWindow(start="2024-10-28", end="2024-11-08")
    assert event.baseline is None
    assert event.baseline_window is None
    assert event.intent == Intent()
    assert event.intent.max_failed_fraction == 0


def test_what_is_written_by_hand_is_what_is_made_in_python(event_file, good_event):
    written = load_event(event_file(good_event))
    made = make(
        id="river-2024", description="What happened", baseline=Baseline(before="P60D"), intent={"resolution": 30, "products": ["extent"]}
    )
    assert written == made
    assert written.identity == made.identity
    assert load_event(good_event) == made
    assert written.baseline_window.duration == timedelta(days=60)


def test_identity_does_not_depend_on_the_order_of_names(good_event):
    def turned(value):
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    data = yaml.safe_load(good_event)
    data["intent"]["parameters"] = {"b": 1, "a": [1, 2.5, True, "x"]}
    straight, reverse = load_event(yaml.safe_dump(data, sort_keys=False)), load_event(yaml.safe_dump(turned(data), sort_keys=False))
    assert straight == reverse
    assert straight.identity == reverse.identity
    assert hash(straight) == hash(reverse)
    assert len({straight, reverse}) == 1


def test_identity_is_frozen():
    """A stored plan keeps its name only if this never changes; whoever changes it bumps the version of the plan."""
    assert make().identity == "864c1c3dd5c07d6c59369db72d53a431ffab510f21b89f2b38a0c326bb1ddd66"


@pytest.mark.parametrize(
    "change",
    [{"id": "x"}, {"event_class": "alpha"}, {"description": "x"}, {"area": Area.from_bbox(-0.60, 39.20, -0.20, 39.51)}, {"window": ("2024-10-28", "2024-11-09")},
     {"baseline": {"before": "P1D"}}, {"intent": {"resolution": 10}}, {"intent": {"parameters": {"a": 1}}}, {"catalog": "x"}],
)  # fmt: skip
def test_every_field_is_part_of_the_identity(change):
    assert make(**change).identity != make(id=make().id).identity
    assert make(**change) != make()


@pytest.mark.parametrize("seed", ["0", "1"])
def test_identity_is_the_same_in_every_process(seed):
    code = "import mdive.model as m; print(m.Event(event_class='a', area={'bbox': [0, 0, 1, 1]}, window=('2024-01-01', '2024-01-02'), "
    code += "intent={'parameters': {'x': 1, 'b': 2}}).identity)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed})
    same = Event(event_class="a", area={"bbox": [0, 0, 1, 1]}, window=("2024-01-01", "2024-01-02"), intent={"parameters": {"b": 2, "x": 1}})
    assert run.stdout.strip() == same.identity


def test_an_event_is_frozen_and_pickles():
    event = make(baseline={"before": "P60D"}, intent={"parameters": {"a": (1, 2)}})
    again = pickle.loads(pickle.dumps(event))
    assert again == event
    assert again.identity == event.identity
    assert hash(again) == hash(event)
    for name in Event.model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(event, name, None)
    with pytest.raises(ValueError, match="frozen"):
        event.window.start = None


def test_errors_pickle_too():
    """They cross process borders."""
    with pytest.raises(InputError) as caught:
        make(window=("2024-11-08", "2024-10-28"), intent={"resolution": -1})
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.problems == caught.value.problems
    assert len(again.problems) == 2
    assert isinstance(again, InputError)


def test_python_gets_the_same_two_lines():
    with pytest.raises(InputError) as caught:
        make(windw=3)
    assert str(caught.value).startswith("windw: there is no such name.\nAllowed here: area, baseline, ")
    assert str(caught.value).endswith("Did you mean 'window'?")


def test_a_stored_event_is_read_back(event_file, good_event):
    event = load_event(good_event)
    assert load_event(event_file(dump_document(event), "event.json")) == event
    assert Event.model_validate(event.model_dump(mode="json")) == event
    assert Event.model_validate(event.model_dump()) == event


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("alpha", "alpha-20241028-20241108"), ("Übergröße", "ubergroe-20241028-20241108"), ("two Words", "two-words-20241028-20241108"),
     ("洪水", "event-20241028-20241108"), ("a" * 64, "a" * 46 + "-20241028-20241108"), (None, "event-20241028-20241108")],
)  # fmt: skip
def test_an_id_is_made_from_class_and_days(kind, expected):
    assert make(event_class=kind, description="x").id == expected


def test_a_description_alone_is_an_event():
    assert make(event_class=None, description=" The river rose.\nThen it fell. ").description == "The river rose.\nThen it fell."


def test_areas_and_windows_are_taken_in_any_form():
    box = {"area": shapely.box(0, 0, 1, 1)}
    assert make(**box) == make(area={"geojson": shapely.geometry.mapping(shapely.box(0, 0, 1, 1))})
    assert (
        make(window={"start": "2024-10-28", "end": "2024-11-08"}) == make(window=TimeWindow(start="2024-10-28", end="2024-11-08")) == make()
    )
    assert make(baseline=("2024-09-01", "2024-09-30")) == make(baseline={"start": "2024-09-01", "end": "2024-09-30"})
    assert make(intent={"crs": "epsg:32630"}).intent.crs == "EPSG:32630"


def test_a_catalogue_in_a_file_is_relative_to_it(event_file, tmp_path):
    text = dump_document(make())[:-3]
    for given, kept in [("earth-search", "earth-search"), ("https://example.com/stac/", "https://example.com/stac/"), ("catalog.json", str(tmp_path / "catalog.json")),
                        ("sub/folder", str(tmp_path / "sub/folder")), ("/abs/catalog.json", "/abs/catalog.json")]:  # fmt: skip
        assert load_event(event_file(f'{text}, "catalog": "{given}"}}', "event.json")).catalog == kept
    assert make(catalog="catalog.json").catalog == "catalog.json"


def test_the_recorded_cases_are_read(case_events):
    assert len(case_events) >= 8
    for path in case_events:
        event = load_event(path)
        assert event.id == path.parent.name
        assert 10e6 < event.area.area_m2 < 1e9
        assert event.window.duration >= timedelta(days=3)
    with_baseline = next(event for event in map(load_event, case_events) if event.baseline)
    assert with_baseline.baseline_window == TimeWindow(start="2016-06-20", end="2016-07-08")
    assert with_baseline.intent.resolution == 30


def test_reprs_are_short_and_escaped():
    event = make(description="<script>alert(1)</script> & more", event_class=None, catalog="a&b")
    assert repr(event) == ("Event('event-20241028-20241108', '<script>alert(1)</script> & more', Area.from_bbox(-0.6, 39.2, -0.2, 39.5), "
                           "TimeWindow('2024-10-28', '2024-11-08'))")  # fmt: skip
    page = event._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "a&amp;b" in page
    assert "\n" not in repr(make(event_class=None, description="a\nb" * 100))
    assert len(repr(make(event_class=None, description="a\nb" * 100))) < 250


def test_importing_the_documents_imports_no_geometry():
    code = "import sys, mdive.model; print([m for m in ('shapely', 'pyproj', 'numpy', 'yaml', 'xarray', 'pandas', 'geopandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_large_document_of_our_own_can_be_read(event_file):
    path = event_file('{"x": "' + "a" * 1_100_000 + '"}', "plan.json")
    with pytest.raises(InputError, match=r"larger than 1,000,000 bytes"):
        load_document(path, Plan)
    with pytest.raises(InputError, match="there is no such name"):
        load_document(path, Plan, max_bytes=10_000_000)


def test_the_largest_outline_is_stored_and_read_back():
    angles = np.linspace(0, 2 * np.pi, 9_999)
    event = make(area=shapely.Polygon(np.column_stack((100.123 + np.cos(angles) / 3, 60.456 + np.sin(angles) / 3))))
    assert load_event(dump_document(event)) == event
