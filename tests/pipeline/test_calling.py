"""Operations on arrays: how many they take, how they go through time, and names of lazy work that never lie."""

import dask
import numpy as np
import pytest
import xarray as xr

from mdive.errors import InputError, KernelError
from mdive.pipeline import Focal, Local, load_node, operation
from mdive.pipeline.operation import Operation


@operation(Focal(1), dtype="float32")
def scene_mean(values, weight, /):
    """Return the mean of 3 x 3 pixels times a weight; a kernel that knows no time."""
    rows, cols = values.shape
    wide = np.pad(values, 1)
    return weight * sum(wide[i : i + rows, j : j + cols] for i in range(3) for j in range(3)) / 9


@operation(Local(), dtype="float32")
def several(first, /, *more, by=1.0):
    return first * by + sum(more)


@operation(Local(), dtype="float32")
def optional(first, second=None, /):
    return first if second is None else first + second


@operation(Local(), dtype="float32", over_time=True)
def latest(values, /):
    return values.reshape(-1, *values.shape[-2:])[-1]


@pytest.fixture
def cube():
    values = np.random.default_rng(5).random((3, 12, 9)).astype("float32")
    coords = {"time": [10, 20, 30], "y": -10.0 * np.arange(12), "x": 10.0 * np.arange(9), "orbit": ("time", [7, 8, 9])}
    return xr.DataArray(values, dims=("time", "y", "x"), coords=coords)


@pytest.mark.parametrize("chunks", [None, {"y": 5, "x": 4}, {"y": 12, "x": 9, "time": 1}])
def test_an_operation_on_scenes_is_applied_to_each_time(ops, cube, chunks):
    given = cube if chunks is None else cube.chunk(chunks)
    with dask.config.set(scheduler=lambda *a, **k: pytest.fail("computed while building")):
        focal, whole = scene_mean(given, cube[0]), ops.rowcount(given > 0.5)
        back = scene_mean(cube[0].values, given)
    for got, operation_, more in ((focal, scene_mean, (cube[0],)), (whole, ops.rowcount, ())):
        assert (got.chunks is None) == (chunks is None)
        assert got.dims == ("time", "y", "x")
        assert got.dtype == operation_.dtype
        got = got.compute(scheduler="sync")
        for t in range(3):
            alone = operation_(cube[t] > 0.5 if operation_ is ops.rowcount else cube[t], *more)
            np.testing.assert_array_equal(got[t], alone)
        np.testing.assert_array_equal(got.time, cube.time)
        np.testing.assert_array_equal(got.orbit, [7, 8, 9])
    assert back.shape == (3, 12, 9)


def test_numpy_goes_through_time_as_xarray_does(ops, cube):
    np.testing.assert_array_equal(scene_mean(cube.values, cube.values[0]), scene_mean(cube, cube[0]))
    np.testing.assert_array_equal(ops.rowcount(cube.values > 0.5), ops.rowcount(cube > 0.5))


def test_in_a_pipeline_a_window_goes_through_time_and_a_global_operation_does_not(ops):
    timed, flat = load_node("s", "v"), load_node("s", "w", timed=False)
    assert scene_mean(timed, flat).timed
    with pytest.raises(KernelError, match="time axis"):
        ops.rowcount(timed)
    assert not ops.rowcount(flat).timed


def test_what_works_along_time_needs_a_time(ops, cube):
    mask = xr.zeros_like(cube).astype("uint16")
    for one, two in ((cube[0], mask[0]), (cube[0].values, mask[0].values)):
        with pytest.raises(InputError, match="'first' works along time"):
            ops.first(one, two)
    np.testing.assert_array_equal(ops.first(cube[:1], mask[:1]), cube[0])
    # One that takes (y, x) for a single time is free to.
    for flat in (cube[0], cube[0].values):
        np.testing.assert_array_equal(latest(flat), flat)
    for one, two in ((cube[:2].values, mask.values), (cube[:2].drop_vars("time"), mask.drop_vars("time"))):
        with pytest.raises(InputError, match=r"times|in time"):
            ops.first(one, two)
    with pytest.raises(InputError, match="0 times"):
        ops.first(cube[:0].values, mask[:0].values)
    with pytest.raises(InputError, match="empty"):
        ops.first(cube[:0], mask[:0])


def test_the_number_of_rasters_is_checked_before_the_kernel_runs(cube):
    for rasters, said in (
        ((), "takes 2 rasters (values, weight); 0 were given"),
        ((cube,), "takes 2 rasters (values, weight); 1 was given"),
        ((cube, cube, cube), "takes 2 rasters (values, weight); 3 were given"),
    ):
        with pytest.raises(InputError) as caught:
            scene_mean(*rasters)
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 2
    with pytest.raises(InputError, match=r"takes at least 1 raster \(first, \*more\)"):
        several()
    np.testing.assert_allclose(several(cube, cube, cube, cube), 4 * cube)
    np.testing.assert_allclose(optional(cube), cube)
    np.testing.assert_allclose(optional(cube, cube), 2 * cube)


def test_a_numpy_array_of_the_same_shape_is_a_raster_beside_lazy_ones(cube):
    flat = cube[0].values
    for beside in (flat, cube.values):
        lazy = several(cube.chunk(y=5, x=4), beside)
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), several(cube, beside))
        np.testing.assert_allclose(lazy.compute(scheduler="sync"), cube.values + beside)


def test_equal_names_of_lazy_work_mean_equal_work(ops, cube):
    """Computed together, arrays of one name share their chunks: other states and other coordinates must have another name."""

    @operation(Local(), dtype="float32")
    def edge(values, /, *, grid):
        return np.full(values.shape, grid.resolution)

    lazy = cube.chunk(y=5)
    few, many = ops.above(lazy, np.array([9])), ops.above(lazy, np.array([-1]))
    near, far = edge(lazy), edge(lazy.assign_coords(y=2 * cube.y, x=2 * cube.x))
    few, many, near, far = dask.compute(few, many, near, far, scheduler="sync")
    assert int(few.sum()) < int(many.sum()) == cube.size
    assert float(near.mean()) == 10.0
    assert float(far.mean()) == 20.0
    assert ops.above(lazy, np.array([9])).data.name == ops.above(lazy, np.array([9])).data.name


def test_every_operation_keeps_its_name_for_pickling(ops):
    assert isinstance(ops.box, Operation)
    assert ops.box.__reduce__() == "box"
