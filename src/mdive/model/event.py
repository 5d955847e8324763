"""The event: what happened, where and when, and what is wanted of it."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Annotated, Any, Final
from unicodedata import normalize

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mdive.model.area import Area
from mdive.model.intent import Intent
from mdive.model.load import folder_of_document, load_document
from mdive.model.refusal import Refusal, UserDocument, shown, under
from mdive.model.timewindow import Baseline, TimeWindow

ID_PATTERN: Final[str] = r"^[a-z0-9][a-z0-9_-]{0,63}$"
"""Identifiers become folder and file names: no separators, no dots, no case, nothing that a shell or URL must quote."""


def _read_id(value: str) -> str:
    if not re.fullmatch(ID_PATTERN, value):
        raise Refusal(f"{shown(value)} cannot be an id.", "Use 1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit.")
    return value


def _read_class(value: str) -> str:
    """Return a name of a class, or a synonym: which of them exist is for the registry of event classes to say."""
    text = value.strip()
    if not text or not text.isprintable():
        raise Refusal(f"{shown(value)} cannot be an event class.", "Give its name, with a dot between a class and its child.")
    return text


def _read_description(value: str) -> str:
    text = value.strip()
    if not text or any((c < " " and c not in "\n\t") or c == "\x7f" for c in text):
        raise Refusal(f"{shown(value)} is no description.", "Say in plain text what happened.")
    return text


def _read_catalog(value: str) -> str:
    """Return the name, URL or path of a catalogue; a path in an event file is relative to that file."""
    text = value.strip()
    scheme, separator, address = text.partition("://")
    if not text or any(c < " " for c in text):
        raise Refusal(f"{shown(value)} is no catalogue.", "Give the name of a provider, the URL of an API, or the path of a catalogue.")
    if separator:
        if "@" in address.partition("/")[0] or "?" in address:
            hint = "Give the bare address: documents are kept and shared."
            raise Refusal(f"the URL of the catalogue ({scheme}://...) holds credentials or a query.", hint)
        return text
    folder = folder_of_document()
    looks_like_path = "/" in text or Path(text).suffix in {".json", ".parquet", ".geoparquet"}
    return str(folder / text) if folder is not None and looks_like_path else text


def _derive_id(data: dict[str, Any]) -> str:
    """Return an id from class and days, e.g. ``family-child-20241028-20241108``; the two days take 18 of its 64 characters."""
    window = data["window"]
    plain = normalize("NFKD", data.get("event_class") or "event").encode("ascii", "ignore").decode().lower()
    kind = re.sub("[^a-z0-9]+", "-", plain)[:46].strip("-") or "event"
    return f"{kind}-{window.start:%Y%m%d}-{window.end:%Y%m%d}"


def _add_alternative(schema: dict[str, Any]) -> None:
    """Tell the JSON Schema that one of the two must be there."""
    words = ("event_class", "description")
    schema["anyOf"] = [{"required": [word], "properties": {word: {"type": "string"}}} for word in words]


class Event(UserDocument):
    """What happened, where and when: the question that a run answers.

    Examples
    --------
    >>> event = Event(event_class="family.child", area=Area.from_bbox(-0.60, 39.20, -0.20, 39.50), window=("2024-10-28", "2024-11-08"))
    >>> event.id
    'family-child-20241028-20241108'
    """

    model_config = ConfigDict(json_schema_extra=_add_alternative)

    event_class: Annotated[str, Field(max_length=64), AfterValidator(_read_class)] | None = None
    """Kind of event: name of an event class (a dot between a class and its child), or a synonym of one."""
    description: Annotated[str, Field(max_length=2000), AfterValidator(_read_description)] | None = None
    """What happened, in words, for people; needed where there is no event_class."""
    area: Area
    """Where to look: {bbox: [west, south, east, north]}, {geojson: ...} or {file: ...}, in longitude and latitude."""
    window: TimeWindow
    """When to look for the event: {start: ..., end: ...}, dates (whole UTC days) or times with their zone."""
    id: Annotated[str, AfterValidator(_read_id), Field(json_schema_extra={"pattern": ID_PATTERN})] = Field(default_factory=_derive_id)
    """Identifier, 1 to 64 of a-z, 0-9, - and _. Default: from the class and the days of the window."""
    baseline: Baseline | None = None
    """What to compare with: {start: ..., end: ...} or {before: P60D}. Default: the rule of the event class."""
    intent: Intent = Field(default_factory=Intent)
    """What is wanted: resolution, products, algorithm and its parameters."""
    catalog: Annotated[str, AfterValidator(_read_catalog)] | None = None
    """Where to search: name of a provider, URL of an API, or path of a catalogue (relative to this file)."""

    @model_validator(mode="after")
    def _check(self) -> Event:
        if self.event_class is None and self.description is None:
            raise Refusal("an event needs an event_class or a description.", "Add `event_class:`; `mdive schema event` shows the form.")
        if self.baseline is not None:
            try:
                before = self.baseline.resolve(self.window)
            except Refusal as error:
                raise under("baseline", error) from None
            if before.end >= self.window.start:
                hint = "It must end before the window starts, or it would show the event itself."
                raise Refusal("the baseline overlaps the window.", hint, path=("baseline",))
        return self

    @property
    def baseline_window(self) -> TimeWindow | None:
        """The baseline as a window of its own, if the event names one."""
        return self.baseline.resolve(self.window) if self.baseline is not None else None

    def __repr__(self) -> str:
        return f"Event({self.id!r}, {self.event_class or shown(self.description)}, {self.area!r}, {self.window!r})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = {
            "id": self.id,
            "class": self.event_class,
            "description": self.description,
            "area": repr(self.area),
            "window": self.window.interval,
            "baseline": repr(self.baseline) if self.baseline else None,
            "catalog": self.catalog,
        }
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items() if value)
        return f"<table><caption>Event</caption>{cells}</table>"


def load_event(source: str | Path) -> Event:
    """Read an event from a YAML or JSON file, or from its text.

    Raises
    ------
    InputError
        With file, line and path, what was given and what is allowed.
    """
    return load_document(source, Event)
