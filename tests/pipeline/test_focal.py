"""Windows in pixels and in metres, on grids in metres, feet and degrees."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.pipeline import Focal, Tiles, load_node, operation
from mdive.pipeline.graph import Graph
from mdive.pipeline.ground import pixels_within
from mdive.pipeline.lower import run_whole
from mdive.pipeline.strips import Arrays


def grid(crs="EPSG:32631", resolution=10.0, y0=5_000_000.0):
    return Grid(crs=crs, resolution=resolution, x0=0.0, y0=y0, shape=(30, 40))


@operation(Focal(metres="radius", least=1), dtype="float32")
def highest(values, /, *, grid, radius=25.0):
    """The largest number within a square window: depends on all of its halo and on nothing beyond."""
    n = max(1, pixels_within(radius, grid))
    rows, cols = values.shape
    wide = np.pad(values, n, constant_values=-np.inf)
    return np.max([wide[r : r + rows, c : c + cols] for r in range(2 * n + 1) for c in range(2 * n + 1)], axis=0)


@pytest.mark.parametrize(
    ("where", "metres", "pixels"),
    [
        (grid(), 25.0, 2),
        (grid(), 60.0, 6),
        (grid(resolution=0.1), 0.3, 3),  # 0.3 / 0.1 is a little less than three
        (grid(resolution=30.0), 25.0, 0),
        (grid(crs="EPSG:2263", resolution=100.0, y0=200_000.0), 61.0, 2),  # US survey feet: 30.48 m
        (grid(crs="EPSG:4326", resolution=1 / 3600, y0=0.004), 60.0, 1),  # at the equator 30.8 m
        (grid(crs="EPSG:4326", resolution=1 / 3600, y0=0.004), 62.0, 2),
        (grid(crs="EPSG:4326", resolution=1 / 3600, y0=60.0), 62.0, 2),  # at 60 degrees 15.5 m wide and 30.9 m high: as large as 21.9 m
        (grid(crs="EPSG:4326", resolution=1 / 3600, y0=60.0), 66.0, 3),
        (grid(crs="EPSG:3857", resolution=10.0, y0=8_400_000.0), 30.1, 6),  # at 60 degrees a metre of Web Mercator is half of one
    ],
)
def test_metres_become_pixels_of_the_grid(where, metres, pixels):
    assert pixels_within(metres, where) == pixels
    assert Focal(metres=metres).pixels({}, where) == pixels
    assert Focal(metres="reach").pixels({"reach": metres}, where) == pixels
    assert Focal(metres=metres, least=1).pixels({}, where) == max(1, pixels)


def test_pixels_are_pixels_on_any_grid():
    for where in (grid(), grid(crs="EPSG:4326", resolution=0.001, y0=60.0)):
        assert Focal(3).pixels({}, where) == Focal(depth=3).pixels({}, where) == 3
        assert Focal(lambda parameters, _: parameters["n"] + 1).pixels({"n": 4}, where) == 5


@pytest.mark.parametrize("given_", [{}, {"depth": 2, "metres": 60.0}])
def test_one_of_both_is_given(given_):
    with pytest.raises(TypeError, match="in pixels"):
        Focal(**given_)


def test_only_windows_in_metres_ask_how_large_a_pixel_is():
    assert Focal(metres=60.0).measures
    assert Focal(lambda parameters, grid: 1).measures
    assert not Focal(2).measures
    values = xr.DataArray(np.zeros((5, 5), "float32"), dims=("y", "x"))
    with pytest.raises(InputError, match="size of a pixel"):
        highest(values)


@settings(max_examples=50)
@given(st.data())
def test_any_tiles_give_the_same_bits_in_degrees_too(data):
    where = grid(crs="EPSG:4326", resolution=1 / 3600, y0=60.0)
    values = np.random.default_rng(1).random((80, 90)).astype("float32")

    def load(source, bands, window):
        return Arrays({"v": np.ascontiguousarray(values[window.row + 25 : window.row_end + 25, window.col + 25 : window.col_end + 25])})

    graph = Graph({"out": highest(highest(load_node("s", "v", timed=False), radius=data.draw(st.sampled_from([0.0, 70.0]))), radius=50.0)})
    rows, cols = (sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=4))) for n in where.shape)
    tiles = Tiles((0, *rows, 30), (0, *cols, 40))
    whole = run_whole(graph, where, Tiles((0, 30), (0, 40)), load)["out"]
    np.testing.assert_array_equal(run_whole(graph, where, tiles, load)["out"], whole)
