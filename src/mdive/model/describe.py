"""The JSON Schema of one document, with the string under each field as its description."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue


class DocumentSchema(GenerateJsonSchema):
    """pydantic's generator, with descriptions from the docstrings of attributes.

    pydantic can read them itself (``use_attribute_docstrings``), but does so when the class is made: that would cost every import what only
    a schema or an error message needs.
    """

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Add the descriptions that the fields do not give themselves."""
        json_schema = super().model_schema(schema)
        texts: dict[str, str] = {}
        for parent in reversed(schema["cls"].__mro__):
            if issubclass(parent, BaseModel) and parent is not BaseModel:
                texts |= attribute_docstrings(parent)
        if "description" in json_schema:
            # The sections of a docstring (examples, errors) are for Python.
            json_schema["description"] = re.split(r"\n\n\w+\n-{3,}", json_schema["description"])[0]
        for form in (json_schema, *json_schema.get("anyOf", ())):
            for name, below in form.get("properties", {}).items():
                if isinstance(below, dict) and name in texts:
                    below.setdefault("description", texts[name])
        return json_schema


@cache
def attribute_docstrings(cls: type) -> dict[str, str]:
    """Return the string under each annotated attribute of a class; nothing where the source is not there."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                texts[field.target.id] = inspect.cleandoc(value.value)
    return texts


@cache
def describe(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what a document is made from."""
    schema = model.model_json_schema(schema_generator=DocumentSchema, mode="validation")
    if "$ref" not in schema:
        return schema
    # A document that may hold others of its kind is defined among its parts; whoever reads the schema looks for it at the top.
    own = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return {"$defs": schema["$defs"], **own}
