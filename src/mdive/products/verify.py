"""Whether a run folder still holds what its manifest says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mdive.products.files import checksum

Kind = Literal["manifest", "missing", "size", "sha256", "unreadable", "unlisted"]

MANIFEST = "manifest.json"


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
    """Compare the files of a run with its manifest, byte for byte, open its rasters, and look for files that no manifest lists.

    Names that begin with a dot (the lock, what a killed run left) and the manifest itself are no product's business.

    Parameters
    ----------
    run_folder
        The folder.
    manifest
        Its manifest, with ``products: [{name, path, media_type, sha256, size}]``.

    Returns
    -------
    What is wrong, in the order of the manifest, strangers last; nothing where all is well.
    """
    entries = manifest.get("products", ())
    wrong = [problem for entry in entries if (problem := _check(run_folder, entry)) is not None]
    listed = {str(PurePosixPath(str(entry["path"]))) for entry in entries if isinstance(entry, Mapping) and "path" in entry}
    return wrong + [
        Problem(path, path, "unlisted", f"is not of this run: {MANIFEST} does not list it")
        for path in _files(run_folder)
        if path not in listed and not any(str(parent) in listed for parent in PurePosixPath(path).parents)
    ]


def _files(run_folder: Path) -> Iterator[str]:
    """Yield the paths of all files in a run folder that a manifest should list, sorted; links count as files and are not followed."""
    found = []
    for folder, folders, files in os.walk(run_folder):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in links]
        found += [(here / name).relative_to(run_folder).as_posix() for name in (*files, *links) if not name.startswith(".")]
    yield from sorted(path for path in found if path != MANIFEST)


def _check(run_folder: Path, entry: Mapping[str, Any]) -> Problem | None:
    try:
        name, path, size, sha256 = str(entry["name"]), str(entry["path"]), int(entry["size"]), str(entry["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        return Problem(str(entry), MANIFEST, "manifest", f"an entry lacks name, path, size or sha256 ({error!r})")
    relative = PurePosixPath(path)
    # A manifest may come from anywhere: it must not make this look at, or vouch for, files outside the folder.
    if relative.is_absolute() or ".." in relative.parts or not (run_folder / relative).resolve().is_relative_to(run_folder.resolve()):
        return Problem(name, path, "manifest", "leads out of the run folder")
    file = run_folder / relative
    if not (file.is_file() or file.is_dir()):
        return Problem(name, path, "missing", "is not there")
    try:
        found_size = file.stat().st_size
        if file.is_file() and found_size != size:
            return Problem(name, path, "size", f"has {found_size} bytes, the manifest says {size}")
        found, found_size = checksum(file)
        if found_size != size:
            return Problem(name, path, "size", f"has {found_size} bytes in its files, the manifest says {size}")
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
