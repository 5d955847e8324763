"""The same reading as a lazy tree: one node per source, one task per tile and source, nothing read while it is built or shown."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.highlevelgraph import HighLevelGraph
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
    rows, cols = np.diff(tiles.row_edges), np.diff(tiles.col_edges)
    token = digest({"source": source.identity, "grid": grid.identity, "chunks": chunks})
    read = f"read-{token}"
    tasks = {(read, *divmod(i, len(cols))): (_read, f"source-{token}", tile) for i, tile in enumerate(tiles)}
    layers: dict[str, Mapping[Any, Any]] = {f"source-{token}": {f"source-{token}": (_Job, source, grid)}, read: tasks}
    depends: dict[str, set[str]] = {f"source-{token}": set(), read: {f"source-{token}"}}
    for name in (*source.bands, "mask"):
        cut = f"{name}-{token}"
        layers[cut] = {(cut, 0, i, j): (getitem, (read, i, j), name) for i, j in np.ndindex(len(rows), len(cols))}
        depends[cut] = {read}
    shape = (len(source.observations), *grid.shape)
    sizes = ((shape[0],), tuple(map(int, rows)), tuple(map(int, cols)))
    return {
        name: da.Array(  # type: ignore[no-untyped-call]
            HighLevelGraph({k: layers[k] for k in (f"source-{token}", read, f"{name}-{token}")}, _only(depends, f"{name}-{token}", read)),
            f"{name}-{token}",
            sizes,
            dtype=np.uint16 if name == "mask" else np.float32,
            shape=shape,
        )
        for name in (*source.bands, "mask")
    }


class _Job:
    """A source on a grid: made ready once per process and shared by its tasks."""

    def __init__(self, source: Source, grid: Grid) -> None:
        self.source = source
        self.grid = grid


def _read(job: _Job, window: Window) -> dict[str, np.ndarray]:
    block = read_block(job.source, window, job.grid, job.source.bands)
    for failure in block.failures:
        log.warning(
            "%s of %s could not be read (%s): %s; its pixels are masked as read_failure.",
            failure.band,
            failure.item,
            failure.cause,
            failure.message,
        )
    return {**block.values, "mask": block.mask}


def _only(depends: dict[str, set[str]], *names: str) -> dict[str, set[str]]:
    kept = {*names, *(d for name in names for d in depends[name])}
    return {name: depends[name] for name in kept}


def _attrs(source: Source, name: str) -> dict[str, Any]:
    if name == "mask":
        return {
            "long_name": "why a pixel is not what it seems",
            "flag_masks": np.array(list(QC_FLAGS.values()), dtype=np.uint16),
            "flag_meanings": " ".join(QC_FLAGS),
        }
    unit = next((item.assets[name].unit for item in source.items if name in item.assets), "1")
    return {"units": _PHYSICAL.get(unit, unit), "long_name": f"{source.name} {name}"}
