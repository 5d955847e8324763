"""Snow by a fixed threshold: each pixel is decided on its own."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mdive.plugins import QC_FLAGS, UNOBSERVED, Bundle, Local, algorithm, operation
from mdive_plugin_example.tables import EXTENT, FILL, INDEX, NO_SNOW, QC, SNOW

Index = Annotated[float, Field(ge=-1, le=1, description="normalised difference, -1 to 1")]


@operation(Local(), dtype="float32", over_time=True)
def snow_index(green: np.ndarray, swir16: np.ndarray, mask: np.ndarray, /) -> np.ndarray:
    """Return the snow index of the best scene in which a pixel was seen; (time, y, x) in, (y, x) out.

    Parameters
    ----------
    green, swir16
        Reflectance, the best scene first.
    mask
        Bits of ``QC_FLAGS``.
    """
    with np.errstate(all="ignore"):
        index = (green - swir16) / (green + swir16)
    index[(mask & UNOBSERVED != 0) | (np.abs(index) > 1)] = np.nan
    best = np.isfinite(index).argmax(axis=0)
    return np.take_along_axis(index, best[np.newaxis], axis=0)[0]


@operation(Local(), dtype="uint8")
def snow_class(index: np.ndarray, /, *, threshold: Index = 0.4) -> np.ndarray:
    """Return the class of each pixel; what was not seen is never 'no snow'.

    Parameters
    ----------
    index
        Snow index, NaN where nothing was seen.
    threshold
        Least index of snow.
    """
    return np.where(np.isnan(index), FILL, np.where(index >= threshold, SNOW, NO_SNOW))


@operation(Local(), dtype="uint16", over_time=True)
def quality(mask: np.ndarray, index: np.ndarray, /) -> np.ndarray:
    """Return why a pixel has no class: the bits of its best scene, or ``nodata`` where a scene holds no usable number.

    Parameters
    ----------
    mask
        Bits of ``QC_FLAGS``, (time, y, x).
    index
        Snow index, (y, x).
    """
    unknown = np.isnan(index)
    bits = np.where(unknown, mask[0], 0)
    return np.where(unknown & (bits == 0), QC_FLAGS["nodata"], bits)


@algorithm(
    "snow.ndsi",
    version="1.0.0",
    needs={"post": ("green", "swir16")},
    sensor="optical",
    outputs=(EXTENT, INDEX, QC),
    references=("10.1016/0034-4257(95)00137-P",),  # Hall et al. 1995
)
def ndsi(post: Bundle, /, *, threshold: Index = 0.4) -> Mapping[str, Any]:
    """Snow cover, by a fixed threshold of the snow index.

    Parameters
    ----------
    post
        Reflectance after the snowfall.
    threshold
        Least index of snow; 0.4 is that of Hall et al. (1995).
    """
    index = snow_index(post.green, post.swir16, post.mask)
    return {"extent": snow_class(index, threshold=threshold), "ndsi": index, "qc": quality(post.mask, index)}
