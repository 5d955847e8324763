"""Which source serves which phase: the best one for the event as a whole, not the best of one phase."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mdive.engine.choice import choose, preferred
from mdive.errors import NoDataError
from mdive.model.plan import AssetRef, ItemRef, Observation, Source
from mdive.plugins import algorithm_spec, event_class
from mdive.providers import Candidates

WHEN = datetime(2024, 8, 1, tzinfo=UTC)
BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
WINDOWS = {"post": (WHEN, WHEN), "pre": (WHEN, WHEN), "static": None}


def source(name, phase, *, bands=BANDS, sensor="optical", cloud=None):
    assets = {b: AssetRef(href=f"/data/{name}-{phase}-{b}.tif") for b in bands}
    item = ItemRef(id=f"{name}-{phase}", collection=name, datetime=WHEN, geometry={"type": "Point", "coordinates": [0, 0]}, assets=assets)
    properties = {} if cloud is None else {"eo:cloud_cover": cloud}
    seen = Observation(id=item.id, datetime=WHEN, items=(item.id,), properties=properties)
    return Source(name=name, phase=phase, sensor=sensor, bands=bands, observations=(seen,), items=(item,))


def chosen(*sources, recipe=("wildfire.dnbr",)):
    found = Candidates(catalog="catalogue", sources=tuple(sources), facts={}, rejected=())
    choice = choose(found, [(algorithm_spec(name), None) for name in recipe], "catalogue", WINDOWS)
    return {s.phase: s.name for s in choice.sources}


def test_the_first_of_each_phase_where_they_agree():
    assert chosen(source("a", "pre"), source("b", "pre"), source("a", "post"), source("b", "post")) == {"pre": "a", "post": "a"}


def test_one_sensor_before_and_after_is_worth_more_than_the_better_of_each():
    assert chosen(source("a", "pre"), source("b", "pre"), source("b", "post")) == {"pre": "b", "post": "b"}


def test_a_good_scene_before_does_not_force_a_bad_one_after():
    """Both sensors serve both phases; one is first before, the other after: after the onset decides."""
    assert chosen(source("a", "pre"), source("b", "pre"), source("b", "post"), source("a", "post")) == {"pre": "b", "post": "b"}


def test_sensors_that_share_no_phase_are_better_than_nothing():
    assert chosen(source("a", "pre"), source("b", "post")) == {"pre": "a", "post": "b"}


def test_what_is_only_optional_does_not_decide():
    radar = {"bands": ("vv", "vh"), "sensor": "sar"}
    sources = [source("a", "pre", **radar), source("b", "post", **radar), source("a", "post", **radar)]
    assert chosen(*sources, recipe=("flood.sar_threshold",))["post"] == "b"


def test_what_is_lacking_is_named():
    with pytest.raises(NoDataError, match=r"lack the band 'swir22'"):
        chosen(source("a", "pre"), source("a", "post", bands=("green", "red", "nir08", "swir16")))
    with pytest.raises(NoDataError, match="no optical acquisition for its pre phase"):
        chosen(source("a", "post"))


def observed(name, *seen):
    """A source with observations at (days from ``WHEN``, relative orbit)."""
    one = source(name, "pre")
    items = tuple(
        one.items[0].model_copy(update={"id": f"i{n}", "datetime": WHEN + timedelta(days=days)}) for n, (days, _) in enumerate(seen)
    )
    observations = tuple(
        Observation(id=i.id, datetime=i.datetime, items=(i.id,), properties={"sat:relative_orbit": orbit})
        for i, (_, orbit) in zip(items, seen, strict=True)
    )
    return one.model_copy(update={"observations": observations, "items": items})


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("latest", ["i0", "i1", "i2", "i3"]),
        ("same_relative_orbit", ["i1", "i3"]),
        # A year ago is the same season; half a year ago is the other one; what is as near keeps its order.
        ("same_season", ["i0", "i3", "i2", "i1"]),
    ],
)
def test_which_earlier_observations_are_preferred(rule, left):
    pre = observed("a", (-10, 7), (-180, 15), (-70, 22), (-366, 15))
    post = observed("a", (0, 15))
    found = preferred(pre, post, rule)
    assert [o.id for o in found.observations] == left
    assert {i.id for i in found.items} == set(left)


def test_an_orbit_that_nobody_flew_before_leaves_all():
    pre = observed("a", (-10, 7), (-20, 22))
    assert preferred(pre, observed("a", (0, 15)), "same_relative_orbit") == pre


RADAR = {"bands": ("vv", "vh"), "sensor": "sar"}


def flown(source, *seen):
    """A source with observations of (relative orbit, flight direction)."""
    items = tuple(source.items[0].model_copy(update={"id": f"{source.phase}{n}"}) for n in range(len(seen)))
    told = [{k: v for k, v in (("sat:relative_orbit", o), ("sat:orbit_state", d)) if v is not None} for o, d in seen]
    observations = tuple(Observation(id=i.id, datetime=WHEN, items=(i.id,), properties=p) for i, p in zip(items, told, strict=True))
    return source.model_copy(update={"observations": observations, "items": items})


def by_recipe(pre, post, kind="flood"):
    found = Candidates(catalog="catalogue", sources=(*pre, *post), facts={}, rejected=())
    found_kind = event_class(kind)
    recipe = [(algorithm_spec(step.algorithm), step.when) for step in found_kind.recipe]
    return choose(found, recipe, "catalogue", WINDOWS, found_kind)


@pytest.mark.parametrize(
    ("before", "after", "algorithm"),
    [
        ([(15, "ascending")], [(15, "ascending")], "flood.sar_change"),
        ([(15, None)], [(15, "ascending")], "flood.sar_change"),
        ([(22, None), (15, None)], [(15, None)], "flood.sar_change"),
        ([(22, "ascending")], [(15, "ascending")], "flood.sar_threshold"),
        ([(15, "descending")], [(15, "ascending")], "flood.sar_threshold"),
        # An orbit that nobody tells makes no pair.
        ([(None, None)], [(15, "ascending")], "flood.sar_threshold"),
        ([(None, None)], [(None, None)], "flood.sar_threshold"),
    ],
)
def test_change_is_sought_where_one_geometry_saw_the_place_before_and_after(before, after, algorithm):
    choice = by_recipe([flown(source("s1", "pre", **RADAR), *before)], [flown(source("s1", "post", **RADAR), *after)])
    assert choice.spec.name == algorithm
    if algorithm == "flood.sar_threshold":
        assert any("one relative orbit" in r.text for r in choice.reasons)


def test_without_a_scene_before_the_scene_after_is_enough():
    assert by_recipe([], [flown(source("s1", "post", **RADAR), (15, None))]).spec.name == "flood.sar_threshold"


@pytest.mark.parametrize("kind", ["flood", "flood.snowmelt"])
def test_only_references_of_one_geometry_are_planned(kind):
    """Also where the season is preferred: no season makes another orbit comparable."""
    pre = flown(source("s1", "pre", **RADAR), (22, "ascending"), (15, "ascending"), (15, "descending"), (15, "ascending"))
    choice = by_recipe([pre], [flown(source("s1", "post", **RADAR), (15, "ascending"))], kind)
    before = next(s for s in choice.sources if s.phase == "pre")
    assert {o.id for o in before.observations} == {i.id for i in before.items} == {"pre1", "pre3"}


def test_a_forced_comparison_of_two_geometries_is_refused():
    sources = (flown(source("s1", "pre", **RADAR), (22, "ascending")), flown(source("s1", "post", **RADAR), (15, "ascending")))
    found = Candidates(catalog="catalogue", sources=sources, facts={}, rejected=())
    with pytest.raises(
        NoDataError, match="no acquisition before the onset is of the geometry of those after it, relative orbit 15 ascending"
    ):
        choose(found, [(algorithm_spec("flood.sar_change"), None)], "catalogue", WINDOWS)
