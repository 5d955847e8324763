"""What is wanted of a run beyond the event itself: all of it optional."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from mdive.model.refusal import Refusal, UserDocument, shown

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
"""Name of an algorithm, product or parameter."""

Number = Annotated[float, Field(strict=True)]
"""A number that was written as one: neither a text nor true or false."""

Scalar = bool | int | float | str


def _read_parameter(value: Any) -> Any:
    given = value if isinstance(value, list | tuple) else (value,)
    if all(isinstance(each, Scalar) for each in given):
        return value
    raise Refusal(
        f"{shown(value)} is no value for a parameter.",
        "Give a number, a text, true or false, or a list of them; leave the parameter out for its default.",
    )


Parameter = Annotated[Scalar | tuple[Scalar, ...], BeforeValidator(_read_parameter)]


def _read_crs(value: Any) -> str:
    """Return the CRS as ``EPSG:n`` where it has a number, after asking PROJ whether it knows it."""
    import pyproj

    hint = "Write it as EPSG:32630, or as WKT; without one mdive takes the UTM zone of the area."
    if not isinstance(value, str) or not value.strip():
        raise Refusal(f"{shown(value)} is not a coordinate reference system.", hint)
    try:
        crs = pyproj.CRS.from_user_input(value.strip())
    except pyproj.exceptions.CRSError:
        raise Refusal(f"PROJ knows no coordinate reference system {shown(value)}.", hint) from None
    if not crs.is_projected:
        raise Refusal(f"{shown(value)} is not a map projection, so a pixel would have no size in metres.", hint)
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else value.strip()


def _no_duplicates(names: tuple[str, ...]) -> tuple[str, ...]:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise Refusal(f"{name!r} is given twice.", "Keep one of them.", path=(number,))
    return names


class Intent(UserDocument):
    """What is wanted of a run: how fine, which products, which method. What is left out, the planner chooses."""

    resolution: Annotated[Number, Field(gt=0, le=100_000)] | None = None
    """Pixel edge in metres, > 0. Default: that of the event class."""
    crs: Annotated[str, BeforeValidator(_read_crs)] | None = None
    """Map projection of the products, in metres and true to scale at the area, e.g. EPSG:32630. Default: the UTM zone of the area."""
    products: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_no_duplicates)] | None = None
    """Names of the products to make. Default: those of the event class."""
    algorithm: Name | None = None
    """Name of the algorithm to use, whatever the recipe of the event class prefers."""
    parameters: dict[Name, Parameter] = Field(default_factory=dict)
    """Values for parameters of the algorithm, by name. Default: the algorithm's own."""
    max_failed_fraction: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """Share (0 to 1) of the planned reads (bands of items) that may fail before a run counts as partial. Default: none."""
    max_observations: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    """At most this many observations per source, the best first. Default: as many as the algorithm wants."""
