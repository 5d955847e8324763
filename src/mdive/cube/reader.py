"""The only way by which pixels come in: one band of one item on a window, read tile-exactly, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass, field

from mdive.cube.failures import ReadFailure, Unreadable, faulty
from mdive.cube.files import OpenRaster, with_raster
from mdive.cube.plane import Plane
from mdive.cube.prepare import EVERYWHERE, PlannedBand, PreparedSource, cover
from mdive.cube.sampling import sample
from mdive.model.address import without_query
from mdive.pipeline.window import Window


@dataclass
class LoadState:
    """What one load has met: every reader of the load adds to it."""

    failures: list[ReadFailure] = field(default_factory=list)
    blind: set[str] = field(default_factory=set)
    """Items whose quality band could not be read: none of their pixels may be used, for nobody knows where clouds are."""
    bands_read: int = 0
    bytes_read: int = 0


class BandReader:
    """Reads one band of one item.

    It takes what numbers mean from the plan, and turns every failure into a `ReadFailure` in its load's state instead of an exception or
    silent nodata. Read the quality band first: bands of an item whose quality band failed are then left out.
    """

    def __init__(self, prepared: PreparedSource, planned: PlannedBand, state: LoadState) -> None:
        self.prepared = prepared
        self.planned = planned
        self.state = state

    def plane(self, window: Window, dtype: str) -> Plane | None:
        """Return the band on a window, not yet converted; None where it has nothing there, or fails."""
        planned = self.planned
        part = window.intersect(planned.domain)
        if part.empty or planned.item in self.state.blind:
            return None
        try:
            if planned.asset.fault is not None:
                raise faulty(planned.asset.fault)
            plane, size = with_raster(planned.asset.href, planned.origin, lambda raster: self._sampled(raster, part, dtype))
        except Unreadable as error:
            self._note(error, window)
            return None
        self.state.bands_read += 1
        self.state.bytes_read += size
        return plane

    def _sampled(self, raster: OpenRaster, part: Window, dtype: str) -> tuple[Plane | None, int]:
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
