"""Lower a graph to dask: one task per tile and pass, nothing computed while it is built.

Serves ``analyse`` (loads are read from sources) and ``apply`` (loads are arrays that the user has).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdive.config import profile, steady_memory, worker_count
from mdive.model.base import digest
from mdive.model.plan import Grid
from mdive.pipeline.evaluate import DEFAULT_GRID, Kept, Loader, TileResult, evaluate_tile, solve
from mdive.pipeline.graph import Graph
from mdive.pipeline.locality import Global, Reduction
from mdive.pipeline.operation import Node, Operation, fill_of, load_node
from mdive.pipeline.passes import Pass, split
from mdive.pipeline.strips import Arrays
from mdive.pipeline.window import Tiles, Window

NOTHING: Mapping[str, Any] = {}


class Blocks:
    """A window of a raster, assembled from the tiles that hold it.

    Parameters
    ----------
    fill, dtype
        What stands where no tile holds a pixel, and of which type.
    pieces
        ``(window, array)`` of each tile.
    """

    def __init__(self, fill: Any, dtype: str, pieces: Sequence[tuple[Window, np.ndarray]]) -> None:
        self.fill, self.dtype, self.pieces = fill, dtype, pieces

    def read(self, window: Window) -> np.ndarray:
        """Return the window; fill where no piece reaches."""
        for have, array in self.pieces:
            if have.intersect(window) == window:
                return np.ascontiguousarray(array[(..., *window.within(have))])
        lead = self.pieces[0][1].shape[:-2] if self.pieces else ()
        out = np.full((*lead, *window.shape), self.fill, dtype=self.dtype)
        for have, array in self.pieces:
            common = have.intersect(window)
            if not common.empty:
                out[(..., *common.within(window))] = array[(..., *common.within(have))]
        return out


TILE = 1024
"""Edge in pixels of the tiles in which arrays in memory are computed: what kernels hold beside the arrays follows from it. Tiles of 512 cost 10 %
more time, those of 2,048 four times the memory."""

LARGE = 2 * TILE * TILE
"""Pixels from which an array is computed in tiles, on all cores; below, that costs more than it gains."""


def run_whole(
    graph: Graph, grid: Grid, tiles: Tiles, load: Loader, constants: Mapping[str, Any] = NOTHING, *, workers: int = 1
) -> dict[str, Any]:
    """Run all passes in memory: what eager ``apply`` does on numpy arrays, and the reference that other runners equal.

    Parameters
    ----------
    graph, grid, tiles, load
        What, where, the partition, and how sources are read.
    constants
        States that are given, by node key.
    workers
        Tiles computed at once, in threads.

    Returns
    -------
    Output name -> array over the grid, or state.
    """
    if len(tiles) > 1:
        steady_memory()
    states: dict[str, Any] = dict(constants)
    done: dict[tuple[int, int], TileResult] = {}
    passes = split(graph, grid)
    outputs: dict[str, Any] = {}
    for pass_ in passes:
        p = pass_.index

        def evaluate(i: int, pass_: Pass = pass_) -> TileResult:
            near = [(place, done[place]) for place in _places(passes, pass_, tiles, i)]
            return _tile(passes, pass_, tiles, i, grid, load, _own_states(pass_, states, i), near)

        for i, result in enumerate(_in_order(evaluate, len(tiles), workers)):
            done[p, i] = result
            if pass_.applied:
                done[p - 1, i].maps.clear()
            for name, array in result.outputs.items():
                if name not in outputs:
                    outputs[name] = np.empty((*array.shape[:-2], *tiles.shape), array.dtype)
                outputs[name][(..., *tiles[i].within(tiles.grid))] = array
            result.outputs.clear()
        parts = [done[p, i].parts for i in range(len(tiles))]
        states.update(solve_pass(pass_, tiles, grid, states, lambda key, parts=parts: (part[key] for part in parts)))  # type: ignore[misc]
        _forget(passes, p, done)
    outputs.update({name: states[node.key] for name, node in graph.outputs.items() if node.kind == "state"})
    return outputs


def in_tiles(shape: tuple[int, int]) -> tuple[Tiles, int]:
    """Return how arrays in memory are cut, and how many tiles are computed at once."""
    if shape[0] * shape[1] < LARGE:
        return Tiles((0, shape[0]), (0, shape[1])), 1
    return Tiles.regular(shape, TILE), worker_count(profile())


def loader_of(arrays: Mapping[tuple[str, str], np.ndarray]) -> Loader:
    """Return the loader of arrays in memory, by source and band; beyond them nothing is known."""

    def load(source: str, bands: Sequence[str], window: Window) -> Arrays:
        result = {}
        for band in bands:
            array = arrays[source, band]
            whole = Window(0, 0, *array.shape[-2:])
            result[band] = Blocks(fill_of(str(array.dtype)), str(array.dtype), [(whole, array)]).read(window)
        return Arrays(result)

    return load


def compute_tiles(operation: Operation, arrays: Sequence[Any], parameters: Mapping[str, Any]) -> np.ndarray:
    """Run one operation on large arrays (y, x) tile by tile, with the bits of ``compute_whole``."""
    parameters = dict(parameters)
    shape = next(a.shape for a in arrays if a is not None)
    given = parameters.pop("grid", None)
    grid = given or DEFAULT_GRID.model_copy(update={"shape": shape})
    nodes = [None if a is None else load_node("given", str(i), dtype=str(a.dtype), timed=False) for i, a in enumerate(arrays)]
    load = loader_of({("given", str(i)): a for i, a in enumerate(arrays) if a is not None})
    tiles, workers = in_tiles(shape)
    result: np.ndarray = run_whole(Graph({"result": operation(*nodes, **parameters)}), grid, tiles, load, workers=workers)["result"]
    return result


def _in_order(evaluate: Callable[[int], TileResult], count: int, workers: int) -> Iterator[TileResult]:
    """Yield the results of all tiles in order; no more than a few wait to be taken."""
    if workers == 1 or count == 1:
        yield from map(evaluate, range(count))
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[TileResult]] = deque()
        for i in range(count):
            running.append(pool.submit(evaluate, i))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _forget(passes: Sequence[Pass], p: int, done: Mapping[tuple[int, int], TileResult]) -> None:
    """Drop what no later pass reads."""
    later = {n.key for q in passes[p + 1 :] for n in q.fetched}
    for (q, _), result in done.items():
        result.kept = {key: array for key, array in result.kept.items() if key in later}
        if q == p:
            result.parts = {}


def to_dask(
    graph: Graph,
    grid: Grid,
    tiles: Tiles,
    loads: Callable[[Pass, int], tuple[Callable[[list[Any]], Loader], list[Any]]],
    token: str,
    *,
    sources: Sequence[Any] = (),
    times: int = 1,
    constants: Mapping[str, Any] = NOTHING,
    shared: Mapping[str, Any] = NOTHING,
) -> dict[str, Any]:
    """Return a dask array for each output of a graph.

    Parameters
    ----------
    graph, grid, tiles
        What, where, and the partition: one chunk per tile.
    loads
        ``(pass, tile) -> (make_loader, arguments)``: the task calls ``make_loader(arguments)`` with the arguments computed.
    token
        Identity of the inputs: part of every key, so that equal work has equal names in every process.
    sources
        Dask arrays whose keys the arguments name.
    times
        Length of the time axis, for outputs that have one.
    constants
        States that are given, by node key.
    shared
        Values that arguments name by key, sent once instead of with every task.

    Returns
    -------
    Name -> dask array (y, x), or (time, y, x) for outputs with a time axis.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    passes = split(graph, grid)
    prefix = f"mdive-{digest([token, [n.key for n in graph], tiles.row_edges, tiles.col_edges])[:16]}"
    tasks: dict[Any, Any] = dict(shared)
    for pass_ in passes:
        p = pass_.index
        solved = [(f"{prefix}-s", q.index) for q in passes[:p] if q.solves]
        for i in range(len(tiles)):
            make, arguments = loads(pass_, i)
            places = _places(passes, pass_, tiles, i)
            results = [(f"{prefix}-p", q, j) for q, j in places]
            tasks[(f"{prefix}-p", p, i)] = (
                _tile_task,
                _Where(passes, p, tiles, i, grid, make, tuple(places), constants),
                arguments,
                results,
                solved,
            )
        if pass_.solves:
            parts = [(f"{prefix}-p", p, i) for i in range(len(tiles))]
            tasks[(f"{prefix}-s", p)] = (_solve_task, _Where(passes, p, tiles, 0, grid, None, (), constants), parts, solved)
    graph_of_tiles = HighLevelGraph.from_collections(f"{prefix}-p", tasks, dependencies=list(sources))
    chunks = (tuple(np.diff(tiles.row_edges).tolist()), tuple(np.diff(tiles.col_edges).tolist()))
    columns = tiles.counts[1]
    arrays: dict[str, Any] = {}
    for pass_ in passes:
        for name, node in pass_.outputs.items():
            label = f"{prefix}-{name}"
            lead = (0,) if node.timed else ()
            layer: dict[Any, Any] = {
                (label, *lead, *divmod(i, columns)): (_output, (f"{prefix}-p", pass_.index, i), name) for i in range(len(tiles))
            }
            layers = HighLevelGraph({**graph_of_tiles.layers, label: layer}, {**graph_of_tiles.dependencies, label: {f"{prefix}-p"}})
            arrays[name] = da.Array(  # type: ignore[no-untyped-call]
                layers, label, chunks=(((times,), *chunks) if node.timed else chunks), dtype=node.dtype
            )
    return arrays


@dataclass(frozen=True, eq=False)
class _Where:
    """What a task needs to know beside its inputs; opaque to dask."""

    passes: tuple[Pass, ...]
    index: int
    tiles: Tiles
    tile: int
    grid: Grid
    make: Any
    places: tuple[tuple[int, int], ...]
    constants: Mapping[str, Any]


def _places(passes: Sequence[Pass], pass_: Pass, tiles: Tiles, index: int) -> list[tuple[int, int]]:
    """Return ``(pass, tile)`` of each earlier result that a tile reads: kept rasters of its neighbourhood, its own maps."""
    fetched = {n.key for n in pass_.fetched}
    reach = _reach(pass_, tiles, index)
    kept = [(q.index, j) for q in passes[: pass_.index] if fetched & {n.key for n in q.kept} for j in reach]
    mine = [(pass_.index - 1, index)] if pass_.applied else []
    return list(dict.fromkeys([*kept, *mine]))


def _tile(
    passes: Sequence[Pass],
    pass_: Pass,
    tiles: Tiles,
    index: int,
    grid: Grid,
    load: Loader,
    states: Mapping[str, Any],
    near: Sequence[tuple[tuple[int, int], TileResult]],
) -> TileResult:
    def fetch(node: Node, window: Window) -> np.ndarray:
        found = [(tiles.owned(j, passes[q].margin), r.kept[node.key]) for (q, j), r in near if node.key in r.kept]
        return Blocks(node.fill, node.dtype, found).read(window)

    def mapped(key: str) -> Kept:
        return next(r.maps[key] for (_, j), r in near if j == index and key in r.maps)

    return evaluate_tile(pass_, tiles, index, grid, load, fetch, states, mapped)


def _reach(pass_: Pass, tiles: Tiles, index: int) -> list[int]:
    halo = max((pass_.halo[n.key] for n in pass_.fetched), default=0)
    return tiles.touching(tiles.owned(index, pass_.margin).expand(halo))


def _own_states(pass_: Pass, states: Mapping[str, Any], index: int) -> dict[str, Any]:
    applied = {n.key for n in pass_.applied}
    return {k: (v[index] if k in applied else v) for k, v in states.items()}


def solve_pass(pass_: Pass, tiles: Tiles, grid: Grid, states: Mapping[str, Any], parts: Callable[[str], Iterable[Any]]) -> dict[str, Any]:
    """Solve what a pass ends with.

    Parameters
    ----------
    pass_, tiles, grid
        The pass and its partition.
    states
        What earlier passes solved, by node key.
    parts
        Node key -> its parts in tile order.

    Returns
    -------
    Node key -> state; a global operation's is a list with one state per tile.
    """
    made: dict[str, Any] = {}
    for node in pass_.solves:
        emits = node.operation is not None and isinstance(node.operation.locality, Reduction | Global)
        pairs = zip(tiles, parts(node.key), strict=True) if emits else None
        made[node.key] = solve(node, pairs, {**states, **made}, grid)
    return made


def _tile_task(where: _Where, arguments: list[Any], results: list[TileResult], solved: list[dict[str, Any]]) -> TileResult:
    pass_ = where.passes[where.index]
    near = list(zip(where.places, results, strict=True))
    states = _own_states(pass_, _merged([where.constants, *solved]), where.tile)
    return _tile(where.passes, pass_, where.tiles, where.tile, where.grid, where.make(arguments), states, near)


def _solve_task(where: _Where, results: list[TileResult], solved: list[dict[str, Any]]) -> dict[str, Any]:
    parts = [r.parts for r in results]
    return solve_pass(
        where.passes[where.index], where.tiles, where.grid, _merged([where.constants, *solved]), lambda key: (p[key] for p in parts)
    )


def _merged(solved: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: state for states in solved for key, state in states.items()}


def _output(result: TileResult, name: str) -> np.ndarray:
    return result.outputs[name]
