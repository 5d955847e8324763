"""Whether a run folder still holds what its manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mdive.products.files import sha256_file

Kind = Literal["manifest", "missing", "size", "sha256", "unreadable"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one product."""

    name: str
    path: str
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def verify_products(run_folder: Path, manifest: Mapping[str, Any]) -> list[Problem]:
    """Compare the files of a run with its manifest, byte for byte, and open its rasters.

    Parameters
    ----------
    run_folder
        The folder.
    manifest
        Its manifest, with ``products: [{name, path, media_type, sha256, size}]``.

    Returns
    -------
    What is wrong, in the order of the manifest; nothing where all is well.
    """
    return [problem for entry in manifest.get("products", ()) if (problem := _check(run_folder, entry)) is not None]


def _check(run_folder: Path, entry: Mapping[str, Any]) -> Problem | None:
    try:
        name, path, size, sha256 = str(entry["name"]), str(entry["path"]), int(entry["size"]), str(entry["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        return Problem(str(entry), "manifest.json", "manifest", f"an entry lacks name, path, size or sha256 ({error!r})")
    relative = PurePosixPath(path)
    # A manifest may come from anywhere: it must not make this look at, or vouch for, files outside the folder.
    if relative.is_absolute() or ".." in relative.parts or not (run_folder / relative).resolve().is_relative_to(run_folder.resolve()):
        return Problem(name, path, "manifest", "leads out of the run folder")
    file = run_folder / relative
    if not file.is_file():
        return Problem(name, path, "missing", "is not there")
    try:
        found_size = file.stat().st_size
        if found_size != size:
            return Problem(name, path, "size", f"has {found_size} bytes, the manifest says {size}")
        found, _ = sha256_file(file)
    except OSError as error:
        return Problem(name, path, "unreadable", f"cannot be read: {error}")
    if found != sha256:
        return Problem(name, path, "sha256", f"was changed: its sha256 is {found}, the manifest says {sha256}")
    reason = _unreadable(file) if file.suffix == ".tif" else ""
    return Problem(name, path, "unreadable", reason) if reason else None


def _unreadable(file: Path) -> str:
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rio_cogeo.cogeo import cog_validate

    try:
        _, errors, _ = cog_validate(file, quiet=True)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        return f"is no raster that GDAL can open: {error}"
    errors = [e for e in errors if not e.startswith("Invalid Decimation")]  # see mdive.products.cog
    return f"is no valid COG: {'; '.join(errors)}" if errors else ""
