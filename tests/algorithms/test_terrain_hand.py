"""HAND: closed forms, any tiling and chunking, what the edge of the data hides, and what ``apply`` takes."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings

import mdive
from mdive.algorithms.terrain_hand import NO_DRAIN_IN_DOMAIN, hand
from mdive.errors import InputError
from mdive.model.flags import QC_FLAGS
from mdive.pipeline import Tiles, load_node
from mdive.plugins import Bundle

from .terrains import cases, terrain

PIXEL = 30.0
CELL_KM2 = PIXEL * PIXEL / 1e6
EDGE = QC_FLAGS["edge_contaminated"]


def located(values, chunks=None):
    rows, cols = values.shape
    coords = {"y": 5e6 - PIXEL * (np.arange(rows) + 0.5), "x": 5e5 + PIXEL * (np.arange(cols) + 0.5)}
    array = xr.DataArray(values, dims=("y", "x"), coords=coords, name="z")
    return array if chunks is None else array.chunk(chunks)


def valley(rows=40, half=15, side=1.0, down=0.25):
    """A V-shaped valley that falls along y; water runs straight down its sides as long as they are much steeper than its bed."""
    x = np.abs(np.arange(2 * half + 1) - half)
    return (x[None] * side + (rows - np.arange(rows))[:, None] * down).astype("float32")


@pytest.fixture(scope="session")
def drained(evaluate):
    """``drained(dem, tiles, **parameters)``: all products of ``terrain.hand``."""

    def run(dem, tiles=None, occurrence=None, **parameters):
        rasters = {"dem": dem.astype("float32")} | ({} if occurrence is None else {"occurrence": occurrence})
        nodes = {name: load_node("s/static", name, timed=False) for name in rasters}
        bundle = Bundle(**{"occurrence": None, "mask": None} | nodes)
        return evaluate(dict(hand(bundle, **parameters)), rasters, tiles, PIXEL)

    return run


@settings(max_examples=200, deadline=None, print_blob=True)
@given(cases(least=2, most=8))
def test_any_tiling_gives_the_same_products(drained, case):
    dem, tiles = case
    occurrence = np.where(dem > 2, 95.0, np.nan).astype("float32")
    parameters = {"drain_area": 6 * CELL_KM2, "occurrence": occurrence, "burn": 2.0}
    whole, cut = drained(dem, None, **parameters), drained(dem, tiles, **parameters)
    for name, array in whole.items():
        np.testing.assert_array_equal(cut[name], array, err_msg=name)


def test_a_valley_has_the_height_of_its_sides(drained):
    half = 15
    got = drained(valley(half=half), Tiles((0, 7, 20, 40), (0, 1, 16, 31)), drain_area=(half + 1) * CELL_KM2)
    x = np.abs(np.arange(2 * half + 1) - half)
    np.testing.assert_array_equal(got["hand"], np.broadcast_to(x, (40, 31)).astype("float32"))
    np.testing.assert_array_equal(got["extent"] == 1, np.broadcast_to(x == 0, (40, 31)))
    np.testing.assert_array_equal(got["drain_id"], np.broadcast_to(np.arange(40)[:, None] * 31 + half, (40, 31)))
    assert got["drainage_area"][-1, half] == np.float32(40 * 31 * CELL_KM2)


@pytest.mark.parametrize("kind", ["continuous", "integer", "flat", "noise", "holes"])
def test_heights_are_never_below_zero_and_zero_on_drains(drained, kind):
    dem = terrain(kind, (60, 60), 8)
    got = drained(dem, drain_area=30 * CELL_KM2)
    known = ~np.isnan(dem.astype("float64"))
    drain = got["extent"] == 1
    assert (got["hand"][drain] == 0).all()
    assert not (got["hand"] < 0).any()
    np.testing.assert_array_equal(np.isnan(got["hand"]) & known, got["extent"] == NO_DRAIN_IN_DOMAIN)
    np.testing.assert_array_equal(got["drain_id"] == -1, np.isnan(got["hand"]))
    np.testing.assert_array_equal(got["extent"] == 255, ~known)
    assert (got["qc"][~known] == QC_FLAGS["nodata"]).all()


def test_water_that_leaves_before_a_stream_has_no_height_and_says_why(drained):
    got = drained(valley(), drain_area=1e4)
    assert np.isnan(got["hand"]).all()
    assert (got["extent"] == NO_DRAIN_IN_DOMAIN).all()
    assert (got["qc"] & EDGE != 0).all()


def test_what_is_not_flagged_does_not_change_with_more_data_around(drained):
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:160, :160]
    hills = sum(rng.normal(0, 3) * np.sin(rng.uniform(0.02, 0.12) * x + rng.uniform(0, 6) + rng.uniform(0.02, 0.12) * y) for _ in range(12))
    # A ridge that falls to the north: its flanks keep their own water, and what the south sends is cut off.
    dem = (hills - 3.0 * np.abs(x - 80) + 1.5 * y).astype("float32")
    small = slice(40, 120), slice(40, 120)
    inner = slice(10, 70), slice(10, 70)
    wide, near = drained(dem, drain_area=60 * CELL_KM2), drained(dem[small], drain_area=60 * CELL_KM2)
    want, got, flag = wide["hand"][small][inner], near["hand"][inner], near["qc"][inner] & EDGE != 0
    assert 0.1 < flag.mean() < 0.9
    np.testing.assert_array_equal(got[~flag], want[~flag])
    assert not np.array_equal(got[flag], want[flag], equal_nan=True)


def test_permanent_water_is_drainage_and_a_cut_river_passes_a_bridge(drained):
    dem = valley()
    dem[20] += 30.0
    occurrence = np.zeros(dem.shape, "float32")
    occurrence[:, 15] = 99.0
    dammed = drained(dem, occurrence=occurrence)
    assert (dammed["extent"][:, 15] == 2).all()
    assert (dammed["qc"][:, 15] & QC_FLAGS["permanent_water"] != 0).all()
    assert dammed["hand"][10, 14] == 0
    cut = drained(dem, occurrence=occurrence, burn=40.0)
    np.testing.assert_array_equal(cut["hand"][10], np.abs(np.arange(31) - 15))


def test_apply_takes_a_dataarray_and_stays_lazy():
    dem = terrain("flat", (40, 50), 3)
    eager = mdive.apply("terrain.hand", located(dem), drain_area=0.01)
    again = mdive.apply("terrain.hand", xr.Dataset({"dem": located(dem)}), drain_area=0.01)
    lazy = mdive.apply("terrain.hand", located(dem, {"y": (7, 1, 32), "x": (11, 39)}), drain_area=0.01)
    assert all(v.chunks is not None for v in lazy.data_vars.values())
    assert eager.identical(again)
    assert eager.identical(lazy.compute())
    assert {n: str(v.dtype) for n, v in eager.items()} == {
        "extent": "uint8",
        "hand": "float32",
        "drainage_area": "float32",
        "drain_id": "int64",
        "qc": "uint16",
    }


def test_apply_says_what_is_missing():
    with pytest.raises(InputError, match="does not tell the size of its pixels"):
        mdive.apply("terrain.hand", np.zeros((4, 4), "float32"))
    with pytest.raises(InputError, match="no x and y coordinates"):
        mdive.apply("terrain.hand", xr.DataArray(np.zeros((4, 4), "float32"), dims=("y", "x")))
    with pytest.raises(InputError, match="depends on the size of a pixel"):
        mdive.apply("drainage_area", np.zeros((4, 4), "uint8"))


def test_large_arrays_are_computed_in_tiles_with_the_bits_of_one(monkeypatch):
    from mdive.pipeline import lower

    dem = located(terrain("flat holes", (90, 70), 5))
    whole = mdive.apply("terrain.hand", dem, drain_area=0.01)
    filled = mdive.apply("filled", dem.to_numpy())
    monkeypatch.setattr(lower, "LARGE", 1)
    monkeypatch.setattr(lower, "TILE", 16)
    assert mdive.apply("terrain.hand", dem, drain_area=0.01).identical(whole)
    np.testing.assert_array_equal(mdive.apply("filled", dem.to_numpy()), filled)
