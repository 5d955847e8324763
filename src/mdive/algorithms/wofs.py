"""A second opinion on open water: the decision tree of Water Observations from Space (WOfS), grown on Landsat scenes of Australia.

The tree is data, 22 published splits on three bands and three ratios, and one loop walks it.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from mdive.algorithms.flood_dswe import NOT_COMPUTED, STEPS, in_rows
from mdive.plugins import Local, operation

BLUE, RED, SWIR22, SWIR16_GREEN, NIR_RED, SWIR22_GREEN = range(6)
"""What a split looks at: a band, or a normalised difference of two."""

DRY: Final = -1
WET: Final = -2
"""Leaves, where a split names what follows; any other number is the row of the next split."""

SPLITS: Final = (
    (SWIR16_GREEN, -0.01, 1, 10),
    (BLUE, 2083.5, 2, DRY),
    (SWIR22, 323.5, 3, 4),
    (NIR_RED, 0.61, WET, DRY),
    (BLUE, 1400.5, 6, 5),
    (NIR_RED, -0.01, WET, DRY),
    (SWIR22_GREEN, -0.23, 8, 7),
    (BLUE, 379.0, WET, DRY),
    (NIR_RED, 0.22, WET, 9),
    (BLUE, 473.0, WET, DRY),
    (SWIR16_GREEN, 0.23, 11, 17),
    (BLUE, 334.5, 12, DRY),
    (NIR_RED, 0.54, 13, DRY),
    (SWIR16_GREEN, 0.12, WET, 14),
    (RED, 364.5, 15, 16),
    (BLUE, 129.5, WET, DRY),
    (BLUE, 300.5, WET, DRY),
    (SWIR16_GREEN, 0.34, 18, DRY),
    (BLUE, 249.5, 19, DRY),
    (NIR_RED, 0.45, 20, DRY),
    (RED, 364.5, 21, DRY),
    (BLUE, 129.5, WET, DRY),
)
"""What is compared, the limit (bands: reflectance times 10,000), and where it goes on if the number is at most the limit, and if not."""


@operation(Local(), dtype="uint8", fill=NOT_COMPUTED)
def wofs_tree(
    blue: np.ndarray, green: np.ndarray, red: np.ndarray, nir08: np.ndarray, swir16: np.ndarray, swir22: np.ndarray, /
) -> np.ndarray:
    """Return what the tree of Water Observations from Space says.

    Parameters
    ----------
    blue, green, red, nir08, swir16, swir22
        Surface reflectance, (y, x), NaN where missing. They are the Thematic Mapper's bands 1 to 5 and 7, for which the tree was grown.

    Returns
    -------
    1 wet, 0 dry, 255 where a band is missing, (y, x). As for the DSWE tests, numbers are compared as they were stored. A ratio of two zeros is
    above every limit.

    References
    ----------
    Mueller et al. (2016), 10.1016/j.rse.2015.11.003.
    """
    out = np.empty(blue.shape, dtype="uint8")
    _walk(in_rows(blue, green, red, nir08, swir16, swir22), *_TREE, out.reshape(-1))
    return out


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the tree as arrays: what is compared, limits with reflectance in whole steps, and the two ways on."""
    feature = np.array([split[0] for split in SPLITS])
    limit = np.array([split[1] for split in SPLITS])
    bands = feature <= SWIR22
    limit[bands] = np.round(limit[bands] * (STEPS / 10_000))
    return feature, limit, np.array([split[2:] for split in SPLITS])


_TREE: Final = _tables()


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _walk(bands: np.ndarray, feature: np.ndarray, limit: np.ndarray, ways: np.ndarray, out: np.ndarray) -> None:
    of = np.empty(6)
    for i in range(out.size):
        b, g, r = np.rint(bands[0, i] * STEPS), np.rint(bands[1, i] * STEPS), np.rint(bands[2, i] * STEPS)
        n, s, t = np.rint(bands[3, i] * STEPS), np.rint(bands[4, i] * STEPS), np.rint(bands[5, i] * STEPS)
        if not np.isfinite(b + g + r + n + s + t):
            out[i] = NOT_COMPUTED
            continue
        of[0], of[1], of[2] = b, r, t
        of[3], of[4], of[5] = (s - g) / (s + g), (n - r) / (n + r), (t - g) / (t + g)
        at = 0
        while at >= 0:
            at = ways[at, 0] if of[feature[at]] <= limit[at] else ways[at, 1]
        out[i] = 1 if at == WET else 0
