"""One event, asked for at any pixel size: the decision stays, and so does the area, down to what a pixel can hold."""

import numpy as np
import pytest
import rasterio

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.algorithms import wildfire_tables as fire
from mdive.model import load_event
from mdive.testing import make_flood_event, make_wildfire_event

SEEDS = (3, 5)


@pytest.fixture(scope="module")
def radar_flood(tmp_path_factory):
    return {s: make_flood_event(tmp_path_factory.mktemp("radar"), seed=s, size_km=4.0) for s in SEEDS}


@pytest.fixture(scope="module")
def optical_flood(tmp_path_factory):
    return {s: make_flood_event(tmp_path_factory.mktemp("optical"), seed=s, size_km=4.0, sensors=("optical",), cloud=0.0) for s in SEEDS}


@pytest.fixture(scope="module")
def wildfire(tmp_path_factory):
    return {s: make_wildfire_event(tmp_path_factory.mktemp("fire"), seed=s, size_km=5.0, cloud=0.0) for s in SEEDS}


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1), dataset.transform.a


def square_km(path, value):
    raster, pixel = read(path)
    return float((raster == value).sum()) * pixel**2 / 1e6


def run(made, resolution, folder, algorithm=None, **parameters):
    event = load_event(made.event)
    event = event.model_copy(update={"intent": event.intent.model_copy(update={"resolution": resolution, "algorithm": algorithm})})
    plan = mdive.plan(event, catalog=str(made.catalog), parameters=parameters)
    return mdive.run(plan, folder, runtime=mdive.connect("serial"))


def areas(made, value, resolutions, folder, algorithm=None):
    found = {}
    for resolution in resolutions:
        report = run(made, resolution, folder / f"{resolution:g}", algorithm)
        assert report.plan.grid.resolution == resolution
        assert report.decision == "event", resolution
        found[resolution] = square_km(report.path("extent"), value)
    return np.array(list(found.values()))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_coarser_grid_does_not_lose_a_flood_seen_by_radar(radar_flood, tmp_path, seed):
    """Averaged pixels have less speckle; only its tail used to be dark enough to start a water body."""
    made = radar_flood[seed]
    truth = square_km(made.truth, 1)
    found = areas(made, flood.FLOOD, (10.0, 20.0, 25.0, 30.0, 40.0, 60.0, 100.0), tmp_path)
    # Truth holds flood under trees, which radar does not see as open water, a few percent of it.
    np.testing.assert_allclose(found, truth, rtol=0.08)
    np.testing.assert_allclose(found, found[0], rtol=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_radar_scene_finds_the_flood_at_any_pixel_size(radar_flood, tmp_path, seed):
    """Of coarser pixels a few percent less, all of it at the edges: a pixel that is half land is four times brighter than water, and what is
    found too much of 10 m pixels, dark fields smaller than a hectare, is averaged away."""
    made = radar_flood[seed]
    found = areas(made, flood.FLOOD, (10.0, 30.0, 60.0, 100.0), tmp_path, algorithm="flood.sar_threshold")
    np.testing.assert_allclose(found, square_km(made.truth, 1), rtol=0.08)


@pytest.mark.parametrize("looks", [4.4, 17.6, 100.0])
def test_no_number_of_looks_makes_a_flood_vanish(radar_flood, tmp_path, looks):
    made = radar_flood[SEEDS[0]]
    truth = square_km(made.truth, 1)
    for resolution in (10.0, 30.0):
        report = run(made, resolution, tmp_path / f"{resolution:g}", looks=looks)
        assert report.plan.algorithm.parameters["looks"] == looks
        assert square_km(report.path("extent"), flood.FLOOD) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_coarser_grid_does_not_lose_a_flood_seen_by_an_optical_sensor(optical_flood, tmp_path, seed):
    made = optical_flood[seed]
    truth = square_km(made.truth, 1)
    found = areas(made, flood.FLOOD, (10.0, 20.0, 30.0, 60.0, 100.0), tmp_path)
    # What is partly wet is a class of its own, and the larger a pixel, the oftener it is.
    np.testing.assert_allclose(found, truth, rtol=0.15)
    np.testing.assert_allclose(found, found[0], rtol=0.10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_coarser_grid_does_not_lose_a_burn(wildfire, tmp_path, seed):
    made = wildfire[seed]
    truth = square_km(made.truth, 1)
    found = areas(made, fire.BURNED, (10.0, 20.0, 30.0, 60.0, 100.0), tmp_path)
    np.testing.assert_allclose(found, truth, rtol=0.08)
    np.testing.assert_allclose(found, found[0], rtol=0.12)


def test_pixels_larger_than_the_cloud_margin_keep_a_margin(tmp_path):
    """Reflectance of a coarse pixel is a mean, its quality that of the centre: beside cloud it holds cloud that nobody marked."""
    made = make_wildfire_event(tmp_path / "event", seed=3, size_km=5.0)
    shares = {r: run(made, r, tmp_path / f"{r:g}").quality.observed_share for r in (20.0, 60.0, 80.0, 100.0)}
    for resolution, share in shares.items():
        assert share == pytest.approx(shares[20.0], abs=0.06), resolution
