"""One clear observation per pixel: which it is, that all bands follow it, and why there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdive.algorithms.mosaic import NONE, best_observation, cause, first_valid, pick, unreadable
from mdive.model.flags import QC_FLAGS

CLOUD, SHADOW, SNOW, NODATA, FAILED = (QC_FLAGS[n] for n in ("cloud", "shadow", "snow", "nodata", "read_failure"))


def column(*values, dtype):
    return np.array(values, dtype=dtype)[:, None, None]


@pytest.mark.parametrize(
    ("mask", "choice"),
    [
        ((0, 0), 0),
        ((CLOUD, 0), 1),
        ((SHADOW, CLOUD), 0),
        ((SNOW, 0), 1),
        ((CLOUD, SNOW), 1),
        ((FAILED, CLOUD), 0),
    ],
)
def test_the_first_clear_observation_is_chosen(mask, choice):
    bands = column(0.1, 0.2, dtype="float32")
    assert best_observation(column(*mask, dtype="uint16"), bands, bands)[0, 0] == choice


def test_an_observation_that_lacks_one_band_is_passed_over():
    mask = column(0, CLOUD, dtype="uint16")
    whole, partly = column(0.1, 0.2, dtype="float32"), column(np.nan, 0.2, dtype="float32")
    assert best_observation(mask, whole, partly)[0, 0] == 1
    nothing = column(np.nan, np.nan, dtype="float32")
    assert best_observation(mask, whole, nothing)[0, 0] == NONE
    assert np.isnan(pick(whole, np.full((1, 1), NONE, "int16"))).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_all_bands_come_from_one_date(seed, times):
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, CLOUD, SHADOW, SNOW, NODATA, FAILED], (times, 6, 5)).astype("uint16")
    stamp = np.broadcast_to(np.arange(times, dtype="float32")[:, None, None], mask.shape).copy()
    holes = rng.random((2, *mask.shape)) < 0.3
    a, b = np.where(holes[0], np.nan, stamp), np.where(holes[1], np.nan, stamp)
    choice = best_observation(mask, a, b)
    np.testing.assert_array_equal(pick(a, choice), pick(b, choice))
    np.testing.assert_array_equal(np.isnan(pick(a, choice)), holes.any(axis=0).all(axis=0))
    why = cause(mask, choice)
    clear = (mask == 0) & ~holes.any(axis=0)
    np.testing.assert_array_equal(why == 0, clear.any(axis=0))
    np.testing.assert_array_equal(choice[clear.any(axis=0)], np.argmax(clear, axis=0)[clear.any(axis=0)])


@pytest.mark.parametrize(
    ("mask", "choice", "expected"),
    [
        ((CLOUD, 0), 1, 0),
        ((CLOUD, SHADOW), 0, CLOUD),
        ((CLOUD, FAILED), 0, CLOUD | FAILED),
        ((SNOW, FAILED), 0, SNOW),
        ((NODATA, FAILED), NONE, NODATA | FAILED),
        ((NODATA, CLOUD), NONE, NODATA | CLOUD),
        ((0, SNOW), NONE, NODATA),
    ],
)
def test_the_cause_of_a_pixel_over_time(mask, choice, expected):
    assert cause(column(*mask, dtype="uint16"), np.array([[choice]], "int16"))[0, 0] == expected


def test_first_valid_in_the_plan_s_order():
    stack = np.array([[[np.nan, 1.0, np.nan]], [[2.0, 3.0, np.nan]]], "float32")
    np.testing.assert_array_equal(first_valid(stack), [[2.0, 1.0, np.nan]])
    np.testing.assert_array_equal(first_valid.kernel(stack[0]), stack[0])


@pytest.mark.parametrize(
    ("mask", "height", "occurrence", "lost"),
    [
        ((0,), (1.0,), (80.0,), False),
        ((FAILED,), (1.0,), (np.nan,), True),
        ((FAILED,), (np.nan,), (80.0,), True),
        ((FAILED,), (1.0,), (80.0,), False),  # the failure cost another band
        ((NODATA,), (1.0,), (np.nan,), False),  # read, and there is nothing
        ((FAILED, 0), (np.nan, 1.0), (np.nan, 80.0), False),  # a second item has it
        ((FAILED, NODATA), (1.0, 1.0), (np.nan, np.nan), True),
    ],
)
def test_what_was_to_be_had_and_could_not_be_read(mask, height, occurrence, lost):
    bands = (column(*band, dtype="float32") for band in (height, occurrence))
    assert unreadable(column(*mask, dtype="uint16"), *bands).tolist() == [[lost]]
