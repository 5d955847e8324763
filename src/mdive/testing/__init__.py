"""Synthetic events with known truth, and the score of a product against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdive.testing._fire import make_wildfire_event
    from mdive.testing._flood import make_flood_event
    from mdive.testing._score import Score, score
    from mdive.testing._setting import SyntheticEvent

__all__ = ["Score", "SyntheticEvent", "make_flood_event", "make_wildfire_event", "score"]

_HOME = {
    "Score": "_score",
    "SyntheticEvent": "_setting",
    "make_flood_event": "_flood",
    "make_wildfire_event": "_fire",
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
