"""A kernel's arithmetic, recorded by running the kernel itself on stand-ins for its arrays.

A kernel of a local operation is a plain numpy function. Called on `Traced` rasters it leaves a `Tape`: one entry for each ufunc, with the data types
that numpy chose. Whatever is not arithmetic of single pixels, or whose last bit depends on how it is compiled (logarithms, powers, sums of floats),
raises `Untraceable`, and the operation stays with numpy.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np


class Untraceable(BaseException):
    """The kernel does something that is not recorded. No `Exception`: a kernel that catches those would go on, and leave half a recording."""


SAME = frozenset({"add", "subtract", "multiply", "bitwise_and", "bitwise_or", "bitwise_xor"})
COMPARED = frozenset({"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"})
LOGICAL = frozenset({"logical_and", "logical_or", "logical_xor", "logical_not"})
OTHER = frozenset({"divide", "negative", "absolute", "sqrt", "isnan", "isfinite", "invert", "minimum", "maximum"})
EXACT = SAME | COMPARED | LOGICAL | OTHER
"""Ufuncs with one right answer: IEEE 754 rounds them correctly, or they are about integers and truth."""

KNOWN = frozenset(
    np.dtype(name) for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
)
"""Data types that are recorded: those that processors compute with, in their own byte order."""

REDUCED = {"bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or", "logical_and": "logical_and", "logical_or": "logical_or"}
"""Ufuncs whose reduction over time does not depend on the order."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of a pixel: what it is computed from."""

    what: str
    """``input``, ``number`` (a parameter), ``cast``, ``where``, or a ufunc's name."""
    inputs: tuple[int, ...]
    dtype: np.dtype[Any]
    detail: tuple[Any, ...] = ()
    """Of an input: which raster, which time. Of a number: its place among the numbers."""


@dataclass(slots=True)
class Tape:
    """What kernels do with a pixel, in order; equal entries are one."""

    entries: list[Entry] = field(default_factory=list)
    numbers: list[float | int | bool] = field(default_factory=list)
    _known: dict[Entry, int] = field(default_factory=dict)

    def add(self, what: str, inputs: Sequence[int], dtype: Any, *detail: Any) -> int:
        """Return the place of an entry."""
        entry = Entry(what, tuple(inputs), np.dtype(dtype), detail)
        if entry.dtype not in KNOWN:
            raise Untraceable(entry.dtype)
        if entry not in self._known:
            self._known[entry] = len(self.entries)
            self.entries.append(entry)
        return self._known[entry]

    def number(self, value: Any, dtype: Any) -> int:
        """Return the place of a parameter; its value is not part of the tape's identity."""
        if not (isinstance(value, float) or -(2**63) <= value < 2**63):
            raise Untraceable("number")
        self.numbers.append(value)
        return self.add("number", (), dtype, len(self.numbers) - 1)

    def cast(self, at: int, dtype: Any) -> int:
        """Return the place of an entry as another data type."""
        have, want = self.entries[at].dtype, np.dtype(dtype)
        if have == want:
            return at
        if have.kind == "f" and want.kind in "iu":
            raise Untraceable(f"{have} as {want}")  # what a float that fits no integer becomes is the processor's choice
        return self.add("cast", (at,), want)


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for a raster (y, x), or (time, y, x), while a kernel is recorded."""

    __slots__ = ("at", "fixed", "tape", "timed")

    def __init__(self, tape: Tape, at: Sequence[int], *, timed: bool, fixed: bool = False) -> None:
        self.tape = tape
        self.at = list(at)
        self.timed = timed
        self.fixed = fixed
        """Whether writing to it would reach another array: it is an input, or a part of an array, or parts were taken of it."""

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:
        # A kernel that asks whether it was given an array gets the answer that arrays give.
        return np.ndarray

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""
        return self.tape.entries[self.at[0]].dtype

    @property
    def ndim(self) -> int:
        """3 with time, else 2."""
        return 3 if self.timed else 2

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(name)

    def __array__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise Untraceable("array")

    def __bool__(self) -> bool:
        raise Untraceable("bool")

    def __len__(self) -> int:
        if not self.timed:
            raise Untraceable("len")
        return len(self.at)

    def __iter__(self) -> Iterator[Traced]:
        return iter([self[t] for t in range(len(self))])

    def __getitem__(self, key: Any) -> Traced:
        if not self.timed or isinstance(key, bool) or not isinstance(key, int | np.integer):
            raise Untraceable("index")
        self.fixed = True
        return Traced(self.tape, [self.at[operator.index(key)]], timed=False, fixed=True)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, Traced) or not isinstance(key, Traced) or key.dtype != np.bool_ or key.timed != self.timed:
            raise Untraceable("assignment")
        there = _places(self.tape, value, self.dtype, self)
        self._become([self.tape.add("where", (k, v, o), self.dtype) for k, v, o in zip(key.at, there, self.at, strict=True)])

    def astype(self, dtype: Any, **how: Any) -> Traced:
        """Return it as another data type."""
        if set(how) - {"copy"}:
            raise Untraceable("astype")
        if not how.get("copy", True) and np.dtype(dtype) == self.dtype:
            return self
        return Traced(self.tape, [self.tape.cast(a, dtype) for a in self.at], timed=self.timed)

    def copy(self) -> Traced:
        """Return another raster of the same numbers."""
        return Traced(self.tape, self.at, timed=self.timed)

    def any(self, axis: int | None = None) -> Traced:
        """Return whether any time is true."""
        return _reduced(np.logical_or, self, axis)

    def all(self, axis: int | None = None) -> Traced:
        """Return whether all times are true."""
        return _reduced(np.logical_and, self, axis)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **how: Any) -> Any:
        out = how.pop("out", None)
        if method == "reduce" and out is None and set(how) <= {"axis", "keepdims"} and not how.get("keepdims"):
            return _reduced(ufunc, inputs[0], how.get("axis", 0))
        if method != "__call__" or how or ufunc.__name__ not in EXACT:
            raise Untraceable(ufunc.__name__)
        made = _called(self.tape, ufunc, inputs)
        if out is None:
            return made
        (target,) = out
        if not isinstance(target, Traced) or target.timed != made.timed or not np.can_cast(made.dtype, target.dtype, "same_kind"):
            raise Untraceable("out")
        target._become([self.tape.cast(a, target.dtype) for a in made.at])
        return target

    def __array_function__(self, function: Callable[..., Any], _types: Any, args: Any, kwargs: Any) -> Any:
        known = _FUNCTIONS.get(function)
        if known is None:
            raise Untraceable(getattr(function, "__name__", function))
        return known(self.tape, *args, **kwargs)

    def _become(self, at: list[int]) -> None:
        if self.fixed:
            raise Untraceable("an input is written to")
        self.at = at


def _kind(value: Any) -> Any:
    """Return what numpy's promotion looks at: a data type, or the Python type of a plain number."""
    if isinstance(value, Traced):
        return value.dtype
    if isinstance(value, np.generic):
        return value.dtype
    if isinstance(value, bool):
        return np.dtype(bool)
    if isinstance(value, int | float):
        return type(value)
    raise Untraceable(type(value).__name__)


def _places(tape: Tape, value: Any, dtype: Any, like: Traced) -> list[int]:
    """Return the places of an operand as a data type, one for each time of another."""
    if isinstance(value, Traced):
        if value.timed and not like.timed:
            raise Untraceable("shape")
        at = value.at if value.timed or not like.timed else value.at * len(like.at)
        if len(at) != len(like.at):
            raise Untraceable("shape")
        return [tape.cast(a, dtype) for a in at]
    _kind(value)
    if np.dtype(dtype).kind in "iu" and (isinstance(value, float | np.floating) or np.dtype(dtype).type(value) != value):
        raise Untraceable("number")
    return [tape.number(np.dtype(dtype).type(value).item(), dtype)] * len(like.at)


def _longest(values: Sequence[Any]) -> Traced:
    rasters = [v for v in values if isinstance(v, Traced)]
    return next((r for r in rasters if r.timed), rasters[0])


def _called(tape: Tape, ufunc: np.ufunc, inputs: Sequence[Any]) -> Traced:
    try:
        *wanted, result = ufunc.resolve_dtypes((*(_kind(v) for v in inputs), None))
    except TypeError as error:
        raise Untraceable(ufunc.__name__) from error
    name = ufunc.__name__
    if name in LOGICAL:
        wanted = [np.dtype(bool)] * len(wanted)
    if len(set(wanted)) > 1 or wanted[0] not in KNOWN:
        raise Untraceable(name)
    kind = wanted[0].kind
    # Which of two zeros is the lesser, and what the least integer's size is, nobody has settled.
    if (name in ("minimum", "maximum") and kind == "f") or (name in ("negative", "absolute") and kind != "f"):
        raise Untraceable(name)
    like = _longest(inputs)
    columns = [_places(tape, v, w, like) for v, w in zip(inputs, wanted, strict=True)]
    return Traced(tape, [tape.add(name, column, result) for column in zip(*columns, strict=True)], timed=like.timed)


def _reduced(ufunc: np.ufunc, value: Any, axis: Any) -> Traced:
    if not isinstance(value, Traced) or not value.timed or axis != 0 or ufunc.__name__ not in REDUCED:
        raise Untraceable("reduction")
    scenes = [Traced(value.tape, [at], timed=False) for at in value.at]
    return reduce(ufunc, scenes) if len(scenes) > 1 else ufunc(scenes[0], scenes[0])


def _where(tape: Tape, condition: Any, yes: Any, no: Any) -> Traced:
    dtype = np.result_type(*(v if isinstance(v, int | float) else _kind(v) for v in (yes, no)))
    like = _longest([condition, yes, no])
    columns = [_places(tape, v, d, like) for v, d in ((condition, bool), (yes, dtype), (no, dtype))]
    return Traced(tape, [tape.add("where", column, dtype) for column in zip(*columns, strict=True)], timed=like.timed)


def _filled(tape: Tape, like: Traced, value: Any, dtype: Any = None) -> Traced:
    return Traced(tape, _places(tape, value, dtype or like.dtype, like), timed=like.timed)


_FUNCTIONS: dict[Any, Callable[..., Traced]] = {
    np.where: _where,
    np.full_like: lambda tape, like, fill_value, dtype=None: _filled(tape, like, fill_value, dtype),
    np.zeros_like: lambda tape, like, dtype=None: _filled(tape, like, 0, dtype),
    np.ones_like: lambda tape, like, dtype=None: _filled(tape, like, 1, dtype),
    np.any: lambda _, a, axis=None: a.any(axis),
    np.all: lambda _, a, axis=None: a.all(axis),
}
