"""Areas: true on the ellipsoid in any projection, exact in their sums, and in order: low <= estimate <= high."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod, Proj

from mdive.errors import InputError
from mdive.products import Flagged, raster, survey


def class_areas(path, spec, grid, *, probability_path=None):
    return survey(path, spec, grid, probability=probability_path).areas


def outline_area(grid, rows, cols):
    """Geodesic area of a rectangle of the grid, its edges walked in a thousand steps: the truth."""
    crs = CRS.from_user_input(grid.crs)
    k = np.linspace(0, 1, 1001)[:-1]
    x0, x1 = grid.x0 + cols[0] * grid.resolution, grid.x0 + cols[1] * grid.resolution
    y0, y1 = grid.y0 - rows[0] * grid.resolution, grid.y0 - rows[1] * grid.resolution
    one = np.ones_like(k)
    x = np.concatenate([x0 + k * (x1 - x0), x1 * one, x1 + k * (x0 - x1), x0 * one])
    y = np.concatenate([y0 * one, y0 + k * (y1 - y0), y1 * one, y1 + k * (y0 - y1)])
    lon, lat = (x, y) if crs.is_geographic else Proj(crs)(x, y, inverse=True)
    return abs(crs.get_geod().polygon_area_perimeter(lon, lat)[0])


GRIDS = {
    "degrees at 60N": {"crs": "EPSG:4326", "resolution": 0.002, "x0": 10.0, "y0": 61.0},
    "coarse degrees": {"crs": "EPSG:4326", "resolution": 0.05, "x0": -20.0, "y0": 70.0},
    "UTM": {"crs": "EPSG:32632", "resolution": 100.0, "x0": 300_000.0, "y0": 6_700_000.0},
    "UTM, coarse": {"crs": "EPSG:32632", "resolution": 1000.0, "x0": 200_000.0, "y0": 6_900_000.0},
    "Web Mercator at 60N": {"crs": "EPSG:3857", "resolution": 100.0, "x0": 1e6, "y0": 8.4e6},
    "feet": {"crs": "EPSG:2263", "resolution": 300.0, "x0": 9e5, "y0": 3e5},
    "equal area": {"crs": "EPSG:3035", "resolution": 100.0, "x0": 4e6, "y0": 3e6},
    "over the antimeridian": {"crs": "+proj=laea +lat_0=60 +lon_0=179.9", "resolution": 100.0, "x0": -3e4, "y0": 3e4},
    "over the pole": {"crs": "EPSG:3995", "resolution": 500.0, "x0": -1.3e5, "y0": 1.2e5},
    "spherical formulas": {"crs": "ESRI:54009", "resolution": 500.0, "x0": 1e6, "y0": 6e6},
}


@pytest.mark.parametrize("name", GRIDS)
def test_areas_are_those_of_the_ellipsoid(tmp_path, specs, make_grid, save, name):
    grid = make_grid((500, 500), **GRIDS[name])
    extent = np.zeros((500, 500), np.uint8)
    extent[60:210, 30:480] = 1
    extent[300:301, :] = 3
    areas = class_areas(save(tmp_path / "e.tif", specs.extent, grid, extent), specs.extent, grid)
    assert areas.of("affected").pixels == 150 * 450
    assert areas.of("affected").area_m2 == pytest.approx(outline_area(grid, (60, 210), (30, 480)), rel=1e-4)
    assert areas.of("partly_affected").area_m2 == pytest.approx(outline_area(grid, (300, 301), (0, 500)), rel=1e-3)
    assert areas.area_m2("event", "background") == pytest.approx(outline_area(grid, (0, 500), (0, 500)), rel=1e-5)


def test_one_degree_at_60_north(tmp_path, specs, make_grid, save):
    """1 x 1 degree: 6123.14 km² on WGS 84, not 12,364 (the square of a degree at the equator)."""
    grid = make_grid((1000, 1000), crs="EPSG:4326", resolution=0.001, x0=10.0, y0=61.0)
    areas = class_areas(save(tmp_path / "e.tif", specs.extent, grid, np.ones(grid.shape, np.uint8)), specs.extent, grid)
    assert areas.area_m2("event") == pytest.approx(6_123_140_879, rel=1e-6)
    sphere = Geod(ellps="sphere").polygon_area_perimeter([10, 11, 11, 10], [60, 60, 61, 61])[0]
    assert areas.area_m2("event") != pytest.approx(sphere, rel=1e-3)  # the test can tell an ellipsoid from a sphere


def test_counts_are_exact_and_nodata_is_no_class(tmp_path, specs, make_grid, save, pictures):
    extent = pictures((700, 900))["extent"]
    grid = make_grid((700, 900))
    areas = class_areas(save(tmp_path / "e.tif", specs.extent, grid, extent), specs.extent, grid)
    assert {c.value: c.pixels for c in areas.classes} == {v: int((extent == v).sum()) for v in (0, 1, 2, 3, 253)}
    assert areas.pixels("event") == int(np.isin(extent, [1, 3]).sum())
    assert areas.area_m2("event", "background", "reference", "unobserved") < 700 * 900 * 100.1 * (extent != 255).mean()
    assert areas.of("known_before").role == "reference"


def test_sums_do_not_depend_on_windows(tmp_path, specs, make_grid, save, pictures, monkeypatch):
    grid = make_grid((1400, 700))
    path = save(tmp_path / "e.tif", specs.extent, grid, pictures(grid.shape)["extent"])
    whole = class_areas(path, specs.extent, grid)
    assert survey(path, specs.extent, grid, workers=4).areas == whole
    monkeypatch.setattr(raster, "WINDOW", 512)
    assert class_areas(path, specs.extent, grid) == whole


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), low=st.integers(0, 100), high=st.integers(0, 100))
def test_bounds_enclose_the_estimate_to_the_last_bit(tmp_path, specs, make_grid, save, seed, low, high):
    rng = np.random.default_rng(seed)
    grid = make_grid((300, 40), y0=float(rng.integers(1e6, 9e6)))
    extent = rng.choice(np.array([0, 1, 2, 3, 253, 255], np.uint8), grid.shape)
    hundredths = rng.integers(0, 101, grid.shape)
    probability = np.where(rng.random(grid.shape) < 0.1, np.nan, hundredths / 100).astype(np.float32)
    areas = class_areas(
        save(tmp_path / "e.tif", specs.extent, grid, extent),
        specs.extent,
        grid,
        probability_path=save(tmp_path / "p.tif", specs.probability, grid, probability),
    )
    found, estimate = areas.by_probability, areas.area_m2("event")
    assert found.low(low / 100) <= estimate <= found.high(high / 100)
    assert found.low(0) + found.unknown * found.unit_m2 == pytest.approx(estimate, rel=1e-12)
    # Edges belong to the upper bin, exactly: counted here by pixels, one UTM pixel being worth the same all over this narrow grid.
    event, known = np.isin(extent, [1, 3]), ~np.isnan(probability)
    pixel = estimate / event.sum()
    assert found.low(low / 100) == pytest.approx(pixel * (event & known & (hundredths >= low)).sum(), rel=1e-4, abs=1)
    extra = ((extent == 0) & known & (hundredths >= high)).sum()
    assert found.high(high / 100) == pytest.approx(estimate + pixel * extra, rel=1e-4, abs=1)


def test_an_unscaled_probability_counts_the_same(tmp_path, specs, make_grid, save, pictures):
    grid, arrays = make_grid((300, 300)), pictures((300, 300))
    rounded = (np.rint(arrays["probability"] * 1e4) / 1e4).astype(np.float32)
    plain = specs.probability.model_copy(update={"scale": None})
    extent = save(tmp_path / "e.tif", specs.extent, grid, arrays["extent"])
    scaled = class_areas(
        extent, specs.extent, grid, probability_path=save(tmp_path / "p.tif", specs.probability, grid, arrays["probability"])
    )
    floats = class_areas(extent, specs.extent, grid, probability_path=save(tmp_path / "f.tif", plain, grid, rounded))
    assert floats == scaled


def test_causes_and_flags(tmp_path, specs, make_grid, save):
    grid = make_grid((64, 64))
    cause = np.zeros((64, 64), np.uint8)
    cause[:8], cause[8:12], cause[60:] = 4, 3, 255
    qc = np.zeros((64, 64), np.uint16)
    qc[:, :10] = 1 << 10
    qc[:, 5:20] |= 1 << 14
    cause_path = save(tmp_path / "c.tif", specs.cause, grid, cause)
    qc_path = save(tmp_path / "q.tif", specs.qc, grid, qc)
    extent = np.zeros((64, 64), np.uint8)
    extent[30:40], extent[40:45] = 1, 2
    classes = save(tmp_path / "e.tif", specs.extent, grid, extent)
    areas = survey(classes, specs.extent, grid, cause=cause_path).causes
    assert {name: area.pixels for name, area in areas.items() if area.pixels} == {
        "observed": 48 * 64,
        "read_failure": 4 * 64,
        "cloud": 8 * 64,
    }
    pixel = areas["observed"].area_m2 / (48 * 64)
    assert pixel == pytest.approx(100, rel=2e-3)
    questions = {
        Flagged(1 << 10): 640,
        Flagged(1 << 10 | 1 << 14): 1280,
        Flagged(1 << 10, observed=True): 480,
        Flagged(1 << 3): 0,
        Flagged(1 << 10, observed=True, classes=frozenset({1, 2})): 150,
        Flagged(1 << 10, classes=frozenset({0})): 490,
    }
    asked = survey(classes, specs.extent, grid, cause=cause_path, qc=qc_path, flags=tuple(questions)).flagged
    assert asked == pytest.approx([n * pixel for n in questions.values()])
    threaded = survey(classes, specs.extent, grid, cause=cause_path, qc=qc_path, flags=tuple(questions), workers=3)
    assert threaded == survey(classes, specs.extent, grid, cause=cause_path, qc=qc_path, flags=tuple(questions))
    alone = [survey(classes, specs.extent, grid, cause=cause_path, qc=qc_path, flags=(q,)).flagged[0] for q in questions]
    assert tuple(alone) == asked


def test_a_grid_beyond_its_projection_is_refused_where_it_holds_data(tmp_path, specs, make_grid, save):
    grid = make_grid((4, 4), crs="+proj=ortho +lat_0=0 +lon_0=0", resolution=1e6, x0=-2e6, y0=9e6)
    extent = np.full((4, 4), 255, np.uint8)
    assert class_areas(save(tmp_path / "e.tif", specs.extent, grid, extent), specs.extent, grid).area_m2("event") == 0
    extent[0, 0] = 1
    with pytest.raises(InputError, match="cannot tell the size"):
        class_areas(save(tmp_path / "f.tif", specs.extent, grid, extent), specs.extent, grid)


def test_more_pixels_do_not_make_the_area_surer(tmp_path, specs, make_grid, save):
    """Errors of neighbours are alike: the same map on pixels half as large has the same bounds, and they lie apart.

    Were pixels taken for independent, the width would halve with each halving of the pixel, and be nothing on a large map.
    """
    rng = np.random.default_rng(5)
    probability = np.rint(rng.random((100, 100)) * 100).astype(np.float32) / 100
    extent = (probability >= 0.5).astype(np.uint8)
    found = []
    for n in (1, 2, 4):
        grid = make_grid((100 * n, 100 * n), resolution=40.0 / n)
        paths = (
            save(tmp_path / f"{layer}{n}.tif", getattr(specs, layer), grid, array.repeat(n, 0).repeat(n, 1))
            for layer, array in (("extent", extent), ("probability", probability))
        )
        areas = class_areas(next(paths), specs.extent, grid, probability_path=next(paths))
        event = areas.area_m2("event")
        found.append((areas.by_probability.low(0.84) / event, areas.by_probability.high(0.16) / event))
    np.testing.assert_allclose(found, [found[0]] * 3, rtol=1e-3)
    low, high = found[0]
    # Evenly spread probability: of the half that is called the event a third is sure, and two thirds of the other half are possible.
    assert (low, high) == (pytest.approx(0.33, abs=0.05), pytest.approx(1.68, abs=0.05))
