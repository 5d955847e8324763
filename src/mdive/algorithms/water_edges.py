"""Where a scene shows the edges of water, if it has any: the places whose histogram has both modes, however little water there is.

A window of kilometres in which water covers 1 % shows one mode, and a threshold that follows the scene cannot be found in it. The same
water with a rim of land as wide as itself shows two. What is looked for is a first guess of water by the published thresholds and its
surroundings; whether two modes are there is decided by their histogram, as in any window: noise, and land that is merely darker in
places, has no valley between the pixels of the guess and those beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from scipy import ndimage

from mdive.algorithms.evidence import log_odds, mean_of
from mdive.algorithms.threshold import CLASS_SPREAD, PRIOR_ERROR
from mdive.model.plan import Grid
from mdive.pipeline.ground import pixel_metres
from mdive.plugins import Decibels, Focal, Fraction, Local, operation

RIM: Final = 50.0
"""Metres around the guess, 5 pixels of 10 m: a rim of as many pixels as a body of water 100 m across has, beyond what the filter smears."""


def rim_pixels(_parameters: Mapping[str, Any], grid: Grid) -> int:
    """Return the width of the rim in pixels of this grid, at least 2: one of them is mixed."""
    return max(2, int(RIM / pixel_metres(grid) + 1e-9))


@operation(Local(), dtype="bool")
def first_guess(
    co: np.ndarray, cross: np.ndarray, /, *, fallback_vv: Decibels = -15.5, fallback_vh: Decibels = -23.0, probability: Fraction = 0.4
) -> np.ndarray:
    """Where water is at least this probable by the published thresholds and their errors, without knowledge of the scene.

    Parameters
    ----------
    co, cross
        Backscatter in dB of both polarisations, (y, x), NaN where not valid.
    fallback_vv, fallback_vh
        The published thresholds.
    probability
        Least probability: a little less than even, because a threshold that follows the scene may lie higher.

    Returns
    -------
    False where neither polarisation is valid.
    """
    odds = []
    for db, tau in ((co, fallback_vv), (cross, fallback_vh)):
        flat = (np.broadcast_to(np.float32(value), db.shape) for value in (tau, PRIOR_ERROR, CLASS_SPREAD, CLASS_SPREAD))
        odds.append(log_odds.kernel(db, *flat))
    with np.errstate(invalid="ignore"):
        guess: np.ndarray = mean_of(*odds) >= np.log(probability / (1.0 - probability))
    return guess


@operation(Focal(rim_pixels), dtype="bool")
def with_rim(mask: np.ndarray, /, *, grid: Grid) -> np.ndarray:
    """Return a mask with a rim around it, square and ``RIM`` wide."""
    size = 2 * rim_pixels({}, grid) + 1
    return np.asarray(ndimage.maximum_filter(mask.view("uint8"), size, mode="constant", cval=0)).astype(bool)


@operation(Local(), dtype="float32", units="dB")
def only_where(values: np.ndarray, mask: np.ndarray, /) -> np.ndarray:
    """Return values inside a mask, NaN outside."""
    return np.where(mask, values, np.float32(np.nan))
