"""Time, memory and tasks of the main job, as asv runs them; sizes are small enough for a laptop."""

import subprocess
import sys
import tempfile
from pathlib import Path


class Run:
    """A synthetic flood from plan to manifest."""

    params = (5.0, 15.0)
    param_names = ("size_km",)
    timeout = 600
    number = 1
    repeat = 2

    def setup(self, size_km):
        import mdive
        from mdive.model import load_event
        from mdive.testing import make_flood_event

        self.folder = tempfile.TemporaryDirectory()
        made = make_flood_event(Path(self.folder.name) / "event", size_km=size_km)
        self.plan = mdive.plan(load_event(made.event), catalog=str(made.catalog))
        self.count = 0

    def teardown(self, size_km):
        self.folder.cleanup()

    def time_run(self, size_km):
        import mdive

        self.count += 1
        mdive.run(self.plan, Path(self.folder.name) / f"run{self.count}")

    def peakmem_run(self, size_km):
        self.time_run(size_km)

    def track_tasks(self, size_km):
        import mdive

        return len(dict(mdive.analyse(self.plan)["extent"].__dask_graph__()))


class Import:
    """What `import mdive` costs."""

    def time_import(self):
        subprocess.run([sys.executable, "-c", "import mdive"], check=True)
