"""The global toolbox is exact: each operation that looks across tiles gives the same bits on any tiles, through passes and through dask.

A failure prints the smallest case that hypothesis finds; the numbers of a case follow from its seed.
"""

import importlib

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mdive.algorithms import lattice
from mdive.algorithms.components import component_table, holes, hysteresis, label, sieve
from mdive.algorithms.distance import buffer, distance
from mdive.algorithms.draws import normal, uniform
from mdive.algorithms.lattice import lattice_histogram
from mdive.algorithms.looks import equivalent_looks
from mdive.algorithms.majority import majority_sieve
from mdive.algorithms.moments import moments
from mdive.algorithms.quantiles import median_deviation, quantiles
from mdive.algorithms.wildfire_offset import background
from mdive.pipeline import Global, Local, Reduction, Tiles, load_node, operation
from mdive.pipeline.graph import Graph
from mdive.pipeline.lift import compute
from mdive.pipeline.operation import Operation

MODULES = ("components", "distance", "lattice", "looks", "majority", "moments", "quantiles", "wildfire_offset")
"""Modules whose every global operation and reduction is in ``outputs``."""

KINDS = ("float", "integer", "flat", "noisy", "holed")


@operation(Local(), dtype="float64")
def told(like, state, /, *, window):
    """Spread the numbers of a state over the pixels, so that what was reduced can be seen in a raster."""
    numbers = np.concatenate([np.ravel(state[name]).astype("float64") for name in sorted(state)])
    rows, cols = np.ogrid[window.row : window.row_end, window.col : window.col_end]
    return numbers[(rows * 64 + cols) % len(numbers)] + 0 * like


def outputs():
    """All operations of the toolbox on five rasters; states are seen through ``told``."""
    v, m, s, o, k = (load_node("s", name, dtype=dtype, timed=False) for name, dtype in DTYPES.items())
    numbered = label(m)
    median, spread = median_deviation(v, k, zone_count=4)
    states = {
        "table": component_table(numbered, s),
        "quantiles": quantiles(v, q=(0.1, 0.5, 0.9)),
        "lower": quantiles(v, k, q=(0.3,), method="lower", zone_count=4),
        "median": median,
        "spread": spread,
        "moments": moments(k, v, v, step=1e-3, zone_count=4),
        "whole": moments(None, v, step=0.5),
        "lattice": lattice_histogram(v, None),
        "looks": equivalent_looks(v),
        "background": background(v, v),
    }
    rasters = {
        "label": numbered,
        "sides": label(m, neighbours=4),
        "hysteresis": hysteresis(s, m, minimum_area=0.03),
        "sieve": sieve(m, minimum_area=0.05),
        "holes": holes(m, o, minimum_area=0.2),
        "majority": majority_sieve(k, minimum_area=0.04),
        "distance": distance(s),
        "pixels": distance(m, unit="pixels"),
        "buffer": buffer(s, metres=30.0),
        "uniform": uniform(v, seed=1),
        "normal": normal(v, seed=2, draw=3),
    }
    return rasters | {name: told(uniform(v), state) for name, state in states.items()}


DTYPES = {"v": "float32", "m": "bool", "s": "bool", "o": "bool", "k": "uint8"}
EVERY = outputs()
GRAPH = Graph(EVERY)


def scene(kind, shape, seed):
    """Numbers around zero, a mask, a sparser one, what was observed, and classes, one of which is nodata."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 1.5) * 4
    values = {
        "float": smooth + 0.1 * noise,
        "integer": np.rint(3 * smooth),
        "flat": np.where(rng.random(shape) < 0.8, 0.25, smooth),
        "noisy": noise,
        "holed": smooth,
    }[kind].astype("float32")
    if kind == "holed":
        values[ndimage.gaussian_filter(rng.random(shape), 1) > 0.52] = np.nan
        values[rng.random(shape) < 0.05] = np.nan
    classes = np.digitize(values, [-0.5, 0.0, 0.5]).astype("uint8")
    classes[np.isnan(values)] = 255
    return {"v": values, "m": values > 0.1, "s": values > 1.0, "o": ~np.isnan(values), "k": classes}


@pytest.fixture(scope="module", autouse=True)
def _small_leaves():
    """Leaves of 5 pixels, so that tiles cut them and a scene has more than one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice, "LEAF", 50.0)
        yield


@st.composite
def cases(draw):
    side = st.integers(1, 26)
    shape = draw(st.tuples(side, side).filter(lambda s: s != (1, 1)))  # coordinates of one pixel do not tell how large it is
    cut = [sorted(draw(st.sets(st.integers(1, n), max_size=2)) - {n}) for n in shape]
    tiles = Tiles(*((0, *inner, n) for inner, n in zip(cut, shape, strict=True)))
    return draw(st.sampled_from(KINDS)), shape, draw(st.integers(0, 2**32 - 1)), tiles


def single(kind, n=7):
    return kind, (n, n), 5, Tiles(tuple(range(n + 1)), tuple(range(n + 1)))


@settings(max_examples=200)
@given(cases())
@example(single("float"))
@example(single("holed", 4))
@example(("flat", (1, 29), 0, Tiles((0, 1), (0, 7, 18, 29))))
@example(("noisy", (29, 1), 0, Tiles((0, 13, 29), (0, 1))))
def test_any_tiles_and_chunks_give_the_same_bits(evaluate, case):
    kind, shape, seed, tiles = case
    rasters = scene(kind, shape, seed)
    whole = evaluate(EVERY, rasters)
    passes = evaluate(EVERY, rasters, tiles)
    chunks = chunked(rasters, shape, tiles)
    for name, want in whole.items():
        for got, way in ((passes[name], "passes"), (chunks[name], "dask")):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want, err_msg=f"{name} through {way}")


def chunked(rasters, shape, tiles):
    rows, cols = (tuple(np.diff(edges).tolist()) for edges in (tiles.row_edges, tiles.col_edges))
    coords = {"y": 5_000_000.0 - 10 * np.arange(shape[0]) - 5, "x": 500_000.0 + 10 * np.arange(shape[1]) + 5}
    coords["spatial_ref"] = xr.DataArray(0, attrs={"crs_wkt": "EPSG:32631"})
    arrays = {("s", name): xr.DataArray(array, dims=("y", "x"), coords=coords).chunk(y=rows, x=cols) for name, array in rasters.items()}
    lazy = compute(EVERY, arrays)
    assert all(array.chunks is not None for array in lazy.values())
    return dask.compute({name: array.data for name, array in lazy.items()}, scheduler="sync")[0]


def test_every_operation_of_the_toolbox_is_here():
    tested = {node.operation.name for node in GRAPH if node.operation is not None}
    for module in MODULES:
        for value in vars(importlib.import_module(f"mdive.algorithms.{module}")).values():
            if isinstance(value, Operation) and isinstance(value.locality, Global | Reduction):
                assert value.name in tested


@pytest.mark.parametrize("kind", KINDS)
def test_the_scenes_leave_something_to_find(evaluate, kind):
    found = evaluate(EVERY, scene(kind, (70, 70), 3))
    for name in EVERY:
        if name not in {"looks", "background"}:
            assert len(np.unique(found[name])) > 1, name
