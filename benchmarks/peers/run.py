"""Run mdive and its peers on the same workload, in turn, and say who takes how much.

The peers, the scenes and the server live in a folder of their own (``MDIVE_PEERS``), their packages in an environment of their own
(``MDIVE_PEERS_PYTHON``), so that mdive depends on none of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.job import ROOT, command, install_rule, write_job
from benchmarks.peers.measure import Cost, Server, Traffic, measure

MDIVE = "mdive"
BASES = ("odc_threads", "limit")
"""Peers that the others are compared with: what people use, and what physics allows."""

THREADS = {"file": 2, "http": 8}
"""Threads of the peers; as many as their authors would take for each kind of source. mdive is left to its own defaults."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run of one program."""

    work: str
    source: str
    program: str
    cost: Cost
    traffic: Traffic | None
    checksum: str


class Bench:
    """The peers' folder: workloads, scenes, programs."""

    def __init__(self, folder: Path, python: str, scratch: Path) -> None:
        self.folder, self.python, self.scratch = folder, python, scratch
        spec = importlib.util.spec_from_file_location("common", folder / "common.py")
        assert spec is not None
        assert spec.loader is not None
        self.common: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.common)

    @property
    def data(self) -> Path:
        """Where the scenes lie."""
        return Path(self.common.DATA)

    def peer(self, name: str, work: str, address: str, threads: int) -> tuple[Cost, str]:
        """Run a peer; return its cost and the checksum of its class raster."""
        out = self.scratch / f"{name}.tif"
        out.unlink(missing_ok=True)
        line = [self.python, str(self.folder / "peers.py"), name, "--work", work, "--src", address, "--out", str(out)]
        # The folder may be read-only; compiled kernels are kept from run to run all the same.
        env = {"S2DATA": str(self.data), "NUMBA_CACHE_DIR": str(self.scratch / "kernels"), "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
        cost = measure([*line, "--threads", str(threads)], env=env, cwd=self.folder, log=self.scratch / f"{name}.log")
        return cost, self.common.checksum(str(out))

    def mdive(self, work: str, address: str) -> tuple[Cost, str]:
        """Run mdive from the event to the manifest; return its cost and the checksum of its class raster."""
        job = Path(tempfile.mkdtemp(dir=self.scratch))
        items = [item.to_dict(include_self_link=False) for item in self.common.items(address, work)]
        days = sorted(str(day) for day in self.common.META["dates"])
        crs = f"EPSG:{self.common.META['epsg']}"
        event = write_job(job, items, self.common.bounds(work), crs, pre=days[0], post=days[-1])
        site = job / "site"
        site.mkdir()
        cost = measure(command(event, job / "out"), env=install_rule(site), cwd=ROOT, log=self.scratch / "mdive.log")
        total = self.common.checksum(str(job / "out" / "products" / "extent.tif"))
        shutil.rmtree(job)
        return cost, total


def run(bench: Bench, works: list[str], sources: list[str], programs: list[str], latency: float, repeats: int) -> Iterator[Row]:
    """Yield a row for each run; programs take turns, so that whatever else the machine does hits all of them."""
    with ExitStack() as stack:
        server = (
            stack.enter_context(closing(Server(bench.python, bench.folder / "rangeserver.py", bench.data))) if "http" in sources else None
        )
        for work in works:
            for source in sources:
                for turn in range(repeats):
                    # Each turn begins with another one: nobody always runs on the memory that the same neighbour left warm.
                    for program in programs[turn % len(programs) :] + programs[: turn % len(programs)]:
                        address = server.url if server and source == "http" else "file"
                        if server:
                            server.reset(latency)
                        made = bench.mdive(work, address) if program == MDIVE else bench.peer(program, work, address, THREADS[source])
                        yield Row(work, source, program, made[0], server.traffic() if server and source == "http" else None, made[1])


def table(rows: list[Row]) -> str:
    """Return the medians, and the ratios to the bases, as text; a class raster that is not the bases' own is marked."""
    lines = []
    for work, source in dict.fromkeys((r.work, r.source) for r in rows):
        here = [r for r in rows if (r.work, r.source) == (work, source)]
        programs = list(dict.fromkeys(r.program for r in here))
        cpu = {p: median(r.cost.cpu for r in here if r.program == p) for p in programs}
        wall = {p: median(r.cost.wall for r in here if r.program == p) for p in programs}
        bases = [b for b in BASES if b in programs]
        right = {r.checksum for r in here if r.program in bases} or {r.checksum for r in here}
        head = f"{'program':16}{'CPU s':>8}{'wall s':>8}{'RSS MiB':>9}" + "".join(f"{'CPU/' + b:>17}{'wall/' + b:>18}" for b in bases)
        web = source == "http"
        lines += ["", f"workload {work}, {source}, median of {len(here) // len(programs)}"]
        lines += [head + (f"{'requests':>10}{'HEAD':>6}{'MB':>9}{'again MB':>10}" if web else "") + "  pixels"]
        for p in sorted(programs, key=cpu.__getitem__):
            own = [r for r in here if r.program == p]
            text = f"{p:16}{cpu[p]:8.2f}{wall[p]:8.2f}{median(r.cost.rss for r in own):9.0f}"
            text += "".join(f"{cpu[p] / cpu[b]:17.2f}{wall[p] / wall[b]:18.2f}" for b in bases)
            met = [r.traffic for r in own if r.traffic is not None]
            if met:
                text += f"{median(t.requests for t in met):10.0f}{median(t.heads for t in met):6.0f}"
                text += f"{median(t.megabytes for t in met):9.1f}{median(t.repeated for t in met):10.1f}"
            same = {r.checksum for r in own} == right and len(right) == 1
            lines.append(f"{text}  {'same' if same else 'DIFFERENT'}")
    return "\n".join(lines)


def find_bench(scratch: Path) -> Bench | str:
    """Return the peers' folder, or the sentence that says what is missing."""
    given = os.environ.get("MDIVE_PEERS", "")
    folder = Path(given).resolve() if given else ROOT.parent / "shared" / "bench"
    if not (folder / "peers.py").is_file():
        return f"no peers: {folder} has no peers.py. Set MDIVE_PEERS to the folder that holds peers.py, common.py and rangeserver.py."
    python = os.environ.get("MDIVE_PEERS_PYTHON", "")
    if not python or shutil.which(python) is None:
        return "no peers: set MDIVE_PEERS_PYTHON to the Python that has their packages (README of their folder)."
    # Not resolved: the Python of an environment is a link, and the environment is where the link lies.
    bench = Bench(folder, str(Path(python).absolute()) if os.sep in python else python, scratch)
    if bench.common.META is None:
        return f"no scenes: {bench.data} has no meta.json. Make them with s2gen.py in {folder}, and set S2DATA to where they are."
    return bench


def main() -> int:
    """Measure and print; return 1 where class rasters differ, and 0 where there is nothing to compare with."""
    ask = argparse.ArgumentParser(prog="python -m benchmarks.peers.run", description=__doc__)
    ask.add_argument("--work", default="A,B", help="workloads, see the README of the peers' folder")
    ask.add_argument("--source", default="file,http", help="file, http or both")
    ask.add_argument("--programs", default=f"{MDIVE},limit,odc_threads,rio_threads")
    ask.add_argument("--latency", type=float, default=30.0, help="milliseconds before each answer over http")
    ask.add_argument("--repeats", type=int, default=3)
    ask.add_argument("--json", type=Path, help="append each run to this file, one per line")
    given = ask.parse_args()
    with tempfile.TemporaryDirectory(prefix="mdive-peers-") as scratch:
        bench = find_bench(Path(scratch))
        if isinstance(bench, str):
            print(bench, file=sys.stderr)
            return 0
        programs = given.programs.split(",")
        for _ in run(bench, ["S"], ["file"], programs, 0, 1):
            pass  # compiles kernels, warms imports
        rows = []
        for row in run(bench, given.work.split(","), given.source.split(","), programs, given.latency, given.repeats):
            rows.append(row)
            print(f"{row.work} {row.source} {row.program}: {row.cost.cpu:.2f} CPU-s, {row.cost.wall:.2f} s", file=sys.stderr, flush=True)
            if given.json:
                with given.json.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
    print(table(rows))
    return int(any(len({r.checksum for r in rows if r.work == work}) > 1 for work in {r.work for r in rows}))


if __name__ == "__main__":
    sys.exit(main())
