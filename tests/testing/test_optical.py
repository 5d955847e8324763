"""Optical: reflectances as declared, as much cloud as asked, shadows where the sun puts them."""

from __future__ import annotations

import numpy as np
import pytest

from mdive.pipeline.window import Window
from mdive.testing._cover import FARMLAND, GRASS, TREE, WATER, cover
from mdive.testing._landscape import LOWLAND, Landscape
from mdive.testing._optical import ADJACENT, BANDS, CLOUD, REFLECTANCE, SHADOW, WATER_BIT, CloudField, Sky, reflectance

SHAPE = (800, 900)
ALL = Window(0, 0, *SHAPE)


@pytest.fixture(scope="module")
def scene():
    landscape = Landscape(1, SHAPE, 10.0, LOWLAND, stage=2.5)
    land = landscape.window(ALL)
    return landscape, land, cover(landscape, FARMLAND, ALL, land)


def look(scene, sky: Sky, *, phase="post", flooded=True):
    landscape, land, ground = scene
    return reflectance(CloudField.of(landscape, phase, sky), ALL, land, ground, flooded=flooded)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.8])
def test_cloud_share_is_as_asked(scene, share):
    fmask = look(scene, Sky(cloud=share))["fmask"]
    assert ((fmask & CLOUD) > 0).mean() == pytest.approx(share, abs=0.005)
    assert ((fmask & SHADOW) > 0).any() == (share > 0)


@pytest.mark.parametrize("azimuth", [40.0, 150.0, 250.0])
def test_shadows_lie_away_from_the_sun(scene, azimuth):
    sky = Sky(cloud=0.2, sun_azimuth=azimuth, sun_elevation=40.0)
    field = CloudField.of(scene[0], "post", sky)
    fmask = look(scene, sky)["fmask"]
    cloud, shadow = (fmask & CLOUD) > 0, (fmask & SHADOW) > 0
    rows, cols = field.shadow_offset
    # North is up: the sun in the south-east (azimuth 150) throws shadows to the north-west.
    assert np.sign(rows) == np.sign(np.cos(np.radians(azimuth)))
    assert np.sign(cols) == -np.sign(np.sin(np.radians(azimuth)))
    assert np.hypot(rows, cols) == pytest.approx(1400 * scene[0].scale / np.tan(np.radians(40)) / 10, abs=1)
    r, c = np.nonzero(shadow)
    r, c = r - rows, c - cols
    inside = (r >= 0) & (r < SHAPE[0]) & (c >= 0) & (c < SHAPE[1])
    assert cloud[r[inside], c[inside]].all()
    assert not (cloud & shadow).any()


def test_clouds_are_bright_and_shadows_dark(scene):
    clear, cloudy = look(scene, Sky()), look(scene, Sky(cloud=0.3))
    fmask = cloudy["fmask"]
    neither = (fmask & (CLOUD | SHADOW)) == 0
    for band in BANDS:
        assert np.array_equal(cloudy[band][neither], clear[band][neither])
    thick = (fmask & CLOUD) > 0
    assert np.median(cloudy["blue"][thick]) > 4 * np.median(clear["blue"][thick])
    dark = (fmask & SHADOW) > 0
    assert np.median(cloudy["nir08"][dark]) < 0.8 * np.median(clear["nir08"][dark])
    assert ((fmask & ADJACENT) > 0).any()


def test_classes_have_their_reflectance(scene):
    _, land, ground = scene
    seen = look(scene, Sky(), flooded=False)
    flat = np.hypot(land.east, land.south) < 0.03
    for code in (TREE, GRASS):
        here = (ground.code == code) & flat
        for band, expected in zip(BANDS, REFLECTANCE[code], strict=True):
            assert np.median(seen[band][here]) * 1e-4 == pytest.approx(expected, rel=0.06), (code, band)


def test_slopes_to_the_sun_are_bright(scene):
    _, land, ground = scene
    # The sun stands in the east; a slope towards the east falls eastwards.
    seen = look(scene, Sky(sun_azimuth=90.0, sun_elevation=35.0), flooded=False)["nir08"].astype(float)
    trees = ground.code == TREE
    lit, turned = trees & (land.east < -0.15), trees & (land.east > 0.15)
    assert lit.sum() > 200
    assert turned.sum() > 200
    assert seen[lit].mean() > 1.1 * seen[turned].mean()


def test_water_is_told_from_land_in_the_clear(scene, f1):
    _, land, ground = scene
    seen = look(scene, Sky(cloud=0.2))
    green, swir = seen["green"].astype(float), seen["swir16"].astype(float)
    clear = (seen["fmask"] & (CLOUD | SHADOW)) == 0
    wet = (land.depth > 0) & ~land.permanent
    water = (green - swir) / (green + swir) > 0
    assert 0.94 < f1(water, wet, clear & (ground.code != WATER)) < 1
    assert ((seen["fmask"] & WATER_BIT) > 0)[land.permanent & clear].mean() > 0.95


def test_numbers_are_storable_and_never_nodata(scene):
    seen = look(scene, Sky(cloud=0.5))
    for band in BANDS:
        assert seen[band].dtype == np.int16
        assert seen[band].min() > -2001
        assert seen[band].max() < 16001
    assert (seen["fmask"] != 255).all()


def test_any_block_is_a_cut_of_the_whole(scene):
    landscape, *_ = scene
    clouds = CloudField.of(landscape, "post", Sky(cloud=0.3))
    seen = look(scene, Sky(cloud=0.3))
    for part in (Window(0, 0, 1, 1), Window(331, 57, 83, 201), Window(799, 0, 1, 900)):
        land = landscape.window(part)
        got = reflectance(clouds, part, land, cover(landscape, FARMLAND, part, land), flooded=True)
        for name in got:
            assert np.array_equal(got[name], seen[name][part.within(ALL)]), name
