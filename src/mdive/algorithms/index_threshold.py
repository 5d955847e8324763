"""A limit for a water index that follows the scene: the minimum-error threshold of the pixels on both sides of every shore."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, pi, sqrt
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field
from scipy import ndimage
from scipy.special import expit

from mdive.algorithms import lattice
from mdive.algorithms.flood_dswe import SIGMA_INDEX
from mdive.algorithms.lattice import BINS
from mdive.algorithms.modes import fit
from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_metres
from mdive.plugins import Focal, Local, Metres, Reduction, add, operation

Limit = Annotated[float, Field(ge=-1, le=1, description="limit of a water index, in its own units")]

LOWEST: Final = -1.0
STEP: Final = 2.0 / BINS
"""Fixed bins from -1 to 1, as many as the histograms of backscatter have, so that one fit serves both; what lies outside is counted in the
end bins."""

LEAST_COUNT: Final = 200
"""Pixels. A histogram of fewer has no shape to find two modes in: with 450 bins, smoothed over 17, a mode of 100 pixels is known to 10 %."""

SEPARABILITY: Final = 0.70
RATIO: Final = 0.1
VALLEY: Final = 0.8
"""What two modes must show, as for backscatter (`mdive.algorithms.threshold`): share of the variance between the classes, smaller to larger
class, density between the peaks. Land alone has one mode, and gets no limit of its own."""

SHORE_ERROR: Final = 0.03
"""Standard deviation of a limit that was found in the scene, around the best one of a place in it: half of that of published limits, because
sensor, haze and season are the scene's own; what water carries still differs from place to place."""


def _shore_depth(parameters: Mapping[str, Any], grid: Grid) -> int:
    pixels: int = ceil(parameters["metres"] / pixel_metres(grid) - 1e-9)
    return max(pixels, 1)


@operation(Focal(_shore_depth), dtype="bool", working=38)
def near_shore(index: np.ndarray, /, *, grid: Grid, limit: Limit = 0.0, metres: Metres = 100.0) -> np.ndarray:
    """Where an index is known and both wet and dry pixels lie near, by a published limit.

    Parameters
    ----------
    index
        Water index, (y, x), NaN where unknown.
    limit
        Published limit that tells wet from dry for a start.
    metres
        Radius of the disk in which both must lie; at least one pixel. 100 m holds the mixed pixels of a shore at 30 m and pure ones behind
        them, on both sides alike, so that neither class outweighs the other.
    """
    reach = _shore_depth({"metres": metres}, grid)
    with np.errstate(invalid="ignore"):
        wet, dry = index > limit, index <= limit
    near: np.ndarray = np.isfinite(index)
    for side in (wet, dry):
        # Distances in pixels are roots of whole numbers, so equal wherever the block begins.
        near &= ndimage.distance_transform_edt(~side) <= reach if side.any() else False
    return near


@operation(Reduction(merge=add), dtype="int64")
def index_histogram(index: np.ndarray, where: np.ndarray, /) -> np.ndarray:
    """Count an index, (y, x), in fixed bins from -1 to 1 where a mask, (y, x) bool, is true; NaN is not counted."""
    values = index[where & np.isfinite(index)].astype("float64")
    bins = np.clip(np.floor((values - LOWEST) / STEP), 0, BINS - 1).astype("int64")
    counts: np.ndarray = np.bincount(bins, minlength=BINS)
    return counts


@operation(Local(), dtype="float64")
def shore_threshold(counts: np.ndarray, /, *, fallback: Limit = 0.0, lowest: Limit = -0.1, highest: Limit = 0.3) -> dict[str, np.ndarray]:
    """Turn a histogram of shores into a limit.

    Parameters
    ----------
    counts
        From ``index_histogram``.
    fallback
        Published limit, taken where shores show no two modes.
    lowest, highest
        Bounds of a limit that still tells water from land: one that was found beyond them is moved to them. Where even the mean of the wet mode lies
        below, or that of the dry mode above, the two modes are not water and land, and the published limit is taken.

    Returns
    -------
    ``tau``, the limit; ``sigma``, its standard deviation; ``adaptive``, 1 if the scene tells it, else 0.

    References
    ----------
    Kittler and Illingworth (1986), 10.1016/0031-3203(86)90030-0; Donchyts et al. (2016), 10.3390/rs8050386: histograms of shores.
    """
    told = {"tau": np.array(fallback), "sigma": np.array(SIGMA_INDEX), "adaptive": np.array(0)}
    if counts.sum() < LEAST_COUNT:
        return told
    found, share, separability, valley, _, _ = fit(counts.astype("float64"))
    two = separability > SEPARABILITY and valley < VALLEY and min(share, 1.0 - share) >= RATIO * max(share, 1.0 - share)
    if not two:
        return told
    split = round((found - lattice.LOWEST) / lattice.STEP)
    middle = LOWEST + (np.arange(BINS) + 0.5) * STEP
    dry, wet = (np.average(middle[side], weights=counts[side]) for side in (slice(split), slice(split, None)))
    if wet > lowest and dry < highest:
        tau = min(max(LOWEST + split * STEP, lowest), highest)
        told |= {"tau": np.array(tau), "sigma": np.array(SHORE_ERROR), "adaptive": np.array(1)}
    return told


@operation(Local(), dtype="float32")
def above_limit(index: np.ndarray, sigma: np.ndarray, limit: Mapping[str, np.ndarray], /) -> np.ndarray:
    """Return how likely an index lies above a limit, both known with an error: logistic, of the same variance as the normal.

    Parameters
    ----------
    index, sigma
        Index and its standard deviation, (y, x).
    limit
        From ``shore_threshold``.

    Returns
    -------
    Probability, (y, x); NaN where the index is.
    """
    spread = np.sqrt(sigma.astype("float64") ** 2 + limit["sigma"] ** 2)
    probability: np.ndarray = expit((index - limit["tau"]) / spread * (pi / sqrt(3.0)))
    return probability
