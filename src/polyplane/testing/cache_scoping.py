"""What caches show to whom, and under which keys; `CacheStoreContract` inherits it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Final

from polyplane.model.collection import Collection
from polyplane.model.digest import digest
from polyplane.model.items import Entry, Item, Stamp
from polyplane.model.scope import OWNER_ID, RESERVED, TENANT_ID, Scope
from polyplane.stores.protocol import CacheStore
from polyplane.testing.samples import ALL, HOSTILE

OWNED: Final = Collection("order_cache", 1, "cache", key_prefix="order:", ttl_s=60, marks=RESERVED)
TENANTS: Final = ("acme", "ACME", "default", "", "a:b", "%", None)
OWNERS: Final = (None, "1", "2")


def owned(key: str, tenant: str | None, owner: str | None = None, value: Any = None) -> Item:
    """An entry that says whose it is."""
    value = {"secret": f"of {tenant}"} if value is None else value
    marks = {TENANT_ID: tenant, OWNER_ID: owner}
    return Item(key, digest([value, marks]), Entry(value, marks=marks))


class CacheScopingContract(ABC):
    """No entry is shown to whom it does not belong to, and none is left behind of a tenant."""

    @abstractmethod
    async def raw_names(self, prefix: str) -> list[str]:
        """The full name of everything that is held below the namespace of `prefix`, in order."""

    @abstractmethod
    async def raw_write(self, name: str, field: str, value: str | None) -> None:
        """Change one field of what is held under `name`, past the adapter; None: all of it goes."""

    async def _seen(self, store: CacheStore, scope: Scope, keys: list[str]) -> dict[str, Any]:
        found = {key: await store.get(OWNED, scope, key) for key in keys}
        return {key: entry.marks for key, entry in found.items() if entry is not None}

    async def _stamps_of_owned(self, store: CacheStore) -> list[Stamp]:
        return [stamp async for stamps in store.scan(OWNED) for stamp in stamps]

    async def test_a_scope_is_shown_what_it_sees(self, store: CacheStore) -> None:
        whose = [(t, o) for t in TENANTS for o in OWNERS]
        items = [owned(f"k{i:02}", *it) for i, it in enumerate(whose)]
        await store.apply(OWNED, items, ["gone"], 1)
        scopes = [Scope(t, o) for t, o in whose if t is not None]
        for scope in (ALL, *scopes, Scope("acme", None, sees_all=True), Scope("nobody", "1")):
            wanted = {
                it.key: it.content.marks for it in items if scope.sees(RESERVED, it.content.marks)
            }
            assert await self._seen(store, scope, [*(it.key for it in items), "gone"]) == wanted
        assert [s.key for s in await self._stamps_of_owned(store)] == [
            "gone",
            *(it.key for it in items),
        ]

    async def test_an_entry_of_another_owner_is_not_shown(self, store: CacheStore) -> None:
        await store.apply(OWNED, [owned("1", "acme", "1"), owned("2", "acme")], [], 1)
        assert set(await self._seen(store, Scope("acme", "1"), ["1", "2"])) == {"1", "2"}
        for scope in (Scope("acme", "2"), Scope("acme")):
            assert set(await self._seen(store, scope, ["1", "2"])) == {"2"}

    async def test_a_value_lies_under_its_tenant(self, store: CacheStore, prefix: str) -> None:
        await store.apply(OWNED, [owned("1", "acme"), owned("2", "a:b")], ["3"], 1)
        root = prefix.removesuffix("default:")
        assert set(await self.raw_names(prefix)) >= {
            f"{root}acme:order:1",
            f"{root}a%3Ab:order:2",
            *(f"{root}:order:{key}" for key in "123"),
        }

    async def test_nothing_is_left_of_who_had_it_before(
        self, store: CacheStore, prefix: str
    ) -> None:
        left = f"{prefix.removesuffix('default:')}acme:order:"
        keys = [f"k{i}" for i in range(600)]
        await store.apply(OWNED, [owned(key, "acme") for key in keys], [], 1)
        moved, dropped, buried, kept = keys[:299], keys[299:300], keys[300:599], keys[599:]
        await store.apply(OWNED, [owned(key, "other") for key in moved], dropped, 2)
        await store.bury(OWNED, buried, 2)
        names = await self.raw_names(prefix)
        assert [it for it in names if it.startswith(left)] == [left + key for key in kept]
        assert set(await self._seen(store, Scope("acme"), keys)) == set(kept)
        assert set(await self._seen(store, Scope("other"), keys)) == set(moved)
        await store.apply(OWNED, [owned(key, "acme") for key in keys], [], 1)  # late
        assert set(await self._seen(store, Scope("acme"), keys)) == set(kept)
        await store.forget(OWNED)
        assert [it for it in await self.raw_names(prefix) if ":order:" in it] == []

    async def test_generations_of_tenants_do_not_mix(self, store: CacheStore) -> None:
        second = replace(OWNED, generation=2)
        await store.apply(OWNED, [owned("1", "acme", value=1)], [], 1)
        await store.apply(second, [owned("1", "acme", value=2)], [], 1)
        for collection, value in ((OWNED, 1), (second, 2)):
            found = await store.get(collection, Scope("acme"), "1")
            assert found is not None and found.value == value
        await store.forget(second)
        assert await store.get(second, Scope("acme"), "1") is None
        assert await store.get(OWNED, Scope("acme"), "1") is not None

    async def test_a_value_without_its_gate_is_no_answer(
        self, store: CacheStore, prefix: str
    ) -> None:
        """The server may let go of either, whenever it likes."""
        root, keys = prefix.removesuffix("default:"), ["1", "2", "3", "4"]
        await store.apply(OWNED, [owned(key, "acme") for key in keys], [], 5)
        await self.raw_write(f"{root}:order:1", "", None)
        await self.raw_write(f"{root}acme:order:2", "", None)
        await self.raw_write(f"{root}:order:3", "p", "6")
        for scope in (ALL, Scope("acme")):
            assert set(await self._seen(store, scope, keys)) == {"4"}
        assert {stamp.key for stamp in await self._stamps_of_owned(store)} == {"4"}
        assert [held.stamp.key for held in await store.contents(OWNED, keys)] == ["4"]
        await store.apply(OWNED, [owned(key, "acme", value="new") for key in keys], [], 7)
        assert set(await self._seen(store, Scope("acme"), keys)) == set(keys)

    async def test_an_entry_that_says_another_owner_is_no_answer(
        self, store: CacheStore, prefix: str
    ) -> None:
        root = prefix.removesuffix("default:")
        await store.apply(OWNED, [owned("1", "acme", "1"), owned("2", "acme", "1")], [], 5)
        await self.raw_write(f"{root}acme:order:1", "o", "=2")
        await self.raw_write(f"{root}acme:order:2", "v", '{"secret":"forged"}')
        for scope in (ALL, Scope("acme", "2"), Scope("acme", "1", sees_all=True)):
            assert await self._seen(store, scope, ["1", "2"]) == {}

    async def test_hostile_tenants_are_only_names(self, store: CacheStore) -> None:
        await store.apply(OWNED, [owned(text, text) for text in HOSTILE], [], 1)
        for text in HOSTILE:
            assert set(await self._seen(store, Scope(text), HOSTILE)) == {text}
        assert [s.key for s in await self._stamps_of_owned(store)] == sorted(HOSTILE)
