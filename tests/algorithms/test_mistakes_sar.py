"""Mistakes of radar mapping that no single operation shows: they lie in how the operations are put together."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mdive.algorithms.looks import equivalent_looks
from mdive.algorithms.sar import lee, variation, window_mean
from mdive.pipeline import Focal, Tiles, load_node
from mdive.pipeline.graph import Graph
from mdive.plugins import Bundle
from mdive.plugins.registry import algorithms

MEDIANS = ("speckle_median", "window_median")
"""The middle one is the same pixel in either."""

RADAR = sorted(name for name, spec in algorithms().items() if spec.sensor == "sar")


def graph_of(name):
    """The pipeline of a radar algorithm that is given all that it can take."""
    spec = algorithms()[name]
    bundles = []
    for phase in spec.phases:
        bands = (*spec.needs.get(phase, ()), *spec.optional.get(phase, ()))
        looking = phase in ("pre", "post")
        nodes = {b: load_node(f"s/{phase}", b, timed=looking) for b in bands}
        start, count = (datetime(2020, 1, 1, tzinfo=UTC), 40) if phase == "pre" else (datetime(2024, 1, 1, tzinfo=UTC), 1)
        times = [start + timedelta(days=12 * n) for n in range(count)] if looking else None
        told = {"times": times, "geometry": [(15, "ascending")] * count} if looking else {}
        bundles.append(Bundle(**nodes, mask=load_node(f"s/{phase}", "mask", dtype="uint16", timed=looking), **told))
    return Graph(dict(spec.function(*bundles)))


@pytest.mark.parametrize("name", RADAR)
def test_no_window_is_filled_with_decibels(name):
    """Mistake 2: speckle is averaged as power; decibels are made of the means, for thresholds."""
    graph = graph_of(name)
    steps = [n for n in graph if n.operation is not None]
    windows = [n for n in steps if isinstance(n.operation.locality, Focal) and n.operation.name not in MEDIANS]
    assert any(n.operation.units == "dB" for n in steps)
    assert windows
    wrong = [(n.label, i.label) for n in windows for i in graph.inputs(n) if i.operation is not None and i.operation.units == "dB"]
    assert wrong == []


@pytest.mark.parametrize("tiles", [Tiles((0, 7, 20, 41), (0, 9, 23, 37)), Tiles(tuple(range(42)), tuple(range(38)))])
def test_a_window_remembers_nothing_of_what_it_has_passed(evaluate, speckle, tiles):
    """Mistake 12: a sum that runs on keeps the rounding of the brightest pixel it ever held, so that it depends on where it began.

    At the contrasts of one scene that is below float32, and equal bits on tiles would not show it; here one pixel is 10^13 times as bright.
    """
    power = speckle(np.full((41, 37), 0.01))
    power[20, 12] = 1e11
    node = load_node("s/post", "power", timed=False)
    outputs = {"mean": window_mean(node), "variation": variation(node), "lee": lee(node, equivalent_looks(variation(node), looks=4.4))}
    whole, got = (evaluate(outputs, {"power": power}, t) for t in (None, tiles))
    far = np.ones(power.shape, bool)
    far[18:23, 10:15] = False
    plain = np.array([[power[max(r - 2, 0) : r + 3, max(c - 2, 0) : c + 3].mean(dtype="float64") for c in range(37)] for r in range(41)])
    np.testing.assert_allclose(whole["mean"][far], plain[far], rtol=1e-6)
    for name, raster in whole.items():
        np.testing.assert_array_equal(got[name], raster, err_msg=name)
