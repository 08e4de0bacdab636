"""Transactions of truth: all or nothing, in our words, and no connection is handed on dirty."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.errors import TooLarge, TruthDown
from polyplane.truth import session
from polyplane.truth.database import Database
from tests.conftest import PlaneOf
from tests.flow.things import becomes, by_hand, connect


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Account(Base):
    """Something with every kind of constraint."""

    __tablename__ = "account"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "name"),
        sa.CheckConstraint("balance >= 0", name="balance"),
    )
    id: Mapped[UUID] = pp.key()
    tenant_id: Mapped[str] = mapped_column(server_default="default")
    name: Mapped[str] = mapped_column(sa.String(20))
    balance: Mapped[int] = mapped_column(sa.Integer, server_default="0")
    parent_id: Mapped[UUID | None] = mapped_column(
        sa.ForeignKey("public.account.id", deferrable=True, initially="DEFERRED")
    )


class AccountSearch(pp.Vectors[Account]):
    """So that it is captured."""

    dimensions = 1

    def derive(self, account: Account, /) -> pp.Vector | None:
        """Anything."""
        return pp.Vector(account.name, {}, [1.0])


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """Accounts; nothing moves."""
    return await plane_of(models=[Account], projections=[AccountSearch], flows=False)


async def names(plane: pp.Plane) -> set[str]:
    """What is really stored."""
    return {name for (name,) in await by_hand(plane, "SELECT name FROM account")}


async def open_transactions(plane: pp.Plane) -> int:
    """Connections of the plane that are in one, or in a statement."""
    [(count,)] = await by_hand(
        plane,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'polyplane' AND state <> 'idle'",
    )
    return int(count)


async def write(plane: pp.Plane, **columns: Any) -> UUID:
    """One account."""
    async with plane.write(actor="ada") as tx:
        account = Account(**columns)
        tx.add(account)
    return account.id


async def test_what_constraints_refuse_names_the_field(plane: pp.Plane) -> None:
    """And nothing of the transaction is stored, nor captured, nor published."""
    first = await write(plane, name="first")
    [(captured,)] = await by_hand(plane, "SELECT count(*) FROM polyplane.outbox")
    for columns, kind, field in (
        ({"name": "first"}, pp.Conflict, "name"),
        ({"id": first, "name": "x"}, pp.Conflict, "id"),
        ({"name": None}, pp.Refused, "name"),
        ({"name": "x" * 21}, pp.Refused, ""),
        ({"name": "nul\0"}, pp.Refused, ""),
        ({"name": "x", "balance": -1}, pp.Refused, "ck_account_balance"),
        ({"name": "x", "balance": 2**31}, pp.Refused, ""),
        ({"name": "x", "parent_id": uuid4()}, pp.Refused, "parent_id"),  # at the commit
    ):
        with pytest.raises(kind) as caught:
            async with plane.write(actor="ada") as tx:
                tx.add(Account(name="with it"))
                tx.emit("accounts.made", {})
                await tx.flush()
                tx.add(Account(**columns))
        assert isinstance(caught.value, pp.Refused) and caught.value.field == field, columns
        assert tx.token is None
    child = await write(plane, name="child", parent_id=first)
    with pytest.raises(pp.Conflict) as caught:
        async with plane.write(actor="ada") as tx:
            account = await tx.get(Account, first)
            assert account is not None
            await tx.delete(account)
    assert isinstance(caught.value, pp.Conflict) and caught.value.field == "id"
    assert await names(plane) == {"first", "child"} and child
    assert await by_hand(plane, "SELECT count(*) FROM polyplane.outbox") == [(captured + 1,)]


async def test_what_others_do_at_the_same_time_is_a_conflict(plane: pp.Plane) -> None:
    """Deadlocks, rows that are gone, locks: nobody says that PostgreSQL is down."""
    one, other = await write(plane, name="one"), await write(plane, name="other")
    ready = asyncio.Barrier(2)

    async def change(first: UUID, second: UUID) -> None:
        async with plane.write(actor="ada") as tx:
            await tx.get(Account, first, for_update=True)
            await ready.wait()
            await tx.get(Account, second, for_update=True)

    found = await asyncio.gather(change(one, other), change(other, one), return_exceptions=True)
    assert sorted(type(it).__name__ for it in found) == ["Conflict", "NoneType"]
    with pytest.raises(pp.Conflict):
        async with plane.write(actor="ada") as tx:
            account = await tx.get(Account, one)
            assert account is not None
            await by_hand(plane, "DELETE FROM account WHERE id = %s", one)
            account.name = "too late"
    with pytest.raises(pp.Conflict):
        async with plane.write(actor="ada") as tx:
            await tx.execute(sa.text("SET LOCAL lock_timeout = '10ms'"))
            async with plane.write(actor="bob") as second:
                await second.get(Account, other, for_update=True)
                await tx.get(Account, other, for_update=True)
    assert await open_transactions(plane) == 0


async def test_what_the_block_raises_comes_out_as_it_is(plane: pp.Plane) -> None:
    """A timeout of the application's own is no fault of PostgreSQL."""
    for error in (TimeoutError("mine"), ValueError("mine"), OSError("mine"), KeyError("mine")):
        with pytest.raises(type(error)) as caught:
            async with plane.write(actor="ada") as tx:
                tx.add(Account(name="never"))
                await tx.flush()
                raise error
        assert caught.value is error and tx.token is None
        with pytest.raises(type(error)) as caught:
            async with plane.read():
                raise error
        assert caught.value is error
    with pytest.raises(TimeoutError):
        async with plane.write(actor="ada"), asyncio.timeout(0.01):
            await asyncio.sleep(1)
    assert await names(plane) == set() and await open_transactions(plane) == 0


async def test_transactions_in_one_another_are_two(plane: pp.Plane) -> None:
    """The inner one stays when the outer one does not."""
    with pytest.raises(ValueError, match="outer"):
        async with plane.write(actor="ada") as outer:
            outer.add(Account(name="outer"))
            await outer.flush()
            async with plane.write(actor="bob") as inner:
                inner.add(Account(name="inner"))
            assert inner.token is not None
            raise ValueError("outer")
    assert await names(plane) == {"inner"}


async def test_a_savepoint_of_the_session_is_part_of_the_write(plane: pp.Plane) -> None:
    """What is undone in it is not captured; the rest has the transaction's token."""
    async with plane.write(actor="ada") as tx:
        tx.add(Account(name="first"))
        await tx.flush()
        with pytest.raises(sa.exc.IntegrityError):
            async with tx.session.begin_nested():
                await tx.execute(sa.insert(Account).values(name="undone"))
                await tx.execute(sa.insert(Account).values(name="first"))
        tx.add(Account(name="last"))
    assert await names(plane) == {"first", "last"} and tx.token is not None
    rows = await by_hand(plane, "SELECT DISTINCT xid::text FROM polyplane.outbox")
    assert rows == [(str(tx.token.xid),)]


async def test_a_cancelled_request_leaves_nothing_behind(plane: pp.Plane) -> None:
    """At any moment: whole or not at all, no open transaction, the next caller's is clean."""
    chance = random.Random(7)
    stored: set[str] = set()
    unsure: set[str] = set()

    async def request(name: str) -> None:
        unsure.add(name)
        async with plane.write(actor=name) as tx:
            tx.add(Account(name=name))
            tx.emit("accounts.made", {"name": name})
            await tx.flush()
            await tx.execute(sa.text("SELECT pg_sleep(0.002)"))
            found = await tx.scalars(sa.text("SELECT current_setting('polyplane.actor')"))
            assert found.one() == name
        unsure.discard(name)
        stored.add(name)

    for turn in range(25):
        tasks = [asyncio.create_task(request(f"{turn} {n}")) for n in range(8)]
        for task in tasks:
            await asyncio.sleep(chance.random() * 0.003)
            if chance.random() < 0.8:
                task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            assert found is None or isinstance(found, asyncio.CancelledError), found
    await becomes(lambda: open_transactions(plane), 0, within_s=5)
    there = await names(plane)
    assert stored <= there <= stored | unsure and len(unsure) > 50
    rows = await by_hand(plane, "SELECT body->'data'->>'name' FROM polyplane.outbox WHERE op = 'E'")
    assert sorted(name for (name,) in rows) == sorted(there)
    assert await by_hand(plane, "SELECT count(*) FROM account") == [(len(there),)]


async def test_a_request_cancelled_while_it_waits_for_a_lock(plane: pp.Plane) -> None:
    """The server stops waiting too."""
    one = await write(plane, name="one")
    async with await connect(plane) as holder, holder.transaction():
        await holder.execute("SELECT FROM account FOR UPDATE")

        async def request() -> None:
            async with plane.write(actor="ada") as tx:
                await tx.get(Account, one, for_update=True)

        task = asyncio.create_task(request())
        await becomes(lambda: open_transactions(plane), 1, within_s=5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await becomes(lambda: open_transactions(plane), 0, within_s=5)


async def test_reads_are_of_one_moment_and_read_only(plane: pp.Plane) -> None:
    """And what they are refused, they are told."""
    async with plane.read() as reading:
        before = (await reading.execute(sa.select(sa.func.count(Account.id)))).scalar_one()
        await write(plane, name="meanwhile")
        after = (await reading.execute(sa.select(sa.func.count(Account.id)))).scalar_one()
    assert before == after == 0
    with pytest.raises(DBAPIError, match="read-only"):
        async with plane.read() as reading:
            await reading.execute(sa.insert(Account).values(name="never"))
    with pytest.raises(pp.Refused):
        async with plane.read() as reading:
            await reading.execute(sa.select(Account).where(Account.balance < 2**31))
    assert await names(plane) == {"meanwhile"} and await open_transactions(plane) == 0


async def test_events_that_could_not_be_published_are_refused(plane: pp.Plane) -> None:
    """Now, and not for ever by the relay."""
    for kind, data, subject, error in (
        ("accounts", {}, "", pp.Refused),
        ("Accounts.made", {}, "", pp.Refused),
        ("accounts." + "x" * 300, {}, "", pp.Refused),
        ("accounts.made", {}, "x" * 300, pp.Refused),
        ("accounts.made", {"x": "x" * 600_000}, "", TooLarge),
        ("accounts.made", {"x": object()}, "", pp.Refused),
        ("accounts.made", {"x": 2**70}, "", pp.Refused),
        ("accounts.made", {"x": "nul\0"}, "", pp.Refused),
    ):
        with pytest.raises(error):
            async with plane.write(actor="ada") as tx:
                tx.add(Account(name="never"))
                tx.emit(kind, data, subject=subject)
    with pytest.raises(pp.Refused):
        async with plane.write(actor="ada", tenant="x" * 300) as tx:
            tx.emit("accounts.made", {})
    async with plane.write(actor="ada") as tx:
        tx.emit("accounts.made", {"x": [1e300, 1e20, 5e-324, None, "Größe 🙂"]}, subject="ü" * 80)
    assert await names(plane) == set()


async def test_a_write_that_writes_nothing_has_no_token(plane: pp.Plane) -> None:
    """And waiting for it is waiting for nothing."""
    async with plane.write(actor="ada") as tx:
        await tx.execute(sa.select(Account))
    assert tx.token is None
    await plane.settled(tx.token)


async def test_a_feed_that_is_down_fails_no_write(plane: pp.Plane) -> None:
    """The hint is lost, the write is not."""
    await plane.opened.feed._client.close()
    await write(plane, name="stored")
    assert await names(plane) == {"stored"}


async def test_no_postgres_is_truth_down_at_once() -> None:
    """Also for every further call."""
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    for _ in range(2):
        began = perf_counter()
        with pytest.raises(TruthDown):
            await database.ping()
        with pytest.raises(TruthDown):
            async with session.write(database, caller=pp.Caller("a", "t"), epoch=1):
                raise AssertionError("never gets here")
        with pytest.raises(TruthDown):
            async with session.read(database, caller=pp.Caller("a", "t")):
                raise AssertionError("never gets here")
        assert perf_counter() - began < 5
    await database.close()


@asynccontextmanager
async def paused(engines: Engines) -> AsyncIterator[None]:
    """PostgreSQL with all its processes stands still."""
    pid = engines.health()["postgres"].pid
    assert pid is not None
    tree = [psutil.Process(pid), *psutil.Process(pid).children()]
    try:
        for process in tree:
            process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in tree:
            process.send_signal(signal.SIGCONT)


async def test_a_postgres_that_stands_still_is_truth_down_in_bounded_time(
    plane: pp.Plane, engines: Engines
) -> None:
    """It still takes connections and bytes; only it does not answer."""
    database = Database(
        plane.settings.url("database_url") or "", call_timeout_s=0.3, statement_timeout_s=0.3
    )
    await database.ping()
    try:
        async with session.write(database, caller=pp.Caller("a", "t"), epoch=1) as kept:
            await kept.execute(sa.text("SELECT 1"))
            async with paused(engines):

                async def use() -> None:
                    async with session.write(database, caller=pp.Caller("a", "t"), epoch=1) as tx:
                        await tx.execute(sa.text("SELECT 1"))

                async def go_on() -> None:
                    with pytest.raises(DBAPIError):
                        await kept.execute(sa.text("SELECT 1"))

                began = perf_counter()
                calls = [database.ping(), use(), go_on()]
                found = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(it) for it in found] == [TruthDown, TruthDown, type(None)], found
                assert perf_counter() - began < 20
                raise psycopg.Rollback
    except psycopg.Rollback:
        pass
    await database.ping()
    await database.close()
