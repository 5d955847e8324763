"""A water threshold that follows the scene: minimum-error thresholds of windows in which two modes are seen, and a surface of them.

Where no window of the scene shows two modes there is nothing to adapt to, and the surface is the published threshold with its wide error.
Between the two extremes evidence is weighed, never switched: each bimodal window pulls the published value towards its own by its
precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numba
import numpy as np

from mdive.algorithms.lattice import BINS
from mdive.algorithms.modes import fit
from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_metres
from mdive.plugins import Decibels, Local, Window, operation

Field = Literal["tau", "sigma", "support", "below", "above"]
"""What a threshold surface tells: threshold and its standard deviation in dB; how far windows of the scene carry it, 0 to 1; and the spread
of backscatter inside the class below and the class above it, in dB."""

WINDOWS: Final = (8, 4, 2)
"""Edges of the windows in leaves, 6, 3 and 1.5 km, in half steps: a window must hold both modes in comparable amounts to show a valley,
and floods come in all sizes. 3 km at 30 m is the 100 pixels of the ASF water map."""
VALID_SHARE: Final = 1 / 3
"""Least share of valid pixels in a window."""

EDGE_PIXELS: Final = 300.0
"""Least number of pixels around the edges of water in a window: two modes of 1 dB each then stand out of the bins' noise by tenfold."""

SEPARABILITY: Final = 0.70
"""Least share of the variance between the two classes: that of DSWx-S1. One normal mode reaches 2/π = 0.64, a uniform one 0.75. Ashman's D
of the two sides of a split would say nothing more: with ``RATIO`` it then exceeds 2.2, and one normal mode already has 2.6."""
RATIO: Final = 0.1
"""Least ratio of the smaller class to the larger (Chini 2017): below, the smaller mode is a tail."""
VALLEY: Final = 0.8
"""Largest density between the modes, relative to the lower peak: the modes must be seen, not only fitted."""

WINDOW_ERROR: Final = 1.5
"""dB. Standard deviation of a window's threshold around the best one: land cover and roughness of water differ between windows."""
PRIOR_ERROR: Final = 1.5
"""dB. Standard deviation of the best threshold of a scene around the published one: published ones spread over about ±3 dB."""
CLASS_SPREAD: Final = 2.2
"""dB. Spread of backscatter inside a class where no window tells it: 1 to 3.5 dB in bimodal windows of labelled scenes at 10 m."""
REACH: Final = 25_000.0
"""Metres over which the error of a window's threshold doubles. They are 1.5 degrees of incidence across a Sentinel-1 swath (250 km, 30 to
46 degrees), over which water darkens by half a decibel; land cover changes over shorter ways, which ``WINDOW_ERROR`` has already."""
NODE: Final = 4
"""Leaves between the nodes of the threshold surface: it varies over ``REACH``, so 3 km are ample."""


@operation(Local(), dtype="float32", units="dB")
def minimum_error_threshold(
    histograms: Mapping[str, np.ndarray],
    edges: Mapping[str, np.ndarray] | None = None,
    /,
    *,
    grid: Grid,
    fallback: Decibels,
    lowest: Decibels,
    highest: Decibels,
) -> dict[str, np.ndarray]:
    """Turn lattice histograms into a surface of thresholds.

    A window counts if enough of it is valid, if its histogram has two modes (share of variance between classes, share of the smaller
    class, a visible valley) and if its minimum-error threshold is physical. At each node of the surface the threshold is the mean
    of the published one and those of the windows, weighted by precision; the error of a window grows with its distance. The variances of
    the two classes are means with the same weights.

    Parameters
    ----------
    histograms
        From ``lattice_histogram``, of all pixels.
    edges
        The same of the pixels around a first guess of water alone, or None: windows in which water covers too little to be seen as a mode
        of all pixels tell their threshold by those.
    fallback
        The published threshold: what the surface is where no window counts.
    lowest, highest
        Bounds of a physical threshold.

    Returns
    -------
    ``tau`` and ``sigma`` (dB), ``support`` (0: published value alone, 1: windows alone) and the spread of the classes, ``below`` and
    ``above`` (dB), at the nodes, (rows, columns); ``spacing``, pixels between nodes, the first of which lies half of that inside the
    grid's corner; ``windows``, one row (row, column, size in leaves, threshold, share below it, separability, variance below, variance
    above) per window that counts.

    References
    ----------
    Kittler and Illingworth (1986), 10.1016/0031-3203(86)90030-0; Martinis et al. (2015), 10.1016/j.isprsjprs.2014.07.014;
    Chini et al. (2017), 10.1109/TGRS.2017.2737664; Markert et al. (2020), 10.3390/rs12152469, for thresholds from edges of water.
    """
    counts, leaf = histograms["counts"], int(histograms["leaf"])
    told_by = [(counts, VALID_SHARE * (size * leaf) ** 2, size) for size in WINDOWS]
    if edges is not None:
        told_by += [(edges["counts"], EDGE_PIXELS, size) for size in WINDOWS]
    found = np.concatenate([_windows(some, size, least, lowest, highest) for some, least, size in told_by])
    nodes = tuple(-(-n // NODE) for n in counts.shape[:2])
    fields: dict[str, np.ndarray] = {name: np.empty(nodes) for name in ("tau", "sigma", "support", "below", "above")}
    centres = found[:, :2] + 0.5 * found[:, 2:3]
    weight = _weights(found[:, :3].astype("int64"), counts.shape[0], counts.shape[1])
    told = np.ascontiguousarray(found[:, [3, 6, 7]])
    _surface(centres, told, weight, leaf * pixel_metres(grid) / REACH, fallback, *fields.values())
    single = {name: field.astype("float32") for name, field in fields.items()}
    return {**single, "spacing": np.array(NODE * leaf), "windows": found}


@operation(Local(), dtype="float32")
def surface(like: np.ndarray, nodes: Mapping[str, np.ndarray], /, *, window: Window, field: Field = "tau") -> np.ndarray:
    """Return a threshold surface at each pixel, bilinear between its nodes.

    Parameters
    ----------
    like
        Any raster of the grid, (y, x).
    nodes
        From ``minimum_error_threshold``.
    field
        Which of its fields.
    """
    out = np.empty(like.shape, dtype="float32")
    _interpolate(nodes[field], int(nodes["spacing"]), window.row, window.col, out)
    return out


@numba.njit(nogil=True, cache=True)
def _windows(counts: np.ndarray, size: int, least: float, lowest: float, highest: float) -> np.ndarray:
    rows, cols = counts.shape[:2]
    step = size // 2
    most = (-(-rows // step)) * (-(-cols // step))
    found = np.empty((most, 8))
    used = 0
    histogram = np.empty(BINS)
    for i in range(0, max(rows - step, 1), step):
        for j in range(0, max(cols - step, 1), step):
            histogram[:] = 0.0
            for r in range(i, min(i + size, rows)):
                for c in range(j, min(j + size, cols)):
                    for b in range(BINS):
                        histogram[b] += counts[r, c, b]
            if histogram.sum() < least:
                continue
            tau, share, separability, valley, below, above = fit(histogram)
            if not lowest <= tau <= highest or separability <= SEPARABILITY or valley >= VALLEY:
                continue
            if min(share, 1.0 - share) < RATIO * max(share, 1.0 - share):
                continue
            found[used] = np.array([i, j, size, tau, share, separability, below, above])
            used += 1
    return found[:used].copy()


@numba.njit(nogil=True, cache=True)
def _weights(found: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Return what each window counts: windows overlap and nest, so each leaf's testimony is divided among those that share it."""
    shared = np.zeros((rows, cols), dtype=np.int64)
    for i, j, size in found:
        shared[i : i + size, j : j + size] += 1
    weights = np.zeros(len(found))
    for k in range(len(found)):
        i, j, size = found[k]
        for r in range(i, min(i + size, rows)):
            for c in range(j, min(j + size, cols)):
                weights[k] += 1.0 / shared[r, c]
        weights[k] /= size * size
    return weights


@numba.njit(nogil=True, cache=True)
def _surface(
    centres: np.ndarray,
    told: np.ndarray,
    weights: np.ndarray,
    scale: float,
    prior: float,
    tau: np.ndarray,
    sigma: np.ndarray,
    support: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
) -> None:
    # Windows are added in one order, that of the lattice: the same sum for any tiling of the pixels.
    rows, cols = tau.shape
    own = 1.0 / PRIOR_ERROR**2
    for i in range(rows):
        for j in range(cols):
            weight, pull, lower, upper = 0.0, 0.0, 0.0, 0.0
            for k in range(len(told)):
                dy = (i + 0.5) * NODE - centres[k, 0]
                dx = (j + 0.5) * NODE - centres[k, 1]
                growth = 1.0 + (dy * dy + dx * dx) * scale * scale
                w = weights[k] / (WINDOW_ERROR * growth) ** 2
                weight += w
                pull += w * (told[k, 0] - prior)
                lower += w * told[k, 1]
                upper += w * told[k, 2]
            precision = weight + own
            tau[i, j] = prior + pull / precision
            sigma[i, j] = 1.0 / np.sqrt(precision)
            support[i, j] = weight / precision
            below[i, j] = np.sqrt((lower + own * CLASS_SPREAD**2) / precision)
            above[i, j] = np.sqrt((upper + own * CLASS_SPREAD**2) / precision)


@numba.njit(nogil=True, cache=True)
def _at(field: np.ndarray, y: float, x: float) -> float:
    """Return a surface between its nodes (bilinear); beyond the outer nodes it stays what it is there."""
    rows, cols = field.shape
    y = min(max(y, 0.0), rows - 1.0)
    x = min(max(x, 0.0), cols - 1.0)
    i, j = min(int(y), max(rows - 2, 0)), min(int(x), max(cols - 2, 0))
    k, m = min(i + 1, rows - 1), min(j + 1, cols - 1)
    fy, fx = y - i, x - j
    above: float = (1.0 - fx) * field[i, j] + fx * field[i, m]
    below: float = (1.0 - fx) * field[k, j] + fx * field[k, m]
    value: float = (1.0 - fy) * above + fy * below
    return value


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _interpolate(field: np.ndarray, spacing: int, row: int, col: int, out: np.ndarray) -> None:
    for r in range(out.shape[0]):
        y = (r + row + 0.5) / spacing - 0.5
        for c in range(out.shape[1]):
            out[r, c] = _at(field, y, (c + col + 0.5) / spacing - 0.5)
