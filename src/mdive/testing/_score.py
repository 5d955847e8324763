"""How well a class raster agrees with a truth raster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from mdive.errors import InputError
from mdive.pipeline.window import Tiles
from mdive.testing._raster import CACHE_MB

EVENT, NOT_EVENT, REFERENCE, UNKNOWN = 1, 0, 2, 255
"""Values of a truth raster."""

BACKGROUND_NAMES = frozenset(
    {
        "not_water",
        "not_affected",
        "not_event",
        "not_flooded",
        "no_event",
        "none",
        "land",
        "unburned",
        "regrowth_high",
        "regrowth_low",
        "high_regrowth",
        "low_regrowth",
    }
)
"""Classes that were seen and are not the event."""
UNSEEN_WORDS = ("mask", "cloud", "shadow", "snow", "ocean", "fill", "nodata", "not_observed", "unmappable", "unknown")
"""Words in the name of a class that says nothing about the ground."""
REFERENCE_NAMES = frozenset({"permanent_water"})
"""Water that was always there: water, where the truth knows nothing finer."""
BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Score:
    """Pixel counts of a product against the truth, over what the truth knows and the product saw."""

    f1: float
    """2 TP / (2 TP + FP + FN); NaN where neither has the event."""
    iou: float
    """TP / (TP + FP + FN)."""
    tp: int
    fp: int
    fn: int
    tn: int
    observed_share: float
    """Share of the known pixels on which the product says anything."""
    reference_called_event: int
    """Pixels that the truth knows as permanent water and the product calls the event, not permanent: outside the other counts, because a
    method without a reference layer cannot know."""


def score(truth: str | os.PathLike[str], product: str | os.PathLike[str]) -> Score:
    """Score a class raster against the truth, in blocks.

    The product is brought to the truth's grid by nearest neighbour. Its classes come from the CF tags ``flag_values`` and
    ``flag_meanings`` (of the file or its band); without them, 1 to 5 are the event and 200 to 255 unseen. Permanent water counts as the
    event, as open water does in a truth without a class for it; where the truth has one (value 2), those pixels are not counted.

    Parameters
    ----------
    truth
        uint8 raster: 1 event, 0 not, 2 permanent water, 255 unknown.
    product
        Class raster, in any grid.

    Raises
    ------
    InputError
        When a raster cannot be opened, or its flag tags do not match.
    """
    counts = np.zeros(5, np.int64)
    known = seen_known = 0
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), _open(truth) as true, _open(product) as raw:
        role = _roles(raw)
        target = {"crs": true.crs, "transform": true.transform, "height": true.height, "width": true.width}
        with WarpedVRT(raw, **target, resampling=Resampling.nearest, nodata=UNKNOWN, tolerance=0.001) as got:
            for window in Tiles.regular((true.height, true.width), BLOCK):
                part = ((window.row, window.row_end), (window.col, window.col_end))
                t, p = true.read(1, window=part), role[got.read(1, window=part).astype(np.uint8)]
                seen = p != _UNSEEN
                yes = seen & (p != _BACKGROUND)
                known += int(np.count_nonzero(t != UNKNOWN))
                seen_known += int(np.count_nonzero((t != UNKNOWN) & seen))
                event, dry = seen & (t == EVENT), seen & (t == NOT_EVENT)
                called = (p == _EVENT) & (t == REFERENCE)
                counts += [np.count_nonzero(x) for x in (event & yes, dry & yes, event & ~yes, dry & ~yes, called)]
    tp, fp, fn, tn, called_event = (int(n) for n in counts)
    wrong = fp + fn
    return Score(
        f1=2 * tp / (2 * tp + wrong) if tp + wrong else float("nan"),
        iou=tp / (tp + wrong) if tp + wrong else float("nan"),
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
        observed_share=seen_known / max(known, 1),
        reference_called_event=called_event,
    )


_BACKGROUND, _EVENT, _REFERENCE, _UNSEEN = range(4)


def _roles(product: Any) -> NDArray[np.uint8]:
    """Return the role of each of the 256 values of a class raster."""
    role = np.full(256, _BACKGROUND, np.uint8)
    tags = {**product.tags(), **product.tags(1)}
    if "flag_values" not in tags:
        role[1:6] = _EVENT
        role[200:] = _UNSEEN
        return role
    values = [int(float(v)) for v in tags["flag_values"].strip("[]{}").replace(",", " ").split()]
    names = tags.get("flag_meanings", "").split()
    if len(values) != len(names) or not all(0 <= v <= 255 for v in values):
        hint = "Write as many flag_meanings, divided by spaces, as flag_values from 0 to 255."
        raise InputError(f"{product.name} has {len(values)} flag_values and {len(names)} flag_meanings.", hint)
    for value, name in zip(values, names, strict=True):
        if any(word in name for word in UNSEEN_WORDS):
            role[value] = _UNSEEN
        elif name in REFERENCE_NAMES:
            role[value] = _REFERENCE
        elif name not in BACKGROUND_NAMES:
            role[value] = _EVENT
    role[UNKNOWN] = _UNSEEN
    return role


def _open(path: str | os.PathLike[str]) -> Any:
    try:
        return rasterio.open(path)
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{os.fspath(path)} cannot be read as a raster ({error}).", "Give the path of a GeoTIFF.") from None
