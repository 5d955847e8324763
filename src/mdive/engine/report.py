"""A finished run, opened: documents at once, rasters and polygons when they are asked for."""

from __future__ import annotations

import html
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdive.engine.derive import FOLDER, run_folder
from mdive.engine.folder import MANIFEST, read_back
from mdive.engine.given import take_path
from mdive.engine.pipelines import spec_of
from mdive.engine.work import PLAN_FILE
from mdive.errors import RunFolderError
from mdive.model.manifest import Manifest
from mdive.model.plan import Plan
from mdive.model.quality import Quality

if TYPE_CHECKING:
    import geopandas
    import pystac
    import xarray as xr


class Report:
    """A run that ended, with its products.

    Parameters
    ----------
    folder
        The run folder.
    manifest
        What it says it holds.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def status(self) -> str:
        """``complete`` or ``partial`` (something could not be read)."""
        return self.manifest.status

    @property
    def decision(self) -> str:
        """``event``, ``no_significant_event`` or ``not_observable``."""
        return self.manifest.decision

    @cached_property
    def quality(self) -> Quality:
        """Areas, checks and grade."""
        return read_back(self.folder / "quality.json", Quality)

    @cached_property
    def plan(self) -> Plan:
        """What was carried out."""
        return read_back(self.folder / PLAN_FILE, Plan)

    def path(self, name: str) -> Path:
        """Return the file of a product.

        Raises
        ------
        RunFolderError
            If the run has no such product.
        """
        for product in self.manifest.products:
            if product.name == name:
                return self.folder / product.path
        raise RunFolderError(f"{self.folder} has no product {name!r}.", f"It has: {', '.join(p.name for p in self.manifest.products)}.")

    @property
    def dataset(self) -> xr.Dataset:
        """The raster products as a lazy Dataset (y, x), decoded to physical numbers, with CF attributes."""
        import rioxarray
        import xarray as xr

        from mdive.engine.lazy import cf_attributes

        specs = spec_of(self.plan)
        data = {}
        for product in self.manifest.products:
            if product.name in specs and product.path.endswith(".tif"):
                spec = specs[product.name]
                array: Any = rioxarray.open_rasterio(
                    self.folder / product.path, chunks={"x": 2048, "y": 2048}, mask_and_scale=spec.dtype == "float32"
                )
                array = array.isel(band=0, drop=True)
                array.attrs = cf_attributes(spec) | {"grid_mapping": "spatial_ref"}
                array.attrs.pop("_FillValue", None)
                data[product.name] = array.astype(spec.dtype)
        return xr.Dataset(data)

    @property
    def features(self) -> geopandas.GeoDataFrame:
        """The polygons of the event's classes, with areas in m²."""
        import geopandas

        return geopandas.read_parquet(self.path("polygons"))

    @property
    def item(self) -> pystac.Item:
        """The STAC item of the run."""
        import pystac

        return pystac.Item.from_file(str(self.path("item")))

    def _facts(self) -> list[tuple[str, str]]:
        quality = self.quality
        line = quality.headline
        return [
            ("folder", str(self.folder)),
            ("decision", f"{self.decision} (grade {quality.grade})"),
            ("area", f"{line.estimate_m2 / 1e6:.2f} km² [{line.low_m2 / 1e6:.2f}, {line.high_m2 / 1e6:.2f}]"),
            ("observed", f"{quality.observed_share:.1%} of {quality.area_m2 / 1e6:.1f} km²"),
            ("status", self.status),
            ("products", ", ".join(p.name for p in self.manifest.products if not p.path.startswith(f"{FOLDER}/"))),
            *(("derived", f"{made.algorithm.name} in {run_folder(self.folder, made)}") for made in self.plan.derived),
        ]

    def __repr__(self) -> str:
        return "mdive.Report\n" + "\n".join(f"  {name:<9} {value}" for name, value in self._facts())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in self._facts())
        return f"<table><caption>mdive run</caption>{rows}</table>"


def open_run(folder: str | Path) -> Report:
    """Open a finished run.

    Raises
    ------
    RunFolderError
        If there is no manifest (no result), or it is of another version.
    """
    folder = take_path(folder, "open_run", "folder")
    path = folder / MANIFEST
    if not path.is_file():
        started = (folder / PLAN_FILE).is_file()
        hint = f"The run did not finish: `mdive resume {folder}`." if started else "Give the folder that was named with --out."
        raise RunFolderError(f"{folder} holds no result (no {MANIFEST}).", hint)
    return Report(folder, read_back(path, Manifest))
