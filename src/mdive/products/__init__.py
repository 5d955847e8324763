"""Products: what a run leaves behind. Rasters (COG, Zarr), polygons (GeoParquet), areas, STAC, the ledger; written whole or not at all.

The functions are loaded when they are first asked for: GDAL, geopandas and pystac cost nothing to those who only check a folder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdive.products.cog import write_cog
    from mdive.products.drawing import map_picture
    from mdive.products.files import check_writable, checksum, publish, sha256_file, staged, write_json_atomic
    from mdive.products.ledger import read_ledger, write_ledger
    from mdive.products.polygons import write_polygons
    from mdive.products.report import write_report
    from mdive.products.stac import write_stac
    from mdive.products.statistics import ClassArea, ClassAreas, EventProbability, Flagged, Survey, survey
    from mdive.products.verify import Problem, verify_products
    from mdive.products.zarr import require_zarr, write_zarr

__all__ = [
    "ClassArea",
    "ClassAreas",
    "EventProbability",
    "Flagged",
    "Problem",
    "Survey",
    "check_writable",
    "checksum",
    "map_picture",
    "publish",
    "read_ledger",
    "require_zarr",
    "sha256_file",
    "staged",
    "survey",
    "verify_products",
    "write_cog",
    "write_json_atomic",
    "write_ledger",
    "write_polygons",
    "write_report",
    "write_stac",
    "write_zarr",
]

_HOME = {
    "cog": ("write_cog",),
    "drawing": ("map_picture",),
    "files": ("check_writable", "checksum", "publish", "sha256_file", "staged", "write_json_atomic"),
    "ledger": ("read_ledger", "write_ledger"),
    "polygons": ("write_polygons",),
    "report": ("write_report",),
    "stac": ("write_stac",),
    "statistics": ("ClassArea", "ClassAreas", "EventProbability", "Flagged", "Survey", "survey"),
    "verify": ("Problem", "verify_products"),
    "zarr": ("require_zarr", "write_zarr"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
