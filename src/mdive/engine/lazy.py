"""The lazy verbs: ``load``, ``analyse`` and ``apply`` give ordinary xarray objects and read nothing until they are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mdive.cube import open_tree, to_geobox
from mdive.engine.choice import ALIASES
from mdive.engine.derive import is_derived
from mdive.engine.given import kind_of, take_plan, wrong
from mdive.engine.named import find_operation
from mdive.engine.pipelines import graph_of, spec_of, tiles_of
from mdive.engine.reading import MASK, SourceReader
from mdive.engine.ready import Ready, ready
from mdive.engine.scenes import told_by_dataset
from mdive.engine.tiling import check_size
from mdive.errors import InputError, MdiveError, nearest
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Plan
from mdive.model.product import RasterSpec
from mdive.pipeline import Node, Operation, Window, load_node
from mdive.pipeline.calling import raster_names
from mdive.pipeline.evaluate import Loader
from mdive.pipeline.lift import compute, node_for
from mdive.pipeline.lower import to_dask
from mdive.pipeline.passes import Pass
from mdive.plugins import AlgorithmSpec, Bundle
from mdive.plugins.registry import algorithm_spec, registry

if TYPE_CHECKING:
    import xarray as xr


def load(plan: Plan) -> xr.DataTree:
    """Return what a plan would read: one node per source and phase, bands as (time, y, x) in physical units, ``mask`` beside them.

    Nothing is read until it is computed. What the plan derives is in no file yet, and so not in the tree.

    Raises
    ------
    InputError
        If the grid, or the number of tiles, is beyond what can be computed.
    UsageError
        If it is given something else than a plan.
    """
    plan = take_plan(plan, "load")
    check_size(plan.grid.shape, plan.tiling.size)
    return open_tree([s for s in plan.sources if not is_derived(s)], plan.grid, chunks=plan.tiling.size)


def analyse(plan: Plan) -> xr.Dataset:
    """Return the raster products of a plan as a lazy Dataset with dimensions (y, x).

    The same kernels on the same tiles as ``run``, as a dask graph with one task per tile and pass (and one per tile and product that
    takes it out of its tile): any dask scheduler computes the same bits. What the plan derives is one task before them.

    Raises
    ------
    InputError
        If the grid, or the number of tiles, is beyond what can be computed.
    UsageError
        If it is given something else than a plan.
    """
    plan = take_plan(plan, "analyse")
    import xarray as xr
    from odc.geo.xr import xr_coords

    graph, tiles = graph_of(plan), tiles_of(plan)
    key = f"mdive-plan-{plan.identity[:16]}"

    def loads(_pass: Pass, index: int) -> tuple[_PlanLoader, list[Any]]:
        return _PlanLoader(tiles[index]), [key]

    given = (ready, plan) if plan.derived else Ready(plan)
    arrays = to_dask(graph, plan.grid, tiles, loads, plan.identity, shared={key: given})
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
        prepared: Ready = arguments[0]
        return SourceReader(prepared.here(), self.core)


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
        Name of an operation (``"ndwi"``) or of an algorithm (``mdive algorithms`` lists them).
    *data
        For an operation: its rasters in order (DataArrays or numpy arrays), or one Dataset that holds them by name. For an algorithm: one
        Dataset per phase in its order (a DataArray will do for a phase that needs one band), or one DataTree with nodes ``source/phase``.
        Rasters are (y, x) or (time, y, x), in physical units (radar: linear power), NaN where nothing was seen; a variable ``mask`` (bits of
        ``QC_FLAGS``) may say why.
    **parameters
        Parameters of the operation or algorithm.

    Returns
    -------
    An array like the input (numpy stays numpy, dask stays lazy); for an algorithm a Dataset of its products. An operation that sees one
    scene (y, x) at a time is applied to each time; one that works along time gives (y, x).

    Raises
    ------
    PluginError
        If nothing has this name, or several plugins claim it.
    InputError
        If a raster is missing or a parameter is wrong; if rasters differ in shape, coordinates, CRS or times; or if the result depends on
        the size of a pixel (metres, hectares) and there are no x and y coordinates of even, square pixels. Without a CRS they are metres.
    """
    if not isinstance(name, str):
        raise wrong(name, "apply", "the name of an operation or algorithm", "For instance mdive.apply('ndwi', dataset).")
    if name in registry().offers("algorithm"):
        return apply_algorithm(algorithm_spec(name), data, parameters)
    return _apply_operation(find_operation(name), data, parameters)


def _apply_operation(operation: Operation, data: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    if len(data) == 1 and hasattr(data[0], "data_vars"):
        data = tuple(_variable(data[0], band) for band in _band_names(operation))
    described = _described(operation, data)
    try:
        return operation(*data, **parameters)
    except MdiveError:
        raise
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise InputError(
            f"operation {operation.name!r} cannot work on {described}: {type(error).__name__}: {reason}",
            "Check the shapes and types; if it takes one scene (y, x), select a time first.",
        ) from error


def _described(operation: Operation, data: Sequence[Any]) -> str:
    """Return what an operation is given, in words; refuse what no operation could take."""
    told, shapes = [], {}
    for name, value in zip(raster_names(operation, len(data)), data, strict=True):
        if value is None or isinstance(value, Mapping):
            continue
        array = value if hasattr(value, "dtype") and hasattr(value, "shape") else np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise InputError(
                f"{name!r} of operation {operation.name!r} is {kind_of(value)}; it takes a raster of numbers.",
                "Give a DataArray or a numpy array.",
            )
        told.append(f"{name} {array.dtype} {tuple(array.shape)}")
        if array.ndim > 1:
            sizes = getattr(value, "sizes", {})
            shapes[name] = (sizes["y"], sizes["x"]) if {"y", "x"} <= set(sizes) else tuple(array.shape[-2:])
    if len(set(shapes.values())) > 1:
        raise InputError(
            f"operation {operation.name!r} was given rasters of different shapes (y, x): "
            f"{', '.join(f'{name} {shape}' for name, shape in shapes.items())}.",
            "Give rasters of one grid: cut or reproject them first, for instance with rioxarray's reproject_match.",
        )
    if operation.measures and not any(hasattr(value, "coords") for value in data):
        raise InputError(
            f"the result of operation {operation.name!r} depends on the size of a pixel, which numpy arrays do not tell.",
            "Give DataArrays with x and y of the pixels' centres: metres, or any CRS that is written down (raster.rio.write_crs).",
        )
    return ", ".join(told) or "nothing"


def _band_names(operation: Operation) -> list[str]:
    return [n for n, p in operation.rasters.items() if p.kind is p.POSITIONAL_ONLY]


def _variable(dataset: Any, band: str) -> Any:
    for name in (band, ALIASES.get(band, band)):
        if name in dataset:
            if dataset[name].dtype.kind not in "biuf":
                raise InputError(
                    f"variable {name!r} is {kind_of(dataset[name])}, no raster of numbers.", "Convert it first: .astype('float32')."
                )
            return dataset[name]
    raise InputError(
        f"the dataset has no variable {band!r}.",
        f"It has: {', '.join(map(str, dataset.data_vars))}.{nearest(band, map(str, dataset.data_vars))}",
    )


def apply_algorithm(spec: AlgorithmSpec, data: Sequence[Any], parameters: Mapping[str, Any]) -> xr.Dataset:
    """Apply an algorithm that need not be registered; otherwise as ``apply``."""
    import xarray as xr

    bundles, rasters = bundles_of(spec, data)
    outputs = dict(spec.function(*bundles, **spec.bind(parameters)))
    values = compute(outputs, rasters)
    for raster in spec.outputs:
        values[raster.name].attrs = cf_attributes(raster) | {k: v for k, v in values[raster.name].attrs.items() if k == "grid_mapping"}
    return xr.Dataset({o.name: values[o.name] for o in spec.outputs}, attrs={"algorithm": f"{spec.name} {spec.version}"})


def bundles_of(spec: AlgorithmSpec, data: Sequence[Any]) -> tuple[list[Bundle], dict[tuple[str, str], xr.DataArray]]:
    """Return what an algorithm is called with, one bundle of load nodes per phase, and the rasters that stand for them by phase and band.

    Parameters
    ----------
    spec
        The algorithm.
    data
        Datasets, as ``apply`` takes them.

    Raises
    ------
    InputError
        If a phase or a band is missing, or something else than Datasets is given.
    """
    import xarray as xr

    order = phase_order(spec)
    data = [_as_dataset(spec, order[i], given) if i < len(order) else given for i, given in enumerate(data)]
    for number, given in enumerate(data, 1):
        if given is not None and not isinstance(given, xr.Dataset | xr.DataTree):
            bands = [f"{p} ({', '.join(spec.needs.get(p, ()) or spec.optional.get(p, ()))})" for p in phase_order(spec)]
            raise InputError(
                f"algorithm {spec.name!r} takes one Dataset per phase; argument {number} is {kind_of(given)}.",
                f"Put the rasters into Datasets by band name. Phases in order: {', '.join(bands)}.",
            )
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
        bundles.append(Bundle(**nodes, **told_by_dataset(dataset), **{MASK: load_node(phase, MASK, dtype="uint16")}))
    return bundles, rasters


def _as_dataset(spec: AlgorithmSpec, phase: str, given: Any) -> Any:
    """Return a DataArray as the Dataset of a phase that needs one band; anything else as it is.

    Raises
    ------
    InputError
        For a numpy array: nobody knows where it lies.
    """
    needs = spec.needs.get(phase, ())
    if len(needs) != 1:
        return given
    if isinstance(given, np.ndarray):
        raise InputError(
            f"algorithm {spec.name!r} was given a numpy array, which does not tell the size of its pixels.",
            "Give a DataArray with x and y of the pixels' centres: metres, or any CRS that is written down (raster.rio.write_crs).",
        )
    return given.to_dataset(name=needs[0]) if hasattr(given, "to_dataset") and hasattr(given, "dtype") else given


def _phases(spec: AlgorithmSpec, data: Sequence[Any]) -> dict[str, Any]:
    if len(data) == 1 and hasattr(data[0], "children"):
        tree = data[0]
        if not tree.children:
            return {next(iter(spec.needs)): tree.to_dataset()}
        leaves = {node.path.rsplit("/", 1)[-1]: node.to_dataset() for node in tree.leaves}
        return {phase: leaves[phase] for phase in spec.phases if phase in leaves}
    if len(data) > len(spec.phases):
        raise InputError(
            f"{spec.name} takes {len(spec.phases)} phases, {len(data)} were given.", f"In order: {', '.join(phase_order(spec))}."
        )
    given = zip(phase_order(spec), data, strict=False)
    return {p: (d.to_dataset() if hasattr(d, "children") else d) for p, d in given if d is not None}


def phase_order(spec: AlgorithmSpec) -> list[str]:
    """Return the phases in the order in which they are given: those that are needed first."""
    return sorted(spec.phases, key=lambda phase: phase not in spec.needs)


def _timed(array: xr.DataArray) -> xr.DataArray:
    return array if "time" in array.dims else array.expand_dims("time")


def _mask_of(bands: Sequence[xr.DataArray]) -> xr.DataArray:
    """Return a cause plane for rasters that came without one: nodata where any band is NaN."""
    missing = bands[0].isnull()
    for band in bands[1:]:
        missing = missing | band.isnull()
    return (missing * np.uint16(QC_FLAGS["nodata"])).astype("uint16")
