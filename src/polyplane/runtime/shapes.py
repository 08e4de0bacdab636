"""What graph a plane declares, and how whoever asks names its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polyplane.errors import NotFound
from polyplane.model.projection import Edges, Nodes
from polyplane.model.scope import Whose
from polyplane.runtime.declared import Declared

NodesName = str | type[Nodes[Any, Any]]
"""Nodes by their label, or by the projection that makes them."""
EdgesName = str | type[Edges[Any, Any]]
"""Edges by their type, or by the projection that makes them."""


class Shapes:
    """What graph a plane declares: label or type -> the projection that makes it."""

    def __init__(self, declared: Declared) -> None:
        found = declared.projections
        self.nodes = {it.label: it for it in found if issubclass(it, Nodes)}
        self.edges = {it.label: it for it in found if issubclass(it, Edges)}

    def label(self, nodes: NodesName) -> str:
        """The label of `nodes`. NotFound for what is not declared."""
        return _named(nodes, self.nodes, "nodes")

    def type(self, edges: EdgesName) -> str:
        """The type of `edges`. NotFound for what is not declared."""
        return _named(edges, self.edges, "edges")

    def types(self, edges: Sequence[EdgesName], of: Iterable[str]) -> list[str]:
        """The types of `edges`; of none all that can be gone from nodes with the labels `of`."""
        if edges:
            return [self.type(it) for it in edges]
        reached, found = set(of), list[str]()
        while more := [
            name
            for name, it in self.edges.items()
            if name not in found and {it.source.label, it.target.label} & reached
        ]:
            found += more
            for name in more:
                reached |= {self.edges[name].source.label, self.edges[name].target.label}
        return found

    def marks(self, label: str) -> tuple[str, ...]:
        """How nodes with this label, or edges of this type, say whose they are."""
        projection = self.nodes.get(label) or self.edges[label]
        return Whose.of(projection.model).marks

    @property
    def is_owned(self) -> bool:
        """Whether any of it belongs to tenants or owners."""
        return any(map(self.marks, (*self.nodes, *self.edges)))


def _named(wanted: Any, known: Mapping[str, type[Any]], what: str) -> str:
    label = wanted if isinstance(wanted, str) else getattr(wanted, "label", "")
    if label not in known or not (isinstance(wanted, str) or wanted is known[label]):
        name = wanted if isinstance(wanted, str) else wanted.__name__
        raise NotFound(
            f"This plane declares no {what} {name!r:.80}.",
            fix=f"There are: {', '.join(known) or 'none'}.",
        )
    return label
