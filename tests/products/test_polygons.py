"""Polygons: exactly what GDAL outlines on the whole raster, whatever the windows; valid files even when there is nothing in them."""

from __future__ import annotations

import hashlib
import json
import threading

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyproj import Geod, Transformer
from rasterio import features
from scipy import ndimage

from mdive.errors import RunFolderError
from mdive.products import survey, write_polygons
from mdive.products.components import components

COLUMNS = ["id", "class", "class_value", "area_m2", "mean_probability", "pixels", "geometry"]


def oracle(extent, values=(1, 3)):
    """(class, first pixel, pixels, outline) of each 4-connected component, by GDAL on the whole array."""
    found = []
    for value in values:
        labels, _ = ndimage.label(extent == value)
        for shape, label in features.shapes(labels.astype(np.int32), mask=labels > 0, connectivity=4):
            where = np.flatnonzero(labels == label)
            found.append((value, int(where[0]), len(where), shapely.normalize(shapely.geometry.shape(shape))))
    return sorted(found, key=lambda row: row[:2])


def assert_same(extent, path, spec, grid, window):
    with components(path, spec, grid, folder=path.parent, window=window) as found:
        outlines = [outline for rows in found.batches() for outline in found.outlines(rows)]
    expected = oracle(extent)
    assert [tuple(map(int, row)) for row in zip(found.value, found.first, found.pixels, strict=True)] == [e[:3] for e in expected]
    for mine, (*_, outline) in zip(outlines, expected, strict=True):
        assert shapely.equals_exact(mine, outline, 0)
        assert mine.is_valid
        for ring in (mine.exterior, *mine.interiors):
            assert turns_everywhere(ring)
    assert sum(g.area for g in outlines) == np.isin(extent, [1, 3]).sum()


def turns_everywhere(ring):
    """Whether each vertex of a ring is a corner: none is there twice, none lies on a straight edge, such as where a window was cut."""
    corners = np.array(ring.coords)[:-1]
    step = np.diff(corners, axis=0, append=corners[:1])
    before = np.roll(step, 1, axis=0)
    return bool((before[:, 0] * step[:, 1] != before[:, 1] * step[:, 0]).all())


def spiral(size):
    """One arm, one pixel wide, that winds through every window."""
    extent = np.zeros((size, size), np.uint8)
    row, col, step, length = 0, 0, (0, 1), size - 1
    extent[0, 0] = 1
    for turn in range(2 * size):
        for _ in range(length):
            row, col = row + step[0], col + step[1]
            extent[row, col] = 1
        step = (step[1], -step[0])
        if turn and turn % 2 == 0:
            length -= 2
        if length <= 0:
            break
    return extent


PATTERNS = {
    "nothing": np.zeros((12, 12), np.uint8),
    "everything": np.ones((12, 12), np.uint8),
    "chessboard": np.indices((13, 12)).sum(axis=0).astype(np.uint8) % 2,
    "spiral": spiral(23),
    "rings in rings": np.minimum.reduce([np.indices((15, 15))[0], np.indices((15, 15))[1], 14 - np.indices((15, 15))[0], 14 - np.indices((15, 15))[1]])
    .astype(np.uint8) % 2,
    "a ring that closes over a corner": np.array([[0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]], np.uint8),
    "holes that touch": np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], np.uint8),
    "two classes side by side": np.tile(np.array([[1, 3]], np.uint8), (9, 5)),
    "comb": np.where(np.arange(14)[:, None] == 0, 1, np.arange(14)[None] % 2).astype(np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("window", [1, 3, 7, 64])
@pytest.mark.parametrize("name", PATTERNS)
def test_awkward_shapes_for_any_window(tmp_path, specs, make_grid, save, name, window):
    extent = PATTERNS[name]
    grid = make_grid(extent.shape)
    assert_same(extent, save(tmp_path / "e.tif", specs.extent, grid, extent), specs.extent, grid, window)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    extent=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.sampled_from([0, 1, 1, 1, 3, 253, 255])),
    window=st.integers(1, 21),
)
def test_any_raster_for_any_window(tmp_path, specs, make_grid, save, extent, window):
    grid = make_grid(extent.shape)
    assert_same(extent, save(tmp_path / "e.tif", specs.extent, grid, extent), specs.extent, grid, window)


def test_percolation_noise_over_real_windows(tmp_path, specs, make_grid, save):
    """60 % noise: one component through all windows with thousands of holes, and thousands of small ones."""
    extent = (np.random.default_rng(0).random((260, 330)) < 0.6).astype(np.uint8)
    grid = make_grid(extent.shape)
    assert_same(extent, save(tmp_path / "e.tif", specs.extent, grid, extent), specs.extent, grid, 64)


def test_the_file_says_what_the_rasters_say(tmp_path, specs, make_grid, save, pictures):
    grid, arrays = make_grid((400, 500)), pictures((400, 500), seed=3)
    extent_path = save(tmp_path / "e.tif", specs.extent, grid, arrays["extent"])
    probability_path = save(tmp_path / "p.tif", specs.probability, grid, arrays["probability"])
    count = write_polygons(tmp_path / "a.parquet", extent_path, specs.extent, grid, probability_path=probability_path)
    table = geopandas.read_parquet(tmp_path / "a.parquet")

    assert list(table.columns) == COLUMNS
    assert len(table) == count > 10
    assert table.crs == "EPSG:32630"
    assert list(table["id"]) == list(range(1, count + 1))
    assert set(zip(table["class_value"], table["class"], strict=True)) == {(1, "affected"), (3, "partly_affected")}
    assert table.is_valid.all()
    assert (table.geom_type == "Polygon").all()
    assert shapely.is_ccw(shapely.get_exterior_ring(table.geometry.values)).all()
    assert np.allclose(table.area, table["pixels"] * 100)
    drawn = features.rasterize(
        zip(table.geometry, table["class_value"], strict=True), grid.shape, transform=grid.transform, fill=0, dtype="uint8"
    )
    assert np.array_equal(drawn, np.where(np.isin(arrays["extent"], [1, 3]), arrays["extent"], 0))

    areas = survey(extent_path, specs.extent, grid).areas
    assert table["area_m2"].sum() == pytest.approx(areas.area_m2("event"), rel=1e-6)
    assert table["pixels"].sum() == areas.pixels("event")

    ids = features.rasterize(zip(table.geometry, table["id"], strict=True), grid.shape, transform=grid.transform, fill=0, dtype="int32")
    stored = np.rint(arrays["probability"].astype(float) * 1e4)
    for row in table.itertuples():
        assert row.mean_probability == pytest.approx(np.nanmean(stored[ids == row.id]) * 1e-4, rel=1e-9)


def test_area_is_geodesic(tmp_path, specs, make_grid, save):
    """A rectangle of 1 x 0.5 degrees at 60°N with a long straight edge along a parallel, which is no geodesic."""
    grid = make_grid((300, 300), crs="EPSG:4326", resolution=0.005, x0=10.0, y0=61.0)
    extent = np.zeros((300, 300), np.uint8)
    extent[100:200, 50:250] = 1
    extent[99, 50:250:2] = 1  # a jagged edge opposite, so that errors of the straight one do not cancel
    path = save(tmp_path / "e.tif", specs.extent, grid, extent)
    write_polygons(tmp_path / "a.parquet", path, specs.extent, grid)
    area = geopandas.read_parquet(tmp_path / "a.parquet")["area_m2"].sum()
    assert area == pytest.approx(survey(path, specs.extent, grid).areas.area_m2("event"), rel=1e-6)


def test_area_against_a_direct_computation_in_utm(tmp_path, specs, make_grid, save):
    grid = make_grid((40, 40), x0=750_000.0)
    extent = np.zeros((40, 40), np.uint8)
    extent[5:30, 8:33] = 1
    extent[10:15, 10:20] = 0
    write_polygons(tmp_path / "a.parquet", save(tmp_path / "e.tif", specs.extent, grid, extent), specs.extent, grid)
    table = geopandas.read_parquet(tmp_path / "a.parquet")
    lonlat = shapely.transform(table.geometry[0], Transformer.from_crs(32630, 4326, always_xy=True).transform, interleaved=False)
    truth, _ = Geod(ellps="WGS84").geometry_area_perimeter(lonlat)
    assert table["area_m2"][0] == pytest.approx(truth, rel=1e-6)
    assert abs(table["area_m2"][0] / (575 * 100) - 1) > 3e-4  # a planar area would be seen


def test_no_component_is_a_valid_file_of_the_same_schema(tmp_path, specs, make_grid, save):
    grid = make_grid((30, 30))
    full, empty = np.ones((30, 30), np.uint8), np.zeros((30, 30), np.uint8)
    assert write_polygons(tmp_path / "a.parquet", save(tmp_path / "e.tif", specs.extent, grid, full), specs.extent, grid) == 1
    assert write_polygons(tmp_path / "b.parquet", save(tmp_path / "f.tif", specs.extent, grid, empty), specs.extent, grid) == 0
    table = geopandas.read_parquet(tmp_path / "b.parquet")
    assert len(table) == 0
    assert list(table.columns) == COLUMNS
    assert table.crs == "EPSG:32630"
    assert len(geopandas.read_parquet(tmp_path / "b.parquet", bbox=(0, 0, 1, 1))) == 0
    schemas = [pq.read_schema(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    assert [(f.name, f.type) for f in schemas[0]] == [(f.name, f.type) for f in schemas[1]]


def test_the_file_is_geoparquet_1_1_with_a_covering(tmp_path, specs, make_grid, save):
    grid = make_grid((40, 40))
    extent = np.zeros((40, 40), np.uint8)
    extent[2:4, 2:4] = extent[30:34, 30:34] = 1
    write_polygons(tmp_path / "a.parquet", save(tmp_path / "e.tif", specs.extent, grid, extent), specs.extent, grid)
    geo = json.loads(pq.read_metadata(tmp_path / "a.parquet").metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    column = geo["columns"][geo["primary_column"]]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32630}
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert list(geopandas.read_parquet(tmp_path / "a.parquet", bbox=(500_290, 4_399_600, 500_350, 4_399_700))["id"]) == [2]


def test_same_bytes_each_time(tmp_path, specs, make_grid, save, pictures):
    grid, arrays = make_grid((200, 200)), pictures((200, 200))
    path = save(tmp_path / "e.tif", specs.extent, grid, arrays["extent"])
    sums = set()
    for name in ("a.parquet", "b.parquet"):
        write_polygons(tmp_path / name, path, specs.extent, grid)
        sums.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(sums) == 1
    assert geopandas.read_parquet(tmp_path / "a.parquet")["mean_probability"].isna().all()


def test_row_groups_change_nothing_but_themselves(tmp_path, specs, make_grid, save, pictures, monkeypatch):
    """Groups of seven rows, and groups of one because each is larger than the limit: the same rows as in one group."""
    grid, arrays = make_grid((300, 300)), pictures((300, 300))
    path = save(tmp_path / "e.tif", specs.extent, grid, arrays["extent"])
    count = write_polygons(tmp_path / "a.parquet", path, specs.extent, grid)
    whole = pq.read_table(tmp_path / "a.parquet")
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 1
    for name, limit, groups in (("_ROWS", 7, -(-count // 7)), ("_BYTES", 1, count)):
        with monkeypatch.context() as patch:
            patch.setattr(f"mdive.products.components.{name}", limit)
            write_polygons(tmp_path / "b.parquet", path, specs.extent, grid)
        assert pq.read_metadata(tmp_path / "b.parquet").num_row_groups == groups > 1
        assert pq.read_table(tmp_path / "b.parquet").equals(whole, check_metadata=True)


def test_the_columns_are_those_that_geopandas_writes(tmp_path, specs, make_grid, save, pictures):
    """The schema with all its words, the extent of all rows and the box of each row."""
    grid, arrays = make_grid((300, 300)), pictures((300, 300))
    write_polygons(tmp_path / "a.parquet", save(tmp_path / "e.tif", specs.extent, grid, arrays["extent"]), specs.extent, grid)
    geopandas.read_parquet(tmp_path / "a.parquet").to_parquet(
        tmp_path / "b.parquet", index=False, schema_version="1.1.0", write_covering_bbox=True
    )
    mine, theirs = (pq.read_table(tmp_path / name) for name in ("a.parquet", "b.parquet"))
    assert mine.equals(theirs)
    assert json.loads(mine.schema.metadata[b"geo"]) == json.loads(theirs.schema.metadata[b"geo"])


def test_nothing_is_left_beside_the_file(tmp_path, specs, make_grid, save):
    grid = make_grid((40, 40))
    path = save(tmp_path / "e.tif", specs.extent, grid, np.ones((40, 40), np.uint8))
    (tmp_path / "out").mkdir()
    write_polygons(tmp_path / "out" / "a.parquet", path, specs.extent, grid)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.parquet"]


def test_many_threads_may_outline_at_once(tmp_path, specs, make_grid, save, pictures):
    grid = make_grid((150, 150))
    path = save(tmp_path / "e.tif", specs.extent, grid, pictures(grid.shape)["extent"])
    counts = []
    threads = [
        threading.Thread(target=lambda i=i: counts.append(write_polygons(tmp_path / f"{i}.parquet", path, specs.extent, grid)), daemon=True)
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(counts) == 6
    assert len(set(counts)) == 1


def test_a_folder_that_is_not_there(tmp_path, specs, make_grid, save):
    grid = make_grid((4, 4))
    path = save(tmp_path / "e.tif", specs.extent, grid, np.ones((4, 4), np.uint8))
    with pytest.raises(RunFolderError, match="could not be written"):
        write_polygons(tmp_path / "none" / "a.parquet", path, specs.extent, grid)
