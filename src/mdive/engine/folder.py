"""The run folder: who may write in it, what lies where, and when it is complete."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from mdive.errors import RunFolderError
from mdive.model.base import Document

LOCK = ".lock"
STAGING = ".staging"
MANIFEST = "manifest.json"

D = TypeVar("D", bound=Document)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process.

    The lock is the kernel's (``flock``): it goes with the process however that ends, so a killed run never has to be unlocked by hand.

    Raises
    ------
    RunFolderError
        If another process holds it, or the file system knows no locks.
    """
    path = folder / LOCK
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunFolderError(
                f"another run is at work in {folder} ({_holder(file.read())}).",
                "Wait for it, stop it, or choose another folder with --out.",
            ) from None
        except OSError as error:
            raise RunFolderError(
                f"{folder} cannot be locked: {os.strerror(error.errno or 0)}.",
                "Its file system knows no locks, so two runs could meet there: choose another folder with --out.",
            ) from error
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}))
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "its owner did not say who it is"


def is_complete(folder: Path) -> bool:
    """Whether a run ended here: no manifest, no result."""
    return (folder / MANIFEST).is_file()


def read_back(path: Path, model: type[D]) -> D:
    """Return a document that mdive wrote into a run folder.

    Raises
    ------
    RunFolderError
        If it is missing, damaged, or of a version that this one does not know.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        where = " ".join(lines[1:3]) if isinstance(error, ValidationError) else lines[0]
        raise RunFolderError(
            f"{path} is no {model.__name__.lower()} of this version of mdive: {where}.",
            "It was damaged, or written by another version: use that one, or run the event again.",
        ) from None
