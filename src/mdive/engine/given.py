"""What the verbs are given: an argument of the wrong kind is refused in two lines that say what to give instead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mdive.config import profile, worker_count
from mdive.errors import UsageError
from mdive.model.event import Event
from mdive.model.plan import Plan
from mdive.model.refusal import shown
from mdive.runtime import Runtime


def take_event(given: Any, verb: str) -> Event:
    """Return an event; refuse anything else."""
    if isinstance(given, Event):
        return given
    if isinstance(given, Plan):
        raise wrong(given, verb, "an Event", "It is planned already: give it to mdive.run or mdive.explain.")
    name = os.fspath(given) if isinstance(given, str | os.PathLike) else "event.yaml"
    raise wrong(given, verb, "an Event", f"Read it first: mdive.load_event({name!r}).")


def take_plan(given: Any, verb: str) -> Plan:
    """Return a plan; refuse anything else."""
    if isinstance(given, Plan):
        return given
    if isinstance(given, Event):
        raise wrong(given, verb, "a Plan", "Plan the event first: mdive.plan(event).")
    raise wrong(given, verb, "a Plan", "Make one with mdive.plan(mdive.load_event('event.yaml')).")


def take_path(given: Any, verb: str, name: str) -> Path:
    """Return a path given as text or path; refuse anything else, and the empty text."""
    if isinstance(given, str | os.PathLike) and isinstance(os.fspath(given), str) and os.fspath(given):
        return Path(given)
    raise wrong(given, verb, f"a path as {name}", "Give the name of a folder, as text or pathlib.Path.")


def take_catalog(given: Any, verb: str) -> str | None:
    """Return where to search: a name, URL or path; None for the default."""
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, os.PathLike) and isinstance(os.fspath(given), str):
        return str(os.fspath(given))
    raise wrong(
        given, verb, "a name, URL or path as catalog", "For instance catalog='planetary-computer'; leave it out for the event's own."
    )


def take_workers(given: Any, verb: str) -> int | None:
    """Return a number of workers, 1 or more; None for the default."""
    if given is None:
        return None
    try:
        if isinstance(given, bool):
            raise TypeError
        count = given.__index__()
    except (AttributeError, TypeError):
        raise wrong(given, verb, "a whole number of workers", "For instance workers=4; leave it out for the default.") from None
    return worker_count(profile(), count)


def take_runtime(given: Any, verb: str) -> Runtime | None:
    """Return a runtime; None for the default."""
    if given is None or (hasattr(given, "run") and hasattr(given, "__enter__") and not isinstance(given, type)):
        runtime: Runtime | None = given
        return runtime
    name = given if isinstance(given, str) else "threads"
    raise wrong(given, verb, "a Runtime", f"Connect to one: mdive.connect({name!r}).")


def wrong(given: Any, verb: str, wanted: str, hint: str) -> UsageError:
    """Return the error for an argument of the wrong kind."""
    plain = given is None or isinstance(given, str | int | float | os.PathLike)
    told = f"{shown(given)} ({type(given).__name__})" if plain else kind_of(given)
    return UsageError(f"mdive.{verb} takes {wanted}; it was given {told}.", hint)


def kind_of(value: Any) -> str:
    """Return what a value is, in words: ``an Event``, ``a DataArray of float32``."""
    name = type(value).__name__
    kind = f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
    return f"{kind} of {value.dtype}" if hasattr(value, "dtype") else kind
