"""The dNBR of ground that did not burn: what season, drought and atmosphere did to the whole scene, found in its histogram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mdive.plugins import Local, Reduction, add, operation

Offset = Annotated[float | None, Field(ge=-1, le=1, description="dNBR of ground that did not burn; estimated where none is given")]

STEP: Final = 0.001
"""Bin of the dNBR histogram: a tenth of the smallest offset that matters."""
BINS: Final = 2001
"""Bins from -1 to 1; what lies beyond goes to the end bins, which no estimate touches."""
VEGETATED: Final = 0.1
"""NBR before the fire from which a pixel counts as vegetation: bare soil and rock lie below; their dNBR follows moisture."""
SMOOTHING: Final = 21
"""Bins of each of two moving sums over the histogram (0.02 of dNBR): half the error of one dNBR, so that noise makes no mode of its own."""
REACH: Final = 0.2
"""Largest offset that is believed: drought and season move a landscape by less, a scene that burned as a whole by more."""
NEAR: Final = 0.05
"""Half-width of the band around the mode whose median is the offset: one standard deviation of dNBR over vegetation that did not change."""
SHARE: Final = 0.1
"""Least share of the vegetation within ``NEAR`` of the mode."""
SHARPNESS: Final = 0.5
"""Least share within ``NEAR`` of what lies within three times that: 1/3 where dNBR is spread evenly, as in a burn; 2/3 where vegetation
kept to the error of dNBR. Without it a scene that burned as a whole would lose its light burns to an offset."""
ENOUGH: Final = 200
"""Least number of pixels within ``NEAR`` of the mode."""
SIGMA_OFFSET: Final = 0.01
"""Error of an estimated offset: it stands for all vegetation of the scene, whose kinds differ in season by about so much."""
SIGMA_NO_OFFSET: Final = 0.05
"""Error of the assumption that nothing changed, where no offset could be estimated: the usual size of such offsets."""


def _finish(counts: np.ndarray, *, offset: float | None, **_: Any) -> dict[str, np.ndarray]:
    """Find the offset in the histogram; without one, assume zero and say so."""
    if offset is not None:
        return _offset(offset, 0.0, found=True)
    window = np.ones(SMOOTHING, dtype="int64")
    smooth = np.convolve(np.convolve(counts, window, "same"), window, "same")
    zero, reach, near = BINS // 2, round(REACH / STEP), round(NEAR / STEP)
    mode = zero - reach + int(np.argmax(smooth[zero - reach : zero + reach + 1]))
    band, surroundings = counts[mode - near : mode + near + 1], counts[mode - 3 * near : mode + 3 * near + 1]
    # The slope of a hill beyond the reach has no mode here.
    is_mode = smooth[mode] == smooth[mode - near : mode + near + 1].max()
    if not is_mode or band.sum() < max(ENOUGH, SHARE * counts.sum(), SHARPNESS * surroundings.sum()):
        return _offset(0.0, SIGMA_NO_OFFSET, found=False)
    median = int(np.searchsorted(np.cumsum(band), (int(band.sum()) + 1) // 2))
    return _offset((mode - near + median - zero) * STEP, SIGMA_OFFSET, found=True)


def _offset(value: float, sigma: float, *, found: bool) -> dict[str, np.ndarray]:
    return {"offset": np.array([value]), "sigma": np.array([sigma]), "found": np.array([found])}


@operation(Reduction(merge=add, finish=_finish), dtype="int64")
def background(change: np.ndarray, nbr_before: np.ndarray, /, *, offset: float | None = None) -> np.ndarray:  # noqa: ARG001
    """Find the dNBR of vegetation that did not burn: what season, drought and atmosphere did to the whole scene.

    The histogram of dNBR over vegetation has a narrow hill of what did not change and a long flat one of what burned, so the mode near zero
    is the first even where most of the scene burned; the median of its surroundings makes it finer than the smoothing.

    Parameters
    ----------
    change
        dNBR, (y, x), NaN where it is not known.
    nbr_before
        NBR before the fire, (y, x).
    offset
        Given from outside (the mean over a ring of unburned ground, for instance): then nothing is estimated.

    Returns
    -------
    One block's histogram. The state holds ``offset``, ``sigma`` (its standard deviation) and ``found``, one number each; ``found`` is false
    where no hill of unchanged vegetation was there, and the offset then 0.
    """
    values = change[(nbr_before > VEGETATED) & np.isfinite(change)]
    bins = np.clip(np.rint(values.astype("float64") / STEP) + BINS // 2, 0, BINS - 1).astype("int64")
    return np.bincount(bins, minlength=BINS)


@operation(Local(), dtype="float32")
def minus_offset(change: np.ndarray, centre: Mapping[str, np.ndarray], /) -> np.ndarray:
    """Return dNBR without what moved the whole scene.

    Parameters
    ----------
    change
        dNBR, (y, x).
    centre
        State of ``background``.
    """
    rest: np.ndarray = change - np.float32(centre["offset"][0])
    return rest
