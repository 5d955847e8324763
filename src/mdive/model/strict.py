"""Text to plain values, strictly: what could mean two things, or be used to hurt, is refused with its line and column.

YAML is read with the scalars of YAML 1.2 (``no`` and ``1:30`` are text, ``1e3`` is a number, ``010`` is ten); dates stay text. Aliases,
anchors, tags, duplicate names, several documents, numbers that are not finite and deep nesting are refused, in JSON too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from mdive.model.refusal import Path, Problem, Refusal, one_line, refusal, shown

MAX_DEPTH: Final[int] = 32
"""Deepest nesting: five times what any document of mdive has, far below where a parser runs out of stack."""

_TOO_DEEP: Final = (f"nested deeper than {MAX_DEPTH} levels.", "No document of mdive is that deep.")

MAX_DIGITS: Final[int] = 64
"""Longest number: four times what a double can hold."""

Place = tuple[int, int]
"""Line and column, from one."""

_NULL: Final = re.compile(r"~|null|Null|NULL|")
_TRUE: Final = re.compile(r"true|True|TRUE")
_FALSE: Final = re.compile(r"false|False|FALSE")
_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_RADIX: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(slots=True)
class Parsed:
    """Plain values, and where each of them stands."""

    data: Any
    places: dict[Path, Place] = field(default_factory=dict)
    """Where the value at a path begins."""
    names: dict[Path, Place] = field(default_factory=dict)
    """Where the name of the value at a path begins."""

    def place(self, path: Path, *, of_name: bool = False) -> Place | None:
        """Return where a path is, or the innermost part of it that exists."""
        for length in range(len(path), -1, -1):
            inner = path[:length]
            first, second = (self.names, self.places) if of_name and length == len(path) else (self.places, self.names)
            found = first.get(inner) or second.get(inner)
            if found:
                return found
        return None


def wrong(message: str, hint: str, *, source: str, place: Place | None = None, path: Path = ()) -> Refusal:
    """Return the error for one fault of a text."""
    where = ":".join([source, *(str(number) for number in place or ())])
    return refusal([Problem(path, message, hint)], where)


def parse_yaml(text: str, source: str, *, is_json: bool = False) -> Parsed:
    """Return the values of one strict YAML document.

    Parameters
    ----------
    text
        The document.
    source
        Its name in error messages.
    is_json
        Whether ``NaN`` and ``Infinity`` are the numbers of JavaScript instead of words.

    Raises
    ------
    InputError
        With line and column.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _build(yaml.parse(text, Loader=loader), _Builder(source, is_json=is_json))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else None
        reason = f"this is not YAML: {error.problem or error.context}."
        raise wrong(reason, "Check indentation, colons, quotes and brackets there.", source=source, place=place) from None
    except (yaml.YAMLError, UnicodeError) as error:
        # Characters that YAML does not allow; the position is counted in bytes of UTF-8.
        before = text.encode("utf-8", "replace")[: getattr(error, "position", None) or 0]
        reason = one_line(str(error).splitlines()[0]).rstrip(".")[:120]
        line = before.count(b"\n") + 1
        raise wrong(f"this is not YAML: {reason}.", "Save it as plain UTF-8 text.", source=source, place=(line, 1)) from None


class _Builder:
    """Builds values from parser events, without recursion."""

    def __init__(self, source: str, *, is_json: bool) -> None:
        self.source = source
        self.is_json = is_json
        self.parsed = Parsed(None)
        self.open: list[tuple[Any, Path]] = []
        """The collections that have begun and not ended, with their paths."""
        self.pending: list[str | None] = []
        """For each of them, the name that waits for its value."""

    def refuse(self, message: str, hint: str, place: Place) -> NoReturn:
        path: Path = ()
        if self.open:
            name = self.pending[-1]
            path = (*self.open[-1][1], *(() if name is None else (name,)))
        raise wrong(message, hint, source=self.source, place=place, path=path) from None

    @property
    def wants_name(self) -> bool:
        return bool(self.open) and isinstance(self.open[-1][0], dict) and self.pending[-1] is None

    def name(self, text: str, place: Place) -> None:
        parent, above = self.open[-1]
        self.pending[-1] = text
        if text in parent:
            first = self.parsed.names[(*above, text)][0]
            self.refuse(f"the name {shown(text)} is given twice.", f"It is already on line {first}; keep one of them.", place)
        self.parsed.names[(*above, text)] = place

    def value(self, value: Any, place: Place) -> Path:
        """Hang a value under the innermost open collection and return its path."""
        path: Path = ()
        if not self.open:
            self.parsed.data = value
        else:
            parent, above = self.open[-1]
            if isinstance(parent, list):
                path = (*above, len(parent))
                parent.append(value)
            else:
                name = self.pending[-1]
                assert name is not None
                path = (*above, name)
                parent[name] = value
                self.pending[-1] = None
        self.parsed.places[path] = place
        return path

    def scalar(self, event: Any, place: Place) -> None:
        if self.wants_name:
            self.name(event.value, place)
            return
        try:
            if self.is_json and event.implicit[0] and event.value in {"NaN", "Infinity", "-Infinity"}:
                raise _not_finite(event.value)
            value = _scalar(event.value) if event.implicit[0] else event.value
        except Refusal as error:
            self.refuse(error.message, error.hint, place)
        self.value(value, place)

    def begin(self, collection: Any, place: Place) -> None:
        if self.wants_name:
            self.refuse("a list or mapping cannot be a name.", "Names are plain text.", place)
        if len(self.open) >= MAX_DEPTH:
            raise wrong(*_TOO_DEEP, source=self.source, place=place)
        self.open.append((collection, self.value(collection, place)))
        self.pending.append(None)

    def end(self) -> None:
        self.open.pop()
        self.pending.pop()


def _build(events: Iterator[Any], builder: _Builder) -> Parsed:
    """Return the values that the events of a YAML parser make up."""
    import yaml

    documents = 0
    for event in events:
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        match event:
            case yaml.AliasEvent():
                builder.refuse(f"{shown(f'*{anchor}')}: aliases are not read.", "Write the value out.", place)
            case _ if anchor is not None:
                builder.refuse(f"{shown(f'&{anchor}')}: anchors are not read.", "Write the value out where it is needed.", place)
            case _ if tag is not None:
                builder.refuse(f"{shown(tag)}: tags are not read.", "Remove it; quote a text that begins with !.", place)
            case yaml.DocumentStartEvent():
                documents += 1
                if documents > 1:
                    builder.refuse("a second document begins here.", "Keep one document per file (no second ---).", place)
            case yaml.ScalarEvent():
                builder.scalar(event, place)
            case yaml.MappingStartEvent():
                builder.begin({}, place)
            case yaml.SequenceStartEvent():
                builder.begin([], place)
            case yaml.CollectionEndEvent():
                builder.end()
    return builder.parsed


def _scalar(text: str) -> Any:
    """Return the value of a plain scalar by the core schema of YAML 1.2."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _NOT_FINITE.fullmatch(text):
        raise _not_finite(text)
    if _INTEGER.fullmatch(text):
        return _integer(text, 10)
    if _RADIX.fullmatch(text):
        return _integer(text, 0)
    return _float(text) if _FLOAT.fullmatch(text) else text


def _not_finite(text: str) -> Refusal:
    return Refusal(f"{shown(text)} is not a finite number.", "Leave the entry out instead of NaN or infinity.")


def _integer(text: str, base: int) -> int:
    if len(text) > MAX_DIGITS:
        raise Refusal(f"a number of {len(text)} digits.", f"Numbers have at most {MAX_DIGITS} digits; quote it if it is text.")
    return int(text, base)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _not_finite(text)
    return value


def parse_json(text: str, source: str) -> Parsed:
    """Return the values of one strict JSON document; places are filled in by ``locate`` when an error needs them.

    Raises
    ------
    InputError
        With line and column where they are known.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in items:
            if name in found:
                raise Refusal(f"the name {shown(name)} is given twice.", "Keep one of them.")
            found[name] = value
        return found

    def constant(name: str) -> Any:
        raise _not_finite(name)

    try:
        data = json.loads(
            text, object_pairs_hook=pairs, parse_constant=constant, parse_float=_float, parse_int=lambda digits: _integer(digits, 10)
        )
        deep = _depth(data) > MAX_DEPTH
    except json.JSONDecodeError as error:
        hint = "Check commas, quotes and brackets there; JSON has no comments."
        raise wrong(f"this is not JSON: {error.msg.lower()}.", hint, source=source, place=(error.lineno, error.colno)) from None
    except Refusal as error:
        # The parser of YAML, which reads JSON too, knows where; if it finds nothing wrong, the name of the file must do.
        parse_yaml(_without_tabs(text), source, is_json=True)
        raise wrong(error.message, error.hint, source=source) from None
    except RecursionError:
        deep = True
    if deep:
        raise wrong(*_TOO_DEEP, source=source)
    return Parsed(data)


def locate(text: str) -> Parsed | None:
    """Return the places of the values in a JSON text, or None where they cannot be found."""
    try:
        return parse_yaml(_without_tabs(text), "")
    except Refusal:
        return None


def _without_tabs(text: str) -> str:
    """Return JSON without tabs, which YAML does not allow between tokens; inside strings JSON has none."""
    return text.replace("\t", " ")


def _depth(data: Any) -> int:
    """Return how many collections are inside each other, without recursion."""
    deepest = 0
    todo = [(data, 1)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, dict | list):
            deepest = max(deepest, depth)
            todo.extend((below, depth + 1) for below in (value.values() if isinstance(value, dict) else value))
    return deepest
