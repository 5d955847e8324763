"""The bounds of an area hold the truth at least as often as a 90 % interval does, and say something."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import mdive
from mdive.algorithms.flood_tables import FLOOD, HAND_MASKED
from mdive.pipeline.window import Window
from mdive.quality.assess import HIGH_PROBABILITY, LOW_PROBABILITY
from mdive.testing._cover import FARMLAND, cover
from mdive.testing._landscape import LOWLAND, Landscape
from mdive.testing._sar import Radar, backscatter

EVENTS = 200
SIZE = 160
"""Pixels of 10 m: the smallest square that holds a window in which a threshold is sought."""


def flooded(seed):
    """A river flood under a radar, wind, moisture, calibration and incidence of its own: linear power by band, and the water."""
    rng = np.random.default_rng(seed + 1000)
    terrain, window = Landscape(seed, (SIZE, SIZE), 10.0, LOWLAND, float(rng.uniform(0.5, 3.9))), Window(0, 0, SIZE, SIZE)
    land = terrain.window(window)
    looks, wind, moisture, incidence = float(rng.choice([4.4, 7.0, 12.0])), rng.uniform(0, 1), rng.uniform(0, 1.5), rng.uniform(31, 44)
    radar = Radar(looks=looks, wind=float(wind), moisture=float(moisture), incidence=float(incidence))
    db = backscatter(terrain, window, land, cover(terrain, FARMLAND, window, land), radar, phase="post", flooded=True)
    gain = dict(zip(("vv", "vh"), rng.normal(0, 0.4, 2), strict=True))
    coords = {"y": 4e6 - 10.0 * np.arange(SIZE), "x": 5e5 + 10.0 * np.arange(SIZE)}
    bands = {b: xr.DataArray((10 ** ((db[b] + g) / 10)).astype("float32"), dims=("y", "x"), coords=coords) for b, g in gain.items()}
    return xr.Dataset(bands), (land.depth > 0) | land.permanent


@pytest.mark.slow
def test_the_true_area_lies_between_the_bounds():
    held, widths = 0, []
    for seed in range(EVENTS):
        scene, water = flooded(seed)
        found = mdive.apply("flood.sar_threshold", scene)
        extent, p = found.extent.values, found.probability.values
        seen, event = extent < HAND_MASKED, extent == FLOOD
        with np.errstate(invalid="ignore"):
            low, high = (event & (p >= LOW_PROBABILITY)).sum(), (event | (seen & (p >= HIGH_PROBABILITY))).sum()
        truth = (water & seen).sum()
        held += low <= truth <= high
        widths.append((high - low) / max(truth, 1))
    assert held >= 0.85 * EVENTS
    assert np.median(widths) < 0.6
