"""The year of a pixel: a harmonic model of its backscatter, fitted by least squares to a stack of one geometry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import numba
import numpy as np

from mdive.algorithms.mosaic import NONE
from mdive.plugins import Local, operation

Season = Literal["expected", "deviation", "count"]
"""What the model of a pixel tells: backscatter to be expected on a day and its deviation, in dB, and how many scenes it is made of."""

HARMONICS: Final = 3
"""Sines and cosines of one, two and three cycles a year."""
TERMS: Final = 1 + 2 * HARMONICS
LEAST_SCENES: Final = 32
"""Scenes that seven coefficients and a deviation take at least (Bauer-Marschallinger 2022)."""
SINGULAR: Final = 1e-6
"""Smallest pivot of the normal equations per scene. They hold means of products of sines, 0.5 on the diagonal; scenes of one season alone tell
nothing of the rest of the year, and leave pivots near zero."""


def year_phase(moment: datetime) -> float:
    """Return how far in its year a moment lies, 0 at the start of January 1 and 1 at its end, whether the year has 365 or 366 days.

    Parameters
    ----------
    moment
        With a time zone; without one it counts as UTC.
    """
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    first = datetime(moment.year, 1, 1, tzinfo=UTC)
    return (moment - first) / (datetime(moment.year + 1, 1, 1, tzinfo=UTC) - first)


def phases(times: Sequence[datetime]) -> list[float]:
    """Return ``year_phase`` of each moment, to the second: the same number wherever it is computed."""
    return [round(year_phase(t) * timedelta(days=366).total_seconds()) / timedelta(days=366).total_seconds() for t in times]


@operation(Local(), dtype="float32", units="dB", over_time=True)
def season(
    db: np.ndarray,
    choice: np.ndarray,
    /,
    *,
    before: list[float],
    after: list[float],
    pairs: list[list[bool]] | None = None,
    field: Season = "expected",
) -> np.ndarray:
    """Return what a harmonic model of each pixel's past expects on the day of its scene after the onset.

    h(t) = M + Σ (S_k sin 2πkt + C_k cos 2πkt), k = 1 to 3, t in years, by least squares over the valid scenes of the geometry of the chosen one.

    Parameters
    ----------
    db
        Backscatter before the onset in dB, (time, y, x), NaN where not valid.
    choice
        Which scene after the onset each pixel takes, (y, x), from ``best_observation``.
    before, after
        From ``phases``: of the scenes before, and of those after the onset.
    pairs
        From ``pairs_of``; None where all scenes are of one geometry.
    field
        ``expected``: h on the day of the chosen scene; ``deviation``: √(Σ residual² / (n − 7)); ``count``: n.

    Returns
    -------
    (y, x). The first two are NaN where there are fewer than ``LEAST_SCENES`` scenes, or they do not tell the whole year.

    References
    ----------
    Bauer-Marschallinger et al. (2022), 10.3390/rs14153673.
    """
    stack = db[np.newaxis] if db.ndim == choice.ndim else db
    allowed = np.ones((1, len(stack)), dtype=bool) if pairs is None else np.asarray(pairs, dtype=bool).reshape(-1, len(stack))
    out = np.empty(choice.shape, dtype="float32")
    wanted = ("expected", "deviation", "count").index(field)
    _season(np.ascontiguousarray(stack), choice, allowed, _design(before), _design(after), wanted, out)
    return out


def _design(years: Sequence[float]) -> np.ndarray:
    """Return the terms of the model at some phases, (scenes, terms)."""
    t = 2.0 * np.pi * np.asarray(years, dtype="float64").reshape(-1, 1)
    k = np.arange(1, HARMONICS + 1)
    return np.concatenate([np.ones_like(t), np.sin(k * t), np.cos(k * t)], axis=1)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _season(
    stack: np.ndarray, choice: np.ndarray, allowed: np.ndarray, before: np.ndarray, after: np.ndarray, wanted: int, out: np.ndarray
) -> None:
    times, rows, cols = stack.shape
    normal, right, found = np.empty((TERMS, TERMS)), np.empty(TERMS), np.empty(TERMS)
    for r in range(rows):
        for c in range(cols):
            of = choice[r, c] if len(allowed) > 1 else 0
            normal[:, :], right[:] = 0.0, 0.0
            n = 0
            for t in range(times):
                x = np.float64(stack[t, r, c])
                if choice[r, c] == NONE or not allowed[of, t] or x != x:
                    continue
                n += 1
                for i in range(TERMS):
                    right[i] += before[t, i] * x
                    for j in range(i + 1):
                        normal[i, j] += before[t, i] * before[t, j]
            if wanted == 2:
                out[r, c] = n
                continue
            out[r, c] = np.nan
            if n < LEAST_SCENES or not _solve(normal, right, found, SINGULAR * n):
                continue
            if wanted == 0:
                out[r, c] = _dot(after[choice[r, c]], found)
                continue
            squares = 0.0
            for t in range(times):
                x = np.float64(stack[t, r, c])
                if allowed[of, t] and x == x:
                    squares += (x - _dot(before[t], found)) ** 2
            out[r, c] = np.sqrt(squares / (n - TERMS))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _solve(normal: np.ndarray, right: np.ndarray, found: np.ndarray, least: float) -> bool:
    """Solve symmetric equations (lower triangle, overwritten) by L D Lᵀ, in one order; False where a pivot is too small."""
    for i in range(TERMS):
        for j in range(i):
            s = normal[i, j]
            for k in range(j):
                s -= normal[i, k] * normal[j, k] * normal[k, k]
            normal[i, j] = s / normal[j, j]
        s = normal[i, i]
        for k in range(i):
            s -= normal[i, k] * normal[i, k] * normal[k, k]
        if not s > least:
            return False
        normal[i, i] = s
    for i in range(TERMS):
        s = right[i]
        for k in range(i):
            s -= normal[i, k] * found[k]
        found[i] = s
    for i in range(TERMS - 1, -1, -1):
        s = found[i] / normal[i, i]
        for k in range(i + 1, TERMS):
            s -= normal[k, i] * found[k]
        found[i] = s
    return True


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    s = 0.0
    for i in range(TERMS):
        s += a[i] * b[i]
    return s
