"""The demo: a synthetic event with known truth, made, mapped and scored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mdive.engine.planning import plan
from mdive.engine.progress import Watcher, nobody
from mdive.engine.run import run
from mdive.errors import RunFolderError, UsageError, nearest
from mdive.model import load_event
from mdive.runtime import threads
from mdive.testing import make_flood_event, make_wildfire_event, score

_MAKERS: dict[str, Any] = {"flood": make_flood_event, "wildfire": make_wildfire_event}


def run_demo(
    kind: str,
    out: Path,
    *,
    seed: int = 0,
    size_km: float | None = None,
    workers: int | None = None,
    force: bool = False,
    watch: Watcher = nobody,
) -> dict[str, Any]:
    """Make, run and score a synthetic event.

    Parameters
    ----------
    kind
        ``flood`` or ``wildfire``.
    out
        Folder: ``event/`` gets the scenes and the truth, ``run/`` the result.
    seed, size_km
        Which event, and how large.
    workers
        Tiles in the making at once.
    force
        Replace an earlier demo (a folder that holds nothing else).
    watch
        Gets progress events.

    Returns
    -------
    F1, IoU, the share that was observed, and where the report is.
    """
    if kind not in _MAKERS:
        raise UsageError(f"no demo {kind!r}.{nearest(kind, _MAKERS)}", f"Demos: {', '.join(_MAKERS)}.")
    scene, folder = out / "event", out / "run"
    if out.exists() and any(out.iterdir()):
        strangers = sorted(p.name for p in out.iterdir() if p.name not in {"event", "run"})
        if not force or strangers:
            raise RunFolderError(
                f"{out} is not empty.", "Choose another --out" + ("." if strangers else ", or --force to replace the earlier demo.")
            )
        shutil.rmtree(out)
    made = _MAKERS[kind](scene, seed=seed, **({} if size_km is None else {"size_km": size_km}))
    frozen = plan(load_event(made.event), catalog=str(made.catalog), workers=workers)
    report = run(frozen, folder, runtime=threads(workers), watch=watch)
    result = score(made.truth, report.path("extent"))
    return {
        "kind": kind,
        "seed": seed,
        "f1": result.f1,
        "iou": result.iou,
        "observed_share": result.observed_share,
        "decision": report.decision,
        "report": str(report.path("report")),
    }
