"""Finds the data that travels with mdive: inside the package when installed from a wheel, at the top of the repository when editable."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mdive.errors import MdiveError

Resource = Literal["event_classes", "schemas"]

_PACKAGE = Path(__file__).resolve().parents[1]


def resource_folder(name: Resource) -> Path:
    """Return the folder of packaged event classes or JSON Schemas.

    Raises
    ------
    MdiveError
        When neither layout has it: the installation is damaged.
    """
    return find_folder(_PACKAGE, name)


def find_folder(package: Path, name: str) -> Path:
    """Return the folder ``name`` that belongs to the package folder ``package``.

    The wheel's copy comes first. A folder beside ``src`` counts only where a ``pyproject.toml`` stands next to it, so that a stranger's
    folder of the same name (say, beside a ``site-packages``) is never taken for mdive's own.
    """
    packaged = package / "_data" / name
    if packaged.is_dir():
        return packaged
    root = package.parent.parent
    checkout = root / name
    if package.parent.name == "src" and (root / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    raise MdiveError(f"mdive's own folder {name!r} is missing: neither {packaged} nor {checkout} is there.", "Reinstall mdive.")


def resource_files(name: Resource, pattern: str) -> list[Path]:
    """Return the packaged files that match, sorted by name."""
    return sorted(resource_folder(name).glob(pattern))


def package_files(folder: str, pattern: str) -> list[Path]:
    """Return the files inside the package itself that match, e.g. the provider documents, sorted by name."""
    return sorted((_PACKAGE / folder).glob(pattern))
