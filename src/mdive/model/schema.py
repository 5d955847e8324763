"""The JSON Schemas of all documents; ``python -m mdive.model.schema`` writes them into ``schemas/``."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from mdive.errors import UsageError, nearest
from mdive.model.describe import describe

DIALECT: Final[str] = "https://json-schema.org/draft/2020-12/schema"
BASE: Final[str] = "https://mdive.readthedocs.io/schemas/"
"""Where the ``$id`` of each schema is; every schema stands alone, so nothing is ever fetched from there."""

DOCUMENTS: Final[dict[str, tuple[str, str]]] = {
    "area": ("mdive.model.area", "Area"),
    "datasource": ("mdive.model.datasource", "Provider"),
    "event": ("mdive.model.event", "Event"),
    "event_class": ("mdive.model.event_class", "EventClass"),
    "intent": ("mdive.model.intent", "Intent"),
    "manifest": ("mdive.model.manifest", "Manifest"),
    "pipeline": ("mdive.model.plan", "Pipeline"),
    "plan": ("mdive.model.plan", "Plan"),
    "provenance": ("mdive.model.provenance", "Provenance"),
    "quality": ("mdive.model.quality", "Quality"),
}
"""Module and class of each document that has a schema."""


def generate_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one document, by name.

    Raises
    ------
    UsageError
        For a name that is not in ``DOCUMENTS``.
    """
    if name not in DOCUMENTS:
        raise UsageError(f"there is no document {name!r}.", f"Documents: {', '.join(DOCUMENTS)}.{nearest(name, DOCUMENTS)}")
    module, cls = DOCUMENTS[name]
    body = describe(getattr(import_module(module), cls))
    return {"$schema": DIALECT, "$id": f"{BASE}{file_name(name)}"} | body


def file_name(name: str) -> str:
    """Return the name of a schema's file."""
    return f"{name}.schema.json"


def generate_schemas() -> dict[str, dict[str, Any]]:
    """Return every schema by the name of its file."""
    return {file_name(name): generate_schema(name) for name in DOCUMENTS}


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into a folder and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in generate_schemas().items():
        path = folder / name
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[3] / "schemas"
    for written in write_schemas(Path(sys.argv[1]) if len(sys.argv) > 1 else here):
        sys.stdout.write(f"{written}\n")
