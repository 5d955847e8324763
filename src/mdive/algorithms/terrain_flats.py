"""Water through flats, exact for any tiling: away from higher ground and towards where the flat empties, by true distances in cells.

A cell of a flat has two numbers: L, the steps to a cell beside one that drains at the same height, and H, the steps from higher ground, both within
the flat. It flows to the neighbour with the least 2 L - H; L falls by one along some way and H never changes by more, so there are no
circles. Both are shortest distances: they have one value, whatever the order of the work.

Two cells of flats that touch are as high as each other, else the higher one would have a way down: so flats are a mask, and no height is
needed here. A tile sends the mask of those flats that reach its edge, packed, and the distances that it finds on its own; the
solve lets distances run through those masks, one tile at a time, the nearest first, until none of them falls any more.

References
----------
Garbrecht and Martz (1997), 10.1016/S0022-1694(96)03138-1; Barnes, Lehman and Mulla (2014), 10.1016/j.cageo.2013.01.009; Zhou et al.
(2021), 10.1016/j.cageo.2021.105015.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numba
import numpy as np

from mdive.algorithms.terrain_direction import ASIDE, BELOW, NODATA, OUTLET
from mdive.algorithms.terrain_ring import COLS, NOWHERE, ROWS, Rings, ring_cells
from mdive.plugins import Global, Window, operation

Part = dict[str, np.ndarray]

FAR: Final = 1 << 30
"""A distance that no flat has: grids have fewer than 2**30 cells in a flat line of cells."""

_KINDS: Final = ("low", "high")


def _solve(parts: Iterable[tuple[Window, Part]]) -> list[Part]:
    """Let distances run from tile to tile; return those of the cells around each tile."""
    windows, found = [], []
    for window, part in parts:
        windows.append(window)
        found.append(part)
    rings = Rings(windows)
    packed = [p["flat"] for p in found]
    edge = np.concatenate([p["edge"] for p in found])
    distances = [np.concatenate([p[kind] for p in found]) for kind in _KINDS]
    with ThreadPoolExecutor(len(distances)) as pool:
        # The two kinds of distance know nothing of each other.
        list(pool.map(lambda known: _settle(rings, packed, edge, known), distances))
    states = []
    for window in windows:
        row, col = ring_cells((window.height + 2, window.width + 2))
        node = rings.node_at(row + window.row - 1, col + window.col - 1)
        outer = [np.where(node == NOWHERE, FAR, known[node]) for known in distances]
        states.append({kind: far.astype("int32") for kind, far in zip(_KINDS, outer, strict=True)})
    return states


def _apply(kept: np.ndarray, state: Part) -> np.ndarray:
    """Finish distances from those around the tile, and choose."""
    if not _flat(kept).any():
        return kept
    row, col = ring_cells((kept.shape[0] + 2, kept.shape[1] + 2))
    flat, steps = _framed(_flat(kept)), _steps(kept.shape)
    known = []
    for kind in _KINDS:
        far = np.full(flat.shape, FAR, "int32")
        far[row, col] = state[kind]
        known.append(_run(far, flat, _sources(kept, kind), steps))
    return _choose(kept, known[0], known[1])


@operation(Global(solve=_solve, apply=_apply, kept_bytes=1), dtype="uint8", fill=NODATA, working=7)
def flow_direction(descent: np.ndarray, /) -> tuple[np.ndarray, Part]:
    """Return where each cell's water flows, through flats as well.

    Parameters
    ----------
    descent
        (y, x) uint8 of ``steepest_descent``.

    Returns
    -------
    (y, x) uint8: 0 to 7 (E, S, W, N, SE, SW, NW, NE), ``OUTLET`` where water leaves the domain, ``NODATA``. No way leads in a circle.
    """
    descent = np.ascontiguousarray(descent)
    row, col = ring_cells(descent.shape)
    flat, steps = _framed(_flat(descent)), _steps(descent.shape)
    far = np.full(flat.shape, FAR, "int32")
    edge = flat[row + 1, col + 1]
    part = {kind: np.full(len(row), FAR, "int32") for kind in _KINDS}
    part |= {"edge": edge, "flat": np.empty(0, "uint8")}
    if edge.any():
        seed = np.unique(np.ravel_multi_index((row[edge] + 1, col[edge] + 1), flat.shape))
        reached = far.copy()
        reached.ravel()[seed] = 0
        _spread(reached.ravel(), flat.ravel(), seed, steps, FAR)
        flat &= reached < FAR
        for kind in _KINDS:
            part[kind] = _run(far.copy(), flat, _sources(descent, kind) & flat[1:-1, 1:-1], steps)[row + 1, col + 1]
        part["flat"] = np.frombuffer(zlib.compress(np.packbits(flat).data, 1), "uint8")
    return descent, part


# One tile ---------------------------------------------------------------------------------------------------------------------------------


def _flat(codes: np.ndarray) -> np.ndarray:
    flat: np.ndarray = (codes > OUTLET) & (codes != NODATA)
    return flat


def _sources(codes: np.ndarray, kind: str) -> np.ndarray:
    """Return where a distance is 1: beside a cell as high that drains, or beside higher ground."""
    bit = ASIDE if kind == "low" else BELOW
    at: np.ndarray = ((codes & bit) != 0) & (codes != NODATA)
    return at


def _framed(mask: np.ndarray) -> np.ndarray:
    return np.pad(mask, 1)


def _steps(shape: tuple[int, int]) -> np.ndarray:
    """Return what the neighbours are away in a flattened, framed tile."""
    return np.array([dr * (shape[1] + 2) + dc for dr, dc in zip(ROWS, COLS, strict=True)])


def _run(far: np.ndarray, flat: np.ndarray, source: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Spread distances from the frame, which has them already, and from sources inside; returns ``far``."""
    inner = far[1:-1, 1:-1]
    inner[source] = 1
    line = far.ravel()
    row, col = ring_cells(flat.shape)
    frame = np.ravel_multi_index((row, col), flat.shape)
    frame = np.unique(frame[line[frame] < FAR])
    inside = np.flatnonzero(_framed(source))
    starts = np.concatenate([inside, frame[np.argsort(line[frame], kind="stable")]])
    _spread(line, flat.ravel(), starts, steps, FAR)
    return far


@numba.njit(nogil=True, cache=True)
def _spread(far: np.ndarray, flat: np.ndarray, starts: np.ndarray, steps: np.ndarray, limit: int) -> None:
    """Walk over a flat in rising distance, up to a limit; starts come in rising order of theirs."""
    queue = np.empty(1024, np.int32)
    head, tail, start = 0, 0, 0
    while start < len(starts) or head < tail:
        if head == tail or (start < len(starts) and far[starts[start]] <= far[queue[head]]):
            cell = starts[start]
            start += 1
        else:
            cell = queue[head]
            head += 1
        beyond = far[cell] + 1
        if beyond >= limit:
            return
        for k in range(8):
            near = cell + steps[k]
            # The frame around a tile is no flat, so that nothing walks out of it.
            if near >= 0 and near < len(flat) and flat[near] and far[near] > beyond:
                far[near] = beyond
                if tail == len(queue):
                    if 2 * head > tail:
                        # What is done makes room for what is to come.
                        queue[: tail - head] = queue[head:tail]
                        tail -= head
                        head = 0
                    else:
                        larger = np.empty(2 * len(queue), np.int32)
                        larger[:tail] = queue
                        queue = larger
                queue[tail] = near
                tail += 1


@numba.njit(nogil=True, cache=True)
def _choose(codes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    rows, cols = codes.shape
    out = np.empty((rows, cols), np.uint8)
    for r in range(rows):
        for c in range(cols):
            code = codes[r, c]
            if code == NODATA or code <= OUTLET:
                out[r, c] = code
                continue
            if code & ASIDE:
                out[r, c] = code & np.uint8(7)
                continue
            best, at = np.int64(4) * FAR, 0
            for k in range(8):
                i, j = r + 1 + ROWS[k], c + 1 + COLS[k]
                if low[i, j] < FAR:
                    value = np.int64(2) * low[i, j] - (high[i, j] if high[i, j] < FAR else 0)
                    if value < best:
                        best, at = value, k
            out[r, c] = at
    return out


# Across tiles -----------------------------------------------------------------------------------------------------------------------------


def _settle(rings: Rings, packed: Sequence[np.ndarray], edge: np.ndarray, known: np.ndarray) -> None:
    """Lower the distances of all edges, in place, until each is the shortest: tiles with the nearest news first."""
    waiting = [(0, tile) for tile in range(len(packed)) if packed[tile].size]
    untold = {tile for _, tile in waiting}
    while waiting:
        _, tile = heapq.heappop(waiting)
        if tile not in untold:
            # It took in this news together with nearer ones.
            continue
        untold.remove(tile)
        news = _news(rings, packed[tile], tile, edge, known)
        if news is None:
            continue
        nodes, near = news
        for other in np.unique(near).tolist():
            if packed[other].size:
                heapq.heappush(waiting, (int(known[nodes[near == other]].min()), other))
                untold.add(other)


def _news(rings: Rings, packed: np.ndarray, tile: int, edge: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Take in what lies around a tile; return nodes of its edge whose distance fell, and beside which other tile each lies. None if nothing came in."""
    here, there = rings.beside(tile)
    fresh = (there != NOWHERE) & edge[here]
    fresh &= known[there] + 1 < known[here]
    if not fresh.any():
        return None
    window = rings.windows[tile]
    shape = window.height + 2, window.width + 2
    flat = np.unpackbits(np.frombuffer(zlib.decompress(packed.data), "uint8"), count=shape[0] * shape[1]).view(bool)
    row, col = ring_cells(window.shape)
    place = np.ravel_multi_index((row + 1, col + 1), shape)
    own = known[rings.of(tile)]
    far = np.full(len(flat), FAR, "int32")
    offset = rings.of(tile).start
    entry = here[fresh] - offset
    np.minimum.at(far, place[entry], known[there[fresh]] + 1)
    starts = np.unique(place[entry])
    # No distance at the edge falls to more than the largest that there is.
    limit = int(own[edge[rings.of(tile)]].max())
    _spread(far, flat, starts[np.argsort(far[starts], kind="stable")], _steps(window.shape), limit)
    lower = far[place] < own
    if not lower.any():
        return None
    own[lower] = far[place][lower]
    nodes = np.flatnonzero(lower) + offset
    mine, theirs = rings.beside(tile)
    touched = np.isin(mine, nodes) & (theirs != NOWHERE)
    owner = np.searchsorted(rings.offsets, theirs[touched], "right") - 1
    return mine[touched], owner
