"""What a run writes about itself: quality, provenance and manifest refuse what could mislead."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mdive.errors import InputError
from mdive.model import Manifest, Provenance, Quality, dump_document, load_document
from mdive.model.fields import CleanHref, RelativePath
from mdive.model.provenance import Activity, InputEntity

SHA = "0123456789abcdef" * 4
MOMENT = datetime(2024, 11, 8, 12, 30, tzinfo=UTC)
FILE = {
    "name": "extent",
    "path": "products/extent.tif",
    "media_type": "image/tiff; application=geotiff; profile=cloud-optimized",
    "sha256": SHA,
    "size": 7,
}
MANIFEST = {"run_id": "r", "plan_identity": SHA, "status": "complete", "decision": "event", "products": [FILE], "created": MOMENT}
QUALITY = {
    "area_m2": 100.0,
    "observed_share": 0.8,
    "classes": [
        {"value": 0, "name": "none", "role": "background", "area_m2": 50.0},
        {"value": 1, "name": "some", "role": "event", "area_m2": 30.0},
    ],
    "headline": {"low_m2": 20.0, "estimate_m2": 30.0, "high_m2": 45.0},
    "unobserved": {"cloud": 20.0},
    "checks": [{"name": "observed_share", "status": "review", "value": 0.8, "limit": 0.8, "text": "A fifth was not seen."}],
    "grade": "B",
    "decision": "event",
    "reasons": ["A fifth was not seen."],
}
ACTIVITY = {"plan_identity": SHA, "algorithm": {"name": "a.b", "version": "1.0.0"}, "started": MOMENT, "ended": MOMENT}
INPUT = {
    "item": "i",
    "collection": "c",
    "band": "vv",
    "href": "https://user:pw@example.com/a.tif?sig=SECRET#x",
    "datetime": "2024-11-08T00:00:00Z",
}
PROVENANCE = {
    "run_id": "r",
    "inputs": [INPUT],
    "activity": ACTIVITY,
    "outputs": [{"path": "a.tif", "sha256": SHA, "media_type": "image/tiff"}],
}


@pytest.mark.parametrize(("model", "data"), [(Manifest, MANIFEST), (Quality, QUALITY), (Provenance, PROVENANCE)])
def test_they_are_read_back_as_they_were(model, data):
    document = model.model_validate(data)
    again = load_document(dump_document(document), model)
    assert again == document
    assert again.identity == document.identity


@pytest.mark.parametrize(
    ("model", "data", "change"),
    [
        (Manifest, MANIFEST, {"status": "done"}),
        (Manifest, MANIFEST, {"decision": "yes"}),
        (Manifest, MANIFEST, {"plan_identity": SHA[:-1]}),
        (Manifest, MANIFEST, {"plan_identity": SHA.upper()}),
        (Manifest, MANIFEST, {"created": datetime(2024, 11, 8)}),
        (Manifest, MANIFEST, {"version": 2}),
        (Manifest, MANIFEST, {"products": [FILE, FILE]}),
        (Manifest, MANIFEST, {"products": [FILE | {"size": -1}]}),
        (Manifest, MANIFEST, {"products": [FILE | {"path": "../x"}]}),
        (Manifest, MANIFEST, {"products": [FILE | {"media_type": "tiff"}]}),
        (Manifest, MANIFEST, {"extra": 1}),
        (Quality, QUALITY, {"observed_share": 1.01}),
        (Quality, QUALITY, {"observed_share": float("nan")}),
        (Quality, QUALITY, {"area_m2": -1}),
        (Quality, QUALITY, {"area_m2": float("inf")}),
        (Quality, QUALITY, {"headline": {"low_m2": 31, "estimate_m2": 30, "high_m2": 45}}),
        (Quality, QUALITY, {"headline": {"low_m2": 20, "estimate_m2": 30, "high_m2": 29}}),
        (Quality, QUALITY, {"unobserved": {"cloud": -1}}),
        (Quality, QUALITY, {"grade": "E"}),
        (Quality, QUALITY, {"checks": [{"name": "a", "status": "maybe", "text": "b"}]}),
        (Provenance, PROVENANCE, {"outputs": [{"path": "/a.tif", "sha256": SHA, "media_type": "image/tiff"}]}),
        (Provenance, PROVENANCE, {"activity": ACTIVITY | {"ended": datetime(2024, 11, 8, 12, 29, tzinfo=UTC)}}),
    ],
)
def test_what_could_mislead_is_refused(model, data, change):
    model.model_validate(data)
    with pytest.raises(ValidationError):
        model.model_validate(data | change)


def test_a_stored_record_that_was_changed_is_refused_in_two_lines(event_file):
    text = dump_document(Manifest.model_validate(MANIFEST)).replace("products/extent.tif", "../../etc/passwd")
    with pytest.raises(InputError) as caught:
        load_document(event_file(text, "manifest.json"), Manifest)
    assert "manifest.json:10:15: " in str(caught.value)
    assert "products[0].path: '../../etc/passwd' is not a plain relative path" in str(caught.value)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    ("href", "kept"),
    [
        ("https://example.com/a/b.tif?sig=SECRET&se=2024", "https://example.com/a/b.tif"),
        ("https://user:pw@example.com:8443/a.tif#x", "https://example.com:8443/a.tif"),
        ("s3://bucket/a%20b.tif?versionId=1", "s3://bucket/a%20b.tif"),
        ("/data/a?b#c.tif", "/data/a?b#c.tif"),
        ("file:///data/a.tif", "file:///data/a.tif"),
    ],
)
def test_no_secret_of_a_url_is_kept(href, kept):
    assert TypeAdapter(CleanHref).validate_python(href) == kept
    assert InputEntity.model_validate(INPUT | {"href": href}).href == kept


def test_times_are_utc():
    activity = Activity.model_validate(ACTIVITY | {"started": "2024-11-08T13:00:00+01:00"})
    assert activity.started == datetime(2024, 11, 8, 12, tzinfo=UTC)
    assert activity.model_dump(mode="json")["started"] == "2024-11-08T12:00:00Z"


PATHS = TypeAdapter(RelativePath)


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "/", "/a", "//a", "a/../b", "../a", "a/..", "./a", "a//b", "a/", "a/./b", "C:/a", "c:a", "a\\b", "..\\a", "a\0b", "a\nb", "a" * 1025, "a/\u202eb"],
)  # fmt: skip
def test_paths_that_could_lead_elsewhere(path):
    with pytest.raises(ValidationError):
        PATHS.validate_python(path)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "b.tif", "..", ".", "", "/", "\\", ":", "~", " ", "é", "\0"]), max_size=6).map("/".join))
def test_every_accepted_path_stays_inside(path):
    from pathlib import Path

    try:
        PATHS.validate_python(path)
    except ValidationError:
        return
    root = Path("/run/folder")
    assert (root / path).is_relative_to(root)
    assert Path(root / path).resolve(strict=False).is_relative_to(root)
    assert ".." not in Path(path).parts
