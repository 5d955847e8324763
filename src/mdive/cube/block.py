"""One source on one window: pixels, why the others are missing, and what failed. Nothing but bugs is raised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from mdive.cube.ahead import arriving
from mdive.cube.failures import ReadFailure
from mdive.cube.kernels import look_up, mark
from mdive.cube.plane import Plane
from mdive.cube.prepare import PreparedSource, prepare
from mdive.cube.reader import BandReader, LoadState
from mdive.cube.units import NOTHING
from mdive.errors import InputError, nearest
from mdive.model.address import without_query
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Grid, MaskRule, Source
from mdive.pipeline.window import Window

TABLE = 2**16
"""Numbers of a quality band that are looked up; larger ones are compared."""

Stack = list[list[Plane]]
"""What one band has on a window: by observation, the planes of its items in the plan's order."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What a block cost."""

    bands: int = 0
    """Bands of items that were read."""
    bytes: int = 0
    """Bytes of decoded numbers."""


class Block:
    """One source on one window of the grid, read and not yet converted: whoever works row by row never holds all of it as floats.

    Attributes
    ----------
    window
        Pixels in global indices.
    failures
        What could not be read.
    lost
        bool (y, x), one for each failure: the pixels that are ``read_failure`` in some observation because of it.
    reads
        What it cost.
    """

    def __init__(
        self, prepared: PreparedSource, window: Window, bands: Sequence[str], stacks: Mapping[str, Stack], state: LoadState
    ) -> None:
        self.window = window
        self.reads = Reads(state.bands_read, state.bytes_read)
        self._prepared = prepared
        self._bands = tuple(dict.fromkeys(bands))
        self._stacks = stacks
        self._cause_tables: dict[int, np.ndarray] = {}
        self._layers = [prepared.touching(window, observation.items) for observation in prepared.source.observations]
        footprints = {f: prepared.footprint(f.item, f.band, window) for f in state.failures}
        self._footprints = {f: footprints[f] for f in sorted(footprints, key=lambda f: (f.item, f.band)) if footprints[f].any()}
        self.failures = tuple(self._footprints)

    @property
    def values(self) -> dict[str, np.ndarray]:
        """By band: float32 (time, y, x) in physical units, NaN where nothing is. Time is the source's observations, in their order."""
        return self._whole[0]

    @property
    def mask(self) -> np.ndarray:
        """uint16 (time, y, x): bits of ``QC_FLAGS``."""
        return self._whole[1]

    @cached_property
    def lost(self) -> tuple[np.ndarray, ...]:
        """By failure: where it is why nothing is known."""
        return self._explained(self.window)[2] if self.failures else ()

    def rows(self, first: int, end: int, bands: Iterable[str], *, mask: bool) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Return some rows of some bands.

        Parameters
        ----------
        first, end
            Rows of the window, from 0.
        bands
            Which; of those that were read.
        mask
            Whether the mask is asked for, too. It speaks of all bands that were read.

        Returns
        -------
        dict
            As in ``values``.
        np.ndarray or None
            As in ``mask``.
        """
        window = Window(self.window.row + first, self.window.col, end - first, self.window.width)
        if not mask:
            return {band: _as_float(self._laid(band, window)) for band in bands}, None
        values, bits, _ = self._explained(window)
        return {band: values[band] for band in bands}, bits

    @cached_property
    def _whole(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        return self._explained(self.window)[:2]

    def _laid(self, band: str, window: Window) -> np.ndarray:
        rule = self._prepared.source.mask
        quality = rule is not None and band == rule.band
        stack = self._stacks[band]
        out = np.empty((len(stack), *window.shape), self._prepared.mask_dtype if quality else np.float32)
        for planes, plane_out in zip(stack, out, strict=True):
            if not planes or planes[0].part.intersect(window) != window:
                plane_out[...] = NOTHING if quality else np.nan
            for number, plane in enumerate(planes):
                plane.lay(plane_out, window, over=number > 0)
        return out

    def _is_plain(self, band: str) -> bool:
        """Whether each observation has one item at most, whose numbers are looked up: so the causes can be looked up at once."""
        return all(len(planes) <= 1 and all(p.table is not None for p in planes) for planes in self._stacks[band])

    def _laid_causes(self, rule: MaskRule, window: Window) -> np.ndarray:
        """Return the causes of the quality band, nodata where it says nothing."""
        out = np.empty((len(self._layers), *window.shape), np.uint16)
        for planes, plane_out in zip(self._stacks[rule.band], out, strict=True):
            if not planes or planes[0].part.intersect(window) != window:
                plane_out[...] = QC_FLAGS["nodata"]
            for plane in planes:
                plane.lay_as(self._cause_table(plane, rule), plane_out, window)
        return out

    def _cause_table(self, plane: Plane, rule: MaskRule) -> np.ndarray:
        assert plane.table is not None
        found = self._cause_tables.get(id(plane))
        if found is None:
            found = _causes(plane.table, rule)
            found[plane.table == NOTHING] = QC_FLAGS["nodata"]
            self._cause_tables[id(plane)] = found
        return found

    def _explained(self, window: Window) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[np.ndarray, ...]]:
        """Return the bands on a part of the window, why each pixel is not what it seems, and which pixels each failure cost."""
        rule = self._prepared.source.mask
        if rule is not None and not self.failures and rule.band not in self._bands and self._is_plain(rule.band):
            mask, quality = self._laid_causes(rule, window), None
        else:
            quality = None if rule is None else self._laid(rule.band, window)
            mask = np.zeros((len(self._layers), *window.shape), np.uint16) if rule is None or quality is None else _causes(quality, rule)
        values = {
            band: _as_float(quality) if rule is not None and quality is not None and band == rule.band else self._laid(band, window)
            for band in self._bands
        }
        if not self.failures:
            for plane in (*values.values(), *([] if quality is None else [quality])):
                mark(plane, NOTHING, QC_FLAGS["nodata"], mask)
            return values, mask, ()
        within = window.within(self.window)
        lost = {f: np.zeros(window.shape, dtype=bool) for f in self.failures}
        for t, layer in enumerate(self._layers):
            absent = {band: np.isnan(value[t]) for band, value in values.items()}
            if rule is not None and quality is not None:
                absent[rule.band] = quality[t] == NOTHING
            for band, gaps in absent.items():
                bits = gaps * np.uint16(QC_FLAGS["nodata"])
                for failure in self.failures:
                    # Without its quality band an item is lost in every band.
                    whole = rule is not None and failure.band == rule.band
                    if failure.item in layer and (whole or failure.band == band):
                        gone = gaps & self._footprints[failure][within]
                        bits[gone] = QC_FLAGS["read_failure"]
                        lost[failure] |= gone
                mask[t] |= bits
        return values, mask, tuple(lost.values())


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
    state = LoadState()
    _note_missing_assets(prepared, layers, wanted, window, state)
    with arriving(source, window, grid, wanted):
        stacks = {band: [_planes(prepared, layer, band, window, state) for layer in layers] for band in wanted}
    return Block(prepared, window, bands, stacks, state)


def _wanted(source: Source, bands: Sequence[str]) -> list[str]:
    """Return the bands to load, the quality band first."""
    known = {band for item in source.items for band in item.assets}
    for band in bands:
        if source.items and band not in known:
            raise InputError(f"{source.key} has no band {band!r}.{nearest(band, known)}", f"It has: {', '.join(sorted(known))}.")
    return list(dict.fromkeys([*([source.mask.band] if source.mask else []), *bands]))


def _planes(prepared: PreparedSource, layer: Sequence[str], band: str, window: Window, state: LoadState) -> list[Plane]:
    """Return what the items of one observation have of a band."""
    rule = prepared.source.mask
    dtype = prepared.mask_dtype if rule is not None and band == rule.band else "float32"
    readers = (BandReader(prepared, prepared.bands[item][band], state) for item in layer if band in prepared.bands[item])
    return [plane for reader in readers if (plane := reader.plane(window, dtype)) is not None]


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


def _causes(quality: np.ndarray, rule: MaskRule) -> np.ndarray:
    causes = tuple((cause, tuple(numbers)) for cause, numbers in rule.causes.items())
    if quality.max(initial=0) < TABLE:
        # `NOTHING` is -1: the last entry, which has no bit
        return look_up(quality, _table(rule.kind, causes))
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
