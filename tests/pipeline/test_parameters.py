"""Parameters are read strictly: a number is a number."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from mdive.errors import InputError
from mdive.pipeline import Local, operation
from mdive.pipeline.parameters import checked, hints_of

Share = Annotated[float, Field(ge=0, le=1)]


class Kind(Enum):
    A = "a"


@dataclass
class Pair:
    one: int = 1


@pytest.mark.parametrize(
    ("hint", "value", "wanted"),
    [
        (Share, 0.3, 0.3),
        (Share, 1, 1.0),
        (Share, np.float64(0.25), 0.25),
        (Share, np.int64(1), 1.0),
        (float | None, None, None),
        (Share | None, 1, 1.0),
        (int, 3, 3),
        (int, np.uint8(3), 3),
        (bool, True, True),
        (bool, np.bool_(False), False),
        (str, "x", "x"),
        (Literal["none", "all"], "all", "all"),
        (Kind, "a", Kind.A),
        (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
        (list[int], (1, 2), [1, 2]),
        (Any, {"a": 1}, {"a": 1}),
        (np.ndarray, "whatever", "whatever"),
        (Pair, {"one": 2}, Pair(2)),
    ],
)
def test_what_is_meant_is_taken(hint, value, wanted):
    got = checked(value, hint)
    assert got == wanted
    assert type(got) is type(wanted)


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (Share, True, "should be a number"),
        (Share, "0.3", "should be a number"),
        (Share, np.bool_(True), "should be a number"),
        (Share, None, "valid number"),
        (Share, "much", "valid number"),
        (Share, 1.5, "less than or equal to 1"),
        (Share, math.nan, "finite"),
        (Share, np.float32("inf"), "finite"),
        (Share | None, False, "should be a number"),
        (int, 3.0, "should be a whole number"),
        (int, 3.5, "valid integer"),
        (int, "3", "should be a whole number"),
        (int, True, "should be a whole number"),
        (bool, 1, "should be true or false"),
        (bool, "yes", "should be true or false"),
        (str, 3, "valid string"),
        (Literal["none", "all"], "some", "'none' or 'all'"),
        (tuple[float, ...], [1.0, "2"], "should be a number"),
        (list[int], [1, True], "should be a whole number"),
    ],
)
def test_what_is_something_else_is_refused(hint, value, said):
    with pytest.raises(ValueError, match=said) as caught:
        checked(value, hint)
    assert not str(caught.value).endswith(".")


@operation(Local(), dtype="float64")
def scale(values, /, *, by: Share = 0.5, free=None):
    return values * by


def test_operations_hold_their_limits_too():
    ones = np.ones((2, 2))
    assert scale(ones, by=1).sum() == 4
    assert scale(ones, free="anything").sum() == 2
    for wrong in (True, "0.3", 2.0, -1, math.nan):
        with pytest.raises(InputError, match=r"parameter 'by' of operation 'scale': .* \(given: ") as caught:
            scale(ones, by=wrong)
        assert str(caught.value).splitlines()[1] == "Leave it out for its default, 0.5."


def test_hints_that_cannot_be_read_limit_nothing():
    def kernel(values, /, *, by: "NotImported" = 1):  # noqa: F821
        return values

    assert hints_of(kernel) == {}
