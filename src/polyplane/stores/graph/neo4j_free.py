"""Free Cypher in Neo4j: one query that reads, within rows and time.

That nothing is written the server sees to, which is told that the transaction only reads. It would
still load files and addresses, run procedures and administer itself: such words are refused here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from neo4j import AsyncSession
from neo4j.exceptions import AuthError, Neo4jError
from neo4j.graph import Node, Path as Walk, Relationship

from polyplane.errors import Refused
from polyplane.model.graph import ID, GraphEdge, GraphNode, GraphView, Path, Table
from polyplane.stores.graph.cypher_text import check_single, relabelled, tokens
from polyplane.stores.graph.neo4j_names import Names, decoded, edge, node
from polyplane.stores.graph.neo4j_server import Server

Ends = Mapping[str, Sequence[Any]]
"""The id of an edge in the engine -> the keys of its ends; None of one that is hidden."""

_ENDS: Final = (
    "UNWIND $elements AS element MATCH (a)-[r]->(b) WHERE elementId(r) = element "
    f"RETURN element, a.{ID}, b.{ID}"
)
FIRST: Final = ("MATCH", "OPTIONAL", "WITH", "UNWIND", "RETURN", "CALL")
"""How a query may begin."""
_GRACE_S: Final = 2.0
"""The server looks at the clock every now and then."""


async def cypher(
    server: Server,
    names: Names,
    view: GraphView,
    text: str,
    parameters: Mapping[str, Any],
    limit: int,
    timeout_s: float,
) -> Table:
    """The first `limit` rows of a query. Raises Refused for one that cannot be, or fails."""
    check_reads(text)
    collections = [*view.nodes.values(), *view.edges.values()]
    asked = relabelled(text, {it.label: names.of(it.labelled) for it in collections})
    async with server.free("answer a query", timeout_s + 2 * _GRACE_S) as session:
        try:
            async with asyncio.timeout(timeout_s + _GRACE_S):
                columns, rows, ends = await _answer(session, asked, parameters, limit, timeout_s)
        except TimeoutError as error:
            raise Refused(f"The query takes longer than {timeout_s:g} s.", field="text") from error
        except AuthError:
            raise
        except Neo4jError as error:
            raise Refused(f"Neo4j refuses the query: {error.message}", field="text") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise Refused(f"Such a parameter cannot be: {error}", field="parameters") from error
    told = _Told(names, view, ends)
    shown = [tuple(told.value(value) for value in row) for row in rows[:limit]]
    return Table(columns, shown, len(rows) > limit)


async def _answer(
    session: AsyncSession, text: str, parameters: Mapping[str, Any], limit: int, timeout_s: float
) -> tuple[tuple[str, ...], list[list[Any]], Ends]:
    """Columns, at most one row more than are wanted, and the ends of the edges in them."""
    async with await session.begin_transaction(timeout=timeout_s) as tx:
        result = await tx.run(cast(Any, text), dict(parameters))
        rows = [list(it.values()) for it in await result.fetch(limit + 1)]
        await result.consume()
        elements = {it.element_id for it in _edges_in(rows)}
        asked = await tx.run(_ENDS, {"elements": list(elements)}) if elements else None
        ends = {it[0]: (it[1], it[2]) async for it in asked} if asked else {}
        return tuple(result.keys()), rows, ends


def _edges_in(value: Any) -> Iterator[Relationship]:
    """Those that an answer holds, but for paths, whose nodes come with them."""
    if isinstance(value, Relationship):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _edges_in(part)


def check_reads(text: str) -> None:
    """Refused for more than one statement, and for what a reading transaction is still allowed."""
    check_single(text)
    found = [token for token in tokens(text) if token.kind != "space"]
    if found[0].text.upper() not in FIRST:
        raise Refused(f"A query begins with one of {', '.join(FIRST)}.", field="text")
    for at, token in enumerate(found):
        word = token.text.upper() if token.kind == "word" else ""
        following = found[at + 1].text if at + 1 < len(found) else ""
        before = found[at - 1].text.upper() if at else ""
        is_name = following == ":" or before in (".", ":")
        if word == "CALL" and not is_name and following not in ("{", "("):
            raise Refused("A query cannot call procedures.", field="text")
        if word == "LOAD" and following.upper() == "CSV":
            raise Refused("A query cannot load files.", field="text")
        if word == "USE" and not is_name and before in ("{", "UNION", "ALL"):
            raise Refused("A query cannot use other databases.", field="text")


class _Told:
    """Values of the driver, as the model has them and with declared names."""

    def __init__(self, names: Names, view: GraphView, ends: Ends) -> None:
        self._ends = ends
        self._nodes = {names.of(it.labelled): it for it in view.nodes.values()}
        self._edges = {names.of(it.labelled): it for it in view.edges.values()}

    def value(self, value: Any) -> Any:
        """Nodes, edges and paths, also within lists and maps. What is no declared one is None; an
        end of an edge that is hidden is an empty text.
        """
        match value:
            case Node():
                return self._node(value)
            case Relationship():
                return self._edge(value)
            case Walk():
                nodes = [self._node(it) for it in value.nodes]
                edges = [self._edge(it) for it in value.relationships]
                return _path(nodes, edges)
            case list() | tuple():
                return [self.value(it) for it in value]
            case dict():
                return {name: self.value(it) for name, it in value.items()}
        return _plain(value)

    def _node(self, found: Node) -> GraphNode | None:
        known = next((self._nodes[it] for it in found.labels if it in self._nodes), None)
        if known is None or not isinstance(found.get(ID), str):
            return None
        return node(known, dict(found))

    def _edge(self, found: Relationship) -> GraphEdge | None:
        given = [None if it is None else it.get(ID) for it in found.nodes]
        source, target = self._ends.get(found.element_id, given)
        known = self._edges.get(found.type)
        if known is None or not isinstance(found.get(ID), str):
            return None
        return edge(known, dict(found), source or "", target or "")


def _path(nodes: list[GraphNode | None], edges: list[GraphEdge | None]) -> Path | None:
    """None when something of it is not to be seen."""
    known = tuple(it for it in nodes if it is not None)
    gone = tuple(it for it in edges if it is not None)
    is_whole = len(known) == len(nodes) and len(gone) == len(edges)
    return Path(float(len(gone)), known, gone) if is_whole else None


def _plain(value: Any) -> Any:
    """Times as Python's; what else has no counterpart, as text."""
    value = decoded(value)
    is_known = value is None or isinstance(value, (str, bool, int, float, bytes))
    return value if is_known or hasattr(value, "isoformat") else str(value)
