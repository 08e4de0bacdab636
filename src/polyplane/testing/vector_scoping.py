"""What vector stores show to whom; `VectorStoreContract` inherits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from polyplane.model.collection import Collection
from polyplane.model.items import Item
from polyplane.model.scope import OWNER_ID, RESERVED, TENANT_ID, Scope
from polyplane.stores.protocol import VectorStore
from polyplane.testing.samples import ALL, HOSTILE, NOTES, UNTYPED, nearest, note, query
from polyplane.testing.vector_writing import VectorWritingContract

OWNED: Final = replace(
    NOTES,
    name="owned",
    tag_types={**NOTES.tag_types, TENANT_ID: str, OWNER_ID: str},
    indexes=(*NOTES.indexes, *RESERVED),
    marks=RESERVED,
)
OWNED_LOOSELY: Final = replace(UNTYPED, name="owned_loosely", indexes=RESERVED, marks=RESERVED)

OWNERS: Final = (None, "1", "2")
SCOPES: Final = [
    ALL,
    *(Scope(tenant, owner) for tenant in ("acme", "ACME", "") for owner in OWNERS),
    Scope("acme", "1", sees_all=True),
    Scope("nobody", "1", sees_all=True),
]


def owned(count: int, tenants: Sequence[str | None] = ("acme", "ACME", "", None)) -> list[Item]:
    """Items that look alike, one after the other of each tenant and of each owner."""
    return [
        note(
            f"n-{i:03}",
            stars=i % 3,
            tenant_id=tenants[i % len(tenants)],
            owner_id=OWNERS[i // len(tenants) % len(OWNERS)],
        )
        for i in range(count)
    ]


class VectorScopingContract(VectorWritingContract):
    """No reading verb shows what its scope does not see."""

    async def _shows(self, store: VectorStore, collection: Collection, items: list[Item]) -> None:
        """Each scope is shown exactly what it sees, in search and in get, and whose it is."""
        await store.prepare(collection)
        await store.apply(collection, items, ["gone"], 1)
        keys = [item.key for item in items]
        for scope in SCOPES:
            seen = {it.key: it for it in items if scope.sees(RESERVED, it.content.tags)}
            hits = await store.search(collection, scope, query(1), limit=200)
            assert {hit.key for hit in hits} == set(seen), scope
            got = await store.get(collection, scope, [*keys, "gone"])
            assert [hit.key for hit in got] == [key for key in keys if key in seen], scope
            for hit in (*hits, *got):
                for name in RESERVED:
                    assert hit.tags.get(name) == seen[hit.key].content.tags[name]
            narrow = await store.search(collection, scope, query(1), limit=200, where={"stars": 1})
            wanted = {key for key, it in seen.items() if it.content.tags["stars"] == 1}
            assert {hit.key for hit in narrow} == wanted, scope

    async def test_a_scope_is_shown_what_it_sees(self, store: VectorStore) -> None:
        await self._shows(store, OWNED, owned(60))

    async def test_a_scope_is_shown_what_it_sees_without_types(self, store: VectorStore) -> None:
        await self._shows(store, OWNED_LOOSELY, owned(60))

    async def test_the_nearest_of_another_tenant_takes_no_place(self, store: VectorStore) -> None:
        await store.prepare(OWNED)
        items = owned(200, ("acme", "other"))
        await store.apply(OWNED, items, [], 1)
        scope = Scope("acme", sees_all=True)
        mine = [it for it in items if it.content.tags[TENANT_ID] == "acme"]
        hits = await store.search(OWNED, scope, query(2), limit=10)
        assert [hit.key for hit in hits] == [key for key, _ in nearest(mine, query(2))[:10]]

    async def test_hostile_tenants_are_only_names(self, store: VectorStore) -> None:
        await store.prepare(OWNED)
        items = [note(text, text, tenant_id=text, owner_id=text) for text in HOSTILE]
        await store.apply(OWNED, items, [], 1)
        for text in HOSTILE:
            scope = Scope(text, text)
            hits = await store.search(OWNED, scope, query(0), limit=100)
            assert [hit.key for hit in hits] == [text]
            assert [hit.key for hit in await store.get(OWNED, scope, HOSTILE)] == [text]
