"""Operations on xarray: numpy stays numpy, dask stays lazy, and both give the same bits."""

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdive.errors import InputError


@pytest.fixture
def cube():
    rng = np.random.default_rng(1)
    values = rng.random((3, 40, 31)).astype("float32")
    values[rng.random(values.shape) < 0.2] = np.nan
    coords = {"y": 1000.0 - 10 * np.arange(40), "x": 500.0 + 10 * np.arange(31), "time": np.arange(3)}
    mask = xr.DataArray(np.zeros(values.shape, "uint16"), dims=("time", "y", "x"), coords=coords)
    return xr.DataArray(values, dims=("time", "y", "x"), coords=coords), mask


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 40), cols=st.integers(1, 31), time=st.integers(1, 3))
def test_lazy_equals_eager_for_any_chunks(ops, cube, rows, cols, time):
    values, mask = cube
    eager = ops.box(ops.first(values, mask))
    with dask.config.set(scheduler=lambda *a, **k: pytest.fail("computed while building")):
        lazy = ops.box(ops.first(values.chunk(y=rows, x=cols, time=time), mask))
    assert lazy.chunks is not None
    assert isinstance(eager.data, np.ndarray)
    xr.testing.assert_identical(lazy.compute(scheduler="sync"), eager)


def test_a_windowed_operation_knows_nothing_beyond_the_array(ops):
    flat = xr.DataArray(np.ones((9, 9), "float32"), dims=("y", "x"))
    np.testing.assert_array_equal(ops.box(flat), np.ones((9, 9)))


def test_whole_arrays_and_data_arrays_agree(ops, cube):
    values = np.asarray(cube[0][0])
    np.testing.assert_array_equal(ops.box(values), ops.box(cube[0][0]))
    assert ops.rowcount(values > 0.5).dtype == "int32"


def test_reductions_give_their_state(ops, cube):
    state = ops.histogram(cube[0][0])
    assert state.shape == (1,)


def test_a_given_state_is_used_and_not_lost(ops, cube):
    low, high = ops.above(cube[0][0], np.array([-1])), ops.above(cube[0][0].chunk(y=9), np.array([100]))
    assert low.sum() == np.isfinite(cube[0][0]).sum()
    assert high.compute(scheduler="sync").sum() == 0


def test_other_grids_are_refused_in_two_lines(ops, cube):
    with pytest.raises(InputError, match="another grid") as caught:
        ops.first(cube[0], cube[1][:, :-1])
    assert len(str(caught.value).splitlines()) == 2
    with pytest.raises(InputError, match="dimensions"):
        ops.box(cube[0].rename(y="lat"))


def test_unknown_parameters_are_refused_with_the_nearest_name(ops, cube):
    with pytest.raises(InputError, match="ofset"):
        ops.above(cube[0], np.zeros(1), ofset=1.0)


def test_the_declared_dtype_is_enforced(ops, cube):
    lazy = ops.box(cube[0][0].chunk(y=7))
    assert lazy.dtype == lazy.compute(scheduler="sync").dtype == np.float32
