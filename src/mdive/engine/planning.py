"""Plan: search, choose, freeze, and say why. No pixel is read."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mdive.config import Profile, memory_budget, worker_count
from mdive.config import profile as profile_named
from mdive.cube import TileIndex, holds_a_centre, make_grid
from mdive.engine.choice import Choice, choose
from mdive.engine.derive import derived_source, makers, native_metres, padded, pixel_height, within
from mdive.engine.given import take_catalog, take_event, take_workers
from mdive.engine.pipelines import PROBABILITY, REQUIRED, trace
from mdive.engine.specs import product_names, raster_specs
from mdive.engine.tiling import check_size, footprint, tile_size, widest_halo
from mdive.errors import InputError, MdiveError, NoDataError, UsageError, nearest
from mdive.model.address import without_query
from mdive.model.event import Event
from mdive.model.event_class import Codes, EventClass, Significance
from mdive.model.intent import Intent
from mdive.model.plan import AlgorithmRef, Grid, Phase, Plan, Reason, Source, Tiling
from mdive.pipeline.graph import Graph
from mdive.pipeline.ground import pixel_metres
from mdive.pipeline.passes import split
from mdive.plugins import AlgorithmSpec
from mdive.plugins.registry import algorithm_spec, event_class
from mdive.providers import DEFAULT_PROVIDER, Catalog, candidates, open_catalog

FINER: Final = 1.05
"""From so many times the pixel of the grid on, a file's pixel is called coarser: a second of arc and the 30 m it is called differ by three per cent."""


def plan(
    event: Event,
    *,
    catalog: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    tile_size: int | None = None,
    workers: int | None = None,
    derive: bool = True,
) -> Plan:
    """Turn an event into a plan: which observations, which algorithm, which grid, and why.

    Parameters
    ----------
    event
        What happened where and when.
    catalog
        Provider name, URL of a STAC API, or path or URL of a static catalogue or stac-geoparquet file. Default: the event's own, else
        ``earth-search``.
    profile
        ``edge``, ``laptop``, ``workstation`` or ``cluster``: how much memory a run may take. Default: ``MDIVE_PROFILE``, else ``laptop``.
    parameters
        Algorithm parameters; they win over those of the event's intent.
    tile_size
        Tile edge in pixels. Default: what the profile's memory allows. It never changes a result.
    workers
        Tiles that will be computed at once, for the choice of the tile size. Default: the profile's.
    derive
        Whether static bands that the algorithm could use and the catalogue lacks may be made from others by an algorithm that runs first
        (height above the drainage from elevation).

    Returns
    -------
    The plan: a document that can be printed, saved, and run anywhere.

    Raises
    ------
    InputError
        If the event cannot be planned as it is written.
    NoDataError
        If the catalogue has acquisitions, but none that any algorithm of the event class could use.
    CatalogError
        If the catalogue cannot be searched.
    """
    event, catalog, workers = take_event(event, "plan"), take_catalog(catalog, "plan"), take_workers(workers, "plan")
    kind = _class_of(event)
    limits = profile_named(profile)
    reasons: list[Reason] = []
    intent = event.intent
    where = str(catalog or "") or event.catalog or DEFAULT_PROVIDER
    geometry = event.area.geometry
    windows = _windows(event, kind)
    recipe = _recipe(kind, intent.algorithm)
    opened = open_catalog(where)
    found = candidates(opened, geometry, windows, **_most(intent.max_observations))
    # From here on the catalogue is only named: a token in its address is nobody's business.
    where = without_query(where)
    choice = choose(found, recipe, where, windows, kind)
    reasons.extend(choice.reasons)
    spec = choice.spec
    bound = spec.bind({**intent.parameters, **(parameters or {})})
    products = _products(kind, spec, intent.products or ())
    resolution = intent.resolution or kind.default_resolution
    grid = make_grid(geometry, resolution, intent.crs)
    check_size(grid.shape)
    if not holds_a_centre(geometry, grid):
        raise InputError(f"no pixel of {resolution:g} m has its centre in the area.", "Give a larger area, or a finer intent.resolution.")
    reasons.append(
        Reason(topic="grid", text=f"{grid.shape[1]} x {grid.shape[0]} pixels of {resolution:g} m in {grid.crs}, our own, snapped.")
    )
    draft = _Draft(event, kind, where, grid, limits, tile_size, workers)
    derived: list[Plan] = []
    # Beside no observation at all they would tell nothing.
    for maker, bands in makers(spec, found.sources) if derive and any(s.observations for s in choice.sources) else ():
        try:
            made, why = _derived(draft, maker, bands, opened)
        except (InputError, NoDataError) as error:
            # The area can be planned; what goes beyond what can be computed is the ground around it.
            made, why = None, f"no {' and '.join(bands)}: {error.message}"
        reasons.append(Reason(topic="derived", text=why))
        if made is not None:
            derived.append(made)
            choice = choice.beside(derived_source(made, maker, bands))
    reasons.extend(_coarser(choice.sources, grid))
    return _frozen(draft, choice, bound, products, tuple(reasons), tuple(derived))


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a plan is made of, but its algorithm and sources."""

    event: Event
    kind: EventClass
    where: str
    """The catalogue's name."""
    grid: Grid
    limits: Profile
    tile_size: int | None
    workers: int | None


def _frozen(
    draft: _Draft,
    choice: Choice,
    parameters: Mapping[str, Any],
    products: tuple[str, ...],
    reasons: tuple[Reason, ...],
    derived: tuple[Plan, ...] = (),
) -> Plan:
    spec, event, grid = choice.spec, draft.event, draft.grid
    reference = AlgorithmRef(
        name=spec.name,
        version=spec.version,
        package=spec.package,
        parameters=dict(parameters),
        sources=choice.keys,
        references=spec.references,
    )
    rasters = [*REQUIRED, *(n for n in products if n in raster_specs(spec))]
    graph = trace(spec, reference, choice.sources, event.area.geometry.wkt, rasters)
    tiling = _tiling(graph, grid, choice.sources, draft.limits, draft.tile_size, draft.workers)
    check_size(grid.shape, tiling.size)
    return Plan(
        event={k: without_query(v) if k == "catalog" else v for k, v in event.model_dump(mode="json", exclude_none=True).items()},
        event_class=draft.kind.model_dump(mode="json", exclude_none=True),
        catalog=draft.where,
        sources=choice.sources,
        derived=derived,
        grid=grid,
        algorithm=reference,
        pipeline=graph.document(),
        products=products,
        reasons=reasons,
        tiling=tiling,
        profile=draft.limits.name,
        software=software(),
    )


def _derived(draft: _Draft, maker: AlgorithmSpec, bands: Sequence[str], opened: Catalog) -> tuple[Plan | None, str]:
    """Return the plan of an algorithm that makes static bands, on its own ground and pixels, and the sentence that says so."""
    event, what = draft.event, " and ".join(bands)
    around = padded(event.area, draft.grid.crs, maker.pad)
    found = candidates(opened, around.geometry, {"static": None})
    choice = choose(found, [(maker, None)], draft.where, {"static": None})
    area = within(around, choice.sources)
    if area is None:
        return None, f"no {what}: nothing of {', '.join(s.name for s in choice.sources)} lies in the area."
    grid = make_grid(area.geometry, native_metres(choice.sources, draft.grid.resolution), draft.grid.crs)
    # A class of its own: what is made is no event, and has none of its needs, names and codes.
    kind = EventClass(
        name=maker.name.partition(".")[0],
        title=" and ".join(o.long_name for o in maker.outputs if o.name in bands),
        description=maker.summary,
        children=(),
        needs=(),
        baseline=draft.kind.baseline,
        recipe=(),
        products=tuple(bands),
        limits={},
        significance=Significance(min_area_ha=0.0, min_share=0.0),
        default_resolution=grid.resolution,
        codes=Codes(),
    )
    # Whoever finds the run on its own shall not take it for a map of the event.
    ours = event.model_copy(
        update={
            "id": f"{event.id[: 63 - len(maker.name)]}-{maker.name.replace('.', '-')}",
            "event_class": kind.name,
            "description": kind.title,
            "area": area,
            "intent": Intent(algorithm=maker.name, max_failed_fraction=event.intent.max_failed_fraction),
        }
    )
    small = replace(draft, event=ours, kind=kind, grid=grid)
    plan = _frozen(small, choice, maker.bind({}), tuple(dict.fromkeys([*REQUIRED, *bands])), choice.reasons)
    return (
        plan,
        f"{what} by {maker.name} {maker.version}, on {grid.shape[1]} x {grid.shape[0]} pixels of {grid.resolution:g} m around the area.",
    )


def _coarser(sources: Iterable[Source], grid: Grid) -> Iterator[Reason]:
    """Yield, for each source, which bands were seen at larger pixels than those of the grid: the map shows no more of them than that."""
    edge = pixel_metres(grid)
    for source in sources:
        seen: dict[float, list[str]] = {}
        for band in source.bands:
            metres = max((pixel_height(item.assets[band]) for item in source.items if band in item.assets), default=0.0)
            if metres > FINER * edge:
                seen.setdefault(metres, []).append(band)
        if seen:
            told = "; ".join(f"{', '.join(bands)} at {metres:.3g} m" for metres, bands in sorted(seen.items()))
            yield Reason(topic="resolution", text=f"{source.name}: {told}; on pixels of {edge:.3g} m these are repeated or interpolated.")


def check_event(event: Event) -> None:
    """Refuse an event that no plan could be made of, as far as that can be told without a catalogue.

    Raises
    ------
    InputError
        Unknown event class, algorithm, product or parameter.
    """
    kind = _class_of(event)
    intent = event.intent
    if not kind.recipe and intent.algorithm is None:
        return
    specs = [spec for spec, _ in _recipe(kind, intent.algorithm)]
    # The catalogue decides which step of the recipe is taken: a product or parameter is wrong if no step knows it.
    problems: list[MdiveError] = []
    for spec in specs:
        try:
            spec.bind(dict(intent.parameters))
            _products(kind, spec, intent.products or ())
        except MdiveError as error:
            problems.append(error)
    if len(problems) == len(specs):
        raise problems[0]


def software() -> dict[str, str]:
    """Return the versions that took part in a result."""
    names = "mdive numpy scipy numba xarray dask odc-stac odc-loader odc-geo rasterio pyproj shapely zarr"
    found = {"python": platform.python_version()}
    for name in names.split():
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _class_of(event: Event) -> EventClass:
    if event.event_class is None:
        raise InputError(
            "the event has a description but no event_class.",
            "Add event_class, for instance `event_class: flood`; see `mdive schema event`.",
        )
    return event_class(event.event_class)


def _windows(event: Event, kind: EventClass) -> dict[Phase, tuple[Any, Any] | None]:
    baseline = event.baseline.resolve(event.window) if event.baseline is not None else None
    before = (baseline.start, baseline.end) if baseline else (event.window.start - kind.baseline.before, event.window.start)
    return {"pre": before, "post": (event.window.start, event.window.end), "static": None}


def _recipe(kind: EventClass, forced: str | None) -> list[tuple[AlgorithmSpec, Any]]:
    if forced is not None:
        return [(algorithm_spec(forced), None)]
    if not kind.recipe:
        raise NoDataError(
            f"no installed algorithm serves the event class {kind.name!r}.",
            "Install a plugin that does, or force one with intent.algorithm.",
        )
    return [(algorithm_spec(step.algorithm), step.when) for step in kind.recipe]


def _most(observations: int | None) -> dict[str, Any]:
    return {} if observations is None else {"max_observations": observations}


def _products(kind: EventClass, spec: AlgorithmSpec, asked: Sequence[str]) -> tuple[str, ...]:
    known = product_names(spec)
    for name in asked:
        if name not in known:
            raise InputError(f"{spec.name} makes no product {name!r}.", f"It makes: {', '.join(known)}.{nearest(name, known)}")
    wanted = asked or [n for n in kind.products if n in known]
    # The bounds of the headline come from the probability: without it a single number would look certain.
    bounds = [PROBABILITY] if PROBABILITY in known else []
    return tuple(dict.fromkeys([*REQUIRED, *bounds, *wanted]))


def _tiling(graph: Graph, grid: Grid, sources: Iterable[Source], limits: Profile, size: int | None, workers: int | None) -> Tiling:
    if size is not None:
        if size < 16:
            raise UsageError(f"a tile of {size} pixels is too small.", "Give --tile-size of 16 or more; 1024 to 4096 are usual.")
        return Tiling(size=size)
    sources = list(sources)
    passes = split(graph, grid)
    memory = footprint(graph, passes, {s.key: s for s in sources}).memory
    busy = worker_count(limits, workers)
    best = tile_size(memory, grid.shape, budget=memory_budget(limits), workers=busy, largest=limits.tile_size, halo=widest_halo(passes))
    row, col, block = TileIndex(sources, grid).block_anchor(sources)
    return Tiling(size=best, row_anchor=row % best, col_anchor=col % best) if block and best % block == 0 else Tiling(size=best)
