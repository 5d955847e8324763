"""How large a tile may be: what one tile holds at its worst moment, against the memory that a profile grants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mdive.errors import InputError
from mdive.model.plan import Source
from mdive.pipeline.evaluate import uses_of
from mdive.pipeline.graph import Graph
from mdive.pipeline.locality import Global
from mdive.pipeline.operation import Node
from mdive.pipeline.passes import Pass
from mdive.pipeline.strips import Stretch, steps_of
from mdive.pipeline.window import Tiles

KERNEL_TEMPORARIES = 3.0
"""Bytes of numpy temporaries inside a kernel per byte of its largest argument (measured: float64 copies of a float32 block and a mask)."""

READ_OVERHEAD = 1.0
"""Bytes of blocks (packed ones that wait, unpacked ones that a tile's edge cuts) per byte of stored numbers while a source is read."""

PROCESS_BASE = 310 * 1024**2
"""Resident bytes of a process that has imported and compiled everything, with what its C library keeps free."""

PRODUCTS_BASE = 470 * 1024**2
"""Resident bytes while products are made, whatever the tiles: rasters read back, polygons, report (measured 450-480 MiB at 1,000 km², 556 at
10,000 km² with all products)."""

SHARED_ROWS = 512
"""Rows of unpacked blocks that a row of tiles leaves to the next: half a block of 1,024, the most common size, where tiles are not aligned to it."""

DOCUMENTS = 16 * 1024**2
"""Bytes set aside for report, STAC, ledger and the headers of checkpoints (the report of a synthetic event has 60 KiB)."""

SIZES = (4096, 3072, 2048, 1536, 1024, 768, 512, 256)
"""Multiples of the block sizes that COGs have (256, 512, 1024), largest first: larger tiles waste less on halos and cut blocks."""


MAX_PIXELS = 10**11
"""Larger grids are a slip (a resolution in degrees, an area of a continent at 1 m), not a wish: 10^11 pixels are 10 million km² at 10 m."""

MAX_TILES = 400_000
"""The largest grid in tiles of 512 pixels: each is looked at in turn, and has a task and a checkpoint for every pass."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes per pixel of a tile, at its worst moment and on disk."""

    memory: float
    scratch: float
    stored: float
    """All bands of all sources, as numbers of the files."""


def check_size(shape: tuple[int, int], size: int = SIZES[0]) -> None:
    """Refuse a grid, or a cut of it, that nobody could compute, before anything walks along it.

    Parameters
    ----------
    shape
        Grid (rows, columns).
    size
        Tile edge in pixels; the largest, where only the grid is known.

    Raises
    ------
    InputError
        For more than ``MAX_PIXELS``, or more than ``MAX_TILES``.
    """
    rows, cols = shape
    if rows * cols > MAX_PIXELS:
        raise InputError(
            f"the grid has {rows} x {cols} pixels; the most is {MAX_PIXELS:,}.", "Give a smaller area, or a coarser intent.resolution."
        )
    tiles = -(-rows // size) * -(-cols // size)
    if tiles > MAX_TILES:
        raise InputError(
            f"the grid of {rows} x {cols} pixels is {tiles:,} tiles of {size} pixels; the most is {MAX_TILES:,}.",
            "Give a larger --tile-size, or a smaller area: a tile of 1024 pixels and more costs less time, too.",
        )


def footprint(graph: Graph, passes: Sequence[Pass], sources: Mapping[str, Source]) -> Footprint:
    """Return what one pixel costs while tiles are evaluated, by walking each pass as the evaluator does."""
    times = {key: max(1, len(source.observations)) for key, source in sources.items()}
    depth = _time_depths(graph, times)
    worst = 0.0
    scratch = 0.0
    for pass_ in passes:
        size = {n.key: np.dtype(n.dtype).itemsize * depth[n.key] for n in (*pass_.nodes, *pass_.fetched)}
        steps = steps_of(pass_)
        uses = uses_of(pass_, steps)
        read = {n.source for n in pass_.nodes if n.is_load}
        planes = float(sum(_stored(source) for key, source in sources.items() if key in read))
        worst = max(worst, planes * (1 + READ_OVERHEAD))
        held = planes + sum(size[n.key] for n in (*pass_.fetched, *steps.whole))
        kept = sum(size[n.key] for n in pass_.kept) + sum(np.dtype(n.dtype).itemsize for n in pass_.outputs.values())
        for step in steps.order:
            if isinstance(step, Stretch):
                # Within a stretch there are strips of rows, and no raster of the tile but those that somebody needs.
                held += sum(size[n.key] for n in step.nodes if n.key in step.whole)
                worst, used = max(worst, held), tuple[Node | None, ...](step.given)
            else:
                largest = max([size.get(n.key, 0) for n in step.inputs if n is not None and n.kind == "raster"], default=0)
                held += size[step.key]
                declared = step.operation.working if step.operation is not None else None
                worst, used = max(worst, held + (KERNEL_TEMPORARIES * largest if declared is None else declared)), step.inputs
                if isinstance(step.operation and step.operation.locality, Global):
                    continue
            for source in used:
                if source is not None and source.key in uses:
                    uses[source.key] -= 1
                    if uses[source.key] == 0:
                        held -= size.get(source.key, 0) if not source.is_load or source in steps.whole else 0
        maps = sum(n.operation.locality.kept_bytes for n in pass_.maps if n.operation and isinstance(n.operation.locality, Global))
        working = max([n.operation.working or 0.0 for n in (*pass_.reductions, *pass_.maps) if n.operation is not None], default=0.0)
        worst = max(worst, held + kept + max(3 * maps, maps + working))
        scratch += kept + maps
    return Footprint(worst, scratch, float(sum(_stored(source) for source in sources.values())))


def tile_size(memory: float, shape: tuple[int, int], *, budget: int, workers: int, largest: int, halo: int) -> int:
    """Return the largest tile edge (pixels) whose memory fits the budget on all workers, and that leaves every worker something to do.

    Parameters
    ----------
    memory
        Bytes per pixel (``footprint``).
    shape
        Grid (rows, columns).
    budget
        Bytes for the whole process.
    workers
        Tiles in the making at once.
    largest
        Upper limit of the profile.
    halo
        Pixels that a tile reads beyond its edge.
    """
    share = max(budget - PROCESS_BASE, 64 * 1024**2) / workers
    fitting = [s for s in SIZES if s <= largest and memory * (s + 2 * halo) ** 2 <= share] or [SIZES[-1]]
    busy = [s for s in fitting if -(-shape[0] // s) * -(-shape[1] // s) >= 2 * workers]
    return busy[0] if busy else fitting[-1]


def peak_memory(cost: Footprint, tiles: Tiles, halo: int, workers: int, store: int) -> int:
    """Return the bytes that a run is expected to hold at its worst moment.

    Parameters
    ----------
    cost
        Bytes per pixel.
    tiles
        The partition.
    halo
        Pixels that a tile reads beyond its edge.
    workers
        Tiles in the making at once.
    store
        Budget of the block store, in bytes.
    """
    areas = sorted(((t.height + 2 * halo) * (t.width + 2 * halo) for t in tiles), reverse=True)
    shared = min(store, cost.stored * SHARED_ROWS * tiles.grid.width)
    return max(PRODUCTS_BASE, int(PROCESS_BASE + shared + cost.memory * sum(areas[:workers])))


def disk_bytes(cost: Footprint, graph: Graph, passes: Sequence[Pass], shape: tuple[int, int], size: int, *, zarr: bool = False) -> int:
    """Return the bytes that a run may hold on disk at its worst moment: all checkpoints, and the products being staged, with a Zarr store or without."""
    edge = min(size, *shape)
    margin = max(p.margin for p in passes)
    # What a tile keeps reaches beyond it by the margin of its pass.
    scratch = cost.scratch * (edge + 2 * margin) ** 2 / edge**2
    stored = [np.dtype(node.dtype).itemsize for node in graph.outputs.values()]
    # Noise does not shrink: each product with its overviews (a third more), and the image that the largest one is copied from.
    products = 4 / 3 * sum(stored) + max(stored) + (sum(stored) if zarr else 0)
    return DOCUMENTS + int((scratch + products) * shape[0] * shape[1])


def widest_halo(passes: Sequence[Pass]) -> int:
    """Return the largest number of pixels that any pass reads beyond a tile."""
    return max((h + p.margin for p in passes for h in p.halo.values()), default=0)


def _stored(source: Source) -> int:
    """Return the bytes per pixel of all bands of a source as they are kept while a tile is computed: numbers of the files."""
    bands = [*source.bands, *([source.mask.band] if source.mask else [])]
    widths = [max((np.dtype(i.assets[band].dtype).itemsize for i in source.items if band in i.assets), default=0) for band in bands]
    return sum(widths) * max(1, len(source.observations))


def _time_depths(graph: Graph, times: Mapping[str, int]) -> dict[str, int]:
    depth: dict[str, int] = {}
    for node in graph:
        if node.is_load:
            depth[node.key] = times.get(node.source, 1) if node.timed else 1
        else:
            depth[node.key] = max([depth[n.key] for n in node.inputs if isinstance(n, Node)], default=1) if node.timed else 1
    return depth
