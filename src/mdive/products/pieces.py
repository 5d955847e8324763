"""The pieces of the event's classes in one window: labelled, counted and outlined."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from rasterio import features
from scipy import ndimage

from mdive.pipeline.window import Window
from mdive.products.rings import Geometries, polygons_of

_FOUR = ndimage.generate_binary_structure(2, 1)

_outline_lock = threading.Lock()
"""``features.shapes`` deadlocks when its first two calls in a process overlap (rasterio issue 3611): all calls take turns ..."""
with _outline_lock:  # ... and the first one happens here
    list(features.shapes(np.zeros((1, 1), np.uint8)))

Numbers = np.ndarray[Any, Any]


def label_classes(block: Numbers, values: Sequence[int]) -> tuple[Numbers, Numbers]:
    """Return the 4-connected components of all classes (int32, 0 elsewhere) and the class of each label (index 0 unused)."""
    labels = np.zeros(block.shape, np.int32)
    owner = [0]
    for value in values:
        inside = block == value
        if not inside.any():
            continue
        found, count = ndimage.label(inside, _FOUR)
        labels[inside] = found[inside] + (len(owner) - 1)
        owner.extend([value] * count)
    return labels, np.array(owner, np.int64)


def count_pieces(
    labels: Numbers, owner: Numbers, tile: Window, grid_cols: int, weight: tuple[Numbers, Numbers] | None
) -> dict[str, Numbers]:
    """Return what is known of each piece of a window, in label order (entry 0 is label 1)."""
    n = len(owner)
    flat = labels.ravel()
    where = np.flatnonzero(flat)
    inside = flat[where]
    first = np.zeros(n, np.int64)
    # Written from the last pixel to the first: the first one stays.
    first[inside[::-1]] = where[::-1]
    rows, cols = np.divmod(first, tile.width)
    known, total = np.zeros(n, np.int64), np.zeros(n, np.int64)
    if weight is not None:
        stored, has = (array.ravel()[where] for array in weight)
        known = np.bincount(inside[has], minlength=n)
        # Sums of whole numbers are exact in float64 up to 2**53.
        total = np.bincount(inside, weights=stored, minlength=n).astype(np.int64)
    piece = {
        "value": owner,
        "first": (rows + tile.row) * grid_cols + cols + tile.col,
        "pixels": np.bincount(inside, minlength=n),
        "known": known,
        "total": total,
    }
    return {name: column[1:] for name, column in piece.items()}


def outline_pieces(labels: Numbers, count: int, tile: Window) -> Geometries:
    """Return the polygon of each label, in pixel coordinates of the grid."""
    coordinates: list[tuple[float, float]] = []
    ring_ends, polygon_ends, found = [0], [0], []
    with _outline_lock:
        for shape, label in features.shapes(labels, mask=labels > 0, connectivity=4):
            for ring in shape["coordinates"]:
                coordinates.extend(ring)
                ring_ends.append(len(coordinates))
            polygon_ends.append(len(ring_ends) - 1)
            found.append(int(label) - 1)
    corners = np.array(coordinates, np.float64) + np.array([tile.col, tile.row])
    geometries = np.empty(count, dtype=object)
    geometries[found] = polygons_of(corners, (np.array(ring_ends), np.array(polygon_ends)))
    return geometries
