"""One source on one window: pixels, why the others are missing, and what failed. Nothing but bugs is raised."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from odc.geo.geobox import GeoboxTiles
from odc.loader import chunked_load, resolve_load_cfg
from odc.loader.types import RasterBandMetadata, RasterGroupMetadata

from mdive.cube.ahead import fetch_ahead
from mdive.cube.driver import LoadState, MdiveDriver, parsed_items
from mdive.cube.failures import ReadFailure
from mdive.cube.grid import to_geobox
from mdive.cube.prepare import PreparedSource, prepare
from mdive.cube.units import NOTHING
from mdive.errors import InputError, nearest
from mdive.model.address import without_query
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid, MaskRule, Source
from mdive.pipeline.window import Window

TABLE = 2**16
"""Numbers of a quality band that are looked up; larger ones are compared."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What a block cost."""

    bands: int = 0
    """Bands of items that were read."""
    bytes: int = 0
    """Bytes of decoded numbers."""


@dataclass(frozen=True, slots=True)
class Block:
    """One source on one window of the grid."""

    window: Window
    values: dict[str, np.ndarray]
    """By band: float32 (time, y, x) in physical units, NaN where nothing is. Time is the source's observations, in their order."""
    mask: np.ndarray
    """uint16 (time, y, x): bits of ``QC_FLAGS``."""
    failures: tuple[ReadFailure, ...] = ()
    lost: tuple[np.ndarray, ...] = ()
    """bool (y, x), one for each failure: the pixels that are ``read_failure`` in some observation because of it."""
    reads: Reads = field(default_factory=Reads)


def read_block(source: Source, window: Window, grid: Grid, bands: Sequence[str]) -> Block:
    """Read bands of a source on a window of the grid.

    Items of one observation are mosaicked in the plan's order: the first one that has a valid pixel gives it, band by band.

    Parameters
    ----------
    source
        Which items, and what their numbers mean.
    window
        Pixels in global indices; beyond the grid real data is read too (halos).
    grid
        Target grid.
    bands
        mdive band names. Ask for the same bands wherever the masks of two blocks are to agree: a pixel is ``nodata`` where any of them
        has none.

    Returns
    -------
    Block
        The mask sets the causes of the source's quality band; ``nodata`` where a requested band (or the quality band) has no number
        although it was read, or no item is there; ``read_failure`` where it has none because a read failed: the pixel lies in the
        footprint of the item that failed, and no other item of the observation had it. An item whose quality band failed counts as
        failed altogether.

    Raises
    ------
    InputError
        If the source's items know none of the bands by that name.
    """
    prepared = prepare(source, grid)
    wanted = _wanted(source, bands)
    layers = [prepared.touching(window, observation.items) for observation in source.observations]
    coming = fetch_ahead(source, window, grid, wanted)
    driver = MdiveDriver(prepared)
    _note_missing_assets(prepared, layers, wanted, window, driver.state)
    planes = _load(driver, layers, wanted, window)
    # All that was asked for is here: what has not begun by now would fetch for nobody.
    wait([future for future in coming if not future.cancel()])
    values = {band: _as_float(planes[band]) for band in dict.fromkeys(bands)}
    mask, lost = _explained(prepared, layers, window, values, planes, driver.state)
    return Block(window, values, mask, tuple(lost), tuple(lost.values()), Reads(driver.state.bands_read, driver.state.bytes_read))


def _wanted(source: Source, bands: Sequence[str]) -> list[str]:
    """Return the bands to load, the quality band first."""
    known = {band for item in source.items for band in item.assets}
    for band in bands:
        if source.items and band not in known:
            raise InputError(f"{source.key} has no band {band!r}.{nearest(band, known)}", f"It has: {', '.join(sorted(known))}.")
    return list(dict.fromkeys([*([source.mask.band] if source.mask else []), *bands]))


def _load(driver: MdiveDriver, layers: list[list[str]], bands: list[str], window: Window) -> dict[str, np.ndarray]:
    """Load through odc-loader: one plane per observation and band, items fused in order."""
    prepared = driver.prepared
    parsed = parsed_items(prepared) if any(layers) else {}
    template = _template(prepared, bands)
    sources = [parsed[item].resolve_bands([b for b in bands if b in prepared.bands[item]]) for layer in layers for item in layer]
    bins, first = {}, 0
    for t, layer in enumerate(layers):
        if layer:
            bins[t, 0, 0] = list(range(first, first + len(layer)))
        first += len(layer)
    geobox = to_geobox(prepared.grid, window)
    loaded = chunked_load(
        resolve_load_cfg({band: template.bands[band, 1] for band in bands}),
        template,
        sources,
        bins,
        GeoboxTiles(geobox, geobox.shape),
        [observation.datetime.astimezone(dt.UTC).replace(tzinfo=None) for observation in prepared.source.observations],
        driver.capture_env(),
        driver,
    )
    return {band: loaded[band].values for band in bands}


def _template(prepared: PreparedSource, bands: list[str]) -> RasterGroupMetadata:
    mask = prepared.source.mask
    quality = RasterBandMetadata(prepared.mask_dtype, NOTHING)
    data = RasterBandMetadata("float32", np.nan)
    return RasterGroupMetadata({(band, 1): quality if mask is not None and band == mask.band else data for band in bands})


def _note_missing_assets(prepared: PreparedSource, layers: list[list[str]], bands: list[str], window: Window, state: LoadState) -> None:
    source = prepared.source
    for item in dict.fromkeys(item for layer in layers for item in layer):
        for band in bands:
            if band in prepared.bands[item]:
                continue
            if source.mask is not None and band == source.mask.band:
                state.blind.add(item)
            href = without_query(prepared.items[item].href or "")
            state.failures.append(ReadFailure(source.key, item, band, href, window, "no_asset", f"The item has no {band!r}.", 1))


def _as_float(plane: np.ndarray) -> np.ndarray:
    if plane.dtype == np.float32:
        return plane
    value = plane.astype(np.float32)
    value[plane == NOTHING] = np.nan
    return value


def _explained(
    prepared: PreparedSource,
    layers: list[list[str]],
    window: Window,
    values: dict[str, np.ndarray],
    planes: dict[str, np.ndarray],
    state: LoadState,
) -> tuple[np.ndarray, dict[ReadFailure, np.ndarray]]:
    """Return why each pixel is not what it seems, and which pixels each failure cost that touched the window."""
    rule = prepared.source.mask
    mask = np.zeros((len(layers), *window.shape), dtype=np.uint16)
    footprints = {f: prepared.footprint(f.item, f.band, window) for f in state.failures}
    touched = sorted((f for f, area in footprints.items() if area.any()), key=lambda f: (f.item, f.band))
    lost = {f: np.zeros(window.shape, dtype=bool) for f in touched}
    for t, layer in enumerate(layers):
        absent = {band: np.isnan(value[t]) for band, value in values.items()}
        if rule is not None:
            quality = planes[rule.band][t]
            mask[t] |= _causes(quality, rule)
            absent[rule.band] = quality == NOTHING
        for band, gaps in absent.items():
            bits = gaps * np.uint16(QC_FLAGS["nodata"])
            for failure in touched:
                # Without its quality band an item is lost in every band.
                whole = rule is not None and failure.band == rule.band
                if failure.item in layer and (whole or failure.band == band):
                    gone = gaps & footprints[failure]
                    bits[gone] = QC_FLAGS["read_failure"]
                    lost[failure] |= gone
            mask[t] |= bits
    return mask, lost


def _causes(quality: np.ndarray, rule: MaskRule) -> np.ndarray:
    causes = tuple((cause, tuple(numbers)) for cause, numbers in rule.causes.items())
    if quality.max(initial=0) < TABLE:
        bits: np.ndarray = _table(rule.kind, causes)[quality]  # `NOTHING` is -1: the last entry, which has no bit
        return bits
    bits = np.zeros(quality.shape, dtype=np.uint16)
    for cause, numbers in causes:
        hit = (quality & sum(1 << number for number in numbers)) != 0 if rule.kind == "bits" else np.isin(quality, numbers)
        bits[hit & (quality != NOTHING)] |= QC_FLAGS[cause]
    return bits


@lru_cache(maxsize=64)
def _table(kind: str, causes: tuple[tuple[str, tuple[int, ...]], ...]) -> np.ndarray:
    """Return the bits of each number that a quality band of 16 bits can hold: one look instead of one search for each cause."""
    numbers = np.arange(TABLE)
    table = np.zeros(TABLE + 1, dtype=np.uint16)
    for cause, named in causes:
        hit = (numbers & sum(1 << number for number in named)) != 0 if kind == "bits" else np.isin(numbers, named)
        table[:-1][hit] |= np.uint16(QC_FLAGS[cause])
    return table
