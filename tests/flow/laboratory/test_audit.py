"""Who did what in the laboratory, through its API: it is there, and says nothing personal."""

from __future__ import annotations

from httpx import AsyncClient

import polyplane as pp
from tests.flow.laboratory.test_api import DRAFT, made
from tests.flow.things import becomes, by_hand


async def test_what_is_done_over_http_is_in_audit(
    plane: pp.Plane, client: AsyncClient, tenant: str
) -> None:
    user = await made(client, "users", name="Ada Lovelace", email="ada@lovelace.example")
    experiment = await made(client, "experiments", **DRAFT)
    path = f"experiments/{experiment['id']}"
    assert (await client.patch(path, json={"description": "hotter"})).status_code == 200
    refused = await client.patch(path, json={"name": "x"}, headers={"If-Match": '"old"'})
    assert refused.status_code == 412
    assert (await client.delete(path)).status_code == 204

    found = await plane.audit.search(tenant=tenant)
    told = [(it.action, it.resource_type, it.resource_id) for it in reversed(found)]
    assert told == [
        ("row.created", "laboratory.users", user["id"]),
        ("row.created", "laboratory.experiments", experiment["id"]),
        ("row.changed", "laboratory.experiments", experiment["id"]),
        ("row.deleted", "laboratory.experiments", experiment["id"]),
    ]
    deleted, changed, _, created = found
    assert (created.after["name"], created.after["email"]) == ("***", "***")
    assert changed.before["description"] == experiment["description"]
    assert changed.after["description"] == "hotter"
    assert set(changed.after) <= {"description", "updated_at"}
    assert deleted.before["name"] == DRAFT["name"]
    assert len({it.actor for it in found}) == 1 and found[0].actor
    whole = str(await by_hand(plane, "SELECT a::text FROM polyplane.audit a"))
    assert "Lovelace" not in whole and "lovelace" not in whole

    async def is_sealed() -> bool:
        proven = await plane.audit.verify()
        assert proven.findings == []
        return proven.waiting == 0 and proven.outside == proven.head > 0

    await becomes(is_sealed, True, within_s=10)
