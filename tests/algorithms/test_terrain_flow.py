"""Accumulation and drains on any tiles: walks from every cell, closed forms, areas on geographic grids."""

import numpy as np
import pytest
from hypothesis import example, given, settings

from mdive.algorithms.terrain_accumulation import drainage_area, flow_accumulation
from mdive.algorithms.terrain_direction import steepest_descent
from mdive.algorithms.terrain_drain import at_drain, drain_id, drains
from mdive.algorithms.terrain_fill import filled
from mdive.algorithms.terrain_flats import flow_direction
from mdive.model.plan import Grid
from mdive.pipeline import Tiles
from mdive.pipeline.ground import pixel_areas

from .terrains import KINDS, cases, plain_accumulation, plain_drain, terrain

SINGLE = Tiles(tuple(range(13)), tuple(range(13)))


def directions(dem):
    return flow_direction(steepest_descent(filled(dem)))


def meander(shape=(12, 12)):
    """Every cell hands on to the next, row after row, back and forth: one stream through all cells."""
    out = np.zeros(shape, "uint8")
    out[1::2] = 2
    out[::2, -1] = out[1::2, 0] = 1
    out[-1, 0 if shape[0] % 2 == 0 else -1] = 8
    return out


@settings(max_examples=200, deadline=None, print_blob=True)
@given(cases(most=12))
@example((terrain("flat", (12, 12), 1), SINGLE))
@example((terrain("holes", (12, 12), 1), SINGLE))
def test_any_tiling_gives_what_walks_from_every_cell_give(tiled, case):
    dem, tiles = case
    direction = directions(dem)
    weight = (np.arange(dem.size).reshape(dem.shape) % 7).astype("int16")
    total = flow_accumulation(direction)
    np.testing.assert_array_equal(total, plain_accumulation(direction))
    np.testing.assert_array_equal(tiled(flow_accumulation, direction, tiles=tiles), total)
    np.testing.assert_array_equal(tiled(flow_accumulation, direction, weight, tiles=tiles), plain_accumulation(direction, weight))
    drain, values = total >= 6, filled(dem)
    want = plain_drain(direction, drain)
    ids = np.array([-1 if want[c] is None else want[c][0] * dem.shape[1] + want[c][1] for c in np.ndindex(dem.shape)]).reshape(dem.shape)
    np.testing.assert_array_equal(drain_id(direction, drain), ids)
    np.testing.assert_array_equal(tiled(drain_id, direction, drain, tiles=tiles), ids)
    there = np.where(ids < 0, np.nan, values.ravel()[ids])
    np.testing.assert_array_equal(at_drain(direction, drain, values), there)
    got = tiled(at_drain, direction, drain, values, tiles=tiles)
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, there)


@pytest.mark.parametrize("tiles", [None, SINGLE, Tiles((0, 5, 12), (0, 1, 2, 12))])
def test_one_stream_through_all_cells(tiled, tiles):
    direction = meander()
    total = tiled(flow_accumulation, direction, tiles=tiles)
    order = total.copy()
    order[1::2] = order[1::2, ::-1]
    np.testing.assert_array_equal(order.ravel(), np.arange(1, 145))
    drain = np.zeros(direction.shape, bool)
    drain[6, 3] = True
    ids = tiled(drain_id, direction, drain, tiles=tiles)
    np.testing.assert_array_equal(ids, np.where(total <= total[6, 3], 6 * 12 + 3, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_the_domain_is_all_that_is_there(kind):
    dem = terrain(kind, (50, 60), 4)
    direction = directions(dem)
    assert flow_accumulation(direction)[direction == 8].sum() == (direction != 255).sum()


def test_areas_are_those_of_the_rows(tiled):
    grid = Grid(crs="EPSG:4326", resolution=0.01, x0=10.0, y0=60.0, shape=(12, 12))
    direction = meander()
    weight = np.repeat(np.rint(pixel_areas(grid, 0, 12) * 100).astype("int64")[:, None], 12, axis=1)
    got = drainage_area(direction, grid=grid)
    np.testing.assert_array_equal(got, plain_accumulation(direction, weight))
    np.testing.assert_array_equal(tiled(drainage_area, direction, tiles=SINGLE, resolution=30.0), flow_accumulation(direction) * 90_000)


def test_a_drain_has_so_many_square_kilometres_upstream():
    area = np.array([[9_000_000, 8_999_999, 0]])
    assert drains(area, None).tolist() == [[True, False, False]]
    occurrence = np.array([[np.nan, 90.0, 100.0]], "float32")
    assert drains(area, occurrence).tolist() == [[True, True, False]]


@pytest.mark.parametrize("metres", [90.0, 30.0, 10.0])
def test_a_stream_begins_at_one_place_whatever_the_pixel(metres):
    """Each row flows east into a ditch that flows south: after 900 m of rows that are 1.8 km long, 1.62 km² lie upstream."""
    rows, cols = int(1800 / metres), int(1800 / metres)
    direction = np.zeros((rows, cols), "uint8")
    direction[:, -1] = 1
    direction[-1, -1] = 8
    grid = Grid(crs="EPSG:32631", resolution=metres, x0=5e5, y0=5e6, shape=(rows, cols))
    begun = drains(drainage_area(direction, grid=grid), None, drain_area=1.62)
    assert not begun[:, :-1].any()
    np.testing.assert_array_equal(begun[:, -1], (np.arange(rows) + 1) * metres >= 900.0)


def test_input_is_not_changed():
    direction, weight = meander(), np.ones((12, 12), "int64")
    drain, values = np.eye(12, dtype=bool), np.ones((12, 12), "float32")
    before = [a.copy() for a in (direction, weight, drain, values)]
    flow_accumulation(direction, weight)
    at_drain(direction, drain, values)
    for now, then in zip((direction, weight, drain, values), before, strict=True):
        np.testing.assert_array_equal(now, then)
