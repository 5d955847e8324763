"""Judge a result from its areas and its reads: checks, grade, decision. Knows numbers and limits, no rasters and no hazards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mdive.model.event_class import Limit, Significance
from mdive.model.fields import Decision
from mdive.model.quality import Check, ClassArea, Grade, Headline, Quality

LOW_PROBABILITY = 0.84
HIGH_PROBABILITY = 0.16
"""Bounds of the headline: one standard deviation either side of the decision (the normal distribution holds 0.16 and 0.84 there). All pixels are
taken to err together, which they do not quite: of 200 synthetic floods the true area lies within [low, high] in 195."""

FAILED_READS = "failed_reads"
"""Name of the check whose failure makes a run partial."""

RECALL = "permanent_water_recall"
"""Name of the check that needs no truth: water that has always been there is known, and a method that misses it misses more."""

FALLBACK_REVIEW = 0.5
"""Share of the observed area above which a method that fell back on its defaults is for a person to look at: it decided most of the map."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run measured about itself. Areas in m²."""

    area_m2: float
    observed_m2: float
    classes: Sequence[ClassArea]
    low_m2: float
    high_m2: float
    unobserved: Mapping[str, float]
    failed_reads: int
    planned_reads: int
    tolerated_share: float = 0.0
    """Share of the planned reads that may fail before the result is partial."""
    fallback_share: float = 0.0
    """Share of the observed area that carries a flag of a method's fallback."""
    unreferenced_m2: float = 0.0
    """Area of the event's classes where what was there before is not known, because the reference could not be read."""
    known_m2: float = 0.0
    """Observed area that was known beforehand to be what the method looks for (water that has always been there)."""
    recalled_m2: float = 0.0
    """That part of it which the method found."""


def assess(evidence: Evidence, limits: Mapping[str, Limit], significance: Significance) -> Quality:
    """Return the quality document of a run.

    Parameters
    ----------
    evidence
        What was measured.
    limits
        The event class's limits by measure; ``observed_share`` and ``permanent_water_recall`` are known here.
    significance
        The smallest thing that is called an event.
    """
    event = sum(c.area_m2 for c in evidence.classes if c.role == "event")
    share = min(1.0, evidence.observed_m2 / evidence.area_m2) if evidence.area_m2 else 0.0
    checks = [_observed(share, limits.get("observed_share", Limit())), _reads(evidence), _method(evidence)]
    if evidence.unreferenced_m2 > 0:
        text = f"On {evidence.unreferenced_m2 / 1e6:.2f} km² of the event the reference could not be read: it may have been so before."
        checks.append(Check(name="reference", status="review", value=evidence.unreferenced_m2, limit=0.0, text=text))
    if RECALL in limits and evidence.known_m2 >= significance.min_area_ha * 1e4 and evidence.known_m2 > 0:
        checks.append(_recall(evidence, limits[RECALL]))
    least = max(significance.min_area_ha * 1e4, significance.min_share * evidence.observed_m2)
    if event < least <= evidence.high_m2:
        checks.append(_doubt(evidence.high_m2, least))
    decision, why = _decide(event, evidence.observed_m2, share, limits.get("observed_share", Limit()), least)
    grade = _grade(checks, decision)
    return Quality(
        area_m2=evidence.area_m2,
        observed_share=share,
        classes=tuple(evidence.classes),
        headline=Headline(low_m2=min(evidence.low_m2, event), estimate_m2=event, high_m2=max(evidence.high_m2, event)),
        unobserved=dict(evidence.unobserved),
        checks=tuple(checks),
        grade=grade,
        decision=decision,
        reasons=(why, *(c.text for c in checks if c.status != "pass")),
    )


def _observed(share: float, limit: Limit) -> Check:
    text = f"{share:.1%} of the area was observed."
    if share == 0 or (limit.block is not None and share < limit.block):
        return Check(name="observed_share", status="block", value=share, limit=limit.block, text=text)
    if limit.review is not None and share < limit.review:
        return Check(name="observed_share", status="review", value=share, limit=limit.review, text=text)
    return Check(name="observed_share", status="pass", value=share, limit=limit.review, text=text)


def _reads(evidence: Evidence) -> Check:
    failed, planned = evidence.failed_reads, evidence.planned_reads
    share = failed / planned if planned else 0.0
    text = f"{failed} of {planned} reads failed; the ledger names them." if failed else "Everything that was planned could be read."
    status: Literal["pass", "review"] = "review" if share > evidence.tolerated_share else "pass"
    return Check(name=FAILED_READS, status=status, value=share, limit=evidence.tolerated_share, text=text)


def _method(evidence: Evidence) -> Check:
    share = evidence.fallback_share
    text = (
        f"On {share:.0%} of what was observed the method had to fall back on its defaults." if share else "The method found what it needed."
    )
    return Check(
        name="method_fallback", status="review" if share > FALLBACK_REVIEW else "pass", value=share, limit=FALLBACK_REVIEW, text=text
    )


def _recall(evidence: Evidence, limit: Limit) -> Check:
    share = min(1.0, evidence.recalled_m2 / evidence.known_m2)
    text = f"The method found {share:.0%} of {evidence.known_m2 / 1e6:.2f} km² that are known to be permanent water."
    if limit.block is not None and share < limit.block:
        return Check(name=RECALL, status="block", value=share, limit=limit.block, text=text)
    status: Literal["pass", "review"] = "review" if limit.review is not None and share < limit.review else "pass"
    return Check(name=RECALL, status=status, value=share, limit=limit.review, text=text)


def _doubt(high: float, least: float) -> Check:
    """Return the check of a *no*: its upper bound must be insignificant as well."""
    text = f"Up to {high / 1e6:.2f} km² may be the event after all: too much for a plain no (significant is {least / 1e4:.2f} ha)."
    return Check(name="upper_bound", status="review", value=high, limit=least, text=text)


def _decide(event: float, observed: float, share: float, limit: Limit, least: float) -> tuple[Decision, str]:
    if share == 0:
        return "not_observable", "Nothing of the area could be observed."
    if limit.block is not None and share < limit.block:
        return "not_observable", f"Only {share:.1%} of the area could be observed; at least {limit.block:.0%} is needed for an answer."
    if event == least == 0:
        return "no_significant_event", "Nothing of what was observed is of the event's classes."
    if event < least:
        return (
            "no_significant_event",
            f"The event's classes cover {event / 1e4:.2f} ha, less than the {least / 1e4:.2f} ha that would be significant here.",
        )
    return "event", f"The event's classes cover {event / 1e6:.2f} km², {event / observed:.1%} of what was observed."


def _grade(checks: Sequence[Check], decision: Decision) -> Grade:
    reviews = sum(c.status == "review" for c in checks)
    if decision == "not_observable" or any(c.status == "block" for c in checks):
        return "D"
    return "A" if reviews == 0 else "B" if reviews == 1 else "C"
