"""Builders for small files and the plan's documents about them; real files, no mocks."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from shapely.geometry import box, mapping

from mdive.cube import native
from mdive.cube.files import close_files
from mdive.cube.native import NativeFiles
from mdive.cube.patience import Patience
from mdive.cube.store import BlockStore
from mdive.cube.web import Web
from mdive.model.plan import AssetRef, Grid, ItemRef, MaskRule, Observation, Source

DAY = dt.datetime(2024, 10, 30, 10, 50, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_files()


@pytest.fixture(scope="session")
def real_data() -> Path:
    root = Path(os.environ.get("MDIVE_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not (root / "cases").is_dir():
        pytest.skip(f"no real data at {root}; set MDIVE_REAL_DATA to the folder that holds cases/")
    return root


@pytest.fixture
def write(tmp_path):
    """Write an array as a tiled GeoTIFF; return its AssetRef."""

    def make(name, pixels, *, x0, y0, res, crs="EPSG:32630", nodata=None, claim=True, block=64, compress="deflate", **asset):
        path = tmp_path / f"{name}.tif"
        pixels = np.asarray(pixels)
        pixels = pixels[None] if pixels.ndim == 2 else pixels
        rx, ry = res if isinstance(res, tuple) else (res, res)
        transform = Affine(rx, 0, x0, 0, -ry, y0)
        profile = {"driver": "GTiff", "width": pixels.shape[2], "height": pixels.shape[1], "count": pixels.shape[0], "dtype": pixels.dtype}
        with rasterio.open(
            path, "w", **profile, crs=crs, transform=transform, tiled=True, blockxsize=block, blockysize=block, compress=compress
        ) as dataset:
            dataset.write(pixels)
        claimed = {"crs": crs, "transform": tuple(transform)[:6], "shape": pixels.shape[1:]} if claim else {}
        return AssetRef(href=str(path), dtype=str(pixels.dtype), nodata=nodata, **{**claimed, **asset})

    return make


@pytest.fixture
def item():
    """Return an ItemRef around assets; its footprint is that of the first asset unless given."""

    def make(name, assets, *, geometry=None, href=None, when=DAY):
        first = next(iter(assets.values()), None)
        if geometry is None and first is not None and first.shape:
            a, _, c, _, e, f = first.transform
            rows, cols = first.shape
            native = mapping(box(c, f + e * rows, c + a * cols, f).segmentize(max(a * cols, -e * rows) / 20))
            geometry = transform_geom(first.crs, "EPSG:4326", native)
        return ItemRef(id=name, collection="c", datetime=when, geometry=geometry, assets=assets, href=href)

    return make


@pytest.fixture
def source():
    """Return a Source: one observation with all items in order, unless observations (tuples of item ids) are given."""

    def make(*items, mask: MaskRule | None = None, observations=None, bands=None, sensor="optical"):
        groups = observations or [tuple(i.id for i in items)]
        seen = tuple(Observation(id=f"o{n}", datetime=DAY + dt.timedelta(days=n), items=tuple(group)) for n, group in enumerate(groups))
        quality = mask.band if mask else None
        known = bands or tuple(dict.fromkeys(b for i in items for b in i.assets if b != quality))
        return Source(name="sat", phase="post", sensor=sensor, bands=tuple(known), mask=mask, observations=seen, items=tuple(items))

    return make


@pytest.fixture
def grid():
    """Return a Grid near 600000 E, 4000000 N."""

    def make(shape=(100, 120), *, res=10.0, x0=600000.0, y0=4000000.0, crs="EPSG:32630"):
        return Grid(crs=crs, resolution=res, x0=x0, y0=y0, shape=shape)

    return make


@pytest.fixture
def server(faulty):
    """Serve `FaultyServer.files`; the process has met no server before."""
    return faulty


@pytest.fixture
def new_process(monkeypatch):
    """``new_process(clock)`` returns what begins a new process's reading, by a clock of its own and with pauses that take no time."""

    def start(clock):
        def make():
            close_files()
            files = NativeFiles(BlockStore(2**28), 16)
            files._web = Web(16, Patience(sleep=lambda _: None), clock=clock)
            monkeypatch.setattr(native, "_files", files)
            return files._web

        monkeypatch.setattr("mdive.cube.files.FIRST_PAUSE", 0.0)
        make()
        return make

    return start


@pytest.fixture(params=["deflate", "lzw"], ids=["ours", "gdal's"])
def packing(request):
    """Compression of the files: one that mdive reads itself, and one that GDAL reads."""
    return request.param
