"""Text files are UTF-8 whatever the locale says: every call that reads or writes text names its encoding."""

import ast
from pathlib import Path

import mdive

ROOT = Path(mdive.__file__).parent
TEXT = {"read_text": 0, "write_text": 1}
"""Methods of a path, and where their encoding stands when it is not named."""


def unnamed(source):
    """Return the lines of calls that leave the encoding to the locale."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg in ("encoding", None) for k in node.keywords):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if isinstance(function, ast.Attribute) and name in TEXT:
            wrong = len(node.args) <= TEXT[name] and not is_self(function.value)
        elif name == "open":
            # os.open, rasterio.open and the like take no mode of text; the built-in and Path.open do.
            mode = mode_of(node, 1 if isinstance(function, ast.Name) else 0)
            wrong = (isinstance(function, ast.Name) and mode is None) or (mode is not None and "b" not in mode)
        else:
            wrong = name in ("NamedTemporaryFile", "TemporaryFile", "fdopen") and "b" not in (mode_of(node, 0) or "b")
        if wrong:
            found.append(node.lineno)
    return found


def is_self(value):
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def mode_of(call, place):
    given = [k.value for k in call.keywords if k.arg == "mode"] or call.args[place : place + 1]
    value = given[0].value if given and isinstance(given[0], ast.Constant) else None
    return value if isinstance(value, str) and value and set(value) <= set("rwaxbt+") else None


def test_every_text_file_names_its_encoding():
    sources = {path: path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    assert len(sources) > 100
    assert [f"{path.relative_to(ROOT)}:{line}" for path, source in sorted(sources.items()) for line in unnamed(source)] == []


def test_the_search_finds_what_it_is_for():
    wrong = ["p.read_text()", "p.write_text(t)", "open(p)", "open(p, 'w')", "p.open('a+')", "p.open(mode='r')", "NamedTemporaryFile('w')"]
    right = [
        "p.read_text(encoding='utf-8')",
        "p.read_text('utf-8')",
        "p.write_text(t, 'ascii')",
        "open(p, 'rb')",
        "p.open('rb')",
        "rasterio.open(p)",
        "rasterio.open(p, 'w', **profile)",
        "os.open(p, os.O_RDONLY)",
        "NamedTemporaryFile()",
        "self.read_text(x)",
    ]
    assert [text for text in wrong if not unnamed(text)] == []
    assert [text for text in right if unnamed(text)] == []
