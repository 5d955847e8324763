"""What is checked, and how it is computed: an algorithm or operation on its test rasters, whole, in tiles, or through dask."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from mdive.engine.lazy import apply_algorithm, bundles_of
from mdive.engine.named import find_operation
from mdive.errors import UsageError
from mdive.model.plan import Grid
from mdive.pipeline import Focal, Node, Operation, Tiles
from mdive.pipeline.calling import raster_names
from mdive.pipeline.evaluate import compute_whole
from mdive.pipeline.georeference import grid_of
from mdive.pipeline.graph import Graph
from mdive.pipeline.lift import node_for
from mdive.pipeline.lower import loader_of, run_whole
from mdive.pipeline.operation import constant_node
from mdive.plugins import AlgorithmSpec
from mdive.plugins.registry import algorithm_spec, registry
from mdive.testing._conformance_report import NotChecked

Target = AlgorithmSpec | Operation


def target_of(what: Any) -> Target:
    """Return the algorithm or operation that is meant.

    Raises
    ------
    UsageError
        For what is neither.
    PluginError
        For a name that nobody has, or several.
    """
    if isinstance(what, AlgorithmSpec | Operation):
        return what
    if isinstance(what, str):
        return algorithm_spec(what) if what in registry().offers("algorithm") else find_operation(what)
    spec = getattr(what, "__mdive_algorithm__", None)
    if isinstance(spec, AlgorithmSpec):
        return spec
    raise UsageError(
        f"{what!r} is neither an algorithm nor an operation.", "Give a name, a function declared with @algorithm, or an @operation."
    )


class Trial:
    """A subject on one set of rasters.

    Parameters
    ----------
    title
        What these rasters are, in a word.
    target, data, parameters
        As for ``mdive.apply``.
    """

    def __init__(self, title: str, target: Target, data: Sequence[Any], parameters: Mapping[str, Any]) -> None:
        self.title, self.target, self.data, self.parameters = title, target, tuple(data), dict(parameters)

    @cached_property
    def traced(self) -> tuple[dict[str, Node], dict[tuple[str, str], xr.DataArray], dict[str, Any]]:
        """The output nodes, the rasters that stand for loads, and the states that are given."""
        return trace(self.target, self.data, self.parameters)

    @cached_property
    def graph(self) -> Graph:
        """The pipeline of all outputs."""
        return Graph(self.traced[0])

    @cached_property
    def grid(self) -> Grid:
        """Where the rasters lie."""
        return grid_of(self.traced[1].values(), next((n.label for n in self.graph if n.operation is not None and n.operation.measures), ""))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.grid.shape

    @cached_property
    def whole(self) -> dict[str, Any]:
        """Every output, computed in one piece: what all else has to equal."""
        return self.compute()

    @cached_property
    def everything(self) -> dict[str, Any]:
        """Every raster and state of the graph by its key, loads included: each operation called on copies of what those before it gave.

        Beyond the grid there is fill; where a window reaches there, a run evaluates the operations before it instead.
        """
        found = {**self.traced[2], **{n.key: self.numbers[n.source, n.band] for n in self.graph.loads}}
        for node in self.graph:
            if node.operation is not None:
                # Copies: what one kernel writes to its blocks, no other may see here.
                blocks = copy.deepcopy([None if n is None else found[n.key] for n in node.inputs])
                found[node.key] = compute_whole(node.operation, blocks, {**node.parameters, "grid": self.grid})
        return found

    @cached_property
    def numbers(self) -> dict[tuple[str, str], np.ndarray]:
        """The rasters as numpy arrays, (time, y, x) or (y, x)."""
        order = ("time", "y", "x")
        return {k: np.asarray(a.transpose(*(d for d in order if d in a.dims))) for k, a in self.traced[1].items()}

    def compute(self, tiles: Tiles | None = None, nodes: Mapping[str, Node] | None = None) -> dict[str, Any]:
        """Compute through the passes of a run, on fresh copies of the rasters; default: all outputs, in one tile."""
        tiles = tiles or Tiles((0, self.shape[0]), (0, self.shape[1]))
        graph = self.graph if nodes is None else Graph(nodes)
        return run_whole(graph, self.grid, tiles, loader_of(self.numbers), self.traced[2])

    def apply(self, data: Sequence[Any]) -> dict[str, Any]:
        """Compute as ``mdive.apply`` does; lazy where the data are."""
        if isinstance(self.target, Operation):
            return {self.target.name: self.target(*data, **self.parameters)}
        return {str(n): a for n, a in apply_algorithm(self.target, data, self.parameters).items()}

    def __repr__(self) -> str:
        return f"<trial {self.title} {self.shape}>"


class Subject:
    """What is checked.

    Parameters
    ----------
    target
        An algorithm or an operation.
    trials
        Makes its test rasters; called when the first check needs them.
    seed
        Of everything that is drawn.
    tilings
        How many random partitions are tried on each set of rasters.
    """

    def __init__(self, target: Target, trials: Callable[[], list[Trial]], *, seed: int, tilings: int) -> None:
        self.target, self.seed, self.tilings = target, seed, tilings
        self._make = trials

    @property
    def name(self) -> str:
        """As ``mdive.apply`` takes it."""
        return self.target.name

    @property
    def kind(self) -> str:
        """``algorithm`` or ``operation``."""
        return "operation" if isinstance(self.target, Operation) else "algorithm"

    @property
    def function(self) -> Any:
        """What its author wrote."""
        return self.target.kernel if isinstance(self.target, Operation) else self.target.function

    @cached_property
    def all_trials(self) -> list[Trial]:
        """The sets of rasters."""
        return self._make()

    @property
    def trials(self) -> list[Trial]:
        """The sets of rasters, on each of which it computes.

        Raises
        ------
        NotChecked
            If it does not: the check ``computes`` says why, once.
        """
        try:
            for trial in self.all_trials:
                trial.whole  # noqa: B018 - computed here so that no other check has to fail for it
        except NotChecked:
            raise
        except Exception as error:
            raise NotChecked(f"{self.name} does not compute ({type(error).__name__}): see its check 'computes'") from error
        return self.all_trials

    def operations(self) -> Iterator[tuple[Trial, Node, Operation]]:
        """Yield each operation with each of its parameters once, where it has real rasters to work on."""
        seen = set()
        for trial in self.trials:
            for node in trial.graph:
                if node.operation is None:
                    continue
                key = (trial.title, node.operation.qualified, repr(sorted(node.parameters.items(), key=lambda p: p[0])))
                if key not in seen:
                    seen.add(key)
                    yield trial, node, node.operation


def trace(
    target: Target, data: Sequence[Any], parameters: Mapping[str, Any]
) -> tuple[dict[str, Node], dict[tuple[str, str], Any], dict[str, Any]]:
    """Return the nodes that a target makes of data, the rasters of its loads, and the states given."""
    if isinstance(target, AlgorithmSpec):
        bundles, rasters = bundles_of(target, data)
        return dict(target.function(*bundles, **target.bind(parameters))), rasters, {}
    nodes: list[Node | None] = []
    found: dict[tuple[str, str], xr.DataArray] = {}
    constants: dict[str, Any] = {}
    for name, value in zip(raster_names(target, len(data)), data, strict=True):
        if isinstance(value, xr.DataArray):
            found[target.name, name] = value
            nodes.append(node_for(target.name, name, value))
        elif value is None:
            nodes.append(None)
        else:
            nodes.append(constant_node(name))
            constants[nodes[-1].key] = value  # type: ignore[union-attr]
    return {target.name: target(*nodes, **parameters)}, found, constants


def reach_of(graph: Graph, grid: Grid) -> int:
    """Return the largest depth of any operation, in pixels."""
    focal = [(n.operation.locality, n) for n in graph if n.operation is not None]
    return max((loc.pixels(n.parameters, grid) for loc, n in focal if isinstance(loc, Focal)), default=0)


def same(a: Any, b: Any) -> bool:
    """Whether two results are the same to the bit; one NaN is as good as another."""
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    one, two = np.asarray(a), np.asarray(b)
    return one.dtype == two.dtype and one.shape == two.shape and not differing(one, two).any()


def differing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return where two arrays of one type differ in their bits; one NaN is as good as another."""
    found: np.ndarray = a != b
    if a.dtype.kind == "f":
        found = (found | (np.signbit(a) != np.signbit(b))) & ~(np.isnan(a) & np.isnan(b))
    return found
