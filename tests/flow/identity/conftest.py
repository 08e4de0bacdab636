"""Two planes on one truth, as two processes are, and people who come to them over HTTP."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import oidc_provider_mock
import pytest
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient, Response
from pydantic import SecretStr
from werkzeug.serving import make_server

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.providers import OidcProvider
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token
from polyplane.web import Caller, permission
from tests.conftest import settings_in
from tests.flow.identity.forger import CLIENT, SECRET, Forger, forging

PASSWORD: Final = "correct horse battery"
WHO: Final = "house/who"

router = APIRouter()


@router.get("/who", dependencies=[permission("house.see")])
async def who(caller: Caller) -> dict[str, str]:
    """Who is seen."""
    return {
        "actor": caller.actor,
        "tenant": caller.tenant,
        "user": str(caller.user),
        "address": caller.address,
        "request_id": caller.request_id,
    }


@router.post("/door", dependencies=[permission("house.open")])
async def door(caller: Caller) -> str:
    """Something that not everybody may."""
    return caller.actor


application = pp.Application(
    name="house",
    routes=lambda: router,
    permissions={"house.see": "viewer", "house.open": "editor"},
)


@dataclass(frozen=True, slots=True)
class Street:
    """The planes, and whoever comes to them."""

    planes: tuple[pp.Plane, pp.Plane]
    apps: tuple[FastAPI, FastAPI]
    clients: list[AsyncClient]

    @property
    def plane(self) -> pp.Plane:
        """The first of them."""
        return self.planes[0]

    def client(self, token: str = "", *, at: int = 0, address: str = "10.1.1.1") -> AsyncClient:
        """Who comes from `address` to one of the planes, with a token or with nothing."""
        client = AsyncClient(
            transport=ASGITransport(app=self.apps[at], client=(address, 4711)),
            base_url="http://127.0.0.1/api/v1/",
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
        self.clients.append(client)
        return client

    def operator(self) -> AsyncClient:
        """Who runs the planes."""
        return self.client(ops_token(self.plane.settings.home))


@pytest.fixture(scope="session")
async def forger() -> AsyncIterator[Forger]:
    """A provider that says what it is told to."""
    async with forging() as forger:
        yield forger


@pytest.fixture(scope="session")
def honest() -> Iterator[str]:
    """The address of somebody else's provider, as it is."""
    server = make_server("127.0.0.1", 0, oidc_provider_mock.app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def providers(honest: str, forger: Forger) -> dict[str, OidcProvider]:
    """Those that the planes know."""
    client: dict[str, Any] = {"client_id": CLIENT, "client_secret": SecretStr(SECRET)}
    named = {name: forger.issuer(name) for name in ("open", "closed", "ours", "failing")}
    return {
        "honest": OidcProvider(
            issuer=honest, makes_accounts=True, tenant="default", role="editor", **client
        ),
        "open": OidcProvider(issuer=named["open"], makes_accounts=True, **client),
        "closed": OidcProvider(issuer=named["closed"], **client),
        "ours": OidcProvider(
            issuer=named["ours"], makes_accounts=True, email_domains=("Example.COM",), **client
        ),
        "failing": OidcProvider(issuer=named["failing"], **client),
        "gone": OidcProvider(issuer="http://127.0.0.1:1", **client),
    }


@pytest.fixture(scope="session")
async def planes(
    engines: Engines,
    chdb_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    honest: str,
    forger: Forger,
) -> AsyncIterator[tuple[pp.Plane, pp.Plane]]:
    """Two planes on one truth and one cache."""
    settings = await settings_in(tmp_path_factory.mktemp("identity"), engines, chdb_url)
    settings = settings.model_copy(update={"sign_up": True, "oidc": providers(honest, forger)})
    first = pp.Plane(applications=[application], settings=settings, flows=False)
    second = pp.Plane(applications=[application], settings=settings, flows=False)
    async with first, second:
        yield first, second


@pytest.fixture(scope="session")
def apps(planes: tuple[pp.Plane, pp.Plane]) -> tuple[FastAPI, FastAPI]:
    """Their APIs."""
    return create_app(planes[0], [application]), create_app(planes[1], [application])


@pytest.fixture
async def street(
    planes: tuple[pp.Plane, pp.Plane], apps: tuple[FastAPI, FastAPI]
) -> AsyncIterator[Street]:
    """The planes, for one test."""
    street = Street(planes, apps, [])
    yield street
    for client in street.clients:
        await client.aclose()


@dataclass(slots=True)
class Person:
    """Somebody with an account and an organization of the test's own."""

    email: str
    id: str
    tenant: str
    token: str = ""


@pytest.fixture
def person_of(street: Street) -> Callable[..., Any]:
    """`ada = await person_of("editor")`: somebody who is that, signed in."""

    async def make(role: str, *, tenant: str = "", signed_in: bool = True) -> Person:
        name = f"p{uuid4().hex[:12]}"
        operator = street.operator()
        if not tenant:
            tenant = name
            await done(operator.post("organizations", json={"id": tenant, "name": tenant}))
        given = {"email": f"{name}@example.org", "password": PASSWORD}
        made = await done(operator.post("ops/users", json=given))
        member = {"email": given["email"], "role": role}
        await done(operator.post(f"organizations/{tenant}/members", json=member))
        person = Person(given["email"], made.json()["id"], tenant)
        if signed_in:
            person.token = await signed_in_as(street.client(), person.email)
        return person

    return make


async def done(asking: Any) -> Response:
    """The answer, which is a success."""
    answer: Response = await asking
    assert answer.is_success, answer.text
    return answer


async def signed_in_as(client: AsyncClient, email: str, password: str = PASSWORD) -> str:
    """The token of a new session."""
    given = {"email": email, "password": password}
    return str((await done(client.post("auth/sign-in", json=given))).json()["token"])


async def seen(client: AsyncClient) -> int:
    """What is answered to who asks who they are."""
    return (await client.get(WHO)).status_code
