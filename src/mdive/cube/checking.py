"""Whole files against what their catalogue says of them: their size and their checksum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mdive.cube.failures import Unreadable, diagnosed
from mdive.cube.files import driver_for, is_remote
from mdive.cube.native import native_files
from mdive.model.checksum import hasher
from mdive.model.plan import AssetRef, Fault

PIECE: Final = 8 * 2**20
"""Bytes of a file that are held at once."""


def fault_of(asset: AssetRef, origin: str | None) -> Fault | None:
    """Return what is wrong with a file; None where it is as its catalogue says.

    Parameters
    ----------
    asset
        With a checksum, a size, or both. A file that has only a size is not fetched as a whole.
    origin
        Where its item came from.
    """
    try:
        driver_for(asset.href, origin)
        _check(asset)
    except Unreadable as error:
        return Fault(cause=error.cause, message=error.message, attempts=error.attempts)
    except OSError as error:
        found = diagnosed(error)
        return Fault(cause=found.cause, message=found.message)
    return None


def _check(asset: AssetRef) -> None:
    pieces = _remote_pieces(asset.href) if is_remote(asset.href) else _local_pieces(asset.href)
    size, first = next(pieces)
    if asset.size is not None and size != asset.size:
        raise Unreadable("checksum", f"The file has {size:,} bytes; its catalogue says {asset.size:,}.")
    if asset.checksum is None:
        return
    found, digits = hasher(asset.checksum)
    found.update(first)
    for _, piece in pieces:
        found.update(piece)
    if found.hexdigest() != digits:
        raise Unreadable("checksum", f"The file has the {found.name} checksum {found.hexdigest()[:12]}..., not that of its catalogue.")


def _local_pieces(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield the size of a file and its bytes, a piece at a time; one empty piece of an empty file."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        yield size, file.read(PIECE)
        while piece := file.read(PIECE):
            yield size, piece


def _remote_pieces(href: str) -> Iterator[tuple[int, bytes]]:
    web = native_files().web
    first = web.get(href, 0, PIECE)
    yield first.size, first.data
    for start in range(len(first.data), first.size, PIECE):
        answer = web.get(href, start, min(start + PIECE, first.size))
        answer.must_be_of(first)
        yield first.size, answer.data
