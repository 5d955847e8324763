"""Kinds of values that several documents share."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mdive.model.address import without_query
from mdive.model.refusal import Refusal, shown

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A sha256 in hex."""

MediaType = Annotated[str, Field(pattern=r"^[a-z]+/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]*(; ?[a-z]+=[^;]+)*$", max_length=200)]
"""An IANA media type, with its parameters, e.g. ``image/tiff; application=geotiff; profile=cloud-optimized``."""

Decision = Literal["event", "no_significant_event", "not_observable"]
"""What a run says: there is one, there is none worth the name, or nobody could have seen."""

SquareMetres = Annotated[float, Field(ge=0)]
"""An area in square metres on the ellipsoid."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A share, 0 to 1."""


def _check_path(value: str) -> str:
    """Refuse every path that could lead out of the folder it is relative to, on any system."""
    parts = PurePosixPath(value).parts
    bad = not parts or ".." in parts or value.startswith("/") or "\\" in value or ":" in parts[0] or not value.isprintable()
    if bad or str(PurePosixPath(value)) != value or len(value) > 1024:
        hint = "Paths are relative to the run folder, with /, without .. and without a drive."
        raise Refusal(f"{shown(value)} is not a plain relative path.", hint)
    return value


RelativePath = Annotated[
    str, AfterValidator(_check_path), Field(json_schema_extra={"pattern": r"^(?!.*(^|/)\.\.?(/|$))[^/\\:][^\\]*$", "maxLength": 1024})
]
"""A path inside the run folder: POSIX, relative, without ``..``."""


def _clean(href: Any) -> Any:
    return without_query(href) if isinstance(href, str) else href


CleanHref = Annotated[str, BeforeValidator(_clean)]
"""An absolute URL or path; query, fragment and credentials are taken off."""
