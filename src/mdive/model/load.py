"""Documents from files and texts: strictly read, validated, and refused in two lines that say where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from mdive.errors import nearest
from mdive.model.refusal import Refusal, find_problems, refusal, shown
from mdive.model.strict import Parsed, locate, parse_json, parse_yaml, wrong

MAX_BYTES: Final[int] = 1_000_000
"""Largest document: hundreds of times an event file, and an outline of ten thousand corners still fits."""

_READ_BY_PEOPLE: Final[int] = 100_000
"""Characters of JSON beyond which nobody reads it line by line."""

_JSON_SUFFIXES: Final[frozenset[str]] = frozenset({".json", ".geojson"})

M = TypeVar("M", bound=BaseModel)

_folder: ContextVar[Path | None] = ContextVar("_folder", default=None)
"""Folder of the document that is being loaded from disk; None where there is none, and then no document may name a file."""


def load_document(source: str | Path, model: type[M], *, max_bytes: int = MAX_BYTES) -> M:
    """Read one YAML or JSON document.

    Parameters
    ----------
    source
        Path, or the text itself: a string with a line break, or one that begins with ``{``, is a text.
    model
        What it should be.
    max_bytes
        Size above which it is refused unread: documents that mdive wrote itself (plans) may be larger than those of people.

    Returns
    -------
    The validated document.

    Raises
    ------
    InputError
        With file, line, column and path of the first fault, what was given, what is allowed and the nearest name.
    """
    text, name, folder = _open(source, max_bytes)
    parsed = _parse(text, name)
    with _loading_from(folder):
        try:
            return model.model_validate(parsed.data)
        except ValidationError as error:
            problems = find_problems(error, model, parsed.data)
    first = problems[0]
    places = parsed if parsed.places or len(text) > MAX_BYTES else locate(text)
    place = places.place(first.path, of_name=first.of_name) if places else None
    raise refusal(problems, ":".join([name, *(str(number) for number in place or ())]))


def load_mapping(source: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read one YAML or JSON document as plain values, just as strictly."""
    text, name, _ = _open(source, max_bytes)
    data = _parse(text, name).data
    assert isinstance(data, dict)
    return data


def dump_document(document: BaseModel) -> str:
    """Return a document as JSON text that ``load_document`` reads back to an equal one; what is not given is left out.

    It is indented for people, unless it is longer than people read: an outline of ten thousand corners stays below ``MAX_BYTES`` only without.
    """
    compact = document.model_dump_json(exclude_none=True)
    return (document.model_dump_json(indent=2, exclude_none=True) if len(compact) <= _READ_BY_PEOPLE else compact) + "\n"


def beside(name: Any) -> Path:
    """Return the path of a file that a document names, relative to that document.

    Raises
    ------
    InputError
        Where the document did not come from a file: a text from elsewhere must not make mdive open local files.
    """
    folder = _folder.get()
    if folder is None:
        hint = "Give the outline as geojson, or read it with Area.from_file."
        raise Refusal("a file can be named only in a document that is itself a file.", hint)
    if not isinstance(name, str) or not name:
        raise Refusal(f"{shown(name)} is not the name of a file.", "Give its path, relative to this document.")
    return folder / name


def folder_of_document() -> Path | None:
    """Return the folder of the document that is being loaded, if it is a file."""
    return _folder.get()


@contextmanager
def _loading_from(folder: Path | None) -> Iterator[None]:
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def _open(source: str | Path, max_bytes: int) -> tuple[str, str, Path | None]:
    """Return the text of a source, its name for messages, and the folder it is in."""
    if isinstance(source, str) and ("\n" in source or source.lstrip()[:1] == "{" or not source):
        if len(source) > max_bytes:
            raise wrong(f"larger than {max_bytes:,} bytes.", "No document of mdive is that large.", source="<text>")
        return source.removeprefix("\ufeff"), "<text>", None
    path = Path(source)
    return read_text(path, max_bytes), str(path), path.parent


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a UTF-8 file after reading at most ``max_bytes`` + 1 bytes of it.

    Raises
    ------
    InputError
        For a file that is missing, a folder, not readable, too large, or not UTF-8.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        folder = path.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        hint = f"Check the path.{nearest(path.name, names)}" if folder.is_dir() else f"The folder {str(folder)!r} does not exist either."
        raise wrong("there is no such file.", hint, source=name) from None
    except IsADirectoryError:
        raise wrong("this is a folder, not a file.", "Give the document in it.", source=name) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise wrong(f"cannot be read: {reason}.", "Check the path and its permissions.", source=name) from None
    if len(raw) > max_bytes:
        raise wrong(f"larger than {max_bytes:,} bytes.", "No document of mdive is that large.", source=name)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise wrong(f"byte {error.start} is not UTF-8.", "Save the file as UTF-8.", source=name, place=(line, 1)) from None


def _parse(text: str, name: str) -> Parsed:
    """Return the values of a text whose top level is a mapping."""
    if not text.strip():
        raise wrong("the document is empty.", "Write at least what is required; `mdive schema` shows it.", source=name)
    if Path(name).suffix.lower() in _JSON_SUFFIXES or (name == "<text>" and _is_json(text)):
        parsed = parse_json(text, name)
    else:
        parsed = parse_yaml(text, name)
    if not isinstance(parsed.data, dict):
        what = {list: "a list", type(None): "nothing"}.get(type(parsed.data), "a single value")
        raise wrong(f"the top level is {what}, not a mapping.", "Write `name: value` lines.", source=name, place=parsed.place(()))
    return parsed


def _is_json(text: str) -> bool:
    """Whether a text is meant as JSON rather than as a YAML flow mapping: its first name is quoted."""
    return text.lstrip()[:1] == "{" and text.lstrip()[1:].lstrip()[:1] in {'"', "}"}
