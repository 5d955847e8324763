"""Run a plan: passes over tiles, then products; start again where a killed run stopped.

Order of writing: plan, tile checkpoints, states, staged products, published products, manifest. Whatever is killed in between leaves a folder
without a manifest, which no reader accepts and ``resume`` finishes to the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from threading import Thread

from mdive.cube.kernels import load_kernels
from mdive.engine.ahead import read_ahead
from mdive.engine.derive import run_folder
from mdive.engine.folder import MANIFEST, STAGING, is_complete, locked, read_back
from mdive.engine.given import take_path, take_plan, take_runtime
from mdive.engine.inputs import verified
from mdive.engine.progress import Progress, Watcher, nobody
from mdive.engine.report import Report, open_run
from mdive.engine.specs import POLYGONS, ZARR
from mdive.engine.tiling import disk_bytes, footprint
from mdive.engine.work import PLAN_FILE, SCRATCH_FOLDER, Job, finish_pass, make_job, missing_tiles, open_job, pass_done, run_tile
from mdive.errors import MdiveError, RunFolderError
from mdive.model.manifest import Manifest
from mdive.model.plan import Plan, source_by_key
from mdive.products import check_writable, require_zarr, verify_products, write_json_atomic
from mdive.runtime import Runtime, Task, threads

EVENT_FILE = "event.json"
"""Written after the plan, which holds it as well: a folder with one file of a run has that by which the run can be finished."""


def run(plan: Plan, out: str | Path, *, runtime: Runtime | None = None, watch: Watcher = nobody, verify_inputs: bool = False) -> Report:
    """Run a plan into a new folder.

    Parameters
    ----------
    plan
        What to compute.
    out
        Folder to write; created if it is not there. It must not hold another run.
    runtime
        Where tiles are computed. Default: threads, one per core.
    watch
        Called with ``Progress`` events.
    verify_inputs
        Fetch every file that has a ``file:checksum`` in its catalogue and compare it; one that differs counts as unreadable. The others are
        compared by ``file:size`` where there is one. ``report.plan.reasons`` says how many were.

    Returns
    -------
    The finished run; ``report.manifest.status`` says whether everything could be read.

    Raises
    ------
    RunFolderError
        If the folder cannot be written, holds a run already, or another process is at work in it. Nothing is written then.
    UsageError
        If a product is wanted whose library is not installed. Nothing is written then.
    """
    plan, folder, runtime = take_plan(plan, "run"), take_path(out, "run", "out"), take_runtime(runtime, "run")
    _refuse_used(folder)
    _refuse_formats(plan)
    job = make_job(folder.resolve(), plan)
    cost = footprint(job.graph, job.passes, source_by_key(plan))
    check_writable(folder, disk_bytes(cost, job.graph, job.passes, plan.grid.shape, plan.tiling.size, zarr=ZARR in plan.products))
    if verify_inputs:
        plan = verified(plan, watch)
        plan = plan.model_copy(update={"derived": tuple(verified(made, watch) for made in plan.derived)})
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _refuse_used(folder)
        (folder / SCRATCH_FOLDER).mkdir(exist_ok=True)
        write_json_atomic(folder / PLAN_FILE, plan.model_dump(mode="json", exclude_none=True))
        return _work(folder, runtime or threads(), watch)


def resume(out: str | Path, *, runtime: Runtime | None = None, watch: Watcher = nobody) -> Report:
    """Finish a run that was stopped; what its tiles had written is checked and used again.

    Raises
    ------
    RunFolderError
        If there is no run to resume, or another process is at work in it.
    UsageError
        If a product is wanted whose library is not installed.
    """
    folder, runtime = take_path(out, "resume", "out"), take_runtime(runtime, "resume")
    if is_complete(folder):
        return open_run(folder)
    if not (folder / PLAN_FILE).is_file():
        raise RunFolderError(
            f"{folder} holds no run that could be resumed (no {PLAN_FILE}).", "Start it with `mdive run --event ... --out ...`."
        )
    with locked(folder):
        (folder / SCRATCH_FOLDER).mkdir(exist_ok=True)
        return _work(folder, runtime or threads(), watch)


def check_out(out: str | Path) -> None:
    """Refuse a folder that a run could not be written to, before anything is searched or read.

    Raises
    ------
    RunFolderError
        If it cannot be written, or is used already.
    """
    _refuse_used(Path(out))
    check_writable(Path(out), 0)


def _refuse_used(folder: Path) -> None:
    if is_complete(folder):
        raise RunFolderError(f"{folder} already holds a finished run.", "Choose another folder with --out, or read it with mdive.open_run.")
    if (folder / PLAN_FILE).exists():
        raise RunFolderError(
            f"{folder} holds a run that did not finish.", f"Finish it with `mdive resume {folder}`, or choose another folder."
        )
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file, not a folder.", "Choose another place with --out.")
    strangers = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
    if strangers:
        raise RunFolderError(f"{folder} is not empty (it holds {strangers[0]!r}).", "Choose a new or empty folder with --out.")


def _refuse_formats(plan: Plan) -> None:
    if ZARR in plan.products:
        require_zarr()


def _work(folder: Path, runtime: Runtime, watch: Watcher) -> Report:
    started = datetime.now(UTC)
    job = open_job(folder.resolve())
    _refuse_formats(job.plan)
    if not (folder / EVENT_FILE).exists():
        write_json_atomic(folder / EVENT_FILE, job.plan.event)
    for made in job.plan.derived:
        _make(run_folder(job.folder, made), made, runtime, watch)
    total = len(job.tiles) * len(job.passes) + 1
    done = 0
    _load_ahead(job.plan)
    with runtime:
        for pass_ in job.passes:
            p = pass_.index
            todo = missing_tiles(job, p)
            done += len(job.tiles) - len(todo)
            text = f"pass {p + 1} of {len(job.passes)}"
            watch(Progress("pass", done, total, text))
            if todo:
                job.scratch.state_path(p).unlink(missing_ok=True)
            for _ in _outcomes(runtime, job, p, todo):
                done += 1
                watch(Progress("pass", done, total, text))
            if not pass_done(job, p):
                finish_pass(job, p)
            job.scratch.forget()
    watch(Progress("products", done, total, "products"))
    from mdive.engine.finish import finish

    finish(job, started=started, workers=runtime.workers if getattr(runtime, "in_process", False) else 1)
    shutil.rmtree(folder / SCRATCH_FOLDER, ignore_errors=True)
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    watch(Progress("done", total, total, str(folder / MANIFEST)))
    return open_run(folder)


def _make(folder: Path, plan: Plan, runtime: Runtime, watch: Watcher) -> None:
    """Run the plan of a derived band, or finish it, or find it done. What is there and cannot be used is made again, as a bad checkpoint is."""

    def heard(progress: Progress) -> None:
        if progress.stage == "pass":
            watch(replace(progress, text=f"{plan.algorithm.name}, {progress.text}"))

    folder.parent.mkdir(exist_ok=True)
    if _is_of(folder, plan):
        resume(folder, runtime=runtime, watch=heard)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        run(plan, folder, runtime=runtime, watch=heard)


def _is_of(folder: Path, plan: Plan) -> bool:
    """Whether a folder holds a run of a plan: one that was begun, or one that is done and whole."""
    try:
        if read_back(folder / PLAN_FILE, Plan).identity != plan.identity:
            return False
        return not is_complete(folder) or not verify_products(folder, read_back(folder / MANIFEST, Manifest).model_dump(mode="json"))
    except RunFolderError:
        return False


def _load_ahead(plan: Plan) -> None:
    """Load in a thread what the first tile and the products will ask for, while the network answers and kernels run without Python's lock."""
    modules = ["mdive.engine.finish", *(["mdive.products.polygons"] if POLYGONS in plan.products else [])]

    def load() -> None:
        # What fails here fails again where it is needed, and is told there.
        with suppress(Exception):
            load_kernels()
            for module in modules:
                import_module(module)

    Thread(target=load, name="mdive-load", daemon=True).start()


def _outcomes(runtime: Runtime, job: Job, index: int, tiles: list[int]) -> Iterator[None]:
    tasks = [Task(f"p{index}-t{t}", run_tile, (str(job.folder), index, t)) for t in tiles]
    with read_ahead(job, index, tiles) if getattr(runtime, "in_process", False) else nullcontext():
        for outcome in runtime.run(tasks):
            if outcome.error is not None:
                if isinstance(outcome.error, MdiveError):
                    raise outcome.error
                raise MdiveError(
                    f"tile {outcome.key} failed: {type(outcome.error).__name__}: {outcome.error}",
                    f"What is done is kept: after mending the cause, `mdive resume {job.folder}`.",
                ) from outcome.error
            yield
