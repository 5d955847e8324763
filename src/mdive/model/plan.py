"""The plan: everything that decides what a run computes, frozen before a pixel is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from mdive.model.base import Document

Phase = Literal["pre", "post", "static"]
"""When a source looks: before the event, after its onset, or at no particular time (terrain, land cover)."""

Unit = Literal["1", "dB", "power", "amplitude", "K", "m", "%", "degree", "class", "bits"]
"""What a number of an asset means *after* scale and offset; ``dB`` and ``amplitude`` are turned into ``power`` at load."""

Resampling = Literal["nearest", "bilinear", "average"]


class Fault(Document):
    """Why a file must not be read, found when the inputs were checked (``verify_inputs``)."""

    cause: str
    """One word, as in the ledger: ``checksum``, ``missing``, ``http_404`` ..."""
    message: str
    attempts: int = 1


class AssetRef(Document):
    """One band of one item: where it is and how its numbers become physical quantities (SCIENCE §1.1), decided once, at planning."""

    href: str
    """Absolute URL or path, without credentials."""
    index: Annotated[int, Field(ge=1)] = 1
    """One-based band index inside the file."""
    dtype: str = "float32"
    """Data type of the stored numbers."""
    nodata: float | Literal["nan"] | None = None
    """Stored number that means *nothing here*; tested before scale and offset are applied."""
    scale: float = 1.0
    offset: float = 0.0
    """physical = stored * scale + offset."""
    unit: Unit = "1"
    resampling: Resampling = "bilinear"
    valid_min: float | None = None
    valid_max: float | None = None
    """Stored numbers outside [valid_min, valid_max] are nodata."""
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    shape: tuple[int, int] | None = None
    """Grid as the catalogue tells it (rows, columns); the file itself has the last word."""
    checksum: str | None = None
    """``file:checksum`` of the source, a multihash in hex, where the catalogue gives one."""
    size: int | None = None
    """``file:size`` of the source in bytes, where the catalogue gives one."""
    fault: Fault | None = None


class ItemRef(Document):
    """One STAC item, reduced to what a run needs."""

    id: str
    collection: str
    datetime: datetime
    geometry: dict[str, Any]
    """GeoJSON footprint, longitude/latitude."""
    assets: dict[str, AssetRef]
    """By mdive's band name."""
    properties: dict[str, Any] = Field(default_factory=dict)
    """Those that decided something (processing baseline, orbit, cloud cover ...)."""
    href: str | None = None
    """Where the item itself lives (its ``self`` link), for ``derived_from``."""


class MaskRule(Document):
    """How a quality band says that a pixel was not seen: data, so that no reader knows a sensor by name."""

    band: str
    kind: Literal["bits", "values"]
    """``bits``: each number is a bit position; ``values``: each number is a whole value of the band."""
    causes: dict[str, tuple[int, ...]]
    """By name of ``QC_FLAGS``: the bits or values that set it."""


class Observation(Document):
    """What one sensor saw in one pass: items mosaicked into one time step, first valid pixel first."""

    id: str
    datetime: datetime
    items: tuple[str, ...]
    """Item ids in mosaic order."""
    properties: dict[str, Any] = Field(default_factory=dict)


class Source(Document):
    """One sensor's observations of one phase, in order of preference (best first)."""

    name: str
    """Name of the datasource, e.g. ``sentinel-2-l2a``."""
    phase: Phase
    sensor: Literal["sar", "optical", "thermal", "elevation", "reference"]
    bands: tuple[str, ...]
    """Bands to load, mdive names, without the quality band."""
    mask: MaskRule | None = None
    observations: tuple[Observation, ...]
    items: tuple[ItemRef, ...]
    """All items of the observations, sorted by (datetime, id)."""

    @property
    def key(self) -> str:
        """``name/phase``: the node of the DataTree and the name of the source in the graph."""
        return f"{self.name}/{self.phase}"


class Grid(Document):
    """The target grid: north-up, square pixels, snapped to multiples of the pixel."""

    crs: str
    """``EPSG:n`` or a PROJ/WKT string."""
    resolution: Annotated[float, Field(gt=0)]
    """Pixel edge in CRS units (metres, or degrees)."""
    x0: float
    y0: float
    """Upper left corner of pixel (0, 0)."""
    shape: tuple[int, int]
    """(rows, columns) = (y, x)."""

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Affine coefficients (a, b, c, d, e, f) from (column, row) to (x, y)."""
        return (self.resolution, 0.0, self.x0, 0.0, -self.resolution, self.y0)


class AlgorithmRef(Document):
    """Which algorithm runs, in which version, with which parameters, on which sources."""

    name: str
    version: str
    package: str = "mdive"
    parameters: dict[str, Any] = Field(default_factory=dict)
    """All of them, defaults included: a later default never changes an old plan."""
    sources: dict[str, tuple[str, ...]]
    """Phase of the algorithm -> source keys: one, but where nothing is compared over time (``static``) each band may have a source of its own. A
    band comes from the first that has it."""
    references: tuple[str, ...] = ()


class Reason(Document):
    """One decision of the planner, in words."""

    topic: str
    text: str


class PipelineNode(Document):
    """One node of the pipeline graph as it is stored, drawn and compared."""

    id: str
    operation: str
    inputs: tuple[str | None, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    locality: str
    dtype: str


class Pipeline(Document):
    """The pipeline graph: operations on whole rasters, tens of nodes."""

    nodes: tuple[PipelineNode, ...]
    outputs: dict[str, str]
    """Product name -> node id."""


class Tiling(Document):
    """How the grid is cut. It changes speed and memory, never a result; so it is no part of a plan's identity."""

    size: Annotated[int, Field(ge=16)]
    """Edge of a tile in pixels."""
    row_anchor: int = 0
    col_anchor: int = 0
    """A tile edge falls on these rows and columns (and every ``size`` pixels from them): those of the source blocks."""


class Plan(Document):
    """What will be computed from what, where and why."""

    version: Literal[1] = 1
    event: dict[str, Any]
    """The event document, as given (validated)."""
    event_class: dict[str, Any]
    """The resolved event class (with what it inherits)."""
    catalog: str
    sources: tuple[Source, ...]
    derived: tuple[Plan, ...] = ()
    """Plans of what no catalogue offers: each runs first, and its rasters are among the sources."""
    grid: Grid
    algorithm: AlgorithmRef
    pipeline: Pipeline
    products: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()
    tiling: Tiling
    profile: str = "laptop"
    software: dict[str, str] = Field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The sha256 of what decides the result: not of how it is computed (tiling, profile, software), nor of words for people."""
        from mdive.model.base import digest

        dumped = self.model_dump(mode="json", exclude_none=True, exclude={"tiling", "profile", "software", "reasons", "catalog"})
        dumped["event"] = {k: v for k, v in dumped["event"].items() if k not in {"description", "catalog"}}
        dumped["event_class"] = {k: v for k, v in dumped["event_class"].items() if k in {"name", "limits", "significance"}}
        dumped["algorithm"].pop("package")
        dumped["derived"] = [plan.identity for plan in self.derived]
        return digest(dumped)


def source_by_key(plan: Plan) -> Mapping[str, Source]:
    """Return the plan's sources by ``name/phase``."""
    return {source.key: source for source in plan.sources}
