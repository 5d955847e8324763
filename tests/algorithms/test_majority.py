"""The minimum mapping unit of class rasters against a plain definition of it, one pixel at a time, on any tiles."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mdive.algorithms.majority import majority_sieve
from mdive.model.plan import Grid
from mdive.pipeline import Tiles

FILL = 255
SIDES = ((0, 1), (1, 0), (0, -1), (-1, 0))


def components(classes):
    """(class, pixels) of each component."""
    found = []
    for value in np.unique(classes[classes != FILL]):
        labels, count = ndimage.label(classes == value)
        found += [(int(value), list(zip(*np.nonzero(labels == i + 1), strict=True))) for i in range(count)]
    return found


def plain(classes, least):
    """The definition, in loops."""
    out = classes.copy()
    found = components(classes)
    owner = {pixel: k for k, (_, pixels) in enumerate(found) for pixel in pixels}
    value = {k: v for k, (v, pixels) in enumerate(found) if len(pixels) >= least}
    while True:
        new = {}
        for k, (_, pixels) in enumerate(found):
            if k in value:
                continue
            near = Counter()
            for r, c in pixels:
                for dr, dc in SIDES:
                    other = owner.get((r + dr, c + dc))
                    if other in value:
                        near[value[other]] += 1
            if near:
                new[k] = min(near, key=lambda v: (-near[v], v))
        if not new:
            break
        value |= new
    for k, v in value.items():
        for pixel in found[k][1]:
            out[pixel] = v
    return out


@st.composite
def maps(draw):
    shape = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = ndimage.gaussian_filter(rng.random((4, *shape)), (0, *[draw(st.floats(0.0, 1.5))] * 2))
    classes = noise.argmax(axis=0).astype("uint8")
    classes[rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.4]))] = FILL
    cut = [sorted(draw(st.sets(st.integers(1, n), max_size=5)) - {n}) for n in shape]
    return classes, Tiles(*((0, *inner, n) for inner, n in zip(cut, shape, strict=True))), draw(st.integers(0, 12))


CHAIN = np.array([[0, 0, 0, 0, 1, 2, 3, 1, 2, 3, 1, 1]], "uint8")


@settings(max_examples=200)
@given(maps())
@example((CHAIN, Tiles((0, 1), tuple(range(13))), 4))
@example((CHAIN, Tiles((0, 1), (0, 6, 12)), 4))
@example((CHAIN, Tiles((0, 1), (0, 5, 9, 12)), 3))
def test_small_components_take_the_class_of_most_of_their_border(tiled, case):
    classes, tiles, least = case
    got = tiled(majority_sieve, classes, tiles=tiles, minimum_area=least / 100)
    np.testing.assert_array_equal(got, plain(classes, least))
    np.testing.assert_array_equal(got == FILL, classes == FILL)
    # What is left too small stands among its like alone, with nodata all around.
    regions, count = ndimage.label(classes != FILL)
    for region in range(1, count + 1):
        here = regions == region
        enough = all(len(pixels) >= least for _, pixels in components(np.where(here, got, FILL)))
        assert enough or (np.array_equal(got[here], classes[here]))


def test_rounds_go_from_settled_ground_outwards_and_ties_go_to_the_lower_code(tiled):
    np.testing.assert_array_equal(tiled(majority_sieve, CHAIN, minimum_area=0.04), np.zeros_like(CHAIN))
    tie = np.array([[5, 5, 5, 9, 3, 3, 3]], "uint8")
    np.testing.assert_array_equal(tiled(majority_sieve, tie, minimum_area=0.02), [[5, 5, 5, 3, 3, 3, 3]])


def test_nodata_neither_grows_nor_goes(tiled):
    classes = np.full((9, 9), FILL, "uint8")
    classes[4, 4] = 1  # an island: nobody can tell what it should be
    classes[0, :5] = 2
    classes[1, 0] = 3  # beside two pixels of nodata and one of 2
    got = tiled(majority_sieve, classes, tiles=Tiles.regular((9, 9), 4), minimum_area=0.03)
    want = classes.copy()
    want[1, 0] = 2
    np.testing.assert_array_equal(got, want)
    masked = tiled(majority_sieve, classes, minimum_area=0.03, nodata=(FILL, 2))
    np.testing.assert_array_equal(masked, classes)


@pytest.mark.parametrize("n", [100, 300])
def test_parts_follow_the_edge_where_most_of_a_map_is_large(n):
    rng = np.random.default_rng(2)
    classes = (ndimage.gaussian_filter(rng.random((n, n)), 4) > 0.5).astype("uint8")
    classes[rng.random((n, n)) < 0.05] = 2
    grid = Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=(n, n))
    kept, part = majority_sieve.kernel(classes, grid=grid, minimum_area=0.1, nodata=(FILL,))
    assert len(part["value"]) < 1.2 * n
    assert sum(a.nbytes for a in part.values()) < 160 * n
