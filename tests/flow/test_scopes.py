"""Readers show what their caller sees, and look again at all that stores give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from _pytest.outcomes import Failed
from httpx import AsyncClient

import polyplane as pp
from polyplane.errors import Forbidden, ScopeViolated
from polyplane.feed.protocol import Outgoing
from polyplane.model.scope import Scope
from polyplane.runtime.access import CacheReader, StreamAccess
from polyplane.runtime.blobs import Blobs
from polyplane.runtime.graph import Graph
from polyplane.runtime.searching import VectorReader
from polyplane.stores.cache.tenants import Tenants
from polyplane.stores.graph import asking
from polyplane.stores.series import clickhouse_queries
from polyplane.stores.vector import lance
from polyplane.truth.blobs import BlobRows
from tests.conftest import PlaneOf
from tests.flow.deeds import (
    ADA,
    DIMENSIONS,
    EVE,
    Deed,
    DeedCard,
    DeedNodes,
    DeedSearch,
    Leads,
    Meter,
    Remark,
    Shelf,
    ShelfCard,
    caller,
    points,
)
from tests.flow.things import becomes

Patch = pytest.MonkeyPatch
ANY = [1.0] * DIMENSIONS
DEEDS: list[tuple[int, str, UUID | None]] = [
    (1, "acme", None),
    (2, "acme", ADA),
    (3, "acme", EVE),
    (4, "other", None),
    (5, "other", ADA),
]


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """Two tenants with deeds that look alike, and points."""
    projections = [DeedSearch, DeedCard, DeedNodes, Leads]
    plane = await plane_of(
        models=[Deed, Remark], projections=projections, streams=[Meter], blobs=True
    )
    for key, tenant, holder in DEEDS:
        async with plane.acting(caller(tenant)).write() as tx:
            tx.add(Deed(id=key, whose=tenant, holder=holder, body="a deed"))
    async with plane.acting(caller("other")).write() as tx:
        tx.add(Remark(id=900, tenant_id="other", deed_id=1, body="a remark of another"))
    for tenant, n in (("acme", 3), ("other", 5)):
        acting = plane.acting(caller(tenant))
        await acting[Meter].publish(points(n), batch_id="same")
        await becomes(acting[Meter].count, n, within_s=20)
    await plane.caught_up()
    return plane


async def test_without_a_caller_nothing_that_belongs_to_somebody_is_read(plane: pp.Plane) -> None:
    for declared in (DeedSearch, DeedCard, Meter):
        with pytest.raises(pp.Misconfigured) as refused:
            plane[declared]
        assert "plane.acting(pp.Caller(" in str(refused.value)


SEEN: list[tuple[pp.Caller, set[int]]] = [
    (caller("acme"), {1, 2, 3}),
    (caller("acme", ADA), {1, 2}),
    (caller("acme", EVE), {1, 3}),
    (caller("acme", EVE, sees_all=True), {1, 2, 3}),
    (caller("other"), {4, 5}),
    (caller("other", EVE), {4}),
    (caller("nobody"), set()),
    (caller("", ADA), set()),
]


async def test_a_caller_sees_what_is_theirs(plane: pp.Plane) -> None:
    keys = [key for key, _, _ in DEEDS]
    for who, seen in SEEN:
        acting = plane.acting(who)
        for _ in range(2):  # from truth, and from the cache
            assert {key for key in keys if await acting[DeedCard].get(key)} == seen
        assert {int(hit.key) for hit in await acting[DeedSearch].search(ANY, limit=100)} == seen
        assert {int(hit.key) for hit in await acting[DeedSearch].get(keys)} == seen
    for name in ("tenant_id", "owner_id"):
        with pytest.raises(pp.Refused) as refused:
            await acting[DeedSearch].search(ANY, tags={name: "other"})
        assert refused.value.field == name
    assert (await plane.verify(deep=True)).clean


async def test_points_are_of_the_tenant_that_sends_them(plane: pp.Plane) -> None:
    acme, nobody = plane.acting(caller("acme"))[Meter], plane.acting(caller("nobody"))[Meter]
    assert (await acme.latest(by="place", where={}))["tenant"].to_pylist() == ["acme"]
    window = await acme.window(value="value", bucket_s=60, where={})
    assert window.to_pylist()[0]["count"] == 3
    assert window.column_names == ["bucket", "avg", "min", "max", "count"]
    assert (await nobody.count(), len(await nobody.latest(by="place", where={}))) == (0, 0)
    for call in (acme.count({"tenant": "other"}), acme.latest(by="place", where={"tenant": "x"})):
        with pytest.raises(pp.Refused):
            await call
    with pytest.raises(pp.Refused) as refused:
        await acme.publish(points(1) | {"tenant": ["other"]})
    assert refused.value.field == "tenant"


async def test_a_sender_cannot_speak_for_another_tenant(plane: pp.Plane) -> None:
    feed, ingest = plane.opened.feed, plane.opened.ingests["meter"]
    forged = orjson.dumps(points(1) | {"tenant": ["other"]})
    subject = feed.subjects.points("meter", "acme")
    await feed.publish(Outgoing(subject, forged, "forged"))
    _, bare = feed.subjects.stream("meter")
    await feed.publish(Outgoing(bare, orjson.dumps(points(1)), "of nobody"))
    await becomes(lambda: _value(ingest.rejected_messages), 2, within_s=20)
    assert await plane.acting(caller("other"))[Meter].count() == 5


async def _value(value: Any) -> Any:
    return value


async def test_what_another_tenant_says_is_not_derived(plane: pp.Plane) -> None:
    for number, tenant in enumerate(("acme", "other")):
        async with plane.acting(caller(tenant)).write() as tx:
            tx.add(Remark(id=number, tenant_id=tenant, deed_id=1, body=f"of {tenant}"))
    await plane.caught_up()
    assert await plane.acting(caller("acme"))[DeedCard].get(1) == ["a deed", ["of acme"]]
    assert (await plane.verify(deep=True)).clean


async def test_a_row_that_moves_is_gone_for_who_had_it(plane: pp.Plane) -> None:
    url = plane.settings.url("database_url") or ""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("UPDATE deed SET whose = 'acme' WHERE id = 4")
    await plane.caught_up()
    for tenant, expected in (("other", {5}), ("acme", {1, 2, 3, 4})):
        acting = plane.acting(caller(tenant))
        assert {int(hit.key) for hit in await acting[DeedSearch].search(ANY)} == expected
        assert ((await acting[DeedCard].get(4)) is not None) == (4 in expected)
    assert (await plane.verify(deep=True)).clean


async def test_another_tenants_row_is_as_if_it_were_not_there(plane: pp.Plane) -> None:
    """Not by an error that only what exists can raise, and not by what is filled."""
    async with plane.acting(caller("other")).write() as tx:
        tx.add(Deed(id=6, whose="other", body="unspeakable"))
    acme, other = plane.acting(caller("acme"))[DeedCard], plane.acting(caller("other"))[DeedCard]
    assert await acme.get(6) is None
    with pytest.raises(pp.PolyplaneError):
        await other.get(6)
    collection = plane.opened.generations.readings[DeedCard.name].collection
    await plane.cache.forget(collection)
    assert await acme.get(5) is None
    assert await plane.cache.get(collection, Scope.everything, "5") is None
    assert await other.get(5) is not None
    assert await plane.cache.get(collection, Scope("other", sees_all=True), "5") is not None


async def test_files_and_sagas_are_of_the_tenant(plane: pp.Plane) -> None:
    acme, other = plane.acting(caller("acme")), plane.acting(caller("other"))
    blob = await acme.blobs.put(b"secret", name="s", key="k")
    assert blob.key.startswith("acme/")
    again = await other.blobs.put(b"secret", name="s", key="k")
    assert (again.id, again.key) != (blob.id, blob.key) and again.key.startswith("other/")
    assert [it.id for it in await other.blobs.list()] == [again.id]
    for call in (
        other.blobs.head(blob.id),
        other.blobs.url(blob.id),
        other.blobs.delete(blob.id),
        other.blobs.confirm(blob.id),
        other.blobs.resume(blob.id, b"secret"),
        anext(other.blobs.open(blob)),
        anext(other.blobs.open(blob.id)),
    ):
        with pytest.raises(pp.NotFound):
            await call
    assert b"".join([it async for it in acme.blobs.open(blob)]) == b"secret"


async def test_a_graph_is_seen_as_far_as_it_is_theirs(plane: pp.Plane) -> None:
    """An edge counts with both of its ends; each of the three is somebody's."""
    async with plane.acting(caller("acme")).write() as tx:
        for key in (1, 2, 3):
            tx.add(Remark(id=key, tenant_id="acme", deed_id=key, body=f"from {key}"))
    await plane.settled(tx.token)

    async def led(who: pp.Caller, key: int) -> list[str]:
        return [it.node.key for it in await plane.acting(who).graph.neighbours(Leads, key)]

    program, eve = caller("acme"), caller("acme", EVE)
    assert [await led(program, key) for key in (1, 2, 3)] == [["2"], ["3"], []]
    assert [await led(eve, key) for key in (1, 2, 3)] == [[], [], []]  # the second is Ada's
    assert [await led(caller("acme", ADA), key) for key in (1, 2)] == [["2"], []]
    assert await led(caller("other"), 1) == []  # the remark is theirs, the deeds are not
    found = await plane.acting(eve).graph.find(DeedNodes)
    assert [it.key for it in found] == ["1", "3"]
    reached = await plane.acting(program).graph.within(DeedNodes, 1, hops=3)
    assert [(it.hops, it.node.key) for it in reached] == [(1, "2"), (2, "3")]
    ends = (DeedNodes, 1), (DeedNodes, 3)
    assert await plane.acting(program).graph.path(*ends)
    assert await plane.acting(eve).graph.path(*ends) is None


async def test_free_queries_are_for_who_operates_the_plane(plane: pp.Plane) -> None:
    free = "MATCH (d:Deed) RETURN count(d)"
    for refused in (caller("acme"), pp.Caller("x", permissions={"graph.cypher", "graph.read"})):
        with pytest.raises(Forbidden):
            await plane.acting(refused).graph.cypher(free)
    operator = pp.Caller("operator", permissions={"plane.operate"})
    assert (await plane.acting(operator).graph.cypher(free)).rows == [(len(DEEDS),)]
    assert (await plane.graph.cypher(free)).rows == [(len(DEEDS),)]
    with pytest.raises(pp.Misconfigured, match="say who reads it"):
        await plane.graph.find(DeedNodes)


# What a store gives is checked again


def _lance_forgets(patch: Patch) -> None:
    patch.setattr(lance, "narrowed", lambda _collection, _scope, where: where)


def _cache_forgets(patch: Patch) -> None:
    right = Tenants.get
    patch.setattr(Tenants, "get", lambda self, c, _, key: right(self, c, Scope.everything, key))


def _series_forget(patch: Patch) -> None:
    patch.setattr(clickhouse_queries, "narrowed", lambda _stream, _scope, where: where)


def _objects_forget(patch: Patch) -> None:
    right = BlobRows.get
    patch.setattr(BlobRows, "get", lambda self, blob_id, _: right(self, blob_id, "acme"))
    patch.setattr(Scope, "check_key", lambda *_: None)


def _graph_forgets(patch: Patch) -> None:
    right = asking.seen
    everything = Scope.everything
    patch.setattr(asking, "seen", lambda held, _scope, where=None: right(held, everything, where))


async def _nodes(plane: pp.Plane) -> None:
    await plane.acting(caller("acme", EVE)).graph.nodes(DeedNodes, [2])


async def _edges(plane: pp.Plane) -> None:
    """Of a remark that `other` has made on a deed of acme's, which leads to another of those."""
    await plane.acting(caller("acme")).graph.neighbours(Leads, 1)


async def _search(plane: pp.Plane) -> None:
    await plane.acting(caller("other"))[DeedSearch].search(ANY)


async def _get(plane: pp.Plane) -> None:
    await plane.acting(caller("acme", EVE))[DeedSearch].get([2])


async def _card(plane: pp.Plane) -> None:
    assert await plane.acting(caller("acme"))[DeedCard].get(2)  # it is filled
    await plane.acting(caller("acme", EVE))[DeedCard].get(2)


async def _count(plane: pp.Plane) -> None:
    await plane.acting(caller("other"))[Meter].count()


async def _window(plane: pp.Plane) -> None:
    meter = plane.acting(caller("other"))[Meter]
    await meter.window(value="value", bucket_s=3_600, where={})


async def _latest(plane: pp.Plane) -> None:
    await plane.acting(caller("other"))[Meter].latest(by="tenant", where={})


async def _blob(plane: pp.Plane) -> None:
    blob = await plane.acting(caller("acme")).blobs.put(b"secret")
    await anext(plane.acting(caller("other")).blobs.open(blob.id))


async def _blob_url(plane: pp.Plane) -> None:
    blob = await plane.acting(caller("acme")).blobs.put(b"secret")
    await plane.acting(caller("other")).blobs.url(blob.id)


def _unchecked(reader: type[Any], name: str, given: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(reader, name, given)


def _cache_reader_unchecked(patch: Patch) -> None:
    """As it would be without the look at what the cache gave."""
    right = CacheReader.get

    async def broken(self: Any, key: Any) -> Any:
        reading = self._reading()
        found = await self._store.get(reading.collection, self._scope, str(key))
        return found.value if found is not None else await right(self, key)

    patch.setattr(CacheReader, "get", broken)


_HITS = _unchecked(VectorReader, "_checked", lambda _self, hits: hits)
_POINTS = _unchecked(StreamAccess, "_check", lambda *_: None)
_GRAPH = _unchecked(Graph, "_seen", lambda _self, found: list(found))
_BLOBS = _unchecked(Blobs, "_scope", lambda _self, _blob, tenant: Scope(tenant))

Forgets = Callable[[Patch], None]
Reads = Callable[[pp.Plane], Awaitable[None]]
FORGETFUL: dict[str, tuple[Forgets, Reads, str, Forgets]] = {
    "search": (_lance_forgets, _search, "deed_search", _HITS),
    "get": (_lance_forgets, _get, "deed_search", _HITS),
    "nodes": (_graph_forgets, _nodes, "Deed", _GRAPH),
    "edges": (_graph_forgets, _edges, "LEADS", _GRAPH),
    "cache": (_cache_forgets, _card, "deed_card", _cache_reader_unchecked),
    "count": (_series_forget, _count, "meter", _POINTS),
    "window": (_series_forget, _window, "meter", _POINTS),
    "latest": (_series_forget, _latest, "meter", _POINTS),
    "open": (_objects_forget, _blob, "blobs", _BLOBS),
    "url": (_objects_forget, _blob_url, "blobs", _BLOBS),
}
"""A store that forgets its filter, who reads there, where, and what takes the check away."""


async def test_a_store_that_forgets_the_filter_is_an_alarm(
    plane: pp.Plane, client_of: Callable[[pp.Plane], AsyncClient], monkeypatch: Patch
) -> None:
    assert (await plane.health()).status == "healthy"
    for name, (forgets, reads, place, unchecked) in FORGETFUL.items():
        before = plane.opened.alarms.violations[place]
        with monkeypatch.context() as patch:
            forgets(patch)
            with pytest.raises(ScopeViolated) as violated:
                await reads(plane)
            assert plane.opened.alarms.violations[place] == before + 1, name
            assert "acme" not in str(violated.value) and "other" not in str(violated.value)
            unchecked(patch)
            with pytest.raises(Failed), pytest.raises(ScopeViolated):  # this suite notices
                await reads(plane)
        await reads(plane) if not reads.__name__.startswith("_blob") else None
    health = await plane.health()
    assert health.status == "degraded"
    assert {(it.what, it.state) for it in health.work} >= {
        (place, "violated") for _, _, place, _ in FORGETFUL.values()
    }
    page = (await client_of(plane).get("/metrics")).text
    assert 'polyplane_scope_violations_total{place="meter"} 3.0' in page


# What is reserved


async def test_reserved_names_are_the_planes(plane_of: PlaneOf) -> None:
    class Forged(pp.Vectors[Deed]):
        dimensions = DIMENSIONS

        def derive(self, deed: Deed, /) -> pp.Vector:
            return pp.Vector("x", {"tenant_id": "other"}, [1.0] * DIMENSIONS)

    plane = await plane_of(models=[Deed], projections=[Forged])
    async with plane.acting(caller("acme")).write() as tx:
        tx.add(Deed(id=1, whose="acme", body="x"))
    parked = plane.opened.journal.dead.letters

    async def why() -> list[bool]:
        found = await parked("forged", keys=None, after="", limit=10)
        return ["tenant_id" in it.error for it in found]

    await becomes(why, [True], within_s=20)
    await plane.caught_up(Forged)
    assert await plane.acting(caller("other"))[Forged].search(ANY) == []


async def test_what_touches_tenants_has_one(plane_of: PlaneOf) -> None:
    with pytest.raises(pp.Misconfigured) as refused:
        await plane_of(models=[Shelf, Remark], projections=[ShelfCard])
    assert "belong to tenants" in str(refused.value)
