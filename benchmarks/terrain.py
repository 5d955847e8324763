"""Height above drainage of ever larger DEMs: ``python -m benchmarks.terrain``, and what asv tracks of it.

Fill, D8 with flats, accumulation, drainage and the height above it, from a file to a file, each run in a process of its own: ``mdive`` on a
lazy array, ``run`` by the whole engine (``mdive run``), and where a Python has them (``MDIVE_PEERS_PYTHON``) pyflwdir and pysheds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.peers.job import install_rule
from benchmarks.peers.measure import measure
from benchmarks.terrain_dem import edge_of, write_dem, write_event

SIZES = (1, 4, 16, 64)
"""Megapixels: doubled edges, so that a time that follows the area grows fourfold."""

DRAIN = 1000
"""Pixels upstream from which a pixel is drainage."""

START = """
import os, sys, time
import numpy as np
dem, out, small, threads, drain, tile = *sys.argv[1:4], *map(int, sys.argv[4:7])

def edge_of(path):
    return int((os.path.getsize(path) / 4) ** 0.5)
"""

END = """
# Imports and compiled loops are no part of the figures.
run(small, out)
wall, cpu = time.perf_counter(), time.process_time()
run(dem, out)
print(time.perf_counter() - wall, time.process_time() - cpu)
"""

MDIVE = """
import dask, dask.array as da, xarray as xr
from mdive.algorithms.terrain_accumulation import drainage_area
from mdive.algorithms.terrain_direction import steepest_descent
from mdive.algorithms.terrain_drain import at_drain, drains
from mdive.algorithms.terrain_fill import filled
from mdive.algorithms.terrain_flats import flow_direction
from mdive.algorithms.terrain_hand import height_above_drain
from mdive.pipeline import load_node
from mdive.pipeline.lift import compute

class File:
    # Pages of a mapped file would count as memory of the process.
    def __init__(self, path, edge, flags):
        self.file, self.edge = os.open(path, flags), edge
        self.shape, self.dtype, self.ndim = (edge, edge), np.dtype("float32"), 2
    def __getitem__(self, at):
        rows, cols = at
        block = np.empty((rows.stop - rows.start, cols.stop - cols.start), "float32")
        for i, row in enumerate(block):
            os.preadv(self.file, [row], 4 * ((rows.start + i) * self.edge + cols.start))
        return block
    def __setitem__(self, at, block):
        rows, cols = at
        for i, row in enumerate(np.ascontiguousarray(block, "float32")):
            os.pwrite(self.file, row, 4 * ((rows.start + i) * self.edge + cols.start))

def run(dem, out):
    edge = edge_of(dem)
    surface = filled(load_node("dem", "height", timed=False))
    direction = flow_direction(steepest_descent(surface))
    streams = drains(drainage_area(direction), None, drain_area=drain * 900e-6)
    hand = height_above_drain(surface, at_drain(direction, streams, surface))
    steps = 30.0 * (np.arange(edge) + 0.5)
    blocks = da.from_array(File(dem, edge, os.O_RDONLY), chunks=min(edge, tile), meta=np.empty((0, 0), "float32"))
    height = xr.DataArray(blocks, dims=("y", "x"), coords={"y": 30.0 * edge - steps, "x": 5e5 + steps})
    made = compute({"hand": hand}, {("dem", "height"): height})["hand"]
    with dask.config.set(scheduler="threads", num_workers=threads):
        da.store(made.data, File(out, edge, os.O_WRONLY | os.O_CREAT), lock=False)
"""

PYFLWDIR = """
import pyflwdir

def run(dem, out):
    height = np.fromfile(dem, "float32").reshape(edge_of(dem), -1)
    surface, direction = pyflwdir.dem.fill_depressions(height)
    flow = pyflwdir.from_array(direction, ftype="d8", check_ftype=False)
    flow.hand(flow.upstream_area("cell") >= drain, surface).astype("float32").tofile(out)
"""

PYSHEDS = """
np.in1d = np.isin  # pysheds calls it; numpy 2.4 has it no more
from affine import Affine
from pysheds.grid import Grid
from pysheds.sview import Raster, ViewFinder

def run(dem, out):
    edge = edge_of(dem)
    place = ViewFinder(affine=Affine(30, 0, 0, 0, -30, 0), shape=(edge, edge), nodata=np.float32(-9999))
    height = Raster(np.fromfile(dem, "float32").reshape(edge, edge), place)
    grid = Grid.from_raster(height)
    surface = grid.resolve_flats(grid.fill_depressions(grid.fill_pits(height)))
    direction = grid.flowdir(surface)
    upstream = grid.accumulation(direction)
    np.asarray(grid.compute_hand(direction, surface, upstream >= drain)).astype("float32").tofile(out)
"""

SCRIPTS = {"mdive": MDIVE, "pyflwdir": PYFLWDIR, "pysheds": PYSHEDS}
PEERS = ("pyflwdir", "pysheds")
PROGRAMS = ("mdive", "run", *PEERS)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run took."""

    seconds: float
    """From opening the DEM to the last byte of the result."""
    cpu: float
    """Seconds of all threads in the same time; other work on the machine hardly changes them."""
    peak: float
    """Resident memory of the process, MiB."""


def run_apart(
    program: str, dem: Path, *, threads: int = 2, tile: int = 512, python: str = sys.executable, out: Path | None = None
) -> Taken:
    """Run a program on a DEM in a process of its own, after a small one that does not count.

    Parameters
    ----------
    program
        One of ``SCRIPTS``.
    dem
        File of ``write_dem``.
    tile
        Edge of mdive's tiles in pixels; the peers have none.
    out
        Where the heights above drainage go; thrown away if not told.
    """
    with tempfile.TemporaryDirectory(dir=dem.parent) as name:
        folder = Path(name)
        small, out = folder / "small", out or folder / "hand"
        write_dem(small, 100)
        command = [python, "-c", START + SCRIPTS[program] + END, *map(str, (dem, out, small, threads, DRAIN, tile))]
        cost = measure(command, env={"NUMBA_NUM_THREADS": str(threads)}, cwd=folder, log=folder / "log")
        seconds, cpu = (float(number) for number in (folder / "log").read_text().split()[-2:])
        return Taken(seconds, cpu, cost.rss)


def run_engine(folder: Path, event: Path, *, threads: int = 2) -> Taken:
    """Run an event of ``write_event`` with ``mdive run``, from catalogue to manifest; imports, checkpoints, products and report included."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        here = Path(name)
        command = [sys.executable, "-m", "mdive", "run", "--event", str(event), "--out", str(here / "out"), "--workers", str(threads)]
        cost = measure(command, env=install_rule(here, "benchmarks.terrain_rule"), cwd=here, log=here / "log")
        assert (here / "out" / "manifest.json").is_file()
        return Taken(cost.wall, cost.cpu, cost.rss)


class Terrain:
    """Time and peak memory of the height above drainage, on ground with and without flats."""

    params = ([1, 4, 16], ["rough", "flat"])
    param_names = ("megapixels", "ground")
    timeout = 600

    def setup_cache(self) -> dict[str, tuple[float, float]]:
        found = {}
        with tempfile.TemporaryDirectory() as name:
            dem = Path(name) / "dem"
            for size in self.params[0]:
                for ground in self.params[1]:
                    write_dem(dem, edge_of(size), flat=ground == "flat")
                    taken = run_apart("mdive", dem)
                    found[f"{size} {ground}"] = taken.seconds, taken.peak
        return found

    setup_cache.timeout = 1200  # type: ignore[attr-defined]

    def track_seconds(self, found: dict[str, tuple[float, float]], megapixels: float, ground: str) -> float:
        return found[f"{megapixels} {ground}"][0]

    track_seconds.unit = "s"  # type: ignore[attr-defined]

    def track_peak_mib(self, found: dict[str, tuple[float, float]], megapixels: float, ground: str) -> float:
        return found[f"{megapixels} {ground}"][1]

    track_peak_mib.unit = "MiB"  # type: ignore[attr-defined]


def main() -> int:
    """Print a table: programs one after the other on each DEM."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megapixels", type=float, nargs="+", default=list(SIZES), help="sizes of the DEMs; 400 is 20,000 x 20,000")
    options.add_argument("--ground", nargs="+", choices=("rough", "flat"), default=["rough", "flat"])
    options.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--tile", type=int, default=512, help="edge of mdive's tiles in pixels")
    options.add_argument("--repeats", type=int, default=1, help="the fastest counts")
    options.add_argument("--json", type=Path, help="file to which each run is added as a line")
    given = options.parse_args()
    peers = os.environ.get("MDIVE_PEERS_PYTHON", "")
    if not peers and set(given.programs) & set(PEERS):
        sys.stderr.write("Without peers: set MDIVE_PEERS_PYTHON to a Python that has pyflwdir and pysheds.\n")
    print("| Mpx | ground | program | seconds | s / Mpx | CPU s | peak MiB |\n|---|---|---|---|---|---|---|")
    for size, ground, program in product(given.megapixels, given.ground, given.programs):
        if program in PEERS and not peers:
            continue
        with tempfile.TemporaryDirectory() as name:
            runs = _runs(Path(name), program, edge_of(size), ground == "flat", given, peers)
        best = min(runs, key=lambda taken: taken.seconds)
        print(
            f"| {size:g} | {ground} | {program} | {best.seconds:.2f} | {best.seconds / size:.3f} | {best.cpu:.2f} | {best.peak:.0f} |",
            flush=True,
        )
        if given.json:
            line = {
                "megapixels": size,
                "ground": ground,
                "program": program,
                "seconds": best.seconds,
                "cpu": best.cpu,
                "peak_mib": best.peak,
            }
            with given.json.open("a") as file:
                file.write(json.dumps(line) + "\n")
    return 0


def _runs(folder: Path, program: str, edge: int, flat: bool, given: argparse.Namespace, peers: str) -> list[Taken]:  # noqa: FBT001
    if program == "run":
        event = write_event(folder, edge, flat=flat)
        return [run_engine(folder, event, threads=given.threads) for _ in range(given.repeats)]
    dem, python = folder / "dem", peers if program in PEERS else sys.executable
    write_dem(dem, edge, flat=flat)
    return [run_apart(program, dem, threads=given.threads, tile=given.tile, python=python) for _ in range(given.repeats)]


if __name__ == "__main__":
    sys.exit(main())
