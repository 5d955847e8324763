"""A burn scar: fires that ran with the wind, were held by wet valley floors, and left islands; how hard each pixel burned."""

# numba infers the types of the kernels from their calls.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mdive.algorithms.draws import hashed, key_of, unit
from mdive.pipeline.window import Window
from mdive.testing._cover import BARE, BUILT, CROP, GRASS, WATER, Cover
from mdive.testing._landscape import Land, Landscape
from mdive.testing._noise import smoothstep

FIRE_CELL = 24e3
"""Distance between possible fires (m); a smaller scene has one that fits it, in its middle."""
FIRE_SHARE = 0.6
"""Share of the other cells of a large scene with a fire."""
FIRE_RADIUS = 0.19
"""Mean radius of a fire in cells: about a tenth of the scene burns."""
WEAKEST = 0.12
"""Least severity of a burned pixel: what stays below shows in no index, and no perimeter would include it."""


@njit(nogil=True, cache=True)
def _severity(key, cell, res, middle_row, middle_col, row0, col0, front, fuel, height, code, field, out):
    rows, cols = out.shape
    for i in range(rows):
        for j in range(cols):
            x, y = (col0 + j + 0.5 - middle_col) * res / cell, (row0 + i + 0.5 - middle_row) * res / cell
            p, q = np.int64(np.floor(x + 0.5)), np.int64(np.floor(y + 0.5))
            bits = hashed(key, p * 2 + 1, q)
            out[i, j] = 0
            c = code[i, j]
            first = p == 0 and q == 0
            if (not first and unit(bits) > FIRE_SHARE) or c in (WATER, BUILT, BARE):
                continue
            drift = 0.02 if first else 0.1
            x -= p + drift * (2.0 * unit(hashed(bits, 1, 0)) - 1.0)
            y -= q + drift * (2.0 * unit(hashed(bits, 2, 0)) - 1.0)
            angle = 2.0 * np.pi * unit(hashed(bits, 3, 0))
            ahead = np.cos(angle) * x + np.sin(angle) * y
            aside = np.cos(angle) * y - np.sin(angle) * x
            r = np.sqrt((ahead / 1.3) ** 2 + (aside / 0.77) ** 2) / FIRE_RADIUS
            if r > 1.6:
                continue
            force = 1.0 - r + 0.32 * front[i, j] - 0.45 * np.exp(-max(height[i, j], 0.0) / 9.0)
            if c == CROP:
                force -= 0.25 + 0.3 * (field[i, j] & 1)
            if force <= 0.0 or fuel[i, j] < -1.75:
                continue
            s = 0.2 + 0.68 * smoothstep(force / 0.55) + 0.16 * fuel[i, j]
            if c in (GRASS, CROP):
                s *= 0.85
            out[i, j] = np.uint8(np.round(100.0 * min(max(s, WEAKEST), 1.0)))


def severity(landscape: Landscape, window: Window, land: Land, cover: Cover) -> NDArray[np.uint8]:
    """Return the burn severity of a window in percent, uint8 (y, x): 0 is unburned, a burned pixel has at least 12."""
    edge = min(landscape.shape) * landscape.resolution
    front = landscape.noise("front", window, ((2600.0, 0.75), (900.0, 0.5), (320.0, 0.35), (120.0, 0.2)))
    fuel = landscape.noise("fuel", window, ((900.0, 0.6), (420.0, 0.6), (150.0, 0.4), (60.0, 0.3)))
    out = np.empty(window.shape, np.uint8)
    _severity(
        key_of(landscape.seed, "fire"),
        min(FIRE_CELL, edge),
        float(landscape.resolution),
        landscape.shape[0] / 2,
        landscape.shape[1] / 2,
        window.row,
        window.col,
        front,
        fuel,
        land.height,
        cover.code,
        cover.field,
        out,
    )
    return out
