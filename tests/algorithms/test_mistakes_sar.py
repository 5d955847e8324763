"""Mistakes of radar mapping that no single operation shows: they lie in how the operations are put together."""

from datetime import UTC, datetime, timedelta

import pytest

from mdive.pipeline import Focal, load_node
from mdive.pipeline.graph import Graph
from mdive.plugins import Bundle
from mdive.plugins.registry import algorithms

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
    windows = [n for n in steps if isinstance(n.operation.locality, Focal)]
    assert any(n.operation.units == "dB" for n in steps)
    assert windows
    wrong = [(n.label, i.label) for n in windows for i in graph.inputs(n) if i.operation is not None and i.operation.units == "dB"]
    assert wrong == []
