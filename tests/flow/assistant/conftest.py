"""One plane with the assistant for all of its tests; each test is a tenant of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from httpx import ASGITransport, AsyncClient

import polyplane as pp
from polyplane.domains.assistant.contents import assistant
from polyplane.embedded import Engines
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token
from tests.conftest import settings_in

BASE = "http://127.0.0.1/api/v1/assistant/"


@pytest.fixture(scope="session")
async def plane(
    engines: Engines, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[pp.Plane]:
    """A plane with the assistant, in a database and a namespace of its own."""
    settings = await settings_in(tmp_path_factory.mktemp("assistant"), engines, chdb_url)
    async with pp.Plane(applications=[assistant()], settings=settings) as plane:
        await plane.caught_up()  # what is being filled is not read
        yield plane


@pytest.fixture
def tenant() -> str:
    """A tenant nobody else knows."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def caller(tenant: str) -> pp.Caller:
    """A program of this test's tenant."""
    return pp.Caller("tests", tenant)


@pytest.fixture
async def client(plane: pp.Plane, tenant: str) -> AsyncIterator[AsyncClient]:
    """A client of the assistant's API, for this test's tenant."""
    transport = ASGITransport(app=create_app(plane, plane.declared.applications))
    headers = {"X-Tenant": tenant, "Authorization": f"Bearer {ops_token(plane.settings.home)}"}
    async with AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
        yield client
