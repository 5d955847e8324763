"""When: time windows in UTC, and the baseline that an event is compared with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema, model_validator

from mdive.model.refusal import Refusal, UserDocument, shown

FIRST_YEAR: Final[int] = 1900
LAST_YEAR: Final[int] = 2199
"""Years that a window may touch: wider than any archive or forecast, narrow enough that ``0216-07-09`` is seen to be a slip of the pen."""

LONGEST: Final[timedelta] = timedelta(days=36_525)
"""Longest duration: a century, for the same reason."""

_INSTANT: Final[timedelta] = timedelta(microseconds=1)
"""The smallest step of a ``datetime``; a window contains both its ends, so a day ends one step before the next."""

_DATE: Final[re.Pattern[str]] = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CLOCK: Final[str] = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?"
_ZONE: Final[str] = r"(Z|[+-]\d{2}:\d{2})"
_MOMENT: Final[re.Pattern[str]] = re.compile(f"{_DATE.pattern}{_CLOCK}{_ZONE}?", re.ASCII)

# Eight digits cannot overflow a timedelta, whatever the unit.
_DURATION: Final[re.Pattern[str]] = re.compile(
    r"P(?=.)((?P<weeks>\d{1,8})W"
    r"|((?P<days>\d{1,8})D)?(T(?=.)((?P<hours>\d{1,8})H)?((?P<minutes>\d{1,8})M)?((?P<seconds>\d{1,8})S)?)?)",
    re.ASCII,
)

_MOMENT_HINT: Final = "Write a date (2024-10-28 means the whole UTC day) or a date and time with its zone (2024-10-28T06:00:00Z)."
_DURATION_HINT: Final = "Write an ISO 8601 duration in weeks, days, hours, minutes or seconds, such as P60D, P2W or PT24H."


def parse_duration(value: Any) -> timedelta:
    """Return the length of an ISO 8601 duration.

    Years and months are refused: they have no fixed length.

    Parameters
    ----------
    value
        Text such as ``P60D``, ``P2W``, ``PT24H``, ``P1DT12H``, or a ``timedelta``.

    Raises
    ------
    InputError
        For any other text, for no length at all and for more than a century.
    """
    if isinstance(value, timedelta):
        length = value
    else:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise Refusal(f"{shown(value)} is not a duration.", _DURATION_HINT)
        length = timedelta(**{unit: int(digits) for unit, digits in match.groupdict("0").items()})
    if not timedelta(0) < length <= LONGEST or length.microseconds:
        raise Refusal(f"{shown(value)} is no usable duration.", "It must be whole seconds, at least one and no more than a century.")
    return length


def format_duration(length: timedelta) -> str:
    """Return the one ISO 8601 text of a duration: days, hours, minutes, seconds (``P60D``; ``PT24H`` becomes ``P1D``)."""
    hours, rest = divmod(length.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    clock = "".join(f"{number}{letter}" for number, letter in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number)
    return "P" + (f"{length.days}D" if length.days else "") + (f"T{clock}" if clock else "")


_DURATION_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "pattern": f"^{re.sub(r'[?]P<[a-z]+>', '', _DURATION.pattern)}$",
    "examples": ["P60D", "PT24H"],
}

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""A length of time, written as ISO 8601."""


def parse_moment(value: Any, *, end: bool = False) -> datetime:
    """Return an instant in UTC.

    Parameters
    ----------
    value
        A date (the whole UTC day), a date and time with its zone, as text or as the objects of ``datetime``.
    end
        Whether a date means its last instant instead of its first.

    Raises
    ------
    InputError
        For a time without a zone, for anything that is no date, and outside the years 1900 to 2199.
    """
    if isinstance(value, str):
        value = _parse_text(value)
    if value != value:
        raise Refusal(f"{shown(value)} is not a date or time.", _MOMENT_HINT)  # NaT of pandas is a datetime by name only
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            hint = f"Write {value.isoformat()}Z if it is UTC, or else its offset (+02:00)."
            raise Refusal(f"{shown(str(value))} has no time zone.", hint)
        _check_year(value)
        moment = value.astimezone(UTC)
        _check_year(moment)
        return datetime.combine(moment.date(), moment.time(), UTC)
    if isinstance(value, date):
        _check_year(value)
        day = datetime.combine(value, time(0), UTC)
        return day + timedelta(days=1) - _INSTANT if end else day
    raise Refusal(f"{shown(value)} is not a date or time.", _MOMENT_HINT)


def _parse_text(text: str) -> date | datetime:
    """Return the date or datetime that a text writes."""
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError as error:
        raise Refusal(f"{shown(text)} is not in the calendar ({error}).", _MOMENT_HINT) from None
    raise Refusal(f"{shown(text)} is not a date or time.", _MOMENT_HINT)


def _check_year(value: date) -> None:
    """Refuse slips of the pen, and what would overflow when it is turned to UTC."""
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise Refusal(f"the year {value.year} is out of range.", f"Years from {FIRST_YEAR} to {LAST_YEAR} can be asked for.")


def _parse_end(value: Any) -> datetime:
    return parse_moment(value, end=True)


def iso(moment: datetime) -> str:
    """Return an instant in UTC as RFC 3339 text."""
    return moment.isoformat().replace("+00:00", "Z")


_MOMENT_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "pattern": f"^{_DATE.pattern}({_CLOCK}{_ZONE})?$",
    "examples": ["2024-10-28", "2024-10-28T06:00:00Z"],
}
_MOMENT_TEXT: Final = PlainSerializer(iso, return_type=str, when_used="json")

Moment = Annotated[datetime, BeforeValidator(parse_moment), _MOMENT_TEXT, WithJsonSchema(_MOMENT_SCHEMA)]
"""An instant in UTC; a date means its first."""

EndMoment = Annotated[datetime, BeforeValidator(_parse_end), _MOMENT_TEXT, WithJsonSchema(_MOMENT_SCHEMA)]
"""An instant in UTC; a date means its last."""


def _as_mapping(data: Any) -> Any:
    """Turn ``(start, end)`` into the fields of a window."""
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        if len(data) != 2:
            raise Refusal(f"{len(data)} values are not a time window.", "Give two: the start and the end.")
        return {"start": data[0], "end": data[1]}
    if isinstance(data, str | bytes | int | float | date) or data is None:
        raise Refusal(f"{shown(data)} is not a time window.", "Give a start and an end: {start: 2024-10-28, end: 2024-11-08}.")
    return data


def _add_pair(schema: dict[str, Any]) -> None:
    """Tell the JSON Schema that a list of start and end is accepted too."""
    form = {word: schema.pop(word) for word in list(schema) if word not in {"title", "description"}}
    pair = {"type": "array", "prefixItems": [_MOMENT_SCHEMA, _MOMENT_SCHEMA], "minItems": 2, "maxItems": 2}
    schema["anyOf"] = [form, pair]


class TimeWindow(UserDocument):
    """A span of time in UTC; both ends belong to it.

    A date alone means the whole UTC day. A time needs its zone. The future is allowed: whether anything was seen is for the planner to say.

    Examples
    --------
    >>> TimeWindow(start="2024-10-28", end="2024-11-08")
    TimeWindow('2024-10-28', '2024-11-08')
    """

    model_config = ConfigDict(json_schema_extra=_add_pair)

    start: Moment
    """First instant: a date (from its first instant) or a date and time with zone."""
    end: EndMoment
    """Last instant: a date (to its last instant) or a date and time with zone."""

    @model_validator(mode="before")
    @classmethod
    def _accept_pair(cls, data: Any) -> Any:
        return _as_mapping(data)

    @model_validator(mode="after")
    def _check_order(self) -> TimeWindow:
        if self.end <= self.start:
            problem = "is reversed" if self.end < self.start else "has no length"
            message = f"the window {problem}: it starts {_brief(self.start)} and ends {_brief(self.end, end=True)}."
            raise Refusal(message, "The end must come after the start; a date alone as the end means the end of that day.")
        return self

    @property
    def duration(self) -> timedelta:
        """Length; whole days count whole."""
        return self.end - self.start + _INSTANT

    @property
    def interval(self) -> str:
        """``start/end`` in RFC 3339, as STAC searches write it."""
        return f"{iso(self.start)}/{iso(self.end)}"

    def contains(self, moment: datetime) -> bool:
        """Whether an instant (with a zone) lies in the window."""
        return self.start <= moment <= self.end

    def __repr__(self) -> str:
        return f"TimeWindow({_brief(self.start)!r}, {_brief(self.end, end=True)!r})"

    __str__ = __repr__


class Baseline(UserDocument):
    """What *before* means: a window of its own, or a length of time that ends where the event's window starts."""

    model_config = ConfigDict(json_schema_extra=_add_pair)

    start: Moment | None = None
    """First instant of the baseline; together with ``end``."""
    end: EndMoment | None = None
    """Last instant of the baseline; together with ``start``."""
    before: Duration | None = None
    """Length that ends just before the event's window, e.g. ``P60D``; instead of ``start`` and ``end``."""

    @model_validator(mode="before")
    @classmethod
    def _accept_pair(cls, data: Any) -> Any:
        if isinstance(data, TimeWindow):
            return {"start": data.start, "end": data.end}
        return _as_mapping(data)

    @model_validator(mode="after")
    def _check_form(self) -> Baseline:
        hint = "Write {start: 2024-08-01, end: 2024-10-01} or {before: P60D}."
        if (self.start is None) != (self.end is None):
            raise Refusal("a baseline with only one end.", hint)
        if (self.start is None) == (self.before is None):
            raise Refusal("a baseline needs either start and end, or before.", hint)
        if self.start is not None:
            TimeWindow(start=self.start, end=self.end)
        return self

    def resolve(self, window: TimeWindow) -> TimeWindow:
        """Return the baseline of an event with this window."""
        if self.before is not None:
            return TimeWindow(start=window.start - self.before, end=window.start - _INSTANT)
        return TimeWindow(start=self.start, end=self.end)

    def __repr__(self) -> str:
        if self.start is None or self.end is None:
            assert self.before is not None
            return f"Baseline(before={format_duration(self.before)!r})"
        return f"Baseline({_brief(self.start)!r}, {_brief(self.end, end=True)!r})"

    __str__ = __repr__


def _brief(moment: datetime, *, end: bool = False) -> str:
    """Return the date alone where the instant is the first (or last) of its day."""
    edge = moment + _INSTANT if end else moment
    return moment.date().isoformat() if edge.time() == time(0) else iso(moment)
