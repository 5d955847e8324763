"""Read what a tile needs and remember what could not be read: the bridge from the cube to the heart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdive.cube import Block, ReadFailure, area_mask, read_block
from mdive.model.event import Event
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Plan, Source, source_by_key
from mdive.pipeline import Window
from mdive.pipeline.strips import Arrays, Bands

MASK = "mask"
"""Name of the cause plane among a source's bands."""


def bands_read(source: Source, bands: Sequence[str]) -> list[str]:
    """Return the bands that are read where some are asked for.

    The mask speaks of all bands of the source, so that it does not depend on which pass asks for which band.
    """
    wanted = [b for b in bands if b != MASK]
    return list(source.bands) if MASK in bands or not wanted else wanted


@dataclass(frozen=True, slots=True)
class _BlockBands:
    """A block of the cube as the heart knows bands: the cause plane is one of them."""

    block: Block

    def rows(self, first: int, end: int, bands: Iterable[str]) -> Mapping[str, np.ndarray]:
        """Return rows [first, end) of some bands."""
        names = list(bands)
        values, mask = self.block.rows(first, end, [b for b in names if b != MASK], mask=MASK in names)
        return values if mask is None else {**values, MASK: mask}


class SourceReader:
    """A ``Loader`` over a plan's sources, with a ledger.

    Parameters
    ----------
    plan
        Names the sources and the grid.
    core
        The tile whose failures are counted (halos are counted by the tile that owns them).
    """

    def __init__(self, plan: Plan, core: Window) -> None:
        self._sources = source_by_key(plan)
        self._grid = plan.grid
        self._core = core
        self._plan = plan
        self._failures: dict[tuple[str, str, str], tuple[ReadFailure, int]] = {}

    def __call__(self, source: str, bands: Sequence[str], window: Window) -> Bands:
        """Read bands of a source, (time, y, x) each; the band ``mask`` is the cause plane."""
        found = self._sources[source]
        if not found.observations:
            empty = np.full((1, *window.shape), np.nan, dtype="float32")
            nothing = np.full((1, *window.shape), QC_FLAGS["nodata"], dtype="uint16")
            return Arrays({b: nothing if b == MASK else empty for b in bands})
        block = read_block(found, window, self._grid, bands_read(found, bands))
        self._note(block)
        return _BlockBands(block)

    def _note(self, block: Block) -> None:
        own = self._core.intersect(block.window)
        if not block.failures:
            return
        area = area_mask(Event.model_validate(self._plan.event).area.geometry, self._grid, own)
        for failure, lost in zip(block.failures, block.lost, strict=True):
            pixels = int((lost[own.within(block.window)] & area).sum())
            key = (failure.source, failure.item, failure.band)
            # A tile may read a band twice (its mask alone, then its numbers): the loss is the same one, seen with less or more around it.
            if key not in self._failures or pixels > self._failures[key][1]:
                self._failures[key] = (failure, pixels)

    def ledger_rows(self, index: int, tile: int) -> list[dict[str, Any]]:
        """Return one row per failed read of this tile."""
        rows = []
        for failure, pixels in self._failures.values():
            rows.append(
                {
                    "pass": index,
                    "tile": tile,
                    "source": failure.source,
                    "item": failure.item,
                    "band": failure.band,
                    "href": failure.href,
                    "row": self._core.row,
                    "col": self._core.col,
                    "height": self._core.height,
                    "width": self._core.width,
                    "cause": failure.cause,
                    "message": failure.message,
                    "attempts": failure.attempts,
                    "pixels": pixels,
                }
            )
        return sorted(rows, key=lambda r: (r["source"], r["item"], r["band"]))
