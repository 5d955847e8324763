"""The result as STAC 1.1: one item and the collection that holds it, self-contained, with relative links.

What a band's numbers mean comes from the same specification that wrote the rasters, so the file, its CF attributes and its STAC item
cannot disagree. Common band fields (``nodata``, ``data_type``, ``unit``) are those of STAC 1.1; scale and offset those of the raster
extension 2.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pystac
import shapely.geometry
from pyproj import CRS
from pystac.extensions.classification import Bitfield, Classification, ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension

from mdive.model.address import without_query
from mdive.model.event import Event
from mdive.model.manifest import ProductFile
from mdive.model.plan import Grid, Plan
from mdive.model.product import FlagEntry, RasterSpec
from mdive.products.encoding import encoding_of
from mdive.products.files import write_json_atomic, writing
from mdive.products.zarr import MEDIA_TYPE as ZARR_TYPE

_PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
_RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"

_SHA256 = "1220"
"""Multihash prefix: sha2-256, 32 bytes."""

_ITEM = "item.json"
_COLLECTION = "collection.json"


def write_stac(
    folder: Path,
    *,
    plan: Plan,
    files: Sequence[ProductFile],
    specs: Mapping[str, RasterSpec],
    properties: Mapping[str, Any] = MappingProxyType({}),
    created: datetime | None = None,
) -> list[tuple[str, Path]]:
    """Write ``collection.json`` and ``item.json``; the same input gives the same bytes.

    Parameters
    ----------
    folder
        Where to write. Links to products are written for its final place, ``stac/`` in the run folder, wherever it is staged.
    plan
        Names event, grid, sources, algorithm and software.
    files
        What the manifest will list; each becomes an asset of its name.
    specs
        The rasters among them, by name.
    properties
        More properties of the item, such as the decision.
    created
        When the result was made. Without it nothing in the item differs between equal runs.

    Returns
    -------
    ``("collection", path)`` and ``("item", path)``.

    Raises
    ------
    RunFolderError
        The folder cannot be written.
    """
    event = Event.model_validate(plan.event)
    bbox = list(event.area.extent)
    title = event.description or f"{event.event_class or event.id}, {event.window.start:%Y-%m-%d} to {event.window.end:%Y-%m-%d}"
    collection_id = f"{event.id}-collection"
    item = pystac.Item(
        id=event.id,
        geometry=shapely.geometry.mapping(event.area.geometry),
        bbox=bbox,
        datetime=None,
        start_datetime=event.window.start,
        end_datetime=event.window.end,
        collection=collection_id,
        properties={"title": title, "mdive:event_class": event.event_class, **_processing(plan), **properties},
        stac_extensions=[_PROCESSING, _RASTER],
    )
    if created is not None:
        item.common_metadata.created = created
    _project(item, plan.grid)
    rasters = [specs[file.name] for file in files if file.name in specs]
    for file in files:
        if file.media_type == ZARR_TYPE:
            _add_store(item, file, rasters)
        else:
            _add_asset(item, file, specs.get(file.name))
    for rel in ("root", "parent", "collection"):
        item.add_link(pystac.Link(rel, f"./{_COLLECTION}", media_type=pystac.MediaType.JSON))
    item.add_links(_derived_from(plan))
    item.stac_extensions.sort()

    collection = pystac.Collection(
        id=collection_id,
        title=title,
        description=f"What mdive made of the event {event.id}: {title}.",
        extent=pystac.Extent(pystac.SpatialExtent([bbox]), pystac.TemporalExtent([[event.window.start, event.window.end]])),
        license="other",
        keywords=sorted({plan.algorithm.name, *(source.name for source in plan.sources)}),
    )
    collection.clear_links()
    collection.add_link(pystac.Link("root", f"./{_COLLECTION}", media_type=pystac.MediaType.JSON))
    collection.add_link(pystac.Link("item", f"./{_ITEM}", media_type=pystac.MediaType.GEOJSON))

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = [("collection", folder / _COLLECTION), ("item", folder / _ITEM)]
    for (_, path), thing in zip(written, (collection, item), strict=True):
        write_json_atomic(path, thing.to_dict(include_self_link=False, transform_hrefs=False))
    return written


def _processing(plan: Plan) -> dict[str, Any]:
    sources = {source.key: [item.id for item in source.items] for source in plan.sources}
    made = f"{plan.algorithm.name} {plan.algorithm.version} on " + (", ".join(sorted(sources)) or "no source")
    return {
        "processing:level": "L4",
        "processing:lineage": f"{made}; plan {plan.identity}.",
        "processing:software": dict(sorted(plan.software.items())),
        "mdive:plan": plan.identity,
        "mdive:algorithm": f"{plan.algorithm.name}/{plan.algorithm.version}",
        # Not every catalogue gives its items an address to link to; their ids are always known.
        "mdive:sources": dict(sorted(sources.items())),
    }


def _project(item: pystac.Item, grid: Grid) -> None:
    crs = CRS.from_user_input(grid.crs)
    authority = crs.to_authority()
    rows, cols = grid.shape
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=":".join(authority) if authority else None,
        projjson=None if authority else crs.to_json_dict(),
        bbox=[grid.x0, grid.y0 - rows * grid.resolution, grid.x0 + cols * grid.resolution, grid.y0],
        shape=[rows, cols],
        transform=list(grid.transform),
    )


def _add_asset(item: pystac.Item, file: ProductFile, spec: RasterSpec | None) -> None:
    asset = pystac.Asset(f"../{file.path}", title=spec.long_name if spec else file.name, media_type=file.media_type, roles=["data"])
    item.add_asset(file.name, asset)
    FileExtension.ext(asset, add_if_missing=True).apply(checksum=_SHA256 + file.sha256, size=file.size)
    if spec is None:
        return
    asset.extra_fields["bands"] = [_band(spec)]
    if spec.classes:
        ClassificationExtension.ext(asset, add_if_missing=True).classes = classes_of(spec)
    if spec.flags:
        ClassificationExtension.ext(asset, add_if_missing=True).bitfields = bitfields_of(spec)


def classes_of(spec: RasterSpec) -> list[Classification]:
    """Return the class table of a raster as the classification extension has it."""
    return [
        Classification.create(
            value=entry.value,
            name=entry.name,
            title=entry.title,
            description=entry.title,
            color_hint=entry.color.lstrip("#").upper(),
            nodata=True if entry.value == spec.nodata else None,
        )
        for entry in spec.classes
    ]


def bitfields_of(spec: RasterSpec) -> list[Bitfield]:
    """Return the flags of a raster as the classification extension has them."""
    return [_bitfield(flag) for flag in spec.flags]


def _add_store(item: pystac.Item, file: ProductFile, layers: Sequence[RasterSpec]) -> None:
    """Add a Zarr store as its best practices ask: one asset for the group, a band for each array; a folder has no checksum of a file."""
    href = f"../{file.path}"
    asset = pystac.Asset(href, title="All layers in one store", media_type=file.media_type, roles=["data"])
    item.add_asset(file.name, asset)
    asset.extra_fields["bands"] = [_band(spec) for spec in layers]
    item.add_link(pystac.Link("store", href, media_type=file.media_type))


def _band(spec: RasterSpec) -> dict[str, Any]:
    encoding = encoding_of(spec)
    band: dict[str, Any] = {"name": spec.name, "description": spec.long_name, "data_type": encoding.dtype, "unit": spec.units}
    if encoding.nodata is not None:
        nodata = encoding.nodata
        band["nodata"] = "nan" if math.isnan(nodata) else int(nodata) if nodata == int(nodata) else nodata
    if encoding.scaled:
        band |= {"raster:scale": encoding.scale, "raster:offset": 0}
    return band


def _bitfield(flag: FlagEntry) -> Bitfield:
    words = flag.name.replace("_", " ")
    return Bitfield.create(
        name=flag.name,
        description=words,
        offset=(flag.mask & -flag.mask).bit_length() - 1,
        length=flag.mask.bit_count(),
        classes=[
            Classification.create(value=0, name="no", description=f"not {words}"),
            Classification.create(value=1, name=flag.name, description=words),
        ],
    )


def _derived_from(plan: Plan) -> list[pystac.Link]:
    hrefs = {without_query(item.href): item.id for source in plan.sources for item in source.items if item.href}
    return [
        pystac.Link(pystac.RelType.DERIVED_FROM, href, media_type=pystac.MediaType.GEOJSON, title=title)
        for href, title in sorted(hrefs.items())
    ]
