"""Makes the reference read well: prose under Returns, documents (pydantic models) as tables of their fields, and the commands with options."""

import inspect
import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

HEADER = re.compile(r"^-{3,}\s*$")


def setup(app: Sphinx) -> dict[str, Any]:
    # Before napoleon (priority 500): it takes the prose under Returns for a type.
    app.connect("autodoc-process-docstring", returns_as_prose, priority=400)
    app.connect("autodoc-process-docstring", fields_as_table, priority=450)
    app.connect("autodoc-process-signature", without_signature)
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def returns_as_prose(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Turn a section Returns or Yields that holds sentences into one field; a section with types stays as it is."""
    for start in range(len(lines) - 1):
        if lines[start].strip() not in {"Returns", "Yields"} or not HEADER.match(lines[start + 1]):
            continue
        end = next((i for i in range(start + 2, len(lines) - 1) if HEADER.match(lines[i + 1])), len(lines))
        body = lines[start + 2 : end]
        if any(line.startswith((" ", "\t")) for line in body):
            continue
        word = "returns" if lines[start].strip() == "Returns" else "yields"
        lines[start:end] = ["", "", f":{word}: {' '.join(line.strip() for line in body).strip()}", "", ""]
        return


def fields_as_table(_app: Sphinx, what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Add the fields of a document: name, type, default and what it means, in its own words."""
    if what != "class" or not is_document(obj):
        return
    lines += [
        "",
        ".. list-table:: Fields",
        "   :header-rows: 1",
        "   :widths: 18 24 58",
        "",
        "   * - field",
        "     - type",
        "     - meaning",
    ]
    for name, field in obj.model_fields.items():
        lines += [f"   * - ``{name}``", f"     - {type_text(field)}", f"     - {meaning(obj, name, field)}"]
    lines.append("")


def is_document(obj: Any) -> bool:
    return inspect.isclass(obj) and issubclass(obj, BaseModel)


def meaning(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    """Return what is said of a field: its description, or the string below it."""
    for owner in model.__mro__:
        if name in getattr(owner, "__annotations__", {}):
            said = ModuleAnalyzer.for_module(owner.__module__).find_attr_docs().get((owner.__name__, name), [])
            text = field.description or " ".join(line.strip() for line in said)
            return text.strip().replace("{", r"\ {") or "\\ "
    return "\\ "


def type_text(field: FieldInfo) -> str:
    kind = words(field.annotation)
    return kind if field.is_required() else f"{kind}, optional"


def words(hint: Any) -> str:
    """Return a type in words: no validators, no ``Annotated``."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return words(parts[0])
    if origin in {Union, types.UnionType}:
        return " or ".join(dict.fromkeys(words(part) for part in parts if part is not type(None)))
    if origin is Literal:
        return " or ".join(f"``{part}``" for part in parts)
    if origin is tuple:
        return f"list of {words(parts[0])}"
    if origin is not None:
        return getattr(origin, "__name__", str(origin)).lower()
    return getattr(hint, "__name__", str(hint)).strip()


def without_signature(_app: Sphinx, what: str, _name: str, obj: Any, *_rest: Any) -> tuple[str, str] | None:
    """A document's signature repeats its table, with every validator."""
    return ("", "") if what == "class" and is_document(obj) else None


class CommandLine(SphinxDirective):
    """All commands with their arguments and options, from the application itself."""

    def run(self) -> list[nodes.Node]:
        from typer.main import get_command

        from mdive.cli.app import app

        lines = []
        for name, command in get_command(app).commands.items():
            lines += [f"mdive {name}", "-" * (len(name) + 6), "", command.help, ""]
            rows = [(self.spelling(p), p.help or "") for p in command.params if p.name != "help"]
            if rows:
                lines += [".. list-table::", "   :widths: 34 66", ""]
                lines += [line for left, right in rows for line in (f"   * - {left}", f"     - {right}")] + [""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)

    @staticmethod
    def spelling(parameter: Any) -> str:
        if parameter.param_type_name == "argument":
            return f"``{parameter.name.upper()}``"
        return ", ".join(f"``{option}``" for option in sorted(parameter.opts, key=len, reverse=True))
