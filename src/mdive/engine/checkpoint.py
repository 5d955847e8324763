"""Tile checkpoints: one file per tile and pass, complete or absent, and self-checking.

A file is ``magic, length of the header, JSON header, raw arrays``. It is written beside its final name and renamed, so a reader never sees half of one; the
sha256 in the header finds what a crash of the machine (not only of the process) may have left.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mdive.errors import RunFolderError
from mdive.pipeline import Window

_MAGIC = b"MDIVE1\n\0"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one array lies inside a checkpoint."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The header of a checkpoint file: what it holds, not the arrays."""

    path: Path
    entries: Mapping[str, Entry]
    facts: Mapping[str, Any]
    sha256: str
    start: int

    def array(self, name: str) -> np.ndarray:
        """Return one array, mapped from the file (copy what you keep)."""
        entry = self.entries[name]
        if entry.nbytes == 0:
            return np.empty(entry.shape, dtype=entry.dtype)
        # A memmap has at least one dimension, a number that was stored has none.
        mapped = np.memmap(self.path, dtype=entry.dtype, mode="r", offset=self.start + entry.offset, shape=entry.shape or (1,))
        return mapped.reshape(entry.shape)

    def value(self, name: str) -> Any:
        """Return a part or state that ``pack`` stored, copied into memory."""
        return unpack(self.facts["values"][name], lambda key: np.array(self.array(key)))


def write_checkpoint(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path
        Final name; an unfinished file next to it is never read.
    arrays
        By name, C-contiguous.
    facts
        JSON values: identity, ledger rows, counts.

    Raises
    ------
    RunFolderError
        If the disk is full or cannot be written.
    """
    entries: dict[str, Any] = {}
    offset = 0
    sha = hashlib.sha256()
    blobs = []
    for name, array in sorted(arrays.items()):
        data = np.asarray(array, order="C")  # ascontiguousarray would give a number a dimension
        entries[name] = [data.dtype.str, list(data.shape), offset, data.nbytes]
        offset += -(-data.nbytes // 64) * 64
        blobs.append(data)
        sha.update(data.reshape(-1).view("uint8").data if data.nbytes else b"")
    body = json.dumps({"entries": entries, "facts": facts}, sort_keys=True, separators=(",", ":")).encode()
    sha.update(body)
    header = sha.hexdigest().encode() + body
    header += b" " * (-(len(_MAGIC) + 8 + len(header)) % 64)
    staging = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with staging.open("wb") as file:
            file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
            for data in blobs:
                file.write(data.data if data.nbytes else b"")
                file.write(b"\0" * (-data.nbytes % 64))
        staging.replace(path)
    except OSError as error:
        staging.unlink(missing_ok=True)
        raise RunFolderError(
            f"a checkpoint could not be written to {path.parent}: {error.strerror}.", "Free space or mend access, then `mdive resume`."
        ) from None


def open_checkpoint(path: Path) -> Checkpoint:
    """Read the header of a checkpoint.

    Raises
    ------
    RunFolderError
        If it is not a checkpoint of this version.
    """
    try:
        with path.open("rb") as file:
            magic, size = file.read(len(_MAGIC)), file.read(8)
            length = int.from_bytes(size, "little")
            if magic != _MAGIC or length > path.stat().st_size:
                raise ValueError(magic)
            header = file.read(length)
        document = json.loads(header[64:])
        entries = {n: Entry(d, tuple(s), o, b) for n, (d, s, o, b) in document["entries"].items()}
        return Checkpoint(path, entries, document["facts"], header[:64].decode(), len(_MAGIC) + 8 + length)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise RunFolderError(
            f"{path.name} is not a checkpoint of this version of mdive ({error}).", "It is set aside and made again."
        ) from None


def check_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """Return a checkpoint if it is whole and belongs to ``identity``; set a bad one aside and return None."""
    if not path.exists():
        return None
    try:
        checkpoint = open_checkpoint(path)
        sha = hashlib.sha256()
        for name in sorted(checkpoint.entries):
            array = np.asarray(checkpoint.array(name))
            sha.update(array.reshape(-1).view("uint8").data if array.nbytes else b"")
        with path.open("rb") as file:
            body = file.read(checkpoint.start)[len(_MAGIC) + 8 + 64 :].rstrip(b" ")
        sha.update(body)
        good = sha.hexdigest() == checkpoint.sha256 and checkpoint.facts.get("identity") == identity
    except (RunFolderError, ValueError, OSError):
        good = False
    if good:
        return checkpoint
    aside = path.parent / "bad"
    aside.mkdir(exist_ok=True)
    path.replace(aside / path.name)
    return None


def pack(name: str, value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Put the arrays of a part or state (arrays, numbers, words, None, and dicts, lists and tuples of them) into ``arrays``; return the JSON that ``unpack`` needs."""
    if value is None or isinstance(value, bool | int | float | str):
        return {"v": value}
    if isinstance(value, Mapping):
        return {"d": {str(k): pack(f"{name}/{k}", v, arrays) for k, v in value.items()}}
    if isinstance(value, list | tuple):
        return {"t" if isinstance(value, tuple) else "l": [pack(f"{name}/{i}", v, arrays) for i, v in enumerate(value)]}
    arrays[name] = np.asarray(value, order="C")
    return {"a": name}


def unpack(packed: Mapping[str, Any], read: Callable[[str], np.ndarray]) -> Any:
    """Invert ``pack``."""
    ((kind, content),) = packed.items()
    if kind == "a":
        return read(content)
    if kind == "d":
        return {k: unpack(v, read) for k, v in content.items()}
    if kind in "lt":
        values = [unpack(v, read) for v in content]
        return tuple(values) if kind == "t" else values
    return content


class Scratch:
    """All checkpoints of a run: where each tile's rasters are, and windows across tiles."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity
        self._open = lru_cache(maxsize=256)(open_checkpoint)

    def tile_path(self, index: int, tile: int) -> Path:
        """Return the file of one tile of one pass."""
        return self.folder / f"p{index}-t{tile:06d}.mdt"

    def state_path(self, index: int) -> Path:
        """Return the file of what one pass solved."""
        return self.folder / f"p{index}-states.mdt"

    def tile(self, index: int, tile: int) -> Checkpoint:
        """Return a finished tile of a pass."""
        return self._open(self.tile_path(index, tile))

    def states(self, index: int) -> Checkpoint:
        """Return what a finished pass solved."""
        return self._open(self.state_path(index))

    def forget(self) -> None:
        """Drop cached headers (after files were replaced)."""
        self._open.cache_clear()

    def pieces(self, index: int, name: str, places: Mapping[int, Window]) -> list[tuple[Window, np.ndarray]]:
        """Return ``(window, mapped array)`` of one raster on some tiles."""
        return [(window, self.tile(index, tile).array(name)) for tile, window in places.items()]
