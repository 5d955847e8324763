"""Water level from the nearest edge, against looking at all pixels of the edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdive.algorithms.boundary_depth import boundary_level, level_depth
from mdive.model.plan import Grid
from mdive.pipeline import Tiles


def brute(wet, dry, height, reach, size=10.0):
    """Height of the nearest wet pixel that touches a dry one; ties: the lowest."""
    rows, cols = wet.shape
    edge = [
        (r, c)
        for r in range(rows)
        for c in range(cols)
        if wet[r, c] and np.isfinite(height[r, c]) and dry[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].any()
    ]
    out = np.full(wet.shape, np.nan, "float32")
    for r, c in zip(*np.nonzero(wet), strict=True):
        near = sorted((((i - r) * size) ** 2 + ((j - c) * size) ** 2, height[i, j]) for i, j in edge)
        if near and near[0][0] <= reach * reach:
            out[r, c] = near[0][1]
    return out


def cuts(length):
    return st.sets(st.integers(1, length - 1), max_size=length - 1).map(lambda s: (0, *sorted(s), length))


@st.composite
def cases(draw):
    shape = draw(st.integers(2, 17)), draw(st.integers(2, 17))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    state = rng.choice(3, shape, p=rng.dirichlet([2, 1, 1]))
    height = rng.choice([rng.normal(0, 2, shape), rng.integers(0, 3, shape), np.zeros(shape)]).astype("float32")
    height[rng.random(shape) < draw(st.sampled_from([0, 0.1]))] = np.nan
    return (
        state == 0,
        state == 1,
        height,
        draw(st.sampled_from([10.0, 25.0, 60.0, 300.0])),
        Tiles(draw(cuts(shape[0])), draw(cuts(shape[1]))),
    )


@settings(max_examples=200)
@given(cases())
def test_level_is_that_of_the_nearest_edge_in_any_tiling(tiled, case):
    wet, dry, height, reach, tiles = case
    whole = tiled(boundary_level, wet, dry, height, distance=reach)
    np.testing.assert_array_equal(whole, brute(wet, dry, height, reach))
    np.testing.assert_array_equal(tiled(boundary_level, wet, dry, height, tiles=tiles, distance=reach), whole)


def test_a_bowl_that_is_filled_to_a_level_has_its_depth_back():
    rows, cols = np.indices((81, 81))
    bed = (np.hypot(rows - 40, cols - 40) / 10).astype("float32") ** 2  # m; water stands at 9 m, to a radius of 30 pixels
    wet = bed <= 9
    depth = level_depth(boundary_level(wet, ~wet, bed, grid=_grid(81), distance=1000.0), bed)
    np.testing.assert_allclose(depth[wet], 9 - bed[wet], atol=0.85)  # the edge lies up to a diagonal inside: 0.85 m of height here
    assert np.isnan(depth[~wet]).all()


def test_a_sloping_surface_keeps_its_slope():
    rows, cols = np.indices((60, 101))
    bank = np.abs(cols - 50) / 10.0
    bed = (bank + 0.01 * (60 - rows)).astype("float32")
    wet = bank <= 3.0
    depth = level_depth(boundary_level(wet, ~wet, bed, grid=_grid(101), distance=2000.0), bed)
    np.testing.assert_allclose(depth[20:40, 50], 3.0, atol=0.02)


def test_where_a_cloud_begins_no_water_ends():
    wet, dry = np.zeros((2, 7, 9), bool)
    wet[:, 2:7], dry[:, :2] = True, True  # to the right nothing was seen
    height = np.tile(np.arange(9, dtype="float32"), (7, 1))
    got = boundary_level(wet, dry, height, grid=_grid(9), distance=1000.0)
    assert (got[wet] == 2).all()
    assert np.isnan(boundary_level(wet, np.zeros_like(dry), height, grid=_grid(9), distance=1000.0)).all()


def test_the_middle_of_wide_water_has_no_level():
    wet = np.ones((5, 61), bool)
    wet[:, 0] = False
    got = boundary_level(wet, ~wet, np.ones((5, 61), "float32"), grid=_grid(61), distance=200.0)
    assert np.isfinite(got[:, 1:22]).all()
    assert np.isnan(got[:, 22:]).all()


@pytest.mark.parametrize("distance", [15.0, 200.0])
def test_in_degrees_a_step_to_the_east_is_shorter(distance):
    """At 60 degrees north two steps to the east are as far as one to the south."""
    wet = np.ones((9, 9), bool)
    wet[0, :], wet[:, 0] = False, False
    height = np.where(np.indices((9, 9))[1] <= 1, 5.0, 7.0).astype("float32")
    grid = Grid(crs="EPSG:4326", resolution=1e-4, x0=10.0, y0=60.0, shape=(9, 9))
    got = boundary_level(wet, ~wet, height, grid=grid, distance=distance)
    assert got[2, 2] == 5.0, "5.6 m to the west, 11.1 m to the north"
    assert got[1, 4] == 7.0, "16.7 m to the west, here at the edge in the north"


def _grid(n):
    return Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=(n, n))
