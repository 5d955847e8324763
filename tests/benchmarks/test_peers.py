"""The rule that is measured beside the peers: through the whole engine it gives the pixels that plain numpy gives, on the same grid."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

ROOT = Path(__file__).resolve().parents[2]
CRS, LEFT, TOP, SIZE = "EPSG:32632", 350_000.0, 5_250_040.0, 400
BAD = (0, 1, 3, 8, 9, 10, 11)
PRE, POST = "2024-05-01", "2024-05-11"


def load(name):
    """Import a module of the benchmarks by its place: tests are run without the repository on ``sys.path``."""
    spec = importlib.util.spec_from_file_location(f"peers_{name}", ROOT / "benchmarks" / "peers" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def job():
    return load("job")


def scene(seed):
    """Return stored numbers by band as a Sentinel-2 scene has them: 10 m, and 20 m for B11 and SCL; each index of either sign."""
    random = np.random.default_rng(seed)
    numbers = {band: random.integers(1, 6000, (SIZE, SIZE)).astype("uint16") for band in ("B03", "B08")}
    numbers["B11"] = random.integers(1, 6000, (SIZE // 2, SIZE // 2)).astype("uint16")
    # Every code is there; most pixels are clear, or the run would find nothing to observe.
    numbers["SCL"] = random.choice(12, (SIZE // 2, SIZE // 2), p=[0.02] * 4 + [0.26] * 3 + [0.02] * 2 + [0.04] * 2 + [0.02]).astype("uint8")
    return numbers


def write_scene(folder, day, numbers):
    """Write a scene; return its STAC item, which says as little as the workload's."""
    folder.mkdir()
    assets = {}
    for band, pixels in numbers.items():
        step = 10.0 * SIZE / len(pixels)
        transform = from_origin(LEFT, TOP, step, step)
        profile = {"driver": "GTiff", "count": 1, "height": len(pixels), "width": len(pixels), "dtype": pixels.dtype, "nodata": 0}
        tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate", "predictor": 2}
        with rasterio.open(folder / f"{band}.tif", "w", crs=CRS, transform=transform, **profile, **tiles) as file:
            file.write(pixels, 1)
        assets[band] = {
            "href": str(folder / f"{band}.tif"),
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "proj:shape": list(pixels.shape),
            "proj:transform": list(transform)[:6],
            "raster:bands": [{"data_type": str(pixels.dtype), "nodata": 0, "spatial_resolution": step}],
            "roles": ["data"],
        }
    low, high = LEFT, LEFT + 10 * SIZE
    corners = [(low, TOP), (low, TOP - 10 * SIZE), (high, TOP - 10 * SIZE), (high, TOP), (low, TOP)]
    ring = [Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(*corner) for corner in corners]
    lon, lat = zip(*ring, strict=True)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": f"scene-{day}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(lon), min(lat), max(lon), max(lat)],
        "properties": {"platform": "sentinel-2a", "proj:code": CRS, "datetime": f"{day}T10:15:00Z"},
        "links": [],
        "assets": assets,
    }


def classes(pre, post):
    """Return the class raster of two scenes by the peers' formula."""

    def water(numbers):
        g, n, s, quality = (numbers[b].astype("float64") for b in ("B03", "B08", "B11", "SCL"))
        s, quality = (x.repeat(2, 0).repeat(2, 1) for x in (s, quality))
        return ((g - n) / (g + n) > 0) & ((g - s) / (g + s) > 0), np.isin(quality, BAD)

    (before, hidden), (after, covered) = water(pre), water(post)
    out = np.select([before & after, after, before], [1, 2, 3], 0).astype("uint8")
    out[hidden | covered] = 255
    return out


def test_the_rule_gives_the_peers_pixels_on_the_peers_grid(job, tmp_path):
    pre, post = scene(1), scene(2)
    # Equal bands are no water: the border of the rule itself.
    post["B03"][::7, ::5] = post["B08"][::7, ::5]
    items = [write_scene(tmp_path / day, day, numbers) for day, numbers in ((PRE, pre), (POST, post))]
    row, col, size = 37, 51, 300
    left, top = LEFT + 10 * col, TOP - 10 * row
    event = job.write_job(tmp_path, items, (left, top - 10 * size, left + 10 * size, top), CRS, pre=PRE, post=POST)
    site = tmp_path / "site"
    site.mkdir()
    line = job.command(event, tmp_path / "out", options=["--tile-size", "128"])
    said = subprocess.run(
        line, env={**os.environ, **job.install_rule(site)}, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert said.returncode == 0, said.stderr
    with rasterio.open(tmp_path / "out" / "products" / "extent.tif") as made:
        assert made.transform == from_origin(left, top, 10, 10)
        found = made.read(1)
    expected = classes(pre, post)[row : row + size, col : col + size]
    assert set(np.unique(expected)) == {0, 1, 2, 3, 255}
    np.testing.assert_array_equal(found, expected)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["status"] == "complete"


@pytest.mark.parametrize(
    ("x", "y", "size"), [(300_000.0, 5_300_040.0, 1), (320_000.0, 5_280_040.0, 3164), (304_000.0, 5_296_040.0, 20_000)]
)
def test_the_outline_covers_each_pixel_of_the_grid_and_no_other(job, x, y, size):
    from mdive.cube import area_mask, make_grid
    from mdive.pipeline import Window

    area = job.outline((x, y - 10 * size, x + 10 * size, y), CRS).geometry
    grid = make_grid(area, 10.0, CRS)
    assert (grid.x0, grid.y0, grid.shape) == (x, y, (size, size))
    for row, col in ((-8, -8), (-8, size - 8), (size - 8, -8), (size - 8, size - 8), (size // 2 - 8, -8), (-8, size // 2 - 8)):
        window = Window(row, col, 16, 16)
        rows, cols = np.arange(row, row + 16)[:, None], np.arange(col, col + 16)
        expected = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
        np.testing.assert_array_equal(area_mask(area, grid, window), expected)


def test_a_workload_off_the_grid_is_refused(job, tmp_path):
    with pytest.raises(ValueError, match="the workload is"):
        job.write_job(tmp_path, [], (LEFT + 4, TOP - 1000, LEFT + 1004, TOP), CRS, pre=PRE, post=POST)


def test_without_peers_it_says_so_and_fails_nothing(tmp_path):
    env = {**os.environ, "MDIVE_PEERS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.run"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert said.returncode == 0, said.stderr
    assert "Set MDIVE_PEERS" in said.stderr


def test_bytes_sent_twice_are_counted_once_each_time():
    repeated = load("measure")._repeated
    assert repeated([(0, 10), (10, 20)]) == 0
    assert repeated([(0, 10), (0, 10), (0, 10)]) == 20
    assert repeated([(0, 100), (10, 20), (90, 110)]) == 20


def test_cost_counts_the_children_too(tmp_path):
    measure = load("measure")
    child = "import time; x = bytearray(60_000_000); t = time.process_time()\nwhile time.process_time() - t < 0.3: pass\ntime.sleep(0.3)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    cost = measure.measure([sys.executable, "-c", parent], env={}, cwd=tmp_path, log=tmp_path / "log")
    assert cost.cpu >= 0.3
    assert cost.wall >= 0.6
    assert cost.rss >= 60
    with pytest.raises(RuntimeError, match="no such thing"):
        measure.measure([sys.executable, "-c", "raise SystemExit('no such thing')"], env={}, cwd=tmp_path, log=tmp_path / "log")
