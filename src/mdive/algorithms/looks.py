"""How many looks a scene has, told by the scene itself: the speckle of its even ground, whatever product, pixel or resampling it has been through.

Neither a product's nominal looks nor the ratio of pixel areas tells them. Neighbouring pixels of real products are correlated, so their
mean gains less than independent ones would: ground range detected scenes have 7 to 8 looks within a window at 10 m, 10 at 20 m, 12 at 30 m
and 25 at 60 m, where the ratio of areas would give 4.4, 18, 40 and 160.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mdive.algorithms.sar import window_radius
from mdive.model.plan import Grid
from mdive.plugins import Reduction, add, operation

Looks = Annotated[
    float | None, Field(ge=0.5, le=1000, description="equivalent number of looks of a pixel; estimated from the scene where none is given")
]

GRDH_LOOKS: Final = 4.4
"""Looks of Sentinel-1 ground range detected scenes in high resolution, interferometric wide swath (product specification, 10 m pixels): what
is taken where there is no window to tell."""

STEP: Final = 0.005
"""Bin of the histogram of local variation. It is 0.48 at 4.4 looks, 0.1 at 100."""
BINS: Final = 400
"""Bins from 0 to 2. What lies beyond belongs to points and edges, and is not counted."""
SMOOTHING: Final = 5
"""Bins of each of two moving sums over the histogram: noise makes no mode of its own."""
LEAST: Final = 1e-3
"""Variation below it is no speckle: a constant that somebody filled in, but for rounding."""
RANGE: Final = (1.0, 1000.0)
"""What an estimate can be: no pixel has less than one look, and a thousand are no speckle at all."""


def _finish(counts: np.ndarray, *, grid: Grid, looks: float | None, **_: Any) -> dict[str, np.ndarray]:
    """Find the mode of local variation, where even ground is, and turn it into looks."""
    if looks is not None:
        return {"looks": np.array([looks])}
    if not counts.any():
        return {"looks": np.array([GRDH_LOOKS])}
    window = np.ones(SMOOTHING, dtype="int64")
    mode = (int(np.argmax(np.convolve(np.convolve(counts, window, "same"), window, "same"))) + 0.5) * STEP
    n = (2 * window_radius({}, grid) + 1) ** 2
    # The standard deviation of n values is most often not the true one, but √((n - 2) / (n - 1)) of it (chi distribution).
    estimate = (n - 2) / (n - 1) / mode**2
    return {"looks": np.array([min(max(estimate, RANGE[0]), RANGE[1])])}


@operation(Reduction(merge=add, finish=_finish), dtype="int64")
def equivalent_looks(variation: np.ndarray, /, *, looks: Looks = None) -> np.ndarray:  # noqa: ARG001
    """Find the equivalent number of looks of a pixel: the mode of 1 / CV² over the windows of the whole scene.

    Over even ground the local coefficient of variation is that of speckle, 1 / √looks; edges, fields and towns have more, each by another
    amount. So the mode of its histogram is the speckle even where most windows are not even.

    Parameters
    ----------
    variation
        From ``variation``, (y, x), NaN where not known.
    looks
        Given from outside: then nothing is estimated.

    Returns
    -------
    One block's histogram. The state holds ``looks``, one number: as a window of the filter sees them, so correlation between neighbouring
    pixels counts as looks; ``GRDH_LOOKS`` where no window is valid.

    References
    ----------
    Anfinsen, Doulgeris and Eltoft (2009), 10.1109/TGRS.2009.2019269: looks from the density of small-sample estimates over a whole scene.
    """
    # False where it is NaN, too.
    known = variation[(variation >= LEAST) & (variation < STEP * BINS)]
    return np.bincount((known / STEP).astype("int64"), minlength=BINS)[:BINS]
