"""Operations and algorithms on arrays, cut into any tiles; speckle of known statistics; the folder of real data."""

import os
from pathlib import Path

import numpy as np
import pytest

from mdive.model.plan import Grid
from mdive.pipeline import Tiles, load_node
from mdive.pipeline.graph import Graph
from mdive.pipeline.lower import run_whole
from mdive.pipeline.operation import fill_of
from mdive.pipeline.strips import Arrays

MARGIN = 40


@pytest.fixture(scope="session")
def evaluate():
    """``evaluate(outputs, rasters, tiles, resolution)``: named nodes on named rasters, beyond which nothing is known."""

    def run(outputs, rasters, tiles=None, resolution=10.0):
        shape = next(iter(rasters.values())).shape[-2:]
        grid = Grid(crs="EPSG:32631", resolution=resolution, x0=500_000.0, y0=5_000_000.0, shape=shape)
        padded = {}
        for name, raster in rasters.items():
            width = [(0, 0)] * (raster.ndim - 2) + [(MARGIN, MARGIN)] * 2
            padded[name] = np.pad(raster, width, constant_values=1 if name == "mask" else fill_of(str(raster.dtype)))

        def load(source, bands, window):
            cut = (..., slice(window.row + MARGIN, window.row_end + MARGIN), slice(window.col + MARGIN, window.col_end + MARGIN))
            return Arrays({band: np.ascontiguousarray(padded[band][cut]) for band in bands})

        return run_whole(Graph(outputs), grid, tiles or Tiles.regular(shape, max(shape)), load)

    return run


@pytest.fixture(scope="session")
def tiled(evaluate):
    """``tiled(operation, *arrays, tiles=…, **parameters)``: one operation through the engine's own passes."""

    def run(operation, *arrays, tiles=None, resolution=10.0, **parameters):
        rasters = {f"r{i}": np.asarray(a) for i, a in enumerate(arrays) if a is not None}
        nodes = [None if a is None else load_node("s/post", f"r{i}", dtype=str(a.dtype), timed=a.ndim == 3) for i, a in enumerate(arrays)]
        return evaluate({"out": operation(*nodes, **parameters)}, rasters, tiles, resolution)["out"]

    return run


@pytest.fixture(scope="session")
def speckle():
    """``speckle(power, looks, seed)``: gamma speckle of so many looks on a field of mean power."""

    def make(power, looks=4.4, seed=1):
        noise = np.random.default_rng(seed).gamma(looks, 1.0 / looks, np.shape(power))
        return (power * noise).astype("float32")

    return make


@pytest.fixture(scope="session")
def real_data():
    """The folder of real scenes; skips where it is absent."""
    folder = Path(os.environ.get("MDIVE_REAL_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder} (set MDIVE_REAL_DATA)")
    return folder
