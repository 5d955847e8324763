"""Depression filling on any tiles: closed forms, and the plain Priority-Flood of the whole array."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings

import mdive
from mdive.algorithms.terrain_fill import filled
from mdive.pipeline import Tiles

from .terrains import KINDS, cases, plain_fill, terrain

SINGLE = Tiles(tuple(range(13)), tuple(range(13)))
PITS = np.full((9, 9), 9.0, "float32")
PITS[1:8, 1:8] = 5
PITS[2:7, 2:7] = 3
PITS[3:6, 3:6] = 4
PITS[4, 4] = 1
PITS[4, 8] = 6


@settings(max_examples=200, deadline=None, print_blob=True)
@given(cases())
@example((terrain("flat", (12, 12), 1), SINGLE))
@example((terrain("holes", (12, 12), 1), SINGLE))
@example((np.eye(12, dtype="float32") * 5, SINGLE))
@example((np.where(np.eye(12)[::-1] > 0, np.nan, 1).astype("float32"), SINGLE))
@example((PITS, Tiles((0, 4, 5, 9), (0, 4, 5, 9))))
def test_any_tiling_gives_the_bits_of_the_whole(tiled, case):
    dem, tiles = case
    whole = filled(dem)
    np.testing.assert_array_equal(whole, plain_fill(dem))
    np.testing.assert_array_equal(tiled(filled, dem, tiles=tiles), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_every_height_is_one_of_the_dem(kind):
    dem = terrain(kind, (70, 50), 3)
    whole = filled(dem)
    assert whole.dtype == ("float64" if kind == "wide" else "float32")
    assert np.isin(whole[~np.isnan(whole)].astype("float64"), dem.astype("float64")).all()
    np.testing.assert_array_equal(np.isnan(whole), np.isnan(dem.astype("float64")))
    assert (whole > dem).any() or kind.endswith("holes")


def test_nested_pits_rise_to_the_lowest_gap():
    want = PITS.copy()
    want[1:8, 1:8] = 6
    np.testing.assert_array_equal(filled(PITS), want)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "float64"])
def test_whole_numbers_stay_exact(dtype):
    high = 2**24 + 1 if np.dtype(dtype).itemsize >= 4 else 100
    dem = np.full((3, 3), high, dtype)
    dem[1, 1] = 7
    got = filled(dem)
    assert got[1, 1] == high
    assert got.dtype == ("float32" if np.dtype(dtype).itemsize < 4 else "float64")


def test_negative_zero_is_zero_and_what_is_no_height_is_nodata():
    dem = np.array([[0.0, -0.0, 0.0], [-0.0, -5.0, 0.0], [np.inf, -np.inf, np.nan]], "float32")
    got = filled(dem)
    assert not np.signbit(got[got == 0]).any()
    np.testing.assert_array_equal(got, [[0, 0, 0], [0, -5, 0], [np.nan] * 3])


def test_water_leaves_through_a_diagonal_gap_of_nodata():
    dem = np.full((5, 5), 9.0, "float32")
    dem[2, 2] = 1
    dem[1, 1] = np.nan
    np.testing.assert_array_equal(filled(dem), dem)


@pytest.mark.parametrize("dem", [np.float32([[3.0]]), np.float32([[np.nan]]), np.full((4, 6), np.nan, "float32")])
def test_single_cells_and_nothing(dem):
    np.testing.assert_array_equal(filled(dem), dem)


def test_a_tile_without_a_height_is_where_water_leaves(tiled):
    dem = terrain("continuous", (12, 12), 5)
    dem[4:8, 4:8] = np.nan
    got = tiled(filled, dem, tiles=Tiles((0, 4, 8, 12), (0, 4, 8, 12)))
    np.testing.assert_array_equal(got, plain_fill(dem))


def test_input_is_not_changed():
    dem = terrain("holes", (20, 20), 5)
    before = dem.copy()
    filled(dem)
    np.testing.assert_array_equal(dem, before)


@settings(max_examples=20, deadline=None)
@given(cases(least=2))
def test_dask_in_any_chunks(case):
    dem, tiles = case
    chunks = {"y": tuple(np.diff(tiles.row_edges).tolist()), "x": tuple(np.diff(tiles.col_edges).tolist())}
    lazy = xr.DataArray(dem, dims=("y", "x")).chunk(chunks)
    got = mdive.apply("filled", lazy)
    assert got.chunks is not None
    np.testing.assert_array_equal(got.to_numpy(), filled(dem))
