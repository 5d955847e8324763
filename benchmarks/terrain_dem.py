"""Square DEMs of any size, the same on every machine: as a bare file, and as an event that ``mdive run`` takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np

STRIP = 512
"""Rows that are made at a time."""

RESOLUTION = 30.0
LEFT, TOP, CRS = 300_000.0, 5_400_000.0, "EPSG:32632"
"""Where the DEM of an event lies: multiples of the pixel."""

LAKE = 180.0
"""Height in m below which flat ground is a lake: an eighth of it."""


def edge_of(megapixels: float) -> int:
    """Return the edge of a square of so many million pixels."""
    return round((megapixels * 1e6) ** 0.5)


def write_dem(path: Path, edge: int, *, flat: bool = False) -> None:
    """Write a DEM of ``edge`` x ``edge`` pixels of 30 m as bare float32: fractal noise, 0 to 500 m.

    Parameters
    ----------
    flat
        Whole metres, and lakes where the ground is low: much of it has no slope.
    """
    with path.open("wb") as file:
        for strip in _strips(edge, flat=flat):
            strip.tofile(file)


def write_event(folder: Path, edge: int, *, flat: bool = False) -> Path:
    """Write the same DEM as a tiled GeoTIFF, a catalogue that holds it, and an event whose grid is the DEM's; return the event's path."""
    import pystac
    import rasterio
    import yaml
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    from benchmarks.peers.job import outline

    size = {"height": edge, "width": edge, "count": 1, "dtype": "float32", "nodata": float("nan")}
    place = {"crs": CRS, "transform": from_origin(LEFT, TOP, RESOLUTION, RESOLUTION)}
    tiles = {"tiled": True, "blockxsize": STRIP, "blockysize": STRIP, "BIGTIFF": "IF_SAFER"}
    with rasterio.open(folder / "dem.tif", "w", driver="GTiff", **size, **place, **tiles) as file:
        for number, strip in enumerate(_strips(edge, flat=flat)):
            file.write(strip, 1, window=Window(0, number * STRIP, edge, len(strip)))
    area = outline((LEFT, TOP - RESOLUTION * edge, LEFT + RESOLUTION * edge, TOP), CRS)
    assert area.geojson is not None
    outlined = area.geojson.model_dump(mode="json")
    lon, lat = np.transpose(outlined["coordinates"][0])
    asset = {
        "href": str(folder / "dem.tif"),
        "type": "image/tiff; application=geotiff",
        "proj:shape": [edge, edge],
        "proj:transform": [RESOLUTION, 0.0, LEFT, 0.0, -RESOLUTION, TOP],
        "raster:bands": [{"data_type": "float32", "nodata": "nan", "unit": "m", "spatial_resolution": RESOLUTION}],
        "roles": ["data"],
    }
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": "dem",
        "geometry": outlined,
        "bbox": [float(n) for n in (lon.min(), lat.min(), lon.max(), lat.max())],
        "properties": {"proj:code": CRS, "datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {"dem": asset},
    }
    catalog = pystac.Catalog("dem", "A DEM.", catalog_type=pystac.CatalogType.SELF_CONTAINED)
    catalog.add_items([pystac.Item.from_dict(item)])
    catalog.normalize_and_save(str(folder / "catalog"))
    event = {
        "id": "dem",
        "event_class": "bench_terrain",
        "area": {"geojson": outlined},
        "window": {"start": "2024-01-01", "end": "2024-01-02"},
        "catalog": str(folder / "catalog" / "catalog.json"),
        "intent": {"crs": CRS, "resolution": RESOLUTION, "products": ["extent", "hand"]},
    }
    path = folder / "event.yaml"
    path.write_text(yaml.safe_dump(event, sort_keys=False))
    return path


def _strips(edge: int, *, flat: bool) -> Iterator[np.ndarray]:
    for row in range(0, edge, STRIP):
        strip = np.empty((min(STRIP, edge - row), edge), "float32")
        _noise(row, LAKE if flat else 0.0, strip)
        yield strip


@numba.njit(nogil=True, cache=True)
def _at(octave: int, row: int, col: int) -> float:
    """Return a number from 0 to 1 for a node of a lattice (splitmix64 of its place)."""
    x = np.uint64(octave) * np.uint64(0x9E3779B97F4A7C15) + (np.uint64(row) << np.uint64(32)) + np.uint64(col)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64((x ^ (x >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


@numba.njit(nogil=True, cache=True)
def _noise(first: int, lake: float, out: np.ndarray) -> None:
    rows, cols = out.shape
    line = np.empty(cols)
    for r in range(rows):
        line[:] = 0.0
        # Waves of 1024 to 2 pixels, each a bit more than half as high as the next longer one: valleys in valleys, alike on DEMs of any size.
        for octave in range(10):
            edge = 2 << (9 - octave)
            height = 250.0 * 0.55**octave
            i = (first + r) // edge
            v = ((first + r) % edge) / edge
            v = v * v * (3.0 - 2.0 * v)
            for j in range((cols - 1) // edge + 1):
                a = _at(octave, i, j) * (1.0 - v) + _at(octave, i + 1, j) * v
                b = _at(octave, i, j + 1) * (1.0 - v) + _at(octave, i + 1, j + 1) * v
                for c in range(j * edge, min((j + 1) * edge, cols)):
                    u = (c - j * edge) / edge
                    line[c] += height * (a + (b - a) * u * u * (3.0 - 2.0 * u))
        for c in range(cols):
            out[r, c] = max(np.rint(line[c]), lake) if lake else line[c]
