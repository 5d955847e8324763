"""Wrong input of every kind: two lines, the right exit code, nothing written."""

import os
import sys

import pytest

from mdive.cli import main

EVENT = """\
id: test
event_class: {kind}
area: {area}
window: {window}
catalog: {catalog}
{more}
"""


def event(
    tmp_path,
    *,
    kind="flood",
    area="{bbox: [1, 2, 1.1, 2.1]}",
    window="{start: 2024-01-01, end: 2024-01-05}",
    catalog="earth-search",
    more="",
):
    path = tmp_path / "event.yaml"
    path.write_text(EVENT.format(kind=kind, area=area, window=window, catalog=catalog, more=more))
    return path


CASES = {
    "unknown class": (dict(kind="flud"), [], 3),
    "unknown child": (dict(kind="flood.rivering"), [], 3),
    "area on a line": (dict(area="{bbox: [1, 2, 1, 3]}"), [], 3),
    "area on a point": (dict(area="{bbox: [1, 2, 1, 2]}"), [], 3),
    "area out of bounds": (dict(area="{bbox: [1, 2, 3, 95]}"), [], 3),
    "area of three numbers": (dict(area="{bbox: [1, 2, 3]}"), [], 3),
    "area of words": (dict(area="{bbox: [a, b, c, d]}"), [], 3),
    "no such area file": (dict(area="{file: nowhere.geojson}"), [], 3),
    "area without a form": (dict(area="{circle: 3}"), [], 3),
    "window reversed": (dict(window="{start: 2024-02-01, end: 2024-01-05}"), [], 3),
    "naive time": (dict(window="{start: '2024-01-01T10:00:00', end: 2024-01-05}"), [], 3),
    "no such day": (dict(window="{start: 2024-02-30, end: 2024-03-05}"), [], 3),
    "baseline in the window": (dict(more="baseline: {start: 2024-01-02, end: 2024-01-03}"), [], 3),
    "misspelt key": (dict(more="intnet: {resolution: 10}"), [], 3),
    "negative resolution": (dict(more="intent: {resolution: -10}"), [], 3),
    "no such CRS": (dict(more="intent: {crs: 'EPSG:999999'}"), [], 3),
    "duplicate key": (dict(more="id: again"), [], 3),
    "two documents": (dict(more="---\nid: b"), [], 3),
    "alias": (dict(more="description: &a x\ntitle: *a"), [], 3),
    "not a number": (dict(more="intent: {resolution: .nan}"), [], 3),
    "unknown provider": (dict(catalog="earth-serch"), [], 3),
    "no such catalogue": (dict(), ["--catalog", "nowhere/catalog.json"], 3),
    "unknown profile": (dict(), ["--profile", "laptoop"], 3),
    "unknown runtime": (dict(), ["--runtime", "threds"], 3),
    "no workers": (dict(), ["--workers", "0"], 3),
    "parameter without value": (dict(), ["--param", "looks"], 2),
    "unknown option": (dict(), ["--tilesize", "3"], 2),
    "no algorithm": (dict(kind="storm"), [], 4),
}


def run(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mdive", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


@pytest.mark.parametrize("name", CASES)
def test_wrong_events_and_options(name, tmp_path, capsys, monkeypatch, empty_catalog):
    fields, options, code = CASES[name]
    fields = {"catalog": str(empty_catalog), **fields}
    out = tmp_path / "out"
    found, said = run(["run", "--event", event(tmp_path, **fields), "--out", out, *options], capsys, monkeypatch)
    assert (found, name) == (code, name), said.err
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert said.out == ""
    assert "Traceback" not in said.err
    if code != 2:
        assert len(lines) == 2, said.err
    assert not out.exists()


@pytest.fixture
def empty_catalog(tmp_path):
    import json

    path = tmp_path / "catalogue" / "catalog.json"
    path.parent.mkdir()
    path.write_text(
        json.dumps(
            {
                "type": "Catalog",
                "id": "empty",
                "stac_version": "1.1.0",
                "description": "far away",
                "links": [{"rel": "item", "href": "./item.json"}],
            }
        )
    )
    ring = [[100, 50], [101, 50], [101, 51], [100, 51], [100, 50]]
    band = {"href": "vv.tif", "type": "image/tiff; application=geotiff", "unit": "dB", "data_type": "float32"}
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "far",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [100, 50, 101, 51],
    }
    item |= {"properties": {"datetime": "2024-01-02T00:00:00Z"}, "links": [], "assets": {"vv": band}}
    (path.parent / "item.json").write_text(json.dumps(item))
    return path


def test_a_huge_file_is_refused_unread(tmp_path, capsys, monkeypatch):
    path = tmp_path / "event.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    code, said = run(["run", "--event", path, "--out", tmp_path / "out"], capsys, monkeypatch)
    assert code == 3
    assert len(said.err.strip().splitlines()) == 2


def test_no_such_file_and_wrong_parameter(tmp_path, capsys, monkeypatch, empty_catalog):
    code, said = run(["run", "--event", tmp_path / "none.yaml", "--out", tmp_path / "out"], capsys, monkeypatch)
    assert code == 3
    path = event(tmp_path, catalog=str(empty_catalog))
    code, said = run(["run", "--event", path, "--out", tmp_path / "out", "--param", "looksy=3"], capsys, monkeypatch)
    assert (code, "looks" in said.err) == (3, True)
    code, said = run(["run", "--event", path, "--out", tmp_path / "out", "--param", "looks=-3"], capsys, monkeypatch)
    assert code == 3


def test_folders_that_cannot_be_written(tmp_path, capsys, monkeypatch, empty_catalog):
    path = event(tmp_path, catalog=str(empty_catalog))
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.doc").write_text("x")
    code, said = run(["run", "--event", path, "--out", used], capsys, monkeypatch)
    assert (code, os.listdir(used)) == (1, ["thesis.doc"])
    assert len(said.err.strip().splitlines()) == 2
    file = tmp_path / "file"
    file.write_text("x")
    code, _ = run(["run", "--event", path, "--out", file], capsys, monkeypatch)
    assert code == 1
    code, said = run(["run", "--event", path, "--out", "/proc/mdive"], capsys, monkeypatch)
    assert code == 1
    assert len(said.err.strip().splitlines()) == 2


@pytest.mark.parametrize(
    "command", [["algorithms"], ["providers"], ["schema"], ["schema", "event"], ["doctor"], ["algorithms", "flood.sar_threshold"]]
)
def test_commands_that_tell(command, capsys, monkeypatch):
    code, said = run(command, capsys, monkeypatch)
    assert code == 0
    assert len(said.out) > 20
