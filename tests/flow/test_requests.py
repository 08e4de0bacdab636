"""The request cache on a plane: what changes ends entries, one loads for all, and the proof."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.model.requests import Answer
from polyplane.runtime.requests import RequestCache
from polyplane.stores.cache.names import CHAIN, MARK, record
from tests.conftest import PlaneOf
from tests.flow.things import Base, becomes, by_hand


class Thing(Base):
    """A number with a text."""

    __tablename__ = "asked_thing"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


class Alone(Base):
    """Nobody projects it, and nobody follows it."""

    __tablename__ = "asked_alone"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ThingCard(pp.Cached[Thing]):
    """What makes the plane tell of changes."""

    key_prefix = "asked:"

    def derive(self, thing: Thing, /) -> pp.Entry:
        return pp.Entry(thing.body)


DECLARED: Final[dict[str, Any]] = {"models": [Thing, Alone], "projections": [ThingCard]}
TABLE: Final = "public.asked_thing"


class Asked:
    """A load that counts itself."""

    def __init__(self, plane: pp.Plane, thing: int = 1) -> None:
        self.times = 0
        self.fault: Exception | None = None
        self._plane, self._thing = plane, thing

    async def __call__(self) -> Any:
        self.times += 1
        if self.fault is not None:
            raise self.fault
        query = f"SELECT body FROM asked_thing WHERE id = {self._thing}"
        return [body for (body,) in await by_hand(self._plane, query)]


async def attended(plane: pp.Plane) -> None:
    """Wait until somebody vouches for entries."""
    store = plane.request_cache._loads.store

    async def look() -> bool:
        mark = await store.mark()
        chain = await plane.cache._server._client.get(store._root + CHAIN)  # type: ignore[attr-defined]
        return mark is not None and bool(chain) and chain.endswith(mark.chain.hex().encode())

    await becomes(look, True, within_s=20)


async def wrote(plane: pp.Plane, thing: int, body: str) -> None:
    """Change a row, and wait until the cache has been told."""
    async with plane.write(actor="ada") as tx:
        row = insert(Thing).values(id=thing, body=body)
        changed = row.on_conflict_do_update(index_elements=[Thing.id], set_={"body": body})
        await tx.execute(changed)
    await plane.request_cache.settled(tx.token)


def got(
    plane: pp.Plane, load: Callable[[], Awaitable[Any]], *depends: Any, **how: Any
) -> Awaitable[Answer]:
    given: dict[str, Any] = {"key": "k", "ttl_s": 600, "beta": 0.0, **how}
    return plane.request_cache.get_or_load(given.pop("key"), load, depends=depends, **given)


async def test_what_changes_ends_what_depends_on_it(plane_of: PlaneOf) -> None:
    plane = await plane_of(**DECLARED)
    await attended(plane)
    await wrote(plane, 1, "a")
    load = Asked(plane)
    assert await got(plane, load, (Thing, 1)) == Answer(["a"], "load")
    assert await got(plane, load, (Thing, 1)) == Answer(["a"], "cache")
    await wrote(plane, 2, "other")
    assert await got(plane, load, (Thing, 1)) == Answer(["a"], "cache")
    await wrote(plane, 1, "b")
    assert await got(plane, load, (Thing, 1)) == Answer(["b"], "load")
    await by_hand(plane, "DELETE FROM asked_thing WHERE id = 1")
    await plane.caught_up()

    async def shown() -> Any:
        return (await got(plane, load, (Thing, 1))).value

    await becomes(shown, [], within_s=20)
    # A table as a whole; and a TRUNCATE is a change of every row.
    whole = Asked(plane, 2)
    assert (await got(plane, whole, Thing, key="all")).value == ["other"]
    assert (await got(plane, whole, Thing, key="all")).origin == "cache"
    await wrote(plane, 3, "new")
    assert (await got(plane, whole, Thing, key="all")).origin == "load"
    await by_hand(plane, "TRUNCATE asked_thing")
    await becomes(lambda: _value(plane, whole), [], within_s=20)
    # What depends on nothing is forgotten by name alone.
    free = Asked(plane)
    assert [(await got(plane, free, key="free")).origin for _ in range(2)] == ["load", "cache"]
    await plane.request_cache.forget("free")
    assert (await got(plane, free, key="free")).origin == "load"
    with pytest.raises(pp.Misconfigured):
        await got(plane, free, Alone)
    with pytest.raises(pp.Refused):
        await got(plane, free, (Thing, 1.5))
    with pytest.raises(pp.Refused):
        await got(plane, free, key="")


async def _value(plane: pp.Plane, load: Asked) -> Any:
    return (await got(plane, load, Thing, key="all")).value


async def test_one_loads_for_all(plane_of: PlaneOf) -> None:
    """Two planes, as in two processes; callers that come at once and a value that costs time."""
    plane = await plane_of(**DECLARED)
    beside = await plane_of(settings=plane.settings, flows=False, **DECLARED)
    await attended(plane)
    await wrote(plane, 1, "a")
    load = Asked(plane)

    async def slow() -> Any:
        found = await load()
        await asyncio.sleep(0.1)
        return found

    calls = [got(it, slow, (Thing, 1)) for it in (plane, beside) for _ in range(250)]
    answers = await asyncio.gather(*calls)
    assert {tuple(it.value) for it in answers} == {("a",)}
    assert load.times <= 2
    assert {it.origin for it in answers} == {"load", "cache"}
    # A load that fails tells all who wait for it, and leaves nothing behind.
    load.fault = ValueError("no")
    refused = await asyncio.gather(
        *(got(plane, load, key="bad") for _ in range(20)), return_exceptions=True
    )
    assert {type(it) for it in refused} == {ValueError}
    load.fault = None
    assert (await got(beside, load, key="bad")).origin == "load"
    # Who goes away does not take the load with them.
    caller = asyncio.ensure_future(got(plane, slow, key="gone"))
    await becomes(lambda: _times(load), load.times + 1, within_s=10)
    caller.cancel()
    assert (await got(plane, load, key="gone")).origin == "cache"
    # Asked for often and about to end, it is loaded anew before its time.
    counts = plane.request_cache._loads.counts
    # Each read does so with a chance of exp(-18 / (0.1 * 100)), and is over long before the end.
    await got(plane, slow, key="early", ttl_s=20, beta=100.0)

    async def early() -> bool:
        await got(plane, slow, key="early", ttl_s=20, beta=100.0)
        return counts["early"] > 0

    await becomes(early, True, within_s=60)
    await got(plane, lambda: _bytes(2 << 20), key="large")
    assert (await got(plane, lambda: _bytes(2), key="large")).origin == "load"
    assert counts["too_large"] == 1


async def _times(load: Asked) -> int:
    return load.times


async def _bytes(size: int) -> str:
    return "x" * size


async def test_the_proof_and_what_may_vanish(plane_of: PlaneOf, engines: Engines) -> None:
    plane = await plane_of(**DECLARED)
    await attended(plane)
    await wrote(plane, 1, "a")
    load, root = Asked(plane), f"{plane.namespace}:"
    for key in ("k", "l"):
        await got(plane, load, (Thing, 1), key=key)
    found = await plane.verify()
    assert found.clean
    [part] = found.requests
    assert (part.entries, part.count, part.damaged, part.stale) == (2, 2, 0, ())
    async with Redis.from_url(engines.urls["valkey"]) as raw:
        names = {"row": record(root, TABLE, "1"), "mark": root + MARK, "chain": root + CHAIN}
        # A record that says less than it should: this is how it would look, had we lost a change.
        before = await raw.get(names["row"])
        await wrote(plane, 1, "b")
        await got(plane, load, (Thing, 1), key="l")
        await raw.set(names["row"], before or b"", keepttl=True)
        assert await got(plane, load, (Thing, 1)) == Answer(["a"], "cache")
        drift = await plane.verify(RequestCache)
        assert (drift.stale, drift.missing, drift.extra) == (1, 0, 0)
        assert drift.requests[0].stale == (f"{root}%-:cache:k",)
        assert (await plane.repair(RequestCache, dry=True)).left.stale == 1
        mended = await plane.repair()
        assert (mended.found.stale, mended.left.stale) == (1, 0)
        assert await got(plane, load, (Thing, 1)) == Answer(["b"], "load")
        assert (await plane.verify()).clean
        # Whatever the server lets go of: never what is stale, and soon in step again.
        for number, name in enumerate(names.values()):
            await got(plane, load, (Thing, 1))
            await raw.delete(name)
            await wrote(plane, 1, f"c{number}")
            assert (await got(plane, load, (Thing, 1))).value == [f"c{number}"]
            await attended(plane)
            await got(plane, load, (Thing, 1))
            assert (await got(plane, load, (Thing, 1))).origin == "cache"
    # When its time is over, and truth is down: what has not changed is given, where declared.
    await got(plane, load, (Thing, 1), key="s", ttl_s=1, stale_s=600)
    load.fault = pp.Unavailable("Truth is down.")

    async def origin() -> str:
        return (await got(plane, load, (Thing, 1), key="s", ttl_s=1, stale_s=600)).origin

    await becomes(origin, "stale", within_s=20)
    with pytest.raises(pp.Unavailable):
        await got(plane, load, (Thing, 1), key="s2", stale_s=600)
    await wrote(plane, 1, "changed")
    with pytest.raises(pp.Unavailable):
        await got(plane, load, (Thing, 1), key="s", ttl_s=1, stale_s=600)


async def test_entries_are_of_their_tenant_and_owner(plane_of: PlaneOf) -> None:
    plane = await plane_of(**DECLARED, flows=False)
    ada, eve = UUID(int=1), UUID(int=2)

    async def origin(caller: pp.Caller, value: str, **how: Any) -> Answer:
        async def load() -> Any:
            return value

        cache = plane.acting(caller).request_cache
        return await cache.get_or_load("k", load, ttl_s=600, depends=(), beta=0.0, **how)

    # Nobody follows: all is loaded, and says so.
    assert (await origin(pp.Caller("a", "acme"), "v")).origin == "direct"
    store = plane.request_cache._loads.store
    await store.begin_chain(b"chain..8", 1 << 40, instead=b"")
    assert await store.apply(b"chain..8", 1 << 40, 1 << 40, [], vouch=True)
    callers = [
        pp.Caller("program", "acme"),
        pp.Caller("program", "other"),
        pp.Caller("ada", "acme", user=ada),
        pp.Caller("eve", "acme", user=eve),
        pp.Caller("ada", "other", user=ada),
        pp.Caller("program", "a:b"),
        pp.Caller("program", ""),
        pp.Caller("program", "%-"),
        pp.Caller("program", "default"),
    ]
    for index, caller in enumerate(callers):
        assert await origin(caller, f"of {index}") == Answer(f"of {index}", "load")
    for index, caller in enumerate(callers):
        assert await origin(caller, "new") == Answer(f"of {index}", "cache")
    own = await plane.request_cache.get_or_load("k", lambda: _bytes(1), ttl_s=9, depends=())
    assert own == Answer("x", "load")
    # What is the same for everybody of a tenant is shared by them, and with nobody else.
    assert (await origin(callers[2], "s", shared=True)).value == "of 0"
    assert (await origin(callers[4], "s", shared=True)).value == "of 1"
    [part] = (await plane.verify(RequestCache)).requests
    assert part.count == len(callers) + 1
