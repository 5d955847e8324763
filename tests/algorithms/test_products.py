"""What every algorithm promises of its products, on numbers of any kind: nothing unseen is called dry, and every block can be stored."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import mdive
from mdive.model.flags import QC_FLAGS
from mdive.pipeline import Window
from mdive.plugins.registry import algorithms
from mdive.products.encoding import encode

SHAPE = (24, 31)
PHASES = ("pre", "post")
TIMES = {("flood.sar_harmonic", "pre"): 34, ("flood.sar_change", "pre"): 6}
"""Scenes of a phase, where an algorithm needs more than two."""
SAMPLES = ("flood.sar_change", "flood.sar_harmonic")
"""Whose scenes before the onset are a sample, of which more tell more: one given twice passes for two, as it would in any statistics."""
NO_EVENT = {
    "terrain.hand": "tells streams and heights, which have no date: its classes say where water flows, and neither how sure that is"
}
"""Algorithms that name no event, and what they say instead: they owe a reason for silence, and no probability."""
BITS = [0, 0, 0, *(QC_FLAGS[n] for n in ("nodata", "cloud", "shadow", "snow", "layover_shadow", "read_failure"))]
ODD = {"sar": [0.0, -1.0, np.inf, np.nan, 1e-30, 1e30], "optical": [0.0, -0.2, -3.0, 0.009, 1.6, 50.0, np.inf, -np.inf, np.nan]}


def field(rng, sensor, shape, odd):
    """Patches of plausible numbers with speckle, and a share of impossible ones."""
    patches = np.kron(rng.random((6, 8)), np.ones((4, 4)))[: shape[-2], : shape[-1]]
    values = patches * rng.gamma(4.4, 1 / 4.4, shape) * (0.3 if sensor == "sar" else 0.4)
    return np.where(rng.random(shape) < odd, rng.choice(ODD[sensor], shape), values).astype("float32")


def data(spec, rng, odd, times=2):
    """One Dataset per phase that the algorithm takes."""
    coords = {"y": 5_000_000.0 - 30 * np.arange(SHAPE[0]), "x": 500_000.0 + 30.0 * np.arange(SHAPE[1])}
    found = []
    for phase in spec.phases:
        number = TIMES.get((spec.name, phase), times)
        shape = (number, *SHAPE)
        first = np.datetime64("2023-06-01" if phase == "post" else "2022-01-01", "ns")
        when = {"time": first + np.arange(number) * np.timedelta64(12, "D")} if phase in PHASES else {}
        bands = (*spec.needs.get(phase, ()), *spec.optional.get(phase, ()))
        if phase in PHASES:
            rasters = {b: (("time", "y", "x"), field(rng, spec.sensor, shape, odd)) for b in bands}
            mask = np.where(rng.random(shape) < odd, rng.choice(BITS, shape), 0).astype("uint16")
            rasters["mask"] = (("time", "y", "x"), mask)
        else:
            rasters = {
                b: (("y", "x"), np.where(rng.random(SHAPE) < odd, np.nan, rng.uniform(0, 100, SHAPE)).astype("float32")) for b in bands
            }
        found.append(xr.Dataset(rasters, coords=coords | when))
    return found


def check(spec, got):
    extent, outputs = got.extent.values, {o.name: o for o in spec.outputs}
    roles = {c.value: c.role for c in outputs["extent"].classes}
    unobserved = np.array([v for v, role in roles.items() if role == "unobserved"])
    silent = np.isin(extent, unobserved)
    for name, output in outputs.items():
        block = got[name].values
        encode(output, block, Window(0, 0, *block.shape))
        if name in ("probability", "confidence"):
            np.testing.assert_array_equal(np.isnan(block), silent, err_msg=name)
    assert (got.qc.values[silent] != 0).all(), "nothing unseen without a reason"
    if spec.name in NO_EVENT:
        return
    # Seen land and water have an error too; what was excluded by height or as water may keep its own.
    event = np.isin(extent, [v for v, role in roles.items() if role in ("event", "reference")])
    assert np.isfinite(got.uncertainty.values[event]).all()
    assert (got.confidence.values[~silent] >= 0).all()


ALL = sorted(algorithms())


@pytest.mark.parametrize("name", ALL)
def test_every_event_has_a_probability_a_confidence_an_uncertainty_and_flags(name):
    outputs = {o.name: o for o in algorithms()[name].outputs}
    names_events = any(c.role == "event" for c in outputs["extent"].classes)
    assert names_events == (name not in NO_EVENT)
    assert set(outputs) >= {"extent", "qc"} | ({"probability", "confidence", "uncertainty"} if names_events else set())


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), odd=st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_products_can_be_stored_and_silence_has_a_reason(name, seed, odd):
    spec = algorithms()[name]
    check(spec, mdive.apply(name, *data(spec, np.random.default_rng(seed), odd)))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [np.nan, 0.0, 0.1])
def test_a_tile_of_one_number_alone(name, value):
    spec = algorithms()[name]
    phases = [
        d.map(lambda a: a.copy(data=np.full(a.shape, 0 if a.dtype == "uint16" else value, a.dtype)))
        for d in data(spec, np.random.default_rng(0), 0.0)
    ]
    got = mdive.apply(name, *phases)
    check(spec, got)
    roles = {c.value: c.role for c in spec.outputs[0].classes}
    said = {roles[v] for v in np.unique(got.extent)}
    # Without a number nothing is known; of one number all over, nothing is an event but what was drawn as one (none here).
    assert said == {"unobserved"} if np.isnan(value) or (spec.sensor == "sar" and value == 0.0) else "event" not in said


@pytest.mark.parametrize("name", ALL)
def test_one_observation_given_twice_counts_once(name):
    spec = algorithms()[name]
    once = data(spec, np.random.default_rng(7), 0.05, times=1)
    doubled = ("post",) if name in SAMPLES else PHASES
    twice = [xr.concat([d, d], "time") if phase in doubled else d for phase, d in zip(spec.phases, once, strict=True)]
    xr.testing.assert_identical(mdive.apply(name, *once), mdive.apply(name, *twice))
