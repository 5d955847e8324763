"""Flow directions on any tiles: the definitions of D8 and of flats, closed forms, geographic grids."""

import numpy as np
import pytest
from hypothesis import example, given, settings

from mdive.algorithms.terrain_direction import esri, steepest_descent
from mdive.algorithms.terrain_fill import filled
from mdive.algorithms.terrain_flats import flow_direction
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, load_node

from .terrains import cases, downstream, plain_directions, terrain

SINGLE = Tiles(tuple(range(13)), tuple(range(13)))


def directions(dem):
    return flow_direction(steepest_descent(filled(dem)))


def lake(n=36):
    """A lake over nine tiles, with one outlet at the bottom."""
    dem = np.full((n, n), 50.0, "float32")
    dem[1:-1, 1:-1] = 20
    dem[-1, n // 3] = 20
    return dem


def spiral(n=33):
    """A channel of one height that winds through all of a block, cut into it by walls; it leaves at the upper left corner."""
    dem = np.full((n, n), 9.0, "float32")
    r, c, dr, dc = 0, 0, 0, 1
    dem[0, 0] = 1
    while True:
        i, j = r + dr, c + dc
        k, m = i + dr, j + dc
        ahead = 0 <= i < n and 0 <= j < n and dem[i, j] == 9 and not (0 <= k < n and 0 <= m < n and dem[k, m] == 1)
        if not ahead:
            dr, dc = dc, -dr
            i, j = r + dr, c + dc
            k, m = i + dr, j + dc
            if not (0 <= i < n and 0 <= j < n) or dem[i, j] == 1 or (0 <= k < n and 0 <= m < n and dem[k, m] == 1):
                return dem
        r, c = i, j
        dem[r, c] = 1


@pytest.fixture(scope="session")
def routed(evaluate):
    """``routed(dem, tiles)``: fill, descent and flats in one pipeline."""

    def run(dem, tiles=None):
        load = load_node("s/static", "dem", dtype=str(dem.dtype), timed=False)
        return evaluate({"out": flow_direction(steepest_descent(filled(load)))}, {"dem": dem}, tiles)["out"]

    return run


@settings(max_examples=200, deadline=None, print_blob=True)
@given(cases(most=14))
@example((terrain("flat", (12, 12), 1), SINGLE))
@example((terrain("flat holes", (12, 12), 2), SINGLE))
@example((lake(12), SINGLE))
@example((lake(), Tiles((0, 12, 24, 36), (0, 12, 24, 36))))
@example((spiral(), Tiles((0, 11, 12, 23, 33), (0, 5, 16, 33))))
@example((np.zeros((12, 12), "float32"), SINGLE))
def test_any_tiling_gives_the_bits_of_the_definitions(routed, case):
    dem, tiles = case
    whole = directions(dem)
    np.testing.assert_array_equal(whole, plain_directions(filled(dem)))
    np.testing.assert_array_equal(routed(dem, tiles), whole)


@pytest.mark.parametrize("kind", ["integer", "flat", "flat holes", "noise"])
def test_water_flows_out_from_everywhere_and_never_up(kind):
    dem = terrain(kind, (60, 70), 7)
    surface = filled(dem)
    direction = directions(dem)
    to = downstream(direction)
    for cell in to:
        steps = 0
        while cell in to:
            below = to[cell]
            assert below is not None
            assert direction[below] != 255
            assert surface[below] <= surface[cell]
            cell, steps = below, steps + 1
            assert steps <= dem.size


def test_a_lake_over_nine_tiles_leaves_at_its_outlet(routed):
    direction = routed(lake(), Tiles((0, 12, 24, 36), (0, 12, 24, 36)))
    to = downstream(direction)
    for start in np.argwhere(lake() == 20):
        cell = tuple(start)
        while cell in to:
            cell = to[cell]
        assert cell == (35, 12)


def test_a_spiral_is_followed_to_its_mouth(routed):
    dem = spiral()
    direction = routed(dem, Tiles((0, 11, 22, 33), (0, 11, 22, 33)))
    to, ends = downstream(direction), set()
    for start in np.argwhere(dem == 1):
        cell = tuple(start)
        while cell in to:
            cell = to[cell]
        ends.add(cell)
    assert all(min(r, c, 32 - r, 32 - c) == 0 for r, c in ends)


def test_the_first_of_equal_ways_is_taken_in_the_order_e_s_w_n():
    dem = np.full((3, 3), 5.0, "float32")
    dem[1, 1] = 9
    assert steepest_descent(dem)[1, 1] == 0
    dem[0, 1] = dem[1, 0] = dem[2, 1] = 4
    assert steepest_descent(dem)[1, 1] == 1


def test_steep_is_by_distance_on_the_ground():
    # At 75 degrees north a pixel is four times as high as wide: 3 m down to the east is steeper than 4 m to the south.
    dem = np.full((3, 3), 9.0, "float32")
    dem[1, 2], dem[2, 1] = 6.0, 5.0
    polar = Grid(crs="EPSG:4326", resolution=1 / 3600, x0=10.0, y0=75.0, shape=(3, 3))
    assert steepest_descent(dem, grid=polar)[1, 1] == 0
    assert steepest_descent(dem)[1, 1] == 1


def test_codes_of_other_programs():
    codes = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [8, 255, 0, 0]], "uint8")
    assert esri(codes).tolist() == [[1, 4, 16, 64], [2, 8, 32, 128], [0, 255, 1, 1]]
