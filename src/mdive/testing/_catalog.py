"""The static STAC 1.1 catalogue and the event file of a synthetic event: what the files are, no more and no less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import yaml
from pyproj import Transformer
from shapely import set_precision, transform
from shapely.geometry import Polygon, box, mapping
from shapely.geometry.polygon import orient

from mdive.model.plan import Grid
from mdive.testing._area import BBox
from mdive.testing._raster import Footprint, Layer

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
SAR = "https://stac-extensions.github.io/sar/v1.0.0/schema.json"
SAT = "https://stac-extensions.github.io/sat/v1.0.0/schema.json"
VIEW = "https://stac-extensions.github.io/view/v1.0.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"

COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True, slots=True)
class Scene:
    """One STAC item to be: its files and what is known of the acquisition."""

    id: str
    collection: str
    datetime: datetime
    footprint: Footprint
    layers: Mapping[str, Layer]
    """By asset key."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()


def write_catalog(folder: Path, id_: str, description: str, grid: Grid, scenes: Sequence[Scene], collections: Mapping[str, str]) -> Path:
    """Write ``catalog.json``, one file per collection and one per item into a folder, with relative links; return the catalogue's path.

    Parameters
    ----------
    folder
        Where the layers already lie.
    id_, description
        Of the catalogue.
    grid
        Grid of the layers.
    scenes
        Items.
    collections
        Description of each collection, by id.
    """
    names = ["catalog", *collections, *(scene.id for scene in scenes)]
    assert len(set(names)) == len(names), f"two documents of one name among {names}"
    catalog = pystac.Catalog(id_, description, href=str(folder / "catalog.json"), catalog_type=pystac.CatalogType.SELF_CONTAINED)
    for name, text in collections.items():
        items = [_item(folder, grid, scene) for scene in scenes if scene.collection == name]
        if not items:
            continue
        collection = pystac.Collection(name, text, pystac.Extent.from_items(items), href=str(folder / f"{name}.json"), license="CC0-1.0")
        collection.add_items(items)
        catalog.add_child(collection)
        for item in items:
            item.set_self_href(str(folder / f"{item.id}.json"))
        collection.set_self_href(str(folder / f"{name}.json"))
    catalog.save()
    return folder / "catalog.json"


def _item(folder: Path, grid: Grid, scene: Scene) -> pystac.Item:
    geometry = _outline(grid, scene.footprint)
    item = pystac.Item(
        scene.id,
        mapping(geometry),
        list(geometry.bounds),
        scene.datetime,
        {"proj:code": grid.crs, "gsd": grid.resolution, **scene.properties},
        stac_extensions=[PROJECTION, RASTER, *scene.extensions],
        href=str(folder / f"{scene.id}.json"),
    )
    window = scene.footprint.scene
    a, b, c, d, e, f = grid.transform
    for key, layer in scene.layers.items():
        extra = {
            "proj:shape": list(window.shape),
            "proj:transform": [a, b, c + a * window.col, d, e, f + e * window.row],
            "bands": [_band(key, layer)],
        }
        if layer.flags:
            extra["classification:classes"] = [{"value": v, "name": n, "description": n.replace("_", " ")} for v, n in layer.flags]
        if layer.bits:
            extra["classification:bitfields"] = [
                {"offset": o, "length": n, "name": name, "classes": [{"value": v, "name": f"{name}_{v}"} for v in range(2**n)]}
                for o, n, name in layer.bits
            ]
        item.add_asset(
            key, pystac.Asset(layer.path.name, description=layer.description, media_type=COG_TYPE, roles=["data"], extra_fields=extra)
        )
    return item


def _band(key: str, layer: Layer) -> dict[str, Any]:
    band: dict[str, Any] = {"name": key, "data_type": layer.dtype}
    if layer.nodata is not None:
        band["nodata"] = "nan" if np.isnan(layer.nodata) else layer.nodata
    if layer.unit:
        band["unit"] = layer.unit
        band["raster:scale"] = layer.scale
        band["raster:offset"] = 0.0
    if key in ("blue", "green", "red", "nir08", "swir16", "swir22"):
        band["eo:common_name"] = key
    return band


def _outline(grid: Grid, footprint: Footprint) -> Polygon:
    """Return the footprint of the data in longitude and latitude, its sides followed at 8 points each, counter-clockwise."""
    inner = footprint.scene.expand(-footprint.border)
    shape: Polygon = box(inner.col, inner.row, inner.col_end, inner.row_end)
    if footprint.swath is not None:
        top, bottom, far = footprint.edge(inner.row), footprint.edge(inner.row_end), inner.col_end + 2 * inner.height
        shape = shape.intersection(Polygon([(top, inner.row), (far, inner.row), (far, inner.row_end), (bottom, inner.row_end)]))
    shape = shape.segmentize(max(inner.shape) / 8)
    project = Transformer.from_crs(grid.crs, 4326, always_xy=True).transform
    outline = transform(shape, lambda x, y: project(grid.x0 + x * grid.resolution, grid.y0 - y * grid.resolution), interleaved=False)
    return orient(set_precision(outline, 1e-7))


def write_event(
    path: Path,
    *,
    id_: str,
    event_class: str,
    description: str,
    bbox: BBox,
    window: tuple[str, str],
    baseline: tuple[str, str] | None,
    resolution: float,
) -> None:
    """Write an event file in the form that ``mdive run --event`` reads."""
    document: dict[str, Any] = {
        "id": id_,
        "event_class": event_class,
        "description": description,
        "area": {"bbox": list(bbox)},
        "window": {"start": window[0], "end": window[1]},
    }
    if baseline:
        document["baseline"] = {"start": baseline[0], "end": baseline[1]}
    document["intent"] = {"resolution": int(resolution) if float(resolution).is_integer() else float(resolution)}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def instant(text: str) -> datetime:
    """Return an ISO time as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
