"""For authors: the checks that every algorithm has to pass, synthetic events with known truth, and the score of a product against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdive.testing._conformance import check_algorithm, parametrize_checks
    from mdive.testing._conformance_plugin import check_plugin, parametrize_plugin
    from mdive.testing._conformance_report import Check, CheckFailed, NotChecked, Outcome, run_checks
    from mdive.testing._fire import make_wildfire_event
    from mdive.testing._flood import make_flood_event
    from mdive.testing._score import Score, score
    from mdive.testing._setting import SyntheticEvent

__all__ = [
    "Check",
    "CheckFailed",
    "NotChecked",
    "Outcome",
    "Score",
    "SyntheticEvent",
    "check_algorithm",
    "check_plugin",
    "make_flood_event",
    "make_wildfire_event",
    "parametrize_checks",
    "parametrize_plugin",
    "run_checks",
    "score",
]

_HOME = {
    "Check": "_conformance_report",
    "CheckFailed": "_conformance_report",
    "NotChecked": "_conformance_report",
    "Outcome": "_conformance_report",
    "Score": "_score",
    "SyntheticEvent": "_setting",
    "check_algorithm": "_conformance",
    "check_plugin": "_conformance_plugin",
    "make_flood_event": "_flood",
    "make_wildfire_event": "_fire",
    "parametrize_checks": "_conformance",
    "parametrize_plugin": "_conformance_plugin",
    "run_checks": "_conformance_report",
    "score": "_score",
}
"""Module of each public name: rasterio and numba are imported when one of them is used, not with the package."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
