"""One plane with deeds for each file of tests of live updates; each test has tenants of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.serve.api.server import Server
from tests.conftest import settings_in
from tests.flow.deeds import caller
from tests.flow.live_things import application, served
from tests.flow.things import by_hand


@pytest.fixture(scope="module")
async def shared(
    engines: Engines, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[pp.Plane]:
    """The plane."""
    settings = await settings_in(tmp_path_factory.mktemp("live"), engines, chdb_url)
    plane = pp.Plane(applications=[application], settings=settings)
    async with plane:
        yield plane


@pytest.fixture(scope="module")
async def at(shared: pp.Plane) -> AsyncIterator[tuple[str, Server]]:
    """Where its API is."""
    async with served(shared) as found:
        yield found


@pytest.fixture
async def plane(shared: pp.Plane) -> pp.Plane:
    """The plane, without any deeds."""
    await by_hand(shared, "DELETE FROM deed")
    await by_hand(shared, "DELETE FROM board")
    return shared


@pytest.fixture
def acme() -> pp.Caller:
    """A program of one tenant."""
    return caller(f"acme{uuid4().hex[:8]}")


@pytest.fixture
def other() -> pp.Caller:
    """A program of another."""
    return caller(f"other{uuid4().hex[:8]}")
