"""Local operations compiled into one loop over pixels, from what their numpy kernels were seen to do.

One definition, two executions: the kernel on numpy arrays, or the recorded arithmetic of several kernels as one function of one pixel, compiled by numba.
Only what has a single right answer is recorded (`mdive.pipeline.trace`), so both give the same bits.

A compiled loop is kept on disk under the digest of its source; parameters are its arguments, so another threshold needs no other loop.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mdive.config import kernel_folder
from mdive.model.base import digest
from mdive.pipeline.locality import Local
from mdive.pipeline.operation import Node
from mdive.pipeline.strips import Stretch
from mdive.pipeline.trace import COMPARED, Tape, Traced, Untraceable
from mdive.pipeline.window import Window

WORTH = 2**26
"""Pixels of a grid from which compiling a new loop (about 1 s) costs less than it saves; a loop that is on disk is always used."""

MOST_ENTRIES = 400
"""Steps beyond which compiling takes seconds and registers run out."""

_SYMBOLS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "logical_and": "&",
    "logical_or": "|",
    "logical_xor": "!=",
}
_CALLS = {
    "absolute": "abs({0})",
    "negative": "-{0}",
    "sqrt": "math.sqrt({0})",
    "isnan": "{0} != {0}",
    "isfinite": "abs({0}) < np.inf",
    "logical_not": "not {0}",
    "minimum": "{0} if {0} < {1} else {1}",
    "maximum": "{0} if {0} > {1} else {1}",
    "where": "{1} if {0} else {2}",
}


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """Several operations as one function of a pixel."""

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    tape: Tape
    results: tuple[tuple[int, ...], ...]
    """By output: its place on the tape, by time where it has time."""
    timed: tuple[bool, ...]

    @property
    def source(self) -> str:
        """The function's text."""
        return _source(self)

    @property
    def kinds(self) -> dict[int, Kind]:
        """By input: what its blocks must be."""
        found: dict[int, Kind] = {}
        for entry in self.tape.entries:
            if entry.what == "input":
                raster, time = entry.detail
                found[raster] = (None if time is None else time + 1, entry.dtype.str)
        return found

    def run(self, loop: Any, arrays: Sequence[np.ndarray], outs: Sequence[np.ndarray]) -> None:
        """Run the compiled function over blocks: inputs and outputs in the order of this."""
        numbers = self.tape.numbers
        whole = [int(n) if isinstance(n, int) else 0 for n in numbers]
        loop(*arrays, np.array(numbers, dtype=np.float64), np.array(whole, dtype=np.int64), *outs)


def record(
    nodes: Sequence[Node], wanted: Sequence[Node], times: Mapping[str, int | None], dtypes: Mapping[str, Any], states: Mapping[str, Any]
) -> Recorded | None:
    """Return what operations do with a pixel; None where one of them does more than that.

    Parameters
    ----------
    nodes
        Local operations in order.
    wanted
        Those of them whose results are needed.
    times, dtypes
        Of each raster that is given, by key: the length of its time axis (None without), and the data type of its block.
    states
        Values of states, by key.
    """
    tape = Tape()
    made: dict[str, Traced] = {}
    inputs: list[Node] = []
    try:
        for node in nodes:
            operation = node.operation
            if (
                operation is None
                or not isinstance(operation.locality, Local)
                or "window" in operation.injected
                or "grid" in operation.injected
            ):
                return None
            arguments: list[Any] = []
            for source in node.inputs:
                if source is None or source.kind == "state":
                    arguments.append(None if source is None else states[source.key])
                    continue
                if source.key not in made:
                    made[source.key] = _input(tape, len(inputs), times[source.key], dtypes[source.key])
                    inputs.append(source)
                arguments.append(made[source.key])
            result = operation.kernel(*(_shared(a) for a in arguments), **node.parameters)
            if not isinstance(result, Traced) or result.tape is not tape:
                return None
            made[node.key] = Traced(tape, [tape.cast(a, node.dtype) for a in result.at], timed=result.timed, fixed=True)
    except (Exception, Untraceable):  # noqa: BLE001 - a kernel may fail on a stand-in in any way; on arrays it will not
        return None
    if len(tape.entries) > MOST_ENTRIES:
        return None
    results = tuple(tuple(made[n.key].at) for n in wanted)
    return Recorded(tuple(inputs), tuple(wanted), tape, results, tuple(made[n.key].timed for n in wanted))


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Several operations of a stretch and their compiled loop."""

    nodes: tuple[Node, ...]
    recorded: Recorded
    loop: Any
    whole: frozenset[str]

    def serves(self, values: Mapping[str, np.ndarray]) -> bool:
        """Return whether blocks are as they were recorded: a loop looks where its source says, whatever is there."""
        kinds = self.recorded.kinds
        return all(_kind_of(values[n.key]) == kinds[at] for at, n in enumerate(self.recorded.inputs))

    def run(self, values: Mapping[str, np.ndarray], whole: dict[str, np.ndarray], strip: Window, window: Window) -> dict[str, np.ndarray]:
        """Compute a strip.

        Parameters
        ----------
        values
            Blocks of the strip, by key.
        whole
            Rasters of the tile's window that are being filled; what is missing is made.
        strip, window
            Which part of which window.

        Returns
        -------
        The strip's results.
        """
        made = {}
        first, end = strip.row - window.row, strip.row_end - window.row
        for node, timed, places in zip(self.recorded.outputs, self.recorded.timed, self.recorded.results, strict=True):
            lead = (len(places),) if timed else ()
            if node.key not in self.whole:
                made[node.key] = np.empty((*lead, *strip.shape), node.dtype)
                continue
            if node.key not in whole:
                whole[node.key] = np.empty((*lead, *window.shape), node.dtype)
            made[node.key] = whole[node.key][..., first:end, :]
        self.recorded.run(self.loop, [values[n.key] for n in self.recorded.inputs], list(made.values()))
        return made


Kind = tuple[int | None, str]
"""How many times a block has (None: no time axis), and its data type."""


def _kind_of(block: np.ndarray) -> Kind:
    return (len(block) if block.ndim == len(("time", "y", "x")) else None), block.dtype.str


def fused(stretch: Stretch, blocks: Mapping[str, np.ndarray], states: Mapping[str, Any], *, pixels: int) -> tuple[Node | Fused, ...]:
    """Return how a stretch is evaluated: compiled loops where its operations can be recorded, and the operations that cannot.

    Parameters
    ----------
    stretch
        Operations.
    blocks
        A block of each raster that it is given, by key.
    states
        By key.
    pixels
        Of the whole grid: whether compiling is worth it.
    """
    kinds = tuple((n.key, *_kind_of(blocks[n.key])) for n in stretch.given)
    if any(source is not None and source.kind == "state" for node in stretch.nodes for source in node.inputs):
        return _fused(stretch, kinds, states, worth=pixels >= WORTH)
    return _fused_once(stretch, kinds, worth=pixels >= WORTH)


Kinds = tuple[tuple[str, int | None, str], ...]


@lru_cache(maxsize=128)
def _fused_once(stretch: Stretch, kinds: Kinds, *, worth: bool) -> tuple[Node | Fused, ...]:
    return _fused(stretch, kinds, {}, worth=worth)


def _fused(stretch: Stretch, kinds: Kinds, states: Mapping[str, Any], *, worth: bool) -> tuple[Node | Fused, ...]:
    times: dict[str, int | None] = {key: length for key, length, _ in kinds}
    dtypes: dict[str, Any] = {key: dtype for key, _, dtype in kinds}
    level: dict[str, int] = {}
    for node in stretch.nodes:
        alone = record([node], [node], times, dtypes, states)
        times[node.key], dtypes[node.key] = _times_of(node, alone, times), node.dtype
        least = max((level.get(n.key, 0) for n in node.inputs if n is not None), default=0)
        # Even levels are recorded, odd ones are not: each group has all that it needs from the levels before.
        level[node.key] = least + (least % 2 != (alone is None))
    steps: list[Node | Fused] = []
    for number in range(max(level.values()) + 1):
        group = [n for n in stretch.nodes if level[n.key] == number]
        if number % 2 or not group:
            steps += group
            continue
        outside = {s.key for n in stretch.nodes if level[n.key] != number for s in n.inputs if s is not None} | stretch.whole
        found = record(group, [n for n in group if n.key in outside], times, dtypes, states)
        loop = compiled(found.source, worth=worth) if found is not None else None
        steps += group if found is None or loop is None else [Fused(tuple(group), found, loop, stretch.whole)]
    return tuple(steps)


def _times_of(node: Node, alone: Recorded | None, times: Mapping[str, int | None]) -> int | None:
    """Return how many times a result has: as recorded, else as the graph says, which `Fused.serves` puts to the test."""
    if alone is not None:
        return len(alone.results[0]) if alone.timed[0] else None
    given = [t for n in node.inputs if n is not None and (t := times.get(n.key)) is not None]
    return max(given) if node.timed and given else None


@lru_cache(maxsize=256)
def compiled(source: str, *, worth: bool) -> Any | None:
    """Return the compiled loop of a source; None where it is not on disk yet and not worth compiling, or there is no place for it."""
    folder = kernel_folder()
    if folder is None:
        return None
    name = f"mdive_fused_{digest(source)[:24]}"
    path = folder / f"{name}.py"
    try:
        if not path.is_file() or path.read_bytes() != source.encode():
            if not worth:
                return None
            _written(path, source)
        return _module(name, path, source).loop
    except OSError:
        return None


def _written(path: Path, source: str) -> None:
    """Write a file as a whole, under a name that no other thread, process or machine writes to."""
    number, staging = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(source.encode())
        Path(staging).replace(path)
    except OSError:
        Path(staging).unlink(missing_ok=True)
        raise


def _module(name: str, path: Path, source: str) -> ModuleType:
    """Return the module of a source. What runs is the text in memory; numba keeps its machine code beside the file."""
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # numba finds the globals of what it has compiled by the module's name
    exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - the text was made by `_source`
    return module


def _input(tape: Tape, number: int, times: int | None, dtype: Any) -> Traced:
    if times == 0:
        raise Untraceable("no time")
    at = [tape.add("input", (), dtype, number, t if times is not None else None) for t in range(times or 1)]
    return Traced(tape, at, timed=times is not None, fixed=True)


def _shared(argument: Any) -> Any:
    # An object of its own for each call: writing to it must be noticed, not passed on.
    return Traced(argument.tape, argument.at, timed=argument.timed, fixed=True) if isinstance(argument, Traced) else argument


def _source(recorded: Recorded) -> str:
    inputs = [f"a{i}" for i in range(len(recorded.inputs))]
    outputs = [f"o{i}" for i in range(len(recorded.outputs))]
    head, body = [], []
    for at, entry in enumerate(recorded.tape.entries):
        if entry.what == "number":
            table = "f" if entry.dtype.kind == "f" else "i"
            head.append(f"v{at} = {_cast(f'{table}[{entry.detail[0]}]', entry.dtype)}")
        elif entry.what == "input":
            raster, time = entry.detail
            body.append(f"v{at} = a{raster}[{'' if time is None else f'{time}, '}r, c]")
        else:
            body.append(f"v{at} = {_expression(entry.what, [f'v{i}' for i in entry.inputs], entry.dtype)}")
    for o, (places, timed) in enumerate(zip(recorded.results, recorded.timed, strict=True)):
        body += [f"o{o}[{f'{t}, ' if timed else ''}r, c] = v{at}" for t, at in enumerate(places)]
    lines = [
        "# Made by mdive from the numpy kernels of a pipeline; safe to delete.",
        "import math",
        "",
        "import numba",
        "import numpy as np",
        "",
        "",
        '@numba.njit(nogil=True, cache=True, error_model="numpy")',
        f"def loop({', '.join([*inputs, 'f', 'i', *outputs])}):",
        *(f"    {line}" for line in head),
        f"    for r in range({outputs[0]}.shape[-2]):",
        f"        for c in range({outputs[0]}.shape[-1]):",
        *(f"            {line}" for line in body),
        "",
    ]
    return "\n".join(lines)


def _expression(what: str, values: Sequence[str], dtype: np.dtype[Any]) -> str:
    if what == "cast":
        return _cast(values[0], dtype)
    if what == "invert":
        return f"not {values[0]}" if dtype.kind == "b" else _cast(f"~{values[0]}", dtype)
    text = f"{values[0]} {_SYMBOLS[what]} {values[1]}" if what in _SYMBOLS else _CALLS[what].format(*values)
    return text if what in COMPARED or what in ("where", "isnan", "isfinite", "logical_not") else _cast(f"({text})", dtype)


def _cast(text: str, dtype: np.dtype[Any]) -> str:
    # numba widens integers; numpy's own type after each step makes them wrap where numpy wraps.
    return f"({text} != 0)" if dtype.kind == "b" else f"np.{dtype.name}({text})"
