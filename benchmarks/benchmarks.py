"""Time, memory, tasks and traffic of the main job, as asv runs them; sizes are small enough for a laptop. Tests run the same classes on tiny events."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PEAK = """
import json, resource, sys
from pathlib import Path
import mdive
from mdive.model import load_event
folder = Path(sys.argv[1])
plan = mdive.plan(load_event(folder / "event.yaml"), catalog=str(folder / "catalog.json"))
mdive.run(plan, sys.argv[2])
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def run_apart(event: Path, out: Path) -> float:
    """Run an event in a process of its own, which has read nothing before; return its peak memory in MiB."""
    said = subprocess.run([sys.executable, "-c", PEAK, str(event), str(out)], check=True, capture_output=True, text=True)
    return json.loads(said.stdout) / 1024


class Served:
    """A folder behind a server of byte ranges on loopback, which counts."""

    def __init__(self, folder: Path) -> None:
        self.ranges: list[tuple[str, int, int]] = []
        ranges = self.ranges

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name = Path(self.path).name
                first, last = (int(n) for n in self.headers["Range"].removeprefix("bytes=").split("-"))
                data = (folder / name).read_bytes()
                part = data[first : last + 1]
                ranges.append((name, first, first + len(part)))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part)

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def catalogue(self, made: Path, copy: Path) -> Path:
        """Copy an event's documents; its assets lead to the server. Return the copy's folder."""
        copy.mkdir()
        for path in made.glob("*.json"):
            document = json.loads(path.read_text())
            for asset in document.get("assets", {}).values():
                asset["href"] = f"http://127.0.0.1:{self.server.server_port}/{Path(asset['href']).name}"
            (copy / path.name).write_text(json.dumps(document))
        shutil.copy(made / "event.yaml", copy)
        return copy

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Run:
    """A synthetic flood from plan to manifest: its files on this machine, or on a server."""

    params = ([5.0, 15.0], ["files", "http"])
    param_names = ("size_km", "source")
    timeout = 600
    number = 1
    repeat = 2

    def setup(self, size_km: float, source: str) -> None:
        import mdive
        from mdive.model import load_event
        from mdive.testing import make_flood_event

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.event = make_flood_event(self.folder / "event", size_km=size_km).folder
        self.served = Served(self.event) if source == "http" else None
        if self.served is not None:
            self.event = self.served.catalogue(self.event, self.folder / "remote")
        self.plan = mdive.plan(load_event(self.event / "event.yaml"), catalog=str(self.event / "catalog.json"))
        self.count = 0

    def teardown(self, size_km: float, source: str) -> None:
        if self.served is not None:
            self.served.close()
        self.temporary.cleanup()

    def out(self) -> Path:
        """Return a folder that no run has used."""
        self.count += 1
        return self.folder / f"run{self.count}"

    def traffic(self) -> list[tuple[str, int, int]]:
        """Return the ranges that a run asks for in a process of its own."""
        if self.served is None:
            return []
        self.served.ranges.clear()
        run_apart(self.event, self.out())
        return list(self.served.ranges)

    def time_run(self, size_km: float, source: str) -> None:
        import mdive

        mdive.run(self.plan, self.out())

    def track_tasks(self, size_km: float, source: str) -> int:
        """Keys of the dask graph: at most two for each tile and pass, and one for the whole."""
        import mdive

        return len(dict(mdive.analyse(self.plan)["extent"].__dask_graph__()))

    def track_requests(self, size_km: float, source: str) -> int:
        """As ``explain`` says."""
        return len(self.traffic())

    def track_bytes(self, size_km: float, source: str) -> int:
        """As ``explain`` says."""
        return sum(end - first for _, first, end in self.traffic())

    track_bytes.unit = "bytes"  # type: ignore[attr-defined]

    def track_peak_mib(self, size_km: float, source: str) -> float:
        return run_apart(self.event, self.out())

    track_peak_mib.unit = "MiB"  # type: ignore[attr-defined]


class Memory:
    """Peak resident memory of whole runs, each in a process of its own: it follows the tile, not the area."""

    timeout = 1200
    sizes_km = (31.6, 100.0)
    """Edges of 1,000 and 10,000 km²."""

    def setup_cache(self) -> dict[str, float]:
        return {str(size): self._peak(size) for size in self.sizes_km}

    setup_cache.timeout = 1200  # type: ignore[attr-defined]

    def _peak(self, size_km: float) -> float:
        from mdive.testing import make_flood_event

        with tempfile.TemporaryDirectory() as folder:
            made = make_flood_event(Path(folder) / "event", seed=1, size_km=size_km)
            return run_apart(made.folder, Path(folder) / "run")

    def track_peak_mib(self, peaks: dict[str, float]) -> float:
        return peaks[str(self.sizes_km[-1])]

    track_peak_mib.unit = "MiB"  # type: ignore[attr-defined]

    def track_ratio_of_ten_times_the_area(self, peaks: dict[str, float]) -> float:
        """At most 1.25."""
        small, large = (peaks[str(size)] for size in self.sizes_km)
        return large / small


class Import:
    """What ``import mdive`` costs: at most 0.3 s."""

    def time_import(self) -> None:
        subprocess.run([sys.executable, "-c", "import mdive"], check=True)
