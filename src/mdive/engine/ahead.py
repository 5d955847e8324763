"""Read ahead: while tiles are computed, the blocks of the next ones are on their way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from mdive.cube import fetch_ahead
from mdive.cube.files import is_remote
from mdive.cube.native import native_files
from mdive.engine.reading import bands_read
from mdive.engine.work import Job
from mdive.model.plan import source_by_key
from mdive.pipeline.evaluate import loads_of

PATIENCE = 0.01
"""Seconds between two looks whether there is room again."""


class ReadAhead:
    """Fetches for the tiles of a pass in the order in which they are computed, as long as the block store has room.

    It serves runtimes that compute in this process. Nothing depends on it but time: a tile whose blocks are not there yet fetches them
    itself.

    Parameters
    ----------
    job, index, tiles
        Which tiles of which pass, in order.
    """

    def __init__(self, job: Job, index: int, tiles: Sequence[int]) -> None:
        self._job, self._index, self._tiles = job, index, tiles
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mdive-read-ahead", daemon=True)
        sources = source_by_key(job.plan)
        self._sources = {k: s for k, s in sources.items() if any(is_remote(a.href) for i in s.items for a in i.assets.values())}

    def __enter__(self) -> Self:
        if self._sources:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._sources:
            native_files().store.release()

    def _run(self) -> None:
        store = native_files().store
        for tile in self._tiles:
            for key, nodes, window in loads_of(self._job.passes[self._index], self._job.tiles, tile):
                if key not in self._sources:
                    continue
                source = self._sources[key]
                coming = fetch_ahead(source, window, self._job.plan.grid, bands_read(source, [n.band for n in nodes]))
                while not all(future.done() for future in coming) or not store.has_room:
                    if self._stop.wait(PATIENCE):
                        return
