"""The table of scientific mistakes is whole: each is guarded by tests that exist, or says why it does not concern what is built."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TABLE = yaml.safe_load((ROOT / "tests" / "mistakes.yaml").read_text(encoding="utf-8"))
COUNT = 40


@cache
def functions(path):
    """Names of the test functions of a file, which is not imported."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def missing(node_id):
    """What is not there of a test: its file, its function, or nothing."""
    path, _, name = node_id.partition("::")
    if not (path.startswith("tests/") and (ROOT / path).is_file()):
        return path
    return None if name in functions(path) else name


def test_every_number_is_there_once():
    assert [entry["number"] for entry in TABLE] == list(range(1, COUNT + 1))


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: str(entry["number"]))
def test_what_concerns_us_is_guarded_by_tests_that_were_seen_to_fail(entry):
    assert set(entry) == {"number", "mistake", "concerns", "reason", "tests"}
    assert all(isinstance(entry[name], str) and entry[name] for name in ("mistake", "reason"))
    assert isinstance(entry["concerns"], bool)
    assert bool(entry["tests"]) == entry["concerns"]
    for guard in entry["tests"]:
        assert set(guard) == {"test", "shown"}
        assert missing(guard["test"]) is None, guard["test"]
        assert guard["shown"].strip(), guard["test"]
    tests = [(guard["test"], guard["shown"]) for guard in entry["tests"]]
    assert len(set(tests)) == len(tests)


def test_a_guard_that_is_gone_is_noticed():
    assert missing("tests/test_mistakes.py::test_every_number_is_there_once") is None
    assert missing("tests/test_mistakes.py::test_that_nobody_wrote") == "test_that_nobody_wrote"
    assert missing("tests/test_mistakes.py::missing") == "missing"
    assert missing("tests/no_such_file.py::test_x") == "tests/no_such_file.py"
