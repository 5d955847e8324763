"""The score: counted by hand, for each kind of class table and grid."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from mdive.errors import InputError
from mdive.testing import score

TRANSFORM = Affine(10, 0, 500_000, 0, -10, 5_000_000)
TABLE = {
    "flag_values": "0,1,2,250,253,255",
    "flag_meanings": "not_water flood_open_water permanent_water hand_masked cloud fill",
}


@pytest.fixture
def write(tmp_path):
    def make(name, array, transform=TRANSFORM, band_tags=None, file_tags=None, crs="EPSG:32633"):
        array = np.asarray(array, np.uint8)
        path = tmp_path / name
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": array.shape[0], "width": array.shape[1], "nodata": 255}
        with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as file:
            file.write(array, 1)
            file.update_tags(1, **(band_tags or {}))
            file.update_tags(**(file_tags or {}))
        return path

    return make


#           tp tp fn fn fp tn  reference x2, outside, unseen x3
TRUTH = [[1, 1, 1, 1, 0, 0, 2, 2, 255, 1, 0, 1]]
GOT = [[1, 2, 0, 0, 1, 0, 1, 2, 1, 250, 253, 255]]


@pytest.mark.parametrize("where", ["band_tags", "file_tags"])
def test_counts_are_those_of_the_hand(write, where):
    got = score(write("truth.tif", TRUTH), write("got.tif", GOT, **{where: TABLE}))
    assert (got.tp, got.fp, got.fn, got.tn) == (2, 1, 2, 1)
    assert got.f1 == pytest.approx(4 / 7)
    assert got.iou == pytest.approx(2 / 5)
    assert got.observed_share == pytest.approx(8 / 11)
    assert got.reference_called_event == 1


def test_without_a_table_one_to_five_are_the_event(write):
    got = score(write("truth.tif", [[1, 1, 0, 0, 1]]), write("got.tif", [[5, 6, 1, 0, 230]]))
    assert (got.tp, got.fp, got.fn, got.tn) == (1, 1, 1, 1)
    assert got.observed_share == pytest.approx(0.8)


def test_burn_classes_are_read_by_name(write):
    table = {"flag_values": "0, 1, 2, 3, 6, 255", "flag_meanings": "unburned regrowth_high regrowth_low low high unmappable"}
    got = score(write("truth.tif", [[0, 0, 0, 1, 1, 1]]), write("got.tif", [[0, 1, 2, 3, 6, 255]], band_tags=table))
    assert (got.tp, got.fp, got.fn, got.tn) == (2, 0, 0, 3)
    assert got.f1 == 1


def test_no_event_anywhere_has_no_f1(write):
    got = score(write("truth.tif", [[0, 0]]), write("got.tif", [[0, 0]], band_tags=TABLE))
    assert math.isnan(got.f1)
    assert math.isnan(got.iou)
    assert got.tn == 2


def test_product_is_brought_to_the_truths_grid(write):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (300, 400)).astype(np.uint8)
    # The product has pixels of half the size and starts 100 m further east: the western 10 columns of the truth are not covered.
    fine = truth[:, 10:].repeat(2, 0).repeat(2, 1)
    got = score(write("truth.tif", truth), write("got.tif", fine, Affine(5, 0, 500_100, 0, -5, 5_000_000), band_tags=TABLE))
    assert got.f1 == 1
    assert got.observed_share == pytest.approx(390 / 400)
    assert got.tp == truth[:, 10:].sum()


def test_blocks_add_up(write, monkeypatch):
    rng = np.random.default_rng(1)
    truth, product = (
        write("t.tif", rng.choice([0, 1, 2, 255], (130, 210))),
        write("p.tif", rng.choice([0, 1, 2, 253], (130, 210)), band_tags=TABLE),
    )
    expected = score(truth, product)
    monkeypatch.setattr("mdive.testing._score.BLOCK", 37)
    assert score(truth, product) == expected


def test_unreadable_and_inconsistent_rasters_are_named(write, tmp_path):
    truth = write("truth.tif", TRUTH)
    with pytest.raises(InputError, match=r"missing\.tif"):
        score(truth, tmp_path / "missing.tif")
    table = {"flag_values": "0,1", "flag_meanings": "not_water"}
    with pytest.raises(InputError, match="flag_values"):
        score(truth, write("got.tif", GOT, band_tags=table))


def test_truth_of_a_real_case_scores_itself():
    data = Path(os.environ.get("MDIVE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    case = data / "cases" / "flood-usa-905409"
    if not case.exists():
        pytest.skip(f"no real data in {data}")
    got = score(case / "truth.tif", case / "truth.tif")
    assert got.f1 == 1
    assert got.observed_share == 1
    assert got.tp > 1000


def test_background_that_is_right_earns_nothing(write):
    """A map without any event is right on 99 % of such an area, and worth nothing; so is one that doubles the event for the same share."""
    truth = np.zeros((100, 100), np.uint8)
    truth[:10, :10] = 1
    nothing = score(write("truth.tif", truth), write("dry.tif", np.zeros_like(truth), band_tags=TABLE))
    assert (nothing.tn + nothing.tp) / truth.size == 0.99
    assert (nothing.f1, nothing.iou) == (0.0, 0.0)
    twice = truth.copy()
    twice[:10, 10:20] = 1
    wide = score(write("truth.tif", truth), write("wide.tif", twice, band_tags=TABLE))
    assert (wide.f1, wide.iou) == (pytest.approx(2 / 3), 0.5)
    # More dry land around changes neither.
    larger = np.pad(truth, ((0, 900), (0, 900))), np.pad(twice, ((0, 900), (0, 900)))
    assert score(write("truth.tif", larger[0]), write("wide.tif", larger[1], band_tags=TABLE)).f1 == wide.f1
