"""What a graph can do besides what every derived store can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from polyplane.model.graph import (
    Direction,
    GraphNode,
    GraphView,
    Neighbour,
    Path,
    Pattern,
    Reached,
    Subgraph,
    Table,
)
from polyplane.model.items import Where
from polyplane.model.scope import Scope
from polyplane.stores.protocol import ItemStore


class GraphStore(ItemStore, Protocol):
    """Items are `Node`s of a collection without ends, and `Edge`s of one with two.

    A node is held under `Collection.labelled`, an edge is a relation of that type between nodes of
    the labels `Collection.ends`. Keys are unique within a collection; two edges between the same
    nodes are two. Where an end of an edge is not there, a stub of position 0 stands for it, which
    every reading verb hides and `scan` does not tell of. A node that is dropped leaves a tombstone
    and its edges, which are seen again with it; who has them dropped is truth.

    A reading verb sees an edge only with both of its ends, and each of the three only if the scope
    does. Keys and declared names that are not there give an empty answer, names that `view` has not
    raise NotFound.
    """

    async def nodes(
        self, view: GraphView, scope: Scope, label: str, keys: Sequence[str]
    ) -> list[GraphNode]:
        """The nodes under `keys` that exist, in the order of `keys`."""
        ...

    async def find(
        self, view: GraphView, scope: Scope, label: str, *, where: Where | None, limit: int
    ) -> list[GraphNode]:
        """Nodes of this label that satisfy `where`, in the order of their keys."""
        ...

    async def neighbours(
        self,
        view: GraphView,
        scope: Scope,
        edge: str,
        key: str,
        *,
        direction: Direction = "out",
        where: Where | None = None,
        of: Where | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> list[Neighbour]:
        """What is one edge of this type away from the node under `key`, at the end that
        `direction` begins with (`both`: at either, for edges from a label to itself).

        `where` is asked of edges and `of` of the nodes found. In the order of the edges' property
        `order_by`, and of the edges' keys.
        """
        ...

    async def within(
        self,
        view: GraphView,
        scope: Scope,
        label: str,
        key: str,
        *,
        edges: Sequence[str],
        hops: int,
        direction: Direction = "both",
        limit: int = 1_000,
    ) -> list[Reached]:
        """The nodes at most `hops` edges of these types away, the nearest first, then by label and
        key; the first one is not among them.
        """
        ...

    async def paths(
        self,
        view: GraphView,
        scope: Scope,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        edges: Sequence[str],
        direction: Direction = "both",
        weight: str | None = None,
        hops: int = 6,
    ) -> Path | None:
        """A way from (label, key) to (label, key) of the fewest edges of these types; with `weight`
        that of the smallest sum of this property, which is not negative (an edge without it is
        not gone). None when there is none of at most `hops` edges.
        """
        ...

    async def match(
        self, view: GraphView, scope: Scope, pattern: Pattern, *, limit: int = 100
    ) -> list[tuple[Any, ...]]:
        """What fits the pattern: for each step a `GraphNode` or a `GraphEdge`; no edge twice in
        one. Without `order_by` in the order of the keys.
        """
        ...

    async def subgraph(
        self,
        view: GraphView,
        scope: Scope,
        keys: Mapping[str, Sequence[str]],
        *,
        edges: Sequence[str],
        hops: int,
        limit: int = 1_000,
    ) -> Subgraph:
        """What is around the nodes (label -> keys), at most `limit` nodes and the edges among
        them, the nearest first.
        """
        ...

    async def cypher(
        self,
        view: GraphView,
        scope: Scope,
        text: str,
        parameters: Mapping[str, Any],
        *,
        limit: int = 1_000,
        timeout_s: float = 10.0,
    ) -> Table:
        """Run one read-only query, in which the declared labels and types stand for what is read
        of them now. Raises Refused for one that would write (as the engine says), fails, or takes
        longer; and for a scope with limits: nobody can say what a free query reads.
        """
        ...
