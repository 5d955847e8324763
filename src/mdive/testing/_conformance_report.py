"""What a check is, how it fails, and how checks are run: one after another, or as tests of pytest."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mdive.errors import UsageError, nearest

Status = Literal["passed", "failed", "expected", "skipped"]


class CheckFailed(AssertionError):
    """A promise that does not hold.

    Parameters
    ----------
    declared
        What was promised, and by what.
    seen
        What there is instead.
    todo
        What its author can do about it.
    """

    def __init__(self, declared: str, seen: str, todo: str) -> None:
        super().__init__(declared, seen, todo)
        self.declared, self.seen, self.todo = declared, seen, todo

    def __str__(self) -> str:
        return f"declared: {self.declared}\nseen:     {self.seen}\nto do:    {self.todo}"


class NotChecked(unittest.SkipTest):
    """Why a check could not look: usually because another one failed, which says more. pytest takes it for a skipped test."""


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One promise of one subject; call it, and it returns, or raises ``CheckFailed`` (or ``NotChecked``)."""

    name: str
    """Of the promise; what ``expected_failures`` takes."""
    subject: str
    """Of what is checked: an algorithm, an operation, an event class or a plugin."""
    look: Callable[[], None]
    meaning: str = ""
    """The promise, in one sentence."""
    expected: str | None = None
    """Why it is known to fail; None where it has to pass."""

    @property
    def id(self) -> str:
        """``subject::name``."""
        return f"{self.subject}::{self.name}"

    def __call__(self) -> None:
        """Look."""
        self.look()

    def __repr__(self) -> str:
        return f"<check {self.id}>"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check."""

    check: Check
    status: Status
    text: str = ""
    """Why it did not pass."""

    def __str__(self) -> str:
        text = "".join(f"\n  {line}" for line in self.text.splitlines())
        return f"{self.status:<8} {self.check.id}{text}"


def run_checks(checks: Iterable[Check]) -> list[Outcome]:
    """Run checks one after another; none takes the others along.

    Returns
    -------
    One outcome for each: *passed*, *failed*, *expected* (it failed, as its reason foretold) or *skipped*. A check that was expected to fail
    and passes has failed: its reason is out of date.
    """
    return [_outcome(check) for check in checks]


def _outcome(check: Check) -> Outcome:
    try:
        check()
    except NotChecked as why:
        return Outcome(check, "skipped", str(why))
    except CheckFailed as failure:
        return Outcome(check, "failed" if check.expected is None else "expected", str(failure))
    except Exception as error:  # noqa: BLE001 - one check that breaks must not end the others
        return Outcome(check, "failed", f"the check itself broke: {type(error).__name__}: {error}")
    if check.expected is not None:
        return Outcome(check, "failed", f"It passes, and was expected to fail: {check.expected}\nTake it out of expected_failures.")
    return Outcome(check, "passed")


def parametrize(checks: Iterable[Check]) -> Any:
    """Return the pytest decorator that makes one test of each check; known failures are strict."""
    import pytest

    return pytest.mark.parametrize(
        "check",
        [
            pytest.param(
                check,
                id=check.id,
                marks=[] if check.expected is None else [pytest.mark.xfail(reason=check.expected, raises=CheckFailed, strict=True)],
            )
            for check in checks
        ],
    )


def expecting(checks: Iterable[Check], failures: Mapping[str, str] | None) -> Iterator[Check]:
    """Yield checks with what is known of them.

    Parameters
    ----------
    checks
        All checks of one subject.
    failures
        Reason by name of the check, or by ``subject::name``.

    Raises
    ------
    UsageError
        For a name that no check has, and for an empty reason.
    """
    found = list(checks)
    names = {name for check in found for name in (check.name, check.id)}
    for name, reason in (failures or {}).items():
        if name not in names:
            raise UsageError(f"no check {name!r} to fail.{nearest(name, names)}", f"The checks are: {', '.join(c.name for c in found)}.")
        if not reason.strip():
            raise UsageError(f"the expected failure of {name!r} has no reason.", "Say why it fails and who will mend it.")
    for check in found:
        known = failures or {}
        why = known[check.id] if check.id in known else known.get(check.name)
        yield check if why is None else replace(check, expected=why)
