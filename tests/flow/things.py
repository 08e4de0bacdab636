"""A small truth with one projection, and ways to look past the plane that several tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import nats
import numpy as np
import psycopg
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.flow.crew import Crew
from polyplane.flow.relay import Relay

DIMENSIONS: Final = 4
ODD: Final = [
    "",
    " ",
    "a b",
    "Größe 🙂",
    "it's",
    'say "x"',
    "back\\slash",
    "{a,b}",
    "NULL",
    "%s\t\x01",
]


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Thing(Base):
    """The truth: a number by a name."""

    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


class ThingSearch(pp.Vectors[Thing]):
    """What follows: the body, but nothing from an empty one."""

    dimensions = DIMENSIONS

    def derive(self, thing: Thing, /) -> pp.Vector | None:
        """A cheap deterministic embedding."""
        if not thing.body:
            return None
        return pp.Vector(thing.body, {"n": thing.id}, embedding_of(thing.body))


def embedding_of(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Something that depends on the text, and is never zero."""
    found = np.frombuffer((text.encode() * DIMENSIONS)[:DIMENSIONS], dtype="u1")
    return found.astype("f4") + np.float32(1)


def admin_urls(plane: pp.Plane) -> Mapping[str, str]:
    """Where the plane's engines are, for somebody who may do anything there."""
    opened = plane.opened
    return {**opened.urls, **(opened.engines.admins if opened.engines else {})}


async def connect(plane: pp.Plane) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """A connection behind the plane's back, in autocommit."""
    url = plane.settings.url("database_url") or plane.opened.urls["postgres"]
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def by_hand(plane: pp.Plane, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What somebody does with psql."""
    async with await connect(plane) as connection:
        cursor = await connection.execute(statement.encode(), values or None)
        return await cursor.fetchall() if cursor.description else []


async def evil(connection: psycopg.AsyncConnection[Any]) -> None:
    """A session whose search_path finds types, functions and operators that nobody should call."""
    await connection.execute(
        "CREATE SCHEMA evil;"
        " CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false);"
        " CREATE TABLE evil.new_rows (id int); CREATE TABLE evil.old_rows (id int);"
        " CREATE FUNCTION evil.steal() RETURNS int LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''stolen''; END'"
    )
    for name, kind in (("cardinality", "anyarray"), ("current_setting", "text")):
        await connection.execute(
            f"CREATE FUNCTION evil.{name}({kind}) RETURNS int LANGUAGE sql AS 'SELECT evil.steal()'"
        )
    for kind in ("text", "int", "bigint"):
        await connection.execute(
            f"CREATE FUNCTION evil.steal({kind}, {kind}) RETURNS bool LANGUAGE sql"
            " AS 'SELECT evil.steal() > 0'".replace("text,", "pg_catalog.text,")
        )
        for operator in ("=", "<>", "-", "/", "||", ">=", "<=", "<", ">"):
            await connection.execute(
                f"CREATE OPERATOR evil.{operator} (LEFTARG = {kind}, RIGHTARG = {kind},"
                " FUNCTION = evil.steal)"
            )
    await connection.execute("SET search_path = evil, pg_catalog")


async def becomes(
    look: Callable[[], Awaitable[object]], wanted: object, *, within_s: float
) -> None:
    """Wait until `look()` is `wanted`; fail with what it was last."""
    last: object = None
    try:
        async with asyncio.timeout(within_s):
            while (last := await look()) != wanted:
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{last!r} did not become {wanted!r} in {within_s} s") from None


async def messages(plane: pp.Plane, stream: str, start: int = 1) -> list[tuple[str, bytes]]:
    """(subject, body) of all that a stream holds from `start` on, read past the adapter."""
    url = plane.settings.url("nats_url")
    assert url is not None
    client = await nats.connect(url)
    try:
        js = client.jetstream()
        last = (await js.stream_info(stream)).state.last_seq
        found = [await js.get_msg(stream, seq=n) for n in range(start, last + 1)]
    finally:
        await client.close()
    return [(message.subject or "", message.data or b"") for message in found]


class Killed(BaseException):
    """What ends a task as kill -9 does: nothing in it knows how to go on."""


class Proxy:
    """`inner`, but for some of its methods."""

    def __init__(self, inner: Any, **methods: Callable[..., Any]) -> None:
        self._inner = inner
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        return self._methods[name] if name in self._methods else getattr(self._inner, name)


def failing(
    method: Callable[..., Awaitable[Any]], at: int, *, after: bool, error: BaseException
) -> Callable[..., Awaitable[Any]]:
    """`method`, which raises `error` at call `at` (from 0): before it, or after it is done."""
    calls = 0

    async def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at + 1 and not after:
            raise error
        found = await method(*args, **kwargs)
        if calls == at + 1:
            raise error
        return found

    return call


class Running(Protocol):
    """Something that moves data until it is cancelled."""

    async def run(self) -> None: ...


@asynccontextmanager
async def running(*living: Running) -> AsyncIterator[None]:
    """All of them run until the block ends; a relay gives its lease up then."""
    crew = Crew()
    for it in living:
        crew.add(type(it).__name__, it.run)
    try:
        yield
    finally:
        await crew.stop()
        for it in living:
            if isinstance(it, Relay):
                await it.stop()


async def is_killed(doomed: Running) -> bool:
    """Whether it meets its fault (Killed) within a second."""
    task = asyncio.create_task(doomed.run())
    done, _ = await asyncio.wait([task], timeout=1)
    while not done:
        task.cancel()  # libraries swallow one now and then
        done, _ = await asyncio.wait([task], timeout=1)
    [found] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(doomed, Relay):
        await doomed.stop()
    assert isinstance(found, Killed | asyncio.CancelledError), found
    return isinstance(found, Killed)


def relay_of(plane: pp.Plane, *, feed: Any = None, journal: Any = None) -> Relay:
    """A relay, with parts that may fail."""
    opened = plane.opened

    async def nothing_applied() -> bool:
        return False

    return Relay(
        opened.database,
        journal or opened.journal,
        feed or opened.feed,
        opened.feed.subjects,
        epoch=opened.epoch,
        all_applied=nothing_applied,
    )


async def all_relayed(plane: pp.Plane) -> None:
    """Wait until all that is committed is noted as published."""
    journal, epoch = plane.opened.journal, plane.opened.epoch
    cut = await journal.cut()
    await becomes(lambda: journal.is_cut_relayed(epoch, cut), True, within_s=10)
