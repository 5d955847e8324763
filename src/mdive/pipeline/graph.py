"""The pipeline graph: what outputs need, each computation once, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mdive.model.plan import Pipeline, PipelineNode
from mdive.pipeline.operation import Node


class Graph:
    """The nodes that some named outputs need.

    Equal computations are one node (they share a structural key), and what no output needs is not there: common loads are shared and
    unused branches pruned by construction.

    Parameters
    ----------
    outputs
        Node by product name.
    """

    def __init__(self, outputs: Mapping[str, Node]) -> None:
        self._by_key: dict[str, Node] = {}
        for name in sorted(outputs):
            self._add(outputs[name])
        self.outputs = {name: self._by_key[node.key] for name, node in outputs.items()}
        self.consumers: dict[str, list[Node]] = {key: [] for key in self._by_key}
        for node in self:
            for source in self.inputs(node):
                self.consumers[source.key].append(node)

    def _add(self, node: Node) -> None:
        # Iterative depth-first walk: a long chain of operations must not meet the recursion limit.
        stack: list[tuple[Node, bool]] = [(node, False)]
        while stack:
            current, ready = stack.pop()
            if current.key in self._by_key:
                continue
            if ready:
                self._by_key[current.key] = current
                continue
            stack.append((current, True))
            stack.extend((source, False) for source in reversed(current.inputs) if source is not None)

    def __iter__(self) -> Iterator[Node]:
        """Nodes in topological order, the same for the same graph."""
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def __getitem__(self, key: str) -> Node:
        return self._by_key[key]

    def inputs(self, node: Node) -> list[Node]:
        """Return the distinct inputs of a node, as the graph's own nodes."""
        return list({n.key: self._by_key[n.key] for n in node.inputs if n is not None}.values())

    @property
    def loads(self) -> list[Node]:
        """The nodes that are read from sources."""
        return [node for node in self if node.is_load and node.kind == "raster"]

    def document(self) -> Pipeline:
        """Return the graph as a document: what a plan stores and the report draws."""
        names = {node.key: f"n{i}" for i, node in enumerate(self)}
        nodes = tuple(
            PipelineNode(
                id=names[node.key],
                operation=node.label if node.operation is None else node.operation.qualified,
                inputs=tuple(names[n.key] if n is not None else None for n in node.inputs),
                parameters=dict(node.parameters),
                locality="load" if node.operation is None else node.operation.locality.name,
                dtype=node.dtype,
            )
            for node in self
        )
        return Pipeline(nodes=nodes, outputs={name: names[node.key] for name, node in sorted(self.outputs.items())})
