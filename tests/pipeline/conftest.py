"""Small operations of each locality, and a graph that needs several passes."""

from types import SimpleNamespace

import numpy as np
import pytest

from mdive.model.plan import Grid
from mdive.pipeline import Focal, Global, Local, Reduction, Tiles, add, load_node, operation
from mdive.pipeline.strips import Arrays


@operation(Local(), dtype="float32", over_time=True)
def first(values, mask, /):
    values = np.where(mask == 0, values, np.nan)
    out = np.full(values.shape[1:], np.nan, "float32")
    for layer in values:
        out = np.where(np.isnan(out), layer, out)
    return out


@operation(Focal(2), dtype="float32")
def box(values, /):
    padded = np.pad(values, 2, constant_values=np.nan)
    rows, cols = values.shape
    total = np.zeros(values.shape, "float64")
    count = np.zeros(values.shape, "int64")
    for r in range(5):
        for c in range(5):
            piece = padded[r : r + rows, c : c + cols].astype("float64")
            good = ~np.isnan(piece)
            total = np.where(good, total + np.nan_to_num(piece), total)
            count += good
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@operation(Reduction(merge=add, finish=lambda total: np.array([np.searchsorted(np.cumsum(total), total.sum() / 2)])), dtype="int64")
def histogram(values, /):
    good = values[~np.isnan(values)]
    return np.bincount(np.clip((good * 10).astype("int64"), 0, 99), minlength=100)


@operation(Local(), dtype="bool")
def above(values, state, /, *, offset=0.0):
    return values > state[0] / 10 + offset


@operation(Local(), dtype="float32")
def scaled(state, /, *, by=2.0):
    return np.asarray(state) * by


def _rows_solve(parts):
    """Count the true pixels of each grid row, over all tiles: unbounded reach, tiny graph."""
    parts = list(parts)
    total = {}
    for window, part in parts:
        for r, n in enumerate(part):
            total[window.row + r] = total.get(window.row + r, 0) + int(n)
    return [np.array([total[w.row + r] for r in range(w.height)]) for w, _ in parts]


@operation(Global(solve=_rows_solve, apply=lambda kept, state: kept * state[:, None]), dtype="int32")
def rowcount(mask, /):
    return mask.astype("int32"), mask.sum(axis=1)


@operation(Focal(lambda p, grid: int(p["radius"] / grid.resolution)), dtype="int32")
def spread(values, /, *, radius=30.0):
    depth = int(radius / 10)
    padded = np.pad(values, depth)
    rows, cols = values.shape
    n = 2 * depth + 1
    return np.max([padded[r : r + rows, c : c + cols] for r in range(n) for c in range(n)], axis=0)


@operation(Local(), dtype="float32")
def combine(a, b, c, /):
    return a + b + c


@pytest.fixture
def ops():
    return SimpleNamespace(
        first=first, box=box, histogram=histogram, above=above, scaled=scaled, rowcount=rowcount, spread=spread, combine=combine
    )


@pytest.fixture
def outputs():
    """Five passes: two reductions, a global operation, a window around its result."""
    values, mask = load_node("s/post", "v"), load_node("s/post", "mask", dtype="uint16")
    smooth = box(box(first(values, mask)))
    middle = histogram(smooth)
    bright = above(smooth, middle, offset=0.1)
    rows = rowcount(bright)
    wide = spread(rows)
    second = above(combine(smooth, bright, wide), scaled(histogram(combine(smooth, bright, wide)), by=1.0))
    return {"wide": wide, "second": second, "smooth": smooth}


@pytest.fixture
def grid():
    return Grid(crs="EPSG:32631", resolution=10.0, x0=0.0, y0=0.0, shape=(61, 53))


@pytest.fixture
def world(grid):
    """Sources on the infinite plane: real data lie beyond the grid."""
    rng = np.random.default_rng(7)
    margin = 40
    rows, cols = grid.shape
    values = rng.gamma(3, 1, (3, rows + 2 * margin, cols + 2 * margin)).astype("float32")
    values[rng.random(values.shape) < 0.1] = np.nan
    mask = (rng.random(values.shape) < 0.2).astype("uint16")

    def load(source, bands, window):
        assert source == "s/post"
        r, c = window.row + margin, window.col + margin
        cut = (slice(None), slice(r, r + window.height), slice(c, c + window.width))
        return Arrays({b: {"v": values, "mask": mask}[b][cut] for b in bands})

    return load


@pytest.fixture
def one_tile(grid):
    return Tiles.regular(grid.shape, 1000)
