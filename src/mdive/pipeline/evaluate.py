"""Evaluate one tile of one pass in memory: the one place where kernels meet blocks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mdive.errors import KernelError
from mdive.model.plan import Grid
from mdive.pipeline.fuse import Fused, fused
from mdive.pipeline.locality import Focal, Global, Reduction
from mdive.pipeline.operation import Node, Operation, fill_of
from mdive.pipeline.passes import Pass
from mdive.pipeline.strips import Bands, Steps, Stretch, steps_of, strips_of
from mdive.pipeline.window import Tiles, Window


class Loader(Protocol):
    """Reads bands of one source over a window."""

    def __call__(self, source: str, bands: Sequence[str], window: Window) -> Bands:
        """Return the bands over the window."""
        ...


Fetch = Callable[[Node, Window], np.ndarray]
"""Reads a raster that an earlier pass kept, over any window (fill beyond what was kept)."""


Kept = np.ndarray | tuple[np.ndarray, ...]
"""What the map of a global operation keeps for its apply."""


@dataclass(slots=True)
class TileResult:
    """What one tile of one pass leaves behind."""

    kept: dict[str, np.ndarray] = field(default_factory=dict)
    """Node key -> array over the tile, grown by the pass's margin at the grid's edge."""
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    """Product name -> array over the tile."""
    maps: dict[str, Kept] = field(default_factory=dict)
    """Key of a global operation -> what its apply needs."""
    parts: dict[str, Any] = field(default_factory=dict)
    """Key of a reduction or global operation -> its part."""


def evaluate_tile(
    pass_: Pass,
    tiles: Tiles,
    index: int,
    grid: Grid,
    load: Loader,
    fetch: Fetch,
    states: Mapping[str, Any],
    mapped: Callable[[str], Kept],
) -> TileResult:
    """Evaluate one pass on one tile.

    Parameters
    ----------
    pass_
        What to compute.
    tiles, index
        The partition and which tile of it.
    grid
        The target grid.
    load, fetch
        How sources and kept rasters are read.
    states
        Node key -> state; for a global operation its state for this tile.
    mapped
        Key of a global operation -> what its map kept for this tile.
    """
    core = tiles[index]
    base = tiles.owned(index, pass_.margin)
    blocks: dict[str, np.ndarray] = {}
    extent = {key: base.expand(halo) for key, halo in pass_.halo.items()}
    steps = steps_of(pass_)
    uses = uses_of(pass_, steps)
    result = TileResult()

    bands = {source: (window, load(source, [n.band for n in nodes], window)) for source, nodes, window in loads_of(pass_, tiles, index)}
    for node in steps.whole:
        blocks[node.key] = _load_whole(node, *bands[node.source], extent[node.key])
    for node in pass_.fetched:
        blocks[node.key] = fetch(node, extent[node.key])

    def settle(node: Node) -> None:
        block = blocks[node.key]
        for name, output in pass_.outputs.items():
            if output.key == node.key:
                result.outputs[name] = _cut(block, extent[node.key], core)
        if any(k.key == node.key for k in pass_.kept):
            result.kept[node.key] = _cut(block, extent[node.key], base)

    def release(nodes: Iterable[Node | None]) -> None:
        for source in nodes:
            if source is not None and source.key in uses:
                uses[source.key] -= 1
                if uses[source.key] == 0:
                    blocks.pop(source.key, None)

    for node in steps.whole:
        settle(node)
    for step in steps.order:
        if isinstance(step, Stretch):
            blocks.update(_evaluate_stretch(step, base.expand(step.halo), bands, blocks, extent, states, grid))
            for node in step.nodes:
                if node.key in step.whole:
                    settle(node)
            release(step.given)
        elif step.operation is not None and isinstance(step.operation.locality, Global):
            blocks[step.key] = _apply(step, mapped(step.key), states[step.key], core, extent[step.key], grid)
            settle(step)
        else:
            blocks[step.key] = _compute(step, blocks, extent, states, grid)
            release(step.inputs)
            settle(step)

    for node in (*pass_.reductions, *pass_.maps):
        arguments = [_argument(n, blocks, extent, core, states) for n in node.inputs]
        assert node.operation is not None
        value = node.operation.call(arguments, node.parameters, window=core, grid=grid)
        if isinstance(node.operation.locality, Global):
            result.maps[node.key], value = value
        result.parts[node.key] = value
        release(node.inputs)
    return result


def solve(node: Node, parts: Any, states: Mapping[str, Any], grid: Grid) -> Any:
    """Turn parts (an iterator of ``(window, part)`` in tile order) into a state; for a node made of states alone, compute it.

    Returns
    -------
    The state: for a global operation, a list with one state per tile.
    """
    operation = node.operation
    assert operation is not None
    locality = operation.locality
    if isinstance(locality, Reduction):
        total = locality.merge(part for _, part in parts)
        return _finish(locality, total, node.parameters, grid)
    if isinstance(locality, Global):
        return _accepting(locality.solve, grid=grid)(parts, **node.parameters)
    arguments = [states[n.key] if n is not None else None for n in node.inputs]
    return operation.call(arguments, node.parameters, window=None, grid=grid)


DEFAULT_GRID = Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=(1, 1))
"""Where a plain array lies when nobody says: 10 m pixels of a UTM zone."""


def compute_whole(operation: Operation, rasters: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    """Run one operation on whole arrays: what lies beyond them is unknown (fill)."""
    parameters = dict(parameters)
    given = parameters.pop("grid", None)
    bound = operation.bind(parameters)
    arrays = [r if r is None or isinstance(r, dict) else np.asarray(r) for r in rasters]
    shape = next((a.shape[-2:] for a in arrays if isinstance(a, np.ndarray) and a.ndim >= 2), (1, 1))
    grid = given or DEFAULT_GRID.model_copy(update={"shape": shape})
    window = Window(0, 0, *shape)
    locality = operation.locality
    if isinstance(locality, Focal):
        depth = locality.pixels(bound, grid)
        padded = [_pad(a, depth) if isinstance(a, np.ndarray) and a.ndim >= 2 else a for a in arrays]
        block = operation.call(padded, bound, window=window.expand(depth), grid=grid)
        return _cut(block, window.expand(depth), window)
    value = operation.call(arrays, bound, window=window, grid=grid)
    if isinstance(locality, Reduction):
        total = locality.merge(iter([value]))
        return _finish(locality, total, bound, grid)
    if isinstance(locality, Global):
        kept, part = value
        state = _accepting(locality.solve, grid=grid)(iter([(window, part)]), **bound)[0]
        return np.ascontiguousarray(_call_apply(locality, kept, state, window, grid, bound), dtype=operation.dtype_for(arrays))
    return value


def uses_of(pass_: Pass, steps: Steps) -> dict[str, int]:
    """Return how many steps use each raster of the tile."""
    uses: dict[str, int] = {}
    users = [step.given if isinstance(step, Stretch) else step.inputs for step in steps.order if step not in pass_.applied]
    for inputs in (*users, *(n.inputs for n in (*pass_.reductions, *pass_.maps))):
        for source in inputs:
            if source is not None:
                uses[source.key] = uses.get(source.key, 0) + 1
    return uses


def loads_of(pass_: Pass, tiles: Tiles, index: int) -> list[tuple[str, list[Node], Window]]:
    """Return what one tile of a pass reads: source, its load nodes, and the window that holds what all of them need."""
    grouped: dict[str, list[Node]] = {}
    for node in pass_.nodes:
        if node.is_load:
            grouped.setdefault(node.source, []).append(node)
    base = tiles.owned(index, pass_.margin)
    return [(source, nodes, base.expand(max(pass_.halo[n.key] for n in nodes))) for source, nodes in grouped.items()]


def _argument(
    node: Node | None, blocks: Mapping[str, np.ndarray], extent: Mapping[str, Window], window: Window, states: Mapping[str, Any]
) -> Any:
    if node is None:
        return None
    if node.kind == "state":
        return states[node.key]
    return _cut(blocks[node.key], extent[node.key], window)


def _load_whole(node: Node, window: Window, bands: Bands, want: Window) -> np.ndarray:
    """Return a load as a raster, converted in strips."""
    out: np.ndarray | None = None
    for strip in strips_of(want):
        rows = bands.rows(*_rows(strip, window), [node.band])[node.band]
        if out is None:
            out = np.empty((*rows.shape[:-2], *want.shape), rows.dtype)
        out[(..., *strip.within(want))] = rows[..., want.col - window.col : want.col_end - window.col]
    assert out is not None
    return out


def _evaluate_stretch(
    stretch: Stretch,
    window: Window,
    bands: Mapping[str, tuple[Window, Bands]],
    blocks: Mapping[str, np.ndarray],
    extent: Mapping[str, Window],
    states: Mapping[str, Any],
    grid: Grid,
) -> dict[str, np.ndarray]:
    """Return those results of a stretch that are needed as rasters of the tile."""
    wanted: dict[str, list[str]] = {}
    for node in stretch.given:
        if node.is_load and node.key not in blocks:
            wanted.setdefault(node.source, []).append(node.band)
    keys = [n.key for n in (*stretch.given, *stretch.nodes)]
    whole: dict[str, np.ndarray] = {}
    plan: tuple[Node | Fused, ...] | None = None
    for strip in strips_of(window):
        values: dict[str, np.ndarray] = {}
        loaded = {source: bands[source][1].rows(*_rows(strip, bands[source][0]), names) for source, names in wanted.items()}
        for node in stretch.given:
            if node.key in blocks:
                values[node.key] = _cut(blocks[node.key], extent[node.key], strip)
            else:
                have = bands[node.source][0]
                values[node.key] = _cut(loaded[node.source][node.band], Window(strip.row, have.col, strip.height, have.width), strip)
        here = dict.fromkeys(keys, strip)
        plan = plan or fused(stretch, values, states, pixels=grid.shape[0] * grid.shape[1])
        for step in plan:
            if isinstance(step, Fused) and step.serves(values):
                values.update(step.run(values, whole, strip, window))
                continue
            for node in step.nodes if isinstance(step, Fused) else (step,):
                values[node.key] = value = _compute(node, values, here, states, grid)
                if node.key in stretch.whole:
                    if node.key not in whole:
                        whole[node.key] = np.empty((*value.shape[:-2], *window.shape), value.dtype)
                    whole[node.key][(..., *strip.within(window))] = value
    return whole


def _rows(strip: Window, window: Window) -> tuple[int, int]:
    return strip.row - window.row, strip.row_end - window.row


def _compute(
    node: Node, blocks: Mapping[str, np.ndarray], extent: Mapping[str, Window], states: Mapping[str, Any], grid: Grid
) -> np.ndarray:
    operation = node.operation
    assert operation is not None
    target = extent[node.key]
    depth = operation.locality.pixels(node.parameters, grid) if isinstance(operation.locality, Focal) else 0
    window = target.expand(depth)
    arguments = [_argument(n, blocks, extent, window, states) for n in node.inputs]
    value = operation.call(arguments, node.parameters, window=window, grid=grid)
    if not isinstance(value, np.ndarray) or value.shape[-2:] != window.shape:
        got = getattr(value, "shape", type(value).__name__)
        raise KernelError(
            f"operation {operation.name!r} returned {got} for a block of {window.shape} (rows, columns).",
            f"A {operation.locality.name} kernel returns an array of its block's shape.",
        )
    return _cut(value, window, target)


def _apply(node: Node, kept: Kept, state: Any, core: Window, target: Window, grid: Grid) -> np.ndarray:
    operation = node.operation
    assert operation is not None
    assert isinstance(operation.locality, Global)
    value = _call_apply(operation.locality, kept, state, core, grid, node.parameters)
    value = np.ascontiguousarray(value, dtype=node.dtype)
    if target == core:
        return value
    out = np.full((*value.shape[:-2], *target.shape), node.fill, dtype=node.dtype)
    out[(..., *core.within(target))] = value
    return out


def _call_apply(locality: Global, kept: Kept, state: Any, window: Window, grid: Grid, parameters: Mapping[str, Any]) -> np.ndarray:
    value: np.ndarray = _accepting(locality.apply, window=window, grid=grid)(kept, state, **parameters)
    return value


def _finish(locality: Reduction, total: Any, parameters: Mapping[str, Any], grid: Grid) -> Any:
    return total if locality.finish is None else _accepting(locality.finish, grid=grid)(total, **parameters)


def _accepting(function: Callable[..., Any], **injected: Any) -> Callable[..., Any]:
    """Bind those of ``window`` and ``grid`` that a function asks for by name."""
    names = inspect.signature(function).parameters
    return functools.partial(function, **{k: v for k, v in injected.items() if k in names})


def _cut(block: np.ndarray, have: Window, want: Window) -> np.ndarray:
    """Return the part of a block, contiguous: a strided view and its copy may differ in the last bit of a sum."""
    if have == want:
        return block
    return np.ascontiguousarray(block[(..., *want.within(have))])


def _pad(array: np.ndarray, depth: int) -> np.ndarray:
    width = [(0, 0)] * (array.ndim - 2) + [(depth, depth)] * 2
    return np.pad(array, width, constant_values=fill_of(str(array.dtype)))
