"""mdive's odc-loader driver: the only way by which pixels come in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pystac
from odc.geo.geobox import GeoBox
from odc.loader.types import BandKey, RasterBandMetadata, RasterGroupMetadata, RasterLoadParams, RasterSource
from odc.stac import ParsedItem, parse_items

from mdive.cube.failures import ReadFailure, Unreadable
from mdive.cube.files import OpenRaster, environment, with_raster
from mdive.cube.prepare import EVERYWHERE, PlannedBand, PreparedSource, cover
from mdive.cube.sampling import sample
from mdive.cube.units import NOTHING
from mdive.model.address import without_query
from mdive.model.plan import ItemRef
from mdive.pipeline.window import Window

Roi = tuple[slice, slice]


@dataclass
class LoadState:
    """What one load has met: odc-loader hands it to every reader of the load."""

    failures: list[ReadFailure] = field(default_factory=list)
    blind: set[str] = field(default_factory=set)
    """Items whose quality band could not be read: none of their pixels may be used, for nobody knows where clouds are."""
    bands_read: int = 0
    bytes_read: int = 0


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
        """Enter GDAL's settings for reading."""
        with environment():
            yield load_state

    def open(self, src: RasterSource, ctx: LoadState) -> MdiveReader:
        """Return the reader of one band of one item; nothing is opened yet."""
        return MdiveReader(self.prepared, src.driver_data, ctx)


class MdiveReader:
    """Reads one band of one item."""

    def __init__(self, prepared: PreparedSource, planned: PlannedBand, state: LoadState) -> None:
        self.prepared = prepared
        self.planned = planned
        self.state = state

    def read(
        self,
        cfg: RasterLoadParams,
        dst_geobox: GeoBox,
        *,
        dst: np.ndarray | None = None,  # noqa: ARG002
        selection: Any = None,  # noqa: ARG002
    ) -> tuple[Roi, np.ndarray]:
        """Return which part of the target the band may fill, and its pixels there; an empty part where it fails."""
        planned, dtype = self.planned, cfg.dtype or "float32"
        window = _window_of(dst_geobox, self.prepared)
        part = window.intersect(planned.domain)
        nothing = np.s_[0:0, 0:0], np.empty((0, 0), dtype=dtype)
        if part.empty or planned.item in self.state.blind:
            return nothing
        try:
            pixels, size = with_raster(planned.asset.href, planned.origin, lambda raster: self._sampled(raster, part, dtype))
        except Unreadable as error:
            self._note(error, window)
            return nothing
        self.state.bands_read += 1
        self.state.bytes_read += size
        return part.within(window), pixels

    def _sampled(self, raster: OpenRaster, part: Window, dtype: str) -> tuple[np.ndarray, int]:
        planned, grid = self.planned, self.prepared.grid
        if planned.asset.index > len(raster.nodata):
            raise Unreadable("no_band", f"The file has {len(raster.nodata)} bands; band {planned.asset.index} was planned.")
        covered = cover(raster.grid, grid) or EVERYWHERE
        common = covered.intersect(planned.domain)
        if common.empty or (planned.claimed is not None and planned.domain != EVERYWHERE and common != covered):
            raise Unreadable("misplaced", "The file lies elsewhere than its catalogue says.")
        return sample(raster, planned.asset, grid, part, dtype)

    def _note(self, error: Unreadable, window: Window) -> None:
        planned, source = self.planned, self.prepared.source
        if source.mask is not None and planned.band == source.mask.band:
            self.state.blind.add(planned.item)
        self.state.failures.append(
            ReadFailure(
                source.key,
                planned.item,
                planned.band,
                without_query(planned.asset.href),
                window,
                error.cause,
                error.message,
                error.attempts,
            )
        )


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


def parsed_items(prepared: PreparedSource) -> dict[str, ParsedItem]:
    """Return the items of a source as odc-stac parses them, by id; parsed once."""
    if not prepared.parsed and prepared.items:
        parsed = parse_items(map(stac_item, prepared.items.values()), md_plugin=PlanParser(prepared))
        prepared.parsed.update({item.id: item for item in parsed})
    return prepared.parsed


def stac_item(item: ItemRef) -> pystac.Item:
    """Return the STAC item that an `ItemRef` stands for, assets named by band."""
    made = pystac.Item(item.id, item.geometry, None, item.datetime.astimezone(dt.UTC), dict(item.properties), collection=item.collection)
    for band, asset in item.assets.items():
        made.add_asset(band, pystac.Asset(asset.href, roles=["data"]))
    return made


def _window_of(geobox: GeoBox, prepared: PreparedSource) -> Window:
    grid = prepared.grid
    col, row = (geobox.transform.c - grid.x0) / grid.resolution, (grid.y0 - geobox.transform.f) / grid.resolution
    if abs(geobox.transform.a - grid.resolution) > 1e-9 * grid.resolution or max(abs(col - round(col)), abs(row - round(row))) > 1e-6:
        msg = f"{geobox} is no window of the grid {grid}"
        raise ValueError(msg)
    return Window(round(row), round(col), *geobox.shape)
