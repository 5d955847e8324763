"""Files that are there entirely or not at all: staging, fsync, rename, checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdive.errors import RunFolderError
from mdive.model.address import redact

_BLOCK = 1 << 20
"""Bytes per read when a file is hashed: large enough for a sequential disk, small beside any budget."""

_FULL = 256 << 10
"""Bytes: a disk with less than this is full for every file of a result."""

_HINTS = {
    errno.ENOSPC: "Free some space, or choose another folder with --out.",
    errno.EDQUOT: "Your disk quota is used up: free some space, or choose another folder with --out.",
    errno.EFBIG: "The file is larger than the file system or the process limit (ulimit -f) allows; choose another folder with --out.",
    errno.EROFS: "The file system is read-only: choose another folder with --out.",
    errno.EACCES: "Ask for write permission, or choose another folder with --out.",
    errno.EPERM: "Ask for write permission, or choose another folder with --out.",
    errno.EXDEV: "Staging and result must lie on one file system, or the rename is no single step.",
}
_OTHER = "Check the disk and the mount, then resume the run."


def write_error(path: Path, cause: BaseException) -> RunFolderError:
    """Return the two-line error for a file that could not be written."""
    chain = [cause]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None and deeper not in chain:
        chain.append(deeper)
    code = next((error.errno for error in chain if isinstance(error, OSError) and error.errno), None)
    if code is None and _is_full(path.parent):
        code = errno.ENOSPC  # GDAL and Arrow keep the reason to themselves
    text = os.strerror(code) if code else str(chain[-1]).rstrip(".")
    return RunFolderError(f"{path} could not be written: {redact(text)}.", _HINTS.get(code or 0, _OTHER))


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FULL
    except OSError:
        return False


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about ``path`` into two-line errors."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a name to write to; when the block ends well the file is flushed to disk and renamed to ``path``.

    The name lies in a private folder beside ``path`` (a rename within one file system is a single step), which is removed in
    any case, together with whatever a library left in it. ``path`` holds its old content, or nothing, until the rename.

    Raises
    ------
    RunFolderError
        The folder cannot be written.
    """
    with writing(path):
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        target = folder / path.name
        yield target
        publish(target, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(staging_file: Path, final: Path) -> None:
    """Flush a finished file, or a folder of files, to disk and give it its final name; after a power cut the name holds all of it or none.

    A folder that has the name already, left by a run that was killed, is removed first.

    Raises
    ------
    RunFolderError
        The disk refuses: no space, read-only, or two file systems.
    """
    with writing(final):
        if staging_file.is_dir():
            for folder, _, names in os.walk(staging_file, topdown=False):
                for name in names:
                    sync(Path(folder, name))
                sync(Path(folder))
            if final.is_dir():
                shutil.rmtree(final)
        else:
            sync(staging_file)
        staging_file.replace(final)
        sync(final.parent)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> tuple[str, int]:
    """Return (sha256 in hex, size in bytes) of a file, read once in blocks."""
    state = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
            size += len(block)
    return state.hexdigest(), size


def sha256_tree(folder: Path) -> tuple[str, int]:
    """Return (sha256 in hex, size in bytes) of a folder of files: the sha256 of the list that ``sha256sum`` prints of them, in order of paths.

    Names that begin with a dot are left out. What is no file (a link, a pipe) is listed without a checksum, and never opened.
    """
    paths = []
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name).relative_to(folder).as_posix() for name in (*files, *links) if not name.startswith(".")]
    state = hashlib.sha256()
    total = 0
    for path in sorted(paths, key=os.fsencode):
        file = folder / path
        sha, size = ("no file", 0) if file.is_symlink() or not file.is_file() else sha256_file(file)
        state.update(f"{sha}  {path}\n".encode())
        total += size
    return state.hexdigest(), total


def checksum(path: Path) -> tuple[str, int]:
    """Return (sha256 in hex, size in bytes) of a product, whether it is a file or a folder of files."""
    return sha256_tree(path) if path.is_dir() else sha256_file(path)


def write_json_atomic(path: Path, value: Any) -> None:
    """Write a document as JSON that people and programs read: sorted keys, two spaces, no NaN; atomically.

    Raises
    ------
    RunFolderError
        The folder cannot be written.
    ValueError
        The value holds NaN or infinity, which JSON cannot say.
    """
    text = json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with staged(path) as target, writing(path):
        target.write_text(text, encoding="utf-8")


def check_writable(folder: Path, bytes_needed: int) -> None:
    """Refuse a folder that cannot take a result, before anything was searched, read or written.

    Parameters
    ----------
    folder
        Where the result will be; it may not exist yet, its parent must.
    bytes_needed
        What the run will write at most, scratch included.

    Raises
    ------
    RunFolderError
        The parent is missing, the path is a file, the folder cannot be written, or the disk is too full.
    """
    home = folder if folder.exists() else folder.absolute().parent
    if not home.exists():
        raise RunFolderError(f"The folder {home} does not exist.", "Create it, or choose another folder with --out.")
    if not home.is_dir():
        raise RunFolderError(f"{home} is a file, not a folder.", "Choose another folder with --out.")
    try:
        # A real file: permission bits tell root nothing about a read-only mount, and nobody about a full table of inodes.
        with tempfile.TemporaryFile(dir=home, prefix=".mdive-probe."):
            pass
        free = shutil.disk_usage(home).free
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RunFolderError(f"The folder {home} cannot be written: {reason}.", _HINTS.get(error.errno or 0, _OTHER)) from error
    if free < bytes_needed:
        message = f"The run may write {_mib(bytes_needed)} but the disk of {home} has {_mib(free)} free."
        raise RunFolderError(message, "Free some space, choose another folder with --out, or ask for fewer products.")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
