"""The tutorial, typed as it is written, in a folder and an environment of its own; its files are those of the example."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "mdive-plugin-example"


def load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


guide, outside = load("guide"), load("outside")


@pytest.fixture(scope="module")
def page(docs):
    return guide.blocks((docs / "plugin-tutorial.md").read_text())


def test_its_files_are_those_of_the_example(page):
    told = {b.caption.removeprefix("mdive-plugin-example/"): b.body for b in page if b.caption.startswith("mdive-plugin-example/")}
    kept = {
        p.relative_to(EXAMPLE).as_posix(): p.read_text()
        for p in EXAMPLE.rglob("*.*")
        if p.is_file() and p.suffix != ".pyc" and ".pytest_cache" not in p.parts
    }
    assert told == kept


def test_it_works_when_it_is_typed_as_written(page, tmp_path):
    variables = outside.environment(tmp_path / "environment")
    folder = tmp_path / "work"
    folder.mkdir()
    printed = commands = 0
    for block in page:
        if block.caption:
            target = folder / block.caption
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.body)
        elif block.kind == "bash":
            output = outside.shell(block.body, folder, variables)
            commands += 1
            if "pytest" in block.body:
                assert " passed" in output
                assert "failed" not in output
        elif block.kind == "text":
            lines = iter([guide.alike(line) for line in output.splitlines()])
            for line in filter(None, map(guide.alike, block.body.splitlines())):
                end = line.removesuffix("...").strip()
                assert any(got == line or (end != line and got.startswith(end)) for got in lines), (line, output)
                printed += 1
    assert (commands, printed > 10) == (5, True)
