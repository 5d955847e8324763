"""Mosaics and the plane of causes: first valid pixel first, and a reason for each that is missing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine

from mdive.cube import read_block
from mdive.errors import InputError
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import MaskRule
from mdive.pipeline.window import Window

PLACE = {"x0": 600000.0, "y0": 4000000.0, "res": 10.0}
WINDOW = Window(0, 0, 100, 120)
SCL = MaskRule(band="scl", kind="values", causes={"cloud": (8, 9, 10), "shadow": (3,), "snow": (11,), "nodata": (0, 1)})
FMASK = MaskRule(band="fmask", kind="bits", causes={"cloud": (1, 2), "shadow": (3,), "snow": (4,)})


@pytest.fixture
def halves(write, item):
    """Two items of one pass: the left and the right half of the same tile are filled, with one column of overlap."""
    left, right = np.zeros((100, 120), "uint16"), np.zeros((100, 120), "uint16")
    left[:, :61], right[:, 60:] = 1000, 3000
    return [item(name, {"red": write(name, data, nodata=0, scale=1e-4, **PLACE)}) for name, data in (("left", left), ("right", right))]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_half_filled_tiles_make_a_whole_one_in_either_order(halves, source, grid, order):
    src = source(*(halves[k] for k in order))
    block = read_block(src, WINDOW, grid(), ["red"])
    expected = np.full((100, 120), np.float32(0.1))
    expected[:, 61:] = np.float32(0.3)
    expected[:, 60] = np.float32(0.1) if order == (0, 1) else np.float32(0.3)
    np.testing.assert_array_equal(block.values["red"][0], expected)
    assert not block.mask.any()


def test_order_is_that_of_the_observation_and_not_of_the_items(halves, source, grid):
    first = source(*halves, observations=[("left", "right")])
    second = source(*halves, observations=[("right", "left")])
    at = (0, 50, 60)
    assert read_block(first, WINDOW, grid(), ["red"]).values["red"][at] == np.float32(0.1)
    assert read_block(second, WINDOW, grid(), ["red"]).values["red"][at] == np.float32(0.3)


def test_time_is_the_order_of_the_observations(halves, source, grid):
    src = source(*halves, observations=[("right",), ("left",)])
    block = read_block(src, WINDOW, grid(), ["red"])
    assert block.values["red"].shape == (2, 100, 120)
    assert (block.values["red"][0, :, 60:] == np.float32(0.3)).all()
    assert (block.values["red"][1, :, :61] == np.float32(0.1)).all()
    np.testing.assert_array_equal(block.mask == QC_FLAGS["nodata"], np.isnan(block.values["red"]))


def test_a_window_that_no_item_touches_is_nodata_everywhere(halves, source, grid):
    block = read_block(source(*halves), Window(5000, 5000, 7, 9), grid(), ["red"])
    assert np.isnan(block.values["red"]).all()
    assert (block.mask == QC_FLAGS["nodata"]).all()
    assert block.mask.dtype == np.uint16
    assert block.failures == ()
    assert block.reads.bands == 0


def test_values_set_their_causes(write, item, source, grid):
    classes = np.arange(12, dtype="uint8").repeat(10)[None].repeat(100, axis=0)
    red = write("red", np.full((100, 120), 500, "uint16"), nodata=0, scale=1e-4, **PLACE)
    scl = write("scl", classes, unit="class", resampling="nearest", **PLACE)
    block = read_block(source(item("i", {"red": red, "scl": scl}), mask=SCL), WINDOW, grid(), ["red"])
    named = {8: "cloud", 9: "cloud", 10: "cloud", 3: "shadow", 11: "snow", 0: "nodata", 1: "nodata"}
    for value in range(12):
        assert block.mask[0, 0, value * 10] == (QC_FLAGS[named[value]] if value in named else 0)
    assert (block.values["red"] == np.float32(0.05)).all()


def test_bits_set_their_causes_together(write, item, source, grid):
    bits = (np.arange(120) % 64).astype("uint8")[None].repeat(100, axis=0)
    red = write("red", np.full((100, 120), 500, "int16"), nodata=-9999, scale=1e-4, **PLACE)
    quality = write("fmask", bits, nodata=255, unit="bits", resampling="nearest", **PLACE)
    block = read_block(source(item("i", {"red": red, "fmask": quality}), mask=FMASK), WINDOW, grid(), ["red"])
    expected = np.zeros(120, "uint16")
    for bit, cause in ((1, "cloud"), (2, "cloud"), (3, "shadow"), (4, "snow")):
        expected[(bits[0] >> bit) & 1 == 1] |= QC_FLAGS[cause]
    np.testing.assert_array_equal(block.mask[0, 0], expected)


def test_the_highest_bit_of_32_is_a_bit(write, item, source, grid):
    red = write("red", np.ones((100, 120), "uint8"), **PLACE)
    quality = write("q", np.full((100, 120), 2**31 + 1, "uint32"), unit="bits", resampling="nearest", **PLACE)
    rule = MaskRule(band="q", kind="bits", causes={"cloud": (31,), "shadow": (30,)})
    block = read_block(source(item("i", {"red": red, "q": quality}), mask=rule), WINDOW, grid(), ["red"])
    assert (block.mask == QC_FLAGS["cloud"]).all()


def test_where_the_quality_band_is_silent_nothing_was_observed(write, item, source, grid):
    red = write("red", np.full((100, 120), 500, "uint16"), nodata=0, **PLACE)
    quality = np.full((100, 120), 4, "uint8")
    quality[:, 100:] = 0
    scl = write("scl", quality, nodata=0, unit="class", resampling="nearest", **PLACE)
    block = read_block(source(item("i", {"red": red, "scl": scl}), mask=SCL), WINDOW, grid(), ["red"])
    assert not block.mask[0, :, :100].any()
    assert (block.mask[0, :, 100:] == QC_FLAGS["nodata"]).all()


def test_quality_band_of_20_m_is_repeated(write, item, source, grid):
    red = write("red", np.full((100, 120), 500, "uint16"), nodata=0, **PLACE)
    quality = np.full((50, 60), 4, "uint8")
    quality[10:20, 30:40] = 9
    scl = write("scl", quality, nodata=0, unit="class", resampling="nearest", **{**PLACE, "res": 20.0})
    block = read_block(source(item("i", {"red": red, "scl": scl}), mask=SCL), WINDOW, grid(), ["red"])
    expected = np.zeros((100, 120), "uint16")
    expected[20:40, 60:80] = QC_FLAGS["cloud"]
    np.testing.assert_array_equal(block.mask[0], expected)


def test_nodata_is_where_any_requested_band_has_none(write, item, source, grid):
    red, nir = np.full((100, 120), 500, "uint16"), np.full((100, 120), 500, "uint16")
    red[:10], nir[:, :10] = 0, 0
    assets = {"red": write("red", red, nodata=0, **PLACE), "nir": write("nir", nir, nodata=0, **PLACE)}
    src = source(item("i", assets))
    both = read_block(src, WINDOW, grid(), ["red", "nir"]).mask[0] == QC_FLAGS["nodata"]
    np.testing.assert_array_equal(both, (red == 0) | (nir == 0))
    np.testing.assert_array_equal(read_block(src, WINDOW, grid(), ["nir"]).mask[0] == QC_FLAGS["nodata"], nir == 0)


def test_values_do_not_depend_on_which_bands_are_asked_for(halves, write, item, source, grid):
    extra = [item(i.id, {**i.assets, "nir": write(f"nir-{i.id}", np.full((100, 120), 7, "uint16"), nodata=0, **PLACE)}) for i in halves]
    src = source(*extra)
    together = read_block(src, WINDOW, grid(), ["red", "nir"])
    np.testing.assert_array_equal(together.values["red"], read_block(src, WINDOW, grid(), ["red"]).values["red"])


def test_quality_band_can_be_asked_for_as_numbers(write, item, source, grid):
    quality = np.full((100, 120), 4, "uint8")
    quality[0] = 0
    assets = {"red": write("r", np.ones((100, 120), "uint8"), **PLACE), "scl": write("s", quality, nodata=0, unit="class", **PLACE)}
    block = read_block(source(item("i", assets), mask=SCL), WINDOW, grid(), ["scl"])
    assert np.isnan(block.values["scl"][0, 0]).all()
    assert (block.values["scl"][0, 1:] == 4.0).all()


def test_unknown_band_is_named_with_its_neighbours(halves, source, grid):
    with pytest.raises(InputError, match="no band 'rd'. Did you mean 'red'"):
        read_block(source(*halves), WINDOW, grid(), ["rd"])


def test_tiles_of_a_static_source_make_one_time_step(write, item, source, grid):
    parts = [
        item(
            f"dem{k}", {"dem": write(f"dem{k}", np.full((100, 40), float(k), "float32"), **{**PLACE, "x0": 600000.0 + 400.0 * k}, unit="m")}
        )
        for k in range(3)
    ]
    block = read_block(source(*parts, sensor="elevation"), WINDOW, grid(), ["dem"])
    assert block.values["dem"].shape == (1, 100, 120)
    np.testing.assert_array_equal(block.values["dem"][0, 0], np.arange(3, dtype="float32").repeat(40))


def test_odc_stac_loads_the_same_through_the_driver(halves, source, grid):
    """The driver is an odc-loader driver like any other: ``odc.stac.load`` gives the same pixels."""
    import odc.stac

    from mdive.cube import to_geobox
    from mdive.cube.driver import MdiveDriver, stac_item
    from mdive.cube.prepare import prepare

    src, target = source(*halves), grid()
    driver = MdiveDriver(prepare(src, target))
    loaded = odc.stac.load(
        [stac_item(i) for i in src.items],
        ["red"],
        geobox=to_geobox(target),
        driver=driver,
        groupby="time",
        preserve_original_order=True,
    )
    np.testing.assert_array_equal(loaded["red"].values, read_block(src, WINDOW, target, ["red"]).values["red"])
    assert driver.state.failures == []


@pytest.mark.parametrize("change", ["crs", "upside down", "half a pixel"])
def test_the_driver_refuses_a_geobox_that_is_no_window_of_its_grid(grid, change):
    from odc.geo.geobox import GeoBox

    from mdive.cube import to_geobox
    from mdive.cube.driver import _window_of

    target = grid()
    box = to_geobox(target)
    a, b, c, d, e, f = tuple(box.transform)[:6]
    crs, transform = str(box.crs), Affine(a, b, c, d, e, f)
    if change == "crs":
        crs = "EPSG:32631"
    else:
        transform = Affine(a, b, c, d, -e, f) if change == "upside down" else Affine(a, b, c + a / 2, d, e, f)
    with pytest.raises(ValueError, match="no window of the grid"):
        _window_of(GeoBox(box.shape, transform, crs), SimpleNamespace(grid=target))
