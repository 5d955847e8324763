"""mdive's reader as a driver of odc-loader: ``odc.stac.load(items, driver=...)`` gives the pixels that a run sees."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pystac
from odc.geo.geobox import GeoBox
from odc.loader.types import BandKey, RasterBandMetadata, RasterGroupMetadata, RasterLoadParams, RasterSource

from mdive.cube.grid import same_crs
from mdive.cube.prepare import PlannedBand, PreparedSource
from mdive.cube.reader import BandReader, LoadState
from mdive.cube.units import NOTHING
from mdive.model.plan import ItemRef
from mdive.pipeline.window import Window

Roi = tuple[slice, slice]


class MdiveDriver:
    """An odc-loader ``ReaderDriver`` for the items of one source on one grid.

    It takes what numbers mean from the plan, reads tile-exactly (see `mdive.cube.sampling`), and turns every failure into a
    `ReadFailure` in `state` instead of an exception or silent nodata. Load the quality band first: bands of an item whose quality band
    failed are then left out.
    """

    dask_reader = None
    aux_reader = None

    def __init__(self, prepared: PreparedSource) -> None:
        self.prepared = prepared
        self.state = LoadState()

    @property
    def md_parser(self) -> PlanParser:
        """What odc-stac asks for the bands of an item."""
        return PlanParser(self.prepared)

    def new_load(self, geobox: GeoBox, *, chunks: dict[str, int] | None = None) -> LoadState:  # noqa: ARG002
        """Return the state that this load's failures go to."""
        return self.state

    def finalise_load(self, load_state: LoadState) -> LoadState:
        """Return the state of a load that has ended."""
        return load_state

    def capture_env(self) -> dict[str, Any]:
        """Return nothing: settings belong to the process that reads, credentials never travel."""
        return {}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: LoadState) -> Iterator[LoadState]:  # noqa: ARG002
        """Enter nothing: GDAL's settings are entered where GDAL is asked."""
        yield load_state

    def open(self, src: RasterSource, ctx: LoadState) -> MdiveReader:
        """Return the reader of one band of one item; nothing is opened yet."""
        return MdiveReader(self.prepared, src.driver_data, ctx)


class MdiveReader(BandReader):
    """Reads one band of one item, as odc-loader asks for it."""

    def read(
        self,
        cfg: RasterLoadParams,
        dst_geobox: GeoBox,
        *,
        dst: np.ndarray | None = None,  # noqa: ARG002
        selection: Any = None,  # noqa: ARG002
    ) -> tuple[Roi, np.ndarray]:
        """Return which part of the target the band fills, and its pixels there; an empty part where it fails."""
        dtype, window = cfg.dtype or "float32", _window_of(dst_geobox, self.prepared)
        plane = self.plane(window, dtype)
        if plane is None:
            return np.s_[0:0, 0:0], np.empty((0, 0), dtype=dtype)
        pixels = np.empty(plane.part.shape, dtype)
        plane.lay(pixels, plane.part, over=False)
        return plane.part.within(window), pixels


class PlanParser:
    """An odc-loader ``MDParser`` that takes its word from the plan, not from STAC extensions."""

    def __init__(self, prepared: PreparedSource) -> None:
        self.prepared = prepared

    def extract(self, md: Any) -> RasterGroupMetadata:
        """Return the bands of an item."""
        mask = self.prepared.source.mask
        return RasterGroupMetadata(
            {
                (band, 1): RasterBandMetadata(self.prepared.mask_dtype, NOTHING, asset.unit)
                if mask is not None and band == mask.band
                else RasterBandMetadata("float32", np.nan, asset.unit)
                for band, asset in self.prepared.items[md.id].assets.items()
            }
        )

    def driver_data(self, md: Any, band_key: BandKey) -> PlannedBand | None:
        """Return what is planned for one band of an item."""
        return self.prepared.bands[md.id].get(band_key[0])


def stac_item(item: ItemRef) -> pystac.Item:
    """Return the STAC item that an `ItemRef` stands for, assets named by band."""
    made = pystac.Item(item.id, item.geometry, None, item.datetime.astimezone(dt.UTC), dict(item.properties), collection=item.collection)
    for band, asset in item.assets.items():
        made.add_asset(band, pystac.Asset(asset.href, roles=["data"]))
    return made


def _window_of(geobox: GeoBox, prepared: PreparedSource) -> Window:
    grid = prepared.grid
    col, row = (geobox.transform.c - grid.x0) / grid.resolution, (grid.y0 - geobox.transform.f) / grid.resolution
    step = geobox.transform.a, geobox.transform.b, geobox.transform.d, -geobox.transform.e
    even = max(abs(a - b) for a, b in zip(step, (grid.resolution, 0.0, 0.0, grid.resolution), strict=True)) <= 1e-9 * grid.resolution
    if not even or not same_crs(str(geobox.crs), grid.crs) or max(abs(col - round(col)), abs(row - round(row))) > 1e-6:
        msg = f"{geobox} is no window of the grid {grid}"
        raise ValueError(msg)
    return Window(round(row), round(col), *geobox.shape)
