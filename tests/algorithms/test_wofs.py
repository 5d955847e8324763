"""The decision tree of WOfS against the same tree in exact arithmetic, written as nested questions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdive.algorithms.flood_optical_index import water_flags
from mdive.algorithms.wofs import SPLITS, wofs_tree
from mdive.model.flags import QC_FLAGS

CONFLICT = QC_FLAGS["conflict"]


def at_most(a, b, limit):
    """Whether (a - b) / (a + b) <= limit; as in floating point, no answer (0 / 0) and +inf are above every limit."""
    if a + b == 0:
        return a < b
    return Fraction(a - b, a + b) <= Fraction(limit)


def published(b1, b2, b3, b4, b5, b7):
    """Mueller et al. (2016), figure of the tree; numbers are reflectances times 10,000."""
    if at_most(b5, b2, "-0.01"):
        if b1 > 2083.5:
            return 0
        if b7 <= 323.5:
            return int(at_most(b4, b3, "0.61"))
        if b1 > 1400.5:
            return int(at_most(b4, b3, "-0.01"))
        if not at_most(b7, b2, "-0.23"):
            return int(b1 <= 379)
        return 1 if at_most(b4, b3, "0.22") else int(b1 <= 473)
    if at_most(b5, b2, "0.23"):
        if b1 > 334.5 or not at_most(b4, b3, "0.54"):
            return 0
        if at_most(b5, b2, "0.12"):
            return 1
        return int(b1 <= 129.5) if b3 <= 364.5 else int(b1 <= 300.5)
    return int(at_most(b5, b2, "0.34") and b1 <= 129.5 and at_most(b4, b3, "0.45") and b3 <= 364.5)


def test_there_are_22_splits_and_every_row_is_reached_once():
    assert len(SPLITS) == 22
    followed = [way for split in SPLITS for way in split[2:] if way >= 0]
    assert sorted(followed) == list(range(1, 22))


NUMBER = st.one_of(
    st.integers(0, 700),
    st.integers(-300, 12_000),
    st.sampled_from([0, 129, 130, 249, 250, 300, 301, 323, 324, 334, 335, 364, 365, 379, 380]),
)


@settings(max_examples=500)
@given(st.lists(NUMBER, min_size=6, max_size=6))
@example([100, 102, 300, 400, 100, 50])
@example([100, 505, 161, 639, 495, 300])  # NDI52 of exactly -0.01
@example([100, 200, 39, 161, 100, 300])  # NDI43 of exactly 0.61
@example([100, 0, 0, 0, 0, 0])
def test_tree_is_the_published_one_on_stored_numbers(dn):
    stored = [np.array([[v]], "float32") * np.float32(1e-4) for v in dn]
    assert wofs_tree(*stored)[0, 0] == published(*dn)


def test_every_leaf_is_reached():
    rng = np.random.default_rng(0)
    dn = np.exp(rng.uniform(np.log(20), np.log(4000), (6, 1, 20_000))).astype(int)
    got = wofs_tree(*(dn * 1e-4).astype("float32"))
    np.testing.assert_array_equal(got[0], [published(*map(int, d)) for d in dn[:, 0].T])
    assert 0.2 < got.mean() < 0.5


def test_a_missing_band_is_no_opinion():
    bands = [np.full((1, 6), 0.05, "float32") for _ in range(6)]
    for i, band in enumerate(bands):
        band[0, i] = np.nan
    assert (wofs_tree(*bands) == 255).all()


@pytest.mark.parametrize(
    ("tree", "tests", "conflict"), [(0, 0.99, True), (1, 0.05, True), (0, 0.7, False), (1, 0.4, False), (255, 0.99, False)]
)
def test_a_firm_contradiction_of_the_tree_is_a_conflict(tree, tests, conflict):
    one = np.ones((1, 1), "uint8")
    p = np.array([[tests]], "float32")
    flags = water_flags(one, np.zeros((1, 1), "uint16"), p, p, np.array([[tree]], "uint8"), None, None)
    assert bool(flags[0, 0] & CONFLICT) == conflict
