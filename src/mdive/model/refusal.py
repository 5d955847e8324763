"""How a wrong value in a document becomes two lines: where it is and what was given; what is allowed and the nearest name.

pydantic finds the faults; this module finds the words. A validator raises ``Refusal``, which is a ``ValueError`` so that pydantic carries
it to the top with its path, and an ``InputError`` so that a caller who builds the value directly sees an ordinary error of mdive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from mdive.errors import InputError, nearest
from mdive.model.base import Document

Path = tuple[str | int, ...]
"""Keys and indices from the top of a document to a value."""

_SHOWN = 60
"""Characters of a given value that a message shows: enough to recognise it, short enough for one line of a terminal."""


_TOLD: Final[int] = 20
"""Faults that are put into words; the rest of a hostile document's is only counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a document."""

    path: Path
    message: str
    hint: str
    of_name: bool = False
    """Whether the name at the path is wrong, not its value."""


class Refusal(InputError, ValueError):
    """A value in a document is wrong.

    Parameters
    ----------
    message
        What was given and why it cannot be, without the path.
    hint
        What is allowed.
    path
        Where the value is, seen from the document that refuses it.
    problems
        All faults, the first one included, where there are several.
    """

    def __init__(self, message: str, hint: str = "", *, path: Path = (), problems: Sequence[Problem] = ()) -> None:
        super().__init__(one_line(message), one_line(hint))
        self.problems: tuple[Problem, ...] = tuple(problems) or (Problem(path, message, hint),)


class UserDocument(Document):
    """A document that people write by hand: building it from wrong values raises ``InputError``, never pydantic's own error."""

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise refusal(find_problems(error, type(self), data)) from None

    def __hash__(self) -> int:
        """Agree with ``==``, also where a field is a mapping."""
        return hash((type(self), *(_hashable(getattr(self, name)) for name in type(self).model_fields)))


def refusal(problems: Sequence[Problem], place: str = "") -> Refusal:
    """Return the error that tells the first problem in full and how many more there are.

    Parameters
    ----------
    problems
        At least one.
    place
        ``file:line:column`` of the first, or nothing.
    """
    first = problems[0]
    where = "".join(f"{part}: " for part in (place, dotted(first.path)) if part)
    message = f"{first.message.rstrip('.')} (and {len(problems) - 1} more)." if len(problems) > 1 else first.message
    return Refusal(f"{where}{message}", first.hint, problems=problems)


def under(name: str, error: Refusal) -> Refusal:
    """Return the same error, one level deeper in the document."""
    problems = [replace(problem, path=(name, *problem.path)) for problem in error.problems]
    return Refusal(error.message, error.hint, problems=problems)


def find_problems(error: ValidationError, model: type[BaseModel], data: Any) -> list[Problem]:
    """Put pydantic's findings into words, misspelt names first: they are what causes the missing ones.

    Parameters
    ----------
    error
        What pydantic raised.
    model
        The model that was being validated.
    data
        What it was given; steps of pydantic's location that are not in it (union branches) are left out of the paths.
    """
    from mdive.model.describe import describe

    schema = describe(model)
    # A default that waits for a wrong field is no fault of its own.
    found = [entry for entry in error.errors(include_url=False) if entry["type"] != "default_factory_not_called"]
    found.sort(key=lambda entry: entry["type"] != "extra_forbidden")
    told = [problem for entry in found[:_TOLD] for problem in _words(entry, schema, data)]
    return told + [Problem((), entry["msg"], "") for entry in found[_TOLD:]]


def _words(entry: Any, schema: Mapping[str, Any], data: Any) -> Iterator[Problem]:
    """Yield the problems in one entry of pydantic's error list."""
    kind, given = entry["type"], entry["input"]
    path = _real_path(entry["loc"], data, keep_last=kind == "missing")
    own = entry.get("ctx", {}).get("error")
    if isinstance(own, Refusal):
        yield from (replace(problem, path=path + problem.path) for problem in own.problems)
        return
    here = list(_subschemas(schema, path))
    says = next((" ".join(s["description"].split()) for s in here if s.get("description")), "")
    if kind == "extra_forbidden":
        allowed = sorted({name for s in _subschemas(schema, path[:-1]) for name in s.get("properties", {})})
        hint = f"Allowed here: {', '.join(allowed) or 'nothing'}.{nearest(str(path[-1]), allowed)}"
        yield Problem(path, "there is no such name.", hint, of_name=True)
    elif kind == "missing":
        yield Problem(path, "it is missing.", says or "Give it a value.")
    elif kind == "literal_error":
        choices = [str(choice) for s in here for choice in s.get("enum", [s["const"]] if "const" in s else [])]
        yield Problem(path, f"{shown(given)} is not allowed.", f"Allowed: {', '.join(choices)}.{nearest(str(given), choices)}")
    else:
        reason = entry["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ").rstrip(".")
        yield Problem(path, f"{reason[:1].lower()}{reason[1:]} (given: {shown(given)}).", says or "Correct the value.")


def _real_path(location: Sequence[str | int], data: Any, *, keep_last: bool) -> Path:
    """Return the steps of a location that exist in the data; pydantic also names the branch of a union that it tried."""
    path: list[str | int] = []
    for number, step in enumerate(location):
        inside = (isinstance(data, Mapping) and step in data) or (
            isinstance(data, Sequence) and not isinstance(data, str) and isinstance(step, int) and step < len(data)
        )
        if inside:
            data = data[step]
            path.append(step)
        elif keep_last and number == len(location) - 1:
            path.append(step)
        elif isinstance(data, BaseModel) and isinstance(step, str) and step in type(data).model_fields:
            data = getattr(data, step)
            path.append(step)
    return tuple(path)


def _subschemas(schema: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield every JSON Schema that could describe the value at a path, branches of unions included."""
    definitions = schema.get("$defs", {})
    todo: list[tuple[Mapping[str, Any], Path]] = [(schema, path)]
    while todo:
        current, rest = todo.pop(0)
        if "$ref" in current:
            # What stands beside the reference is about this use of it, and comes first.
            if not rest and current.get("description"):
                yield {"description": current["description"]}
            todo.append((definitions[current["$ref"].rsplit("/", 1)[-1]], rest))
            continue
        todo.extend((branch, rest) for word in ("anyOf", "oneOf", "allOf") for branch in current.get(word, ()))
        if not rest:
            yield current
        elif isinstance(rest[0], str):
            below = current.get("properties", {}).get(rest[0], current.get("additionalProperties"))
            if isinstance(below, Mapping):
                todo.append((below, rest[1:]))
        else:
            places = current.get("prefixItems", ())
            below = places[rest[0]] if rest[0] < len(places) else current.get("items")
            if isinstance(below, Mapping):
                todo.append((below, rest[1:]))


def dotted(path: Path) -> str:
    """Return ``window.start`` or ``recipe[2].when`` for a path."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def shown(value: Any) -> str:
    """Return a given value in a form short enough for a message."""
    text = one_line(repr(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters: a message has two lines, whatever was in the document."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.splitlines()))


def _hashable(value: Any) -> Any:
    """Return a hashable stand-in that is equal for equal values."""
    if isinstance(value, Mapping):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    return value
