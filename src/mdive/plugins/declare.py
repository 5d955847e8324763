"""How an algorithm introduces itself: ``@algorithm`` hangs a declaration on a function and returns the function unchanged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter

from mdive.errors import InputError, nearest
from mdive.model.product import RasterSpec
from mdive.pipeline.parameters import checked

Hectares = Annotated[float, Field(ge=0, description="area in hectares (1 ha = 10,000 m²)")]
Metres = Annotated[float, Field(ge=0, description="length in metres")]
Decibels = Annotated[float, Field(ge=-100, le=100, description="dB of gamma0 or sigma0 power")]
"""100 dB are far beyond any backscatter: a number of another unit is refused."""
Fraction = Annotated[float, Field(ge=0, le=1, description="share, 0 to 1")]


Geometry = tuple[int | None, str | None]
"""Relative orbit and flight direction (``ascending``, ``descending``) of a scene; None what nobody told."""


def same_geometry(one: Geometry, other: Geometry) -> bool:
    """Whether two geometries agree in all that both tell."""
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def named_geometry(geometry: Geometry) -> str:
    """Return a geometry in words."""
    orbit, direction = geometry
    return " ".join(part for part in (f"relative orbit {'(not told)' if orbit is None else orbit}", direction) if part)


class Bundle(SimpleNamespace):
    """The rasters of one phase, by band name; ``mask`` is the cause plane (uint16 bits of ``QC_FLAGS``). Absent optional bands are None."""

    times: Sequence[datetime] | None = None
    """When each scene along the time axis was taken, in UTC; None where nobody told."""
    geometry: Sequence[Geometry] | None = None
    """Geometry of each scene along the time axis; None where nobody told."""


@dataclass(frozen=True, slots=True)
class AlgorithmSpec:
    """What the planner, the CLI, the report and the conformance checks know of an algorithm."""

    name: str
    version: str
    function: Callable[..., Mapping[str, Any]]
    needs: Mapping[str, tuple[str, ...]]
    """Phase -> bands without which it cannot run."""
    optional: Mapping[str, tuple[str, ...]]
    """Phase -> bands it can use."""
    sensor: str
    """Kind of sensor of ``pre`` and ``post``: sar, optical, thermal."""
    outputs: tuple[RasterSpec, ...]
    references: tuple[str, ...]
    """DOIs."""
    pad: float = 0.0
    """Metres beyond an area that it must be given for its results inside to be right; those of algorithms whose reach is known are added anyway."""
    package: str = "mdive"

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.function) or "").splitlines()[0] if self.function.__doc__ else ""

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters."""
        signature = inspect.signature(self.function)
        return {n: p for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def phases(self) -> tuple[str, ...]:
        """The positional-only arguments: the phases it is given, in order."""
        signature = inspect.signature(self.function)
        return tuple(n for n, p in signature.parameters.items() if p.kind is inspect.Parameter.POSITIONAL_ONLY)

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the parameters, from the signature."""
        hints = get_type_hints(self.function, include_extras=True)
        properties = {}
        for name, parameter in self.parameters.items():
            properties[name] = TypeAdapter(hints.get(name, Any)).json_schema() | {"default": parameter.default}
        return {"type": "object", "additionalProperties": False, "properties": properties}

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Validate parameters against the signature and fill in the defaults.

        Raises
        ------
        InputError
            For a name that is not there, or a value that is of another type (``true`` and ``"0.3"`` are no numbers) or outside its limits.
        """
        hints = get_type_hints(self.function, include_extras=True)
        known = self.parameters
        bound = {name: parameter.default for name, parameter in known.items()}
        for name, value in given.items():
            if name not in known:
                options = ", ".join(known) or "none"
                hint = f"Its parameters are: {options}.{nearest(name, known)}"
                raise InputError(f"algorithm {self.name!r} has no parameter {name!r}.", hint)
            try:
                bound[name] = checked(value, hints.get(name, Any))
            except ValueError as error:
                default = known[name].default
                raise InputError(
                    f"parameter {name!r} of {self.name!r}: {error} (given: {value!r}).",
                    f"Default: {default!r}; see `mdive algorithms {self.name}`.",
                ) from None
        return bound


def algorithm(
    name: str,
    *,
    version: str,
    needs: Mapping[str, tuple[str, ...]],
    outputs: tuple[RasterSpec, ...],
    sensor: str,
    optional: Mapping[str, tuple[str, ...]] | None = None,
    references: tuple[str, ...] = (),
    pad: float = 0.0,
) -> Callable[[Callable[..., Mapping[str, Any]]], Callable[..., Mapping[str, Any]]]:
    """Declare a function that composes operations as an algorithm.

    The function takes one ``Bundle`` per phase, positional-only and named after the phase (``pre``, ``post``, ``static``), and parameters
    keyword-only with ``Annotated`` limits; it returns a mapping from the name of each of ``outputs`` to a node.
    ``outputs[0]`` is the class raster.

    An algorithm that needs static bands alone can serve others: where one of them could use a band that no catalogue offers and that is among
    ``outputs``, it runs first, on the area and ``pad`` metres around it (what lies upstream, for instance).
    """

    def mark(function: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, Any]]:
        spec = AlgorithmSpec(name, version, function, dict(needs), dict(optional or {}), sensor, outputs, references, pad)
        function.__mdive_algorithm__ = spec  # type: ignore[attr-defined]
        for parameter, p in spec.parameters.items():
            if p.default is inspect.Parameter.empty:
                raise TypeError(f"algorithm {name}: parameter {parameter!r} needs a default")
        return function

    return mark


def described(hint: Any) -> str:
    """Return the description in an ``Annotated`` hint, or an empty string."""
    if get_origin(hint) is not Annotated:
        return ""
    return next((m.description for m in get_args(hint)[1:] if getattr(m, "description", None)), "")
