"""A catalogue that offers the same scenes twice, under other names, changes no pixel and no area."""

import json
import shutil

import mdive


def test_scenes_offered_twice_count_once(flood, calm, tmp_path, shas):
    catalogue = shutil.copytree(flood.made.catalog.parent, tmp_path / "catalogue")
    doubled = 0
    for path in sorted(catalogue.glob("*.json")):
        raw = json.loads(path.read_text())
        if raw["type"] == "Collection":
            links = [{**link, "href": link["href"].replace("./", "./again-")} for link in raw["links"] if link["rel"] == "item"]
            path.write_text(json.dumps({**raw, "links": raw["links"] + links}))
        elif raw["type"] == "Feature":
            path.with_name(f"again-{path.name}").write_text(json.dumps({**raw, "id": f"again-{raw['id']}"}))
            doubled += 1
    plan = mdive.plan(flood.event, catalog=str(catalogue / flood.made.catalog.name), tile_size=128)
    assert plan.algorithm.name == calm.plan.algorithm.name
    assert sum(r.topic == "rejected" and "another processing" in r.text for r in plan.reasons) == doubled
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect("serial"))
    assert report.quality.headline == calm.report.quality.headline
    assert shas(report.folder) == calm.shas
