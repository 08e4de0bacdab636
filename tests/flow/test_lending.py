"""Connections that are kept for short statements leave room for sessions, however few there are."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from polyplane.model.caller import Caller
from polyplane.settings import Settings
from polyplane.truth import session
from polyplane.truth.database import Database


@pytest.mark.parametrize("connections", [1, 2, 3, 8])
async def test_sessions_find_room_beside_what_is_kept(
    own_settings: Settings, connections: int
) -> None:
    url = own_settings.url("database_url")
    assert url is not None
    database = Database(url, max_connections=connections, pool_timeout_s=3)
    try:
        await asyncio.gather(*(database.rows("SELECT pg_sleep(0.05)") for _ in range(8)))
        async with session.read(database, caller=Caller("test")) as reading:
            assert (await reading.execute(sa.text("SELECT 1"))).scalar_one() == 1
    finally:
        await database.close()
