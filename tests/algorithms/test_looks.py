"""The looks that a scene tells of itself: right for speckle of known looks, correlated or not, on any land and any tiling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mdive.algorithms.looks import BINS, GRDH_LOOKS, STEP, equivalent_looks
from mdive.algorithms.sar import variation, window_radius
from mdive.model.plan import Grid
from mdive.pipeline import Tiles, load_node


def grid(shape, resolution=10.0):
    return Grid(crs="EPSG:32631", resolution=resolution, x0=0.0, y0=0.0, shape=shape)


def told(power, resolution=10.0, **parameters):
    g = grid(power.shape, resolution)
    return float(equivalent_looks(variation(power.astype("float32"), grid=g), grid=g, **parameters)["looks"][0])


def fields(shape, seed=1):
    """Land of even fields, a tenth of it water, with sharp borders every 20 pixels."""
    rng = np.random.default_rng(seed)
    rows, cols = (-(-n // 20) for n in shape)
    db = rng.normal(-10.0, 2.0, (rows, cols))
    db[rng.random((rows, cols)) < 0.1] = -20.0
    return 10 ** (np.kron(db, np.ones((20, 20)))[: shape[0], : shape[1]] / 10)


@pytest.mark.parametrize("resolution", [10.0, 30.0])
@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0, 100.0])
def test_a_scene_tells_its_looks_whatever_lies_on_it(speckle, looks, resolution):
    for land in (np.full((400, 400), 0.05), fields((400, 400))):
        assert told(speckle(land, looks=looks), resolution) == pytest.approx(looks, rel=0.3)


@pytest.mark.parametrize("times", [2, 3])
def test_averaging_pixels_multiplies_looks(speckle, times):
    shape = (600 // times, times, 600 // times, times)
    power = speckle(fields((600, 600))).reshape(shape).mean(axis=(1, 3))
    assert told(power, 10.0 * times) == pytest.approx(4.4 * times**2, rel=0.25)


def test_the_mean_of_correlated_pixels_gains_less_than_their_number(speckle):
    """What the ratio of areas cannot know: neighbours that share speckle, as all resampled products have."""
    fine = ndimage.uniform_filter(speckle(np.full((900, 900), 0.05), looks=1.1).astype("float64"), 2)
    coarse = fine.reshape(450, 2, 450, 2).mean(axis=(1, 3))
    truth = coarse.mean() ** 2 / coarse.var()
    assert truth < 0.7 * 4 * 4.4
    assert told(coarse, 20.0) == pytest.approx(truth, rel=0.35)


def test_what_somebody_filled_in_has_no_speckle_and_is_not_asked(speckle):
    power = speckle(np.full((300, 300), 0.05))
    power[:, :150] = 0.03
    assert told(power) == pytest.approx(4.4, rel=0.15)


def test_without_a_valid_window_the_looks_are_the_published_ones():
    assert told(np.full((40, 40), np.nan)) == GRDH_LOOKS
    assert told(np.full((40, 40), 0.05)) == GRDH_LOOKS


def test_given_looks_are_taken(speckle):
    assert told(speckle(np.full((60, 60), 0.05)), looks=12.5) == 12.5


def test_no_scene_has_less_than_one_look_or_more_than_a_thousand(speckle):
    rough = speckle(np.full((200, 200), 0.05), looks=0.4)
    assert told(rough) == 1.0
    assert told(speckle(np.full((200, 200), 0.05), looks=20_000.0)) == 1000.0


def test_only_counts_leave_a_tile():
    values = np.array([[np.nan, 0.0, 1e-7, 0.0021, 0.48, STEP * BINS, 5.0, 1.9999]], "float32")
    counts = equivalent_looks.kernel(values)
    assert counts.dtype.kind == "i"
    assert np.flatnonzero(counts).tolist() == [0, 96 if np.float32(0.48) / STEP >= 96 else 95, BINS - 1]


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_tiling_moves_the_looks(evaluate, speckle, data):
    rows, cols = (
        data.draw(st.sets(st.integers(1, n - 1), max_size=5).map(lambda s, n=n: (0, *sorted(s), n)), label=label)
        for n, label in ((90, "rows"), (70, "cols"))
    )
    power = speckle(fields((90, 70)))
    power[10:30, 20:50] = np.nan
    node = load_node("s/post", "power", timed=False)
    outputs = {"looks": equivalent_looks(variation(node))}
    whole, got = (evaluate(outputs, {"power": power}, tiles)["looks"]["looks"] for tiles in (None, Tiles(rows, cols)))
    np.testing.assert_array_equal(got, whole)
    assert 3.0 < whole[0] < 6.0
    assert window_radius({}, grid(power.shape)) == 2
