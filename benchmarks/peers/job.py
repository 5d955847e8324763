"""What mdive is given: scenes as a static catalogue, an event whose grid is exactly the workload's, and the rule as an installed plugin."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pystac
import yaml
from pyproj import Transformer

from mdive.cube import make_grid
from mdive.model import Area
from mdive.model.plan import Grid

ROOT = Path(__file__).resolve().parents[2]
RESOLUTION = 10.0

COMMON_NAMES = {"B03": "green", "B08": "nir", "B11": "swir16"}
SCALE = 1e-4
"""Reflectance per stored number."""

INSET = 1.0
"""Metres that the area stays within the grid's edge: less than the half pixel to the outermost centres, more than the sagitta of a side."""

STEP = 1_000.0
"""Metres between the outline's points."""

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top in metres."""


def outline(bounds: Bounds, crs: str) -> Area:
    """Return the area in longitude and latitude that holds the centres of all pixels within some bounds, and no other."""
    left, bottom, right, top = bounds[0] + INSET, bounds[1] + INSET, bounds[2] - INSET, bounds[3] - INSET
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    points = []
    for (xa, ya), (xb, yb) in pairwise(corners):
        pieces = max(1, round(max(abs(xb - xa), abs(yb - ya)) / STEP))
        points += [(xa + (xb - xa) * k / pieces, ya + (yb - ya) * k / pieces) for k in range(pieces)]
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    ring = [to_degrees.transform(*point) for point in (*points, points[0])]
    return Area.from_geojson({"type": "Polygon", "coordinates": [ring]})


def write_job(folder: Path, items: Iterable[Mapping[str, Any]], bounds: Bounds, crs: str, *, pre: str, post: str) -> Path:
    """Write a catalogue and an event; return the event's path.

    Parameters
    ----------
    folder
        Where to write; must be there.
    items
        STAC items as JSON, with absolute addresses, of two days.
    bounds, crs
        What to map; multiples of ``RESOLUTION``.
    pre, post
        The days of the scenes, as ISO dates.

    Raises
    ------
    ValueError
        If mdive's grid would be another one than that of the bounds.
    """
    catalog = pystac.Catalog("workload", "Scenes of a workload.", catalog_type=pystac.CatalogType.SELF_CONTAINED)
    catalog.add_items([pystac.Item.from_dict(_with_numbers(item)) for item in items])
    catalog.normalize_and_save(str(folder / "catalog"))
    area = outline(bounds, crs)
    _check_grid(make_grid(area.geometry, RESOLUTION, crs), bounds, crs)
    assert area.geojson is not None
    event = {
        "id": "workload",
        "event_class": "bench_change",
        "area": {"geojson": area.geojson.model_dump(mode="json")},
        "window": {"start": post, "end": post},
        "baseline": {"start": pre, "end": pre},
        "catalog": str(folder / "catalog" / "catalog.json"),
        "intent": {"crs": crs, "resolution": RESOLUTION, "products": ["extent"], "max_observations": 1},
    }
    path = folder / "event.yaml"
    path.write_text(yaml.safe_dump(event, sort_keys=False))
    return path


def _with_numbers(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item that also says what its numbers mean: mdive refuses stored integers without a scale."""
    said = copy.deepcopy(dict(item))
    for name, asset in said["assets"].items():
        bands = asset.setdefault("raster:bands", [{}])
        if name in COMMON_NAMES:
            asset["eo:bands"] = [{"name": name, "common_name": COMMON_NAMES[name]}]
            bands[0].update(scale=SCALE, offset=0.0)
    return said


def _check_grid(grid: Grid, bounds: Bounds, crs: str) -> None:
    left, bottom, right, top = bounds
    rows, cols = round((top - bottom) / RESOLUTION), round((right - left) / RESOLUTION)
    wanted = Grid(crs=crs, resolution=RESOLUTION, x0=left, y0=top, shape=(rows, cols))
    if grid != wanted:
        raise ValueError(f"mdive would compute on {grid}, the workload is {wanted}")


def install_rule(folder: Path, module: str = "benchmarks.peers.rule") -> dict[str, str]:
    """Write the metadata of an installed package that brings a rule; return the environment that makes Python find it."""
    info = folder / "mdive_bench-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mdive-bench\nVersion: 1.0.0\n")
    (info / "entry_points.txt").write_text(f"[mdive]\nbench = {module}\n")
    known = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join([p for p in (known, str(ROOT), str(folder)) if p])}


def command(event: Path, out: Path, *, options: Sequence[str] = ()) -> list[str]:
    """Return the command line that a user would type."""
    return [sys.executable, "-m", "mdive", "run", "--event", str(event), "--out", str(out), *options]
