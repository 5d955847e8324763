"""A band that was seen at larger pixels than those of the map is named in the plan: resampling adds pixels, and nothing to see on them."""

import json
import shutil
from types import SimpleNamespace

import pytest

import mdive
from mdive.model import load_event
from mdive.testing import make_flood_event


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_flood_event(tmp_path_factory.mktemp("event"), seed=3, size_km=4.0, sensors=("optical",), phases=("post",))


@pytest.fixture
def offered(made, tmp_path):
    """``offered(bands, times)``: the event, and a catalogue in which some bands have pixels so many times as large."""

    def change(bands=(), times=1, crs=None):
        folder = shutil.copytree(made.catalog.parent, tmp_path / "catalogue", dirs_exist_ok=True)
        for path in folder.glob("*.json"):
            item = json.loads(path.read_text())
            for name, asset in item.get("assets", {}).items():
                if name in bands and "proj:transform" in asset:
                    a, b, c, d, e, f = asset["proj:transform"]
                    asset["proj:transform"] = [a * times, b, c, d, e * times, f]
                    asset["proj:shape"] = [n // times for n in asset["proj:shape"]]
                    asset |= {"proj:code": crs} if crs else {}
            path.write_text(json.dumps(item))
        return SimpleNamespace(event=load_event(made.event), catalog=str(folder / made.catalog.name))

    return change


def told(offer, **intent):
    event = offer.event.model_copy(update={"intent": offer.event.intent.model_copy(update=intent)})
    return [r.text for r in mdive.plan(event, catalog=offer.catalog).reasons if r.topic == "resolution"]


def test_short_waves_of_20_m_are_not_claimed_as_10_m(offered):
    found = told(offered(("nir08", "swir16", "swir22"), 2))
    assert found == ["synthetic-optical: nir08, swir16, swir22 at 20 m; on pixels of 10 m these are repeated or interpolated."]


@pytest.mark.parametrize(("resolution", "bands"), [(None, []), (20.0, []), (60.0, []), (5.0, ["red", "occurrence"])])
def test_only_what_was_seen_coarser_is_told(offered, resolution, bands):
    found = told(offered(), **({} if resolution is None else {"resolution": resolution}))
    assert len(found) == len(bands)
    for text, band in zip(found, bands, strict=True):
        assert band in text
        assert "at 10 m; on pixels of 5 m" in text


def test_what_the_catalogue_does_not_tell_is_not_made_up(offered):
    assert told(offered(("swir16",), 2, crs="EPSG:999999")) == []
