"""What edges are between: which generations of nodes those are, and which of them must stay.

The generations of nodes have labels of their own, and a relation is between labels. So edges go
with one generation of their nodes, and with the next one only in a generation of their own. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection as AnyOf, Iterable, Sequence
from typing import Any

from polyplane.errors import Conflict, NotFound
from polyplane.model.collection import Collection
from polyplane.model.projection import Edges, Projection
from polyplane.truth.collections import CollectionRow

Rows = Sequence[CollectionRow]


def collection_of(row: CollectionRow) -> Collection:
    """The collection as it was declared, by whatever code."""
    shape = {name: value for name, value in row.shape.items() if name != "embedder"}
    return Collection.of_shape(row.projection, row.generation, shape)


def of_state(rows: Iterable[CollectionRow], state: str) -> CollectionRow | None:
    """The first of `rows` in this state."""
    return next((row for row in rows if row.state == state), None)


def nodes_first(projections: Iterable[type[Projection[Any]]]) -> list[type[Projection[Any]]]:
    """The same, edges last: what they are between must be there before them."""
    return sorted(projections, key=lambda it: issubclass(it, Edges))


def named_by(row: CollectionRow) -> tuple[str, ...]:
    """The labels that a collection of edges is between; none for anything else."""
    return tuple(row.shape.get("ends", ()))


def labelled(labels: Iterable[str], rows: Rows) -> list[CollectionRow]:
    """The collections of nodes that have these labels, as far as they are there."""
    known = {collection_of(it).labelled: it for it in rows if _is_nodes(it)}
    return [known[label] for label in labels if label in known]


def needed(rows: Rows) -> set[str]:
    """The names of collections of nodes that edges are between which are read, built or kept up."""
    alive = [it for it in rows if it.state != "retired" or it.filled]
    labels = {label for it in alive for label in named_by(it)}
    return {it.name for it in labelled(labels, rows)} if labels else set()


def is_used(row: CollectionRow, rows: Rows) -> bool:
    """Whether there are edges, whatever their state, between these nodes and others."""
    return _is_nodes(row) and any(collection_of(row).labelled in named_by(it) for it in rows)


def _is_nodes(row: CollectionRow) -> bool:
    return bool(row.shape.get("label")) and not named_by(row)


class Ends:
    """What the edges that this code derives are between, by what the journal knows."""

    def __init__(
        self,
        projections: Iterable[type[Projection[Any]]],
        is_own: Callable[[CollectionRow], bool],
    ) -> None:
        """`is_own` says whether this code derives what is in a collection."""
        self._of = {
            it.name: (it.source.name, it.target.name) for it in projections if issubclass(it, Edges)
        }
        self._is_own = is_own

    def of(self, projection: str) -> tuple[str, ...]:
        """The projections that these edges are from and to; none for anything else."""
        return self._of.get(projection, ())

    def edges(self, nodes: AnyOf[str] | None = None) -> list[str]:
        """The projections of edges; with `nodes` those between any of them."""
        return [
            name
            for name, ends in self._of.items()
            if nodes is None or not {*ends}.isdisjoint(nodes)
        ]

    def read(self, edges: str, rows: Rows) -> tuple[str, ...] | None:
        """The labels of the nodes that are read now; None while those are of other code."""
        found = [of_state(_rows_of(end, rows), "active") for end in self._of[edges]]
        own = [row for row in found if row is not None and self._is_own(row)]
        return tuple(collection_of(row).labelled for row in own) if len(own) == 2 else None

    def for_new(self, edges: str, rows: Rows) -> tuple[str, ...]:
        """The labels for a new collection of edges; the first one of all may be between nodes that
        are still built.
        """
        if (found := self.read(edges, rows)) is not None:
            return found
        labels = []
        for end in self._of[edges]:
            known = [of_state(_rows_of(end, rows), state) for state in ("building", "active")]
            row = next((it for it in known if it and self._is_own(it)), known[-1])
            if row is None:
                raise NotFound(f"{end} has no collection.", fix="Open the plane with flows first.")
            labels.append(collection_of(row).labelled)
        return tuple(labels)

    def fits(self, edges: str, row: CollectionRow, rows: Rows) -> bool:
        """Whether a collection of edges is between the nodes that are read now."""
        return not self.of(edges) or named_by(row) == self.read(edges, rows)

    def is_due(self, edges: str, rows: Rows) -> bool:
        """Whether these edges need a further generation: their nodes are read from another one by
        now. What was found unequal to truth is not tried again by itself.
        """
        if self.read(edges, rows) is None:
            return False
        mine = _rows_of(edges, rows)
        fits = [row for row in mine if self._is_own(row) and self.fits(edges, row, rows)]
        return not any(row.state != "retired" or (row.error and row is mine[-1]) for row in fits)

    def have_followed(self, edges: str, rows: Rows) -> bool:
        """Whether readers read edges between the nodes that are read. Raises Conflict when those
        were given up.
        """
        mine = _rows_of(edges, rows)
        fits = [row for row in mine if self._is_own(row) and self.fits(edges, row, rows)]
        if of_state(fits, "active") is not None:
            return True
        if fits and fits[-1] is mine[-1] and fits[-1].state == "retired" and fits[-1].error:
            raise Conflict(f"{fits[-1].name} was not switched to. {fits[-1].error}")
        return False


def _rows_of(projection: str, rows: Rows) -> Rows:
    return [row for row in rows if row.projection == projection]
