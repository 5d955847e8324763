"""The cube room: planned items and a grid become pixels, exactly and honestly.

`make_grid` draws the grid, `TileIndex` knows which items a window needs, `read_block` reads a window, and `open_tree` is the same
reading as a lazy xarray tree. Nothing here searches, and nothing here knows a hazard.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdive.cube.block import Block, Reads, read_block
    from mdive.cube.failures import ReadFailure
    from mdive.cube.grid import make_grid, to_geobox
    from mdive.cube.index import Estimate, TileIndex
    from mdive.cube.polygon import area_mask, holds_a_centre, uniform
    from mdive.cube.tree import open_tree

_HOMES = {
    "Block": "block",
    "Estimate": "index",
    "ReadFailure": "failures",
    "Reads": "block",
    "TileIndex": "index",
    "area_mask": "polygon",
    "holds_a_centre": "polygon",
    "uniform": "polygon",
    "make_grid": "grid",
    "open_tree": "tree",
    "read_block": "block",
    "to_geobox": "grid",
}

__all__ = [
    "Block",
    "Estimate",
    "ReadFailure",
    "Reads",
    "TileIndex",
    "area_mask",
    "holds_a_centre",
    "make_grid",
    "open_tree",
    "read_block",
    "to_geobox",
    "uniform",
]


def __getattr__(name: str) -> Any:
    # Planning needs no pixels: rasterio, numba and odc-stac (a second of imports) come with the first name that needs them.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
