"""The plane by way of a PgBouncer that gives every transaction another server process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from psycopg import sql

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.errors import Misconfigured
from polyplane.truth.database import Database
from tests.conftest import PlaneOf
from tests.flow.bouncer import SERVER_CONNECTIONS, bouncer, pooled, program, through
from tests.flow.mixing import fill, mix
from tests.flow.owned import Letter, LetterSearch, Posting, Stamp, StampEntry, apart
from tests.flow.things import by_hand

MODELS = [Letter, Stamp]


@pytest.fixture
async def settings(
    own_settings: pp.Settings, engines: Engines, place: Path
) -> AsyncIterator[pp.Settings]:
    """Every login by way of a PgBouncer."""
    program()
    async with bouncer(engines, place) as port:
        yield through(apart(own_settings, engines), port)


async def test_everything_works_through_it(settings: pp.Settings, plane_of: PlaneOf) -> None:
    """Migrations, capture, writes, reads, a saga, the relay, projections, verify and repair."""
    plane = await plane_of(
        settings=settings,
        models=MODELS,
        projections=[LetterSearch, StampEntry],
        sagas=[Posting],
        blobs=True,
    )
    assert 1 < await pooled(settings.url("database_app_url") or "") <= SERVER_CONNECTIONS
    for number in range(20):  # more often than a driver waits before it prepares
        async with plane.write(actor="x", tenant="a") as tx:
            tx.add(Letter(tenant_id="a", body=f"letter {number}"))
            tx.emit("post.sent", {"n": number})
    async with plane.write(actor="x", tenant="a") as tx:
        tx.add(Stamp(id=1, tenant_id="a"))
    await plane.settled(tx.token, timeout_s=20)
    assert (
        len(await plane.acting(pp.Caller("x", "a"))[LetterSearch].search([1, 2, 3, 4], limit=100))
        == 20
    )
    assert await plane.acting(pp.Caller("x", "a"))[StampEntry].get(1) == {"value": 1}
    for _ in range(3):
        ended = await plane.sagas.finished(await plane.sagas.start(Posting, {}, tenant="b"))
        assert ended.state == "done"
    blob = await plane.blobs.put(b"content", name="file", tenant="a")
    assert b"".join([piece async for piece in plane.blobs.open(blob)]) == b"content"
    await by_hand(plane, "UPDATE letter SET body = body || '!'")
    await plane.caught_up(timeout_s=20)
    assert (await plane.repair(timeout_s=30)).left.clean
    assert (await plane.verify(timeout_s=30)).clean


async def test_nobodys_context_is_anothers(settings: pp.Settings, plane_of: PlaneOf) -> None:
    """See `python -m tests.crash.context` for more of them."""
    plane = await plane_of(settings=settings, models=MODELS, flows=False)
    await fill(plane)
    mixed = await mix(plane, 200, seed=5)
    assert mixed.leaks == []
    assert {"read", "write", "error", "sql error", "cancel", "nobody"} <= mixed.done.keys()


async def test_what_a_pooler_needs_is_said(
    own_settings: pp.Settings, engines: Engines, place: Path
) -> None:
    """It refuses options until it is told to ignore them; then roles must have their settings."""
    program()
    owner = Database(own_settings.url("database_url") or "")
    try:
        async with bouncer(engines, place, options=False) as port:
            away = Database(through(own_settings, port).url("database_url") or "")
            with pytest.raises(Misconfigured, match="ignore_startup_parameters"):
                await away.ping()
            await away.close()
        async with owner.connection() as connection:
            lower = "ALTER ROLE CURRENT_USER IN DATABASE {} SET extra_float_digits = 0"
            name = sql.Identifier(owner.url.database or "")
            await connection.execute(sql.SQL(lower).format(name))
        async with bouncer(engines, place) as port:
            away = Database(through(own_settings, port).url("database_url") or "")
            with pytest.raises(Misconfigured, match='ALTER ROLE "polyplane" SET timezone'):
                await away.ping()
            await away.close()
    finally:
        await owner.close()
