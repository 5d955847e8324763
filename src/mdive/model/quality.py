"""How good a result is (``quality.json``): what was seen, how sure the headline is, which checks passed, and what follows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mdive.model.base import Document
from mdive.model.fields import Decision, Share, SquareMetres
from mdive.model.product import Role
from mdive.model.refusal import Refusal

Grade = Literal["A", "B", "C", "D"]
"""A: use as it is; B: use with the stated limits; C: look at it first; D: do not decide on it."""


class ClassArea(Document):
    """Area of one class of the class raster."""

    value: int
    """Number in the raster."""
    name: str
    """Word of the class table."""
    role: Role
    """What the class means to a decision."""
    area_m2: SquareMetres
    """Area in m² on the ellipsoid."""


class Headline(Document):
    """The one number people will quote, with its bounds."""

    low_m2: SquareMetres
    """Area in m² that is the event even if every doubtful pixel is not."""
    estimate_m2: SquareMetres
    """Best estimate in m²."""
    high_m2: SquareMetres
    """Area in m² if every doubtful pixel is the event."""

    @model_validator(mode="after")
    def _check_order(self) -> Headline:
        if not self.low_m2 <= self.estimate_m2 <= self.high_m2:
            given = f"{self.low_m2:g}, {self.estimate_m2:g}, {self.high_m2:g}"
            raise Refusal(f"the headline is out of order: {given}.", "low_m2 <= estimate_m2 <= high_m2 must hold.")
        return self


class Check(Document):
    """One test of the result."""

    name: str
    """Name of the check."""
    status: Literal["pass", "review", "block"]
    """``pass``; ``review``: a person should look; ``block``: the result must not be used for a decision."""
    value: float | None = None
    """What was measured."""
    limit: float | None = None
    """What it was held against."""
    text: str
    """One sentence for people."""


class Quality(Document):
    """What is known about how good a result is."""

    version: Literal[1] = 1
    """Version of this form."""
    area_m2: SquareMetres
    """Area of interest in m²."""
    observed_share: Share
    """Share (0 to 1) of the area of interest that was seen."""
    classes: tuple[ClassArea, ...]
    """Area of each class in m²."""
    headline: Headline
    """Area of the event: low, estimate and high in m²."""
    unobserved: dict[str, SquareMetres] = Field(default_factory=dict)
    """Area in m² that was not seen, by cause."""
    checks: tuple[Check, ...] = ()
    """Tests of the result, in the order they were made."""
    grade: Grade
    """A (use as it is) to D (do not decide on it)."""
    decision: Decision
    """Whether there is an event, none worth the name, or nothing could be seen."""
    reasons: tuple[str, ...] = ()
    """Why this grade and this decision, in sentences."""
