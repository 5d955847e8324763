"""Peak memory that ``explain`` says against what a run takes: ``python -m benchmarks.memory``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.measure import MIB, measure

RUN = """
import sys
from pathlib import Path
import mdive
from mdive.model import load_event
made, out, size, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
plan = mdive.plan(load_event(made / "event.yaml"), catalog=str(made / "catalog.json"), tile_size=size, workers=workers)
Path(out).with_suffix(".said").write_text(str(mdive.explain(plan, workers=workers).peak_memory))
mdive.run(plan, out, runtime=mdive.connect("threads", workers=workers))
"""

PLANS = [("radar", size, workers) for size in (256, 512, 1024, 1536, 2048) for workers in (1, 2)] + [
    ("optical", 1024, 2),
    ("optical", 2048, 2),
    ("fire", 1024, 2),
    ("fire", 2048, 1),
]


def main() -> int:
    """Run all plans, each in a process of its own, and print a table."""
    from mdive.testing import make_flood_event, make_wildfire_event

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size-km", type=float, default=31.6, help="edge of the area; 31.6 is 1,000 km²")
    given = options.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_flood_event(folder / "radar", seed=1, size_km=given.size_km)
        make_flood_event(folder / "optical", seed=1, size_km=given.size_km, sensors=("optical",))
        make_wildfire_event(folder / "fire", seed=1, size_km=2 * given.size_km)
        print("| event | tile | workers | said MiB | measured MiB | said / measured |\n|---|---|---|---|---|---|")
        for number, (event, size, workers) in enumerate(PLANS):
            out = folder / f"run{number}"
            cost = measure(
                [sys.executable, "-c", RUN, str(folder / event), str(out), str(size), str(workers)], env={}, cwd=folder, log=folder / "log"
            )
            said = int(out.with_suffix(".said").read_text()) / MIB
            wrong += not 0.75 <= said / cost.rss <= 1.25
            print(f"| {event} | {size} | {workers} | {said:.0f} | {cost.rss:.0f} | {said / cost.rss:.2f} |", flush=True)
    print(f"{wrong} of {len(PLANS)} plans are off by more than 25 %.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
