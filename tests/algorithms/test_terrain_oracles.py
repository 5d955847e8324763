"""Fill, accumulation and height above drainage against other programs: what they made of small DEMs (``golden``), and of a real one.

Programs choose other neighbours and cross flats in other ways, so all but the fill is compared on mdive's own directions.
"""

from pathlib import Path

import numpy as np
import pytest
from skimage.morphology import reconstruction

from mdive.algorithms.terrain_accumulation import flow_accumulation
from mdive.algorithms.terrain_direction import NODATA, OUTLET, esri, steepest_descent
from mdive.algorithms.terrain_drain import at_drain
from mdive.algorithms.terrain_fill import filled
from mdive.algorithms.terrain_flats import flow_direction
from mdive.model.plan import Grid
from mdive.pipeline import Tiles

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NAMES = ("continuous", "flat", "noisy", "holed")
HOLE = 65_535
DRAIN = {"continuous": 150, "holed": 150, "noisy": 12, "flat": 150}


@pytest.fixture(scope="module", params=NAMES)
def golden(request):
    with np.load(GOLDEN / f"terrain_{request.param}.npz") as file:
        made = dict(file)
    made["name"] = request.param
    made["height"] = np.where(made["dem"] == HOLE, np.nan, made["dem"] / 1024).astype("float32")
    return made


def of_esri(codes):
    """Return mdive's directions of ESRI's codes."""
    table = np.full(256, 99, "uint8")
    table[esri(np.arange(8, dtype="uint8"))] = np.arange(8)
    table[0], table[255] = OUTLET, NODATA
    assert (table[codes] != 99).all()
    return table[codes]


def tilings(shape):
    return Tiles((0, *shape[:1]), (0, *shape[1:])), Tiles.regular(shape, 37), Tiles((0, 1, 70, 71, shape[0]), (0, 2, 3, 90, shape[1]))


def filled_by_definition(height):
    """Return the lowest water level from which each cell drains to what is beside the unknown: a reconstruction by erosion."""
    hole = np.pad(np.isnan(height), 1, constant_values=True)
    low = np.pad(np.nan_to_num(height.astype("float64"), nan=-1e4), 1, constant_values=-1e4)
    made = reconstruction(np.where(hole, low, low.max()), low, method="erosion", footprint=np.ones((3, 3)))
    return np.where(hole, np.nan, made)[1:-1, 1:-1]


# Golden arrays


def test_the_dems_are_what_they_are_called(golden):
    surface = filled(golden["height"])
    level = (steepest_descent(surface) > OUTLET) & np.isfinite(surface)
    holes = np.isnan(golden["height"])
    assert (level.mean() > 0.7) == (golden["name"] == "flat")
    assert holes.any() == (golden["name"] == "holed")
    assert (surface > golden["height"]).sum() > 1000


def test_the_fill_is_that_of_other_programs(golden, tiled):
    height = golden["height"].astype("float64")
    got = [tiled(filled, golden["height"], tiles=t) for t in tilings(height.shape)]
    for surface in got:
        np.testing.assert_array_equal(surface, height + golden["raised_by_scikit_image"])
        if golden["name"] != "holed":
            np.testing.assert_array_equal(surface, height + golden["raised_by_richdem"])
        fastscapelib = height + golden["raised_by_scikit_image"] + golden["fill_by_fastscapelib_less_scikit_image"]
        np.testing.assert_allclose(surface, fastscapelib, rtol=0, atol=1e-12)


def test_directions_are_those_that_the_golden_arrays_were_made_with(golden):
    """If this fails alone and on purpose, make the golden arrays again."""
    made = esri(flow_direction(steepest_descent(filled(golden["height"]))))
    np.testing.assert_array_equal(made, golden["direction"])


def test_accumulation_of_given_directions_is_that_of_pyflwdir_and_pysheds(golden, tiled):
    direction = of_esri(golden["direction"])
    assert not golden["upstream_by_pysheds_less_pyflwdir"].any()
    for tiles in tilings(direction.shape):
        np.testing.assert_array_equal(tiled(flow_accumulation, direction, tiles=tiles), golden["upstream_by_pyflwdir"])


def test_height_above_given_drains_is_that_of_pysheds_and_of_pyflwdir(golden, tiled):
    direction, surface = of_esri(golden["direction"]), filled(golden["height"])
    drain = golden["upstream_by_pyflwdir"] >= DRAIN[golden["name"]]
    for tiles in tilings(direction.shape):
        hand = surface.astype("float64") - tiled(at_drain, direction, drain, surface, tiles=tiles)
        np.testing.assert_array_equal(hand, golden["hand_by_pysheds"].astype("float64"))
        theirs = golden["hand_by_pysheds"].astype("float64") + golden["hand_by_pyflwdir_less_pysheds"]
        np.testing.assert_allclose(hand, theirs, rtol=0, atol=1e-12)
    assert (hand[drain] == 0).all()
    assert np.nanmin(hand) == 0
    assert 0.02 < np.isnan(hand).mean() < 0.9


# A real DEM and what TauDEM made of it


@pytest.fixture(scope="module")
def taudem(real_data):
    import rasterio

    folder = real_data / "raw" / "terrain" / "taudem_enogeo"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    layers = {}
    for name in ("", "fel", "p", "ddvmin", "ddvmax", "src"):
        with rasterio.open(folder / f"enogeo{name}.tif") as file:
            layers[name or "dem"], transform = file.read(1), file.transform
    shape = layers["dem"].shape
    # Its CRS differs from this one in the order of the axes alone.
    layers["grid"] = Grid(crs="EPSG:4269", resolution=transform.a, x0=transform.c, y0=transform.f, shape=shape)
    return layers


def test_the_fill_is_taudems(taudem):
    np.testing.assert_array_equal(filled(taudem["dem"]), taudem["fel"])


def test_off_flats_directions_are_taudems(taudem):
    ours = steepest_descent(taudem["fel"], grid=taudem["grid"])
    # Counter-clockwise from the east.
    theirs = np.array([NODATA, 0, 7, 3, 6, 2, 5, 1, 4], "uint8")[np.maximum(taudem["p"], 0)]
    both = (ours < OUTLET) & (theirs < OUTLET)
    assert both.mean() > 0.95
    # The rest: taudem's neighbours are at a distance that it measures in another way.
    assert (ours == theirs)[both].mean() > 0.9998
    # With square pixels the steepest way is another one in many places: they are 8.3 m wide and 10.3 m high.
    square = steepest_descent(taudem["fel"])
    assert (square == theirs)[both].mean() < 0.98


def test_height_above_drainage_lies_between_taudems_bounds(taudem):
    direction = flow_direction(steepest_descent(taudem["fel"], grid=taudem["grid"]))
    surface = taudem["fel"].astype("float64")
    hand = surface - at_drain(direction, taudem["src"] == 1, surface)
    low, high = taudem["ddvmin"], taudem["ddvmax"]
    known = np.isfinite(hand) & (low > -1e30)
    # TauDEM tells it where all of its ways lead to a drain: here a quarter of the DEM, that with streams.
    assert known.sum() > 0.99 * (low > -1e30).sum()
    # Heights of 200 m and more in float32: differences are good to 1e-5 m.
    inside = (hand >= low - 1e-4) & (hand <= high + 1e-4)
    assert inside[known].mean() >= 0.995


@pytest.mark.parametrize("name", ["pysheds/dem.tif", "dem_stitcher/golden_datasets/los_angeles_dem_geoid.tif"])
def test_the_fill_of_real_dems_is_scikit_images(real_data, tiled, name):
    import rasterio

    path = real_data / "raw" / "terrain" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    with rasterio.open(path) as file:
        height = file.read(1)
    np.testing.assert_array_equal(
        tiled(filled, height, tiles=Tiles.regular(height.shape, 100)), filled_by_definition(height.astype("float32"))
    )
