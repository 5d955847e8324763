"""Commands of mdive. Each one reads documents, calls one verb, and prints what it gave."""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mdive.cli import talk
from mdive.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NO_DATA, EXIT_OK, EXIT_PARTIAL, MdiveError, UsageError

if TYPE_CHECKING:
    from mdive.engine.report import Report
    from mdive.model import Event, Plan

app = typer.Typer(
    name="mdive",
    help="From (area, time window, event type) to a decision product.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 bad input, 4 no data, 5 partial, 130 interrupted.",
)

FEW_CYCLES = 50_000
"""Objects made before Python looks for cycles: its own 700 take 5 % of a run, most of it while modules are imported, which never go."""

STREAM_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EIO)

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

MAX_PLAN_BYTES = 256 * 1024**2
"""A plan is written by mdive and names every item: 100,000 items of four bands are some 100 MB."""


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mdive {version('mdive')}")
        raise typer.Exit


EventFile = Annotated[Path, typer.Option("--event", "-e", help="Event document (YAML or JSON).", show_default=False)]
EventOrPlan = Annotated[
    Path, typer.Option("--event", "-e", help="Event document, or a plan that `mdive plan --out` wrote.", show_default=False)
]
Catalog = Annotated[
    str | None, typer.Option("--catalog", "-c", help="Provider name, URL of a STAC API, or path of a catalogue. Default: the event's own.")
]
ProfileName = Annotated[
    str | None, typer.Option("--profile", help="edge, laptop, workstation or cluster: how much of the machine to take.")
]
RuntimeName = Annotated[str, typer.Option("--runtime", help="serial, threads, or a plugin's.")]
Workers = Annotated[int | None, typer.Option("--workers", "-j", help="Tiles in the making at once.")]
TileSize = Annotated[int | None, typer.Option("--tile-size", help="Tile edge in pixels; never changes a result.")]
Parameters = Annotated[list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Algorithm parameter; repeat for more.")]
Derive = Annotated[
    bool, typer.Option("--derive/--no-derive", help="Make static bands that the catalogue lacks from others first (height above drainage).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Run folder to write; must be new or empty.", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version and leave.")] = False,
) -> None:
    """From (area, time window, event type) to a decision product."""


@app.command()
def run(
    event: EventOrPlan,
    out: Out,
    catalog: Catalog = None,
    profile: ProfileName = None,
    runtime: RuntimeName = "threads",
    workers: Workers = None,
    tile_size: TileSize = None,
    param: Parameters = None,
    derive: Derive = True,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan and explain; read no pixel and write nothing.")] = False,
    verify_inputs: Annotated[
        bool, typer.Option("--verify-inputs", help="Compare whole files with their catalogue's checksums first.")
    ] = False,
) -> None:
    """Plan an event and run it into a folder; or run a plan that was made before."""
    import mdive
    from mdive.engine.run import check_out

    connected = mdive.connect(runtime, workers=workers)
    check_out(out)
    plan = _planned(event, catalog, profile, workers, tile_size, param, derive=derive)
    if dry_run:
        _explain(plan, workers, as_json=as_json)
        return
    with talk.progress() as watch:
        report = mdive.run(plan, out, runtime=connected, watch=watch, verify_inputs=verify_inputs)
    _end(report, as_json=as_json)


@app.command()
def plan(
    event: EventFile,
    catalog: Catalog = None,
    profile: ProfileName = None,
    workers: Workers = None,
    tile_size: TileSize = None,
    param: Parameters = None,
    derive: Derive = True,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the plan to this file.")] = None,
) -> None:
    """Search, choose and freeze: which observations, which algorithm, which grid, and why. Reads no pixel."""
    made = _plan(_event(event), catalog, profile, workers, tile_size, param, derive=derive)
    if out is not None:
        from mdive.products import write_json_atomic

        write_json_atomic(out, made.model_dump(mode="json", exclude_none=True))
    if as_json:
        _print_json(made.model_dump(mode="json", exclude_none=True))
        return
    talk.facts(
        f"plan {made.identity[:12]}",
        {
            "event": str(made.event.get("id", "")),
            "class": str(made.event_class["name"]),
            "catalogue": made.catalog,
            "algorithm": f"{made.algorithm.name} {made.algorithm.version}",
            "grid": f"{made.grid.shape[1]} x {made.grid.shape[0]} pixels of {made.grid.resolution:g} m, {made.grid.crs[:40]}",
            "tiles": f"{made.tiling.size} pixels",
            "products": ", ".join(made.products),
        },
    )
    talk.table("why", ("", ""), [(r.topic, r.text) for r in made.reasons])


@app.command()
def explain(
    event: EventOrPlan,
    catalog: Catalog = None,
    profile: ProfileName = None,
    workers: Workers = None,
    tile_size: TileSize = None,
    param: Parameters = None,
    as_json: AsJson = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no file for its header; requests and their bytes are then unknown.")
    ] = False,
) -> None:
    """Say what a plan will read, compute and hold, before it does. Reads the headers of files on servers, and no pixel."""
    made = _planned(event, catalog, profile, workers, tile_size, param)
    _explain(made, workers, as_json=as_json, headers=not offline)


@app.command()
def index(
    plan: Annotated[Path, typer.Argument(help="A plan that `mdive plan --out` wrote, or an event document.", show_default=False)],
    vrt: Annotated[Path | None, typer.Option("--vrt", help="Folder for VRT files: one per observation, with its bands.")] = None,
    gti: Annotated[Path | None, typer.Option("--gti", help="Folder for GTI files and the tile index that they share (GDAL 3.9).")] = None,
    catalog: Catalog = None,
) -> None:
    """Write what a plan reads as virtual rasters for QGIS. Reads the headers of files, and no pixel."""
    from mdive.engine.virtual import Form, write_virtual

    if vrt is None and gti is None:
        raise UsageError("there is nothing to write.", "Give --vrt FOLDER, --gti FOLDER, or both.")
    made = _planned(plan, catalog, None, None, None, None)
    wanted: list[tuple[Form, Path | None]] = [("vrt", vrt), ("gti", gti)]
    for form, folder in wanted:
        if folder is not None:
            written, left_out = write_virtual(made, folder, form)
            typer.echo(f"{folder}: {len(written)} files")
            for missing in left_out:
                typer.echo(f"left out: {missing.href}: {missing.reason}", err=True)


@app.command()
def resume(folder: Folder, runtime: RuntimeName = "threads", workers: Workers = None, as_json: AsJson = False) -> None:
    """Finish a run that was stopped; what its tiles had written is checked and used again."""
    import mdive

    with talk.progress() as watch:
        report = mdive.resume(folder, runtime=mdive.connect(runtime, workers=workers), watch=watch)
    _end(report, as_json=as_json)


@app.command()
def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Check a finished run against its manifest: every file, size, checksum and raster."""
    import mdive
    from mdive.products import verify_products

    report = mdive.open_run(folder)
    problems = [str(p) for p in verify_products(folder, report.manifest.model_dump(mode="json"))]
    if as_json:
        _print_json({"folder": str(folder), "ok": not problems, "problems": problems})
    elif problems:
        talk.table(f"{folder}: {len(problems)} problem(s)", ("",), [(p,) for p in problems])
    else:
        typer.echo(f"{folder}: {len(report.manifest.products)} files as the manifest says.")
    raise typer.Exit(EXIT_FAILED if problems else EXIT_OK)


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="Event documents.", show_default=False)], as_json: AsJson = False) -> None:
    """Check event documents, without searching or reading anything."""
    from mdive.engine.planning import check_event

    results = {}
    for file in files:
        event = _event(file)
        check_event(event)
        results[str(file)] = event.identity
    if as_json:
        _print_json({name: {"valid": True, "identity": identity} for name, identity in results.items()})
    else:
        for name in results:
            typer.echo(f"{name}: valid")


@app.command()
def algorithms(
    name: Annotated[str | None, typer.Argument(help="Show one algorithm with its parameters.")] = None, as_json: AsJson = False
) -> None:
    """List the installed algorithms, or the parameters of one."""
    from mdive.plugins.registry import algorithm_spec
    from mdive.plugins.registry import algorithms as installed

    specs = installed() if name is None else {name: algorithm_spec(name)}
    if as_json:
        fields = {
            n: {
                "version": s.version,
                "package": s.package,
                "summary": s.summary,
                "needs": dict(s.needs),
                "optional": dict(s.optional),
                "parameters": s.schema(),
            }
            for n, s in specs.items()
        }
        _print_json(fields)
        return
    if name is None:
        rows = [(n, s.version, ", ".join(f"{p}: {' '.join(b)}" for p, b in s.needs.items()), s.summary) for n, s in specs.items()]
        talk.table("algorithms", ("name", "version", "needs", "what it does"), rows)
        return
    spec = specs[name]
    typer.echo(f"{spec.name} {spec.version} ({spec.package})\n{spec.summary}\n")
    rows = [(n, repr(p["default"]), _limits(p), str(p.get("description", ""))) for n, p in spec.schema()["properties"].items()]
    talk.table("parameters", ("name", "default", "limits", "meaning"), rows)
    typer.echo("\nreferences: " + ", ".join(f"https://doi.org/{r}" for r in spec.references))


@app.command()
def providers(as_json: AsJson = False) -> None:
    """List the known catalogues and what they offer."""
    from mdive.providers import describe_providers

    rows = describe_providers()
    if as_json:
        _print_json(rows)
        return
    talk.table(
        "providers", ("name", "collection", "sensor", "what"), [(r["provider"], r["collection"], r["sensor"], r["title"]) for r in rows]
    )


@app.command()
def schema(name: Annotated[str | None, typer.Argument(help="event, plan, pipeline, ...; all names without one.")] = None) -> None:
    """Print the JSON Schema of a document."""
    from mdive.errors import InputError, nearest
    from mdive.model.schema import generate_schemas

    schemas = {k.removesuffix(".schema.json"): v for k, v in generate_schemas().items()}
    if name is None:
        for known in sorted(schemas):
            typer.echo(known)
        return
    if name not in schemas:
        raise InputError(f"no document {name!r}.{nearest(name, schemas)}", f"Documents: {', '.join(sorted(schemas))}.")
    _print_json(schemas[name])


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this installation has: versions, plugins, memory, cores."""
    from mdive.config import available_memory, memory_budget, worker_count
    from mdive.config import profile as profile_named
    from mdive.engine.planning import software
    from mdive.plugins.registry import algorithms as installed
    from mdive.plugins.registry import registry

    here = profile_named()
    installed()
    known = registry()
    conflicts = [f"{conflict} {conflict.way_out}" for conflict in known.conflicts()]
    result = {
        "software": software(),
        "profile": here.name,
        "workers": worker_count(here),
        "memory_free": available_memory(),
        "memory_budget": memory_budget(here),
        "kernel_cache": os.environ.get("NUMBA_CACHE_DIR", "beside the package or in the user's cache"),
        "algorithms": sorted(installed()),
        "plugins": sorted(known.plugins),
        "broken_plugins": [str(f) for f in known.failures],
        "conflicts": conflicts,
    }
    if as_json:
        _print_json(result)
        return
    talk.facts(
        "mdive doctor",
        {
            "versions": ", ".join(f"{k} {v}" for k, v in software().items()),
            "profile": f"{here.name}: {worker_count(here)} workers, {memory_budget(here) / 2**30:.1f} GiB of {available_memory() / 2**30:.1f} GiB free",
            "kernels": f"compiled ones kept in {result['kernel_cache']}"
            if "NUMBA_CACHE_DIR" in os.environ
            else "compiled ones kept beside the code",
            "algorithms": ", ".join(sorted(installed())),
            "plugins": ", ".join(sorted(known.plugins)),
            "broken": "; ".join(str(f) for f in known.failures) or "none",
            "conflicts": "; ".join(conflicts) or "none",
        },
    )


@app.command()
def demo(
    kind: Annotated[str, typer.Argument(help="flood or wildfire.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the synthetic event and its run.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another event.")] = 0,
    size_km: Annotated[float | None, typer.Option("--size-km", help="Edge of the area in km.")] = None,
    workers: Workers = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo in that folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a synthetic event with known truth, run it, score it: no network needed."""
    from mdive.cli.demo import run_demo

    target = out or Path("demo") / kind
    with talk.progress() as watch:
        result = run_demo(kind, target, seed=seed, size_km=size_km, workers=workers, force=force, watch=watch)
    if as_json:
        _print_json(result)
    else:
        typer.echo(f"F1 {result['f1']:.2f}")
        typer.echo(f"report: {result['report']}")


def _event(path: Path) -> Event:
    from mdive.model import load_event

    return load_event(path)


def _planned(
    path: Path,
    catalog: str | None,
    profile: str | None,
    workers: int | None,
    tile_size: int | None,
    param: list[str] | None,
    *,
    derive: bool = True,
) -> Plan:
    """Return the plan that a file holds, or make one of the event in it."""
    from mdive.model import Plan, load_document, load_mapping

    if path.suffix != ".json" or "pipeline" not in load_mapping(path, max_bytes=MAX_PLAN_BYTES):
        return _plan(_event(path), catalog, profile, workers, tile_size, param, derive=derive)
    given = {"--catalog": catalog, "--profile": profile, "--tile-size": tile_size, "--param": param, "--no-derive": not derive}
    if named := [name for name, value in given.items() if value]:
        raise UsageError(
            f"{path} is a plan, and {named[0]} would change it.", f"Make another: mdive plan --event EVENT {named[0]} ... --out PLAN."
        )
    return load_document(path, Plan, max_bytes=MAX_PLAN_BYTES)


def _plan(
    event: Event,
    catalog: str | None,
    profile: str | None,
    workers: int | None,
    tile_size: int | None,
    param: list[str] | None,
    *,
    derive: bool = True,
) -> Plan:
    import mdive

    given = _parameters(param or [])
    return mdive.plan(event, catalog=catalog, profile=profile, parameters=given, tile_size=tile_size, workers=workers, derive=derive)


def _parameters(given: list[str]) -> dict[str, Any]:
    import json

    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--param {text!r} is not NAME=VALUE.", "For instance --param minimum_mapping_unit=0.5.")
        try:
            values[name.strip()] = json.loads(value)
        except ValueError:
            values[name.strip()] = value
    return values


def _explain(plan: Plan, workers: int | None, *, as_json: bool, headers: bool = True) -> None:
    import mdive

    explanation = mdive.explain(plan, workers=workers, headers=headers)
    if as_json:
        _print_json(explanation.model_dump(mode="json", exclude_none=True))
    else:
        typer.echo(str(explanation))


def _end(report: Report, *, as_json: bool) -> NoReturn:
    if as_json:
        _print_json(
            {
                "folder": str(report.folder),
                "manifest": report.manifest.model_dump(mode="json"),
                "quality": report.quality.model_dump(mode="json"),
            }
        )
    else:
        typer.echo(str(report.folder / "report.html"))
        line = report.quality.headline
        talk.console().print(
            f"{report.decision.replace('_', ' ')}: {line.estimate_m2 / 1e6:.2f} km² [{line.low_m2 / 1e6:.2f}, {line.high_m2 / 1e6:.2f}], "
            f"{report.quality.observed_share:.1%} observed, grade {report.quality.grade}"
        )
    if report.status == "partial":
        raise typer.Exit(EXIT_PARTIAL)
    raise typer.Exit(EXIT_NO_DATA if report.decision == "not_observable" else EXIT_OK)


def _limits(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    return ", ".join(f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema)


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False))


KEPT = "Finished tiles are kept: `mdive resume FOLDER` goes on from them."


class _Terminated(BaseException):
    """SIGTERM: a queue or an operator wants the process to end. No KeyboardInterrupt, because typer answers that one itself."""


def _terminate(_signal: int, _frame: Any) -> NoReturn:
    raise _Terminated


def main() -> NoReturn:
    """Run the command line; every error of mdive is two lines and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(FEW_CYCLES, 20, 20)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without a sign (≥, km²) must not end a run
    try:
        _log_to_stderr()
        code = app(standalone_mode=False)
        if code == EXIT_INTERRUPTED:
            talk.refuse("interrupted.", KEPT)
    except MdiveError as error:
        talk.refuse(error.message, error.hint)
        code = error.exit_code
    except _Terminated:
        talk.refuse("stopped by SIGTERM.", KEPT)
        code = 128 + signal.SIGTERM
    except OSError as error:
        # Files of a run have errors of their own; what has no name here is a stream.
        code = _unheard(error) if error.filename is None and error.errno in STREAM_ERRORS else _unexpected(error)
    except Exception as error:  # noqa: BLE001 - the last door: no traceback at a user
        code = _unexpected(error)
    gc.freeze()  # a process that ends need not look for cycles in all that it has imported: half a second
    sys.exit(_flushed(code if isinstance(code, int) else EXIT_OK))


def _flushed(code: int) -> int:
    """Return the exit code, changed if stdout did not take what was said: data that did not arrive is a failure."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _unheard(error) or code
    return code


def _unheard(error: OSError) -> int:
    """Say that stdout could not be written; a reader that has left (``| head``) is no failure."""
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - the interpreter flushes it once more at its end
    if error.errno == errno.EPIPE:
        return EXIT_OK
    talk.refuse(f"stdout could not be written: {os.strerror(error.errno or 0)}.", "Send it to another place; what was run is complete.")
    return EXIT_FAILED


def _log_to_stderr() -> None:
    level = os.environ.get("MDIVE_LOG", "INFO").upper()
    if level not in LEVELS:
        raise UsageError(f"MDIVE_LOG={level.lower()} is no level of a log.", f"Choose {', '.join(name.lower() for name in LEVELS)}.")
    logging.basicConfig(level=level, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    for noisy in ("rasterio", "pyogrio", "botocore", "urllib3", "httpx", "numba", "distributed"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _unexpected(error: Exception) -> int:
    # typer carries its own click: its errors are known by what they can do, not by their class.
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        if hasattr(error, "show"):
            error.show()
        return code
    if os.environ.get("MDIVE_DEBUG"):
        raise error
    talk.refuse(f"{type(error).__name__}: {error}", "This is a defect of mdive: set MDIVE_DEBUG=1 for the traceback and report it.")
    return EXIT_FAILED
