"""mdive: from (area, time window, event type) to a decision product.

Documents are data, verbs are functions:

>>> import mdive
>>> event = mdive.load_event("event.yaml")  # doctest: +SKIP
>>> plan = mdive.plan(event, catalog="planetary-computer")  # doctest: +SKIP
>>> report = mdive.run(plan, out="valencia/")  # doctest: +SKIP
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mdive.config import find_kernel_cache

if TYPE_CHECKING:
    from mdive.cube.signing import sign_with
    from mdive.engine.connect import connect
    from mdive.engine.explain import explain
    from mdive.engine.lazy import analyse, apply, load
    from mdive.engine.planning import plan
    from mdive.engine.report import open_run
    from mdive.engine.run import resume, run
    from mdive.model import Area, Event, Intent, Plan, TimeWindow, load_event

__all__ = [
    "Area",
    "Event",
    "Intent",
    "Plan",
    "TimeWindow",
    "analyse",
    "apply",
    "connect",
    "explain",
    "load",
    "load_event",
    "open_run",
    "plan",
    "resume",
    "run",
    "sign_with",
]

_WHERE = {
    "Area": "mdive.model",
    "Event": "mdive.model",
    "Intent": "mdive.model",
    "Plan": "mdive.model",
    "TimeWindow": "mdive.model",
    "analyse": "mdive.engine.lazy",
    "apply": "mdive.engine.lazy",
    "connect": "mdive.engine.connect",
    "explain": "mdive.engine.explain",
    "load": "mdive.engine.lazy",
    "load_event": "mdive.model",
    "open_run": "mdive.engine.report",
    "plan": "mdive.engine.planning",
    "resume": "mdive.engine.run",
    "run": "mdive.engine.run",
    "sign_with": "mdive.cube.signing",
}

logging.getLogger("mdive").addHandler(logging.NullHandler())
find_kernel_cache()


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'mdive' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
