"""The notebook: its cells run in order, its outputs are there, small, and of no particular machine."""

import json
import re


def cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def test_its_cells_run_in_order(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "notebook"}
    for number, cell in enumerate(cells(notebook)):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["report"].decision == "event"
    assert names["found"].f1 > 0.9
    assert (tmp_path / "first-map" / "report.html").is_file()
    # The words that the stored outputs print are still those that the code prints.
    stored = "".join("".join(o["text"]) for c in cells(notebook) for o in c["outputs"] if o["output_type"] == "stream")
    words = re.compile(r"[A-Za-z][a-z_]+")
    assert words.findall(capsys.readouterr().out) == words.findall(stored)


def test_it_was_executed_and_is_small(notebook):
    assert notebook.stat().st_size < 300_000
    text = notebook.read_text()
    assert [c["execution_count"] for c in cells(notebook)] == list(range(1, len(cells(notebook)) + 1))
    assert not any(o["output_type"] == "error" or o.get("name") == "stderr" for c in cells(notebook) for o in c["outputs"])
    assert sum("image/png" in o.get("data", {}) for c in cells(notebook) for o in c["outputs"]) == 1
    assert not re.search(r"\"/(tmp|home|root|work)/|/(home|root|tmp)/", text)
