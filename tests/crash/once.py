"""What dies, or stands still, in the middle of a request under an `Idempotency-Key`.

`python -m tests.crash.once SOCKET` loads what it needs; each connection to the socket is given a
fork of it, which waits for its order, one line of JSON, and makes an organization.
"""

from __future__ import annotations

import polyplane.steps
from polyplane.security import logins
from tests.crash.points import Fuse, tell

FUSE = Fuse()
IDLE_S = 2
"""For how long a transaction of who stands still is kept; else it is a minute."""
polyplane.steps.step = FUSE.step  # before the rest takes the one that does nothing
SESSION = {**logins.SESSION, "idle_in_transaction_session_timeout": f"{IDLE_S}s"}
logins.SESSION = SESSION  # type: ignore[misc]

# ruff: noqa: E402
import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from httpx import ASGITransport, AsyncClient

import polyplane as pp
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token
from tests.crash.nursery import nurse
from tests.flow.counters import application


@dataclass(frozen=True)
class Order:
    """Whose plane it is, what is to be made, under a key of the same name, and where it ends."""

    home: str
    namespace: str
    urls: dict[str, str]
    named: str
    step: str
    by: str = "SIGKILL"


async def main() -> None:
    """One request; says how it was answered, if it lives to see that."""
    line = (await asyncio.to_thread(sys.stdin.readline)).strip()
    if not line:
        return
    order = Order(**json.loads(line))
    settings = pp.Settings.load(
        environ={}, home=Path(order.home), namespace=order.namespace, **order.urls
    )
    async with pp.Plane(applications=[application], settings=settings, flows=False) as plane:
        app = create_app(plane, plane.declared.applications)
        headers = {
            "Authorization": f"Bearer {ops_token(settings.home)}",
            "Idempotency-Key": order.named,
        }
        base = "http://127.0.0.1"
        async with AsyncClient(transport=ASGITransport(app=app), base_url=base) as client:
            FUSE.set(order.step, 1, order.by)
            given = {"id": order.named, "name": "Acme"}
            answer = await client.post("/api/v1/organizations", json=given, headers=headers)
            tell(answered=answer.status_code)


if __name__ == "__main__":
    nurse(Path(sys.argv[1]), main)
