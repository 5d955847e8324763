"""What could not be read is named, counted, and never called anything else."""

import shutil
from pathlib import Path

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


def read(report, name):
    with rasterio.open(report.path(name)) as dataset:
        return dataset.read(1)


def delete(href):
    Path(href).unlink()


def truncate(href):
    path = Path(href)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [delete, truncate])
def test_an_unreadable_scene_is_partial_and_never_dry(flood, tmp_path, harm):
    report, post = broken(flood, tmp_path, harm)
    assert report.status == "partial"
    rows = read_ledger(report.path("ledger"))
    assert {r["item"] for r in rows} == {post.items[0].id}
    cause, extent = (read(report, name) for name in ("cause", "extent"))
    lost = int((cause == 3).sum())
    assert lost > 0
    assert set(np.unique(extent[cause == 3])) == {255}
    # Count for count, in all and tile by tile: every pixel of the cause raster is in one row of the band that failed.
    assert sum(r["pixels"] for r in rows) == lost
    for row in rows:
        tile = cause[row["row"] : row["row"] + row["height"], row["col"] : row["col"] + row["width"]]
        assert row["pixels"] == (tile == 3).sum()
    assert report.quality.unobserved["read_failure"] == pytest.approx(lost * report.plan.grid.resolution**2, rel=2e-3)


def test_what_another_observation_saw_is_not_lost(flood, tmp_path):
    """The static source fails: the map stands, and the ledger still says what was missing."""
    folder = tmp_path / "catalogue"
    shutil.copytree(flood.made.catalog.parent, folder)
    plan = mdive.plan(flood.event, catalog=str(folder / flood.made.catalog.name), tile_size=150)
    static = next(s for s in plan.sources if s.phase == "static")
    delete(static.items[0].assets[static.bands[0]].href)
    report = mdive.run(plan, tmp_path / "run")
    assert report.status == "partial"
    assert {r["source"] for r in read_ledger(report.path("ledger"))} == {static.key}
    assert not (read(report, "cause") == 3).any()
    assert {c.name for c in report.quality.checks if c.status == "review"} >= {"failed_reads", "reference"}
    assert report.quality.grade == "C"


@pytest.mark.parametrize(("times", "status"), [(0.9, "partial"), (1.1, "complete")])
def test_an_event_may_tolerate_failed_reads_but_not_hide_them(flood, tmp_path, times, status):
    """One raster is gone; so many times its share of all is tolerated."""
    folder = tmp_path / "catalogue"
    shutil.copytree(flood.made.catalog.parent, folder)
    catalog = str(folder / flood.made.catalog.name)
    rasters = sum(len(i.assets) for s in mdive.plan(flood.event, catalog=catalog).sources for i in s.items)
    event = flood.event.model_copy(update={"intent": flood.event.intent.model_copy(update={"max_failed_fraction": times / rasters})})
    plan = mdive.plan(event, catalog=catalog)
    delete(next(s for s in plan.sources if s.phase == "post").items[0].assets["vv"].href)
    report = mdive.run(plan, tmp_path / "run")
    assert report.status == status
    assert len(read_ledger(report.path("ledger"))) > 0
    assert (read(report, "cause") == 3).any()


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
