"""What could not be read is named, counted, and never called anything else."""

import shutil

import numpy as np
import pytest
import rasterio

import mdive
from mdive.model import load_event
from mdive.products import read_ledger


def broken(flood, tmp_path, harm):
    folder = tmp_path / "catalogue"
    shutil.copytree(flood.made.catalog.parent, folder)
    plan = mdive.plan(flood.event, catalog=str(folder / flood.made.catalog.name), tile_size=150)
    post = next(s for s in plan.sources if s.phase == "post")
    harm(post.items[0].assets[post.bands[0]].href)
    return mdive.run(plan, tmp_path / "run"), post


def delete(href):
    from pathlib import Path

    Path(href).unlink()


def truncate(href):
    from pathlib import Path

    path = Path(href)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [delete, truncate])
def test_an_unreadable_scene_is_partial_and_never_dry(flood, tmp_path, harm):
    report, post = broken(flood, tmp_path, harm)
    assert report.status == "partial"
    ledger = (
        read_ledger(report.path("ledger")).to_pylist()
        if hasattr(read_ledger(report.path("ledger")), "to_pylist")
        else read_ledger(report.path("ledger"))
    )
    rows = ledger if isinstance(ledger, list) else ledger.to_dict("records")
    assert {r["item"] for r in rows} == {post.items[0].id}
    with rasterio.open(report.path("cause")) as dataset:
        cause = dataset.read(1)
    with rasterio.open(report.path("extent")) as dataset:
        extent = dataset.read(1)
    assert (cause == 3).sum() > 0
    assert set(np.unique(extent[cause == 3])) == {255}
    by_tile = {(r["tile"], r["source"]): r["pixels"] for r in rows}
    lost = sum(by_tile.values())
    with rasterio.open(report.path("cause")) as dataset:
        outside = (dataset.read(1) == 255).sum()
    assert (cause == 3).sum() <= lost <= (cause == 3).sum() + outside


def test_nothing_to_see_is_an_answer(cases, tmp_path):
    case = cases / "flood-paraguay-34417"
    plan = mdive.plan(load_event(case / "event.yaml"), catalog=str(case / "catalog.json"))
    report = mdive.run(plan, tmp_path / "run")
    assert report.decision == "not_observable"
    assert report.quality.observed_share == 0
    with rasterio.open(report.path("extent")) as dataset:
        assert set(np.unique(dataset.read(1))) == {255}
    assert len(report.features) == 0


def test_no_acquisition_at_all_gives_empty_products(flood, tmp_path):
    later = flood.event.model_copy(update={"window": mdive.TimeWindow(start="2035-01-01", end="2035-01-05")})
    report = mdive.run(mdive.plan(later, catalog=flood.catalog), tmp_path / "run")
    assert report.decision == "not_observable"
    with rasterio.open(report.path("cause")) as dataset:
        assert set(np.unique(dataset.read(1))) <= {1, 255}
