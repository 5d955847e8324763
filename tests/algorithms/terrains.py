"""Terrains and partitions that tests of terrain operations draw, and the plain definitions that they are compared with."""

import heapq
from collections import deque

import numpy as np
from hypothesis import strategies as st

from mdive.pipeline import Tiles

NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))
KINDS = ("continuous", "integer", "flat", "noise", "holes", "flat holes", "wide")


def terrain(kind, shape, seed):
    """A DEM of one kind: smooth, whole metres, 80 % flats, white noise, with nodata, or float64."""
    rng = np.random.default_rng(seed)
    rows, cols = shape
    y, x = np.mgrid[:rows, :cols]
    smooth = sum(
        rng.normal() * np.sin(rng.uniform(0.05, 0.9) * x + rng.uniform(0, 6)) * np.cos(rng.uniform(0.05, 0.9) * y + rng.uniform(0, 6))
        for _ in range(6)
    )
    if kind == "noise":
        return rng.normal(0, 5, shape).astype("float32")
    if kind == "integer":
        return np.rint(smooth * 4).astype("int16")
    if kind.startswith("flat"):
        dem = np.floor(smooth * 0.6).astype("float32")
    elif kind == "wide":
        return smooth * 3 + rng.normal(0, 1e-9, shape) + 1e6
    else:
        dem = (smooth * 3 + rng.normal(0, 0.2, shape)).astype("float32")
    if kind.endswith("holes"):
        dem[rng.random(shape) < rng.choice([0.02, 0.15, 0.4])] = np.nan
    return dem


def cuts(length):
    """Any partition of a line, single pixels included."""
    return (
        st.sets(st.integers(1, length - 1), max_size=length - 1).map(lambda s: (0, *sorted(s), length))
        if length > 1
        else st.just((0, length))
    )


@st.composite
def cases(draw, least=1, most=24):
    """A terrain, and a partition of it."""
    shape = draw(st.integers(least, most)), draw(st.integers(least, most))
    dem = terrain(draw(st.sampled_from(KINDS)), shape, draw(st.integers(0, 2**32 - 1)))
    return dem, Tiles(draw(cuts(shape[0])), draw(cuts(shape[1])))


def beside(shape, r, c):
    """Each neighbour in order, None beyond the edge."""
    for dr, dc in NEIGHBOURS:
        i, j = r + dr, c + dc
        yield (i, j) if 0 <= i < shape[0] and 0 <= j < shape[1] else None


def plain_fill(dem):
    """Priority-Flood of the whole array with a heap, as in the paper."""
    z = np.asarray(dem, "float64")
    out = np.full(z.shape, np.nan)
    heap = []
    for r, c in np.ndindex(z.shape):
        if not np.isnan(z[r, c]) and any(n is None or np.isnan(z[n]) for n in beside(z.shape, r, c)):
            heapq.heappush(heap, (z[r, c], r, c))
            out[r, c] = z[r, c]
    while heap:
        level, r, c = heapq.heappop(heap)
        for n in beside(z.shape, r, c):
            if n is not None and not np.isnan(z[n]) and np.isnan(out[n]):
                out[n] = max(level, z[n])
                heapq.heappush(heap, (out[n], *n))
    return out


def plain_directions(surface, dx=1.0, dy=1.0):
    """D8 with flats, from the definitions: 0-7, 8 outlet, 255 nodata."""
    w = np.asarray(surface, "float64")
    shape = w.shape
    step = [dx, dy, dx, dy, *[np.hypot(dx, dy)] * 4]
    out = np.full(shape, 255, "uint8")
    flat = np.zeros(shape, bool)
    for r, c in np.ndindex(shape):
        if np.isnan(w[r, c]):
            continue
        best, at, edge = 0.0, None, False
        for k, n in enumerate(beside(shape, r, c)):
            if n is None or np.isnan(w[n]):
                edge = True
            elif (w[r, c] - w[n]) / step[k] > best:
                best, at = (w[r, c] - w[n]) / step[k], k
        flat[r, c] = at is None and not edge
        out[r, c] = at if at is not None else 8
    low, high = (np.full(shape, np.inf) for _ in range(2))
    for r, c in np.argwhere(flat):
        near = [n for n in beside(shape, r, c)]
        if any(w[n] == w[r, c] and not flat[n] for n in near):
            low[r, c] = 1
        if any(w[n] > w[r, c] for n in near):
            high[r, c] = 1
    for far in (low, high):
        queue = deque(map(tuple, np.argwhere(far == 1)))
        while queue:
            r, c = queue.popleft()
            for n in beside(shape, r, c):
                if n is not None and flat[n] and far[n] > far[r, c] + 1:
                    far[n] = far[r, c] + 1
                    queue.append(n)
    m = 2 * low - np.where(np.isinf(high), 0, high)
    for r, c in np.argwhere(flat):
        best, at = np.inf, None
        for k, n in enumerate(beside(shape, r, c)):
            if w[n] == w[r, c]:
                value = m[n] if flat[n] else -np.inf
                if at is None or value < best:
                    best, at = value, k
        out[r, c] = at
    return out


def downstream(direction):
    """The cell that each cell flows to; None for those that flow out."""
    shape = direction.shape
    return {(r, c): list(beside(shape, r, c))[direction[r, c]] for r, c in np.ndindex(shape) if direction[r, c] < 8}


def plain_accumulation(direction, weight=None):
    """Cells (or weights) upstream, by walking down from every cell."""
    out = np.zeros(direction.shape, "int64")
    to = downstream(direction)
    for r, c in np.ndindex(direction.shape):
        cell = (r, c) if direction[r, c] != 255 else None
        while cell is not None:
            out[cell] += 1 if weight is None else weight[r, c]
            cell = to.get(cell)
    return out


def plain_drain(direction, drain):
    """Row and column of the first drain downstream of each cell, or None."""
    to = downstream(direction)
    found = {}
    for r, c in np.ndindex(direction.shape):
        cell = (r, c) if direction[r, c] != 255 else None
        while cell is not None and not drain[cell]:
            cell = to.get(cell)
        found[r, c] = cell
    return found
