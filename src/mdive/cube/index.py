"""Which items, assets and source blocks a window needs, known before a pixel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import shapely

from mdive.cube.prepare import PlannedBand, PreparedSource, prepare
from mdive.cube.relation import Axis, Nested, SourceGrid, relate
from mdive.errors import InputError
from mdive.model.plan import Grid, Source
from mdive.pipeline.window import Window

BLOCK = 512
"""Edge of a source block where no header was read: the default of GDAL's COG driver; Sentinel-2 COGs have 1024, Landsat and HLS 256."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a set of windows needs, each item, asset and block counted once."""

    items: int = 0
    assets: int = 0
    blocks: int = 0
    bytes: int = 0
    """Decoded bytes of these blocks; compressed files are two to three times smaller."""


class TileIndex:
    """A spatial index over the items of a plan's sources.

    Parameters
    ----------
    sources
        The plan's sources.
    grid
        The plan's grid.
    """

    def __init__(self, sources: Sequence[Source], grid: Grid) -> None:
        self.grid = grid
        self._prepared = {source.key: prepare(source, grid) for source in sources}
        self._trees = {key: shapely.STRtree([_box(window) for window in ready.domains.values()]) for key, ready in self._prepared.items()}

    def items(self, source_key: str, window: Window) -> list[str]:
        """Return the ids of the items that a read of this window looks into, in the plan's order."""
        if source_key not in self._trees:
            raise InputError(f"There is no source {source_key!r}.", f"There are: {', '.join(sorted(self._trees))}.")
        ready = self._prepared[source_key]
        ids = list(ready.domains)
        found = np.sort(self._trees[source_key].query(_box(window)))
        return ready.touching(window, [ids[i] for i in found])

    def estimate(self, *windows: Window) -> Estimate:
        """Return what reading all bands of all sources in these windows needs, from the catalogue's metadata alone.

        Where the catalogue does not tell an asset's grid, its pixels are taken to be as large as the target's.
        """
        needs: dict[tuple[str, str, str], tuple[PlannedBand, set[tuple[int, int]]]] = {}
        for key, ready in self._prepared.items():
            bands = _bands(ready.source)
            for window in windows:
                for item in self.items(key, window):
                    for band in bands:
                        planned = ready.bands[item].get(band)
                        if planned is not None:
                            entry = needs.setdefault((key, item, band), (planned, set()))
                            entry[1].update(_blocks(planned, window.intersect(planned.domain), self.grid))
        return Estimate(
            items=len({(key, item) for (key, item, _), (_, blocks) in needs.items() if blocks}),
            assets=sum(1 for _, blocks in needs.values() if blocks),
            blocks=sum(len(blocks) for _, blocks in needs.values()),
            bytes=sum(_bytes(planned, blocks) for planned, blocks in needs.values()),
        )

    def block_anchor(self, sources: Sequence[Source] | None = None) -> tuple[int, int, int]:
        """Return (row, column, size) in target pixels of a tiling whose edges fall on the blocks of the source that is read most.

        Its grid must nest in the target; (0, 0, 512) where none does, as when everything is warped. A file of this machine is opened for
        the layout of its blocks. A remote one is not: planning asks the catalogue only, and blocks of any usual size (256, 512, 1024)
        begin at the corner of the file, which the catalogue tells.
        """
        ranked = sorted(self._prepared if sources is None else [s.key for s in sources], key=self._weight, reverse=True)
        return next((anchor for key in ranked if (anchor := self._anchor(self._prepared[key])) is not None), (0, 0, BLOCK))

    def _weight(self, key: str) -> int:
        source = self._prepared[key].source
        return sum(np.dtype(item.assets[b].dtype).itemsize for item in source.items for b in source.bands if b in item.assets)

    def _anchor(self, ready: PreparedSource) -> tuple[int, int, int] | None:
        from mdive.cube.failures import Unreadable
        from mdive.cube.files import OpenRaster, is_remote, with_raster

        def measured(raster: OpenRaster) -> tuple[int, int, int] | None:
            return self._blocks_of(raster.grid, raster.block_shape(planned.asset.index))

        for planned in _largest_bands(ready, self.grid):
            if planned.claimed is not None and is_remote(planned.asset.href):
                return self._blocks_of(planned.claimed, (BLOCK, BLOCK))
            try:
                if not is_remote(planned.asset.href):
                    return with_raster(planned.asset.href, planned.origin, measured)
            except Unreadable:
                continue  # the run's ledger will name it; another file may tell the layout
        return None

    def _blocks_of(self, grid: SourceGrid, block: tuple[int, int]) -> tuple[int, int, int] | None:
        relation = relate(grid, self.grid)
        if not isinstance(relation, Nested):
            return None
        rows, cols = _block_edges(relation.rows, block[0]), _block_edges(relation.cols, block[1])
        if rows is None or cols is None:
            return None
        if block[1] >= grid.shape[1]:  # strips: columns are never cut
            return rows[0] % rows[1], 0, rows[1]
        size = math.lcm(rows[1], cols[1])
        return rows[0], cols[0], size


def _bands(source: Source) -> list[str]:
    return list(dict.fromkeys([*source.bands, *([source.mask.band] if source.mask else [])]))


def _box(window: Window) -> shapely.Polygon:
    return shapely.box(window.col, window.row, window.col_end, window.row_end)


def _largest_bands(ready: PreparedSource, grid: Grid) -> list[PlannedBand]:
    """Return one band (the finest) of the few items that cover most of the grid."""
    whole = Window(0, 0, *grid.shape)

    def covered(item: str) -> int:
        part = ready.domains[item].intersect(whole)
        return part.height * part.width

    def pixels(planned: PlannedBand) -> int:
        return math.prod(planned.claimed.shape) if planned.claimed else 0

    items = sorted(ready.domains, key=covered, reverse=True)[:3]
    named = [[ready.bands[item][band] for band in ready.source.bands if band in ready.bands[item]] for item in items]
    return [max(bands, key=pixels) for bands in named if bands]


def _block_edges(axis: Axis, size: int) -> tuple[int, int] | None:
    """Return the first block's edge and the block's size in target pixels, if it is a whole number of them."""
    if axis.repeat > 1:
        return axis.offset, size * axis.repeat
    if size % axis.shrink or axis.offset % axis.shrink:
        return None
    return -axis.offset // axis.shrink, size // axis.shrink


def _blocks(planned: PlannedBand, window: Window, grid: Grid) -> set[tuple[int, int]]:
    if window.empty:
        return set()
    if planned.claimed is None:
        rows, cols = (window.row, window.row_end), (window.col, window.col_end)
    else:
        rows, cols = _source_span(planned, window, grid)
    if rows[0] >= rows[1] or cols[0] >= cols[1]:
        return set()
    return set(product(range(rows[0] // BLOCK, (rows[1] - 1) // BLOCK + 1), range(cols[0] // BLOCK, (cols[1] - 1) // BLOCK + 1)))


def _source_span(planned: PlannedBand, window: Window, grid: Grid) -> tuple[tuple[int, int], tuple[int, int]]:
    assert planned.claimed is not None
    height, width = planned.claimed.shape
    relation = relate(planned.claimed, grid)
    if isinstance(relation, Nested):
        return relation.rows.span(window.row, window.row_end, height), relation.cols.span(window.col, window.col_end, width)
    points = np.meshgrid(np.linspace(window.row, window.row_end, 9), np.linspace(window.col, window.col_end, 9), indexing="ij")
    return tuple(_cut(at, length) for at, length in zip(relation.exact(*points), (height, width), strict=True))  # type: ignore[return-value]


def _cut(at: np.ndarray, length: int) -> tuple[int, int]:
    finite = at[np.isfinite(at)]
    if not finite.size:
        return 0, 0
    return max(math.floor(max(finite.min(), -1.0)), 0), min(math.ceil(min(finite.max(), length + 1.0)), length)


def _bytes(planned: PlannedBand, blocks: set[tuple[int, int]]) -> int:
    size = np.dtype(planned.asset.dtype).itemsize
    if planned.claimed is None:
        return len(blocks) * BLOCK * BLOCK * size
    height, width = planned.claimed.shape
    return sum(min(BLOCK, height - r * BLOCK) * min(BLOCK, width - c * BLOCK) for r, c in blocks) * size
