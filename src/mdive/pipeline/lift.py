"""Lift operations to xarray: numpy stays numpy, dask stays lazy. Only this file of the heart makes xarray objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mdive.errors import InputError, KernelError
from mdive.model.plan import Grid
from mdive.pipeline.calling import by_scene, common_times, raster_names, timeless
from mdive.pipeline.evaluate import Loader
from mdive.pipeline.georeference import Rasters, check_together, grid_of
from mdive.pipeline.graph import Graph
from mdive.pipeline.lower import NOTHING, Blocks, in_tiles, loader_of, run_whole, to_dask
from mdive.pipeline.operation import Node, Operation, constant_node, fill_of, load_node
from mdive.pipeline.passes import Pass
from mdive.pipeline.strips import Arrays
from mdive.pipeline.window import Tiles, Window

if TYPE_CHECKING:
    import xarray as xr

_DIMS = ("time", "y", "x")


def lift(operation: Operation, rasters: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    """Call one operation on DataArrays with dimensions (y, x) or (time, y, x); None and states pass through.

    A numpy array of the rasters' shape is a raster, too. An operation that sees one scene at a time is called for each.
    """
    names = raster_names(operation, len(rasters))
    first = _ordered(next(r for r in rasters if _is_raster(r)))
    given = [_like(r, rasters, first) for r in rasters]
    arrays = {(operation.name, name): _ordered(r) for name, r in zip(names, given, strict=True) if _is_raster(r)}
    check_together(arrays)
    timed = [a for a in arrays.values() if "time" in a.dims]
    times = common_times(operation, (a.sizes["time"] for a in timed))
    if times is not None and by_scene(operation):
        scenes = [lift(operation, [_at(r, t) for r in given], parameters) for t in range(times)]
        return _dressed(_stacked(scenes), operation, timed[0], name=operation.name)
    nodes: list[Node | None] = []
    constants = {}
    for name, value in zip(names, given, strict=True):
        nodes.append(None if value is None else node_for(operation.name, name, value) if _is_raster(value) else constant_node(name))
        if nodes[-1] is not None and nodes[-1].kind == "state":
            constants[nodes[-1].key] = value
    try:
        return compute({operation.name: operation(*nodes, **parameters)}, arrays, constants)[operation.name]
    except KernelError:
        if operation.over_time and times is None:
            raise timeless(operation) from None
        raise


def node_for(source: str, band: str, array: xr.DataArray) -> Node:
    """Return the load node that stands for a DataArray."""
    return load_node(source, band, dtype=str(array.dtype), timed="time" in array.dims)


def compute(outputs: Mapping[str, Node], rasters: Rasters, constants: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """Evaluate a graph on DataArrays that stand for its loads.

    Parameters
    ----------
    outputs
        Node by name.
    rasters
        ``(source, band)`` -> DataArray, all on one grid.
    constants
        States that are given, by node key.

    Returns
    -------
    Name -> DataArray (lazy if any input is), or the state itself for reductions.

    Raises
    ------
    InputError
        If the rasters do not share one grid and CRS, or an operation depends on the size of a pixel and they do not tell it.
    """
    ordered = {key: _ordered(array) for key, array in rasters.items()}
    check_together(ordered)
    graph = Graph(outputs)
    grid = grid_of(ordered.values(), next((n.label for n in graph if n.operation is not None and n.operation.measures), ""))
    times = next((a.sizes["time"] for a in ordered.values() if "time" in a.dims), 1)
    lazy = [a for a in ordered.values() if a.chunks is not None]
    states = any(node.kind == "state" for node in outputs.values())
    if lazy and not states:
        values = _lazy(graph, grid, ordered, lazy[0], times, constants)
    else:
        tiles, workers = in_tiles(grid.shape)
        load = loader_of({k: np.asarray(a) for k, a in ordered.items()})
        values = run_whole(graph, grid, tiles, load, constants, workers=workers)
    result: dict[str, Any] = {}
    located = next((a for a in ordered.values() if "x" in a.coords and "y" in a.coords), next(iter(ordered.values())))
    for name, node in outputs.items():
        like = next((a for a in ordered.values() if "time" in a.dims), located) if node.timed else located
        found = values[name]
        result[name] = _dressed(found, node.operation, like, timed=node.timed, name=name) if node.kind == "raster" else found
    return result


def _dressed(values: Any, operation: Operation | None, like: xr.DataArray, *, timed: bool = True, name: str | None = None) -> xr.DataArray:
    """Return values as a DataArray with the coordinates of another."""
    import xarray as xr

    dims = ("time", "y", "x") if timed else ("y", "x")
    coords = {k: v for k, v in like.coords.items() if set(v.dims) <= set(dims) and (k != "time" or timed)}
    attrs = {} if operation is None else {"long_name": operation.name.replace("_", " "), "units": operation.units}
    mapping = like.encoding.get("grid_mapping", like.attrs.get("grid_mapping", "spatial_ref"))
    if mapping in coords:
        attrs["grid_mapping"] = mapping
    return xr.DataArray(values, dims=dims, coords=coords, name=name, attrs=attrs)


def _at(value: Any, time: int) -> Any:
    return value.isel(time=time) if _is_raster(value) and "time" in value.dims else value


def _stacked(scenes: Sequence[xr.DataArray]) -> Any:
    import dask.array as da

    stack = da.stack if any(s.chunks is not None for s in scenes) else np.stack
    return stack([s.data for s in scenes])


def _is_raster(value: Any) -> bool:
    return hasattr(value, "dims") and hasattr(value, "coords")


def _ordered(array: xr.DataArray) -> xr.DataArray:
    extra = [d for d in array.dims if d not in ("time", "y", "x")]
    if extra or "y" not in array.dims or "x" not in array.dims:
        raise InputError(
            f"a raster has dimensions {tuple(array.dims)}; operations take ('y', 'x') or ('time', 'y', 'x').",
            "Rename the spatial dimensions to y and x, and select along the others first.",
        )
    return array.transpose(*(("time",) if "time" in array.dims else ()), "y", "x")


def _like(value: Any, rasters: Sequence[Any], first: xr.DataArray) -> Any:
    """Return a numpy array of the rasters' shape as one of them, as xarray's own arithmetic does; anything else as it is (a state)."""
    shape = (first.sizes["y"], first.sizes["x"])
    if not isinstance(value, np.ndarray) or value.shape[-2:] != shape or value.ndim > len(_DIMS):
        return value
    import xarray as xr

    like = first if value.ndim == len(shape) else next((r for r in rasters if _is_raster(r) and "time" in r.dims), first)
    coords = {d: c for d, c in like.coords.items() if d in _DIMS[-value.ndim :] and c.dims == (d,)}
    if "time" in coords and coords["time"].size != len(value):
        coords.pop("time")
    return xr.DataArray(value, dims=_DIMS[-value.ndim :], coords=coords)


class _ChunkLoader:
    """Assembles windows of several arrays from the chunks that a task was given."""

    def __init__(self, index: Sequence[tuple[str, str, str, Sequence[Window]]]) -> None:
        self.index = index

    def __call__(self, arguments: list[Any]) -> Loader:
        blocks = {
            (source, band): Blocks(fill_of(dtype), dtype, list(zip(windows, chunks, strict=True)))
            for (source, band, dtype, windows), chunks in zip(self.index, arguments, strict=True)
        }
        return lambda source, bands, window: Arrays({b: blocks[source, b].read(window) for b in bands})


def _lazy(graph: Graph, grid: Grid, rasters: Rasters, like: xr.DataArray, times: int, constants: Mapping[str, Any]) -> dict[str, Any]:
    import dask.array as da
    from dask.base import tokenize

    chunks_of = dict(zip(like.dims, like.chunks or (), strict=True))
    rows, cols = chunks_of["y"], chunks_of["x"]
    tiles = Tiles.from_chunks(rows, cols)
    arrays = {}
    for key, array in rasters.items():
        chunks = {i: -1 if d == "time" else (rows if d == "y" else cols) for i, d in enumerate(array.dims)}
        data = array.data if array.chunks is not None else da.from_array(np.asarray(array), chunks=tuple(chunks.values()))  # type: ignore[no-untyped-call]
        arrays[key] = data.rechunk(chunks)

    def loads(pass_: Pass, index: int) -> tuple[_ChunkLoader, list[Any]]:
        described, keys = [], []
        for node in pass_.nodes:
            if not node.is_load:
                continue
            array = arrays[node.source, node.band]
            window = tiles.owned(index, pass_.margin).expand(_reach_of(pass_, node.source))
            touched = tiles.touching(window)
            described.append((node.source, node.band, str(array.dtype), [tiles[j] for j in touched]))
            lead = (0,) * (array.ndim - 2)
            keys.append([(array.name, *lead, *divmod(j, tiles.counts[1])) for j in touched])
        return _ChunkLoader(described), keys

    # Equal names must mean equal work: the same arrays with other coordinates, or beside other states, are another piece of it.
    token = tokenize([a.name for a in arrays.values()], grid.identity, dict(constants))
    return to_dask(graph, grid, tiles, loads, token, sources=list(arrays.values()), times=times, constants=constants)


def _reach_of(pass_: Pass, source: str) -> int:
    return max(pass_.halo[n.key] for n in pass_.nodes if n.is_load and n.source == source)
