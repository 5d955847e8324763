"""The guides do what they say: every file is written, every command and every piece of Python run, in order; tables agree with the code."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mdive
from mdive.algorithms import flood_tables, wildfire_tables
from mdive.config import PROFILES
from mdive.errors import MdiveError
from mdive.model import load_event
from mdive.model.flags import CAUSES, QC_FLAGS, UNOBSERVED
from mdive.plugins import algorithms, event_classes
from mdive.plugins.registry import registry
from mdive.products.ledger import SCHEMA

_spec = importlib.util.spec_from_file_location("guide", Path(__file__).with_name("guide.py"))
guide = importlib.util.module_from_spec(_spec)
sys.modules["guide"] = guide
_spec.loader.exec_module(guide)


@pytest.mark.parametrize("name", ["quickstart", "events", "catalogues", "running", "concepts"])
def test_a_guide_does_what_it_says(name, docs, place, capsys, monkeypatch):
    assert guide.follow(docs / f"{name}.md", capsys, monkeypatch) >= 3


@pytest.fixture
def installed(docs, place, monkeypatch):
    """The package of the guide, written from the page and installed by pip beside the others."""
    for block in guide.blocks((docs / "plugins.md").read_text()):
        if block.caption.startswith("mdive-greenery/"):
            target = place / block.caption
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.body)
    site = place / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", site]
    subprocess.run([*pip, place / "mdive-greenery"], check=True, capture_output=True, timeout=120)
    monkeypatch.syspath_prepend(str(site))
    registry(refresh=True)
    yield
    monkeypatch.undo()
    sys.modules.pop("mdive_greenery", None)
    importlib.invalidate_caches()
    registry(refresh=True)


def test_the_plugin_of_the_guide_installs_and_works(docs, installed, capsys, monkeypatch, place):
    assert not registry().failures
    assert "greenery.ndvi_drop" in algorithms()
    assert guide.follow(docs / "plugins.md", capsys, monkeypatch) >= 5
    # What it finds is the burned vegetation, and little else.
    from mdive.testing import score

    found = score("demo/wildfire/event/truth.tif", "greenery/products/extent.tif")
    assert found.tp > 5 * found.fp


def test_the_example_on_the_first_page_is_an_event(docs):
    names = {}
    first = next(b for b in guide.blocks((docs / "index.md").read_text()) if b.kind == "python")
    exec(first.body, names)
    assert names["event"].event_class == "flood.riverine"


def test_the_provider_of_the_guide_is_a_valid_document(docs, tmp_path):
    from mdive.model import load_document
    from mdive.model.datasource import Provider

    (block,) = [b for b in guide.blocks((docs / "catalogues.md").read_text()) if b.caption == "my-archive.yaml"]
    (tmp_path / block.caption).write_text(block.body)
    assert load_document(tmp_path / block.caption, Provider).name == "my-archive"


def test_every_page_has_only_commands_and_options_that_exist(docs):
    from typer.main import get_command

    from mdive.cli.app import app

    commands = {n: {o for p in c.params for o in p.opts} for n, c in get_command(app).commands.items()}
    seen = 0
    for page in docs.glob("*.md"):
        text = page.read_text()
        shells = "\n".join(b.body for b in guide.blocks(text) if b.kind in {"bash", "console"})
        lines = re.findall(r"^(?:\$ )?mdive (.*)$", shells, re.MULTILINE) + re.findall(r"(?<!`)`mdive ([^`\n]+)`", text)
        for line in lines:
            words = re.split(r"[#|;]", line)[0].split()
            assert words[0] in commands, (page.name, words)
            assert {w for w in words if w.startswith("--")} <= commands[words[0]], (page.name, words)
            seen += 1
    assert seen > 20


def table(docs, page, name):
    """Return the rows of a table that a comment names; code marks are taken off."""
    text = (docs / f"{page}.md").read_text()
    _, _, rest = text.partition(f"<!-- table: {name} -->\n")
    assert rest, name
    rows = []
    for line in rest.splitlines()[2:]:
        if not line.startswith("|"):
            break
        rows.append(tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")))
    return rows


def test_the_table_of_checks(docs):
    from mdive.testing import check_plugin

    told = dict(table(docs, "plugins", "checks"))
    known = {c.name: c.meaning.removeprefix("Check that ").replace("``", "`") for c in check_plugin("builtin")}
    assert told == known


def test_the_table_of_causes(docs):
    rows = table(docs, "quickstart", "cause")
    assert [(int(v), n, t) for v, n, t in rows[:-1]] == list(CAUSES)
    assert rows[-1][0] == "255"


def test_the_table_of_quality_bits(docs):
    rows = table(docs, "quickstart", "qc")
    assert {n: int(mask) for _, mask, n, _, _ in rows} == QC_FLAGS
    assert all(1 << int(bit) == int(mask) for bit, mask, *_ in rows)
    assert {n for _, _, n, unseen, _ in rows if unseen == "yes"} == {n for n, b in QC_FLAGS.items() if b & UNOBSERVED}


@pytest.mark.parametrize(("name", "classes"), [("flood classes", flood_tables.CLASSES), ("fire classes", wildfire_tables.EXTENT_CLASSES)])
def test_the_tables_of_classes(docs, name, classes):
    assert table(docs, "quickstart", name) == [(str(c.value), c.name, c.role, c.title) for c in classes]


def test_the_table_of_products(docs):
    rows = {r[0]: r[1] for r in table(docs, "quickstart", "products")}
    made = {}
    for spec in algorithms().values():
        if spec.package.startswith("mdive "):
            for output in spec.outputs:
                made.setdefault(output.name, set()).add(spec.name)
    everybody = set.union(*made.values())

    def words(by):
        others = sorted(everybody - by)
        if len(others) < 2:
            return " but ".join(["all", *others])
        return ", ".join(sorted(by))

    assert {name: text.replace("`", "") for name, text in rows.items()} == {n: words(by) for n, by in made.items()} | {"cause": "all"}


def test_the_table_of_event_classes(docs):
    rows = {name: [c.strip().strip("`") for c in children.split(",")] for name, children in table(docs, "events", "event classes")}
    known = event_classes()
    assert rows == {n: [c.partition(".")[2] for c in k.children] for n, k in known.items() if k.parent is None}


def test_the_table_of_profiles(docs):
    def row(p):
        cap = f"{p.memory_cap >> 30} GiB" if p.memory_cap else ""
        return p.name, f"{p.memory_share:.0%}".replace("%", " %"), cap, str(p.workers or "one per core"), str(p.tile_size)

    assert [(r[0], *r[2:]) for r in table(docs, "running", "profiles")] == [row(p) for p in PROFILES.values()]


def test_the_table_of_exit_codes(docs):
    import mdive.errors as errors

    codes = {int(code): name for code, name, _ in table(docs, "events", "exit codes")}
    known = {v: k.removeprefix("EXIT_").lower().replace("_", " ") for k, v in vars(errors).items() if k.startswith("EXIT_")}
    assert codes == known
    for kind in [MdiveError, *MdiveError.__subclasses__()]:
        assert kind.exit_code in codes


def test_the_table_of_the_ledger(docs):
    names = [n.strip().strip("`") for first, _ in table(docs, "concepts", "ledger") for n in first.split(",")]
    assert names == SCHEMA.names


def test_the_tables_of_the_run_folder(docs, place):
    plan = mdive.plan(load_event("demo/flood/event/event.yaml"), catalog="demo/flood/event/catalog.json")
    report = mdive.run(plan, "out")
    listed = {r[0] for r in table(docs, "quickstart", "folder")}
    there = {p.relative_to("out").as_posix() for p in Path("out").rglob("*") if p.is_file() and not p.name.startswith(".")}
    assert listed == there
    assert there - {"manifest.json"} == {p["path"] for p in json.loads(Path("out/manifest.json").read_text())["products"]}
    assert [r[0] for r in table(docs, "quickstart", "polygons")] == [c for c in report.features.columns if c != "bbox"]
