"""(f) Telemetry over HTTP: JSON columns to the real server, on a socket of the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from time import perf_counter
from typing import Final

from bench.figures import Figure, rates
from bench.ground import Ground, Size
from bench.program import ask
from bench.sender import Task
from bench.telemetry import drained, prove
from polyplane import Plane
from polyplane.domains.laboratory import application
from polyplane.serve.api.app import create_app
from polyplane.serve.api.server import Server, bind
from polyplane.serve.token import ops_token

POINTS: Final = 200_000
BATCHES_OF: Final = {500: 30_000, 5_000: None}
"""Points in a batch -> points a second that are required."""
CONNECTIONS: Final = 4
SENDER_TIMEOUT_S: Final = 120.0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """A process of its own posts small batches, then large ones, in turn."""
    points, sent = size.scaled(POINTS), 0
    acknowledged: dict[int, list[float]] = {n: [] for n in BATCHES_OF}
    stored: dict[int, list[float]] = {n: [] for n in BATCHES_OF}
    url = await ground.database()
    async with ground.plane(url, applications=[application]) as plane, served(plane) as at:
        for _ in range(size.runs):
            for each in BATCHES_OF:
                await ground.calm()
                lab, key = f"{at}/api/v1/laboratory/", ops_token(plane.settings.home)
                task = asdict(Task(lab, points // each, each, CONNECTIONS, key))
                took_s = await ask("bench.sender", task, timeout_s=SENDER_TIMEOUT_S)
                acknowledged_at = perf_counter()
                await drained(plane)
                acknowledged[each].append(took_s)
                stored[each].append(took_s + perf_counter() - acknowledged_at)
                sent += points
                await prove(ground, plane, sent)
    found = []
    for each, required in BATCHES_OF.items():
        name = f"points in batches of {each:,}"
        acks, all_s = acknowledged[each], stored[each]
        found.append(rates(f"{name}, acknowledged", "points/s", points, acks))
        found.append(rates(f"{name}, and stored", "points/s", points, all_s, required=required))
    return found


@asynccontextmanager
async def served(plane: Plane) -> AsyncIterator[str]:
    """The API of `plane` on a free port, as `polyplane up` serves it; its address."""
    with bind("127.0.0.1", 0, or_any=False) as at:
        server = Server(create_app(plane, plane.declared.applications))
        serving = asyncio.create_task(server.serve(sockets=[at]))
        try:
            yield f"http://127.0.0.1:{at.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
