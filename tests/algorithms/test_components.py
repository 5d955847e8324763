"""Connected components on any tiles against scikit-image on the whole array."""

import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import filters, measure, morphology

from mdive.algorithms.components import component_table, holes, hysteresis, label, sieve
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, Window, load_node


def cuts(length):
    return st.sets(st.integers(1, length - 1), max_size=length - 1).map(lambda s: (0, *sorted(s), length))


@st.composite
def masks(draw, values=2):
    """Two masks of one size (random of any density, so that components percolate, or drawn pixel by pixel), and a partition."""
    shape = draw(st.integers(2, 23)), draw(st.integers(2, 23))
    tiles = Tiles(draw(cuts(shape[0])), draw(cuts(shape[1])))
    if draw(st.booleans()):
        return [draw(arrays(bool, shape)) for _ in range(values)], tiles
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [rng.random(shape) < draw(st.floats(0.05, 0.95)) for _ in range(values)], tiles


def diagonal(n=12):
    return [np.eye(n, dtype=bool), np.eye(n, dtype=bool)]


SINGLE = Tiles(tuple(range(13)), tuple(range(13)))
SPIRAL = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 1, 0, 1],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 1],
    ],
    bool,
)


@settings(max_examples=200)
@given(masks(1), st.sampled_from([4, 8]))
@example(([diagonal()[0]], SINGLE), 8)
@example(([diagonal()[0]], SINGLE), 4)
@example(([diagonal()[0][::-1].copy()], SINGLE), 8)
@example(([SPIRAL], Tiles((0, 1, 3, 7), (0, 2, 3, 4, 7))), 4)
def test_labels_are_scikit_images_and_scipys(tiled, case, neighbours):
    (mask,), tiles = case
    got = tiled(label, mask, tiles=tiles, neighbours=neighbours)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, measure.label(mask, connectivity=neighbours // 4))
    np.testing.assert_array_equal(got, ndimage.label(mask, ndimage.generate_binary_structure(2, neighbours // 4))[0])


@settings(max_examples=200)
@given(masks(2), st.booleans())
@example((diagonal(), SINGLE), True)
@example(([np.zeros((3, 3), bool)] * 2, Tiles((0, 2, 3), (0, 3))), True)
def test_tables_are_scikit_images_region_properties(evaluate, case, flagged):
    (mask, flag), tiles = case
    nodes = [load_node("s/post", name, dtype="bool", timed=False) for name in ("m", "f")]
    labels = label(nodes[0])
    outputs = {"labels": labels, "table": component_table(labels, nodes[1] if flagged else None)}
    got = evaluate(outputs, {"m": mask, "f": flag}, tiles)
    labels, table = got["labels"], got["table"]
    regions = measure.regionprops(labels)
    assert {len(column) for column in table.values()} == {len(regions) + 1}
    for region in regions:
        row = {name: int(column[region.label]) for name, column in table.items()}
        assert (row["top"], row["left"], row["bottom"], row["right"]) == region.bbox
        assert row["area"] == region.area
        assert row["flagged"] == (flag[labels == region.label].sum() if flagged else 0)
        assert row["top"] * mask.shape[1] + row["first"] == np.flatnonzero(labels == region.label)[0]
    np.testing.assert_array_equal(table["area"][labels][mask], np.bincount(labels.ravel())[labels][mask])


@settings(max_examples=150, deadline=None)
@given(masks())
@example((diagonal(), SINGLE))
@example(([SPIRAL & (np.add.outer(np.arange(7), np.arange(7)) == 0), SPIRAL], Tiles((0, 1, 3, 7), (0, 2, 3, 4, 7))))
def test_hysteresis_is_scikit_images_with_corners(tiled, case):
    (seed, grow), tiles = case
    seed = seed & grow
    labels = measure.label(grow, connectivity=2)
    want = grow & np.isin(labels, labels[seed])
    np.testing.assert_array_equal(tiled(hysteresis, seed, grow, tiles=tiles), want)
    # scikit-image's own function connects at sides only; it may join less, never more.
    assert not (filters.apply_hysteresis_threshold(grow.astype(int) + seed, 0.5, 1.5) & ~want).any()


@settings(max_examples=100, deadline=None)
@given(masks(), st.integers(0, 30))
def test_hysteresis_with_a_least_area_is_hysteresis_then_sieve(tiled, case, pixels):
    (seed, grow), tiles = case
    hectares = pixels / 100
    twice = tiled(sieve, tiled(hysteresis, seed, grow), minimum_area=hectares)
    np.testing.assert_array_equal(tiled(hysteresis, seed, grow, tiles=tiles, minimum_area=hectares), twice)


@settings(max_examples=150, deadline=None)
@given(masks(1), st.integers(0, 40))
@example(([diagonal()[0]], SINGLE), 12)
@example(([diagonal()[0]], SINGLE), 13)
def test_sieve_is_scikit_images(tiled, case, pixels):
    (mask,), tiles = case
    labels = measure.label(mask, connectivity=2)
    size = np.bincount(labels.ravel())
    want = mask & (size[labels] >= pixels)
    np.testing.assert_array_equal(tiled(sieve, mask, tiles=tiles, minimum_area=pixels / 100), want)
    if pixels > 1:
        np.testing.assert_array_equal(want, morphology.remove_small_objects(mask, max_size=pixels - 1, connectivity=2))


@settings(max_examples=150, deadline=None)
@given(masks(), st.integers(0, 40))
def test_holes_are_small_enclosed_and_known(tiled, case, pixels):
    (mask, known), tiles = case
    known = known | mask
    labels = measure.label(~mask, connectivity=1)
    want = np.zeros_like(mask)
    for region in measure.regionprops(labels):
        here = labels == region.label
        r0, c0, r1, c1 = region.bbox
        enclosed = r0 > 0 and c0 > 0 and r1 < mask.shape[0] and c1 < mask.shape[1]
        if enclosed and known[here].all() and region.area < pixels:
            want |= here
    np.testing.assert_array_equal(tiled(holes, mask, known, tiles=tiles, minimum_area=pixels / 100), want)


def test_what_is_connected_at_corners_is_enclosed_only_at_sides(tiled):
    ring = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    ring = np.pad(ring, 1)
    assert tiled(label, ring).max() == 1
    assert tiled(holes, ring, np.ones_like(ring)).sum() == 1


@pytest.mark.parametrize("resolution", [10.0, 20.0, 30.0])
def test_the_minimum_area_is_in_hectares(tiled, resolution):
    mask = np.zeros((40, 40), bool)
    mask[2:7, 2:8] = True  # 30 pixels
    mask[20:22, 20:22] = True  # 4 pixels
    kept = tiled(sieve, mask, tiles=Tiles.regular(mask.shape, 5), resolution=resolution, minimum_area=0.3)
    assert kept.sum() == {10.0: 30, 20.0: 30, 30.0: 34}[resolution]


def test_parts_follow_the_border_not_the_area():
    rng = np.random.default_rng(0)
    for n in (200, 400):
        mask = rng.random((n, n)) < 0.3
        window = Window(0, 0, n, n)
        kept, part = sieve.kernel(mask, grid=_grid(n), minimum_area=0.05)
        assert part["area"].size < 4 * n
        assert kept.max() == part["area"].size
        assert sum(a.nbytes for a in part.values()) < 60 * n
        assert len(pickle.dumps((window, part))) < 70 * n + 1000


def test_empty_full_and_single_pixels(tiled):
    for mask in (np.zeros((5, 4), bool), np.ones((5, 4), bool), np.ones((1, 1), bool)):
        assert tiled(label, mask, tiles=Tiles.regular(mask.shape, 2)).max() == int(mask.any())
        np.testing.assert_array_equal(tiled(sieve, mask, tiles=Tiles.regular(mask.shape, 2), minimum_area=0.01), mask)


def test_plain_arrays_are_enough():
    np.testing.assert_array_equal(label(SPIRAL), measure.label(SPIRAL, connectivity=2))
    assert sieve(SPIRAL, minimum_area=1.0).sum() == 0


def _grid(n):
    return Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=(n, n))
