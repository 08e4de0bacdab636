"""One plane with the assistant, a provider beside it, and people in a tenant of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from uuid import UUID, uuid4

import orjson
import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient

import polyplane as pp
from polyplane.access.door import Admitted
from polyplane.domains import assistant
from polyplane.edge.repeats import with_repeat
from polyplane.embedded import Engines
from polyplane.serve.api.app import create_app
from polyplane.web import admitted
from tests.conftest import settings_in
from tests.flow.matters.provider import Provider, providing

BASE = "http://127.0.0.1/api/v1/assistant/"


@pytest.fixture(scope="session")
async def provider() -> AsyncIterator[Provider]:
    """An OAuth provider."""
    async with providing() as provider:
        yield provider


@pytest.fixture(autouse=True)
def good_day(provider: Provider) -> None:
    """What a test had the provider do is over."""
    provider.next_status, provider.next_error = 0, "invalid_grant"
    provider.expires_s, provider.is_silent = 3600, False
    provider.heard.clear()
    provider.holds.set()


@pytest.fixture(scope="session")
async def plane(
    engines: Engines,
    chdb_url: str,
    provider: Provider,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[pp.Plane]:
    """A plane with the assistant, in a database and a namespace of its own."""
    settings = await settings_in(tmp_path_factory.mktemp("matters"), engines, chdb_url)
    oauth = {
        "rotating": provider.declared("rotating", rotates=True),
        "steady": provider.declared("steady", rotates=False),
        "gone": provider.declared("gone", rotates=True).model_copy(
            update={"token_url": "http://127.0.0.1:1/token"}
        ),
    }
    settings = settings.model_copy(update={"oauth": oauth})
    async with pp.Plane(applications=[assistant.application], settings=settings) as plane:
        await plane.caught_up()  # what is being filled is not read
        yield plane


@pytest.fixture
def tenant() -> str:
    """A tenant nobody else knows."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def ada(tenant: str) -> pp.Caller:
    """A person of this test's tenant, who sees what is hers."""
    return person(tenant)


@pytest.fixture
def bob(tenant: str) -> pp.Caller:
    """Another one."""
    return person(tenant)


def person(tenant: str) -> pp.Caller:
    """Somebody who may read, write and configure."""
    user = uuid4()
    named = frozenset({"assistant.read", "assistant.write", "assistant.configure"})
    return pp.Caller(f"user:{user}", tenant, user, named)


ClientOf = Callable[[pp.Caller], AsyncClient]


@pytest.fixture(scope="session")
def app(plane: pp.Plane) -> FastAPI:
    """The API, of whoever a header says: who comes in how, tests of identity see."""
    app = create_app(plane, plane.declared.applications)
    app.dependency_overrides[admitted] = _come_in
    return app


async def _come_in(request: Request) -> Admitted:
    told = orjson.loads(request.headers["x-caller"])
    user = None if told["user"] is None else UUID(told["user"])
    caller = pp.Caller(told["actor"], told["tenant"], user, {*told["permissions"]})
    return await with_repeat(request, Admitted(caller, None))


@pytest.fixture
async def client_as(app: FastAPI) -> AsyncIterator[ClientOf]:
    """Clients of the API, of whoever it is said to be."""
    clients: list[AsyncClient] = []

    def make(caller: pp.Caller) -> AsyncClient:
        told = {
            "actor": caller.actor,
            "tenant": caller.tenant,
            "user": caller.user,
            "permissions": sorted(caller.permissions),
        }
        headers = {"X-Caller": orjson.dumps(told).decode()}
        client = AsyncClient(transport=ASGITransport(app=app), base_url=BASE, headers=headers)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()
