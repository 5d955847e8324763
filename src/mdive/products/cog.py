"""Cloud-optimised GeoTIFFs, written as a stream of blocks and published only after they have been read back.

The image goes block by block into a plain tiled GeoTIFF, which GDAL's COG driver then copies with its overviews. That combination
needs no more memory for a continent than for a village (the peak is a few blocks) and gives the same bytes every time: the order of
the temporary file does not survive the copy, and neither driver writes a date.

DEFLATE, because every TIFF reader of the last twenty years decodes it; ZSTD is faster but missing from many builds of libtiff.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.shutil import copy as gdal_copy
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

from mdive.errors import RunFolderError
from mdive.model.plan import Grid
from mdive.model.product import RasterSpec
from mdive.pipeline.window import Tiles, Window
from mdive.products.encoding import Encoding, encode, encoding_of
from mdive.products.files import staged, write_error
from mdive.products.raster import BLOCK, WINDOW, raster_window, windows

_CACHE = 32 << 20
"""Bytes of GDAL's block cache, which otherwise grows to 5 % of the machine. rasterio passes the number on as bytes."""

_GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""What rasterio raises: its own errors, GDAL's as they are (which it exports nowhere else), and the system's."""

_ENV: Mapping[str, Any] = {
    "GDAL_CACHEMAX": _CACHE,
    "GDAL_NUM_THREADS": "1",  # threads write blocks in the order they finish
    "GDAL_PAM_ENABLED": "NO",  # no .aux.xml beside the file
}


def write_cog(
    path: Path,
    spec: RasterSpec,
    grid: Grid,
    read: Callable[[Window], np.ndarray[Any, Any]],
    *,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write one product as a COG on exactly the grid, in memory that does not depend on the area.

    Parameters
    ----------
    path
        The file; it appears when it is complete and has been read back, and not before.
    spec
        What the product is: its data type, nodata, classes or bits, scale.
    grid
        Where its pixels lie.
    read
        Gives the (rows, columns) block of a window, in ``spec.dtype`` and physical units; called once per window, left to right,
        top to bottom.
    tags
        Dataset tags to write beside the product's own.

    Raises
    ------
    KernelError
        A block breaks the specification (see :func:`mdive.products.encoding.encode`).
    RunFolderError
        The file cannot be written, or does not read back as what was written.
    """
    encoding = encoding_of(spec)
    with staged(path) as target, rasterio.Env(**_ENV):
        image = target.with_name("image.tif")
        sums = _write_image(image, path, spec, grid, encoding, read, tags)
        with _gdal_writes(path):
            gdal_copy(image, target, driver="COG", **_creation_options(encoding))
            image.unlink()
        _check(target, path, grid, encoding, sums)


def _creation_options(encoding: Encoding) -> dict[str, Any]:
    predictor = {1: "NO", 2: "STANDARD", 3: "FLOATING_POINT"}[encoding.predictor]
    return {
        "compress": "DEFLATE",
        # Codes shrink a hundredfold at any level; measurements hardly shrink more at 6 than at 1, for three times the work.
        "level": 6 if encoding.predictor == 1 else 1,
        "predictor": predictor,
        "overview_predictor": predictor,
        "overview_compress": "DEFLATE",
        "overviews": "IGNORE_EXISTING",
        "overview_resampling": encoding.overview.upper(),
        "resampling": encoding.overview.upper(),
        "blocksize": BLOCK,
        "bigtiff": "IF_SAFER",
        "num_threads": "1",
    }


def _write_image(
    image: Path,
    path: Path,
    spec: RasterSpec,
    grid: Grid,
    encoding: Encoding,
    read: Callable[[Window], np.ndarray[Any, Any]],
    tags: Mapping[str, str],
) -> list[int]:
    """Write the temporary image; return one checksum per window."""
    rows, cols = grid.shape
    profile = {
        "driver": "GTiff",
        "height": rows,
        "width": cols,
        "count": 1,
        "dtype": encoding.dtype,
        "nodata": encoding.nodata,
        "crs": CRS.from_user_input(grid.crs),
        "transform": Affine(*grid.transform),
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "DEFLATE",
        "zlevel": 1,
        "bigtiff": "IF_SAFER",
    }
    sums = []
    with _gdal_writes(path):
        dataset = rasterio.open(image, "w", **profile)
    try:
        with _gdal_writes(path):
            _describe(dataset, spec, encoding, tags)
        for window in windows(grid):
            block = np.ascontiguousarray(encode(spec, read(window), window))
            sums.append(zlib.crc32(block.data))
            with _gdal_writes(path):
                dataset.write(block, 1, window=raster_window(window))
    finally:
        with _gdal_writes(path):
            dataset.close()
    return sums


def _describe(dataset: Any, spec: RasterSpec, encoding: Encoding, tags: Mapping[str, str]) -> None:
    """Set the words: band name and unit, scale, the CF flag table (dataset and band, as readers look in either), colours."""
    words = flag_tags(spec)
    dataset.set_band_description(1, spec.long_name)
    dataset.set_band_unit(1, spec.units)
    if encoding.scaled:
        dataset.scales, dataset.offsets = (encoding.scale,), (0.0,)
    dataset.update_tags(**dict(sorted({**tags, **words, "product": spec.name}.items())))
    if words:
        dataset.update_tags(1, **words)
    if spec.classes and spec.dtype == "uint8":
        dataset.write_colormap(1, {entry.value: _rgb(entry.color) for entry in spec.classes})


def flag_tags(spec: RasterSpec) -> dict[str, str]:
    """Return the CF flag attributes of a product as tags: ``flag_values`` or ``flag_masks``, and ``flag_meanings``."""
    if spec.classes:
        entries: tuple[Any, ...] = spec.classes
        tags = {"flag_values": ",".join(str(entry.value) for entry in entries)}
    elif spec.flags:
        entries = spec.flags
        tags = {"flag_masks": ",".join(str(entry.mask) for entry in entries)}
    else:
        return {}
    return {**tags, "flag_meanings": " ".join(entry.name for entry in entries)}


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _check(target: Path, path: Path, grid: Grid, encoding: Encoding, sums: list[int]) -> None:
    """Read the finished file back, every pixel of it: a full disk or a broken library may fail without a word."""
    fault = "Report this: it is a fault of mdive or of GDAL."
    nodata = None if encoding.nodata is None else float(encoding.nodata)
    asked = (grid.shape, encoding.dtype, str(nodata), grid.transform, CRS.from_user_input(grid.crs))
    try:
        with rasterio.open(target) as dataset:
            found = (dataset.shape, dataset.dtypes[0], str(dataset.nodata), tuple(dataset.transform)[:6], dataset.crs)
            if found != asked:
                raise RunFolderError(f"{path} was to be {asked}, but reads back as {found}.", fault)
            same = all(
                zlib.crc32(dataset.read(1, window=raster_window(window)).data) == total
                for window, total in zip(windows(grid), sums, strict=True)
            )
            levels = dataset.overviews(1)
        for level in range(len(levels)):
            _read_overview(target, level)
        _, errors, warnings = cog_validate(target, strict=True, quiet=True)
    except _GDAL_ERRORS as error:
        raise write_error(path, error) from error
    if not same:
        hint = "Check that the disk is not full and not failing, then resume the run."
        raise RunFolderError(f"{path} does not hold the pixels that were written to it.", hint)
    # rasterio measures an overview by its columns alone: those of a strip a few columns wide all look undecimated.
    strip = grid.shape[1] < 2 ** len(levels)
    problems = [p for p in (*errors, *warnings) if not (strip and p.startswith("Invalid Decimation"))]
    if problems:
        raise RunFolderError(f"{path} is no valid COG: {'; '.join(problems)}.", fault)


def _read_overview(target: Path, level: int) -> None:
    with rasterio.open(target, overview_level=level) as overview:
        for window in Tiles.regular(overview.shape, WINDOW):
            overview.read(1, window=raster_window(window))


@contextmanager
def _gdal_writes(path: Path) -> Iterator[None]:
    """Turn the errors of GDAL and of the disk into two-line errors; what the caller's ``read`` raises is not caught here."""
    try:
        yield
    except _GDAL_ERRORS as error:
        raise write_error(path, error) from error
