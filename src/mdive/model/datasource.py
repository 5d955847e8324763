"""Datasources: what a provider's collections hold and how their numbers become physical quantities, as data.

One YAML file describes one provider. A collection that no file names is read by its own STAC metadata; a file is needed only where the
metadata is silent, wrong, or needs a decision.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from mdive.model.base import Document
from mdive.model.flags import QC_FLAGS
from mdive.model.plan import Resampling, Unit

Sensor = Literal["sar", "optical", "thermal", "elevation", "reference"]

Access = Literal["open", "signed", "account"]
"""``open``: anybody may read; ``signed``: a free token at each opening; ``account``: a log-in, or the reader pays for the transfer."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class Numbers(Document):
    """What the stored numbers of a band mean. What is left out comes from the STAC metadata, or else from the neutral value."""

    dtype: str | None = None
    """Data type of the stored numbers."""
    nodata: float | Literal["nan"] | None = None
    """Stored number that means *nothing here*."""
    scale: float | None = None
    offset: float | None = None
    """physical = stored * scale + offset."""
    unit: Unit | None = None
    resampling: Resampling | None = None
    valid_min: float | None = None
    valid_max: float | None = None
    """Stored numbers outside [valid_min, valid_max] are nodata."""


def _add_short_form(schema: dict[str, Any]) -> None:
    """Tell the JSON Schema that the key of an asset is accepted too."""
    form = {word: schema.pop(word) for word in list(schema) if word not in {"title", "description"}}
    schema["anyOf"] = [form, {"type": "string"}]


class BandRule(Numbers):
    """Where a band is found in an item. A plain string in YAML is the key of its asset."""

    model_config = ConfigDict(json_schema_extra=_add_short_form)

    assets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Keys of assets; the first that the item has is used."""
    index: Annotated[int, Field(ge=1)] = 1
    """One-based band index inside the file."""
    minor: bool = False
    """An item without this band is still as good as the others (older sensors have no coastal band, some scenes no temperature)."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"assets": (value,)} if isinstance(value, str) else value


class Datasource(Document):
    """Collections of one provider that are read alike."""

    collections: Annotated[tuple[str, ...], Field(min_length=1)]
    """Ids of the STAC collections, best first; each becomes a source of its own name."""
    title: str
    sensor: Sensor
    static: bool = False
    """Whether it shows no particular time (terrain, land cover): searched without a time filter, as phase ``static``."""
    refuse: str | None = None
    """Why it cannot be used, and what to do instead. Items whose metadata states the physical unit of their bands are used all the same."""
    bands: dict[str, BandRule] = Field(default_factory=dict)
    """By mdive's band name."""
    numbers: Numbers = Numbers()
    """For all bands, unless a band says otherwise."""
    mask: str | None = None
    """Name of the mask convention of ``masks.yaml``."""
    mask_asset: str | None = None
    """Key of the asset that holds the mask."""
    offset_rule: str | None = None
    """Name of the rule of ``offsets.yaml`` that decides the offset item by item."""
    access: Access = "open"
    license: str
    references: tuple[str, ...] = ()
    """Where the numbers above come from: DOIs or URLs."""

    @model_validator(mode="after")
    def _usable_or_refused(self) -> Datasource:
        if not self.refuse and not self.bands:
            raise ValueError("a datasource has bands, or says why it is refused")
        if (self.mask is None) != (self.mask_asset is None):
            raise ValueError("mask and mask_asset belong together")
        return self


class Provider(Document):
    """One catalogue on the network and what it offers."""

    name: Name
    """What people write as ``--catalog``."""
    title: str
    url: Annotated[str, Field(pattern=r"^https?://")]
    """Root of its STAC API."""
    signing: Literal["planetary-computer"] | None = None
    """How its hrefs are signed when they are opened; nothing is ever signed at planning, because tokens expire within the hour."""
    datasources: tuple[Datasource, ...]
    """In order of preference."""

    @model_validator(mode="after")
    def _one_rule_per_collection(self) -> Provider:
        seen: set[str] = set()
        for collection in (c for d in self.datasources for c in d.collections):
            if collection in seen:
                raise ValueError(f"collection {collection!r} is described twice")
            seen.add(collection)
        return self


class MaskConvention(Document):
    """How a kind of quality band says that a pixel was not seen."""

    title: str
    names: Annotated[tuple[str, ...], Field(min_length=1)]
    """Asset or band names (in lower case) by which the band is recognised where no datasource names it."""
    sensors: tuple[Sensor, ...]
    """Sensors for which these names mean this convention."""
    kind: Literal["bits", "values"]
    """``bits``: each number below is a bit position; ``values``: each number is a whole value of the band."""
    nodata: float | None = None
    """Stored number that means *nothing here* where the metadata does not say."""
    dtype: str = "uint8"
    causes: dict[str, tuple[int, ...]]
    """By name of ``QC_FLAGS``: the bits or values that set it."""
    references: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known_causes(self) -> MaskConvention:
        unknown = sorted(set(self.causes) - set(QC_FLAGS))
        if unknown:
            raise ValueError(f"unknown cause {unknown[0]!r}; known are {', '.join(QC_FLAGS)}")
        return self


class OffsetRule(Document):
    """Decides an additive offset from what an item says about its processing, never from its date."""

    title: str
    constellations: tuple[str, ...]
    """Constellations or platforms (in lower case, hyphenated; a platform may go on after it) to which the rule speaks without being named."""
    applied: tuple[str, ...]
    """Properties that are true where the provider has already added the offset to the stored numbers."""
    versions: tuple[str, ...]
    """Properties that hold the processing version, e.g. ``04.00``."""
    texts: tuple[str, ...]
    """Properties in which ``pattern`` is looked for where none of ``versions`` is there; then the item's id, then the hrefs of its assets."""
    pattern: str
    """Regular expression with two groups: major and minor version."""
    since: Annotated[str, Field(pattern=r"^\d\d\.\d\d$")]
    """First version whose numbers carry the offset."""
    offset: float
    """In physical units, after the scale."""
    references: tuple[str, ...] = ()
