"""Radar: gamma speckle of the asked looks, class means as declared, and a scene that a simple mapper can read but not perfectly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mdive.pipeline.window import Window
from mdive.testing._cover import CROP, FARMLAND, GRASS, TREE, WATER, cover
from mdive.testing._landscape import LOWLAND, Landscape
from mdive.testing._sar import MEANS, SMOOTH_FIELDS, Radar, backscatter

SHAPE = (900, 1100)
ALL = Window(0, 0, *SHAPE)
MANY = 1e7
"""Looks that leave no speckle to speak of."""


@pytest.fixture(scope="module")
def scene():
    landscape = Landscape(0, SHAPE, 10.0, LOWLAND, stage=2.5)
    land = landscape.window(ALL)
    return landscape, land, cover(landscape, FARMLAND, ALL, land)


def look(scene, *, phase="post", flooded=True, **radar):
    landscape, land, ground = scene
    return backscatter(landscape, ALL, land, ground, Radar(**radar), phase=phase, flooded=flooded)


@pytest.mark.parametrize("looks", [1.0, 4.4, 12.0])
def test_speckle_is_gamma_of_the_asked_looks(scene, looks):
    with_speckle, without = look(scene, looks=looks), look(scene, looks=MANY)
    expected = {1.0: (-2.51, 5.57), 4.4: (-0.51, 2.19), 12.0: (-0.18, 1.28)}[looks]
    for pol in ("vv", "vh"):
        decibels = (with_speckle[pol] - without[pol]).astype(float)
        power = 10 ** (decibels / 10)
        assert power.mean() == pytest.approx(1, abs=0.005)
        assert power.mean() ** 2 / power.var() == pytest.approx(looks, rel=0.03)
        assert decibels.mean() == pytest.approx(expected[0], abs=0.02)
        assert decibels.std() == pytest.approx(expected[1], abs=0.03)


def test_speckle_is_independent_between_pixels_polarisations_and_dates(scene):
    def speckle(phase):
        a, b = (look(scene, phase=phase, flooded=False, looks=looks) for looks in (4.4, MANY))
        return {pol: a[pol] - b[pol] for pol in a}

    pre, post = speckle("pre"), speckle("post")
    pairs = [
        (pre["vv"], pre["vh"]),
        (pre["vv"], post["vv"]),
        (pre["vv"], post["vh"]),
        (pre["vv"][1:], pre["vv"][:-1]),
        (pre["vv"][:, 1:], pre["vv"][:, :-1]),
        (pre["vv"][:, 1:], post["vv"][:, :-1]),
    ]
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.005


def test_classes_have_their_means(scene):
    _, land, ground = scene
    seen = look(scene, flooded=False, looks=MANY, incidence=38.0, incidence_per_km=0.0)
    flat = np.hypot(land.east, land.south) < 0.05
    for code in (TREE, GRASS, CROP):
        here = (ground.code == code) & flat & (ground.field < 256 - SMOOTH_FIELDS)
        for pol, mean in zip(("vv", "vh"), MEANS[code], strict=False):
            assert seen[pol][here].mean() == pytest.approx(mean, abs=0.35), (code, pol)
            assert 0.4 < seen[pol][here].std() < 2.0


def test_calm_water_follows_the_published_line(scene):
    _, land, _ = scene
    for theta in (32.0, 38.0, 44.0):
        seen = look(scene, looks=MANY, wind=0.0, incidence=theta, incidence_per_km=0.0)["vv"][land.permanent]
        sigma0 = -0.394181 * theta - 4.142015
        assert seen.mean() == pytest.approx(sigma0 - 10 * np.log10(np.cos(np.radians(theta))), abs=0.05)


def test_wind_and_incidence_change_water_most(scene):
    _, land, ground = scene
    calm, windy = (look(scene, looks=MANY, wind=w) for w in (0.0, 0.8))
    assert (windy["vv"] - calm["vv"])[land.permanent].mean() > 1.0
    dry = (land.depth <= 0) & ~land.permanent
    assert np.array_equal(windy["vv"][dry], calm["vv"][dry])
    near, far = (look(scene, looks=MANY, incidence=i)["vv"] for i in (32.0, 42.0))
    assert (near - far)[land.permanent].mean() > 2.5
    assert 0 < (near - far)[dry & (ground.code == TREE)].mean() < 1.0


def test_what_floods_turns_dark_but_not_under_trees(scene):
    _, land, ground = scene
    before, after = (look(scene, flooded=f, looks=MANY, wind=0.1) for f in (False, True))
    deep = (land.depth > 0.5) & ~land.permanent
    for pol, least in (("vv", 5.0), ("vh", 6.0)):
        drop = before[pol] - after[pol]
        assert drop[deep & (ground.code == GRASS)].mean() > least
        assert drop[deep & (ground.code == TREE)].max() < 0
        assert np.array_equal(before[pol][land.depth <= 0], after[pol][land.depth <= 0])


def test_some_dry_fields_pass_for_water(scene):
    _, land, ground = scene
    seen = look(scene, looks=MANY)
    smooth = (ground.code == CROP) & (ground.field >= 256 - SMOOTH_FIELDS) & (land.depth <= 0)
    water = seen["vv"][land.permanent]
    assert 0.001 < smooth.mean() < 0.03
    assert (seen["vv"][smooth] < np.quantile(water, 0.9)).mean() > 0.3


def test_any_block_is_a_cut_of_the_whole(scene):
    landscape, *_ = scene
    seen = look(scene)
    for part in (Window(0, 0, 1, 1), Window(131, 257, 83, 201), Window(899, 0, 1, 1100), Window(0, 1099, 900, 1)):
        land = landscape.window(part)
        got = backscatter(landscape, part, land, cover(landscape, FARMLAND, part, land), Radar(), phase="post", flooded=True)
        for pol in got:
            assert np.array_equal(got[pol], seen[pol][part.within(ALL)])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_threshold_after_a_mean_maps_the_flood_well(seed, f1):
    landscape = Landscape(seed, SHAPE, 10.0, LOWLAND, stage=2.5)
    land = landscape.window(ALL)
    ground = cover(landscape, FARMLAND, ALL, land)
    seen = backscatter(landscape, ALL, land, ground, Radar(), phase="post", flooded=True)
    wet = (land.depth > 0) & ~land.permanent
    scores, raw = [], []
    for pol, threshold in (("vv", -14.5), ("vh", -22.0)):
        power = 10 ** (seen[pol].astype(float) / 10)
        scores.append(f1(10 * np.log10(ndimage.uniform_filter(power, 5)) < threshold, wet, ground.code != WATER))
        raw.append(f1(seen[pol] < threshold, wet, ground.code != WATER))
    assert max(scores) >= 0.94
    assert max(scores) < 0.995, "a scene without any difficulty tests nothing"
    assert max(raw) < max(scores) - 0.01, "speckle must be worth filtering"
