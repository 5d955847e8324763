"""The same bits of every product for any tiling, runtime, number of workers and order of items."""

import json
import random

import dask
import numpy as np
import pytest
import rasterio

import mdive
from mdive.model import load_event


@pytest.mark.parametrize(("size", "runtime", "workers"), [(64, "threads", 4), (100, "serial", None), (1024, "threads", 1)])
def test_tiles_and_workers_change_nothing(flood, calm, shas, tmp_path, size, runtime, workers):
    plan = mdive.plan(flood.event, catalog=flood.catalog, tile_size=size)
    assert plan.identity == calm.plan.identity
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect(runtime, workers=workers))
    assert shas(report.folder) == calm.shas


def test_a_reduction_and_two_phases_are_exact_too(fire, shas, tmp_path):
    found = []
    for size in (90, 1024):
        plan = mdive.plan(fire.event, catalog=fire.catalog, tile_size=size)
        found.append(shas(mdive.run(plan, tmp_path / str(size)).folder))
    assert found[0] == found[1]


def test_analyse_equals_run(scene, tmp_path):
    plan = mdive.plan(scene.event, catalog=scene.catalog, tile_size=150)
    report = mdive.run(plan, tmp_path / "run")
    with dask.config.set(scheduler=lambda *a, **k: pytest.fail("computed while the graph was built")):
        lazy = mdive.analyse(plan)
        repr(lazy)
    eager = lazy.compute(scheduler="threads")
    for name in ("extent", "qc", "cause"):
        with rasterio.open(report.path(name)) as dataset:
            np.testing.assert_array_equal(dataset.read(1), eager[name], err_msg=name)
    with rasterio.open(report.path("probability")) as dataset:
        stored = np.where(dataset.read(1) == dataset.nodata, np.nan, dataset.read(1) * dataset.scales[0])
    np.testing.assert_allclose(stored, eager["probability"], atol=dataset.scales[0])


def test_analyse_makes_few_tasks(flood):
    plan = mdive.plan(flood.event, catalog=flood.catalog, tile_size=64)
    lazy = mdive.analyse(plan)
    cost = mdive.explain(plan)
    assert len(dict(lazy["extent"].__dask_graph__())) <= 2 * cost.tasks


def test_one_pass_makes_two_tasks_a_tile(cases):
    """Its evaluation and its product, and one key for the plan that all of them share."""
    case = cases / "water-louisiana"
    plan = mdive.plan(load_event(case / "event.yaml"), catalog=str(case / "catalog.json"), tile_size=256)
    lazy = mdive.analyse(plan)
    tasks = mdive.explain(plan).tasks
    assert tasks == 16
    for name in lazy:
        assert len(dict(lazy[name].__dask_graph__())) <= 2 * tasks + 1


def test_the_order_of_items_changes_nothing(flood, calm, tmp_path):
    import shutil

    folder = tmp_path / "catalogue"
    shutil.copytree(flood.made.catalog.parent, folder)
    for path in folder.rglob("*.json"):
        document = json.loads(path.read_text())
        if "links" in document:
            random.Random(5).shuffle(document["links"])
            path.write_text(json.dumps(document))
    plan = mdive.plan(flood.event, catalog=str(folder / flood.made.catalog.name), tile_size=128)
    assert [s.model_dump(exclude={"items"}) for s in plan.sources] == [s.model_dump(exclude={"items"}) for s in calm.plan.sources]
    assert [i.id for s in plan.sources for i in s.items] == [i.id for s in calm.plan.sources for i in s.items]


def test_the_maps_are_right(flood, fire, calm, tmp_path):
    from mdive.testing import score

    assert score(flood.made.truth, calm.report.path("extent")).f1 >= 0.9
    burned = mdive.run(mdive.plan(fire.event, catalog=fire.catalog), tmp_path / "run")
    assert score(fire.made.truth, burned.path("extent")).f1 >= 0.9


@pytest.mark.parametrize("size", [256, 500, 4096])
def test_a_warped_real_scene_is_exact(cases, shas, tmp_path, size):
    case = cases / "flood-usa-905409"
    event = load_event(case / "event.yaml")
    plans = [mdive.plan(event, catalog=str(case / "catalog.json"), tile_size=s) for s in (333, size)]
    a, b = (shas(mdive.run(p, tmp_path / str(i)).folder) for i, p in enumerate(plans))
    assert a == b
