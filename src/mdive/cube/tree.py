"""The same reading as a lazy tree: one node per source, one task per tile and source, nothing read while it is built or shown."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import DataNode, Task, TaskRef
from odc.geo.xr import xr_coords

from mdive.cube.block import read_block
from mdive.cube.grid import to_geobox
from mdive.model.base import digest
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid, Source
from mdive.pipeline.window import Tiles, Window

log = logging.getLogger(__name__)

_PHYSICAL = {"dB": "1", "power": "1", "amplitude": "1", "class": "1", "bits": "1"}
"""Units of loaded numbers where they differ from those of the asset: powers are ratios, and dB and amplitude become power at load."""


def open_tree(sources: Sequence[Source], grid: Grid, *, chunks: int) -> xr.DataTree:
    """Return the sources as a lazy tree.

    Parameters
    ----------
    sources
        The plan's sources; each becomes the node ``name/phase``.
    grid
        The plan's grid.
    chunks
        Edge of a chunk in pixels. All observations and bands of a chunk are read by one task.

    Returns
    -------
    xr.DataTree
        Datasets with each band as float32 (time, y, x) in physical units, NaN where nothing is, and ``mask`` as uint16 with CF flags that
        say why. Time is the source's observations in their order (best first), ``observation`` their ids.
    """
    return xr.DataTree.from_dict({source.key: _dataset(source, grid, chunks) for source in sources})


def _dataset(source: Source, grid: Grid, chunks: int) -> xr.Dataset:
    arrays = _arrays(source, grid, chunks)
    coords = dict(xr_coords(to_geobox(grid)))
    spatial_ref = next(name for name, coord in coords.items() if coord.ndim == 0)
    times = [o.datetime.astimezone(dt.UTC).replace(tzinfo=None) for o in source.observations]
    coords["time"] = xr.DataArray(np.array(times, dtype="datetime64[ns]"), dims="time")
    coords["observation"] = xr.DataArray(np.array([o.id for o in source.observations], dtype=np.str_), dims="time")
    found = xr.Dataset(
        {name: (("time", "y", "x"), array, _attrs(source, name)) for name, array in arrays.items()},
        coords=coords,
        attrs={"source": source.key, "sensor": source.sensor},
    )
    for variable in found.data_vars.values():
        variable.encoding["grid_mapping"] = spatial_ref
    return found


def _arrays(source: Source, grid: Grid, chunks: int) -> dict[str, da.Array]:
    """Return the lazy bands and mask of a source, all cut from the same tasks."""
    tiles = Tiles.regular(grid.shape, chunks)
    rows, cols = np.diff(tiles.row_edges).tolist(), np.diff(tiles.col_edges).tolist()
    token = digest({"source": source.identity, "grid": grid.identity, "chunks": chunks})
    job, read = f"source-{token}", f"read-{token}"
    reads = {(read, *divmod(i, len(cols))): tile for i, tile in enumerate(tiles)}
    common: dict[str, Any] = {
        job: {job: DataNode(job, (source, grid))},
        read: {key: Task(key, _read, TaskRef(job), tile) for key, tile in reads.items()},
    }

    def plane(name: str) -> da.Array:
        cut = f"{name}-{token}"
        layer: dict[Any, Any] = {(cut, 0, i, j): Task((cut, 0, i, j), getitem, TaskRef((read, i, j)), name) for _, i, j in reads}
        graph = HighLevelGraph({**common, cut: layer}, {job: set(), read: {job}, cut: {read}})
        times = len(source.observations)
        dtype = np.uint16 if name == "mask" else np.float32
        return da.Array(  # type: ignore[no-untyped-call]
            graph, cut, ((times,), tuple(rows), tuple(cols)), dtype=dtype, shape=(times, *grid.shape)
        )

    return {name: plane(name) for name in (*source.bands, "mask")}


def _read(job: tuple[Source, Grid], window: Window) -> dict[str, np.ndarray]:
    """Read a tile, all bands at once."""
    source, grid = job
    block = read_block(source, window, grid, source.bands)
    for failure in block.failures:
        log.warning(
            "%s of %s could not be read (%s): %s; its pixels are masked as read_failure.",
            failure.band,
            failure.item,
            failure.cause,
            failure.message,
        )
    return {**block.values, "mask": block.mask}


def _attrs(source: Source, name: str) -> dict[str, Any]:
    if name == "mask":
        return {
            "long_name": "why a pixel is not what it seems",
            "flag_masks": np.array(list(QC_FLAGS.values()), dtype=np.uint16),
            "flag_meanings": " ".join(QC_FLAGS),
        }
    unit = next((item.assets[name].unit for item in source.items if name in item.assets), "1")
    return {"units": _PHYSICAL.get(unit, unit), "long_name": f"{source.name} {name}"}
