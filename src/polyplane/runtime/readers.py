"""The reader of a projection, or the access to a stream, with the scope of whoever asks for it."""

from __future__ import annotations

from functools import partial
from typing import Any

from polyplane.errors import Misconfigured, NotFound
from polyplane.model.caller import Caller
from polyplane.model.projection import Edges, Nodes, Vectors
from polyplane.model.scope import TENANT_ID, Scope, Whose
from polyplane.model.stream import Stream
from polyplane.runtime.access import CacheReader, StreamAccess
from polyplane.runtime.declared import Declared
from polyplane.runtime.graph import Graph
from polyplane.runtime.opening import Open
from polyplane.runtime.searching import VectorReader
from polyplane.runtime.shapes import Shapes
from polyplane.security.roles import GRAPH_CYPHER, OPERATE


def reader_of(declared: Declared, opened: Open, wanted: Any, scope: Scope | None) -> Any:
    """What reads `wanted`, a projection or a stream that `declared` has.

    Without a `scope` only what belongs to nobody: Misconfigured for anything else, NotFound for
    what is not declared.
    """
    if isinstance(wanted, type) and issubclass(wanted, Stream):
        if wanted not in declared.streams or opened.stores.series is None:
            raise NotFound(f"This plane does not declare the stream {wanted.__name__}.")
        marks: tuple[str, ...] = (TENANT_ID,) if wanted.tenant_column else ()
        seen = _seen(wanted, marks, scope)
        feed = opened.feed
        return StreamAccess(seen, wanted, opened.stores.series, feed, feed.subjects, opened.alarms)
    if wanted not in declared.projections:
        raise NotFound(f"This plane does not declare {wanted.__name__}.")
    if issubclass(wanted, Nodes | Edges):
        raise Misconfigured(
            f"{wanted.__name__} is a part of a graph.",
            fix="Ask the graph: plane.graph, or plane.acting(...).graph.",
        )
    whose = Whose.of(wanted.model)
    seen = _seen(wanted, whose.marks, scope)
    known, name = opened.generations, wanted.name
    reading = partial(known.readings.__getitem__, name)
    if issubclass(wanted, Vectors):
        assert opened.stores.vector is not None
        store = opened.stores.vector
        return VectorReader(
            seen,
            whose.marks,
            reading,
            known.refresh,
            store,
            opened.alarms,
            full_text=wanted.full_text,
        )
    assert opened.stores.cache is not None
    return CacheReader(
        seen,
        whose,
        known.own[name],
        reading,
        opened.stores.cache,
        opened.truth.projector,
        opened.feed,
        opened.feed.subjects.changes,
        lambda: opened.epoch,
        opened.alarms,
    )


def graph_of(declared: Declared, opened: Open, caller: Caller | None) -> Graph:
    """What reads the graph, for `caller`; for nobody only what belongs to nobody, and free queries.

    Misconfigured when the plane declares none.
    """
    if opened.stores.graph is None:
        raise Misconfigured(
            "This plane has no graph.", fix="Declare pp.Nodes and pp.Edges, and add them to it."
        )
    shapes, known = Shapes(declared), opened.generations

    def may_ask_freely() -> bool:
        if caller is None or caller.may(OPERATE):
            return True
        return not shapes.is_owned and caller.may(GRAPH_CYPHER)

    return Graph(
        None if caller is None else Scope.of(caller),
        may_ask_freely,
        shapes,
        known.readings.__getitem__,
        known.refresh,
        opened.stores.graph,
        opened.alarms,
    )


def _seen(wanted: type[Any], marks: tuple[str, ...], scope: Scope | None) -> Scope:
    """The scope to read `wanted` with; Misconfigured when somebody owns it and nobody asks."""
    if not marks:
        return Scope.everything
    if scope is None or scope.is_everything:
        raise Misconfigured(
            f"What {wanted.__name__} holds belongs to tenants or owners: say who reads it.",
            fix=f'Use: plane.acting(pp.Caller(actor="...", tenant="..."))[{wanted.__name__}]',
        )
    return scope
