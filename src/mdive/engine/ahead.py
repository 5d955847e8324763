"""Read ahead: blocks that several tiles share are kept, and while tiles are computed those of the next ones are on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdive.cube.ahead import Fetcher, WindowRead, open_all, plan_reads
from mdive.cube.files import is_remote
from mdive.cube.native import NativeRaster, native_files
from mdive.engine.reading import bands_read
from mdive.engine.work import Job
from mdive.model.plan import Plan, source_by_key
from mdive.pipeline import Tiles
from mdive.pipeline.evaluate import loads_of
from mdive.pipeline.passes import Pass


def reads_of(plan: Plan, pass_: Pass, tiles: Tiles, order: Sequence[int]) -> list[WindowRead]:
    """Return what a pass reads of its sources, tile by tile."""
    sources = source_by_key(plan)
    return [
        WindowRead(sources[key], window, plan.grid, tuple(bands_read(sources[key], [n.band for n in nodes])))
        for tile in order
        for key, nodes, window in loads_of(pass_, tiles, tile)
        if sources[key].observations
    ]


def read_ahead(job: Job, index: int, tiles: Sequence[int]) -> Fetcher:
    """Return what fetches for the tiles of a pass, in the order in which they are computed.

    It serves runtimes that compute in this process. Nothing depends on it but time and traffic: a tile that it does not know fetches what it needs.

    Parameters
    ----------
    job, index, tiles
        Which tiles of which pass, in order.
    """
    store = native_files().store
    reads = reads_of(job.reading, job.passes[index], job.tiles, tiles)
    return Fetcher(reads, plan_reads(reads, store.budget), store)


@dataclass(frozen=True, slots=True)
class Network:
    """What a run asks of servers."""

    requests: int = 0
    bytes: int = 0
    unknown: int = 0
    """Files on servers whose blocks are not known beforehand: GDAL reads them, or their directories could not be read."""


def network_of(plan: Plan, passes: Sequence[Pass], tiles: Tiles, counted: set[str]) -> Network:
    """Return what a whole run asks of servers, directories included; these are read now where they have not been read in this process.

    It holds for runtimes that compute in one process, and for servers that answer: a block that fails is asked for again.

    Parameters
    ----------
    plan, passes, tiles
        What is run.
    counted
        Files whose directories a run before it has read; those that it reads itself are added.
    """
    if not any(is_remote(asset.href) for source in plan.sources for item in source.items for asset in item.assets.values()):
        return Network()
    files = native_files()
    met: dict[str, NativeRaster | None] = {}
    requests = size = 0
    for pass_ in passes:
        reads = reads_of(plan, pass_, tiles, range(len(tiles)))
        met |= {href: raster for href, raster in open_all(reads).items() if is_remote(href)}
        fetched = plan_reads(reads, files.store.budget)
        requests, size = requests + fetched.requests, size + fetched.bytes
    met = {href: raster for href, raster in met.items() if href not in counted}
    counted.update(met)
    directories = [traffic for href in met if (traffic := files.directory(href)) is not None]
    return Network(
        requests + sum(d.requests for d in directories),
        size + sum(d.bytes for d in directories),
        sum(raster is None for raster in met.values()),
    )
