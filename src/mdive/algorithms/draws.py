"""Random numbers without a generator: every draw is a pure function of seed, draw, global row and global column.

A generator per block would tie a result to the tiling. A hash of the place has no state: any block, in any order, gets the same numbers
(SCIENCE P11). The hash is the finaliser of splitmix64, once over the row and once over the column.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import numpy as np
from numba import njit
from pydantic import Field
from scipy.special import ndtri

from mdive.plugins import Local, Window, operation

Seed = Annotated[int, Field(description="names a set of random numbers; equal seeds give equal numbers")]
Draw = Annotated[int, Field(ge=0, description="number of the draw; different draws of one seed are independent")]

ROW: Final = np.uint64(0x9E3779B97F4A7C15)
COL: Final = np.uint64(0xD1342543DE82EF95)
"""Odd multipliers that spread row and column over 64 bits: the golden ratio, and one of good spectral quality
(Steele & Vigna 2022, 10.1002/spe.3030)."""

STEP: Final = 2.0**-52
"""Step between draws. They lie in the middle of their strata, so that none is 0 or 1, where a quantile is infinite; half of a finer step
would round away next to 1."""


@operation(Local(), dtype="float64")
def uniform(like: np.ndarray, /, *, window: Window, seed: Seed = 0, draw: Draw = 0) -> np.ndarray:
    """Draw a number between 0 and 1 for each pixel.

    Parameters
    ----------
    like
        Any raster of the grid, (y, x); its numbers are not looked at.
    seed, draw
        Which numbers. Pixels are numbered from the corner of the grid, so another grid gets other numbers on the ground.

    Returns
    -------
    (y, x), in the open interval (0, 1), 52 bits each; the mean of the distribution is 1/2 exactly.

    References
    ----------
    Steele, Lea and Flood (2014), 10.1145/2660193.2660195: splitmix64.
    """
    out = np.empty(like.shape[-2:])
    _uniform(key_of(seed, str(draw)), window.row, window.col, out)
    return out


@operation(Local(), dtype="float32")
def normal(like: np.ndarray, /, *, window: Window, seed: Seed = 0, draw: Draw = 0) -> np.ndarray:
    """Draw a standard normal number for each pixel: the normal quantile of ``uniform``, so that equal seeds and draws go together.

    Parameters
    ----------
    like
        Any raster of the grid, (y, x); its numbers are not looked at.
    seed, draw
        Which numbers.

    Returns
    -------
    (y, x), mean 0 and variance 1, within ±8.21 (the quantile of the outermost of 2^52 strata).
    """
    out = np.empty(like.shape[-2:])
    _uniform(key_of(seed, str(draw)), window.row, window.col, out)
    quantile: np.ndarray = ndtri(out)
    return quantile


def key_of(seed: int, name: str) -> np.uint64:
    """Return the key of a named stream of a seed: equal names give equal numbers, and no two streams are related."""
    return np.uint64(int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little"))


@njit(nogil=True, cache=True)
def mix(z: np.uint64) -> np.uint64:
    """Return the splitmix64 finaliser of a uint64 (Steele, Lea & Flood 2014, 10.1145/2660193.2660195)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True)
def hashed(key: np.uint64, row: int | np.int64, col: int | np.int64) -> np.uint64:
    """Return 64 independent bits for a place; row and column may be negative."""
    return mix(mix(key + np.uint64(row) * ROW) + np.uint64(col) * COL)


@njit(nogil=True, cache=True)
def unit(bits: np.uint64) -> float:
    """Return the upper 53 bits as a number in [0, 1)."""
    return np.float64(bits >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(nogil=True, cache=True)
def _uniform(key: np.uint64, row: int, col: int, out: np.ndarray) -> None:
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[r, c] = (np.float64(hashed(key, r + row, c + col) >> np.uint64(12)) + 0.5) * STEP
