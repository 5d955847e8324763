"""Choose an algorithm and its sources from what the catalogue offers, and say why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mdive.engine.scenes import geometry_of
from mdive.errors import NoDataError
from mdive.model.event_class import EventClass, When
from mdive.model.plan import Observation, Phase, Reason, Source
from mdive.plugins import AlgorithmSpec
from mdive.plugins.declare import named_geometry, same_geometry
from mdive.providers import Candidates

ALIASES = {"nir08": "nir", "nir": "nir08"}
"""Bands that may stand in for one another: sensors with one near infrared call it either name."""

YEAR = 365.2425
MONTH = 30.0
"""Days. Within a month vegetation changes less than between two scenes of different cloud, so the clearer one goes first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen."""

    spec: AlgorithmSpec
    keys: dict[str, tuple[str, ...]]
    """Phase -> source keys."""
    sources: tuple[Source, ...]
    reasons: tuple[Reason, ...]

    def beside(self, source: Source) -> Choice:
        """Return the choice with one more source, of which its phase takes the bands that it lacks."""
        keys = {**self.keys, source.phase: (*self.keys.get(source.phase, ()), source.key)}
        return replace(self, keys=keys, sources=(*self.sources, source))


def choose(
    found: Candidates,
    recipe: Sequence[tuple[AlgorithmSpec, When | None]],
    catalog: str,
    windows: Mapping[Phase, tuple[datetime, datetime] | None],
    kind: EventClass | None = None,
) -> Choice:
    """Return the first step of the recipe that the candidates can serve.

    Parameters
    ----------
    found, catalog, windows
        What was found, where, and when.
    recipe
        Algorithms in the order of preference, with the conditions on what they are given.
    kind
        The event class: which earlier observations it prefers, and what it would need besides.

    Raises
    ------
    NoDataError
        If acquisitions were found and none of them serves any step.
    """
    reasons: list[Reason] = []
    lacking: list[str] = []
    for spec, when in recipe:
        picked, beside, lack = _pick(spec, found)
        lack = lack or _unmet(when, picked) or _paired(picked)
        if lack:
            lacking.append(f"{spec.name}: {lack}")
            reasons.append(Reason(topic="algorithm", text=f"not {spec.name}: {lack}."))
            continue
        reasons.append(Reason(topic="algorithm", text=f"{spec.name} {spec.version}: {spec.summary}"))
        if kind is not None and "pre" in picked and "post" in picked:
            picked["pre"] = preferred(picked["pre"], picked["post"], kind.baseline.prefer)
        sources = (*picked.values(), *beside)
        reasons.extend(_told(sources))
        reasons.extend(_lacking(kind, sources))
        reasons.extend(Reason(topic="rejected", text=str(r)) for r in found.rejected)
        return Choice(spec, {p: tuple(s.key for s in sources if s.phase == p) for p in picked}, sources, tuple(reasons))
    if any(s.phase == "post" for s in found.sources) or found.rejected:
        told = [str(r) for r in found.rejected[:1]] + [f"and {len(found.rejected) - 1} more"] * (len(found.rejected) > 1)
        detail = "; ".join([*lacking, *told])
        raise NoDataError(
            f"nothing that {catalog} offers for this area and time can be used: {detail}.",
            "Widen the window or the baseline, or try another --catalog; `mdive algorithms` tells what each algorithm needs.",
        )
    spec = recipe[0][0]
    post = windows["post"]
    span = f"{post[0]:%Y-%m-%d} to {post[1]:%Y-%m-%d}" if post else "the window"
    reasons.append(Reason(topic="sources", text=f"{catalog} has no acquisition of the area from {span}: nothing can be observed."))
    empty = {p: _nothing(spec, p) for p in spec.phases if p in spec.needs}
    return Choice(spec, {p: (s.key,) for p, s in empty.items()}, tuple(empty.values()), tuple(reasons))


def _pick(spec: AlgorithmSpec, found: Candidates) -> tuple[dict[str, Source], list[Source], str]:
    """Return the best source of each phase, cut down to the bands that the algorithm uses, those beside it, and what is lacking.

    What does not change with time need not come from one place: each static band is taken from the best source that has it.
    """
    offers: dict[str, list[Source]] = {}
    for phase in spec.phases:
        needs, optional = spec.needs.get(phase, ()), spec.optional.get(phase, ())
        offered = [s for s in found.sources if s.phase == phase and (phase == "static" or s.sensor == spec.sensor)]
        together = [s for s in offered if any(_band(s, b) for b in needs)] if phase == "static" else []
        complete = bool(needs) and all(any(_band(s, b) for s in together) for b in needs)
        fitting = together if complete else [s for s in offered if all(_band(s, b) for b in needs)]
        if phase not in spec.needs:
            fitting = [s for s in fitting if any(_band(s, b) for b in optional)]
        elif not offered:
            return {}, [], f"no {spec.sensor} acquisition for its {phase} phase"
        elif not fitting:
            missing = [b for b in needs if not any(_band(s, b) for s in offered)] or list(needs)
            return {}, [], f"the {phase} acquisitions lack the band {missing[0]!r} (they have {', '.join(offered[0].bands)})"
        if fitting:
            offers[phase] = fitting
    best = _best_name(spec, offers)
    picked: dict[str, Source] = {}
    beside: list[Source] = []
    for phase, fitting in offers.items():
        bands = [*spec.needs.get(phase, ()), *spec.optional.get(phase, ())]
        if phase != "static":
            picked[phase] = _trim(next((s for s in fitting if s.name == best), fitting[0]), bands)
            continue
        for source in (s for s in found.sources if s.phase == phase):
            if here := [b for b in bands if _band(source, b)]:
                trimmed = _trim(source, here)
                if picked.setdefault(phase, trimmed) is not trimmed:
                    beside.append(trimmed)
                bands = [b for b in bands if b not in here]
    return picked, beside, ""


def _best_name(spec: AlgorithmSpec, offers: Mapping[str, list[Source]]) -> str | None:
    """Return the source that serves all phases of the event best; None where no source serves all that the algorithm needs.

    Phases are compared pixel by pixel, so the same sensor before and after is worth more than the better one of each. What decides
    among several is the sum of their places in the phases' orders of preference, then the phase after the onset.
    """
    needed = [phase for phase in offers if phase in spec.needs and phase != "static"]
    places = {phase: {s.name: n for n, s in reversed(list(enumerate(offers[phase])))} for phase in needed}
    names = set.intersection(*(set(p) for p in places.values())) if places else set()
    ranked = sorted(names, key=lambda name: (sum(p[name] for p in places.values()), places.get("post", {}).get(name, 0), name))
    return ranked[0] if ranked else None


def _band(source: Source, name: str) -> str | None:
    if name in source.bands:
        return name
    other = ALIASES.get(name)
    return other if other is not None and other in source.bands else None


def _trim(source: Source, bands: Sequence[str]) -> Source:
    """Return a source with only these bands, under the names that the algorithm uses."""
    names = {b: found for b in dict.fromkeys(bands) if (found := _band(source, b)) is not None}
    quality = {source.mask.band: source.mask.band} if source.mask else {}
    items = tuple(
        item.model_copy(update={"assets": {b: item.assets[f] for b, f in {**names, **quality}.items() if f in item.assets}})
        for item in source.items
    )
    return source.model_copy(update={"bands": tuple(names), "items": items})


def _unmet(when: When | None, picked: Mapping[str, Source]) -> str:
    """Return which condition of a recipe's step does not hold; what the catalogue does not tell counts as met."""
    if when is None:
        return ""
    post = picked.get("post")
    if when.cloud_below is not None and post is not None:
        clouds = [o.properties.get("eo:cloud_cover") for o in post.observations]
        known = [float(c) for c in clouds if c is not None]
        if known and len(known) == len(clouds) and min(known) / 100 >= when.cloud_below:
            return f"every acquisition has {min(known):.0f} % cloud or more"
    if when.has_baseline is not None and when.has_baseline != ("pre" in picked):
        return "there is no acquisition before the onset" if when.has_baseline else "there is an acquisition before the onset"
    if when.same_orbit_pair is not None and post is not None:
        pre = picked.get("pre")
        flown = [{g for o in s.observations if (g := geometry_of(o))[0] is not None} if s else set() for s in (pre, post)]
        if when.same_orbit_pair != any(same_geometry(a, b) for a in flown[0] for b in flown[1]):
            return "there is no pair of acquisitions from one relative orbit" if when.same_orbit_pair else "there is a pair from one orbit"
    return ""


def _paired(picked: dict[str, Source]) -> str:
    """Leave only those earlier radar observations that some later one compares with; return what is lacking.

    Another orbit or flight direction looks at other sides of hills, houses and trees: that difference is no change. An observation whose
    orbit the catalogue does not tell counts as comparable here; `When.same_orbit_pair` asks for one that is told.
    """
    pre, post = picked.get("pre"), picked.get("post")
    if pre is None or post is None or pre.sensor != "sar" or post.sensor != "sar" or not (pre.observations and post.observations):
        return ""
    after = [geometry_of(o) for o in post.observations]
    seen = [o for o in pre.observations if any(same_geometry(geometry_of(o), g) for g in after)]
    if not seen:
        flown = " and ".join(sorted({named_geometry(g) for g in after}))
        return f"no acquisition before the onset is of the geometry of those after it, {flown}"
    picked["pre"] = _reduced(pre, seen)
    return ""


def _told(sources: Sequence[Source]) -> list[Reason]:
    told = []
    for source in sources:
        dates = ", ".join(f"{o.datetime:%Y-%m-%d}" for o in source.observations)
        items = len(source.items)
        told.append(
            Reason(
                topic=source.phase,
                text=f"{source.name}: {items} item{'s' if items != 1 else ''} in {len(source.observations)} observation(s): {dates}.",
            )
        )
    return told


def preferred(pre: Source, post: Source, rule: str) -> Source:
    """Return the earlier observations that a baseline rule prefers, in its order, with their items."""
    seen = list(pre.observations)
    if rule == "same_relative_orbit":
        orbits = {o.properties.get("sat:relative_orbit") for o in post.observations} - {None}
        seen = [o for o in seen if o.properties.get("sat:relative_orbit") in orbits] or seen
    elif rule == "same_season" and post.observations:
        after = post.observations[0].datetime
        seen.sort(key=lambda o: round(_season_days(o.datetime, after) / MONTH))
    return _reduced(pre, seen)


def _reduced(source: Source, seen: Sequence[Observation]) -> Source:
    """Return a source with only these observations, in this order, and their items."""
    named = {item for o in seen for item in o.items}
    return source.model_copy(update={"observations": tuple(seen), "items": tuple(i for i in source.items if i.id in named)})


def _season_days(one: datetime, other: datetime) -> float:
    days = abs((one - other).total_seconds()) / 86400 % YEAR
    return min(days, YEAR - days)


def _lacking(kind: EventClass | None, sources: Sequence[Source]) -> list[Reason]:
    """Return what the event class would like to have had, and what for."""
    return [
        Reason(topic="without", text=f"no {' or '.join(need.any_of)} for the {need.phase} phase: {need.why}.")
        for need in (kind.needs if kind is not None else ())
        if not any(source.phase == need.phase and source.sensor in need.any_of for source in sources)
    ]


def _nothing(spec: AlgorithmSpec, phase: str) -> Source:
    sensor: Any = spec.sensor if phase != "static" else "reference"
    return Source(name="none", phase=phase, sensor=sensor, bands=spec.needs[phase], observations=(), items=())
