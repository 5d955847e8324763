"""Areas: their forms, the antimeridian, the poles, and measures that agree with the ellipsoid."""

import math
import pickle

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from mdive.errors import InputError
from mdive.model import Area
from mdive.model.geometry import MAX_VERTICES


def zone_area(west, south, east, north):
    """Area between two meridians and two parallels of the WGS 84 ellipsoid: the closed formula (Snyder 1987, eq. 3-12)."""
    a, f = 6378137.0, 1 / 298.257223563
    e = math.sqrt(f * (2 - f))

    def q(latitude):
        s = math.sin(math.radians(latitude))
        return (1 - e * e) * (s / (1 - (e * s) ** 2) + math.atanh(e * s) / e)

    return a * a / 2 * math.radians(east - west) * (q(north) - q(south))


def polygon(*positions):
    return {"type": "Polygon", "coordinates": [[*positions, positions[0]]]}


def corners(west, south, east, north):
    return polygon([west, south], [east, south], [east, north], [west, north])


@pytest.mark.parametrize(
    "box",
    [(0, 60, 1, 61), (0, -61, 1, -60), (-0.6, 39.2, -0.2, 39.5), (-180, 80, 180, 90), (-180, -90, 180, -60), (-10, 89, 10, 90), (0, 0, 150, 60),
     (10, 10, 10.0001, 10.0001)],
)  # fmt: skip
def test_area_of_a_box_is_that_of_the_ellipsoid(box):
    expected = zone_area(*box)
    assert Area.from_bbox(*box).area_m2 == pytest.approx(expected, rel=1e-6)
    assert Area.from_geojson(corners(*box)).area_m2 == pytest.approx(expected, rel=1e-6)


def test_one_degree_at_60_north_is_within_a_thousandth():
    """The mistake of degrees² or of Web Mercator is off by a factor of two to four here."""
    assert Area.from_bbox(0, 60, 1, 61).area_m2 == pytest.approx(6.1231e9, rel=1e-3)


def test_area_of_a_slanted_polygon_agrees_with_geographiclib():
    triangle = [(5.0, 45.0), (6.0, 45.2), (5.3, 46.1)]
    fine = shapely.segmentize(shapely.Polygon(triangle), 0.001)
    oracle, _ = Geod(ellps="WGS84").geometry_area_perimeter(fine)
    assert Area.from_geojson(polygon(*triangle)).area_m2 == pytest.approx(abs(oracle), rel=1e-6)


@pytest.mark.parametrize(
    "area",
    [
        Area.from_bbox(170, -20, -170, -10),
        Area.from_bbox(170, -20, 190, -10),
        Area.from_geojson(corners(170, -20, -170, -10)),
        Area.from_geojson(corners(170, -20, 190, -10)),
        Area.from_geojson({"type": "MultiPolygon", "coordinates": [corners(170, -20, 180, -10)["coordinates"], corners(-180, -20, -170, -10)["coordinates"]]}),
        Area.from_shapely(shapely.box(170, -20, 190, -10)),
        Area.from_geojson({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": corners(170, -20, -170, -10), "properties": None}]}),
    ],
    ids=["bbox", "bbox 0-360", "jump", "0-360", "already cut", "shapely", "feature"],
)  # fmt: skip
def test_all_ways_across_the_antimeridian_are_one_area(area):
    assert area.crosses_antimeridian
    assert area.extent == (170, -20, -170, -10)
    assert area.bboxes == ((170, -20, 180, -10), (-180, -20, -170, -10))
    assert area.area_m2 == pytest.approx(zone_area(170, -20, 190, -10), rel=1e-6)
    assert area.geometry.equals(shapely.union(shapely.box(170, -20, 180, -10), shapely.box(-180, -20, -170, -10)))
    assert area.geometry.geom_type == "MultiPolygon"
    longitude, latitude = area.centroid
    assert abs(longitude) == pytest.approx(180, abs=1e-9)
    assert latitude == pytest.approx(-15, abs=0.1)


def test_an_area_that_only_touches_the_antimeridian_does_not_cross_it():
    for area in (Area.from_bbox(170, 0, 180, 10), Area.from_bbox(170, 0, -180, 10), Area.from_geojson(corners(170, 0, -180, 10))):
        assert not area.crosses_antimeridian
        assert area.extent == (170, 0, 180, 10)
        assert len(area.bboxes) == 1


def test_islands_on_both_sides_are_near_each_other():
    islands = {
        "type": "MultiPolygon",
        "coordinates": [corners(177, -19, 179, -16)["coordinates"], corners(-179, -18, -178, -17)["coordinates"]],
    }
    area = Area.from_geojson(islands)
    assert area.extent == (177, -19, -178, -16)
    assert area.centroid[0] == pytest.approx(178.42, abs=0.1)


def test_far_continents_take_the_narrower_way():
    spread = {"type": "MultiPolygon", "coordinates": [corners(-100, 0, -99, 1)["coordinates"], corners(20, 0, 21, 1)["coordinates"], corners(60, 0, 61, 1)["coordinates"]]}  # fmt: skip  # noqa: E501
    assert Area.from_geojson(spread).extent == (-100, 0, 61, 1)


@pytest.mark.parametrize(
    "area",
    [
        Area.from_bbox(-180, 80, 180, 90),
        Area.from_bbox(0, 80, 360, 90),
        Area.from_geojson(corners(-180, 80, 180, 90)),
        Area.from_geojson(polygon([-180, 80], [-60, 80], [60, 80], [180, 80], [180, 90], [-180, 90])),
    ],
    ids=["bbox", "bbox 0-360", "closed along the pole", "in steps"],
)
def test_a_polar_cap(area):
    assert area.crosses_antimeridian
    assert area.bboxes == ((-180, 80, 180, 90),)
    assert area.area_m2 == pytest.approx(zone_area(-180, 80, 180, 90), rel=1e-6)
    assert area.centroid[1] > 89.9


def test_a_ring_round_a_pole_that_does_not_close_is_refused():
    with pytest.raises(InputError, match="goes round a pole") as caught:
        Area.from_geojson(polygon([-120, 80], [0, 80], [120, 80]))
    assert "180, 90" in caught.value.hint


def test_longitudes_from_0_to_360():
    assert Area.from_bbox(350, 0, 10, 1) == Area.from_bbox(-10, 0, 10, 1)
    assert Area.from_bbox(190.1, 0, 200, 1) == Area.from_bbox(-169.9, 0, -160, 1)
    assert Area.from_bbox(190.1, 0, 200, 1).identity == Area.from_bbox(-169.9, 0, -160, 1).identity
    assert Area.from_bbox(-10, 0, 180, 1).extent == (-10, 0, 180, 1)
    assert Area.from_bbox(180, 0, 190, 1).extent == (-180, 0, -170, 1)
    with pytest.raises(InputError, match="is a line"):
        Area.from_bbox(190, 0, -170, 1)


def test_holes_stay_holes_across_the_antimeridian():
    outer, hole = corners(170, -10, -170, 10)["coordinates"][0], corners(-179, -5, -175, 5)["coordinates"][0]
    area = Area.from_geojson({"type": "Polygon", "coordinates": [outer, hole]})
    assert area.area_m2 == pytest.approx(zone_area(170, -10, 190, 10) - zone_area(-179, -5, -175, 5), rel=1e-6)


def test_overlapping_features_are_not_counted_twice():
    area = Area.from_geojson({"type": "GeometryCollection", "geometries": [corners(0, 0, 2, 1), corners(1, 0, 3, 1)]})
    assert area.area_m2 == pytest.approx(zone_area(0, 0, 3, 1), rel=1e-6)


def test_the_same_outline_has_one_identity():
    square = corners(0, 0, 1, 1)["coordinates"][0]
    ways = [
        {"type": "Polygon", "coordinates": [square]},
        {"coordinates": [square], "type": "Polygon", "bbox": [0, 0, 1, 1]},
        {"type": "Polygon", "coordinates": [square[::-1]]},
        {"type": "Polygon", "coordinates": [[*square[1:], square[1]]]},
        {"type": "Polygon", "coordinates": [[[float(x), float(y), 7.5] for x, y in square]]},
        {"type": "Polygon", "coordinates": [[[-0.0 if x == 0 else x, y] for x, y in square]]},
        {"type": "MultiPolygon", "coordinates": [[square]]},
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]}, "properties": {"name": "x"}},
        {"type": "Polygon", "coordinates": [square], "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}},
    ]
    areas = [Area.from_geojson(way) for way in ways] + [Area.from_shapely(shapely.box(0, 0, 1, 1))]
    assert len({area.identity for area in areas}) == 1
    assert len(set(areas)) == 1


positions = st.tuples(st.floats(-179, 179).map(lambda x: round(x, 3)), st.floats(-85, 85).map(lambda y: round(y, 3)))


@settings(max_examples=60, deadline=None)
@given(st.lists(positions, min_size=3, max_size=12, unique=True), st.sampled_from([0, 40, 178, 300]))
def test_what_was_normalised_stays_as_it_is(points, shift):
    """A stored event means the same when it is read back; area and validity survive the cut at the antimeridian."""
    hull = shapely.convex_hull(shapely.MultiPoint([(x / 6, y / 2) for x, y in points]))
    if hull.geom_type != "Polygon" or hull.area < 1e-6:
        return
    moved = shapely.transform(hull, lambda xy: xy + [shift, 0])
    try:
        area = Area.from_shapely(moved)
    except InputError as error:
        assert "is out of range" in str(error)
        return
    assert area.geometry.is_valid
    west, south, east, north = area.geometry.bounds
    assert -180 <= west < east <= 180
    assert area.area_m2 == pytest.approx(Area.from_shapely(hull).area_m2, rel=1e-6)
    assert Area.model_validate_json(area.model_dump_json(exclude_none=True)) == area
    assert Area.from_shapely(area.geometry) == area


boxes = st.tuples(st.floats(-180, 360), st.floats(-90, 90), st.floats(-180, 360), st.floats(-90, 90))


@settings(max_examples=200, deadline=None)
@given(boxes)
def test_every_box_is_refused_or_sound(box):
    try:
        area = Area.from_bbox(*box)
    except InputError:
        return
    west, south, east, north = area.extent
    assert -180 <= west < 180
    assert -180 < east <= 180
    assert area.bbox == Area(bbox=area.bbox).bbox
    assert sum(e - w for w, _, e, _ in area.bboxes) == pytest.approx((box[2] - box[0]) % 360 or 360, abs=1e-6)
    assert all(w < e for w, _, e, _ in area.bboxes)
    assert area.area_m2 == pytest.approx(sum(zone_area(*part) for part in area.bboxes), rel=1e-5)
    assert area.geometry.is_valid


def test_too_many_vertices():
    angles = np.linspace(0, 2 * np.pi, MAX_VERTICES + 1)
    ring = np.column_stack((np.cos(angles), np.sin(angles))).tolist()
    with pytest.raises(InputError, match=r"more than 10,000 vertices"):
        Area.from_geojson({"type": "Polygon", "coordinates": [[*ring[:-1], ring[0]]]})
    with pytest.raises(InputError, match=r"more than 10,000 vertices"):
        Area.from_shapely(shapely.Polygon(ring))
    area = Area.from_shapely(shapely.Polygon(ring[2:]))
    assert area.area_m2 > 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "3 is not a GeoJSON object"),
        ({}, "None is no GeoJSON type"),
        ({"type": "Polygon"}, "Polygon without coordinates"),
        ({"type": "Polygon", "coordinates": []}, "Polygon without coordinates"),
        ({"type": "Polygon", "coordinates": "abc"}, "Polygon without coordinates"),
        ({"type": "Polygon", "coordinates": ["abc"]}, "'abc' is not a ring"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, "a ring of 3 positions"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, float("nan")], [1, 1], [0, 0]]]}, "not a position"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, True], [1, 1], [0, 0]]]}, "not a position"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "not a list of rings"),
        ({"type": "MultiPolygon", "coordinates": [3]}, "not a list of rings"),
        ({"type": "Feature"}, "None is not a GeoJSON object"),
        ({"type": "Feature", "geometry": {"type": "Feature", "geometry": None}}, "a Feature inside a Feature"),
        ({"type": "FeatureCollection", "features": []}, "FeatureCollection without features"),
        ({"type": "FeatureCollection", "features": [corners(0, 0, 1, 1), {"type": "FeatureCollection"}]}, "inside a FeatureCollection"),
        ({"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [0, 0]}]}, "a Point has no area"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]], [[3, 3], [4, 3], [4, 4], [3, 3]]]}, "not valid: hole lies outside"),
        (corners(0, 0, 1, 1) | {"crs": "EPSG:3857"}, "the CRS of this GeoJSON is 'EPSG:3857'"),
        (corners(0, 0, 1, 1) | {"crs": {"properties": 3}}, "the CRS of this GeoJSON"),
    ],
)  # fmt: skip
def test_wrong_geojson(value, words):
    with pytest.raises(InputError) as caught:
        Area.from_geojson(value)
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 1


def test_geojson_that_contains_itself_is_refused():
    loop = {"type": "GeometryCollection"}
    loop["geometries"] = [loop]
    with pytest.raises(InputError, match="inside a GeometryCollection"):
        Area.from_geojson(loop)


@pytest.mark.parametrize(
    "shape", [shapely.Point(0, 0), shapely.LineString([(0, 0), (1, 1)]), shapely.Polygon(), "POLYGON((0 0, 1 0, 1 1, 0 0))", None]
)
def test_wrong_shapes(shape):
    with pytest.raises(InputError):
        Area.from_shapely(shape)


def test_an_area_is_a_value():
    area = Area.from_geojson(corners(0, 0, 1, 1))
    assert pickle.loads(pickle.dumps(area)) == area
    assert hash(pickle.loads(pickle.dumps(area))) == hash(area)
    with pytest.raises(ValueError, match="frozen"):
        area.bbox = (0, 0, 1, 1)
    assert Area.from_bbox(*np.array([0, 1, 2, 3], dtype="int64")) == Area.from_bbox(0.0, 1.0, 2.0, 3.0)
    assert Area.from_bbox(0, 0, 1, 1).identity == Area.from_bbox(-0.0, 0.0, 1.0, 1.0).identity


def test_reprs_are_short():
    assert repr(Area.from_bbox(-0.60, 39.20, -0.20, 39.50)) == "Area.from_bbox(-0.6, 39.2, -0.2, 39.5)"
    assert repr(Area.from_geojson(corners(170, 0, -170, 1))) == "<Area: 2 polygons, 10 vertices, within (170, 0, -170, 1)>"
    assert len(Area.from_bbox(0, 0, 1, 1)._repr_html_()) < 400
    assert "12,308.5 km²" in Area.from_bbox(0, 0, 1, 1)._repr_html_()
