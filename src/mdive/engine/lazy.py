"""The lazy verbs: ``load``, ``analyse`` and ``apply`` give ordinary xarray objects and read nothing until they are asked."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import mdive.algorithms
from mdive.cube import open_tree, to_geobox
from mdive.engine.choice import ALIASES
from mdive.engine.pipelines import graph_of, spec_of, tiles_of
from mdive.engine.reading import MASK, SourceReader
from mdive.errors import InputError, PluginError, nearest
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Plan
from mdive.model.product import RasterSpec
from mdive.pipeline import Node, Operation, Window, load_node
from mdive.pipeline.evaluate import Loader
from mdive.pipeline.lift import compute, node_for
from mdive.pipeline.lower import to_dask
from mdive.pipeline.passes import Pass
from mdive.plugins import AlgorithmSpec, Bundle
from mdive.plugins.registry import algorithms

if TYPE_CHECKING:
    import xarray as xr


def load(plan: Plan) -> xr.DataTree:
    """Return what a plan would read: one node per source and phase, bands as (time, y, x) in physical units, ``mask`` beside them.

    Nothing is read until it is computed.
    """
    return open_tree(plan.sources, plan.grid, chunks=plan.tiling.size)


def analyse(plan: Plan) -> xr.Dataset:
    """Return the raster products of a plan as a lazy Dataset with dimensions (y, x).

    The same kernels on the same tiles as ``run``, as a dask graph with one task per tile and pass (and one per tile and product that
    takes it out of its tile): any dask scheduler computes the same bits.
    """
    import xarray as xr
    from odc.geo.xr import xr_coords

    graph, tiles = graph_of(plan), tiles_of(plan)
    key = f"mdive-plan-{plan.identity[:16]}"

    def loads(_pass: Pass, index: int) -> tuple[_PlanLoader, list[Any]]:
        return _PlanLoader(tiles[index]), [key]

    arrays = to_dask(graph, plan.grid, tiles, loads, plan.identity, shared={key: plan})
    coords = xr_coords(to_geobox(plan.grid))
    specs = spec_of(plan)
    names = [n for n in plan.products if n in specs]
    data = {n: xr.DataArray(arrays[n], dims=("y", "x"), coords=coords, attrs=cf_attributes(specs[n])) for n in names}
    attrs = {
        "title": f"mdive {plan.algorithm.name}",
        "plan": plan.identity,
        "algorithm": f"{plan.algorithm.name} {plan.algorithm.version}",
        "source_items": " ".join(sorted(i.id for s in plan.sources for i in s.items)),
        "references": " ".join(f"https://doi.org/{r}" for r in plan.algorithm.references),
    }
    return xr.Dataset(data, attrs=attrs)


class _PlanLoader:
    """Makes the loader of one tile from the plan that the task is sent."""

    def __init__(self, core: Window) -> None:
        self.core = core

    def __call__(self, arguments: Sequence[Any]) -> Loader:
        return SourceReader(arguments[0], self.core)


def cf_attributes(spec: RasterSpec) -> dict[str, Any]:
    """Return the CF attributes of a raster product."""
    attrs: dict[str, Any] = {"long_name": spec.long_name, "units": spec.units, "grid_mapping": "spatial_ref"}
    if spec.classes:
        attrs["flag_values"] = np.array([c.value for c in spec.classes], dtype=spec.dtype)
        attrs["flag_meanings"] = " ".join(c.name for c in spec.classes)
    if spec.flags:
        attrs["flag_masks"] = np.array([f.mask for f in spec.flags], dtype=spec.dtype)
        attrs["flag_meanings"] = " ".join(f.name for f in spec.flags)
    if spec.dtype == "uint8" and spec.nodata is not None:
        attrs["_FillValue"] = np.uint8(255)
    return attrs


def apply(name: str, *data: Any, **parameters: Any) -> Any:
    """Apply an operation or an algorithm to your own rasters.

    Parameters
    ----------
    name
        An operation (``"ndwi"``) or an algorithm (``"flood.optical_index"``).
    *data
        For an operation: its rasters in order (DataArrays or numpy arrays), or one Dataset that holds them by name. For an algorithm: one
        Dataset per phase in its order, or one DataTree with nodes ``source/phase``. Rasters are (y, x) or (time, y, x), in physical
        units (radar: linear power), NaN where nothing was seen; a variable ``mask`` (bits of ``QC_FLAGS``) may say why.
    **parameters
        Parameters of the operation or algorithm.

    Returns
    -------
    An array like the input (numpy stays numpy, dask stays lazy); for an algorithm a Dataset of its products.

    Raises
    ------
    PluginError
        If nothing has this name.
    InputError
        If a band is missing or a parameter is wrong.
    """
    specs = algorithms()
    if name in specs:
        return _apply_algorithm(specs[name], data, parameters)
    found = operations()
    if name not in found:
        known = [*specs, *found]
        raise PluginError(
            f"no operation or algorithm {name!r}.{nearest(name, known)}", f"Algorithms: {', '.join(specs)}. Operations: {', '.join(found)}."
        )
    operation = found[name]
    if len(data) == 1 and hasattr(data[0], "data_vars"):
        data = tuple(_variable(data[0], band) for band in _band_names(operation))
    return operation(*data, **parameters)


def operations() -> dict[str, Operation]:
    """Return all operations that algorithms are made of, by name."""
    modules = [importlib.import_module(f"mdive.algorithms.{m.name}") for m in pkgutil.iter_modules(mdive.algorithms.__path__)]
    modules += [
        importlib.import_module(s.function.__module__) for s in algorithms().values() if not s.function.__module__.startswith("mdive.")
    ]
    found = {}
    for module in modules:
        found.update({v.name: v for v in vars(module).values() if isinstance(v, Operation) and v.__module__ == module.__name__})
    return dict(sorted(found.items()))


def _band_names(operation: Operation) -> list[str]:
    import inspect

    return [n for n, p in inspect.signature(operation.kernel).parameters.items() if p.kind is p.POSITIONAL_ONLY]


def _variable(dataset: Any, band: str) -> Any:
    for name in (band, ALIASES.get(band, band)):
        if name in dataset:
            return dataset[name]
    raise InputError(
        f"the dataset has no variable {band!r}.",
        f"It has: {', '.join(map(str, dataset.data_vars))}.{nearest(band, map(str, dataset.data_vars))}",
    )


def _apply_algorithm(spec: AlgorithmSpec, data: Sequence[Any], parameters: Mapping[str, Any]) -> xr.Dataset:
    import xarray as xr

    phases = _phases(spec, data)
    rasters: dict[tuple[str, str], xr.DataArray] = {}
    bundles = []
    for phase in spec.phases:
        needs, optional = spec.needs.get(phase, ()), spec.optional.get(phase, ())
        dataset = phases.get(phase)
        if dataset is None:
            if needs:
                raise InputError(
                    f"{spec.name} needs rasters of its {phase!r} phase.", f"Bands: {', '.join(needs)}; pass one Dataset per phase."
                )
            bundles.append(Bundle(**dict.fromkeys((*optional, MASK))))
            continue
        nodes: dict[str, Node | None] = {}
        for band in (*needs, *optional):
            here = band in dataset or ALIASES.get(band) in dataset
            if not here and band in optional:
                nodes[band] = None
                continue
            array = _timed(_variable(dataset, band)).astype("float32")
            rasters[phase, band] = array
            nodes[band] = node_for(phase, band, array)
        seen = [rasters[phase, b] for b, n in nodes.items() if n is not None]
        rasters[phase, MASK] = _timed(dataset[MASK]).astype("uint16") if MASK in dataset else _mask_of(seen)
        bundles.append(Bundle(**nodes, **{MASK: load_node(phase, MASK, dtype="uint16")}))
    outputs = dict(spec.function(*bundles, **spec.bind(parameters)))
    values = compute(outputs, rasters)
    for raster in spec.outputs:
        values[raster.name].attrs = cf_attributes(raster) | {k: v for k, v in values[raster.name].attrs.items() if k == "grid_mapping"}
    return xr.Dataset({o.name: values[o.name] for o in spec.outputs}, attrs={"algorithm": f"{spec.name} {spec.version}"})


def _phases(spec: AlgorithmSpec, data: Sequence[Any]) -> dict[str, Any]:
    if len(data) == 1 and hasattr(data[0], "children"):
        tree = data[0]
        if not tree.children:
            return {next(iter(spec.needs)): tree.to_dataset()}
        leaves = {node.path.rsplit("/", 1)[-1]: node.to_dataset() for node in tree.leaves}
        return {phase: leaves[phase] for phase in spec.phases if phase in leaves}
    if len(data) > len(spec.phases):
        raise InputError(f"{spec.name} takes {len(spec.phases)} phases, {len(data)} were given.", f"In order: {', '.join(spec.phases)}.")
    order = sorted(spec.phases, key=lambda p: p not in spec.needs)
    return {p: (d.to_dataset() if hasattr(d, "to_dataset") and hasattr(d, "children") else d) for p, d in zip(order, data, strict=False)}


def _timed(array: xr.DataArray) -> xr.DataArray:
    return array if "time" in array.dims else array.expand_dims("time")


def _mask_of(bands: Sequence[xr.DataArray]) -> xr.DataArray:
    """Return a cause plane for rasters that came without one: nodata where any band is NaN."""
    missing = bands[0].isnull()
    for band in bands[1:]:
        missing = missing | band.isnull()
    return (missing * np.uint16(QC_FLAGS["nodata"])).astype("uint16")
