"""What a worker does: evaluate one tile of one pass, write its checkpoint, say so.

A task is ``(run folder, pass, tile)``; everything else is in the folder's ``plan.json``, read once per process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mdive.config import steady_memory
from mdive.engine.checkpoint import Checkpoint, Scratch, check_checkpoint, pack, write_checkpoint
from mdive.engine.derive import located
from mdive.engine.folder import read_back
from mdive.engine.pipelines import graph_of, tiles_of
from mdive.engine.reading import SourceReader
from mdive.model.base import digest
from mdive.model.plan import Plan
from mdive.pipeline import Node, Tiles, Window
from mdive.pipeline.evaluate import Kept, evaluate_tile
from mdive.pipeline.graph import Graph
from mdive.pipeline.lower import Blocks, solve_pass
from mdive.pipeline.passes import Pass, split

PLAN_FILE = "plan.json"
SCRATCH_FOLDER = ".scratch"


@dataclass(frozen=True, eq=False)
class Job:
    """A plan made ready to run in one process."""

    folder: Path
    plan: Plan
    graph: Graph
    passes: tuple[Pass, ...]
    tiles: Tiles
    scratch: Scratch
    reading: Plan
    """The plan by which tiles read: derived files have their paths."""

    def identity(self, index: int, tile: int) -> str:
        """Return the identity of a checkpoint: what it was made from, by which pass, where."""
        return digest([self.scratch.identity, index, tile])


def open_job(folder: Path) -> Job:
    """Return the job of a run folder, the same object for the same plan in one process."""
    steady_memory()
    path = folder / PLAN_FILE
    return _job(folder, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _job(folder: Path, _stamp: int) -> Job:
    plan = read_back(folder / PLAN_FILE, Plan)
    return make_job(folder, plan)


def make_job(folder: Path, plan: Plan) -> Job:
    """Prepare a plan to be run in a folder."""
    graph = graph_of(plan)
    tiles = tiles_of(plan)
    identity = digest([plan.identity, [n.key for n in graph], tiles.row_edges, tiles.col_edges])
    return Job(folder, plan, graph, split(graph, plan.grid), tiles, Scratch(folder / SCRATCH_FOLDER, identity), located(plan, folder))


def run_tile(folder: str, index: int, tile: int) -> dict[str, Any]:
    """Evaluate one tile of one pass and write its checkpoint (the task's receipt).

    Returns
    -------
    ``{"failures": n}``: the number of reads that failed; the rows are in the checkpoint.
    """
    job = open_job(Path(folder))
    pass_ = job.passes[index]
    reader = SourceReader(job.reading, job.tiles[tile])
    states = dict(_states(job, pass_, tile))

    def fetch(node: Node, window: Window) -> np.ndarray:
        origin = next(q for q in job.passes if any(k.key == node.key for k in q.kept))
        places = {j: job.tiles.owned(j, origin.margin) for j in job.tiles.touching(window)}
        return Blocks(node.fill, node.dtype, job.scratch.pieces(origin.index, f"kept/{node.key}", places)).read(window)

    def mapped(key: str) -> Kept:
        kept: Kept = job.scratch.tile(index - 1, tile).value(f"map/{key}")
        return kept

    result = evaluate_tile(pass_, job.tiles, tile, job.plan.grid, reader, fetch, states, mapped)
    arrays: dict[str, np.ndarray] = {}
    arrays.update({f"kept/{key}": array for key, array in result.kept.items()})
    arrays.update({f"out/{name}": array for name, array in result.outputs.items()})
    values = {key: pack(f"part/{key}", part, arrays) for key, part in result.parts.items()}
    values.update({f"map/{key}": pack(f"map/{key}", kept, arrays) for key, kept in result.maps.items()})
    rows = reader.ledger_rows(index, tile)
    facts = {"identity": job.identity(index, tile), "values": values, "ledger": rows, "pass": index, "tile": tile}
    write_checkpoint(job.scratch.tile_path(index, tile), arrays, facts)
    return {"failures": len(rows)}


def finish_pass(job: Job, index: int) -> None:
    """Solve what a pass ends with, from its tiles' parts in tile order, and write the states."""
    pass_ = job.passes[index]
    if not pass_.solves:
        return
    job.scratch.forget()
    states: dict[str, Any] = {}
    for earlier in job.passes[:index]:
        if earlier.solves:
            states.update(_all_states(job.scratch.states(earlier.index), [n for n in earlier.solves if n.kind == "state"]))

    def parts(key: str) -> Iterator[Any]:
        return (job.scratch.tile(index, tile).value(key) for tile in range(len(job.tiles)))

    made = solve_pass(pass_, job.tiles, job.plan.grid, states, parts)
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    for node in pass_.solves:
        if node.kind == "state":
            values[node.key] = pack(f"state/{node.key}", made[node.key], arrays)
        else:
            values.update({f"{node.key}/{t}": pack(f"state/{node.key}/{t}", s, arrays) for t, s in enumerate(made[node.key])})
    write_checkpoint(job.scratch.state_path(index), arrays, {"identity": job.identity(index, -1), "values": values})


def pass_done(job: Job, index: int) -> bool:
    """Whether a pass's states are there, whole and its own."""
    return not job.passes[index].solves or check_checkpoint(job.scratch.state_path(index), job.identity(index, -1)) is not None


def missing_tiles(job: Job, index: int) -> list[int]:
    """Return the tiles of a pass that have no good checkpoint; bad ones are set aside."""
    job.scratch.forget()
    return [t for t in range(len(job.tiles)) if check_checkpoint(job.scratch.tile_path(index, t), job.identity(index, t)) is None]


def _states(job: Job, pass_: Pass, tile: int) -> Iterator[tuple[str, Any]]:
    wanted = {n.key for node in (*pass_.nodes, *pass_.reductions, *pass_.maps) for n in node.inputs if n is not None and n.kind == "state"}
    for earlier in job.passes[: pass_.index]:
        if not earlier.solves:
            continue
        checkpoint = job.scratch.states(earlier.index)
        yield from _all_states(checkpoint, [n for n in earlier.solves if n.key in wanted]).items()
        for node in pass_.applied:
            if f"{node.key}/{tile}" in checkpoint.facts["values"]:
                yield node.key, checkpoint.value(f"{node.key}/{tile}")


def _all_states(checkpoint: Checkpoint, nodes: Sequence[Node]) -> Mapping[str, Any]:
    return {node.key: checkpoint.value(node.key) for node in nodes}
