"""Time, memory and tasks of the main job, as asv runs them; sizes are small enough for a laptop."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PEAK = """
import json, resource, sys
from pathlib import Path
import mdive
from mdive.model import load_event
folder = Path(sys.argv[1])
plan = mdive.plan(load_event(folder / "event.yaml"), catalog=str(folder / "catalog.json"))
mdive.run(plan, folder / "run")
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


class Run:
    """A synthetic flood from plan to manifest."""

    params = (5.0, 15.0)
    param_names = ("size_km",)
    timeout = 600
    number = 1
    repeat = 2

    def setup(self, size_km: float) -> None:
        import mdive
        from mdive.model import load_event
        from mdive.testing import make_flood_event

        self.folder = tempfile.TemporaryDirectory()
        made = make_flood_event(Path(self.folder.name) / "event", size_km=size_km)
        self.plan = mdive.plan(load_event(made.event), catalog=str(made.catalog))
        self.count = 0

    def teardown(self, size_km: float) -> None:
        self.folder.cleanup()

    def time_run(self, size_km: float) -> None:
        import mdive

        self.count += 1
        mdive.run(self.plan, Path(self.folder.name) / f"run{self.count}")

    def track_tasks(self, size_km: float) -> int:
        import mdive

        return len(dict(mdive.analyse(self.plan)["extent"].__dask_graph__()))


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
            said = subprocess.run([sys.executable, "-c", PEAK, str(made.folder)], check=True, capture_output=True, text=True)
            return json.loads(said.stdout) / 1024

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
