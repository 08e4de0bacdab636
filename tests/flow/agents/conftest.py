"""One plane with the agents for each file of their tests; each test is a tenant of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

import polyplane as pp
from polyplane.domains.agents.capabilities import CAPABILITIES, Arguments, Capability, Task
from polyplane.domains.agents.contents import agents
from polyplane.embedded import Engines
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token
from tests.conftest import settings_in

BASE = "http://127.0.0.1/api/v1/agents/"


class Greeting(Arguments):
    """Whom to greet."""

    name: str


async def greet(task: Task) -> dict[str, Any]:
    """What an application's own tool does."""
    return {"said": f"Hello, {task.arguments.name}!"}


@pytest.fixture(scope="module")
async def plane(
    engines: Engines, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[pp.Plane]:
    """A plane with the agents, who can greet besides, in a database and a namespace of its own."""
    settings = await settings_in(tmp_path_factory.mktemp("agents"), engines, chdb_url)
    application = agents([*CAPABILITIES, Capability("greet", Greeting, greet)])
    async with pp.Plane(applications=[application], settings=settings) as plane:
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


@pytest.fixture(scope="module")
def app(plane: pp.Plane) -> FastAPI:
    """Its API: to make one takes longer than most tests."""
    return create_app(plane, plane.declared.applications)


@pytest.fixture
async def client(plane: pp.Plane, app: FastAPI, tenant: str) -> AsyncIterator[AsyncClient]:
    """A client of the agents' API, for this test's tenant."""
    transport = ASGITransport(app=app)
    headers = {"X-Tenant": tenant, "Authorization": f"Bearer {ops_token(plane.settings.home)}"}
    async with AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
        yield client
