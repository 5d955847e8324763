"""All raster layers of a run as one Zarr v3 store, for those who compute on: lazy, in parallel, without a GeoTIFF reader.

A layer is stored in shards of 2048 x 2048 pixels, each one file, each of 4 x 4 chunks that are fetched and unpacked one by one. The shards
hang on the first pixel of the grid and not on the tiles of the run, so that every tiling gives the same bytes; where tiles have 2048 pixels
and no anchor, one tile is one shard. A shard at the edge of the grid is filled up, and chunks of nothing but fill are not stored
(docs/adr/0007-zarr-shards.md).

The numbers are those of the GeoTIFFs (:mod:`mdive.products.encoding`), and CF attributes say what they mean. The CRS is written twice: as
CF's grid mapping, which xarray, rioxarray and odc-geo read, and as the Zarr conventions ``proj`` and ``spatial``.
"""

from __future__ import annotations

import math
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pyproj import CRS

from mdive.errors import RunFolderError, UsageError
from mdive.model.plan import Grid
from mdive.model.product import RasterSpec
from mdive.pipeline.window import Tiles, Window
from mdive.products.encoding import encode, encoding_of
from mdive.products.files import staged, writing

MEDIA_TYPE = "application/vnd.zarr; version=3"
"""As STAC's best practices for Zarr spell it; it is not registered."""

OLDEST = (3, 1, 2)
"""Older versions of zarr-python list the layers in the order in which the file system does: other bytes on another disk."""

SHARD = 2048
"""Edge of a shard in pixels: a file of some MB, and all that a writer holds."""

CHUNK = 512
"""Edge of a chunk in pixels: what is unpacked at once, the same as a block of the GeoTIFFs."""

_LEVEL = 3
"""Of Zstandard: its own default. Blosc would shrink measurements a little more, but its threads write blocks in the order they finish."""

_GRID_MAPPING = "spatial_ref"

_CONVENTIONS = (
    {
        "name": "proj",
        "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "description": "Coordinate reference system information for geospatial data",
        "schema_url": "https://raw.githubusercontent.com/zarr-conventions/geo-proj/refs/tags/v1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/geo-proj/blob/v1/README.md",
    },
    {
        "name": "spatial",
        "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
        "description": "Spatial coordinate information",
        "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
    },
)


def require_zarr() -> None:
    """Refuse to promise a Zarr store where it could not be written.

    Raises
    ------
    UsageError
        zarr-python is not installed, or is too old.
    """
    try:
        found = version("zarr")
    except PackageNotFoundError:
        found = ""
    if tuple(int(number) for number in re.findall(r"\d+", found)[:3]) < OLDEST:
        there = f"zarr {found} is installed" if found else "it is not installed"
        raise UsageError(
            f"The product 'zarr' needs zarr {'.'.join(map(str, OLDEST))} or newer; {there}.",
            "Install it with `pip install 'mdive[zarr]'`, or leave the product out.",
        )


def write_zarr(
    path: Path,
    specs: Sequence[RasterSpec],
    grid: Grid,
    read: Callable[[str, Window], np.ndarray[Any, Any]],
    *,
    attributes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write layers into one store, shard by shard, in memory that does not depend on the area.

    Parameters
    ----------
    path
        The folder of the store; it appears when it is complete and has been read back, and not before.
    specs
        The layers, in the order in which they will be listed.
    grid
        Where their pixels lie.
    read
        Gives the (rows, columns) block of a layer in a window, in ``spec.dtype`` and physical units; called once per layer and shard, left
        to right, top to bottom.
    attributes
        Attributes of the whole store, beside its own.

    Raises
    ------
    KernelError
        A block breaks the specification (see :func:`mdive.products.encoding.encode`).
    RunFolderError
        The store cannot be written, or does not read back as what was written.
    UsageError
        zarr-python is not installed, or is too old.
    """
    require_zarr()
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.storage import LocalStore

    packed: dict[str, Any] = {"compressors": ZstdCodec(level=_LEVEL, checksum=True), "filters": None}
    with staged(path) as target:
        store = LocalStore(target)
        with writing(path):
            root = zarr.create_group(store, zarr_format=3, attributes={**attributes, **_georeference(grid)})
            for name, values, words in _coordinates(grid):
                dims = (name,) if values.ndim else ()
                array = root.create_array(name, shape=values.shape, dtype=values.dtype, dimension_names=dims, attributes=words, **packed)
                array[...] = values
        sums = {}
        for spec in specs:
            encoding = encoding_of(spec)
            with writing(path):
                array = root.create_array(
                    spec.name,
                    shape=grid.shape,
                    dtype=encoding.dtype,
                    chunks=(CHUNK, CHUNK),
                    shards=(SHARD, SHARD),
                    fill_value=0 if encoding.nodata is None else encoding.nodata,
                    dimension_names=("y", "x"),
                    attributes=_words(spec),
                    config={"write_empty_chunks": False, "order": "C"},
                    **packed,
                )
            for window in Tiles.regular(grid.shape, SHARD):
                block = np.ascontiguousarray(encode(spec, read(spec.name, window), window))
                sums[spec.name, window] = zlib.crc32(block.data)
                with writing(path):
                    array[_slices(window)] = block
        with writing(path), warnings.catch_warnings():
            # One file tells everything about the store. The standard will say so; zarr 3, xarray and GDAL do it already.
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            zarr.consolidate_metadata(store)
        _check(target, path, sums)


def _slices(window: Window) -> tuple[slice, slice]:
    return slice(window.row, window.row_end), slice(window.col, window.col_end)


def _words(spec: RasterSpec) -> dict[str, Any]:
    """Return the CF attributes of a layer."""
    encoding = encoding_of(spec)
    words: dict[str, Any] = {"long_name": spec.long_name, "units": spec.units, "grid_mapping": _GRID_MAPPING}
    if spec.classes:
        words["flag_values"] = [entry.value for entry in spec.classes]
        words["flag_meanings"] = " ".join(entry.name for entry in spec.classes)
    if spec.flags:
        words["flag_masks"] = [entry.mask for entry in spec.flags]
        words["flag_meanings"] = " ".join(entry.name for entry in spec.flags)
    if encoding.scaled:
        words |= {"scale_factor": encoding.scale, "add_offset": 0.0}
    if encoding.nodata is not None and not math.isnan(encoding.nodata):
        words["_FillValue"] = int(encoding.nodata) if encoding.dtype != "float32" else encoding.nodata
    return words


def _coordinates(grid: Grid) -> list[tuple[str, np.ndarray[Any, Any], dict[str, Any]]]:
    """Return name, values and attributes of the coordinates: centres of pixels, and CF's grid mapping."""
    crs = CRS.from_user_input(grid.crs)
    rows, cols = grid.shape
    axes: dict[str, dict[str, Any]] = {words["axis"].lower(): words for words in crs.cs_to_cf()}
    mapping = {**crs.to_cf(), _GRID_MAPPING: crs.to_wkt(), "GeoTransform": " ".join(f"{n!r}" for n in _gdal_transform(grid))}
    return [
        ("y", grid.y0 - (np.arange(rows) + 0.5) * grid.resolution, axes.get("y", {})),
        ("x", grid.x0 + (np.arange(cols) + 0.5) * grid.resolution, axes.get("x", {})),
        (_GRID_MAPPING, np.array(0, np.int64), mapping),
    ]


def _gdal_transform(grid: Grid) -> list[float]:
    a, b, c, d, e, f = (float(n) for n in grid.transform)
    return [c, a, b, f, d, e]


def _georeference(grid: Grid) -> dict[str, Any]:
    crs = CRS.from_user_input(grid.crs)
    authority = crs.to_authority(min_confidence=100)
    rows, cols = grid.shape
    return {
        "Conventions": "CF-1.11",
        "coordinates": _GRID_MAPPING,
        "zarr_conventions": [dict(each) for each in _CONVENTIONS],
        **({"proj:code": ":".join(authority)} if authority else {"proj:wkt2": crs.to_wkt()}),
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": [rows, cols],
        "spatial:transform": [float(n) for n in grid.transform],
        "spatial:bbox": [grid.x0, grid.y0 - rows * grid.resolution, grid.x0 + cols * grid.resolution, grid.y0],
    }


def _check(target: Path, path: Path, sums: Mapping[tuple[str, Window], int]) -> None:
    """Read the finished store back, every pixel of it, through the metadata that readers will use."""
    import zarr

    try:
        root: Any = zarr.open_group(target, mode="r", use_consolidated=True)
        same = all(zlib.crc32(np.ascontiguousarray(root[name][_slices(window)]).data) == total for (name, window), total in sums.items())
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RunFolderError(
            f"{path} cannot be read back: {error}.", "Check that the disk is not full and not failing, then resume the run."
        ) from error
    if not same:
        raise RunFolderError(
            f"{path} does not hold the pixels that were written to it.",
            "Check that the disk is not full and not failing, then resume the run.",
        )
