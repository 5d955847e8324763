"""Areas from files: GeoJSON, GeoPackage, shapefile, in any CRS, and files that are not what they say."""

import json
import zipfile

import geopandas
import pytest
import shapely

from mdive.errors import InputError
from mdive.model import Area, load_event
from mdive.model.outlines import MAX_FEATURES

BOX = shapely.box(-0.6, 39.2, -0.2, 39.5)
EVENT = "event_class: alpha\narea: {file: %s}\nwindow: [2024-10-28, 2024-11-08]\n"


def frame(shapes=(BOX,), crs=4326):
    return geopandas.GeoDataFrame({"name": ["x"] * len(shapes)}, geometry=list(shapes), crs=crs)


@pytest.mark.parametrize("name", ["outline.gpkg", "outline.shp", "outline.geojson"])
def test_every_kind_gives_the_same_area(tmp_path, event_file, name):
    frame().to_file(tmp_path / name)
    expected = Area.from_shapely(BOX)
    assert Area.from_file(tmp_path / name) == expected
    assert Area.from_file(str(tmp_path / name)).identity == expected.identity
    event = load_event(event_file(EVENT % name))
    assert event.area == expected
    assert "file" not in event.model_dump_json()


@pytest.mark.parametrize("crs", [32630, 25830, 3035, 4258, 2062, 3857])
def test_other_reference_systems_are_converted(tmp_path, crs):
    """25830 and 4258 are on ETRS89; 2062 (Madrid) is on another ellipsoid and counts from another meridian."""
    fine = shapely.segmentize(BOX, 0.001)
    frame([fine]).to_crs(crs).to_file(tmp_path / "outline.gpkg")
    area = Area.from_file(tmp_path / "outline.gpkg")
    assert area.extent == pytest.approx((-0.6, 39.2, -0.2, 39.5), abs=1e-6)
    assert area.area_m2 == pytest.approx(Area.from_shapely(BOX).area_m2, rel=1e-4)


def test_long_projected_edges_bend(tmp_path):
    """A straight line of 400 km on a UTM map is no straight line in longitude and latitude."""
    square = shapely.box(300_000, 4_400_000, 700_000, 4_800_000)
    frame([square], crs=32630).to_file(tmp_path / "outline.gpkg")
    area = Area.from_file(tmp_path / "outline.gpkg")
    true = shapely.segmentize(square, 200)
    truth = Area.from_shapely(geopandas.GeoSeries([true], crs=32630).to_crs(4326).iloc[0])
    corners = Area.from_shapely(geopandas.GeoSeries([square], crs=32630).to_crs(4326).iloc[0])
    assert area.extent == pytest.approx(truth.extent, abs=5e-5)
    assert truth.extent[3] - corners.extent[3] > 0.02
    assert area.area_m2 == pytest.approx(truth.area_m2, rel=2e-5)


def test_feet_are_not_metres(tmp_path):
    """EPSG:2236 (Florida East) counts in US survey feet."""
    frame([shapely.box(-80.3, 25.8, -80.1, 26.0)]).to_crs(2236).to_file(tmp_path / "outline.gpkg")
    assert Area.from_file(tmp_path / "outline.gpkg").extent == pytest.approx((-80.3, 25.8, -80.1, 26.0), abs=1e-4)


def test_a_file_across_the_antimeridian(tmp_path):
    """EPSG:3832 (Pacific) is centred on 150 degrees east: there Fiji is in one piece."""
    fiji = geopandas.GeoSeries([shapely.box(176, -20, 183, -15)], crs="+proj=longlat +lon_wrap=180").to_crs(3832)
    fiji.to_file(tmp_path / "outline.gpkg")
    area = Area.from_file(tmp_path / "outline.gpkg")
    assert area.crosses_antimeridian
    assert area.extent == pytest.approx((176, -20, -177, -15), abs=1e-6)


def test_many_features_become_one_area(tmp_path):
    frame([shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1), shapely.MultiPolygon([shapely.box(1.5, 0, 3, 1)])]).to_file(
        tmp_path / "outline.gpkg"
    )
    assert Area.from_file(tmp_path / "outline.gpkg").area_m2 == pytest.approx(Area.from_bbox(0, 0, 3, 1).area_m2, rel=1e-6)


def test_the_third_dimension_is_dropped(tmp_path):
    frame([shapely.force_3d(BOX, 12.0)]).to_file(tmp_path / "outline.gpkg")
    assert Area.from_file(tmp_path / "outline.gpkg") == Area.from_shapely(BOX)


def refused(path, words):
    with pytest.raises(InputError) as caught:
        Area.from_file(path)
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 1
    assert path.name in str(caught.value)


def test_files_without_an_area(tmp_path):
    frame([shapely.Point(0, 0)]).to_file(tmp_path / "points.gpkg")
    refused(tmp_path / "points.gpkg", "a Point has no area")
    frame([shapely.LineString([(0, 0), (1, 1)])]).to_file(tmp_path / "lines.shp")
    refused(tmp_path / "lines.shp", "a LineString has no area")
    frame([BOX]).iloc[:0].to_file(tmp_path / "nothing.gpkg")
    refused(tmp_path / "nothing.gpkg", "there is no geometry in it")
    frame([shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])]).to_file(tmp_path / "bow.gpkg")
    refused(tmp_path / "bow.gpkg", "self-intersection near (0.5, 0.5)")


def test_a_file_without_crs(tmp_path):
    frame().to_file(tmp_path / "outline.shp")
    (tmp_path / "outline.prj").unlink()
    refused(tmp_path / "outline.shp", "it has no CRS")


def test_coordinates_that_do_not_fit_the_crs(tmp_path):
    frame([shapely.box(500_000, 4_500_000, 510_000, 4_510_000)], crs=4326).to_file(tmp_path / "metres.gpkg")
    refused(tmp_path / "metres.gpkg", "longitude 510000 is out of range")
    frame([shapely.box(-1e9, -1e9, 1e9, 1e9)], crs=32630).to_file(tmp_path / "far.gpkg")
    refused(tmp_path / "far.gpkg", "far.gpkg: ")


def test_a_crs_that_is_nowhere_on_earth(tmp_path):
    frame(
        [shapely.box(0, 0, 10, 10)], crs='ENGCRS["site",EDATUM["d"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
    ).to_file(tmp_path / "outline.gpkg")
    refused(tmp_path / "outline.gpkg", "outline.gpkg: ")


def test_two_layers(tmp_path):
    for layer in "ab":
        frame().to_file(tmp_path / "outline.gpkg", layer=layer)
    refused(tmp_path / "outline.gpkg", "it has 2 layers")


def test_too_much(tmp_path):
    frame([shapely.box(n / 1e3, 0, (n + 0.5) / 1e3, 1e-3) for n in range(MAX_FEATURES + 1)]).to_file(tmp_path / "many.gpkg")
    refused(tmp_path / "many.gpkg", "more than 10,000 vertices")


def test_files_that_are_not_what_they_say(tmp_path):
    """GDAL looks inside: a VRT could name any other file or address, whatever its own name."""
    vrt = '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/vsicurl/http://127.0.0.1:1/a.json</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
    for name in ("outline.gpkg", "outline.shp"):
        (tmp_path / name).write_text(vrt)
        refused(tmp_path / name, "inside")
    for name, start in (("broken.gpkg", b"SQLite format 3\x00"), ("broken.shp", b"\x00\x00\x27\x0a")):
        (tmp_path / name).write_bytes(start + b"\x00" * 200)
        refused(tmp_path / name, "GDAL cannot read it")
    with zipfile.ZipFile(tmp_path / "outline.zip", "w"):
        refused(tmp_path / "outline.zip", "not a kind of file")
    (tmp_path / "folder.gpkg").mkdir()
    refused(tmp_path / "folder.gpkg", "cannot be read")
    refused(tmp_path / "missing.geojson", "there is no such file")


def test_faults_inside_geojson_are_told_with_their_path(tmp_path):
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 95], [1, 1], [0, 0]]]}}
    path = tmp_path / "outline.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    refused(path, "outline.geojson: features[0].geometry.coordinates[0][1]: latitude 95 is out of range")
    path.write_text(json.dumps(feature)[:-1])
    refused(path, "this is not JSON")
    path.write_text(json.dumps(feature | {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32630"}}}))
    refused(path, "not WGS 84")
    path.write_bytes(b'{"type": "' + b"a" * 16_000_000)
    refused(path, "larger than 16,000,000 bytes")
