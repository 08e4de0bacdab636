"""Ladybug keeps the contract of graph stores, and what it does alone is made up for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyplane.model.collection import Collection
from polyplane.stores.graph import ladybug_graph
from polyplane.stores.graph.ladybug_graph import LadybugStore
from polyplane.stores.graph.ladybug_known import Known
from polyplane.stores.graph.ladybug_lane import Session, Writer
from polyplane.stores.graph_protocol import GraphStore
from polyplane.testing.graph import GraphStoreContract, RawItem

OWN = {"_ID", "_LABEL", "_SRC", "_DST", "_key", "id", "_position", "_digest"}


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in OWN}


async def raw_nodes(store: LadybugStore, collection: Collection) -> list[RawItem]:
    """All of a node table but stubs, by a statement of our own."""

    def asked(session: Session) -> list[Any]:
        return session.rows(f"MATCH (n:`{collection.labelled}`) RETURN n")

    nodes = [row[0] for row in await store._lane.read(asked)]
    held = [it for it in nodes if it["id"] is not None or it["_position"]]
    assert all(it["id"] in (None, it["_key"]) for it in held)
    assert all((it["id"] is None) is (it["_digest"] is None) for it in held)
    return [RawItem(it["_key"], it["_position"], it["_digest"], _plain(it), None) for it in held]


async def raw_edges(store: LadybugStore, collection: Collection) -> list[RawItem]:
    """All of a relation, and the tombstones beside it."""

    def asked(session: Session) -> tuple[list[Any], list[Any]]:
        name = collection.labelled
        return (
            session.rows(f"MATCH (a)-[r:`{name}`]->(b) RETURN r, a.`_key`, b.`_key`"),
            session.rows(f"MATCH (n:`_ends_{name}`) WHERE n.`_source` IS NULL RETURN n"),
        )

    edges, gone = await store._lane.read(asked)
    return [
        *(
            RawItem(it["id"], it["_position"], it["_digest"], _plain(it), (source, target))
            for it, source, target in edges
        ),
        *(RawItem(it["_key"], it["_position"], None, {}, None) for (it,) in gone),
    ]


class TestLadybug(GraphStoreContract):
    async def open(self, folder: Path) -> GraphStore:
        return await ladybug_graph.connect(f"ladybug://{folder}/graph")

    async def raw_items(self, store: GraphStore, collection: Collection) -> list[RawItem]:
        assert isinstance(store, LadybugStore)
        return await (raw_edges if collection.ends else raw_nodes)(store, collection)

    async def raw_edge(
        self, store: GraphStore, collection: Collection, like: str, key: str | None
    ) -> None:
        assert isinstance(store, LadybugStore)

        def written(writer: Writer) -> None:
            with writer.logged():
                writer.run(
                    f"MATCH (a)-[r:`{collection.labelled}`]->(b) WHERE r.id = $like"
                    f" CREATE (a)-[:`{collection.labelled}` {{id: $key, `_position`: r.`_position`,"
                    " `_digest`: r.`_digest`}]->(b)",
                    like=like,
                    key=key,
                )

        await store._lane.write(written)

    async def test_a_scope_is_shown_the_same_whatever_lies_where(
        self, store: GraphStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With stubs in this order the engine, asked without a direction, tells of an edge that
        the scope does not see.
        """
        original = Known.lacking
        monkeypatch.setattr(Known, "lacking", lambda self, keys: sorted(original(self, keys)))
        await self.test_a_scope_is_shown_what_it_sees(store)
