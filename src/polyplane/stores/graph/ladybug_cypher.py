"""Free Cypher for Ladybug: what a question may be, and what comes back.

The engine refuses whatever writes, for it runs in a transaction that only reads. It would still
read files, write them, load extensions and change settings: words that begin such things are
refused before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from polyplane.errors import Refused
from polyplane.model.collection import Collection
from polyplane.model.graph import ID, GraphEdge, GraphNode, GraphView, Path, Table
from polyplane.model.scope import Scope
from polyplane.stores.graph.asking import check_limit
from polyplane.stores.graph.cypher_text import check_single, quoted, relabelled, words
from polyplane.stores.graph.ladybug_faults import callers
from polyplane.stores.graph.ladybug_lane import Session

BEGINNINGS: Final = ("MATCH", "OPTIONAL", "RETURN", "UNWIND", "WITH")
FORBIDDEN: Final = frozenset(
    (
        *("ALTER", "ATTACH", "BEGIN", "CALL", "CHECKPOINT", "COMMIT", "COMMIT_SKIP_CHECKPOINT"),
        *("COPY", "CREATE", "DELETE", "DETACH", "DROP", "EXPORT", "EXTENSION", "IMPORT"),
        *("INSTALL", "LOAD", "MACRO", "MERGE", "PROJECT", "ROLLBACK", "ROLLBACK_SKIP_CHECKPOINT"),
        *("SET", "UNINSTALL", "UPDATE", "USE"),
    )
)
_Id = tuple[int, int]


def checked(view: GraphView, scope: Scope, text: str, limit: int) -> str:
    """The statement to run. Refused for what is not a question."""
    if not scope.is_everything:
        raise Refused("Nobody can say what a free query reads.", field="text")
    check_limit(limit)
    check_single(text)
    said = words(text)
    if not said or said[0] not in BEGINNINGS:
        raise Refused("A query begins with MATCH, UNWIND, WITH or RETURN.", field="text")
    if found := FORBIDDEN.intersection(said):
        raise Refused(
            f"A query cannot {min(found)}.", field="text", fix="Put names between backticks."
        )
    names = {it.label: it.labelled for it in (*view.nodes.values(), *view.edges.values())}
    return relabelled(text, names)


def asked(
    session: Session,
    view: GraphView,
    statement: str,
    parameters: Mapping[str, Any],
    limit: int,
) -> Table:
    """The answer, in a transaction that cannot write."""
    with callers("query"):
        session.run("BEGIN TRANSACTION READ ONLY")
        try:
            columns, rows = session.some(statement, dict(parameters), limit + 1)
            given = _Given(session, view, rows[:limit])
        finally:
            with suppress(RuntimeError):  # a query that failed has ended it
                session.run("ROLLBACK")
    return Table(tuple(columns), given.rows, len(rows) > limit)


class _Given:
    """Rows of an answer with our nodes, edges and paths in the place of the engine's."""

    def __init__(self, session: Session, view: GraphView, rows: Sequence[Sequence[Any]]) -> None:
        self._nodes = {it.labelled: it for it in view.nodes.values()}
        self._edges = {it.labelled: it for it in view.edges.values()}
        self._keys: dict[_Id, str] = {}
        self._ends: dict[str, set[_Id]] = {}
        self._note(rows)
        self._look_up(session)
        self.rows = [tuple(self._made(cell) for cell in row) for row in rows]

    def _note(self, value: Any) -> None:
        """Which nodes there are, and which ends edges have."""
        if isinstance(value, Mapping):
            label = value.get("_LABEL")
            if label in self._nodes:
                self._keys[_id(value["_ID"])] = value["_key"]
            elif label in self._edges:
                for end, at in zip(self._edges[label].ends, ("_SRC", "_DST"), strict=True):
                    self._ends.setdefault(end, set()).add(_id(value[at]))
            for each in value.values():
                self._note(each)
        elif isinstance(value, (list, tuple)):
            for each in value:
                self._note(each)

    def _look_up(self, session: Session) -> None:
        """The keys of ends that are not in the answer."""
        for label, ends in self._ends.items():
            missing = {offset: table for table, offset in ends if (table, offset) not in self._keys}
            if missing:
                found = session.rows(
                    f"MATCH (n:{quoted(label)}) WHERE offset(id(n)) IN $offsets"
                    " RETURN offset(id(n)), n.`_key`",
                    offsets=list(missing),
                )
                self._keys |= {(missing[offset], offset): key for offset, key in found}

    def _made(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._made(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        label = value.get("_LABEL")
        if "_NODES" in value and "_RELS" in value:
            nodes = tuple(self._made(each) for each in value["_NODES"])
            edges = tuple(self._made(each) for each in value["_RELS"])
            return Path(float(len(edges)), nodes, edges)
        if label in self._edges and "_SRC" in value:
            collection = self._edges[label]
            source, target = (self._keys.get(_id(value[at]), "") for at in ("_SRC", "_DST"))
            held = _properties(collection, value)
            return GraphEdge(collection.label, value[ID], source, target, held)
        if "_LABEL" in value and "_ID" in value:
            if label not in self._nodes or value.get(ID) is None:
                return None  # a tombstone, a stub, or a table of our own
            collection = self._nodes[label]
            return GraphNode(collection.label, value[ID], _properties(collection, value))
        return {name: self._made(each) for name, each in value.items()}


def _properties(collection: Collection, value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.get(name) for name in collection.tag_types}


def _id(value: Mapping[str, int]) -> _Id:
    return value["table"], value["offset"]
