"""Cloud-optimised GeoTIFFs, written as a stream of blocks and published only after they have been read back.

Blocks are cut into tiles and packed as they come, overviews are made on the way (`pyramid`, `overviews`), and the file is put together
when the sizes of all tiles are known (`tiff`). That needs no more memory for a continent than for a village and gives the same bytes
every time: the file holds no date, no version, and its tiles in an order that the grid alone decides.

DEFLATE, because every TIFF reader of the last twenty years decodes it; ZSTD is faster but missing from many builds of libtiff.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import deflate
import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rio_cogeo.cogeo import cog_validate

from mdive.errors import RunFolderError
from mdive.model.plan import Grid
from mdive.model.product import RasterSpec
from mdive.pipeline.window import Window
from mdive.products.encoding import Encoding, encode, encoding_of
from mdive.products.files import staged, write_error, writing
from mdive.products.pyramid import Level, Pyramid
from mdive.products.raster import windows
from mdive.products.tiff import Image, header, metadata_xml

_BUFFER = 1 << 20
"""Bytes that go to the disk, or come from it, at once."""

_GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""What rasterio raises: its own errors, GDAL's as they are (which it exports nowhere else), and the system's."""


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
    with staged(path) as target, Pyramid(grid.shape, encoding, target.parent, path) as pyramid:
        for window in windows(grid):
            pyramid.add(window, encode(spec, read(window), window))
        image = Image(grid, encoding.dtype, encoding.nodata, encoding.predictor, _colours(spec), _metadata(spec, encoding, tags))
        head = header(image, [(level.shape, level.sizes) for level in pyramid.levels])
        with writing(path):
            _assemble(target, head, pyramid.levels)
            same = _holds(target, head, pyramid.levels)
        if not same:
            hint = "Check that the disk is not full and not failing, then resume the run."
            raise RunFolderError(f"{path} does not hold the pixels that were written to it.", hint)
        _check(target, path, grid, encoding)


def _assemble(target: Path, head: bytes, levels: list[Level]) -> None:
    with target.open("wb", buffering=_BUFFER) as file:
        file.write(head)
        for level in reversed(levels):
            file.writelines(level.records())
            level.close()
        file.flush()
        os.fsync(file.fileno())


def _holds(target: Path, head: bytes, levels: list[Level]) -> bool:
    """Return whether the file on the disk has the bytes that were in memory: a full or failing disk may lose some without a word."""
    with target.open("rb", buffering=_BUFFER) as file:
        _forget(file)
        if file.read(len(head)) != head:
            return False
        for level in reversed(levels):
            for size, total in zip(level.sizes.flat, level.sums.flat, strict=True):
                if deflate.crc32(file.read(int(size) + 8)) != total:
                    return False
        return not file.read(1)


def _forget(file: BinaryIO) -> None:
    """Make the system read a flushed file from the disk again, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _colours(spec: RasterSpec) -> tuple[tuple[int, tuple[int, int, int]], ...]:
    if spec.dtype != "uint8":
        return ()
    return tuple((entry.value, _rgb(entry.color)) for entry in spec.classes)


def _metadata(spec: RasterSpec, encoding: Encoding, tags: Mapping[str, str]) -> str:
    """Return the words: band name and unit, scale, the CF flag table (of file and band, as readers look in either)."""
    flags = flag_tags(spec)
    words = {"offset": "0", "scale": repr(encoding.scale)} if encoding.scaled else {}
    words |= {"unittype": spec.units, "description": spec.long_name}
    return metadata_xml({**tags, **flags, "product": spec.name}, flags, {k: v for k, v in words.items() if v})


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


def _check(target: Path, path: Path, grid: Grid, encoding: Encoding) -> None:
    """Ask others what the file is: GDAL for its grid and numbers, rio-cogeo for its layout."""
    fault = "Report this: it is a fault of mdive or of GDAL."
    nodata = None if encoding.nodata is None else float(encoding.nodata)
    asked = (grid.shape, encoding.dtype, str(nodata), grid.transform, CRS.from_user_input(grid.crs))
    try:
        # PAM would put an .aux.xml beside the file.
        with rasterio.Env(GDAL_PAM_ENABLED="NO"):
            with rasterio.open(target) as dataset:
                found = (dataset.shape, dataset.dtypes[0], str(dataset.nodata), tuple(dataset.transform)[:6], dataset.crs)
            if found != asked:
                raise RunFolderError(f"{path} was to be {asked}, but reads back as {found}.", fault)
            _, errors, warnings = cog_validate(target, strict=True, quiet=True)
    except _GDAL_ERRORS as error:
        raise write_error(path, error) from error
    # rasterio measures an overview by its columns alone, and one column cannot be halved: such an overview looks undecimated.
    column = grid.shape[1] == 1
    problems = [p for p in (*errors, *warnings) if not (column and p.startswith("Invalid Decimation 1 "))]
    if problems:
        raise RunFolderError(f"{path} is no valid COG: {'; '.join(problems)}.", fault)
