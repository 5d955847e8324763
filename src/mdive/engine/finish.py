"""From tiles to a decision product: rasters, polygons, areas, quality, ledger, provenance, STAC, report, and the manifest last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mdive.config import give_memory_back, settle_gdal
from mdive.engine.derive import FOLDER, is_derived, run_folder
from mdive.engine.folder import MANIFEST, STAGING, read_back
from mdive.engine.pipelines import PROBABILITY, spec_of
from mdive.engine.specs import CAUSE, POLYGONS, ZARR
from mdive.engine.work import PLAN_FILE, Job
from mdive.model.event_class import EventClass
from mdive.model.flags import CAUSES, QC_FLAGS
from mdive.model.manifest import Manifest, ProductFile
from mdive.model.plan import Plan
from mdive.model.product import RasterSpec
from mdive.model.provenance import Activity, AlgorithmUse, InputEntity, OutputEntity, Provenance
from mdive.model.quality import ClassArea, Quality
from mdive.pipeline import Window
from mdive.pipeline.lower import Blocks
from mdive.products import (
    Flagged,
    checksum,
    map_picture,
    publish,
    read_ledger,
    survey,
    write_cog,
    write_json_atomic,
    write_ledger,
    write_report,
    write_stac,
    write_zarr,
)
from mdive.products.zarr import MEDIA_TYPE as ZARR_TYPE
from mdive.provenance import read_inputs
from mdive.quality import FAILED_READS, HIGH_PROBABILITY, LOW_PROBABILITY, Evidence, assess

GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
PARQUET = "application/vnd.apache.parquet"
"""IANA media types of the products."""


@dataclass(frozen=True, slots=True)
class Written:
    """One staged file: the product's name, where it will be, and what it is."""

    name: str
    path: str
    media_type: str


def finish(job: Job, *, started: datetime, workers: int = 1) -> None:
    """Make all products of a run whose passes are done, and publish them.

    Everything is staged first and renamed when it is whole. A run that is killed in here starts this step again: it depends on nothing but
    the checkpoints.

    Parameters
    ----------
    job
        What was computed.
    started
        When the run began.
    workers
        Cores to use; twice as many rasters are written at once, each with the memory of a few blocks.
    """
    plan, folder = job.plan, job.folder
    staging = folder / STAGING
    staging.mkdir(exist_ok=True)
    settle_gdal()
    specs = spec_of(plan)
    give_memory_back()  # of the passes
    rows = ledger_rows(job) + [row for made in plan.derived for row in read_ledger(run_folder(folder, made) / "ledger.parquet")]
    layers = [specs[n] for n in job.graph.outputs if n in specs]
    # More threads than cores: of three layers on two cores, each would have one in the making and one core the third.
    with ThreadPoolExecutor(2 * workers if workers > 1 else 1, thread_name_prefix="mdive-write") as pool:
        written = list(pool.map(lambda spec: _raster(job, spec, staging), layers))
        paths = {w.name: staging / w.path for w in written}
        picture = pool.submit(map_picture, paths["extent"], specs["extent"], plan.grid, cause=paths[CAUSE.name])
        more = [pool.submit(_polygons, job, specs["extent"], paths, staging)] if POLYGONS in plan.products else []
        more += [pool.submit(_store, job, layers, staging)] if ZARR in plan.products else []
        quality = _quality(plan, specs, paths, rows, workers)
        written += [made.result() for made in more]
    give_memory_back()
    partial = any(c.name == FAILED_READS and c.status != "pass" for c in quality.checks)
    write_ledger(_under(staging, "ledger.parquet"), rows)
    write_json_atomic(staging / "quality.json", quality.model_dump(mode="json", exclude_none=True))
    written += [Written("ledger", "ledger.parquet", PARQUET), Written("quality", "quality.json", "application/json")]
    files = [_measured(w, staging) for w in written]
    provenance = _provenance(plan, files, started)
    write_json_atomic(staging / "provenance.json", provenance.model_dump(mode="json", exclude_none=True))
    page = _under(staging, "report.html")
    write_report(
        page,
        plan=plan,
        quality=quality,
        provenance=provenance,
        picture=picture.result(),
        specs=specs,
        bounded=PROBABILITY in paths,
        ledger=rows,
        partial=partial,
    )
    written += [Written("provenance", "provenance.json", "application/json"), Written("report", "report.html", "text/html")]
    listed = [f for f in files if f.name in {*specs, POLYGONS, ZARR}]
    ended, answer = provenance.activity.ended, _answer(quality)
    for name, path in write_stac(staging / "stac", plan=plan, files=listed, specs=specs, properties=answer, created=ended):
        written.append(
            Written(
                name,
                f"stac/{path.relative_to(staging / 'stac').as_posix()}",
                "application/geo+json" if name == "item" else "application/json",
            )
        )
    written += [Written(n, f, "application/json") for n, f in (("event", "event.json"), ("plan", PLAN_FILE))]
    written += [entry for made in plan.derived for entry in _listed(run_folder(folder, made), made.algorithm.name)]
    products = []
    for entry in written:
        source = staging / entry.path
        if source.exists():
            publish(source, _under(folder, entry.path))
        products.append(_measured(entry, folder))
    manifest = Manifest(
        run_id=job.scratch.identity[:16],
        plan_identity=plan.identity,
        status="partial" if partial else "complete",
        decision=quality.decision,
        products=tuple(products),
        created=provenance.activity.ended,
        software=plan.software,
    )
    write_json_atomic(folder / MANIFEST, manifest.model_dump(mode="json", exclude_none=True))


def _listed(folder: Path, name: str) -> list[Written]:
    """Return the files of a derived run, which the manifest of the run that it serves lists as well."""
    manifest = read_back(folder / MANIFEST, Manifest)
    files = [Written(f"{name} {p.name}", f"{FOLDER}/{name}/{p.path}", p.media_type) for p in manifest.products]
    return [*files, Written(f"{name} manifest", f"{FOLDER}/{name}/{MANIFEST}", "application/json")]


def ledger_rows(job: Job) -> list[dict[str, Any]]:
    """Return every failed read of a run, from the checkpoints of its tiles, in tile order.

    A band that several passes of a tile failed to read is one loss, not several: the row that lost most stands for it.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for pass_ in job.passes:
        for tile in range(len(job.tiles)):
            for row in job.scratch.tile(pass_.index, tile).facts["ledger"]:
                known = rows.setdefault((tile, row["source"], row["item"], row["band"]), row)
                if row["pixels"] > known["pixels"]:
                    known.update(row)
    return list(rows.values())


def raster_reader(job: Job, name: str) -> Callable[[Window], np.ndarray]:
    """Return a function that reads any window of a product from the checkpoints."""
    node = job.graph.outputs[name]
    index = next(p.index for p in job.passes if name in p.outputs)

    def read(window: Window) -> np.ndarray:
        places = {t: job.tiles[t] for t in job.tiles.touching(window)}
        return Blocks(node.fill, node.dtype, job.scratch.pieces(index, f"out/{name}", places)).read(window)

    return read


def _raster(job: Job, spec: RasterSpec, staging: Path) -> Written:
    path = f"products/{spec.name}.tif"
    write_cog(_under(staging, path), spec, job.plan.grid, raster_reader(job, spec.name), tags=_origin(job.plan))
    return Written(spec.name, path, GEOTIFF)


def _polygons(job: Job, spec: RasterSpec, paths: Mapping[str, Path], staging: Path) -> Written:
    from mdive.products import write_polygons  # a second of imports

    path = f"products/{POLYGONS}.parquet"
    write_polygons(_under(staging, path), paths["extent"], spec, job.plan.grid, probability_path=paths.get(PROBABILITY))
    return Written(POLYGONS, path, PARQUET)


def _store(job: Job, layers: Sequence[RasterSpec], staging: Path) -> Written:
    path = "products/cube.zarr"
    readers = {spec.name: raster_reader(job, spec.name) for spec in layers}
    write_zarr(_under(staging, path), layers, job.plan.grid, lambda name, window: readers[name](window), attributes=_origin(job.plan))
    return Written(ZARR, path, ZARR_TYPE)


def _origin(plan: Plan) -> dict[str, str]:
    """Return what a file says of its making; nothing that names a place: the same scenes in another folder or order give the same file."""
    return {
        "algorithm": f"{plan.algorithm.name} {plan.algorithm.version}",
        "references": " ".join(f"https://doi.org/{r}" for r in plan.algorithm.references),
    }


def _under(folder: Path, path: str) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _measured(entry: Written, folder: Path) -> ProductFile:
    sha, size = checksum(folder / entry.path)
    return ProductFile(name=entry.name, path=entry.path, media_type=entry.media_type, sha256=sha, size=size)


def _quality(plan: Plan, specs: Mapping[str, RasterSpec], paths: Mapping[str, Path], rows: list[dict[str, Any]], workers: int) -> Quality:
    kind = EventClass.model_validate(plan.event_class)
    found = frozenset(c.value for c in specs["extent"].classes if c.role in {"event", "reference"})
    happened = frozenset(c.value for c in specs["extent"].classes if c.role == "event")
    known = QC_FLAGS["permanent_water"]
    seen = survey(
        paths["extent"],
        specs["extent"],
        plan.grid,
        cause=paths[CAUSE.name],
        qc=paths["qc"],
        flags=(
            Flagged(QC_FLAGS["threshold_fallback"], observed=True),
            Flagged(QC_FLAGS["insufficient_background"], classes=happened),
            Flagged(known, observed=True),
            Flagged(known, observed=True, classes=found),
        ),
        probability=paths.get(PROBABILITY),
        workers=workers,
    )
    areas, causes = seen.areas, seen.causes
    fallback, unreferenced, known_m2, recalled = seen.flagged
    event = areas.area_m2("event")
    likely = areas.by_probability
    observed = causes["observed"].area_m2
    evidence = Evidence(
        area_m2=sum(c.area_m2 for c in causes.values()),
        observed_m2=observed,
        classes=[ClassArea(value=c.value, name=c.name, role=c.role, area_m2=c.area_m2) for c in areas.classes if c.role != "unobserved"],
        low_m2=likely.low(LOW_PROBABILITY) if likely else event,
        high_m2=likely.high(HIGH_PROBABILITY) if likely else event,
        unobserved={name: causes[name].area_m2 for _, name, _ in CAUSES if name != "observed" and causes[name].pixels},
        failed_reads=len({(r["source"], r["item"], r["band"]) for r in rows}),
        planned_reads=sum(len(i.assets) for p in (plan, *plan.derived) for s in p.sources if not is_derived(s) for i in s.items),
        tolerated_share=plan.event.get("intent", {}).get("max_failed_fraction", 0.0),
        fallback_share=min(1.0, fallback / observed) if observed else 0.0,
        unreferenced_m2=unreferenced,
        known_m2=known_m2,
        recalled_m2=recalled,
    )
    return assess(evidence, kind.limits, kind.significance)


def _answer(quality: Quality) -> dict[str, Any]:
    """Return what the STAC item says of the result, so that a catalogue of runs can be searched by it."""
    headline = quality.headline
    return {
        "mdive:decision": quality.decision,
        "mdive:grade": quality.grade,
        "mdive:observed_share": quality.observed_share,
        "mdive:event_area_m2": {"low": headline.low_m2, "estimate": headline.estimate_m2, "high": headline.high_m2},
    }


def _provenance(plan: Plan, files: list[ProductFile], started: datetime) -> Provenance:
    algorithm = plan.algorithm
    return Provenance(
        run_id=plan.identity[:16],
        inputs=tuple(InputEntity(**entry) for entry in read_inputs(plan)),
        activity=Activity(
            plan_identity=plan.identity,
            algorithm=AlgorithmUse(
                name=algorithm.name,
                version=algorithm.version,
                package=algorithm.package,
                parameters=algorithm.parameters,
                references=algorithm.references,
            ),
            started=started,
            ended=datetime.now(UTC),
            software=plan.software,
        ),
        outputs=tuple(OutputEntity(path=f.path, sha256=f.sha256, media_type=f.media_type) for f in sorted(files, key=lambda f: f.path)),
    )
