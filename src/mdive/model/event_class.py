"""Event classes: what differs between hazards, as data. A file names algorithms, inputs and limits, never a Python path."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mdive.model.base import Document
from mdive.model.plan import Phase
from mdive.model.refusal import Refusal
from mdive.model.timewindow import Duration

Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""A name that is safe in paths, URLs and dotted names."""

AlgorithmName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$", max_length=128)]
"""``family.name`` of the registry: one dot at most and no colon, so that it can never be an import path."""

Term = Annotated[str, Field(min_length=1, max_length=64)]

Language = Literal["de", "en", "es", "fr", "it", "pt"]

InputKind = Literal["sar", "optical", "thermal", "elevation", "reference", "tide", "track"]
"""Kinds of input: the sensors of ``Source``, water levels of the sea, and tracks of weather systems."""

Share = Annotated[float, Field(ge=0, le=1)]


class Need(Document):
    """One input of a class."""

    any_of: Annotated[tuple[InputKind, ...], Field(min_length=1)]
    """One of these will do."""
    phase: Phase
    required: bool = True
    """False: it only makes the answer better."""
    why: str = ""
    """What it is for, in words for the planner's explanation."""


class BaselineRule(Document):
    """Where to look for the state before the event, when the event document does not say."""

    before: Duration
    """How far before the onset an observation still shows the state before."""
    prefer: Literal["latest", "same_relative_orbit", "same_season"] = "latest"
    """Which observations of several: the best ones; those of an orbit that also saw the state after (radar geometry), if there are any; or
    first those nearest to the same day of the year (phenology), by months."""


class When(Document):
    """Conditions on what the catalogue offers; all of those given must hold. What a catalogue does not tell counts as met."""

    cloud_below: Share | None = None
    """Some observation after the onset has less cloud than this share of its scene."""
    has_baseline: bool | None = None
    """There is (or is not) an observation before the onset."""
    same_orbit_pair: bool | None = None
    """There is (or is not) a pair from one relative orbit and flight direction, before and after the onset. The one exception: an orbit that a
    catalogue does not tell makes no pair."""


class Step(Document):
    """One entry of a recipe."""

    algorithm: AlgorithmName
    when: When = When()


class Limit(Document):
    """Below which share a result needs a look, and below which it is not published as an answer. Every measure is better when higher."""

    review: Share | None = None
    block: Share | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Limit:
        if self.review is not None and self.block is not None and self.block > self.review:
            raise Refusal(f"block ({self.block}) is above review ({self.review}).", "Blocking is the worse of the two: block <= review.")
        return self


class Significance(Document):
    """The smallest thing that is called an event; what is below either number is *no significant event*."""

    min_area_ha: Annotated[float, Field(ge=0)]
    """Hectares of the event's classes: below it, it may be one chance component of the minimum mapping unit."""
    min_share: Share
    """Share of the observed area: false alarms grow with the area that is searched, so the bar must grow with it too."""


class Codes(Document):
    """The same class in the glossaries of others."""

    glide: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    """Hazard code of the GLobal IDEntifier number (glidenumber.net)."""
    emdat: Annotated[str, Field(pattern=r"^(nat|tec)(-[a-z]{3}){3}$")] | None = None
    """Classification key of the EM-DAT hazard tree (doc.emdat.be)."""


class Words(Document):
    """What people call a class. Words tell classes apart, so they are never inherited."""

    title: Annotated[str, Field(min_length=1, max_length=80)]
    description: Annotated[str, Field(min_length=1)]
    synonyms: tuple[Term, ...] = ()
    """Other names that may stand in an event document; unique over all classes."""
    keywords: dict[Language, tuple[Term, ...]] = Field(default_factory=dict)
    """Words of reports and news that speak for the class, by language; they may be shared between classes."""


class Variant(Words):
    """A child as a file gives it: its words, and what differs from its parent. What is left out is inherited."""

    needs: tuple[Need, ...] | None = None
    baseline: BaselineRule | None = None
    recipe: tuple[Step, ...] | None = None
    products: tuple[Slug, ...] | None = None
    limits: dict[Slug, Limit] | None = None
    significance: Significance | None = None
    default_resolution: Annotated[float, Field(gt=0)] | None = None
    codes: Codes | None = None
    children: dict[Slug, Variant] = Field(default_factory=dict)


class EventClassFile(Words):
    """One file of ``event_classes/``: a class with all its traits, and its children."""

    id: Slug
    needs: tuple[Need, ...]
    baseline: BaselineRule
    recipe: tuple[Step, ...]
    """May be empty: a known class that no installed algorithm serves yet."""
    products: Annotated[tuple[Slug, ...], Field(min_length=1)]
    limits: dict[Slug, Limit]
    significance: Significance
    default_resolution: Annotated[float, Field(gt=0)]
    codes: Codes = Codes()
    children: dict[Slug, Variant] = Field(default_factory=dict)


class EventClass(Words):
    """A class with everything it inherits: what a planner reads."""

    name: str
    """``root.child``: the ids from the root down, joined by dots."""
    parent: str | None = None
    children: tuple[str, ...]
    """Full names, sorted."""
    needs: tuple[Need, ...]
    baseline: BaselineRule
    recipe: tuple[Step, ...]
    """In order of preference."""
    products: tuple[str, ...]
    limits: dict[str, Limit]
    """By the name of a quality measure."""
    significance: Significance
    default_resolution: float
    """Metres."""
    codes: Codes


_TRAITS = ("needs", "baseline", "recipe", "products", "significance", "default_resolution")
"""Replaced as a whole by a child that gives them; the tables ``limits`` and ``codes`` are merged entry by entry."""


def resolve(file: EventClassFile) -> dict[str, EventClass]:
    """Return the class of a file and all its descendants, each with everything it inherits.

    Returns
    -------
    dict
        Full name -> class, parents before children, children in the order of the file.
    """
    found: dict[str, EventClass] = {}

    def visit(name: str, given: EventClassFile | Variant, parent: EventClass | None) -> None:
        traits: dict[str, Any] = {}
        for trait in _TRAITS:
            own = getattr(given, trait)
            traits[trait] = getattr(parent, trait) if own is None else own
        traits["limits"] = {**(parent.limits if parent else {}), **(given.limits or {})}
        inherited = _given(parent.codes) if parent else {}
        traits["codes"] = Codes(**inherited | (_given(given.codes) if given.codes else {}))
        words = {field: getattr(given, field) for field in Words.model_fields}
        children = {f"{name}.{key}": child for key, child in given.children.items()}
        resolved = EventClass(name=name, parent=parent.name if parent else None, children=tuple(sorted(children)), **words, **traits)
        found[name] = resolved
        for child_name, child in children.items():
            visit(child_name, child, resolved)

    visit(file.id, file, None)
    return found


def _given(document: Document) -> dict[str, Any]:
    return document.model_dump(exclude_none=True)
