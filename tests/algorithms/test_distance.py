"""Distance to a mask against scipy on the whole array, on any tiles; buffers against distance."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mdive.algorithms.distance import NONE, _weights, buffer, column_distance, distance, row_distance
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, Window, load_node
from mdive.pipeline.ground import pixel_sizes

GEOGRAPHIC = Grid(crs="EPSG:4326", resolution=0.0005, x0=10.0, y0=60.0, shape=(40, 50))


@st.composite
def masks(draw, most=21):
    shape = draw(st.integers(1, most)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.random(shape) < draw(st.sampled_from([0.0, 0.005, 0.03, 0.3, 1.0]))
    cut = [sorted(draw(st.sets(st.integers(1, n), max_size=6)) - {n}) for n in shape]
    return mask, Tiles(*((0, *inner, n) for inner, n in zip(cut, shape, strict=True)))


def corner(n=20):
    """One pixel far away, tiles of one pixel: each row hands one parabola through all tiles."""
    mask = np.zeros((n, n), bool)
    mask[0, 0] = True
    return mask, Tiles(tuple(range(n + 1)), tuple(range(n + 1)))


def stairs(n=21):
    """A parabola: each of its pixels is the nearest one somewhere to the right, so the envelope is as long as it gets."""
    mask = np.zeros((n, n), bool)
    for c in range(5):
        mask[min(c * c, n - 1), 4 - c] = True
    return mask, Tiles((0, 10, n), (0, 5, 11, n))


def truth(mask, sampling=(1, 1)):
    if not mask.any():
        return np.full(mask.shape, np.inf, "float32")
    return ndimage.distance_transform_edt(~mask, sampling=sampling).astype("float32")


@pytest.fixture(scope="session")
def cut(evaluate):
    def run(mask, tiles, **parameters):
        return evaluate({"out": distance(load_node("s/post", "m", dtype="bool", timed=False), **parameters)}, {"m": mask}, tiles)["out"]

    return run


@settings(max_examples=200)
@given(masks())
@example(corner())
@example(stairs())
def test_distance_is_scipys_to_the_last_bit(cut, case):
    mask, tiles = case
    np.testing.assert_array_equal(cut(mask, tiles, unit="pixels"), truth(mask))
    np.testing.assert_array_equal(cut(mask, tiles, unit="metres"), truth(mask, (10, 10)))


def test_metres_on_a_grid_in_degrees_know_that_pixels_are_not_square(evaluate):
    mask = np.random.default_rng(3).random(GEOGRAPHIC.shape) < 0.01
    high, wide, unit = _weights(GEOGRAPHIC, "metres")
    dx, dy = (float(size[0]) for size in pixel_sizes(GEOGRAPHIC, 20, 1))
    assert dx / dy == pytest.approx(0.5, abs=0.01)
    assert (high * unit, wide * unit) == pytest.approx((dy, dx), rel=1e-7)
    got = row_distance(column_distance(mask), grid=GEOGRAPHIC, unit="metres")
    np.testing.assert_allclose(got, truth(mask, (dy, dx)), rtol=3e-7)


def test_the_largest_grid_overflows_nothing():
    """One row of 400,000 columns on a grid whose pixels are not square, the nearest pixel at its other end."""
    n = 400_000
    grid = Grid(crs="EPSG:4326", resolution=0.0001, x0=0.0, y0=60.0, shape=(n, n))
    high, wide, unit = _weights(grid, "metres")
    columns = np.full((1, 4), NONE, "int32")
    columns[0, 3] = n - 1
    window = Window(0, n - 4, 1, 4)
    kept, part = row_distance.kernel(columns, window=window, grid=grid, unit="metres")
    assert part["left_count"].tolist() == [1]
    (state,) = row_distance.locality.solve(iter([(window, part)]), grid=grid, unit="metres")
    got = row_distance.locality.apply(kept, state, window=window, grid=grid, unit="metres")
    np.testing.assert_allclose(got[0], np.hypot(high * (n - 1), wide * np.array([3, 2, 1, 0])) * unit, rtol=1e-12)
    far = {"left_count": np.array([1]), "left_column": np.array([0], "int32"), "left_height": np.array([n - 1], "int32")}
    got = row_distance.locality.apply(np.full((1, 4), NONE, "int32"), {**state, **far}, window=window, grid=grid, unit="metres")
    np.testing.assert_allclose(got[0], np.hypot(high * (n - 1), wide * np.arange(n - 4, n)) * unit, rtol=1e-12)


def test_parts_follow_the_edge_not_the_area():
    for n in (200, 800):
        grid = Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=(10_000, 10_000))
        mask = np.random.default_rng(1).random((n, n)) < 0.02
        columns, part = column_distance.kernel(mask)
        assert sum(a.nbytes for a in part.values()) == 8 * n
        _, part = row_distance.kernel(columns, window=Window(3000, 3000, n, n), grid=grid, unit="pixels")
        assert sum(a.nbytes for a in part.values()) < 130 * n


@settings(max_examples=200)
@given(masks(), st.sampled_from([0.0, 9.9, 10.0, 14.2, 30.0, 50.0, 77.0]))
def test_a_buffer_is_where_the_distance_is_no_more(tiled, case, metres):
    mask, tiles = case
    # Five pixels of 10 m are (3, 4) away, too: 50 m is on the edge.
    np.testing.assert_array_equal(tiled(buffer, mask, tiles=tiles, metres=metres), truth(mask, (10, 10)) <= metres)


@pytest.mark.parametrize("metres", [20.0, 55.7, 300.0])
def test_a_buffer_in_degrees_is_round_on_the_ground_and_its_halo_no_larger_than_needed(metres):
    mask = np.zeros(GEOGRAPHIC.shape, bool)
    mask[20, 25] = True
    near = buffer(mask, grid=GEOGRAPHIC, metres=metres)
    np.testing.assert_array_equal(near, distance_of(mask) <= metres)
    rows, cols = np.nonzero(near)
    depth = buffer.locality.pixels({"metres": metres}, GEOGRAPHIC)
    assert depth == max(np.ptp(rows), np.ptp(cols)) // 2


def distance_of(mask):
    return row_distance(column_distance(mask), grid=GEOGRAPHIC)
