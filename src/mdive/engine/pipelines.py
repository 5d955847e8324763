"""From a plan to its pipeline graph: the algorithm is called on nodes, and the engine adds what every product owes its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mdive.cube import area_mask, uniform
from mdive.errors import KernelError, PluginError
from mdive.model.area import Area
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import AlgorithmRef, Grid, Plan, Source
from mdive.model.product import RasterSpec
from mdive.pipeline import Local, Tiles, Window, load_node, operation
from mdive.pipeline.graph import Graph
from mdive.plugins import AlgorithmSpec, Bundle
from mdive.plugins.registry import algorithm_spec

from .reading import MASK
from .scenes import told_by_source
from .specs import CAUSE, raster_specs
from .tiling import check_size

REQUIRED = ("extent", "qc", "cause")
PROBABILITY = "probability"
"""Products that every run computes: the answer, its quality bits, and what could not be seen. Everything else only on request."""


def graph_of(plan: Plan) -> Graph:
    """Return the pipeline graph of a plan.

    Raises
    ------
    PluginError
        If the installed algorithm is not the one that the plan was made with.
    """
    spec = algorithm_spec(plan.algorithm.name)
    if spec.version != plan.algorithm.version:
        raise PluginError(
            f"the plan needs {spec.name} {plan.algorithm.version}; version {spec.version} is installed.",
            "Install that version, or make a new plan.",
        )
    area = Area.model_validate(plan.event["area"])
    wanted = [n for n in plan.products if n in raster_specs(spec)]
    return trace(spec, plan.algorithm, plan.sources, area.geometry.wkt, [*REQUIRED, *wanted])


def trace(spec: AlgorithmSpec, reference: AlgorithmRef, sources: tuple[Source, ...], area: str, products: list[str]) -> Graph:
    """Call an algorithm on nodes and return the graph of some products.

    Parameters
    ----------
    spec, reference
        The algorithm, and how the plan binds it.
    sources
        The plan's sources.
    area
        WKT of the area (longitude, latitude): what lies outside of it is no product's business.
    products
        Names of the raster products to compute.
    """
    by_key = {s.key: s for s in sources}
    bundles = [bundle_of(spec, phase, [by_key[key] for key in reference.sources.get(phase, ())]) for phase in spec.phases]
    nodes = dict(spec.function(*bundles, **reference.parameters))
    specs = raster_specs(spec)
    missing = [n for n in {*REQUIRED, *(o.name for o in spec.outputs)} if n not in nodes and n != CAUSE.name]
    if missing:
        raise KernelError(f"algorithm {spec.name!r} did not return its output {min(missing)!r}.", "Report this to its authors.")
    looking = [by_key[k] for p, keys in sorted(reference.sources.items()) if p != "static" or len(reference.sources) == 1 for k in keys]
    unobserved = sorted(c.value for c in specs["extent"].classes if c.role == "unobserved")
    inside = in_area(nodes["extent"], area=area)
    seen = in_footprints(nodes["extent"], footprints=[_footprints(s) for s in looking])
    nodes[CAUSE.name] = cause_plane(nodes["extent"], nodes["qc"], seen, unobserved=unobserved)
    clips = {"uint8": clip_class, "uint16": clip_bits, "int16": clip_class, "int64": clip_name, "float32": clip_float}
    return Graph({name: clips[specs[name].dtype](nodes[name], inside) for name in dict.fromkeys(products)})


def bundle_of(spec: AlgorithmSpec, phase: str, sources: Sequence[Source]) -> Bundle:
    """Return the load nodes of one phase; bands that its sources lack are None."""
    bands = (*spec.needs.get(phase, ()), *spec.optional.get(phase, ()))
    if not sources:
        return Bundle(**dict.fromkeys((*bands, MASK)))
    homes = {b: next((s.key for s in sources if b in s.bands), None) for b in bands}
    nodes: dict[str, Any] = {b: None if key is None else load_node(key, b) for b, key in homes.items()}
    masks = [load_node(s.key, MASK, dtype="uint16") for s in sources]
    mask = masks[0] if len(masks) == 1 else all_causes(*masks)
    return Bundle(**nodes, **told_by_source(sources[0]), **{MASK: mask})


def tiles_of(plan: Plan) -> Tiles:
    """Return the partition of a plan's grid.

    Raises
    ------
    InputError
        If the grid, or the number of tiles, is beyond what can be computed.
    """
    check_size(plan.grid.shape, plan.tiling.size)
    return Tiles.regular(plan.grid.shape, plan.tiling.size, plan.tiling.row_anchor, plan.tiling.col_anchor)


def _footprints(source: Source) -> str:
    import shapely

    shapes = [shapely.geometry.shape(item.geometry) for item in source.items]
    return str(shapely.union_all(shapes).wkt) if shapes else "POLYGON EMPTY"


@lru_cache(maxsize=16)
def _shape(wkt: str) -> Any:
    import shapely

    return shapely.from_wkt(wkt)


CELL = 512
"""Pixels of a side of the squares for which it is remembered whether they lie inside an area, outside, or on its edge."""


def _mask(wkt: str, grid: Grid, window: Window) -> np.ndarray:
    rows, cols = range(window.row // CELL, (window.row_end - 1) // CELL + 1), range(window.col // CELL, (window.col_end - 1) // CELL + 1)
    found = {_uniform(wkt, grid, r, c) for r in rows for c in cols}
    if len(found) == 1 and None not in found:
        return np.full(window.shape, found.pop(), dtype=bool)
    return np.asarray(area_mask(_shape(wkt), grid, window))


@lru_cache(maxsize=2**16)
def _uniform(wkt: str, grid: Grid, row: int, col: int) -> bool | None:
    """Return whether all pixels of a square lie inside (True) or outside (False); None on an edge."""
    return uniform(_shape(wkt), grid, Window(row * CELL, col * CELL, CELL, CELL))


@operation(Local(), dtype="bool")
def in_area(like: np.ndarray, /, *, area: str, grid: Grid, window: Window) -> np.ndarray:
    """Whether a pixel's centre lies inside the area."""
    del like
    return _mask(area, grid, window)


@operation(Local(), dtype="uint16", over_time=True)
def all_causes(*masks: np.ndarray) -> np.ndarray:
    """Return every cause that some source gives at some time, (y, x): the cause plane of bands that come from several sources."""
    out = np.zeros(masks[0].shape[-2:], dtype="uint16")
    for mask in masks:
        out |= np.bitwise_or.reduce(mask, axis=0) if mask.ndim == 3 else mask
    return out


@operation(Local(), dtype="uint8")
def clip_class(values: np.ndarray, inside: np.ndarray, /) -> np.ndarray:
    """Set classes outside the area to 255 (fill)."""
    return np.where(inside, values, np.uint8(255))


@operation(Local(), dtype="uint16")
def clip_bits(values: np.ndarray, inside: np.ndarray, /) -> np.ndarray:
    """Set bits outside the area to none: the cause raster (255) says that they are outside."""
    return np.where(inside, values, np.uint16(0))


@operation(Local(), dtype="int64", fill=-1)
def clip_name(values: np.ndarray, inside: np.ndarray, /) -> np.ndarray:
    """Set names of things outside the area to -1 (none)."""
    return np.where(inside, values, np.int64(-1))


@operation(Local(), dtype="float32")
def clip_float(values: np.ndarray, inside: np.ndarray, /) -> np.ndarray:
    """Set numbers outside the area to NaN."""
    return np.where(inside, values, np.float32(np.nan))


_PRECEDENCE = (
    ("layover_shadow", 6),
    ("shadow", 5),
    ("cloud", 4),
    ("nodata", 2),
    ("read_failure", 3),
)
"""Flag and value of ``CAUSES``, the last one that applies wins: a failed read is the gravest, because it is ours to mend."""


@operation(Local(), dtype="bool")
def in_footprints(like: np.ndarray, /, *, footprints: list[str], grid: Grid, window: Window) -> np.ndarray:
    """Whether all sources have an acquisition at a pixel: WKT (longitude, latitude) of what each source's items cover."""
    del like
    inside = np.ones(window.shape, dtype=bool)
    for footprint in footprints:
        inside &= _mask(footprint, grid, window)
    return inside


@operation(Local(), dtype="uint8", version=2)
def cause_plane(extent: np.ndarray, qc: np.ndarray, acquired: np.ndarray, /, *, unobserved: list[int]) -> np.ndarray:
    """Return why each pixel of a class raster says nothing (values of ``CAUSES``; 0 where it says something).

    Parameters
    ----------
    extent
        Class raster, uint8 (y, x).
    qc
        Bits of ``QC_FLAGS``, uint16 (y, x).
    acquired
        Whether there is an acquisition of every source, boolean (y, x).
    unobserved
        Class values that mean *not observed*.
    """
    silent = extent == np.uint8(255)
    for value in unobserved:
        silent = silent | (extent == np.uint8(value))
    cause = np.where(silent, np.uint8(7), np.uint8(0))
    for name, value in _PRECEDENCE:
        cause = np.where(silent & ((qc & np.uint16(QC_FLAGS[name])) != 0), np.uint8(value), cause)
    return np.where((cause == 2) & ~acquired, np.uint8(1), cause)


def spec_of(plan: Plan) -> Mapping[str, RasterSpec]:
    """Return the raster products that a plan's algorithm can make, by name."""
    return raster_specs(algorithm_spec(plan.algorithm.name))
