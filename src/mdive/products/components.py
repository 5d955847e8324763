"""The connected components of the event's classes: found window by window, outlined when they are asked for.

A window's pieces are outlined with GDAL, in whole pixel coordinates, and laid aside in a file; what stays in memory is a few numbers for
each. Pieces of one component that meet on a window's border are joined when the component is asked for, exactly, because whole numbers
leave nothing to round. The outline of a 4-connected component is unique as a valid polygon (each ring bounds one 4-connected part of
what is not the component), so after straight vertices are dropped and rings are put into a canonical order, the result does not depend
on the windows: it is what GDAL gives for the whole raster at once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import shapely
from scipy import sparse

from mdive.model.plan import Grid
from mdive.model.product import RasterSpec
from mdive.pipeline.window import Tiles, Window
from mdive.products.files import writing
from mdive.products.pieces import Numbers, count_pieces, label_classes, outline_pieces
from mdive.products.raster import Probability, opened, raster_window
from mdive.products.rings import Geometries, union, with_border_vertices, without_straight_vertices

_WINDOW = 1024
"""Edge of a window in pixels: its outlines, as Python numbers, stay below some 100 MB even for noise."""

_ROWS = 1 << 15
_BYTES = 8 << 20
"""Components that are outlined at once: so many rows, or so many bytes of pieces, whichever comes first; a single one may be larger."""


@dataclass(frozen=True, eq=False)
class Components:
    """Connected components, sorted by (class value, first pixel in reading order): one entry each in all arrays."""

    value: Numbers
    first: Numbers
    """Flat index of the first pixel."""
    pixels: Numbers
    known: Numbers
    """Pixels that have a probability."""
    total: Numbers
    """Sum of stored probabilities."""
    step: float
    """Step of the stored probabilities."""
    extent: Numbers
    """Smallest column and row, largest column and row of any corner; infinite where there is no component."""
    _file: IO[bytes]
    _place: Numbers
    """(pieces, 2): where the outline of each piece lies in the file, and its bytes; pieces of one component follow each other."""
    _bounds: Numbers
    """The pieces of component i are those from ``_bounds[i]`` to ``_bounds[i + 1]``."""

    def __len__(self) -> int:
        return len(self.value)

    def batches(self) -> Iterator[slice]:
        """Yield runs of components whose outlines fit into memory together, in order; they depend on nothing but the components."""
        ends = np.concatenate([[0], np.cumsum(self._place[:, 1])])[self._bounds]
        start = 0
        while start < len(self):
            fitting = int(np.searchsorted(ends, ends[start] + _BYTES, side="right")) - 1
            stop = min(max(fitting, start + 1), start + _ROWS, len(self))
            yield slice(start, stop)
            start = stop

    def outlines(self, rows: slice) -> Geometries:
        """Return the polygons of some components, in pixel coordinates (column, row)."""
        bounds = self._bounds[rows.start : rows.stop + 1]
        pieces = shapely.from_wkb([os.pread(self._file.fileno(), size, at) for at, size in self._place[bounds[0] : bounds[-1]].tolist()])
        bounds = bounds - bounds[0]
        whole = pieces[bounds[:-1]]
        for i in np.flatnonzero(np.diff(bounds) > 1):
            whole[i] = union(pieces[bounds[i] : bounds[i + 1]])
        outlines: Geometries = shapely.normalize(without_straight_vertices(whole))
        return outlines


@contextmanager
def components(
    class_path: Path,
    spec: RasterSpec,
    grid: Grid,
    *,
    folder: Path,
    probability_path: Path | None = None,
    window: int = _WINDOW,
) -> Iterator[Components]:
    """Find the components of the event's classes; their outlines can be had inside the ``with`` block. ``window`` changes nothing.

    Parameters
    ----------
    class_path, spec, grid
        Class raster (uint8), its table, and where it lies.
    folder
        Where outlines are laid aside, in a file without a name.
    probability_path
        Raster of the event's probability on the same grid.
    window
        Edge in pixels of what is looked at at once.

    Raises
    ------
    RunFolderError
        The folder cannot be written.
    """
    values = sorted(entry.value for entry in spec.classes if entry.role == "event")
    pieces, seams, step = _Pieces(), _Seams(grid.shape[1]), 1.0
    with ExitStack() as stack:
        with writing(folder):
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        with ExitStack() as rasters:
            classes = rasters.enter_context(opened(class_path))
            probability = rasters.enter_context(Probability(probability_path)) if probability_path else None
            step = probability.step if probability else step
            for tile in Tiles.regular(grid.shape, window):
                labels, owner = label_classes(classes.read(1, window=raster_window(tile)), values)
                border = seams.take(labels, tile, len(owner) - 1)
                if len(owner) == 1:
                    continue
                weight = probability.read(tile) if probability else None
                outlines = outline_pieces(labels, len(owner) - 1, tile)
                outlines[border] = with_border_vertices(outlines[border], tile)
                with writing(folder):
                    pieces.add(count_pieces(labels, owner, tile, grid.shape[1], weight), outlines, file)
        with writing(folder):
            file.flush()
        yield _joined(pieces, seams, step, file)


class _Pieces:
    """What is known of the pieces, in the order in which they were found."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Numbers]] = {n: [] for n in ("value", "first", "pixels", "known", "total", "size")}
        self.extent = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, counted: dict[str, Numbers], outlines: Geometries, file: IO[bytes]) -> None:
        wkb = shapely.to_wkb(outlines)
        file.write(b"".join(wkb))
        low, high = np.split(shapely.total_bounds(outlines), 2)
        self.extent = np.concatenate([np.minimum(self.extent[:2], low), np.maximum(self.extent[2:], high)])
        for name, column in {**counted, "size": np.array([len(each) for each in wkb], np.int64)}.items():
            self._columns[name].append(column)

    def columns(self) -> dict[str, Numbers]:
        return {name: np.concatenate([np.array([], np.int64), *columns]) for name, columns in self._columns.items()}


class _Seams:
    """Which pieces touch across the borders of windows; these come left to right, top to bottom.

    Parameters
    ----------
    cols
        Columns of the grid.
    """

    def __init__(self, cols: int) -> None:
        self._count = 0
        self._pairs: list[Numbers] = [np.zeros((2, 0), np.int64)]
        self._above = np.full(cols, -1, np.int64)
        """Number of the piece in the last row of the windows above, by column; -1 where there is none."""
        self._left = np.array([], np.int64)
        """The same for the last column of the window to the left."""

    def take(self, labels: Numbers, tile: Window, count: int) -> Numbers:
        """Give the pieces of a window their numbers, and return which of them touch its border."""
        number = np.arange(self._count - 1, self._count + count)
        number[0] = -1
        self._count += count
        span = slice(tile.col, tile.col_end)
        self._meet(self._above[span], number[labels[0]])
        if tile.col:
            self._meet(self._left, number[labels[:, 0]])
        self._above[span] = number[labels[-1]]
        self._left = number[labels[:, -1]]
        border = np.zeros(count + 1, bool)
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            border[edge] = True
        return border[1:]

    def _meet(self, one: Numbers, other: Numbers) -> None:
        both = (one >= 0) & (other >= 0)
        if both.any():
            self._pairs.append(np.unique(np.stack([one[both], other[both]]), axis=1))

    def groups(self, value: Numbers) -> tuple[int, Numbers]:
        """Return how many components there are, and that of each piece; pieces of different classes do not join."""
        pairs = np.concatenate(self._pairs, axis=1)
        one, other = pairs[:, value[pairs[0]] == value[pairs[1]]]
        links = sparse.coo_array((np.ones(len(one), np.int8), (one, other)), shape=(self._count, self._count))
        return sparse.csgraph.connected_components(links, directed=False) if self._count else (0, np.array([], np.int64))


def _joined(pieces: _Pieces, seams: _Seams, step: float, file: IO[bytes]) -> Components:
    columns = pieces.columns()
    count, group = seams.groups(columns["value"])
    made = {name: np.zeros(count, np.int64) for name in ("value", "first", "pixels", "known", "total")}
    made["value"][group] = columns["value"]
    made["first"][:] = np.iinfo(np.int64).max
    np.minimum.at(made["first"], group, columns["first"])
    for name in ("pixels", "known", "total"):
        np.add.at(made[name], group, columns[name])
    order = np.lexsort((made["first"], made["value"]))
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    follow = np.argsort(rank[group], kind="stable")
    size = columns["size"]
    place = np.stack([np.cumsum(size) - size, size], axis=1)[follow]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(rank[group], minlength=count))])
    columns = {name: column[order] for name, column in made.items()}
    return Components(**columns, step=step, extent=pieces.extent, _file=file, _place=place, _bounds=bounds)
