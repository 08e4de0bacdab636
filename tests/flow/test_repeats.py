"""`Idempotency-Key`: what is done is done once, and is in truth with its answer or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

import polyplane as pp
from polyplane.serve.token import ops_token
from polyplane.truth.repeats import BODY_BYTES_MAX, Repeat, sweep
from tests.conftest import PlaneOf
from tests.flow.counters import application
from tests.flow.things import becomes, by_hand

COUNTS = "/api/v1/counters/counts"
CLIENT = Callable[[pp.Plane], httpx.AsyncClient]


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """A plane with the counters."""
    return await plane_of(applications=[application], flows=False)


@pytest.fixture
async def api(plane: pp.Plane, client_of: CLIENT) -> AsyncIterator[httpx.AsyncClient]:
    """Its API, as the operator."""
    client = client_of(plane)
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    yield client


async def add(api: httpx.AsyncClient, key: str, tenant: str = "default", **given: Any) -> Any:
    """Count something under a key."""
    headers = {"Idempotency-Key": key, "X-Tenant": tenant}
    return await api.post(COUNTS, json={"name": "a", **given}, headers=headers)


async def counted(plane: pp.Plane) -> tuple[int, int, int, int]:
    """Rows, events and lines of audit that there are, and answers that are kept."""
    [row] = await by_hand(
        plane,
        "SELECT (SELECT count(*) FROM count), (SELECT count(*) FROM polyplane.outbox"
        " WHERE op = 'E'), (SELECT count(*) FROM polyplane.audit WHERE action = 'count.added'),"
        " (SELECT count(*) FROM polyplane.repeat)",
    )
    return (row[0], row[1], row[2], row[3])


def told(answer: httpx.Response) -> tuple[int, str, str]:
    """How a refusal is told."""
    problem = answer.json()
    return answer.status_code, problem["type"].rpartition(":")[2], problem.get("field", "")


async def test_a_request_that_comes_again_is_answered_and_not_done(
    plane: pp.Plane, api: httpx.AsyncClient
) -> None:
    first = await add(api, "k1")
    assert first.status_code == 201 and "idempotency-replayed" not in first.headers
    for key in ("k1", '"k1"'):  # as the draft has it, and as most write it
        again = await add(api, key)
        assert again.headers["idempotency-replayed"] == "true"
        assert (again.status_code, again.content) == (201, first.content)
        for name in ("etag", "polyplane-token", "content-type"):
            assert again.headers[name] == first.headers[name]
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert await counted(plane) == (2, 1, 1, 1)
    assert (await add(api, "k2")).json()["id"] != first.json()["id"]
    without = await api.post(COUNTS, json={"name": "a"})
    assert without.status_code == 201
    assert await counted(plane) == (6, 3, 3, 2)
    where = f"{COUNTS}/{first.json()['id']}"
    gone = [await api.delete(where, headers={"Idempotency-Key": "k3"}) for _ in range(2)]
    assert [it.status_code for it in gone] == [204, 204]
    assert gone[1].headers["idempotency-replayed"] == "true"
    assert (await api.delete(where, headers={"Idempotency-Key": "k4"})).status_code == 404


async def test_a_key_is_for_one_request_of_one_caller(
    plane: pp.Plane, api: httpx.AsyncClient
) -> None:
    first = await add(api, "k")
    assert told(await add(api, "k", name="b")) == (422, "refused", "Idempotency-Key")
    other = await api.post(f"{COUNTS}?x=1", json={"name": "a"}, headers={"Idempotency-Key": "k"})
    assert told(other) == (422, "refused", "Idempotency-Key")
    for key in ("", "a b", "x" * 256, "é"):
        named = [(b"Idempotency-Key", key.encode())]
        answer = await api.post(COUNTS, json={"name": "a"}, headers=named)
        assert told(answer) == (422, "refused", "Idempotency-Key"), key
    assert await counted(plane) == (2, 1, 1, 1)
    # Of another tenant, and of another caller.
    assert (await add(api, "k", "other")).json()["id"] != first.json()["id"]
    by = pp.Caller("operator", permissions=plane.identity.permissions.everything)
    made = await plane.identity.keys.make(
        by, "program", role="service_writer", scopes=None, expires_s=3600
    )
    operator = api.headers.pop("Authorization")
    api.headers["Authorization"] = f"Bearer {made.text}"
    assert (await add(api, "k")).json()["id"] != first.json()["id"]
    # Whoever may no more is not answered either.
    await plane.identity.keys.revoke(by, made.id, user=None)
    assert (await add(api, "k")).status_code == 401
    api.headers["Authorization"] = operator
    [(policies,)] = await by_hand(
        plane,
        "SELECT count(*) FROM pg_policies WHERE tablename = 'repeat' AND schemaname = 'polyplane'",
    )
    assert policies == 2
    async with plane.read(tenant="other") as session:
        seen = await session.connection()
        found = await seen.exec_driver_sql("SELECT tenant_id, actor FROM polyplane.repeat")
        assert found.all() == []  # of an actor who is nobody


async def test_what_fails_leaves_nothing(plane: pp.Plane, api: httpx.AsyncClient) -> None:
    for fails in ("inside", "between"):
        for _ in range(2):
            failed = await add(api, fails, fails=fails)
            assert failed.status_code == 422 and "idempotency-replayed" not in failed.headers
    assert (await api.post(COUNTS, json={}, headers={"Idempotency-Key": "x"})).status_code == 422
    assert await counted(plane) == (0, 0, 0, 0)
    # A part that fails, and is got over, is not done; the rest is.
    for _ in range(2):
        assert (await add(api, "again", fails="again")).status_code == 201
    assert await counted(plane) == (1, 1, 1, 1)


async def test_what_cannot_be_kept_is_not_committed(
    plane: pp.Plane, api: httpx.AsyncClient
) -> None:
    """One transaction: when its last statement fails, the rows are gone too."""
    await by_hand(plane, "ALTER TABLE polyplane.repeat ADD CHECK (key <> 'unkept')")
    failed = await add(api, "unkept")
    assert failed.status_code >= 400 and failed.headers["content-type"].endswith("problem+json")
    assert await counted(plane) == (0, 0, 0, 0)
    # And the answer does not come before the commit: who has it finds what it tells of.
    made = await add(api, "kept")
    assert [await by_hand(plane, "SELECT 1 FROM count WHERE id = %s", made.json()["id"])] == [
        [(1,)]
    ]


async def test_of_two_at_once_one_is_told_to_come_again(
    plane: pp.Plane, api: httpx.AsyncClient
) -> None:
    slow = asyncio.create_task(add(api, "k", wait_s=1.5))

    async def claimed() -> bool:
        found = await by_hand(
            plane,
            "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND d.datname = current_database()",
        )
        return bool(found)

    try:
        await becomes(claimed, True, within_s=20)
        late = await add(api, "k", wait_s=1.5)
        if late.status_code != 201:  # unless this machine stood still until the first was done
            assert told(late) == (409, "conflict", "Idempotency-Key")
    finally:
        first = await slow
    again = await add(api, "k", wait_s=1.5)
    assert (again.status_code, again.content) == (201, first.content)
    many = await asyncio.gather(*(add(api, "many") for _ in range(12)))
    codes = [it.status_code for it in many]
    assert set(codes) <= {201, 409} and 201 in codes
    assert len({it.content for it in many if it.status_code == 201}) == 1
    assert await counted(plane) == (4, 2, 2, 2)


async def test_an_answer_is_kept_for_a_day_if_it_is_not_too_large(
    plane: pp.Plane, api: httpx.AsyncClient
) -> None:
    large = await add(api, "large", size=BODY_BYTES_MAX)
    assert large.status_code == 201 and len(large.content) > BODY_BYTES_MAX
    assert told(await add(api, "large", size=BODY_BYTES_MAX)) == (
        409,
        "conflict",
        "Idempotency-Key",
    )
    first = await add(api, "k")
    [(left_h,)] = await by_hand(
        plane,
        "SELECT extract(epoch FROM min(expires_at) - now())::float8 / 3600 FROM polyplane.repeat",
    )
    assert 23.5 < left_h <= 24
    await by_hand(plane, "UPDATE polyplane.repeat SET expires_at = now() WHERE key = 'k'")
    assert (await add(api, "k")).json()["id"] != first.json()["id"]  # it has expired, unswept
    assert await sweep(plane.opened.database) == 0
    await by_hand(plane, "UPDATE polyplane.repeat SET expires_at = now() WHERE key = 'large'")
    assert await sweep(plane.opened.database) == 1
    assert (await counted(plane))[3] == 1


async def test_two_transactions_at_once_are_a_defect(plane: pp.Plane) -> None:
    """Told at once, and not found as a deadlock."""
    caller = pp.Caller("ada", repeat=Repeat(uuid4().hex, b"x" * 32))
    with pytest.raises(pp.Misconfigured):
        async with plane.acting(caller).write(), plane.acting(caller).write():
            pass
