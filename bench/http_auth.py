"""(g) What it costs to know who calls: one GET with a credential, and without, in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from time import process_time
from typing import Final
from uuid import UUID

import httpx
from fastapi import APIRouter, FastAPI, Response

from bench.figures import Figure
from bench.ground import Ground, Size
from bench.program import ask
from bench.reader import Task
from polyplane import Caller, Plane
from polyplane.domains.laboratory import application
from polyplane.domains.laboratory.routes.experiments import read_experiment
from polyplane.domains.laboratory.shapes import ExperimentShown
from polyplane.serve.api.app import create_app
from polyplane.serve.api.server import Server, bind
from polyplane.serve.token import ops_token
from polyplane.web import PlaneOf, TokenHeader, problem_responses

CALLS: Final = 2_000
CONNECTIONS: Final = 4
PASSWORD: Final = "correct horse battery"
READER_TIMEOUT_S: Final = 120.0
ANYBODY: Final = Caller("anybody", permissions=frozenset({"laboratory.read", "rows.all"}))
COST_MAX: Final = 1.5
"""Times what the same route takes without it."""


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """One experiment read over sockets: by nobody in particular, by a session, by an API key."""
    calls = size.scaled(CALLS)
    took: dict[str, list[float]] = {"nobody": [], "session": [], "key": []}
    busy: dict[str, list[float]] = {name: [] for name in took}
    url = await ground.database()
    async with ground.plane(url, applications=[application], flows=False) as plane:
        operator = ops_token(plane.settings.home)
        async with served(_app(plane)) as at:
            experiment, session, key = await _prepare(at, operator)
            guarded = f"{at}/api/v1/laboratory/experiments/{experiment}"
            ways = {
                "nobody": (f"{at}/open/{experiment}", ""),
                "session": (guarded, session),
                "key": (guarded, key),
            }
            for path, credential in ways.values():  # what is done once is not part of it
                task = asdict(Task(path, credential, max(1, calls // 5), CONNECTIONS))
                await ask("bench.reader", task, timeout_s=READER_TIMEOUT_S)
            for number in range(size.runs):
                # In turn, and each of them first as often as the others.
                names = [*ways][number % len(ways) :] + [*ways][: number % len(ways)]
                for name in names:
                    await ground.calm()
                    task = asdict(Task(*ways[name], calls, CONNECTIONS))
                    began = process_time()
                    took_s = await ask("bench.reader", task, timeout_s=READER_TIMEOUT_S)
                    busy[name].append((process_time() - began) / calls * 1e3)
                    took[name].append(took_s / calls * 1e3)
    found = [Figure(f"GET by {name}", "ms", tuple(took[name])) for name in took]
    found += [Figure(f"GET by {name}, server's CPU", "ms", tuple(busy[name])) for name in busy]
    for name in ("session", "key"):
        # Run by run: what the machine did besides was about the same.
        times = tuple(each / base for each, base in zip(took[name], took["nobody"], strict=True))
        found.append(Figure(f"GET by {name}, to nobody's", "×", times, COST_MAX, at_most=True))
        spent = tuple(each / base for each, base in zip(busy[name], busy["nobody"], strict=True))
        found.append(Figure(f"GET by {name}, to nobody's, CPU", "×", spent))
    return found


open_router = APIRouter()


@open_router.get("/open/{experiment_id}", responses=problem_responses(404, 504))
async def read_openly(
    experiment_id: UUID,
    plane: PlaneOf,
    token: TokenHeader,
    response: Response,
    cached: bool = False,
) -> ExperimentShown:
    """The same route, where nobody is asked who they are: it has no such dependency at all."""
    return await read_experiment(experiment_id, plane, ANYBODY, token, response, cached)


def _app(plane: Plane) -> FastAPI:
    """The API, and the route without a guard beside it."""
    app = create_app(plane, plane.declared.applications)
    app.include_router(open_router)
    return app


async def _prepare(at: str, operator: str) -> tuple[str, str, str]:
    """The id of an experiment, and a session and a key that may read it."""
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
    return experiment["id"], session["token"], key["key"]


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
