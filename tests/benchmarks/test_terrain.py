"""The terrain benchmark on a tiny DEM: it runs, measures, and its DEMs are what they are called."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import mdive
from mdive.algorithms.terrain_direction import OUTLET, steepest_descent
from mdive.algorithms.terrain_fill import filled


@pytest.fixture(scope="module")
def terrain():
    # As asv does: the repository is on sys.path.
    root = str(Path(__file__).resolve().parents[2])
    sys.path.insert(0, root)
    try:
        from benchmarks import terrain
    finally:
        sys.path.remove(root)
    return terrain


@pytest.fixture(scope="module")
def dems(terrain):
    return sys.modules["benchmarks.terrain_dem"]


def read(path, edge):
    return np.fromfile(path, "float32").reshape(edge, edge)


def test_dems_are_rough_or_flat_and_do_not_depend_on_how_they_are_made(dems, tmp_path, monkeypatch):
    dems.write_dem(tmp_path / "rough", 300)
    dems.write_dem(tmp_path / "flat", 300, flat=True)
    rough, flat = read(tmp_path / "rough", 300), read(tmp_path / "flat", 300)
    assert np.ptp(rough) > 50
    assert len(np.unique(rough)) > 50_000
    assert (flat == np.rint(flat)).all()
    level = [(steepest_descent(filled(z)) > OUTLET).mean() for z in (rough, flat)]
    assert level[0] < 0.5 < level[1]
    monkeypatch.setattr(dems, "STRIP", 7)
    dems.write_dem(tmp_path / "again", 300)
    np.testing.assert_array_equal(read(tmp_path / "again", 300), rough)


def test_each_figure_is_tracked(terrain, monkeypatch):
    monkeypatch.setattr(terrain.Terrain, "params", ([0.01], ["flat"]))
    benchmark = terrain.Terrain()
    found = benchmark.setup_cache()
    for ground in benchmark.params[1]:
        assert 0 < benchmark.track_seconds(found, 0.01, ground) < 60
        assert 50 < benchmark.track_peak_mib(found, 0.01, ground) < 2000
    assert {n for n in dir(benchmark) if n.startswith(("time_", "track_", "peakmem_"))} == {"track_seconds", "track_peak_mib"}


def hand_of(height, pixels):
    edge = len(height)
    steps = 30.0 * (np.arange(edge) + 0.5)
    dem = xr.DataArray(height, dims=("y", "x"), coords={"y": 30.0 * edge - steps, "x": 5e5 + steps})
    return mdive.apply("terrain.hand", xr.Dataset({"dem": dem}), drain_area=pixels * 900e-6)["hand"].values


def test_what_is_measured_is_hand(terrain, dems, tmp_path, monkeypatch):
    monkeypatch.setattr(terrain, "DRAIN", 50)
    dem, edge = tmp_path / "dem", 100
    dems.write_dem(dem, edge)
    taken = terrain.run_apart("mdive", dem, tile=37, out=tmp_path / "hand")
    assert 0 < taken.seconds < 60
    assert 0 < taken.cpu < 60
    np.testing.assert_array_equal(read(tmp_path / "hand", edge), hand_of(read(dem, edge), 50))


def test_the_engine_runs_the_same_dem_to_the_same_hand(terrain, dems, tmp_path, monkeypatch):
    import rasterio

    edge, kept = 400, []
    dems.write_dem(tmp_path / "dem", edge)
    event = dems.write_event(tmp_path, edge)

    def measured(command, **options):
        cost = measure(command, **options)
        with rasterio.open(options["cwd"] / "out" / "products" / "hand.tif") as file:
            kept.append(file.read(1))
        return cost

    measure = terrain.measure
    monkeypatch.setattr(terrain, "measure", measured)
    taken = terrain.run_engine(tmp_path, event)
    assert taken.peak > 50
    np.testing.assert_array_equal(kept[0], hand_of(read(tmp_path / "dem", edge), 1000))


def test_without_peers_mdive_alone_is_measured(terrain, monkeypatch, capsys):
    monkeypatch.delenv("MDIVE_PEERS_PYTHON", raising=False)
    monkeypatch.setattr(terrain, "run_apart", lambda *_, **__: terrain.Taken(1.0, 2.0, 100.0))
    monkeypatch.setattr(sys, "argv", ["terrain", "--megapixels", "0.01", "--ground", "flat", "--programs", "mdive", "pysheds"])
    assert terrain.main() == 0
    out, err = capsys.readouterr()
    assert "MDIVE_PEERS_PYTHON" in err
    assert [line.split(" | ")[2] for line in out.splitlines()[2:]] == ["mdive"]
