"""A small truth with one projection, and ways to look past the plane that several tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nats
import numpy as np
import psycopg
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp

DIMENSIONS: Final = 4


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


async def connect(plane: pp.Plane) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """A connection behind the plane's back, in autocommit."""
    url = plane.settings.url("database_url")
    assert url is not None
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def by_hand(plane: pp.Plane, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What somebody does with psql."""
    async with await connect(plane) as connection:
        cursor = await connection.execute(statement.encode(), values or None)
        return await cursor.fetchall() if cursor.description else []


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
