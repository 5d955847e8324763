"""Static bands that no catalogue offers are made by a run that goes first, on more ground, and are as exact and as honest as what is read."""

import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import xarray as xr
from shapely.geometry import box, mapping

import mdive
from mdive.cube import make_grid
from mdive.cube.failures import Unreadable
from mdive.cube.files import driver_for
from mdive.engine import planning
from mdive.engine.derive import derived_files, located, makers, native_metres, padded, within
from mdive.engine.ready import ready
from mdive.errors import InputError
from mdive.model import Area, load_event
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import AssetRef
from mdive.plugins.registry import algorithm_spec
from mdive.products import read_ledger, verify_products
from mdive.testing import make_flood_event

HAND = "derived/terrain.hand"
FLOOD = 1


@pytest.fixture(scope="module")
def wet(tmp_path_factory):
    """A flood whose catalogue has a DEM and the occurrence of water, each in a source of its own, and no HAND."""
    made = make_flood_event(tmp_path_factory.mktemp("wet"), seed=3, size_km=2.0, phases=("post",), static=("dem", "occurrence"))
    return SimpleNamespace(made=made, event=load_event(made.event), catalog=str(made.catalog))


@pytest.fixture(scope="module")
def plan(wet):
    return mdive.plan(wet.event, catalog=wet.catalog, tile_size=64)


@pytest.fixture(scope="module")
def report(plan, tmp_path_factory):
    return mdive.run(plan, tmp_path_factory.mktemp("run") / "out", runtime=mdive.connect("serial"))


def pixels(folder, name):
    with rasterio.open(Path(folder) / f"{name}.tif") as dataset:
        return dataset.read(1)


def test_the_plan_says_what_is_derived_from_what(plan):
    (made,) = plan.derived
    assert (made.algorithm.name, made.event_class["name"]) == ("terrain.hand", "terrain")
    assert made.algorithm.sources == {"static": ("synthetic-dem/static", "synthetic-occurrence/static")}
    assert plan.algorithm.sources["static"][-1] == "terrain.hand/static"
    assert {s.key: s.bands for s in plan.sources if s.phase == "static"}["terrain.hand/static"] == ("hand",)
    assert any(r.topic == "derived" and "hand by terrain.hand" in r.text for r in plan.reasons)
    assert mdive.Plan.model_validate_json(plan.model_dump_json()).identity == plan.identity


def test_explain_counts_both_runs(plan):
    whole, first, last = (mdive.explain(p) for p in (plan, made_by(plan), plan.model_copy(update={"derived": ()})))
    for measure in ("tasks", "blocks", "bytes_to_read", "disk", "core_seconds"):
        assert getattr(whole, measure) == getattr(first, measure) + getattr(last, measure)
    assert whole.peak_memory == max(first.peak_memory, last.peak_memory)
    assert whole.passes == (*first.passes, *last.passes)


def made_by(plan):
    return plan.derived[0]


def test_it_reaches_as_far_as_there_is_ground(plan):
    area, wider = (Area.model_validate(p.event["area"]).geometry for p in (plan, made_by(plan)))
    assert wider.area > 1.2 * area.area
    assert wider.contains(area)


def test_the_derived_raster_is_the_algorithm_applied_to_the_same_ground(report):
    made = made_by(report.plan)
    tree = mdive.load(made)
    static = xr.merge([node.to_dataset().drop_vars("mask") for node in tree.leaves])
    dem, occurrence = (static[name].isel(time=0, drop=True).compute() for name in ("dem", "occurrence"))
    asked = mdive.apply("terrain.hand", xr.Dataset({"dem": dem, "occurrence": occurrence}))
    found, inside = pixels(report.folder / HAND / "products", "hand"), pixels(report.folder / HAND / "products", "extent") != 255
    assert inside.mean() > 0.9
    np.testing.assert_array_equal(found[inside], asked.hand.values[inside])


def test_only_a_search_for_an_event_decides(report):
    pages = [(report.folder / place / "report.html").read_text() for place in ("", HAND)]
    assert ["<small>Decision</small>" in page for page in pages] == [True, False]
    assert ["Event area" in page for page in pages] == [True, False]


def test_it_decides_and_is_accounted_for(report, wet, tmp_path):
    assert (pixels(report.folder / "products", "extent") == 250).any()
    without = mdive.run(mdive.plan(wet.event, catalog=wet.catalog, tile_size=64, derive=False), tmp_path / "without")
    assert not (pixels(without.folder / "products", "extent") == 250).any()
    listed = {p.name: p.path for p in report.manifest.products}
    assert listed["terrain.hand manifest"] == f"{HAND}/manifest.json"
    assert listed["terrain.hand hand"] == f"{HAND}/products/hand.tif"
    inputs = json.loads((report.folder / "provenance.json").read_text())["inputs"]
    assert {i["band"] for i in inputs} >= {"dem", "occurrence", "vv", "vh"}
    assert "hand" not in {i["band"] for i in inputs}
    assert verify_products(report.folder, report.manifest.model_dump(mode="json")) == []


@pytest.mark.parametrize("size", [37, 150])
def test_any_tiling_gives_the_same_bits(plan, report, tmp_path, size, shas):
    cut = plan.model_copy(
        update={
            "tiling": plan.tiling.model_copy(update={"size": size}),
            "derived": tuple(p.model_copy(update={"tiling": p.tiling.model_copy(update={"size": size + 11})}) for p in plan.derived),
        }
    )
    assert cut.identity == plan.identity
    again = mdive.run(cut, tmp_path / "out")
    assert shas(again.folder) == shas(report.folder)
    assert shas(again.folder / HAND) == shas(report.folder / HAND)


def test_the_lazy_verbs_give_the_same_pixels(plan, report):
    lazy = mdive.analyse(plan)
    np.testing.assert_array_equal(lazy.extent.compute(scheduler="threads").values, pixels(report.folder / "products", "extent"))
    assert "terrain.hand" not in [node.path for node in mdive.load(plan).subtree]


@pytest.mark.parametrize("stopped", ["before", "in the derived run", "after the derived run"])
def test_a_stopped_run_is_finished_to_the_same_bytes(plan, report, tmp_path, shas, stopped):
    class Stop(Exception):
        pass

    def watch(progress):
        derived = progress.text.startswith("terrain.hand")
        at = {"before": True, "in the derived run": derived and progress.done > 30, "after the derived run": not derived}
        if at[stopped]:
            raise Stop

    with pytest.raises(Stop):
        mdive.run(plan, tmp_path / "out", runtime=mdive.connect("serial"), watch=watch)
    assert (tmp_path / "out" / HAND / "manifest.json").exists() == (stopped == "after the derived run")
    again = mdive.resume(tmp_path / "out")
    assert shas(again.folder) == shas(report.folder)


@pytest.mark.parametrize("hurt", ["a byte of the raster", "the manifest", "the plan", "another plan", "hardly begun"])
def test_a_derived_run_that_cannot_be_used_is_made_again(plan, report, tmp_path, shas, hurt):
    out = tmp_path / "out"
    shutil.copytree(report.folder, out)
    (out / "manifest.json").unlink()
    raster = out / HAND / "products" / "hand.tif"
    if hurt == "a byte of the raster":
        raster.write_bytes(raster.read_bytes()[:-1] + b"?")
    elif hurt == "the manifest":
        (out / HAND / "manifest.json").write_text("{")
    elif hurt == "the plan":
        (out / HAND / "plan.json").write_text("{")
    elif hurt == "another plan":
        (out / HAND / "plan.json").write_text(plan.model_dump_json())
    else:  # killed between its first two files
        shutil.rmtree(out / HAND)
        (out / HAND).mkdir()
        (out / HAND / "event.json").write_text("{}")
    again = mdive.resume(out)
    assert shas(again.folder) == shas(report.folder)
    assert verify_products(again.folder, again.manifest.model_dump(mode="json")) == []


def test_a_derived_run_that_is_whole_is_not_made_again(report, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(report.folder, out)
    (out / "manifest.json").unlink()
    before = (out / HAND / "manifest.json").stat().st_mtime_ns
    told = []
    mdive.resume(out, watch=told.append)
    assert (out / HAND / "manifest.json").stat().st_mtime_ns == before
    assert not any("terrain.hand" in progress.text for progress in told if progress.stage == "pass")


def test_nobody_takes_a_derived_run_for_a_map_of_the_event(plan, report):
    made, folder = made_by(plan), report.folder / HAND
    assert (made.event["event_class"], made.event["id"]) == ("terrain", f"{plan.event['id']}-terrain-hand")
    assert not any(made.event_class[field] for field in ("needs", "recipe", "synonyms", "keywords", "children", "codes"))
    assert json.loads((folder / "quality.json").read_text())["decision"] == "no_significant_event"
    item = json.loads((folder / "stac" / "item.json").read_text())
    assert item["properties"]["mdive:decision"] == "no_significant_event"
    assert item["properties"]["mdive:event_class"] == "terrain"
    assert item["properties"]["title"] == "Height above the nearest drainage"
    assert f'href="{HAND}/report.html"' in (report.folder / "report.html").read_text()


def test_checksums_are_asked_of_what_a_catalogue_offers_alone(plan, tmp_path):
    report = mdive.run(plan, tmp_path / "out", verify_inputs=True)
    (told,) = [r.text for r in report.plan.reasons if r.topic == "inputs"]
    files = {a.href for s in plan.sources for i in s.items for a in i.assets.values() if not a.href.startswith("derived:")}
    assert told.startswith(f"of {len(files)} files, ")


def test_what_tasks_carry_is_written_once_in_a_process_and_goes_with_it(plan, report):
    code = """
import pickle, sys
from pathlib import Path
prepared = pickle.load(sys.stdin.buffer)
first = prepared.here()
assert pickle.loads(pickle.dumps(prepared)).here() is first
path, = {a.href for s in first.sources for i in s.items for b, a in i.assets.items() if b == "hand"}
print(path, Path(path).stat().st_size)
"""
    prepared = ready(plan)
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(prepared), capture_output=True, check=True, timeout=60)
    path, size = done.stdout.decode().split()
    assert int(size) == (report.folder / HAND / "products" / "hand.tif").stat().st_size
    assert not Path(path).parents[3].exists()


def test_elevation_that_cannot_be_read_is_in_the_ledger_of_the_whole(wet, plan, tmp_path):
    copy = tmp_path / "event"
    shutil.copytree(wet.made.folder, copy)
    dem = copy / "terrain.tif"
    dem.write_bytes(dem.read_bytes()[: dem.stat().st_size // 2])
    catalog = copy / Path(wet.catalog).relative_to(wet.made.folder)
    report = mdive.run(mdive.plan(wet.event, catalog=str(catalog), tile_size=64), tmp_path / "out")
    rows = read_ledger(report.folder / "ledger.parquet")
    assert {(r["source"], r["band"]) for r in rows} >= {("synthetic-dem/static", "dem")}
    assert report.manifest.status == "partial"
    qc, extent = (pixels(report.folder / "products", name) for name in ("qc", "extent"))
    flagged = qc & QC_FLAGS["insufficient_background"] != 0
    assert flagged.any()
    assert set(np.unique(extent[flagged])) == {FLOOD}


def test_nothing_is_derived_where_it_is_offered_or_cannot_be_made(plan, wet):
    spec, sources = algorithm_spec("flood.sar_threshold"), plan.sources
    static = [s for s in sources if s.phase == "static"]
    dem = [s for s in static if s.bands == ("dem",)] or [static[0].model_copy(update={"bands": ("dem",)})]
    hand = next(s for s in static if s.bands == ("hand",))
    assert [maker.name for maker, _ in makers(spec, dem)] == ["terrain.hand"]
    assert makers(spec, [*dem, hand]) == []
    assert makers(spec, [s for s in static if s.bands == ("occurrence",)]) == []
    assert makers(spec, []) == []
    assert mdive.plan(wet.event, catalog=wet.catalog, derive=False).derived == ()


def test_ground_that_is_beyond_what_can_be_computed_is_no_reason_to_refuse_the_area(wet, monkeypatch):
    def refuse(*_):
        raise InputError("the ground is too large.", "Take less.")

    monkeypatch.setattr(planning, "native_metres", refuse)
    plan = mdive.plan(wet.event, catalog=wet.catalog)
    assert plan.derived == ()
    assert [r.text for r in plan.reasons if r.topic == "derived"] == ["no hand: the ground is too large."]


@pytest.mark.parametrize("south", [False, True])
@pytest.mark.parametrize("bounds", [(0.0, 89.5, 40.0, 89.95), (100.0, 89.9, 101.0, 89.99), (-180.0, 89.8, 180.0, 90.0)])
def test_a_pad_that_reaches_over_a_pole_is_the_cap_that_holds_it(bounds, south):
    west, low, east, high = bounds
    area = Area.from_bbox(west, -high, east, -low) if south else Area.from_bbox(*bounds)
    crs = make_grid(area.geometry, 100.0).crs
    wide = padded(area, crs, 20_000.0)
    assert wide.extent[::2] == (-180.0, 180.0)
    assert wide.extent[1 if south else 3] == (-90.0 if south else 90.0)
    assert wide.geometry.covers(area.geometry)
    before, after = (make_grid(a.geometry, 100.0, crs) for a in (area, wide))
    assert after.x0 <= before.x0 - 20_000.0
    assert after.y0 >= before.y0 + 20_000.0


def test_nothing_is_derived_where_nothing_can_be_observed(wet):
    later = wet.event.model_dump(mode="json", exclude_none=True) | {"window": {"start": "2024-05-10", "end": "2024-05-16"}}
    plan = mdive.plan(type(wet.event).model_validate(later), catalog=wet.catalog)
    assert not any(source.observations for source in plan.sources)
    assert plan.derived == ()


def test_pads_and_pixels():
    area = Area.from_bbox(10.0, 45.0, 10.1, 45.1)
    wide = padded(area, "EPSG:32632", 20_000.0)
    assert 47.5e3**2 < wide.area_m2 < 53.5e3**2
    assert wide.geometry.contains(area.geometry)
    over = padded(Area.from_bbox(179.95, -17.0, -179.95, -16.9), "EPSG:32701", 20_000.0)
    assert 45e3**2 < over.area_m2 < 55e3**2
    assert len(over.geometry.geoms) == 2

    def source(*assets):
        return SimpleNamespace(items=[SimpleNamespace(assets={"dem": a}, geometry=mapping(box(10, 45, 10.2, 45.2))) for a in assets])

    second = AssetRef(href="/dem.tif", crs="EPSG:4326", transform=(1 / 3600, 0, 10, 0, -1 / 3600, 46), shape=(10, 10))
    assert native_metres([source(second)], 10.0) == 30.0
    assert native_metres([source(second.model_copy(update={"transform": (1 / 1200, 0, 10, 0, -1 / 1200, 46)}))], 10.0) == 90.0
    assert native_metres([source(AssetRef(href="/dem.tif"))], 10.0) == 10.0
    for pixel in (12.5, 25.0, 40.0, 50.0):
        plane = AssetRef(href="/dem.tif", crs="EPSG:32632", transform=(pixel, 0, 5e5, 0, -pixel, 5e6), shape=(10, 10))
        assert native_metres([source(plane, second)], 5.0) == max(pixel, 30.0)
        assert native_metres([source(plane)], 5.0) == pixel
        turned = plane.model_copy(update={"transform": (0, pixel, 5e5, pixel, 0, 5e6)})
        assert native_metres([source(turned)], 5.0) == pixel
    assert native_metres([source(second)], 60.0) == 60.0
    part = within(wide, [source(second)])
    assert part is not None
    assert part.geometry.bounds == pytest.approx((10, 45, 10.2, 45.2))
    assert within(Area.from_bbox(0, 0, 1, 1), [source(second)]) is None


def test_a_catalogue_that_has_it_is_asked_for_it(wet, tmp_path):
    copy = tmp_path / "event"
    shutil.copytree(wet.made.folder, copy)
    path = copy / "synthetic-dem-2021.json"
    item = json.loads(path.read_text())
    item["assets"] = {"hand": item["assets"]["dem"] | {"bands": [b | {"name": "hand"} for b in item["assets"]["dem"].get("bands", ())]}}
    path.write_text(json.dumps(item))
    plan = mdive.plan(wet.event, catalog=str(copy / Path(wet.catalog).relative_to(wet.made.folder)))
    assert plan.derived == ()
    assert ("synthetic-dem/static", ("hand",)) in [(s.key, s.bands) for s in plan.sources]


def test_of_two_makers_mdives_own_is_taken(plan, monkeypatch):
    own = algorithm_spec("terrain.hand")
    other = dataclasses.replace(own, name="aaa.hand", package="other 1.0")
    monkeypatch.setattr("mdive.engine.derive.algorithms", lambda: {"aaa.hand": other, "terrain.hand": own})
    dem = [s.model_copy(update={"bands": ("dem",)}) for s in plan.sources if s.phase == "static"][:1]
    assert [maker.name for maker, _ in makers(algorithm_spec("flood.sar_threshold"), dem)] == ["terrain.hand"]


@pytest.mark.parametrize(
    "href",
    [
        "derived://x/../../../secret.tif",
        "derived:terrain.hand/../../secret.tif",
        "derived:/secret.tif#://",
        "derived:terrain.hand/products/../secret.tif",
    ],
)
def test_an_address_of_a_catalogue_never_becomes_a_path_by_looking_derived(plan, tmp_path, href):
    post = next(s for s in plan.sources if s.phase == "post")
    item = post.items[0]
    hostile = item.model_copy(update={"assets": {**item.assets, "vv": item.assets["vv"].model_copy(update={"href": href})}})
    given = plan.model_copy(update={"sources": tuple(s.model_copy(update={"items": (hostile,)}) if s is post else s for s in plan.sources)})
    found = {s.key: s for s in located(given, tmp_path).sources}
    assert found[post.key].items[0].assets["vv"].href == href
    hand = found["terrain.hand/static"].items[0].assets["hand"].href
    assert hand == str(tmp_path / HAND / "products" / "hand.tif")
    assert not any("secret" in name for name in derived_files(given))
    with pytest.raises(Unreadable, match="neither an absolute path"):
        driver_for(href)
