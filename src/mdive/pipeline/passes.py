"""From a graph to passes over tiles: what each pass reads, computes, keeps and solves.

A reduction or a global operation needs all tiles before anything can follow, so it ends a pass. Everything between two such borders is fused
into one evaluation of a tile in memory. What a later pass needs again is kept once, unless a cheap local operation can make it anew from what is kept anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mdive.model.plan import Grid
from mdive.pipeline.graph import Graph
from mdive.pipeline.locality import Focal, Global, Local, Reduction
from mdive.pipeline.operation import Node


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One walk over the tiles."""

    index: int
    nodes: tuple[Node, ...]
    """Rasters evaluated here (loads first read here included), in order."""
    fetched: tuple[Node, ...]
    """Rasters kept by earlier passes that are read back here."""
    kept: tuple[Node, ...]
    """Rasters that later passes read back."""
    outputs: dict[str, Node]
    """Products finished here."""
    reductions: tuple[Node, ...]
    maps: tuple[Node, ...]
    """Global operations whose map runs here."""
    applied: tuple[Node, ...]
    """Global operations whose apply runs here."""
    solves: tuple[Node, ...]
    """States made after this pass, in order: reductions, global solves, and local operations on states."""
    halo: dict[str, int] = field(default_factory=dict)
    """Node key -> pixels beyond the base window on which it is evaluated or fetched."""
    margin: int = 0
    """Pixels beyond the grid that edge tiles evaluate, because a later pass reads its halo from what is kept."""


def split(graph: Graph, grid: Grid) -> tuple[Pass, ...]:
    """Cut a graph into passes.

    Parameters
    ----------
    graph
        The pipeline.
    grid
        Resolves depths that are given in metres.
    """
    level, tainted = _levels(graph)
    states = [n for n in graph if n.kind == "state"]
    rasters = [n for n in graph if n.kind == "raster"]
    kept = _kept(graph, rasters, level, tainted)
    last = max([level[n.key] for n in rasters] + [_part_level(n, level) for n in states if _is(n, Reduction)], default=0)
    needed = [_needed(graph, p, level, kept) for p in range(last + 1)]
    halos = [_halos(graph, needed[p], {k for k in kept if level[k] < p}, grid) for p in range(last + 1)]
    passes = []
    for p in range(last + 1):
        here = needed[p]
        nodes = tuple(n for n in rasters if n.key in here and not (n.key in kept and level[n.key] < p))
        fetched = tuple(n for n in rasters if n.key in here and n.key in kept and level[n.key] < p)
        keeps = tuple(n for n in rasters if n.key in kept and level[n.key] == p)
        passes.append(
            Pass(
                index=p,
                nodes=nodes,
                fetched=fetched,
                kept=keeps,
                outputs={name: n for name, n in graph.outputs.items() if n.kind == "raster" and level[n.key] == p},
                reductions=tuple(n for n in states if _is(n, Reduction) and _part_level(n, level) == p),
                maps=tuple(n for n in rasters if _is(n, Global) and level[n.key] == p + 1),
                applied=tuple(n for n in nodes if _is(n, Global)),
                solves=tuple(
                    n for n in graph if (n.kind == "state" and level[n.key] == p + 1) or (_is(n, Global) and level[n.key] == p + 1)
                ),
                halo=halos[p],
            )
        )
    return _with_margins(passes)


def _is(node: Node, locality: type) -> bool:
    return node.operation is not None and node.kind_of() is locality


def _part_level(node: Node, level: dict[str, int]) -> int:
    return level[node.key] - 1


def _levels(graph: Graph) -> tuple[dict[str, int], dict[str, bool]]:
    """Return the pass in which each raster exists (each state: the first pass that can use it), and whether a global result feeds it there."""
    level: dict[str, int] = {}
    tainted: dict[str, bool] = {}
    for node in graph:
        inputs = graph.inputs(node)
        base = max((level[n.key] for n in inputs), default=0)
        taint = any(tainted[n.key] and level[n.key] == base for n in inputs if n.kind == "raster")
        if node.operation is None:
            level[node.key], tainted[node.key] = 0, False
        elif isinstance(node.operation.locality, Reduction):
            level[node.key], tainted[node.key] = base + 1, False
        elif isinstance(node.operation.locality, Global):
            level[node.key], tainted[node.key] = base + 1, True
        elif isinstance(node.operation.locality, Focal) and taint:
            # A global result exists on the tile alone until it has been kept: a window around it has to wait one pass.
            level[node.key], tainted[node.key] = base + 1, False
        else:
            level[node.key], tainted[node.key] = base, taint
    return level, tainted


def _kept(graph: Graph, rasters: list[Node], level: dict[str, int], tainted: dict[str, bool]) -> set[str]:
    """Return the rasters to keep between passes: those used later, less the local ones that are cheaper to make again."""

    def uses(node: Node) -> list[int]:
        # A global operation reads its inputs in its map, one pass before its result exists.
        return [level[c.key] - (1 if c.kind == "state" or _is(c, Global) else 0) for c in graph.consumers[node.key]]

    kept = {n.key for n in rasters if any(u > level[n.key] for u in uses(n))}
    for node in reversed(rasters):
        if node.key not in kept or node.operation is None or not isinstance(node.operation.locality, Local) or tainted[node.key]:
            continue
        sources = [n for n in graph.inputs(node) if n.kind == "raster"]
        if sources and all(n.key in kept for n in sources):
            kept.discard(node.key)
    return kept


def _needed(graph: Graph, p: int, level: dict[str, int], kept: set[str]) -> set[str]:
    """Return the rasters evaluated or fetched in pass ``p``."""
    targets = [n for n in graph.outputs.values() if n.kind == "raster" and level[n.key] == p]
    targets += [n for n in graph if n.kind == "raster" and n.key in kept and level[n.key] == p]
    for node in graph:
        if (_is(node, Reduction) or _is(node, Global)) and level[node.key] == p + 1:
            targets += [n for n in graph.inputs(node) if n.kind == "raster"]
    needed: set[str] = set()
    stack = list(targets)
    while stack:
        node = stack.pop()
        if node.key in needed:
            continue
        needed.add(node.key)
        fetched = node.key in kept and level[node.key] < p
        if not fetched and not _is(node, Global):
            stack.extend(n for n in graph.inputs(node) if n.kind == "raster")
    return needed


def _halos(graph: Graph, needed: set[str], fetched: set[str], grid: Grid) -> dict[str, int]:
    """Add depths up along the paths of one pass, from its targets backwards."""
    halo = dict.fromkeys(needed, 0)
    for node in reversed(list(graph)):
        if node.key not in needed or node.key in fetched or node.operation is None or _is(node, Global):
            continue
        locality = node.operation.locality
        depth = locality.pixels(node.parameters, grid) if isinstance(locality, Focal) else 0
        for source in graph.inputs(node):
            if source.key in halo:
                halo[source.key] = max(halo[source.key], halo[node.key] + depth)
    return halo


def _with_margins(passes: list[Pass]) -> tuple[Pass, ...]:
    """Let margins add up over passes: a pass that evaluates a margin itself reads its inputs that much further out."""
    result = list(passes)
    for p in reversed(range(len(result))):
        keys = {n.key for n in result[p].kept}
        reach = [later.halo[n.key] + later.margin for later in result[p + 1 :] for n in later.fetched if n.key in keys]
        result[p] = replace(result[p], margin=max(reach, default=0))
    return tuple(result)
