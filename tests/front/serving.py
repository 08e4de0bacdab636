"""A plane behind a real socket, with somebody of each kind who may call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, Final

from httpx import AsyncClient

import polyplane as pp
from polyplane.serve.api.app import create_app
from polyplane.serve.api.server import Server, bind
from polyplane.serve.token import ops_token
from tests.attack.ground import Side, fill
from tests.flow.things import becomes

PASSWORD: Final = "a kettle, a lamp and 3 spoons"
WITHIN_S: Final = 20.0


@dataclass(slots=True)
class Served:
    """Where the API is, and how each kind of caller says who they are."""

    url: str
    document: dict[str, Any]
    plane: pp.Plane
    side: Side
    operator: dict[str, str]
    person: dict[str, str]
    leaving: dict[str, str]
    """A person, too, by a session that may be ended."""


@asynccontextmanager
async def served(plane: pp.Plane, **given: Any) -> AsyncIterator[tuple[str, Any]]:
    """The URL of the plane's API on a free port of loopback, and the app."""
    app = create_app(plane, plane.declared.applications, **given)
    with closing(bind("127.0.0.1", 0, or_any=False)) as socket:
        server = Server(app)
        task = asyncio.create_task(server.serve(sockets=[socket]))
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}", app
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, WITHIN_S)


@asynccontextmanager
async def inhabited(plane: pp.Plane) -> AsyncIterator[Served]:
    """The same with one tenant that has some of everything, and an administrator."""
    async with served(plane) as (url, app), AsyncClient(base_url=url, trust_env=False) as http:
        side = Side("acme")
        await fill(plane, http, side, 0)
        operator = {"Authorization": f"Bearer {ops_token(plane.settings.home)}"}
        people = plane.identity.people
        email = "ada@example.org"
        await people.first_administrator(email, await people.hash_of(email, PASSWORD))

        async def session() -> dict[str, str]:
            given = {"email": email, "password": PASSWORD}
            answer = await http.post("/api/v1/auth/sign-in", json=given)
            assert answer.status_code == 200, answer.text
            return {"Authorization": f"Bearer {answer.json()['token']}"}

        person, leaving = await session(), await session()
        yield Served(url, app.openapi(), plane, side, operator, person, leaving)


__all__ = ["Served", "becomes", "inhabited", "served"]
