"""Bands that no catalogue offers and an installed algorithm can make: each maker becomes a plan of its own, which runs first.

Such a band needs more ground than the area and pixels of its own (the height above the nearest drainage needs the basins, and the pixels of
the elevation model), so it is no part of the pipeline's graph but an input of it: a finished run whose raster is read like any other file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import floor, hypot, log10
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import shapely

from mdive.cube.grid import transformer, unwrapped
from mdive.cube.prepare import claimed_grid
from mdive.model.area import Area
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import AssetRef, Grid, ItemRef, MaskRule, Observation, Plan, Source, Unit
from mdive.pipeline.ground import pixel_sizes
from mdive.plugins import AlgorithmSpec
from mdive.plugins.registry import algorithms
from mdive.products.encoding import encoding_of

FOLDER: Final = "derived"
"""Where the runs of the makers lie in a run's folder."""

_ADDRESS: Final = re.compile(r"derived:([a-z][a-z0-9_.]*/products/[a-z][a-z0-9_]*\.tif)")
"""Address of a file that a maker's run will have written. Nothing else becomes a path: an address in a catalogue may begin like one."""

_TOLD: Final = ("read_failure", "edge_contaminated")
"""Flags of a derived band that whoever reads it should hear of: what was lost, and what was cut off by the edge of the data."""

_PLAIN_STEPS: Final = (1.0, 1.25, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 9.0, 10.0)
"""Leading digits of the pixels in metres that elevation models are made for: a second of arc is called 30 m, three are called 90 m; others have
12.5 m or 25 m."""

ROUND_CORNER: Final = 10_000.0
"""Metres between points of the outline of a padded area: a straight edge in metres bends by less than a metre in degrees then."""


def makers(spec: AlgorithmSpec, offered: Iterable[Source]) -> list[tuple[AlgorithmSpec, tuple[str, ...]]]:
    """Return the algorithms that make what another one could use and nobody offers, with the bands that each makes.

    Parameters
    ----------
    spec
        Who could use them.
    offered
        What there is.
    """
    there = {band for source in offered if source.phase == "static" for band in source.bands}
    missing = [b for b in (*spec.needs.get("static", ()), *spec.optional.get("static", ())) if b not in there]
    if not missing or not there:
        return []
    found: list[tuple[AlgorithmSpec, tuple[str, ...]]] = []
    # Two that make one band: mdive's own, else the first by name; the plan's reasons say which.
    for maker in sorted(algorithms().values(), key=lambda m: (m.package.partition(" ")[0] != "mdive", m.name)):
        able = set(maker.needs) == {"static"} and there.issuperset(maker.needs["static"]) and maker.name != spec.name
        made = tuple(o.name for o in maker.outputs if o.name in missing) if able else ()
        if made:
            found.append((maker, made))
            missing = [b for b in missing if b not in made]
    return found


def padded(area: Area, crs: str, metres: float) -> Area:
    """Return a rectangle of a projection that reaches so many metres beyond an area on all sides; round a pole the cap that holds it."""
    there, back = transformer("EPSG:4326", crs), transformer(crs, "EPSG:4326")
    inside = shapely.transform(shapely.segmentize(unwrapped(area.geometry), 0.1), lambda xy: _moved(there, xy))
    west, south, east, north = inside.bounds
    box = shapely.segmentize(shapely.box(west - metres, south - metres, east + metres, north + metres), ROUND_CORNER)
    outline = shapely.transform(box, lambda xy: _moved(back, xy))
    pole = 90.0 if outline.centroid.y > 0 else -90.0
    # No ring in longitude and latitude goes round a pole.
    if shapely.contains_xy(box, *_moved(there, np.array([[0.0, pole]]))[0]):
        south, north = sorted((pole, min(outline.bounds[1::2], key=abs)))
        return Area.from_bbox(-180.0, south, 180.0, north)
    return Area.model_validate({"geojson": shapely.geometry.mapping(outline)})


def within(area: Area, sources: Iterable[Source]) -> Area | None:
    """Return the part of an area where sources have anything; None where they have nothing."""
    shapes = [shapely.geometry.shape(item.geometry) for source in sources for item in source.items]
    part = shapely.intersection(area.geometry, shapely.union_all(shapes)) if shapes else shapely.Polygon()
    flat = [p for p in getattr(part, "geoms", [part]) if p.geom_type == "Polygon" and p.area > 0]
    return Area.model_validate({"geojson": shapely.geometry.mapping(shapely.MultiPolygon(flat))}) if flat else None


def native_metres(sources: Sequence[Source], least: float) -> float:
    """Return the pixel edge that suits some sources: that of the coarsest of their files, as a plain number of metres, and at least ``least``."""
    heights = [pixel_height(asset) for source in sources for item in source.items for asset in item.assets.values()]
    return max(least, *(_plain(metres) for metres in heights if metres > 0.0), 0.0)


def pixel_height(asset: AssetRef) -> float:
    """Return the height of an asset's pixels in metres on the ground; 0 where the catalogue does not tell its grid."""
    told = claimed_grid(asset)
    if told is None:
        return 0.0
    # Along a meridian: in degrees, pixels are narrower along the parallels, where coarser ones lose nothing.
    _, b, x0, _, e, y0 = told.transform
    return float(pixel_sizes(Grid(crs=told.crs, resolution=hypot(b, e), x0=x0, y0=y0, shape=(1, 1)), 0, 1)[1][0])


def derived_source(made: Plan, maker: AlgorithmSpec, bands: Sequence[str]) -> Source:
    """Return what a maker's run offers, as a source of the run that needs it."""
    area = Area.model_validate(made.event["area"])
    specs = {o.name: o for o in maker.outputs}
    grid = made.grid
    placed = {"crs": grid.crs, "transform": grid.transform, "shape": grid.shape}
    assets = {}
    for band in (*bands, "qc"):
        stored = encoding_of(specs[band])
        smooth = specs[band].dtype == "float32"
        assets[band] = AssetRef(
            href=f"derived:{maker.name}/products/{band}.tif",
            dtype=stored.dtype,
            nodata="nan" if stored.nodata is not None and stored.nodata != stored.nodata else stored.nodata,
            scale=stored.scale,
            unit=specs[band].units if specs[band].units in get_args(Unit) else "bits" if band == "qc" else "1",
            resampling="bilinear" if smooth else "nearest",
            **placed,
        )
    seen = max((o.datetime for s in made.sources for o in s.observations), default=None)
    when = seen or made.event["window"]["start"]
    item = ItemRef(id=maker.name, collection=maker.name, datetime=when, geometry=shapely.geometry.mapping(area.geometry), assets=assets)
    bits = {name: (QC_FLAGS[name].bit_length() - 1,) for name in _TOLD}
    return Source(
        name=maker.name,
        phase="static",
        sensor="elevation",
        bands=tuple(bands),
        mask=MaskRule(band="qc", kind="bits", causes=bits),
        observations=(Observation(id=maker.name, datetime=when, items=(item.id,)),),
        items=(item,),
    )


def is_derived(source: Source) -> bool:
    """Whether a source is the product of a plan that runs first."""
    return any(_ADDRESS.fullmatch(asset.href) for item in source.items for asset in item.assets.values())


def run_folder(folder: Path, made: Plan) -> Path:
    """Return where a maker's plan runs, in the folder of the run that needs it."""
    return folder / FOLDER / made.algorithm.name


def derived_files(plan: Plan) -> list[str]:
    """Return the paths, in a run's folder, of the derived files that a plan reads."""
    found = (_ADDRESS.fullmatch(a.href) for s in plan.sources for i in s.items for a in i.assets.values())
    return sorted({f"{FOLDER}/{address[1]}" for address in found if address})


def located(plan: Plan, folder: Path) -> Plan:
    """Return a plan in which derived files have the paths that they have in a run's folder: the one that tiles read by."""
    if not plan.derived:
        return plan

    def at(asset: AssetRef) -> AssetRef:
        address = _ADDRESS.fullmatch(asset.href)
        return asset.model_copy(update={"href": str(folder / FOLDER / address[1])}) if address else asset

    sources = (
        s.model_copy(update={"items": tuple(i.model_copy(update={"assets": {b: at(a) for b, a in i.assets.items()}}) for i in s.items)})
        if is_derived(s)
        else s
        for s in plan.sources
    )
    return plan.model_copy(update={"sources": tuple(sources)})


def _moved(transform: Any, xy: np.ndarray) -> np.ndarray:
    return np.column_stack(transform.transform(xy[:, 0], xy[:, 1]))


def _plain(metres: float) -> float:
    scale = 10.0 ** floor(log10(metres))
    return scale * min(_PLAIN_STEPS, key=lambda step: abs(step - metres / scale))
