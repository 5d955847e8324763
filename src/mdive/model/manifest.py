"""What a finished run consists of (``manifest.json``): written last, and without it there is no result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mdive.model.base import Document
from mdive.model.fields import Decision, MediaType, RelativePath, Sha256
from mdive.model.refusal import Refusal
from mdive.model.timewindow import Moment


class ProductFile(Document):
    """One published file, or one folder of files that are one product (a Zarr store)."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """Name of the product, e.g. ``extent``."""
    path: RelativePath
    """Path in the run folder: POSIX, relative."""
    media_type: MediaType
    """IANA media type."""
    sha256: Sha256
    """Checksum of the file; of a folder, that of the list which ``sha256sum`` prints of its files, in order of paths."""
    size: Annotated[int, Field(ge=0)]
    """Size in bytes; of a folder, that of its files."""


class Manifest(Document):
    """The list of what a run published."""

    version: Literal[1] = 1
    """Version of this form; a reader refuses one that it does not know."""
    run_id: Annotated[str, Field(min_length=1, max_length=128)]
    """Identifier of the run."""
    plan_identity: Sha256
    """Identity of the plan that was carried out."""
    status: Literal["complete", "partial"]
    """``partial``: more of what the plan names could not be read than ``intent.max_failed_fraction`` allows; the ledger says what."""
    decision: Decision
    """Whether there is an event, none worth the name, or nothing could be seen."""
    products: tuple[ProductFile, ...]
    """Every published file."""
    created: Moment
    """When it was written, UTC."""
    software: dict[str, str] = Field(default_factory=dict)
    """Version of each package that took part."""

    @model_validator(mode="after")
    def _check_unique(self) -> Manifest:
        paths = [product.path for product in self.products]
        for number, path in enumerate(paths):
            if path in paths[:number]:
                raise Refusal(f"{path!r} is listed twice.", "Every file has one entry.", path=("products", number))
        return self
