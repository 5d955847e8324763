"""The landscape: it drains, a flood on it reaches the river and grows with its stage, and no block edge shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mdive.pipeline.window import Window
from mdive.testing._cover import BARE, BUILT, COVER_NAMES, CROP, FARMLAND, GRASS, TREE, WATER, cover
from mdive.testing._landscape import LOWLAND, MOUNTAIN, Landscape

SHAPE = (900, 1000)


def whole(landscape: Landscape):
    return landscape.window(Window(0, 0, *landscape.shape))


@pytest.fixture(scope="module", params=[0, 1, 2])
def flooded(request):
    landscape = Landscape(request.param, SHAPE, 10.0, LOWLAND, stage=2.5)
    return landscape, whole(landscape)


@settings(max_examples=25, deadline=None)
@given(row=st.integers(-20, 880), col=st.integers(-20, 980), height=st.integers(1, 60), width=st.integers(1, 60))
def test_any_block_is_a_cut_of_the_whole(row, col, height, width):
    landscape = Landscape(4, SHAPE, 10.0, LOWLAND, stage=2.0)
    outer, inner = Window(row - 13, col - 17, height + 30, width + 40), Window(row, col, height, width)
    big, small = landscape.window(outer), landscape.window(inner)
    cut = inner.within(outer)
    for name in ("elevation", "height", "depth", "permanent", "east", "south"):
        assert np.array_equal(getattr(small, name), getattr(big, name)[cut]), name
    a, b = cover(landscape, FARMLAND, inner, small), cover(landscape, FARMLAND, outer, big)
    for name in ("code", "field", "patch"):
        assert np.array_equal(getattr(a, name), getattr(b, name)[cut]), name


def test_flood_is_connected_to_the_river(flooded):
    _, land = flooded
    water = (land.depth > 0) | land.permanent
    parts, count = ndimage.label(water, np.ones((3, 3)))
    sizes = ndimage.sum_labels(land.depth > 0, parts, np.arange(1, count + 1))
    reaches = ndimage.maximum(land.permanent, parts, np.arange(1, count + 1)) > 0
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    inside = ~np.isin(np.arange(1, count + 1), edge)
    # What touches the scene's edge may be joined beyond it; a pixel-wide neck may be cut by the pixels.
    assert sizes[~reaches & inside].sum() < 2e-4 * sizes.sum()
    assert sizes.max() > 0.9 * sizes.sum()


def test_flood_grows_with_its_stage():
    previous = None
    shares = []
    for stage in (0.0, 0.7, 1.5, 2.5, 4.0):
        land = whole(Landscape(0, SHAPE, 10.0, LOWLAND, stage=stage))
        wet = (land.depth > 0) & ~land.permanent
        shares.append(wet.mean())
        if previous is not None:
            assert not (previous & ~wet).any()
        previous = wet
    assert shares[0] == 0
    assert shares == sorted(set(shares))
    assert 0.1 < shares[3] < 0.4


def test_stage_changes_nothing_but_the_depth():
    a, b = (whole(Landscape(0, (200, 300), 10.0, LOWLAND, stage=s)) for s in (0.0, 3.0))
    for name in ("elevation", "height", "permanent", "east", "south"):
        assert np.array_equal(getattr(a, name), getattr(b, name))


def test_flooded_ground_is_low_and_depth_is_what_the_level_is_above_it(flooded):
    landscape, land = flooded
    wet = (land.depth > 0) & ~land.permanent
    assert land.height[wet].max() <= landscape.stage
    assert land.depth[wet].max() <= landscape.stage + 1e-3
    assert land.height[~wet & ~land.permanent].min() > 0


@pytest.mark.parametrize("relief", [LOWLAND, MOUNTAIN], ids=["lowland", "mountain"])
def test_valley_floor_falls_downstream(relief):
    landscape = Landscape(1, (1000, 1400), 20.0, relief)
    land = whole(landscape)
    # The river's normal level is the ground minus its height above the channel; the lowest point of each column lies on it.
    floor = np.where(land.permanent & (land.height < 0), land.elevation - land.height, np.inf)
    level = floor.min(axis=0)
    assert np.isfinite(level).all()
    assert (level[100:] < level[:-100]).all()
    assert (level[:-100] - level[100:]).mean() == pytest.approx(relief.fall * 100 * 20, rel=0.25)


def test_displacement_never_folds():
    for seed in range(4):
        landscape = Landscape(seed, (1500, 1500), 20.0, LOWLAND)
        u, v = (d.astype(float) / 20.0 for d in landscape.displacement(Window(0, 0, 1500, 1500)))
        uy, ux = np.gradient(u)
        vy, vx = np.gradient(v)
        assert ((1 + ux) * (1 + vy) - uy * vx).min() > 0.1


@pytest.mark.parametrize("seed", [2, 5])
@pytest.mark.parametrize(("relief", "steep"), [(LOWLAND, 1.0), (MOUNTAIN, 3.5)], ids=["lowland", "mountain"])
def test_cells_of_the_construction_meet_without_a_step(relief, steep, seed):
    """A slope's rise from pixel to pixel shrinks with the pixel; a step between two valleys, tributaries or gullies would stay."""
    rises = []
    for resolution, edge in ((20.0, 800), (5.0, 3200)):
        land = Landscape(seed, (edge, edge), resolution, relief).window(Window(0, 0, edge, edge))
        rises.append(max(np.abs(np.diff(land.elevation, axis=axis)).max() for axis in (0, 1)))
        assert np.percentile(np.hypot(land.east, land.south), 99.9) < steep
    assert rises[1] < 0.45 * rises[0]


def test_small_scenes_show_the_same_kind_of_land():
    for edge in (64, 150, 400):
        land = whole(Landscape(0, (edge, edge), 10.0, LOWLAND, stage=2.5))
        wet = (land.depth > 0) & ~land.permanent
        assert 0.08 < wet.mean() < 0.45
        assert 0.01 < land.permanent.mean() < 0.3


def test_cover_is_where_it_belongs(flooded):
    landscape, land = flooded
    ground = cover(landscape, FARMLAND, Window(0, 0, *SHAPE), land)
    assert set(np.unique(ground.code)) <= set(COVER_NAMES)
    assert np.array_equal(ground.code == WATER, land.permanent)
    for code in (TREE, GRASS, CROP):
        assert (ground.code == code).mean() > 0.08
    slope = np.hypot(land.east, land.south)
    town = ground.code == BUILT
    assert not town.any() or (slope[town].max() < 0.12 and land.height[town].min() > 1.5)
    assert (ground.code == BARE).mean() < 0.05
    plain = (land.height < 4) & ~land.permanent
    assert (ground.code[plain] == TREE).mean() < 0.05
    assert len(np.unique(ground.field)) > 100
