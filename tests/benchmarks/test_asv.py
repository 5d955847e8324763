"""What asv measures, on tiny events: each benchmark is called once, and its figure is what mdive says of the same job."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import mdive

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "benchmarks.py"


@pytest.fixture(scope="module")
def benchmarks():
    spec = importlib.util.spec_from_file_location("asv_benchmarks", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names_of(benchmark):
    return {name for name in dir(benchmark) if name.startswith(("time_", "timeraw_", "track_", "mem_", "peakmem_"))}


@pytest.mark.parametrize("source", ["files", "http"])
def test_a_run(benchmarks, source):
    sizes, sources = benchmarks.Run.params
    assert source in sources
    assert len(benchmarks.Run.param_names) == 2
    run, given = benchmarks.Run(), (2.0, source)
    run.setup(*given)
    try:
        found = {name: getattr(run, name)(*given) for name in sorted(names_of(run))}
        said = mdive.explain(run.plan)
        assert (run.folder / "run1" / "manifest.json").is_file()
    finally:
        run.teardown(*given)
    assert set(found) == {"time_run", "track_tasks", "track_requests", "track_bytes", "track_peak_mib"}
    assert (found["track_requests"], found["track_bytes"]) == (said.requests, said.bytes_over_network)
    assert (found["track_requests"] > 0) == (source == "http")
    assert said.tasks <= found["track_tasks"] <= 2 * said.tasks + 1
    assert 50 < found["track_peak_mib"] < 2000
    assert not run.folder.exists()


def test_peak_memory_and_its_ratio(benchmarks, monkeypatch):
    monkeypatch.setattr(benchmarks.Memory, "sizes_km", (2.0, 3.0))
    memory = benchmarks.Memory()
    assert names_of(memory) == {"track_peak_mib", "track_ratio_of_ten_times_the_area"}
    peaks = memory.setup_cache()
    assert memory.track_peak_mib(peaks) == peaks["3.0"] > 50
    assert 0.5 < memory.track_ratio_of_ten_times_the_area(peaks) < 2


def test_import_is_measured(benchmarks):
    benchmark = benchmarks.Import()
    assert names_of(benchmark) == {"time_import"}
    benchmark.time_import()


def test_each_class_is_tried_here(benchmarks):
    classes = {name for name, found in vars(benchmarks).items() if isinstance(found, type) and names_of(found)}
    assert classes == {"Run", "Memory", "Import"}
