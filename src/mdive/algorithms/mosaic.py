"""One observation per pixel: the choice among those of a time window, the bands and the cause that follow it.

Blocks are (time, y, x) in and (y, x) out; a single (y, x) raster is one observation.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.plugins import Local, operation

NONE: Final = -1
"""Choice of a pixel that no observation reaches."""


@operation(Local(), dtype="int16", fill=NONE, over_time=True)
def best_observation(mask: np.ndarray, /, *bands: np.ndarray) -> np.ndarray:
    """Choose one observation per pixel: the first clear one in the plan's order, and else the one that says most.

    Order: nothing masked; snow alone; all bands there but masked (cloud, shadow); earlier in the plan before later.
    One choice for all bands, so that no index mixes two dates.

    Parameters
    ----------
    mask
        Cause plane, (time, y, x).
    bands
        The bands that will be used together, each (time, y, x), NaN where nothing was read.

    Returns
    -------
    Index along time, (y, x); ``NONE`` where no observation has all bands.
    """
    mask = _stack(mask)
    present = np.ones(mask.shape, dtype=bool)
    for band in bands:
        present &= np.isfinite(_stack(band))
    rank = np.where(mask & UNOBSERVED != 0, np.uint8(2), np.where(mask & QC_FLAGS["snow"] != 0, np.uint8(1), np.uint8(0)))
    rank[~present] = 3
    choice: np.ndarray = np.argmin(rank, axis=0).astype("int16")
    choice[~present.any(axis=0)] = NONE
    return choice


@operation(Local(), dtype="float32", over_time=True)
def first_valid(band: np.ndarray, /) -> np.ndarray:
    """Return the first number that is not NaN along time, in the plan's order; (time, y, x) in, (y, x) out."""
    stack = _stack(band)
    first = np.argmax(np.isfinite(stack), axis=0)[np.newaxis]
    values: np.ndarray = np.take_along_axis(stack, first, axis=0)[0]
    return values


@operation(Local(), dtype="float32", over_time=True)
def pick(band: np.ndarray, choice: np.ndarray, /) -> np.ndarray:
    """Return one band of the chosen observations.

    Parameters
    ----------
    band
        (time, y, x).
    choice
        From ``best_observation``, (y, x).

    Returns
    -------
    (y, x); NaN where there is no choice.
    """
    return np.where(choice == NONE, np.nan, _at(_stack(band), choice))


@operation(Local(), dtype="uint16", over_time=True)
def cause(mask: np.ndarray, choice: np.ndarray, /) -> np.ndarray:
    """Collapse the cause plane over time.

    Parameters
    ----------
    mask
        Cause plane, (time, y, x).
    choice
        From ``best_observation``, (y, x).

    Returns
    -------
    (y, x): the bits of the chosen observation. Where it was not clear, ``read_failure`` joins if any observation could not be read,
    because that one might have been clear. Where there is no choice: all reasons together, ``nodata`` if none was given.
    """
    stack = _stack(mask).astype("uint16", copy=False)
    bits, every = _at(stack, choice), np.bitwise_or.reduce(stack, axis=0)
    bits |= np.where(bits & UNOBSERVED != 0, every & np.uint16(QC_FLAGS["read_failure"]), np.uint16(0))
    reasons = every & np.uint16(UNOBSERVED)
    return np.where(choice == NONE, np.where(reasons == 0, np.uint16(QC_FLAGS["nodata"]), reasons), bits)


@operation(Local(), dtype="bool", over_time=True)
def unreadable(mask: np.ndarray, /, *bands: np.ndarray) -> np.ndarray:
    """Return where one of some bands was to be had and could not be read.

    Parameters
    ----------
    mask
        Cause plane of their source, (time, y, x).
    bands
        Each (time, y, x), NaN where nothing was read.

    Returns
    -------
    (y, x): at least one band has no number at any time, and a read failed there. What was read and says nothing is not meant, nor is a
    place that no item covers.
    """
    lost = np.zeros(mask.shape[-2:], dtype=bool)
    for band in bands:
        lost |= ~np.isfinite(_stack(band)).any(axis=0)
    lost &= (_stack(mask) & QC_FLAGS["read_failure"] != 0).any(axis=0)
    return lost


def _stack(block: np.ndarray) -> np.ndarray:
    """Return (time, y, x); a single (y, x) raster is one observation."""
    return block[np.newaxis] if block.ndim == 2 else block


def _at(stack: np.ndarray, choice: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.take_along_axis(stack, np.maximum(choice, 0)[np.newaxis].astype("int64"), axis=0)[0]
    return values
