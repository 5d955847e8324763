"""Polygons of the event, as GeoParquet: one row per connected component of each class that means the event.

Rows are written in groups as they are outlined, so memory follows a row group and the largest single component, not the area.

Polygons are in the CRS of the grid, where their edges are exactly those of the pixels; GeoParquet carries the CRS, and readers
reproject. Areas are geodesic, in m² on the ellipsoid.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import CRS

from mdive.model.plan import Grid
from mdive.model.product import RasterSpec
from mdive.products.components import Components, components
from mdive.products.files import staged, writing
from mdive.products.rings import geodesic_areas, on_the_map

_GEO = b"geo"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def write_polygons(
    path: Path,
    class_path: Path,
    spec: RasterSpec,
    grid: Grid,
    *,
    probability_path: Path | None = None,
) -> int:
    """Outline the event's classes and write them as GeoParquet 1.1 with a ``bbox`` covering column.

    Columns: ``id`` (from 1), ``class``, ``class_value``, ``area_m2`` (geodesic), ``mean_probability`` (null where there is none),
    ``pixels``, ``geometry``. Rows are sorted by (class value, first pixel in reading order). No component at all is a file with no rows.

    Parameters
    ----------
    path
        File to write; it appears complete or not at all.
    class_path
        Class raster (uint8) on ``grid``.
    spec
        Its class table; classes of role ``event`` are outlined.
    grid
        Its grid.
    probability_path
        Raster of the event's probability on the same grid.

    Returns
    -------
    The number of rows.

    Raises
    ------
    RunFolderError
        The file cannot be written.
    """
    names = {entry.value: entry.name for entry in spec.classes}
    with (
        staged(path) as target,
        components(class_path, spec, grid, folder=target.parent, probability_path=probability_path) as found,
        writing(path),
    ):
        schema = _schema(grid, found)
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for rows in found.batches():
                writer.write_table(_table(found, rows, grid, names, schema), row_group_size=rows.stop - rows.start)
    return len(found)


def _schema(grid: Grid, found: Components) -> pa.Schema:
    """Return the columns, and what the GeoParquet standard asks to be said of them: as geopandas writes a table without rows."""
    columns = {
        "id": np.zeros(0, np.int64),
        "class": pd.array([], dtype="str"),
        "class_value": np.zeros(0, np.int16),
        "area_m2": np.zeros(0),
        "mean_probability": np.zeros(0),
        "pixels": np.zeros(0, np.int64),
    }
    frame = geopandas.GeoDataFrame(columns, geometry=[], crs=CRS.from_user_input(grid.crs))
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, schema_version="1.1.0", write_covering_bbox=True)
    schema = pq.read_schema(buffer)
    if not len(found):
        return schema
    geo = json.loads(schema.metadata[_GEO])
    bounds = shapely.bounds(on_the_map(np.array([shapely.box(*found.extent)]), grid))[0]
    geo["columns"][geo["primary_column"]] |= {"geometry_types": ["Polygon"], "bbox": bounds.tolist()}
    # Now, and not when all rows are known: what a writer adds at the end is not in the schema that pyarrow reads back.
    return schema.with_metadata({**schema.metadata, _GEO: json.dumps(geo)})


def _table(found: Components, rows: slice, grid: Grid, names: dict[int, str], schema: pa.Schema) -> pa.Table:
    outlines = found.outlines(rows)
    geometry = on_the_map(outlines, grid)
    known = found.known[rows].astype(float)
    mean = np.divide(found.total[rows] * found.step, known, out=np.full(len(known), np.nan), where=known > 0)
    columns = {
        "id": np.arange(rows.start + 1, rows.stop + 1),
        "class": pa.array([names[value] for value in found.value[rows].tolist()], schema.field("class").type),
        "class_value": found.value[rows].astype(np.int16),
        "area_m2": geodesic_areas(outlines, grid),
        "mean_probability": pa.array(mean, from_pandas=True),
        "pixels": found.pixels[rows],
        "geometry": pa.array(shapely.to_wkb(geometry, flavor="iso"), pa.binary()),
        "bbox": pa.StructArray.from_arrays([pa.array(side) for side in shapely.bounds(geometry).T], list(_SIDES)),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)
