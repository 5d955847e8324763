"""Read ahead: blocks that several tiles share are kept, and while tiles are computed those of the next ones are on their way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from mdive.cube.ahead import expect, fetch_ahead, open_ahead
from mdive.cube.files import is_remote
from mdive.cube.native import native_files
from mdive.engine.reading import bands_read
from mdive.engine.work import Job
from mdive.model.plan import Source, source_by_key
from mdive.pipeline import Window
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
        self._sources = source_by_key(job.plan)
        self._remote = {k for k, s in self._sources.items() if any(is_remote(a.href) for i in s.items for a in i.assets.values())}

    def __enter__(self) -> Self:
        for source, bands, _, window in self._reads(self._tiles):
            open_ahead(source, window, self._job.plan.grid, bands)
        for source, bands, _, window in self._reads(self._tiles):
            expect(source, window, self._job.plan.grid, bands)
        if self._remote:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        native_files().store.release()

    def _reads(self, tiles: Sequence[int]) -> Iterator[tuple[Source, list[str], str, Window]]:
        for tile in tiles:
            for key, nodes, window in loads_of(self._job.passes[self._index], self._job.tiles, tile):
                source = self._sources[key]
                if source.observations:
                    yield source, bands_read(source, [n.band for n in nodes]), key, window

    def _run(self) -> None:
        store = native_files().store
        for source, bands, key, window in self._reads(self._tiles):
            if key not in self._remote:
                continue
            coming = fetch_ahead(source, window, self._job.plan.grid, bands)
            while not all(future.done() for future in coming) or not store.has_room:
                if self._stop.wait(PATIENCE):
                    return
