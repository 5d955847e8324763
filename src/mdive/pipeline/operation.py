"""Operations: plain numpy kernels with a declared locality, which compose into a pipeline graph when they are called on nodes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdive.errors import InputError, KernelError, nearest
from mdive.model.base import digest
from mdive.pipeline.calling import is_timed, raster_names, whole
from mdive.pipeline.locality import Focal, Global, Local, Locality, Reduction
from mdive.pipeline.parameters import checked, hints_of

_INJECTED = ("window", "grid")
"""Keyword-only names that the engine fills in: the block's window (its global pixel indices, halo included) and the grid."""


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One raster (or small state) of the pipeline graph, identified by what computes it."""

    operation: Operation | None
    """None for a load."""
    inputs: tuple[Node | None, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    kind: str = "raster"
    """``raster`` or ``state``."""
    timed: bool = False
    """Whether blocks are (time, y, x); else (y, x)."""
    source: str = ""
    band: str = ""
    key: str = ""
    """Structural identity: two nodes that compute the same thing have one key."""

    @property
    def is_load(self) -> bool:
        """Whether the node is read from a source."""
        return self.operation is None

    @property
    def label(self) -> str:
        """Short name for pictures and messages."""
        return f"{self.source}:{self.band}" if self.operation is None else self.operation.name

    @property
    def fill(self) -> Any:
        """What stands where nothing is known: NaN, False, 255 or the operation's own."""
        return fill_of(self.dtype) if self.operation is None or self.operation.fill is None else self.operation.fill

    def kind_of(self) -> type | None:
        """Return the class of the operation's locality; None for a load."""
        return None if self.operation is None else type(self.operation.locality)

    def __repr__(self) -> str:
        return f"<Node {self.label} {self.kind} {self.dtype} {self.key[:8]}>"


def fill_of(dtype: str) -> Any:
    """Return the default fill: NaN for floats, False for booleans, 255 for uint8, 0 for other integers (bit planes, labels)."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        return np.nan
    if kind == "b":
        return False
    return 255 if dtype == "uint8" else 0


def load_node(source: str, band: str, *, dtype: str = "float32", timed: bool = True) -> Node:
    """Return the node that reads one band of one source as (time, y, x); as (y, x) where it is not ``timed``."""
    key = digest({"load": [source, band]})
    return Node(None, (), {}, dtype, "raster", timed=timed, source=source, band=band, key=key)


def constant_node(name: str) -> Node:
    """Return the node that stands for a state that is given, not computed."""
    return Node(None, (), {}, "float64", "state", source="given", band=name, key=digest({"given": name}))


class Operation:
    """A kernel and its declaration; called on nodes it extends the graph, called on arrays it computes.

    Pickled by name, so the decorated name must stay the module's own.
    """

    def __init__(
        self,
        kernel: Callable[..., Any],
        locality: Locality,
        *,
        dtype: str | Callable[..., str],
        units: str,
        fill: Any,
        over_time: bool,
        version: int,
        working: float | None = None,
    ) -> None:
        functools.update_wrapper(self, kernel)
        self.kernel = kernel
        self.locality = locality
        self.dtype = dtype if isinstance(dtype, str) else "float32"
        self._typed = None if isinstance(dtype, str) else dtype
        self.units = units
        self.fill = fill
        self.over_time = over_time
        self.version = version
        self.working = working
        self.__name__ = kernel.__name__
        self.__qualname__ = kernel.__qualname__
        self.__module__ = kernel.__module__
        signature = inspect.signature(kernel)
        kinds = inspect.Parameter
        self.injected = tuple(n for n, p in signature.parameters.items() if p.kind is kinds.KEYWORD_ONLY and n in _INJECTED)
        self.defaults = {n: p.default for n, p in signature.parameters.items() if p.kind is kinds.KEYWORD_ONLY and n not in _INJECTED}
        self.rasters = {n: p for n, p in signature.parameters.items() if p.kind in {kinds.POSITIONAL_ONLY, kinds.VAR_POSITIONAL}}
        if any(p.kind is kinds.POSITIONAL_OR_KEYWORD for p in signature.parameters.values()):
            msg = f"operation {kernel.__name__}: rasters must be positional-only (before '/') and parameters keyword-only (after '*')"
            raise TypeError(msg)

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.__name__

    @property
    def qualified(self) -> str:
        """``module:name``."""
        return f"{self.__module__}:{self.__qualname__}"

    @functools.cached_property
    def measures(self) -> bool:
        """Whether the result depends on the size of a pixel: some part of the operation asks for the grid."""
        locality = self.locality
        parts = [getattr(locality, n, None) for n in ("finish", "solve", "apply")]
        asked = any(callable(f) and "grid" in inspect.signature(f).parameters for f in parts)
        return asked or "grid" in self.injected or (isinstance(locality, Focal) and locality.measures)

    def dtype_for(self, rasters: Sequence[Any]) -> str:
        """Return the data type of the result for given rasters (nodes or arrays; None for one that is absent)."""
        return self.dtype if self._typed is None else self._typed(*(None if r is None else str(r.dtype) for r in rasters))

    @functools.cached_property
    def _hints(self) -> Mapping[str, Any]:
        return hints_of(self.kernel)

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<operation {self.name} {self.locality.name} {self.dtype}>"

    def bind(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters, defaults filled in; refuse unknown ones and those outside their declared limits."""
        unknown = sorted(set(parameters) - set(self.defaults))
        if unknown:
            known = ", ".join(sorted(self.defaults)) or "none"
            hint = f"Its parameters are: {known}.{nearest(unknown[0], self.defaults)}"
            raise InputError(f"operation {self.name!r} has no parameter {unknown[0]!r}.", hint)
        bound = {**self.defaults, **parameters}
        for name, value in parameters.items():
            try:
                bound[name] = checked(value, self._hints.get(name, Any))
            except ValueError as error:
                raise InputError(
                    f"parameter {name!r} of operation {self.name!r}: {error} (given: {value!r}).",
                    f"Leave it out for its default, {self.defaults[name]!r}."
                    if self.defaults[name] is not inspect.Parameter.empty
                    else "Correct the value.",
                ) from None
        missing = [k for k, v in bound.items() if v is inspect.Parameter.empty]
        if missing:
            raise InputError(f"operation {self.name!r} needs the parameter {missing[0]!r}.", f"Pass {missing[0]}=... by name.")
        return bound

    def __call__(self, *rasters: Any, **parameters: Any) -> Any:
        """Extend the graph (nodes), compute (numpy) or stay lazy (dask-backed xarray)."""
        if any(isinstance(r, Node) for r in rasters):
            return self._node(rasters, parameters)
        raster_names(self, len(rasters))
        if any(hasattr(r, "dims") and hasattr(r, "coords") for r in rasters):
            from mdive.pipeline.lift import lift

            return lift(self, rasters, parameters)
        return whole(self, rasters, parameters)

    def _node(self, rasters: tuple[Any, ...], parameters: Mapping[str, Any]) -> Node:
        for raster in rasters:
            if raster is not None and not isinstance(raster, Node):
                raise KernelError(
                    f"operation {self.name!r} was given a {type(raster).__name__} beside pipeline nodes.",
                    "Pass numbers as named parameters, and rasters that may be missing as None.",
                )
        nodes = tuple(r for r in rasters if isinstance(r, Node))
        bound = self.bind(parameters)
        # A state is one for all times: what comes of it has the time axis of the rasters beside it.
        timed = any(n.timed for n in nodes) and not self.over_time and not isinstance(self.locality, Reduction)
        states_only = all(n.kind == "state" for n in nodes)
        if timed and isinstance(self.locality, Global):
            raise KernelError(
                f"operation {self.name!r} (global) was given a raster with a time axis.",
                "Choose one time per pixel before it (over_time=True).",
            )
        kind = "state" if isinstance(self.locality, Reduction) or states_only else "raster"
        if states_only and not isinstance(self.locality, Local):
            raise KernelError(
                f"operation {self.name!r} ({self.locality.name}) was given no raster.", "Only a local operation may combine states."
            )
        key = digest(
            {
                "operation": self.qualified,
                "version": self.version,
                "inputs": [r.key if r is not None else None for r in rasters],
                "parameters": bound,
            }
        )
        return Node(self, tuple(rasters), bound, self.dtype_for(rasters), kind, timed=timed, key=key)

    def call(self, blocks: list[Any], parameters: Mapping[str, Any], **injected: Any) -> Any:
        """Run the kernel on blocks and enforce the declared dtype (dask believes what it is told; we do not)."""
        filled = {k: injected[k] for k in self.injected}
        shape = injected["window"].shape if isinstance(self.locality, Focal) and not self.over_time else None
        times = next((len(b) for b in blocks if is_timed(b, shape)), None)
        if times is None:
            result = self.kernel(*blocks, **parameters, **filled)
        else:
            # A window lies in one scene: its kernel needs no idea of time, and still serves sources that have one.
            scenes = ([b[t] if is_timed(b, shape) else b for b in blocks] for t in range(times))
            dtype = self.dtype_for(blocks)
            result = np.stack([np.asarray(self.kernel(*scene, **parameters, **filled), dtype=dtype) for scene in scenes])
        if isinstance(self.locality, Reduction | Global) or not isinstance(result, np.ndarray):
            return result
        return np.ascontiguousarray(result, dtype=self.dtype_for(blocks))


def operation(
    locality: Locality,
    *,
    dtype: str | Callable[..., str],
    units: str = "1",
    fill: Any = None,
    over_time: bool = False,
    version: int = 1,
    working: float | None = None,
) -> Callable[[Callable[..., Any]], Operation]:
    """Declare a kernel as an operation.

    The kernel takes numpy blocks positionally (before ``/``; any of them may be None when declared optional) and parameters by keyword
    (after ``*``). Blocks are (y, x), or (time, y, x) where the source has a time axis; a focal kernel without ``over_time`` gets one scene
    (y, x) at a time, and a global one takes no time axis. Keyword-only ``window`` and ``grid`` are filled in.

    Parameters
    ----------
    locality
        Where a pixel of the result looks.
    dtype
        Data type of the result, enforced on each block. For a reduction: of its counts (documentation). Or a function that gets the data
        types of the rasters (None for one that is absent) and returns that of the result.
    units
        Units of the result.
    fill
        What stands where nothing is known (beyond the data). Default by dtype, see ``fill_of``.
    over_time
        The kernel collapses the time axis: (time, y, x) in, (y, x) out.
    version
        Raise it when the kernel's result changes: it is part of the identity of every checkpoint.
    working
        Bytes per pixel of its block that the kernel takes at its worst moment, beside its rasters and its result. Default: three times its
        largest raster (a global one: of what it keeps). The size of tiles and ``mdive.explain`` rest on it. Local kernels run in strips;
        theirs does not count.
    """

    def mark(kernel: Callable[..., Any]) -> Operation:
        return Operation(kernel, locality, dtype=dtype, units=units, fill=fill, over_time=over_time, version=version, working=working)

    return mark
