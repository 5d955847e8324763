"""Lift operations to xarray: numpy stays numpy, dask stays lazy. The only file of the heart that knows xarray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.pipeline.evaluate import DEFAULT_GRID, Loader
from mdive.pipeline.graph import Graph
from mdive.pipeline.lower import NOTHING, Blocks, run_whole, to_dask
from mdive.pipeline.operation import Node, Operation, constant_node, fill_of, load_node
from mdive.pipeline.passes import Pass
from mdive.pipeline.window import Tiles, Window

if TYPE_CHECKING:
    import xarray as xr

Rasters = Mapping[tuple[str, str], "xr.DataArray"]


def lift(operation: Operation, rasters: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    """Call one operation on DataArrays with dimensions (y, x) or (time, y, x); None and states pass through."""
    arrays = {("array", str(i)): r for i, r in enumerate(rasters) if _is_raster(r)}
    given = {i: constant_node(str(i)) for i, r in enumerate(rasters) if r is not None and not _is_raster(r)}
    nodes = [node_for("array", str(i), r) if _is_raster(r) else given.get(i) for i, r in enumerate(rasters)]
    constants = {node.key: rasters[i] for i, node in given.items()}
    return compute({operation.name: operation(*nodes, **parameters)}, arrays, constants)[operation.name]


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
        If the rasters do not share one grid.
    """
    import xarray as xr

    ordered = {key: _ordered(array) for key, array in rasters.items()}
    first = next(iter(ordered.values()))
    for (source, band), array in ordered.items():
        if array.sizes["y"] != first.sizes["y"] or array.sizes["x"] != first.sizes["x"] or not _same_coords(array, first):
            raise InputError(
                f"{source}:{band} has another grid ({array.sizes['y']} x {array.sizes['x']}) than the first raster "
                f"({first.sizes['y']} x {first.sizes['x']}).",
                "Reproject the rasters to one grid first, for instance with rioxarray's reproject_match.",
            )
    grid = grid_of(first)
    graph = Graph(outputs)
    times = next((a.sizes["time"] for a in ordered.values() if "time" in a.dims), 1)
    lazy = [a for a in ordered.values() if a.chunks is not None]
    states = any(node.kind == "state" for node in outputs.values())
    if lazy and not states:
        values = _lazy(graph, grid, ordered, lazy[0], times, constants)
    else:
        whole = Tiles((0, grid.shape[0]), (0, grid.shape[1]))
        values = run_whole(graph, grid, whole, _loader({k: np.asarray(a) for k, a in ordered.items()}), constants)
    result: dict[str, Any] = {}
    for name, node in outputs.items():
        if node.kind == "state":
            result[name] = values[name]
            continue
        like = next((a for a in ordered.values() if "time" in a.dims), first) if node.timed else first
        coords = {k: v for k, v in like.coords.items() if node.timed or "time" not in v.dims}
        dims = ("time", "y", "x") if node.timed else ("y", "x")
        attrs = {"long_name": node.label.replace("_", " "), "units": node.operation.units if node.operation else "1"}
        if "spatial_ref" in coords:
            attrs["grid_mapping"] = "spatial_ref"
        coords = {k: v for k, v in coords.items() if set(v.dims) <= set(dims) and (k != "time" or node.timed)}
        result[name] = xr.DataArray(values[name], dims=dims, coords=coords, name=name, attrs=attrs)
    return result


def grid_of(array: xr.DataArray) -> Grid:
    """Return the grid of a DataArray from its coordinates; pixels of 10 m where it has none."""
    rows, cols = array.sizes["y"], array.sizes["x"]
    if "x" not in array.coords or "y" not in array.coords or cols < 2 or rows < 2:
        return DEFAULT_GRID.model_copy(update={"shape": (rows, cols)})
    x, y = np.asarray(array["x"], dtype="float64"), np.asarray(array["y"], dtype="float64")
    step = float((x[-1] - x[0]) / (cols - 1))
    crs = DEFAULT_GRID.crs
    if "spatial_ref" in array.coords:
        crs = str(array["spatial_ref"].attrs.get("crs_wkt") or array["spatial_ref"].attrs.get("spatial_ref") or crs)
    return Grid(crs=crs, resolution=abs(step), x0=float(x[0]) - step / 2, y0=float(y[0]) + abs(step) / 2, shape=(rows, cols))


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


def _same_coords(a: xr.DataArray, b: xr.DataArray) -> bool:
    return all(d not in a.coords or d not in b.coords or np.array_equal(a[d], b[d]) for d in ("y", "x"))


def _loader(arrays: Mapping[tuple[str, str], np.ndarray]) -> Loader:
    def load(source: str, bands: Sequence[str], window: Window) -> dict[str, np.ndarray]:
        result = {}
        for band in bands:
            array = arrays[source, band]
            whole = Window(0, 0, *array.shape[-2:])
            result[band] = Blocks(fill_of(str(array.dtype)), str(array.dtype), [(whole, array)]).read(window)
        return result

    return load


class _ChunkLoader:
    """Assembles windows of several arrays from the chunks that a task was given."""

    def __init__(self, index: Sequence[tuple[str, str, str, Sequence[Window]]]) -> None:
        self.index = index

    def __call__(self, arguments: list[Any]) -> Loader:
        blocks = {
            (source, band): Blocks(fill_of(dtype), dtype, list(zip(windows, chunks, strict=True)))
            for (source, band, dtype, windows), chunks in zip(self.index, arguments, strict=True)
        }
        return lambda source, bands, window: {b: blocks[source, b].read(window) for b in bands}


def _lazy(graph: Graph, grid: Grid, rasters: Rasters, like: xr.DataArray, times: int, constants: Mapping[str, Any]) -> dict[str, Any]:
    import dask.array as da

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

    token = "/".join(a.name for a in arrays.values())
    return to_dask(graph, grid, tiles, loads, token, sources=list(arrays.values()), times=times, constants=constants)


def _reach_of(pass_: Pass, source: str) -> int:
    return max(pass_.halo[n.key] for n in pass_.nodes if n.is_load and n.source == source)
