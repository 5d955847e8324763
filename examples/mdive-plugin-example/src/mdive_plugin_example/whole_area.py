"""Snow by a threshold that the area tells itself, in patches of some size: each pixel depends on all others."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mdive.algorithms.components import sieve
from mdive.plugins import Bundle, Hectares, Local, Reduction, add, algorithm, operation
from mdive_plugin_example.pointwise import Index, quality, snow_index
from mdive_plugin_example.tables import EXTENT, FILL, INDEX, NO_SNOW, QC, SNOW

EDGES = np.linspace(-1, 1, 201)
"""Of the histogram: fixed, so that counts of tiles can be added."""


def threshold_of(counts: np.ndarray, /, *, lowest: float, highest: float) -> dict[str, np.ndarray]:
    """Return the threshold that parts the histogram of the whole area best (Otsu), kept within limits."""
    centres = (EDGES[:-1] + EDGES[1:]) / 2
    below, total = np.cumsum(counts), counts.sum()
    with np.errstate(all="ignore"):
        mean_below = np.cumsum(counts * centres) / below
        mean_above = ((counts * centres).sum() - np.cumsum(counts * centres)) / (total - below)
        between = below * (total - below) * (mean_below - mean_above) ** 2
    best = EDGES[1:][np.nanargmax(between)] if np.isfinite(between).any() else lowest
    return {"threshold": np.clip(best, lowest, highest)}


@operation(Reduction(merge=add, finish=threshold_of), dtype="int64")
def snow_threshold(index: np.ndarray, /, *, lowest: Index = 0.2, highest: Index = 0.6) -> np.ndarray:  # noqa: ARG001 - for the finish
    """Count the snow indices of one tile; what all tiles have counted gives the threshold of the area.

    Parameters
    ----------
    index
        Snow index, NaN where nothing was seen.
    lowest, highest
        Limits of the threshold.
    """
    return np.histogram(index[np.isfinite(index)], EDGES)[0]


@operation(Local(), dtype="bool")
def above(index: np.ndarray, state: Mapping[str, np.ndarray], /) -> np.ndarray:
    """Return where the index reaches the threshold of the area.

    Parameters
    ----------
    index
        Snow index, NaN where nothing was seen.
    state
        From ``snow_threshold``.
    """
    return index >= state["threshold"]


@operation(Local(), dtype="uint8")
def patch_class(patches: np.ndarray, index: np.ndarray, /) -> np.ndarray:
    """Return the class of each pixel; what was not seen is never 'no snow'.

    Parameters
    ----------
    patches
        Where there is snow, bool.
    index
        Snow index, NaN where nothing was seen.
    """
    return np.where(np.isnan(index), FILL, np.where(patches, SNOW, NO_SNOW))


@algorithm(
    "snow.patches",
    version="1.0.0",
    needs={"post": ("green", "swir16")},
    sensor="optical",
    outputs=(EXTENT, INDEX, QC),
    references=("10.1016/0034-4257(95)00137-P", "10.1109/TSMC.1979.4310076"),  # Hall et al. 1995; Otsu 1979
)
def patches(post: Bundle, /, *, lowest: Index = 0.2, highest: Index = 0.6, minimum_area: Hectares = 0.5) -> Mapping[str, Any]:
    """Snow cover in patches, by a threshold that is found in the whole area.

    Parameters
    ----------
    post
        Reflectance after the snowfall.
    lowest, highest
        Limits of the threshold; an area without snow has no threshold of its own.
    minimum_area
        Smaller patches are dropped.
    """
    index = snow_index(post.green, post.swir16, post.mask)
    snow = above(index, snow_threshold(index, lowest=lowest, highest=highest))
    extent = patch_class(sieve(snow, minimum_area=minimum_area), index)
    return {"extent": extent, "ndsi": index, "qc": quality(post.mask, index)}
