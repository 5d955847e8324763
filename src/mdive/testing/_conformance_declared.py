"""Checks of what is written down: names, parameters and their words. Nothing is computed."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from mdive.errors import InputError
from mdive.model.plan import Phase
from mdive.pipeline import Operation
from mdive.plugins.declare import described
from mdive.testing._conformance_report import CheckFailed
from mdive.testing._conformance_subject import Subject

PHASES: Final = get_args(Phase)
QUALITY: Final = "qc"
EXTENT: Final = "extent"
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_VERSION = re.compile(r"\d+(\.\d+){0,2}\S*")

UNITS: Final = re.compile(
    r"""(?<![a-z])(no\ unit|share|fraction|ratio|factor|probability|percent|%|index|difference|reflectance|correlation|looks|pixels?|number|count|times
    |m|metres?|meters?|km|cm|mm|m²|km²|ha|hectares?|dB|decibels?|°|degrees?|radians?|K|kelvin|°C|seconds?|minutes?|hours?|days?|months?|years?
    |m/s|Pa|hPa|standard\ deviations?|sigma|NDVI|NBR|dNBR|NDWI|MNDWI|AWEI)(?![a-z])""",
    re.VERBOSE,
)
"""Words by which a description tells the unit of its number; ``no unit`` is one of them."""


def declaration(subject: Subject) -> None:
    """Check that the declaration says what planner, report and reader need: a summary, a version, phases, outputs, sources."""
    target = subject.target
    if not (inspect.getdoc(subject.function) or "").strip():
        raise CheckFailed(
            f"{subject.kind} {subject.name!r} has no docstring.", "nothing", "Say in its first line what it computes, and then from what."
        )
    if isinstance(target, Operation):
        return
    names = [o.name for o in target.outputs]
    wrong = [
        (
            not _VERSION.fullmatch(target.version),
            f"version {target.version!r}",
            "Give a number such as '1.0.0'; raise it when a result changes.",
        ),
        (not target.outputs or names[0] != EXTENT, f"outputs {names}", "Let the first output be the class raster, named 'extent'."),
        (QUALITY not in names, f"outputs {names}", "Add the output 'qc': it tells why a pixel was not seen."),
        (len(set(names)) < len(names), f"outputs {names}", "Give each output a name of its own."),
        (not set(target.phases) <= set(PHASES), f"phases {target.phases}", f"Name the positional-only arguments after phases: {PHASES}."),
        (
            not {*target.needs, *target.optional} <= set(target.phases),
            f"needs and optional speak of {sorted({*target.needs, *target.optional})}, the function takes {target.phases}",
            "Give the function one positional-only argument (before '/') for each phase.",
        ),
        (not any(target.needs.values()), f"needs {dict(target.needs)}", "Name the bands without which it cannot run."),
        (
            not all(_DOI.fullmatch(r) for r in target.references),
            f"references {target.references}",
            "Give DOIs without address: '10.1016/0034-4257(79)90013-0'.",
        ),
    ]
    for bad, seen, todo in wrong:
        if bad:
            raise CheckFailed(f"what @algorithm takes for {subject.name!r}.", seen, todo)


def parameters_documented(subject: Subject) -> None:
    """Check that each parameter tells its meaning in the docstring, and its unit and limits in its type."""
    told = documented(subject.function)
    hints = _hints(subject)
    for name, parameter in _parameters(subject).items():
        declared = f"parameter {name!r} = {parameter!r} of {subject.kind} {subject.name!r}."
        if not told.get(name):
            raise CheckFailed(
                declared,
                "no words about it in the section 'Parameters' of the docstring.",
                f"Add a line {name!r} and, indented below it, its meaning.",
            )
        if isinstance(subject.target, Operation):
            continue
        if name not in hints:
            raise CheckFailed(declared, "no type.", "Annotate it: Annotated[float, Field(ge=0, description='height in metres')].")
        shapes = list(_kinds(_schema(hints[name])))
        if not any(s.get("type") in {"number", "integer"} for s in shapes):
            continue
        text = described(hints[name])
        if not text or not UNITS.search(text):
            raise CheckFailed(
                declared,
                f"its type is described as {text!r}, which names no unit."
                if text
                else "a number without a description, so without a unit.",
                "Annotate it: Annotated[float, Field(ge=0, description='height in metres')]; 'no unit' is a unit, too.",
            )
        if not any(_limits(s) for s in shapes):
            raise CheckFailed(
                declared,
                "a number without limits.",
                "Say what can be meant: Field(ge=0, le=90). What lies beyond is refused before anything runs.",
            )


def parameters_checked(subject: Subject) -> None:
    """Check that defaults are allowed values; unknown names, other types and numbers out of range are refused before anything runs."""
    bind = subject.target.bind
    hints = _hints(subject)
    for name, default in _parameters(subject).items():
        if default is inspect.Parameter.empty:
            continue
        try:
            bind({name: default})
        except InputError as error:
            raise CheckFailed(
                f"the default of parameter {name!r} is {default!r}.", error.message, "Give a default within the limits, or wider limits."
            ) from error
        for bad in _bad_values(hints.get(name)):
            _refused(subject, name, bad)
    _refused(subject, "a_parameter_that_is_not_there", 1)


def pickles(subject: Subject) -> None:
    """Check that the function and each of its operations pickle by their names, so that any worker can take them."""
    things: list[tuple[str, Any]] = [(subject.name, subject.target if isinstance(subject.target, Operation) else subject.function)]
    for trial in [] if isinstance(subject.target, Operation) else subject.trials[:1]:
        things += [(n.operation.name, n.operation) for n in trial.graph if n.operation is not None]
    for name, thing in dict(things).items():
        try:
            again = pickle.loads(pickle.dumps(thing))  # noqa: S301 - our own bytes
        except Exception as error:
            raise CheckFailed(
                f"{name!r} can be sent to another process.",
                f"{type(error).__name__}: {error}",
                "Define it at the top of a module, under its own name: not inside a function, not as a lambda.",
            ) from error
        if again is not thing:
            raise CheckFailed(
                f"{name!r} pickles by its name.",
                f"another object of that name: {again!r}.",
                "Let the name that is decorated stay the module's own.",
            )


def documented(function: Any) -> dict[str, str]:
    """Return the words that a numpydoc docstring has for each parameter."""
    lines = (inspect.getdoc(function) or "").splitlines()
    starts = [
        i for i, line in enumerate(lines[:-1]) if line.strip() in {"Parameters", "Other Parameters"} and set(lines[i + 1].strip()) == {"-"}
    ]
    found: dict[str, str] = {}
    for start in starts:
        names: list[str] = []
        for line, below in zip(lines[start + 2 :], [*lines[start + 3 :], ""], strict=False):
            if below.strip() and set(below.strip()) == {"-"}:
                break
            if line and not line.startswith(" "):
                names = [part.strip().lstrip("*") for part in line.partition(" : ")[0].split(",")]
                found |= dict.fromkeys(names, "")
            else:
                found |= {name: (found[name] + " " + line.strip()).strip() for name in names}
    return found


def _parameters(subject: Subject) -> Mapping[str, Any]:
    if isinstance(subject.target, Operation):
        return subject.target.defaults
    return {n: p.default for n, p in subject.target.parameters.items()}


def _hints(subject: Subject) -> Mapping[str, Any]:
    try:
        return get_type_hints(subject.function, include_extras=True)
    except Exception as error:
        raise CheckFailed(
            f"the types of the parameters of {subject.name!r}.",
            f"they cannot be read at run time: {type(error).__name__}: {error}",
            "Import what annotations name outside of `if TYPE_CHECKING`: limits are read from them.",
        ) from error


def _schema(hint: Any) -> Mapping[str, Any]:
    try:
        return TypeAdapter(hint).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):
        return {}


def _kinds(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schema and the members of its unions and lists."""
    yield schema
    for member in (
        *schema.get("anyOf", ()),
        *schema.get("prefixItems", ()),
        *([schema["items"]] if isinstance(schema.get("items"), Mapping) else []),
    ):
        yield from _kinds(member)


def _limits(schema: Mapping[str, Any]) -> bool:
    return bool({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const", "multipleOf"} & set(schema))


def _bad_values(hint: Any) -> Iterator[Any]:
    """Yield values that a type refuses, by its own limits."""
    if hint is None or hint is Any:
        return
    schema = _schema(hint)
    members = schema.get("anyOf", [schema])
    if any(m.get("type") not in {"number", "integer", "null"} for m in members):
        if get_origin(hint) is Literal and all(isinstance(a, str) for a in get_args(hint)):
            yield "no such word"
        return
    yield "a text"
    yield float("nan")
    numbers = [m for m in members if m.get("type") != "null"]
    for key, step in (("minimum", -1), ("exclusiveMinimum", 0), ("maximum", 1), ("exclusiveMaximum", 0)):
        if len(numbers) == 1 and key in numbers[0]:
            yield numbers[0][key] + step


def _refused(subject: Subject, name: str, value: Any) -> None:
    try:
        subject.target.bind({name: value})
    except InputError:
        return
    except Exception as error:
        raise CheckFailed(
            f"{name}={value!r} is refused.", f"{type(error).__name__}: {error}", "Declare limits with pydantic's Field."
        ) from error
    raise CheckFailed(f"{name}={value!r} is refused.", "it was accepted.", "Declare the limits in its type: Annotated[float, Field(ge=0)].")
