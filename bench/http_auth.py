"""(g) What it costs to know who calls: one GET with a credential, and without, in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from statistics import median
from typing import Final

import httpx
from fastapi import FastAPI

from bench.figures import Figure
from bench.ground import Ground, Size
from bench.program import ask
from bench.reader import Task
from polyplane import Caller, Plane
from polyplane.domains.laboratory import application
from polyplane.serve.api.app import create_app
from polyplane.serve.api.server import Server, bind
from polyplane.serve.token import ops_token
from polyplane.web import caller_of

CALLS: Final = 2_000
CONNECTIONS: Final = 4
PASSWORD: Final = "correct horse battery"
READER_TIMEOUT_S: Final = 120.0
COST_MAX: Final = 1.5
"""Times what the same route takes without it."""


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """One experiment read over sockets: by nobody in particular, by a session, by an API key."""
    calls = size.scaled(CALLS)
    took: dict[str, list[float]] = {"nobody": [], "session": [], "key": []}
    url = await ground.database()
    async with ground.plane(url, applications=[application], flows=False) as plane:
        operator = ops_token(plane.settings.home)
        async with served(_guarded(plane)) as guarded, served(_open(plane)) as unguarded:
            path, session, key = await _prepare(guarded, operator)
            ways = {"nobody": (unguarded, ""), "session": (guarded, session), "key": (guarded, key)}
            for _ in range(size.runs):
                for name, (at, credential) in ways.items():
                    await ground.calm()
                    task = asdict(Task(f"{at}{path}", credential, calls, CONNECTIONS))
                    took_s = await ask("bench.reader", task, timeout_s=READER_TIMEOUT_S)
                    took[name].append(took_s / calls * 1e3)
    found = [Figure(f"GET by {name}", "ms", tuple(took[name])) for name in took]
    base = median(took["nobody"])
    for name in ("session", "key"):
        times = tuple(each / base for each in took[name])
        found.append(Figure(f"GET by {name}, to nobody's", "×", times, COST_MAX, at_most=True))
    return found


def _guarded(plane: Plane) -> FastAPI:
    return create_app(plane, plane.declared.applications)


def _open(plane: Plane) -> FastAPI:
    """The same routes, where everybody is the same caller and nobody is asked.

    Not a baseline to trust yet: FastAPI seems to look at an override anew for each request, which
    makes these slower than the guarded ones.
    """
    app = create_app(plane, plane.declared.applications)
    everything = plane.identity.permissions.everything

    async def anybody() -> Caller:
        return Caller("anybody", permissions=everything)

    app.dependency_overrides[caller_of] = anybody
    return app


async def _prepare(at: str, operator: str) -> tuple[str, str, str]:
    """The path of an experiment, and a session and a key that may read it."""
    headers = {"Authorization": f"Bearer {operator}"}
    async with httpx.AsyncClient(base_url=f"{at}/api/v1/", headers=headers, timeout=30) as client:

        async def post(path: str, **given: object) -> dict[str, str]:
            answer = await client.post(path, json=given)
            answer.raise_for_status()
            found: dict[str, str] = answer.json() if answer.content else {}
            return found

        draft = {"name": "bench", "hypothesis": "Knowing who calls is cheap"}
        experiment = await post("laboratory/experiments", **draft)
        email = "ada@example.org"
        await post("ops/users", email=email, password=PASSWORD)
        await post("organizations/default/members", email=email, role="viewer")
        session = await post("auth/sign-in", email=email, password=PASSWORD)
        key = await post("auth/api-keys", client="bench", role="service_reader")
    path = f"/api/v1/laboratory/experiments/{experiment['id']}"
    return path, session["token"], key["key"]


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """`app` on a free port, as `polyplane up` serves it; its address."""
    with bind("127.0.0.1", 0, or_any=False) as at:
        server = Server(app)
        serving = asyncio.create_task(server.serve(sockets=[at]))
        try:
            yield f"http://127.0.0.1:{at.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
