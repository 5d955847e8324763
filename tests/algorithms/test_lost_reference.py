"""A static layer that was planned and could not be read: water stays water, and says that nobody knows whether it is the usual one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

import mdive
from mdive.algorithms import flood_tables as flood
from mdive.model import load_event
from mdive.model.flags import QC_FLAGS
from mdive.testing import make_flood_event

UNKNOWN, FAILED = QC_FLAGS["insufficient_background"], QC_FLAGS["read_failure"]


@pytest.fixture(scope="module", params=["sar", "optical"])
def made(request, tmp_path_factory):
    return make_flood_event(
        tmp_path_factory.mktemp(request.param), seed=3, size_km=4.0, sensors=(request.param,), cloud=0.0, phases=("post",)
    )


def products(made, folder, harm=lambda path: None, tile_size=150):
    catalogue = folder / "catalogue"
    shutil.copytree(made.catalog.parent, catalogue, dirs_exist_ok=True)
    plan = mdive.plan(load_event(made.event), catalog=str(catalogue / made.catalog.name), tile_size=tile_size)
    static = next(s for s in plan.sources if "occurrence" in s.bands)
    harm(Path(static.items[0].assets["occurrence"].href))
    report = mdive.run(plan, folder / "run", runtime=mdive.connect("serial"))
    found = {}
    for name in ("extent", "probability", "confidence", "qc", "cause"):
        with rasterio.open(report.path(name)) as dataset:
            found[name] = dataset.read(1)
    return found, report.status


def delete(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path):
    path.write_bytes(b"II" + bytes(1000))


@pytest.mark.parametrize("harm", [delete, truncate, garble])
def test_permanent_water_does_not_silently_become_flood(made, tmp_path, harm):
    calm, status = products(made, tmp_path / "calm")
    assert status == "complete"
    assert not (calm["qc"] & UNKNOWN).any()
    lost, status = products(made, tmp_path / "lost", harm)
    assert status == "partial"

    became = (calm["extent"] == flood.PERMANENT_WATER) & (lost["extent"] == flood.FLOOD)
    assert became.sum() > 500, "nothing was lost: this tests nothing"
    doubtful = lost["qc"] & UNKNOWN != 0
    assert (lost["qc"][became] & UNKNOWN != 0).all()
    assert set(np.unique(lost["extent"][doubtful])) <= {flood.FLOOD, flood.PARTIAL_WATER}
    # Only where a part of the file still tells is there flood without doubt, and it is that of the undisturbed run.
    known = (lost["extent"] == flood.FLOOD) & ~doubtful
    assert (calm["extent"][known] == flood.FLOOD).all()
    if harm is not truncate:
        assert not known.any()

    # The stored confidence has steps of 1e-4.
    step = np.float32(1e-4)
    wet = doubtful & (calm["extent"] == lost["extent"])
    np.testing.assert_allclose(lost["confidence"][wet] * step, calm["confidence"][wet] * step / 2, atol=1e-4)
    assert (lost["confidence"][doubtful] * step <= 0.5 + 1e-6).all()
    # It was seen, it is water, and how probable that is has not changed.
    np.testing.assert_array_equal(lost["probability"], calm["probability"])
    np.testing.assert_array_equal(lost["cause"], calm["cause"])
    np.testing.assert_array_equal(lost["qc"] & FAILED, calm["qc"] & FAILED)


def test_an_event_without_a_reference_is_as_it_was(tmp_path):
    made = make_flood_event(tmp_path / "event", seed=3, size_km=4.0, static=(), phases=("post",))
    report = mdive.run(mdive.plan(load_event(made.event), catalog=str(made.catalog)), tmp_path / "run", runtime=mdive.connect("serial"))
    with rasterio.open(report.path("qc")) as dataset:
        assert not (dataset.read(1) & UNKNOWN).any()
    with rasterio.open(report.path("extent")) as dataset:
        assert (dataset.read(1) == flood.FLOOD).any()


def test_no_tiling_moves_what_was_lost(made, tmp_path):
    one, other = (products(made, tmp_path / str(size), delete, tile_size=size)[0] for size in (64, 1024))
    for name, raster in one.items():
        np.testing.assert_array_equal(other[name], raster, err_msg=name)
