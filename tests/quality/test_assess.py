"""What a run says of itself follows from what it measured, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdive.model.event_class import Limit, Significance
from mdive.model.quality import ClassArea
from mdive.quality import Evidence, assess

LIMITS = {"observed_share": Limit(review=0.8, block=0.05)}
LEAST = Significance(min_area_ha=1.0, min_share=0.0005)


def evidence(event=2e6, reference=1e6, background=97e6, area=100e6, **more):
    names = (("affected", "event", event), ("known", "reference", reference), ("dry", "background", background))
    classes = [ClassArea(value=n, name=name, role=role, area_m2=size) for n, (name, role, size) in enumerate(names)]
    observed = event + reference + background
    fields = {
        "area_m2": area,
        "observed_m2": observed,
        "classes": classes,
        "low_m2": event * 0.9,
        "high_m2": event * 1.2,
        "unobserved": {"cloud": area - observed} if observed < area else {},
        "failed_reads": 0,
        "planned_reads": 10,
    }
    return Evidence(**{**fields, **more})


def status(quality, name):
    return next(c.status for c in quality.checks if c.name == name)


def test_a_good_run():
    quality = assess(evidence(), LIMITS, LEAST)
    assert (quality.decision, quality.grade) == ("event", "A")
    assert quality.headline.estimate_m2 == 2e6
    assert quality.observed_share == 1
    assert {c.status for c in quality.checks} == {"pass"}
    assert len(quality.reasons) == 1


@pytest.mark.parametrize(
    ("event", "area", "decision"),
    [
        (5e4 - 1, 100e6, "no_significant_event"),  # 0.05 % of 100 km²
        (5e4, 100e6, "event"),
        (1e4 - 1, 1e6, "no_significant_event"),  # 1 ha
        (1e4, 1e6, "event"),
        (0, 1e6, "no_significant_event"),
    ],
)
def test_what_is_significant(event, area, decision):
    quality = assess(evidence(event=event, reference=0, background=area - event, area=area), LIMITS, LEAST)
    assert quality.decision == decision


@pytest.mark.parametrize(
    ("share", "decision", "grade", "check"),
    [
        (0.0, "not_observable", "D", "block"),
        (0.049, "not_observable", "D", "block"),
        (0.051, "event", "B", "review"),
        (0.79, "event", "B", "review"),
        (0.81, "event", "A", "pass"),
    ],
)
def test_what_was_not_seen_is_no_answer(share, decision, grade, check):
    seen = 100e6 * share
    quality = assess(evidence(event=seen * 0.5, reference=0, background=seen * 0.5), LIMITS, LEAST)
    assert (quality.decision, quality.grade, status(quality, "observed_share")) == (decision, grade, check)


@pytest.mark.parametrize(("high", "check"), [(4e4, None), (6e4, "review"), (4e6, "review")])
def test_a_no_with_a_large_upper_bound_is_for_a_person_to_look_at(high, check):
    quality = assess(evidence(event=1e4, reference=0, background=100e6 - 1e4, low_m2=0, high_m2=high), LIMITS, LEAST)
    assert quality.decision == "no_significant_event"
    assert next((c.status for c in quality.checks if c.name == "upper_bound"), None) == check
    assert quality.grade == ("B" if check else "A")


def test_nothing_observed_needs_no_limit_to_be_not_observable():
    assert assess(evidence(event=0, reference=0, background=0), {}, LEAST).decision == "not_observable"


def test_an_event_is_weighed_against_what_was_observed():
    """A tenth of the area was seen; what is there is a large part of it."""
    least = Significance(min_area_ha=0, min_share=0.05)
    quality = assess(evidence(event=1e6, reference=0, background=9e6), LIMITS, least)
    assert quality.decision == "event"


def test_nothing_at_all_is_no_event_however_little_is_significant():
    least = Significance(min_area_ha=0, min_share=0)
    assert assess(evidence(event=0), {}, least).decision == "no_significant_event"
    assert assess(evidence(event=1.0), {}, least).decision == "event"


@pytest.mark.parametrize(("failed", "tolerated", "check"), [(0, 0.0, "pass"), (1, 0.0, "review"), (1, 0.1, "pass"), (2, 0.1, "review")])
def test_failed_reads(failed, tolerated, check):
    quality = assess(evidence(failed_reads=failed, tolerated_share=tolerated), LIMITS, LEAST)
    assert status(quality, "failed_reads") == check
    assert quality.grade == ("A" if check == "pass" else "B")


def test_each_doubt_lowers_the_grade_and_is_said():
    quality = assess(evidence(failed_reads=1, fallback_share=0.6), LIMITS, LEAST)
    assert quality.grade == "C"
    assert len(quality.reasons) == 3
    assert assess(replace(evidence(), fallback_share=0.5), LIMITS, LEAST).grade == "A"


@pytest.mark.parametrize(("found", "check"), [(0.95, "pass"), (0.9, "pass"), (0.89, "review"), (0.4, "block")])
def test_known_water_is_the_truth_that_every_scene_brings_along(found, check):
    limits = LIMITS | {"permanent_water_recall": Limit(review=0.9, block=0.5)}
    quality = assess(evidence(known_m2=1e6, recalled_m2=found * 1e6), limits, LEAST)
    assert status(quality, "permanent_water_recall") == check
    assert quality.grade == {"pass": "A", "review": "B", "block": "D"}[check]


def test_an_event_without_a_reference_may_have_been_so_before():
    quality = assess(evidence(unreferenced_m2=4e5), LIMITS, LEAST)
    assert status(quality, "reference") == "review"
    assert (quality.decision, quality.grade) == ("event", "B")
    assert any("0.40 km²" in reason for reason in quality.reasons)


def test_a_pond_says_nothing_about_a_method():
    limits = LIMITS | {"permanent_water_recall": Limit(review=0.9)}
    assert "permanent_water_recall" not in {c.name for c in assess(evidence(known_m2=9e3), limits, LEAST).checks}
    assert "permanent_water_recall" not in {c.name for c in assess(evidence(known_m2=9e5), LIMITS, LEAST).checks}


areas = st.floats(0, 1e12, allow_nan=False)


@given(areas, areas, areas, areas, areas, areas)
def test_any_measurement_gives_a_document(event, reference, background, hidden, low, high):
    given_ = evidence(event, reference, background, event + reference + background + hidden, low_m2=low, high_m2=high)
    quality = assess(given_, LIMITS, LEAST)
    assert quality.headline.low_m2 <= quality.headline.estimate_m2 <= quality.headline.high_m2
    assert 0 <= quality.observed_share <= 1
    assert (quality.decision == "not_observable") == (quality.observed_share < 0.05)
    if quality.decision == "not_observable":
        assert quality.grade == "D"
