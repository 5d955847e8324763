"""Explain a plan: what it will read, compute, hold and write, before a pixel is read."""

from __future__ import annotations

import html
from collections.abc import Sequence

from mdive.config import block_store_bytes, profile, worker_count
from mdive.cube import TileIndex
from mdive.engine.ahead import network_of
from mdive.engine.derive import is_derived
from mdive.engine.given import take_plan, take_workers
from mdive.engine.pipelines import graph_of, tiles_of
from mdive.engine.tiling import disk_bytes, footprint, peak_memory, widest_halo
from mdive.model.base import Document
from mdive.model.plan import Plan, source_by_key
from mdive.pipeline.passes import split

SECONDS_PER_MEGAPIXEL = 0.28
"""Core-seconds per million pixels, band and time step: reading, kernels and writing together (measured: SAR threshold with all products, 10,000 km² of
local files, three layers, 85 core-seconds)."""


class PassCost(Document):
    """One pass of the explanation."""

    index: int
    operations: tuple[str, ...]
    ends_with: tuple[str, ...]
    """Reductions and global operations."""
    halo: int
    """Pixels read beyond a tile."""


class Explanation(Document):
    """What a plan costs. Requests and bytes over the network are exact; memory, disk and seconds are estimates from metadata."""

    plan: str
    algorithm: str
    grid: tuple[int, int]
    area_km2: float
    items: int
    assets: int
    blocks: int
    bytes_to_read: int
    """Decoded, by the catalogue's word."""
    requests: int | None
    """To servers, for the directories and blocks of files. None where nobody looked into the files."""
    bytes_over_network: int | None
    """What these requests bring."""
    unknown_files: int
    """Files on servers that take more requests than are counted here: GDAL reads them, or their directories could not be read."""
    tiles: int
    tile_size: int
    passes: tuple[PassCost, ...]
    tasks: int
    workers: int
    peak_memory: int
    disk: int
    """Bytes held at the worst moment: checkpoints of all tiles and the products."""
    core_seconds: float
    reasons: tuple[str, ...]

    def __repr__(self) -> str:
        rows = "\n".join(f"  {name:<12} {value}" for name, value in _rows(self))
        why = "\n".join(f"  - {reason}" for reason in self.reasons)
        return f"Explanation of {self.algorithm}\n{rows}\nWhy:\n{why}"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in _rows(self))
        why = "".join(f"<li>{html.escape(r)}</li>" for r in self.reasons)
        return f"<table><caption>{html.escape(self.algorithm)}</caption>{cells}</table><ul>{why}</ul>"


def explain(plan: Plan, *, workers: int | None = None, headers: bool = True) -> Explanation:
    """Say what a plan will read, compute and hold.

    The directories of files on servers are read for it, once in a process: a run that follows does not ask for them again.

    Parameters
    ----------
    plan
        The plan.
    workers
        Tiles in the making at once. Default: the profile's.
    headers
        False asks no server for anything; requests and bytes over the network are then unknown.

    Raises
    ------
    InputError
        If the grid, or the number of tiles, is beyond what can be computed.
    UsageError
        If it is given something else than a plan.
    """
    return _explained(take_plan(plan, "explain"), take_workers(workers, "explain"), set() if headers else None)


def _explained(plan: Plan, workers: int | None, counted: set[str] | None) -> Explanation:
    """Explain a plan; ``counted``: files on servers whose directories are counted already, None where no server is asked."""
    before = [_explained(made, workers, counted) for made in plan.derived]
    graph, tiles = graph_of(plan), tiles_of(plan)
    passes = split(graph, plan.grid)
    sources = source_by_key(plan)
    busy = min(worker_count(profile(plan.profile), workers), len(tiles))
    cost = footprint(graph, passes, sources)
    halo = widest_halo(passes)
    estimate = TileIndex([s for s in plan.sources if not is_derived(s)], plan.grid).estimate(*(tile.expand(halo) for tile in tiles))
    network = network_of(plan, passes, tiles, counted) if counted is not None else None
    rows, cols = plan.grid.shape
    layers = sum(len(s.bands) * max(1, len(s.observations)) for s in plan.sources)
    alone = Explanation(
        plan=plan.identity,
        algorithm=f"{plan.algorithm.name} {plan.algorithm.version}",
        grid=plan.grid.shape,
        area_km2=rows * cols * plan.grid.resolution**2 / 1e6,
        items=estimate.items,
        assets=estimate.assets,
        blocks=estimate.blocks,
        bytes_to_read=estimate.bytes,
        requests=None if network is None else network.requests,
        bytes_over_network=None if network is None else network.bytes,
        unknown_files=0 if network is None else network.unknown,
        tiles=len(tiles),
        tile_size=plan.tiling.size,
        passes=tuple(
            PassCost(
                index=p.index,
                operations=tuple(n.label for n in p.nodes),
                ends_with=tuple(n.label for n in (*p.reductions, *p.maps)),
                halo=max(p.halo.values(), default=0),
            )
            for p in passes
        ),
        tasks=len(tiles) * len(passes),
        workers=busy,
        peak_memory=peak_memory(cost, tiles, halo, busy, block_store_bytes(profile())),
        disk=disk_bytes(cost, graph, passes, plan.grid.shape, plan.tiling.size),
        core_seconds=round(SECONDS_PER_MEGAPIXEL * layers * rows * cols / 1e6, 1),
        reasons=tuple(f"{r.topic}: {r.text}" for r in plan.reasons),
    )
    return _together(alone, before)


def _together(last: Explanation, before: Sequence[Explanation]) -> Explanation:
    """Return what several plans cost that run one after the other."""
    runs = [*before, last]
    sums = ("items", "assets", "blocks", "bytes_to_read", "unknown_files", "tiles", "tasks", "core_seconds", "disk")
    known = None not in [r.requests for r in runs]
    return last.model_copy(
        update={
            **{name: sum(getattr(r, name) for r in runs) for name in sums},
            "requests": sum(r.requests or 0 for r in runs) if known else None,
            "bytes_over_network": sum(r.bytes_over_network or 0 for r in runs) if known else None,
            "passes": tuple(p for r in runs for p in r.passes),
            "peak_memory": max(r.peak_memory for r in runs),
        }
    )


def _rows(e: Explanation) -> list[tuple[str, str]]:
    return [
        ("grid", f"{e.grid[1]} x {e.grid[0]} pixels, {e.area_km2:,.0f} km²"),
        ("reads", f"{e.items} items, {e.assets} assets, {e.blocks:,} blocks, about {_bytes(e.bytes_to_read)} decoded"),
        ("network", _network(e)),
        ("tiles", f"{e.tiles} of {e.tile_size} pixels"),
        (
            "passes",
            "; ".join(
                f"{n}: {len(p.operations)} operations{' → ' + ', '.join(p.ends_with) if p.ends_with else ''}"
                for n, p in enumerate(e.passes, 1)
            ),
        ),
        ("tasks", f"{e.tasks} on {e.workers} worker{'s' if e.workers != 1 else ''}"),
        ("memory", f"about {_bytes(e.peak_memory)} at the worst moment"),
        ("disk", f"at most {_bytes(e.disk)} while it runs"),
        ("time", f"about {max(e.core_seconds / e.workers, 1):,.0f} s of computing on {e.workers} worker{'s' if e.workers != 1 else ''}"),
    ]


def _network(e: Explanation) -> str:
    if e.requests is None or e.bytes_over_network is None:
        return "unknown: the headers of the files were not read"
    more = f"; more for {e.unknown_files} file{'s' if e.unknown_files != 1 else ''} whose blocks are not known" if e.unknown_files else ""
    return f"{e.requests:,} requests, {_bytes(e.bytes_over_network)}{more}" if e.requests or more else "no requests: all files are here"


def _bytes(size: int) -> str:
    from dask.utils import format_bytes

    return str(format_bytes(size))
