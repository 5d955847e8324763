"""Stretches of local operations, evaluated a strip of rows at a time.

A local operation looks at its own pixel only, so nothing forces a whole tile of its result into memory. Runs of local operations are walked through
in strips that stay in the processor's cache: what passes from one operation to the next never becomes a raster of the tile, and what comes in is
converted row by row, from the numbers that files store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from mdive.pipeline.locality import Local
from mdive.pipeline.operation import Node
from mdive.pipeline.passes import Pass
from mdive.pipeline.window import Window

STRIP_PIXELS = 2**17
"""Pixels of a strip: 512 KiB as float32. Larger strips leave the cache (1 MiB for each core, and a share of what cores have in common), smaller ones
spend their time on calls: 2**15 takes 7 % longer, 2**18 1 %."""


class Bands(Protocol):
    """Bands of one source on a window, handed out by rows."""

    def rows(self, first: int, end: int, bands: Iterable[str]) -> Mapping[str, np.ndarray]:
        """Return rows [first, end) of the window: band -> (time, y, x), or (y, x) for a raster without time."""
        ...


@dataclass(frozen=True, slots=True)
class Arrays:
    """Bands that are in memory already."""

    arrays: Mapping[str, np.ndarray]

    def rows(self, first: int, end: int, bands: Iterable[str]) -> Mapping[str, np.ndarray]:
        """Return rows [first, end) of some bands."""
        return {band: np.ascontiguousarray(self.arrays[band][..., first:end, :]) for band in bands}


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Local operations of one pass that can be evaluated together."""

    nodes: tuple[Node, ...]
    halo: int
    """Pixels beyond the base window, the same for all of them."""
    given: tuple[Node, ...]
    """Rasters that come from elsewhere: loads, and what other stretches or operations made."""
    whole: frozenset[str]
    """Keys of the nodes that somebody needs as a raster of the tile."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The order in which a tile of a pass is evaluated."""

    order: tuple[Node | Stretch, ...]
    """Stretches, and the operations between them."""
    whole: tuple[Node, ...]
    """Loads that somebody needs as a raster of the tile."""


@lru_cache(maxsize=64)
def steps_of(pass_: Pass) -> Steps:
    """Return the steps of a pass.

    Local operations join the earliest stretch that has all they need; a focal or applied global operation comes before the stretches that use it.
    """
    stage: dict[str, int] = {}
    for node in pass_.nodes:
        inputs = [stage.get(n.key, 0) for n in node.inputs if n is not None and n.kind == "raster"]
        stage[node.key] = max(inputs, default=0) + (0 if node.is_load or _is_local(node) else 1)
    groups: dict[tuple[int, int], list[Node]] = {}
    others: dict[int, list[Node]] = {}
    for node in pass_.nodes:
        if _is_local(node):
            # What needs more around it is made first: depth only shrinks on the way to a result.
            groups.setdefault((stage[node.key], -pass_.halo[node.key]), []).append(node)
        elif not node.is_load:
            others.setdefault(stage[node.key], []).append(node)
    home = {node.key: place for place, nodes in groups.items() for node in nodes}
    whole = _needed_whole(pass_, home)
    order: list[Node | Stretch] = []
    for number in range(max(stage.values(), default=0) + 1):
        order += others.get(number, [])
        for place in sorted(p for p in groups if p[0] == number):
            nodes = tuple(groups[place])
            own = {n.key for n in nodes}
            given = {n.key: n for node in nodes for n in node.inputs if n is not None and n.kind == "raster" and n.key not in own}
            order.append(Stretch(nodes, -place[1], tuple(given.values()), frozenset(own & whole)))
    return Steps(tuple(order), tuple(n for n in pass_.nodes if n.is_load and n.key in whole))


def strips_of(window: Window) -> Iterable[Window]:
    """Return a window cut into strips of rows."""
    height = max(1, STRIP_PIXELS // max(1, window.width))
    for row in range(window.row, window.row_end, height):
        yield Window(row, window.col, min(height, window.row_end - row), window.width)


def _is_local(node: Node) -> bool:
    return node.operation is not None and isinstance(node.operation.locality, Local)


def _needed_whole(pass_: Pass, home: Mapping[str, Any]) -> set[str]:
    """Return the rasters that are outputs or kept, or used by anything but an operation of their own stretch."""
    whole = {n.key for n in (*pass_.outputs.values(), *pass_.kept)}
    for node in (*pass_.nodes, *pass_.reductions, *pass_.maps):
        here = home.get(node.key)
        for source in node.inputs:
            if source is not None and source.kind == "raster" and (here is None or (not source.is_load and home.get(source.key) != here)):
                whole.add(source.key)
    return whole
