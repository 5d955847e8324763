"""Where DataArrays lie: what an operation that counts metres may believe, and what it must refuse."""

import numpy as np
import pyproj
import pytest
import xarray as xr

from mdive.errors import InputError
from mdive.pipeline import Focal, Global, Local, Reduction, add, operation
from mdive.pipeline.georeference import crs_of, grid_of


@operation(Local(), dtype="float64")
def edge(values, /, *, grid):
    """Return the edge of a pixel, everywhere."""
    return np.full(values.shape, grid.resolution)


@operation(Local(), dtype="float64")
def total(a, b, /):
    return a + b


def raster(x=None, y=None, shape=(4, 5), crs=None, name="spatial_ref", dims=("y", "x"), values=1.0, **attrs):
    coords = {d: v for d, v in (("y", y), ("x", x)) if v is not None}
    array = xr.DataArray(np.full(shape, values), dims=dims, coords=coords)
    if crs is not None:
        array = array.assign_coords({name: xr.DataArray(0, attrs={"crs_wkt": pyproj.CRS(crs).to_wkt()})})
    return array.assign_attrs(attrs)


X, Y = 300_000.0 + 30 * np.arange(5), 4_000_000.0 - 30 * np.arange(4)


def two_lines(error):
    assert len(str(error.value).splitlines()) == 2
    return str(error.value)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X, Y),
        (X, Y[::-1]),
        (X[::-1], Y),
        (X.astype("float32"), Y.astype("float32")),
        (np.arange(5) * 30, np.arange(4) * -30),
        (X + np.array([0, 0.4, -0.4, 0.4, 0]), Y),  # centimetres that rounding moved
    ],
)
def test_even_square_pixels_are_measured(x, y):
    np.testing.assert_allclose(edge(raster(x, y)), 30, rtol=1e-3)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (X, Y[0] - 3 * np.arange(4), "not square: 30 in x, 3 in y"),
        (np.delete(30.0 * np.arange(6), 3), Y, "x does not go in even steps"),
        (np.delete(30.0 * np.arange(6), 1), Y, "x does not go in even steps"),
        (X, np.array([0, -30, -61, -120.0]), "y does not go in even steps"),
        (np.zeros(5), Y, "x does not go in even steps"),
        (np.array([0, 30, np.nan, 90, 120]), Y, "x does not go in even steps"),
        (np.array(list("abcde")), Y, "it goes as <U1"),
        (np.array(["2024-01-01"] * 5, "datetime64[ns]"), Y, "it goes as datetime64"),
    ],
)
def test_other_pixels_are_refused_by_who_measures_and_by_nobody_else(x, y, said):
    with pytest.raises(InputError, match="operation 'edge' depends on the size of a pixel") as caught:
        edge(raster(x, y))
    assert said in two_lines(caught)
    assert (total(raster(x, y), raster(x, y)) == 2).all()


def test_without_coordinates_nothing_can_be_measured_and_all_else_works():
    with pytest.raises(InputError, match="no x and y coordinates") as caught:
        edge(raster())
    two_lines(caught)
    with pytest.raises(InputError, match="no x and y coordinates"):
        edge(raster(x=X))
    assert (total(raster(), raster()) == 2).all()


def test_one_row_is_as_wide_as_its_columns_and_one_pixel_is_unknown():
    assert (edge(raster(X, Y[:1], shape=(1, 5))) == 30).all()
    assert (edge(raster(X[:1], Y, shape=(4, 1))) == 30).all()
    with pytest.raises(InputError, match="a single pixel"):
        edge(raster(X[:1], Y[:1], shape=(1, 1)))


def test_coordinates_of_any_raster_serve_all():
    @operation(Local(), dtype="float64")
    def both(a, b, /, *, grid):
        return np.full(a.shape, grid.resolution)

    got = both(raster(), raster(X, Y, crs="EPSG:32633"))
    assert (got == 30).all()
    np.testing.assert_array_equal(got.x, X)
    assert got.attrs["grid_mapping"] == "spatial_ref"


@pytest.mark.parametrize(("step", "attrs"), [(0.0003, {}), (0.5, {"units": "degrees_east"})])
def test_degrees_without_a_crs_are_not_taken_for_metres(step, attrs):
    array = raster(10 + step * np.arange(5), 45 - step * np.arange(4))
    array["x"].attrs.update(attrs)
    with pytest.raises(InputError, match="no CRS says of what") as caught:
        edge(array)
    assert "write_crs" in two_lines(caught)
    with_crs = array.assign_coords(spatial_ref=raster(crs="EPSG:4326").spatial_ref)
    np.testing.assert_allclose(edge(with_crs), step)


def test_the_grid_is_north_up_whatever_the_order_of_the_rows():
    one, two = grid_of([raster(X, Y)], "edge"), grid_of([raster(X, Y[::-1])], "edge")
    assert one == two
    assert (one.x0, one.y0, one.shape) == (299_985.0, 4_000_015.0, (4, 5))


@pytest.mark.parametrize(
    "asking",
    [
        Focal(lambda parameters, grid: 1),
        Reduction(merge=add, finish=lambda all_, *, grid: all_),
        Global(solve=lambda parts, *, grid: [0 for _ in parts], apply=lambda kept, state: kept),
        Global(solve=lambda parts: [0 for _ in parts], apply=lambda kept, state, *, grid: kept),
    ],
)
def test_whoever_asks_for_the_grid_in_any_part_measures(asking):
    assert operation(asking, dtype="float64")(lambda values, /: values).measures
    assert operation(Local(), dtype="float64")(lambda values, /, *, grid: values).measures
    for other in (Local(), Focal(2), Reduction(merge=add), Global(solve=lambda parts: [], apply=lambda kept, state: kept)):
        assert not operation(other, dtype="float64")(lambda values, /, *, window: values).measures


def test_a_clash_of_crs_is_refused():
    with pytest.raises(InputError, match=r"'b' of 'total' is in EPSG:32634, the first raster in EPSG:32633") as caught:
        total(raster(X, Y, crs="EPSG:32633"), raster(X, Y, crs="EPSG:32634"))
    two_lines(caught)
    broken = raster(X, Y).assign_coords(spatial_ref=xr.DataArray(0, attrs={"crs_wkt": "PROJCS[broken"}))
    with pytest.raises(InputError, match="an unknown CRS"):
        total(raster(X, Y, crs="EPSG:32633"), broken)


def test_one_crs_in_other_words_is_no_clash():
    old = raster(X, Y).assign_coords(spatial_ref=xr.DataArray(0, attrs={"spatial_ref": pyproj.CRS("EPSG:32633").to_wkt("WKT1_GDAL")}))
    named = raster(X, Y, crs="EPSG:32633", name="crs")
    cf = raster(X, Y).assign_coords(
        utm=xr.DataArray(0, attrs={k: v for k, v in pyproj.CRS("EPSG:32633").to_cf().items() if k != "crs_wkt"})
    )
    cf.encoding["grid_mapping"] = "utm"
    for other in (old, named, raster(X, Y)):
        assert (total(raster(X, Y, crs="EPSG:32633"), other) == 2).all()
    assert pyproj.CRS(crs_of(cf)).coordinate_operation.params[1].value == 15.0  # the central meridian of the zone
    assert total(cf, cf).attrs["grid_mapping"] == "utm"
    with pytest.raises(InputError, match="EPSG:32634"):
        total(named, raster(X, Y, crs="EPSG:32634"))


def test_other_places_and_other_times_are_refused():
    with pytest.raises(InputError, match=r"'b' of 'total' has another grid \(5 in x, from 300010.0 to 300130.0\)"):
        total(raster(X, Y), raster(X + 10, Y))
    days = [xr.date_range("2024-01-01", periods=3), xr.date_range("2024-02-01", periods=3)]
    one, two = (raster(X, Y).expand_dims(time=d) for d in days)
    with pytest.raises(InputError, match=r"'b' of 'total' has other times \(3 in time, from 2024-02-01") as caught:
        total(one, two)
    two_lines(caught)
    with pytest.raises(InputError, match=r"other times \(2 in time"):
        total(one, one[:2])
    assert total(one, raster(X, Y)).shape == (3, 4, 5)
    with pytest.raises(InputError, match="the rasters are empty"):
        total(raster(X, Y)[:0], raster(X, Y)[:0])
