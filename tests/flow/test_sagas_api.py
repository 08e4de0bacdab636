"""The operator's routes for sagas, and what they are called in metrics."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from httpx import AsyncClient

import polyplane as pp
from polyplane import saga
from polyplane.serve.token import ops_token
from tests.conftest import PlaneOf
from tests.flow.things import becomes
from tests.flow.trips import Line, declared, lines, writes

OPS = "/api/v1/ops/sagas"


async def test_an_operator_sees_signals_cancels_and_retries(
    plane_of: PlaneOf, client_of: Callable[[pp.Plane], AsyncClient]
) -> None:
    """Over HTTP, page by page, with problems for what cannot be."""
    trip = declared(writes("a"), saga.signal("go"), writes("b"), saga.signal("never"))
    plane = await plane_of(models=[Line], sagas=[trip])
    client = client_of(plane)
    assert (await client.get(OPS)).status_code == 401
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    ids = [str(await plane.sagas.start(trip, {"n": n})) for n in range(3)]
    page = (await client.get(OPS, params={"limit": 2, "state": "running"})).json()
    assert [it["id"] for it in page["items"]] == ids[:0:-1] and page["next"] == ids[1]
    page = (await client.get(OPS, params={"limit": 2, "after": page["next"]})).json()
    assert [it["id"] for it in page["items"]] == ids[:1] and page["next"] is None
    assert (await client.get(OPS, params={"state": "odd"})).status_code == 422
    assert (await client.get(f"{OPS}/{uuid4()}")).status_code == 404

    first = f"{OPS}/{ids[0]}"
    for answer in ({"first": True}, {"first": False}):
        told = await client.post(f"{first}/signals/go", json={"by": "hand"})
        assert told.json() == answer

    async def at() -> str:
        return str((await client.get(first)).json()["at"])

    await becomes(at, "never", within_s=5)
    assert (await client.post(f"{first}/retry")).json()["state"] == "running"
    shown = (await client.post(f"{first}/cancel", params={"why": "no more"})).json()
    assert shown["cancelled"]
    undone = await plane.sagas.finished(shown["id"])
    assert (undone.state, undone.error) == ("undone", "no more")
    assert (await client.post(f"{first}/cancel")).status_code == 409
    assert (await client.post(f"{first}/retry")).status_code == 409
    assert sorted(await lines(plane)) == ["a"] * 3 + ["b", "not a", "not b"]
    metrics = (await client.get("/metrics")).text
    assert 'polyplane_sagas{state="running"} 2.0' in metrics
