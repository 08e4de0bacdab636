"""A request under an `Idempotency-Key` whose process dies, or stands still, half way.

Its key is free again at once, or when its transaction is ended; and it was done once or not at all.
"""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from httpx import AsyncClient, Response

import polyplane as pp
from polyplane.security.logins import SESSION
from polyplane.serve.token import ops_token
from tests.conftest import PlaneOf
from tests.crash.children import Child, Died
from tests.crash.nursery import Nursery
from tests.crash.points import named_steps
from tests.flow.counters import application
from tests.flow.things import becomes, by_hand

WAIT_S = 60.0
STEPS = ["repeat.claimed", "repeat.committed", "repeat.kept"]


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """What is asked again."""
    return await plane_of(applications=[application], flows=False)


@pytest.fixture
async def nursery(place: Path) -> AsyncIterator[Nursery]:
    """Where those come from that die."""
    nursery = Nursery(place, "once")
    await nursery.start()
    yield nursery
    await nursery.stop()


async def ended(plane: pp.Plane, nursery: Nursery, place: Path, step: str, by: str) -> Child:
    """A process that has come to `step`, and no further."""
    known = ("database_url", "nats_url", "cache_url", "objects_url")
    order = {
        "home": str(place / name_of(step, by)),
        "namespace": plane.namespace,
        "urls": {name: plane.settings.url(name) for name in known},
        "named": name_of(step, by),
        "step": step,
        "by": by,
    }
    child = await nursery.bear()
    child.say(json.dumps(order))
    try:
        await child.hear("blown", WAIT_S)
    except Died:
        raise AssertionError((place / "once.err").read_text()[-4000:]) from None
    return child


def name_of(step: str, by: str) -> str:
    """Of an organization, and of the key under which it is made."""
    return f"{step}-{by}".replace(".", "-")


async def again(plane: pp.Plane, client: AsyncClient, named: str) -> tuple[list[int], Response]:
    """The same request, until it is told something else than to come again; all it was told."""
    headers = {
        "Authorization": f"Bearer {ops_token(plane.settings.home)}",
        "Idempotency-Key": named,
    }
    told: list[Response] = []

    async def is_told() -> bool:
        given = {"id": named, "name": "Acme"}
        path = "/api/v1/organizations"
        told.append(await client.post(path, json=given, headers=headers))
        return told[-1].status_code != 409 or told[-1].json()["field"] != "Idempotency-Key"

    await becomes(is_told, True, within_s=WAIT_S)
    return [it.status_code for it in told], told[-1]


async def made(plane: pp.Plane, named: str) -> tuple[int, int]:
    """Organizations of that name, and lines of audit that tell of their making."""
    [row] = await by_hand(
        plane,
        "SELECT (SELECT count(*) FROM polyplane.organizations WHERE id = %s),"
        " (SELECT count(*) FROM polyplane.audit WHERE action = 'organization.added'"
        "  AND resource_id = %s)",
        named,
        named,
    )
    return row[0], row[1]


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_it_is_done_once_and_its_key_is_free_in_time(
    plane: pp.Plane,
    nursery: Nursery,
    place: Path,
    client_of: Callable[[pp.Plane], AsyncClient],
) -> None:
    assert [it for it in named_steps() if it.startswith("repeat.")] == STEPS
    assert SESSION["idle_in_transaction_session_timeout"] == "1min"  # here 2 s
    client = client_of(plane)
    for step in STEPS:
        child = await ended(plane, nursery, place, step, "SIGKILL")
        await child.gone.wait()
        told, last = await again(plane, client, name_of(step, "SIGKILL"))
        assert told[-1] == 201, last.text
        assert ("idempotency-replayed" in last.headers) is (step == "repeat.committed")
        assert await made(plane, name_of(step, "SIGKILL")) == (1, 1)
    child = await ended(plane, nursery, place, "repeat.kept", "SIGSTOP")
    told, last = await again(plane, client, name_of("repeat.kept", "SIGSTOP"))
    assert told[-1] == 201 and "idempotency-replayed" not in last.headers, last.text
    child.send(signal.SIGCONT)  # whoever was overtaken is told so, and has done nothing
    assert (await child.hear("answered", WAIT_S))["answered"] >= 400
    assert await made(plane, name_of("repeat.kept", "SIGSTOP")) == (1, 1)
