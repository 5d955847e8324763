"""What the lazy verbs do about derived bands: make them in one task, and carry them to whoever computes a tile."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mdive.engine.derive import derived_files, located, run_folder
from mdive.engine.run import run
from mdive.model.plan import Plan
from mdive.runtime import serial

_lock = threading.Lock()
_here: dict[str, tuple[TemporaryDirectory[str], Plan]] = {}
"""By the plan's identity: where this process has put what was derived for it, and the plan that reads it there. They go with the process."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan and the files that were derived for it: a value that any machine can read by."""

    plan: Plan
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """By path in the run's folder."""

    def here(self) -> Plan:
        """Return the plan with the paths of its derived files on this machine; they are written once in a process."""
        if not self.files:
            return self.plan
        key = self.plan.identity
        with _lock:
            if key not in _here:
                folder = TemporaryDirectory(prefix="mdive-derived-")
                for name, content in self.files.items():
                    path = Path(folder.name) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                _here[key] = folder, located(self.plan, Path(folder.name))
            return _here[key][1]


def ready(plan: Plan) -> Ready:
    """Run what a plan derives, in this thread, and return the plan with it."""
    with TemporaryDirectory(prefix="mdive-derive-") as scratch:
        folder = Path(scratch)
        for made in plan.derived:
            target = run_folder(folder, made)
            target.parent.mkdir(exist_ok=True)
            run(made, target, runtime=serial())
        return Ready(plan, {name: (folder / name).read_bytes() for name in derived_files(plan)})
