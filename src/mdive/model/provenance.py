"""What a result was made from, by what and when (``provenance.json``): entities, one activity and its outputs, as W3C PROV has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mdive.model.base import Document
from mdive.model.fields import CleanHref, MediaType, RelativePath, Sha256
from mdive.model.refusal import Refusal
from mdive.model.timewindow import Moment


class InputEntity(Document):
    """One source raster that was read."""

    item: str
    """Id of the STAC item."""
    collection: str
    """Id of its collection."""
    band: str
    """Band, in mdive's name."""
    href: CleanHref
    """Where it was read, without query string and credentials."""
    datetime: Moment
    """When it was acquired, UTC."""
    checksum: str | None = None
    """Multihash (hex) of the file, where the catalogue gives one."""


class AlgorithmUse(Document):
    """Which algorithm was used, and how."""

    name: str
    """Name of the algorithm."""
    version: str
    """Its version."""
    package: str = "mdive"
    """The package that provides it."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """All parameters, defaults included."""
    references: tuple[str, ...] = ()
    """DOIs of what it follows."""


class Activity(Document):
    """The run."""

    plan_identity: Sha256
    """Identity of the plan that was carried out."""
    algorithm: AlgorithmUse
    """The algorithm with its parameters."""
    started: Moment
    """When the run began, UTC."""
    ended: Moment
    """When it ended, UTC."""
    software: dict[str, str] = Field(default_factory=dict)
    """Version of each package that took part."""

    @model_validator(mode="after")
    def _check_order(self) -> Activity:
        if self.ended < self.started:
            hint = "Take both from one clock, in UTC."
            raise Refusal(f"the run ends ({self.ended:%Y-%m-%dT%H:%M:%SZ}) before it starts ({self.started:%Y-%m-%dT%H:%M:%SZ}).", hint)
        return self


class OutputEntity(Document):
    """One file that was written."""

    path: RelativePath
    """Path in the run folder."""
    sha256: Sha256
    """Checksum of the file."""
    media_type: MediaType
    """IANA media type."""


class Provenance(Document):
    """Inputs, activity and outputs of one run."""

    version: Literal[1] = 1
    """Version of this form."""
    run_id: Annotated[str, Field(min_length=1, max_length=128)]
    """Identifier of the run."""
    inputs: tuple[InputEntity, ...]
    """Rasters that were read, sorted by (item, band)."""
    activity: Activity
    """What was done."""
    outputs: tuple[OutputEntity, ...]
    """Files that were written, sorted by path."""
