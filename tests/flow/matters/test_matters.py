"""Profiles, integrations, tasks, messages, events, configuration, outputs: over the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant.matters.models_people import Integration
from polyplane.domains.assistant.matters.models_work import CalendarEvent, Task
from polyplane.domains.assistant.matters.outputs import ModelOutputs
from polyplane.domains.assistant.models import Document
from tests.flow.matters.conftest import ClientOf


@pytest.fixture
async def mine(client_as: ClientOf, ada: pp.Caller) -> AsyncIterator[httpx.AsyncClient]:
    """The API as Ada comes to it."""
    yield client_as(ada)


async def made(client: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    """What a POST created."""
    answer = await client.post(path, json=fields)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def test_everybody_has_what_is_theirs(
    client_as: ClientOf, mine: httpx.AsyncClient, bob: pp.Caller
) -> None:
    profile = await made(mine, "profiles", display_name="Ada", zone="Europe/London")
    task = await made(mine, "tasks", title="x")
    thread = await made(mine, "threads", channel="chat")
    other = client_as(bob)
    for path in (f"profiles/{profile['id']}", f"tasks/{task['id']}", f"threads/{thread['id']}"):
        assert (await mine.get(path)).status_code == 200
        assert (await other.get(path)).status_code == 404
    said = {"sender": "bob", "body": "hello"}
    assert (await other.post(f"threads/{thread['id']}/messages", json=said)).status_code == 404
    assert (await other.patch(f"tasks/{task['id']}", json={"title": "y"})).status_code == 404
    for_ada = {"title": "x", "owner_id": profile["owner_id"]}
    assert (await other.post("tasks", json=for_ada)).status_code == 403
    assert (await mine.post("profiles", json={"display_name": "again"})).status_code == 409
    bad = await mine.patch(f"profiles/{profile['id']}", json={"zone": "Mars/Base"})
    assert (bad.status_code, bad.json()["field"]) == (422, "zone")


async def test_a_task_goes_its_way(
    plane: pp.Plane, mine: httpx.AsyncClient, ada: pp.Caller
) -> None:
    task = await made(mine, "tasks", title="Call", external_id="todo-1", priority=1)
    assert (
        await mine.post("tasks", json={"title": "x", "external_id": "todo-1"})
    ).status_code == 409
    path = f"tasks/{task['id']}"
    etag = (await mine.get(path)).headers["etag"]
    done = await mine.patch(path, json={"status": "done"}, headers={"If-Match": etag})
    assert done.json()["completed_at"] is not None
    stale = await mine.patch(path, json={"title": "x"}, headers={"If-Match": etag})
    assert stale.status_code == 412
    refused = await mine.patch(path, json={"status": "doing"})
    assert (refused.status_code, refused.json()["field"]) == (409, "status")
    assert (await mine.patch(path, json={"status": "todo"})).json()["completed_at"] is None
    assert [it["id"] for it in (await mine.get("tasks?status=todo")).json()["items"]] == [
        task["id"]
    ]
    # PostgreSQL holds the same, whoever writes.
    with pytest.raises(pp.Refused) as caught:
        async with plane.acting(ada).write() as tx:
            await tx.execute(
                sa.update(Task)
                .where(Task.id == UUID(task["id"]))
                .values(status="done", completed_at=sa.func.now())
            )
            await tx.execute(
                sa.update(Task)
                .where(Task.id == UUID(task["id"]))
                .values(status="blocked", completed_at=None)
            )
    assert "move_tasks" in caught.value.message


async def test_messages_are_unread_until_they_are_read(mine: httpx.AsyncClient) -> None:
    thread = await made(mine, "threads", channel="email", subject="Kettle")
    path = f"threads/{thread['id']}/messages"
    sent = [
        await made(mine, path, sender="a@x", body=str(n), sent_at=f"2026-01-0{n}T00:00:00Z")
        for n in (2, 1, 3)
    ]
    listed = (await mine.get(path, params={"limit": 2})).json()
    assert [it["body"] for it in listed["items"]] == ["3", "2"]
    rest = (await mine.get(path, params={"limit": 2, "after": listed["next"]})).json()
    assert [it["body"] for it in rest["items"]] == ["1"]
    read = await mine.patch(f"messages/{sent[0]['id']}", json={"read": True})
    again = await mine.patch(f"messages/{sent[0]['id']}", json={"read": True})
    assert read.json()["read_at"] == again.json()["read_at"] is not None
    unread = (await mine.get("messages", params={"unread": True})).json()["items"]
    assert [it["body"] for it in unread] == ["3", "1"]
    assert (await mine.delete(f"threads/{thread['id']}")).status_code == 204
    assert (await mine.get("messages")).json()["items"] == []


async def test_the_calendar_shows_what_takes_place(
    plane: pp.Plane, mine: httpx.AsyncClient, client_as: ClientOf, ada: pp.Caller, bob: pp.Caller
) -> None:
    times = {"starts_at": "2026-03-27T08:00:00Z", "ends_at": "2026-03-27T09:00:00Z"}
    berlin = {"zone": "Europe/Berlin", "recurrence": "FREQ=DAILY"}
    daily = await made(mine, "calendar/events", title="Stand-up", **times, **berlin)
    await made(
        mine,
        "calendar/events",
        title="Review",
        starts_at="2026-03-28T08:30:00Z",
        ends_at="2026-03-28T10:00:00Z",
    )
    await made(client_as(bob), "calendar/events", title="Not hers", **times)
    asked: dict[str, str | int] = {"start": "2026-03-28T00:00:00Z", "days": 3}
    path = f"calendar/events/{daily['id']}/override"
    moved = {"occurs_at": "2026-03-29T07:00:00Z", "title": "Later"}
    moved |= {"starts_at": "2026-03-29T12:00:00Z", "ends_at": "2026-03-29T13:00:00Z"}
    assert (await mine.put(path, json=moved)).status_code == 200
    never = await mine.put(path, json={"occurs_at": "2026-03-29T08:00:00Z"})
    assert (never.status_code, never.json()["field"]) == (422, "occurs_at")
    assert (await mine.put(path, json={"occurs_at": "2026-03-30T07:00:00Z"})).status_code == 200
    found = (await mine.get("calendar/occurrences", params=asked)).json()
    assert [(it["title"], it["starts_at"]) for it in found] == [
        ("Stand-up", "2026-03-28T08:00:00Z"),
        ("Review", "2026-03-28T08:30:00Z"),
        ("Later", "2026-03-29T12:00:00Z"),
    ]
    time = (await mine.get("calendar/time", params=asked)).json()
    assert [it["ends_at"] for it in time["busy"]] == [
        "2026-03-28T10:00:00Z",
        "2026-03-29T13:00:00Z",
    ]
    assert [it["starts_at"] for it in time["free"]] == [
        "2026-03-28T00:00:00Z",
        "2026-03-28T10:00:00Z",
        "2026-03-29T13:00:00Z",
    ]
    gone = {"occurs_at": "2026-03-30T07:00:00Z"}
    assert (await mine.delete(path, params=gone)).status_code == 204
    assert (await mine.delete(path, params=gone)).status_code == 404
    # At another time, nothing of the old ones is otherwise any more.
    later = {"starts_at": "2026-03-27T10:00:00Z", "ends_at": "2026-03-27T11:00:00Z"}
    assert (await mine.patch(f"calendar/events/{daily['id']}", json=later)).status_code == 200
    found = (await mine.get("calendar/occurrences", params=asked)).json()
    assert [it["moved"] for it in found] == [False] * 4
    # What was written past us does not hold anybody up: it is told, and computed within bounds.
    async with plane.acting(ada).write() as tx:
        await tx.execute(
            sa.update(CalendarEvent)
            .where(CalendarEvent.id == UUID(daily["id"]))
            .values(recurrence="FREQ=SECONDLY", last_ends_at=None)
        )
    assert (await mine.get("calendar/occurrences", params=asked)).status_code == 422


async def test_an_event_that_cannot_be_is_refused(mine: httpx.AsyncClient) -> None:
    good = {"title": "x", "starts_at": "2026-01-05T08:00:00Z", "ends_at": "2026-01-05T09:00:00Z"}
    for wrong, field in (
        ({"ends_at": "2026-01-05T07:00:00Z"}, "ends_at"),
        ({"ends_at": "2028-01-05T07:00:00Z"}, "ends_at"),
        ({"starts_at": "9999-12-31T23:59:59Z"}, "starts_at"),
        ({"starts_at": "1899-12-31T23:59:59Z"}, "starts_at"),
        ({"starts_at": "2026-01-05T08:00:00"}, "starts_at"),
        ({"zone": "Nowhere"}, "zone"),
        ({"all_day": True}, "starts_at"),
        ({"recurrence": "FREQ=SECONDLY"}, "recurrence"),
        ({"recurrence": "FREQ=DAILY;INTERVAL=7;BYDAY=TU"}, "recurrence"),
    ):
        answer = await mine.post("calendar/events", json=good | wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    long = await mine.get("calendar/occurrences", params={"days": 401})
    assert long.status_code == 422


async def test_integrations_are_set_by_their_kind(
    plane: pp.Plane, mine: httpx.AsyncClient, ada: pp.Caller
) -> None:
    body = {"settings": {"folders": ["INBOX", "Work"]}, "credentials": {"password": "hunter2-x"}}
    put = await mine.put("integrations/mail", json=body)
    assert put.status_code == 200, put.text
    assert put.json()["settings"] == {
        "folders": ["INBOX", "Work"],
        "days_back": 30,
        "may_send": False,
    }
    assert put.json()["credentials"] is True
    assert "hunter2" not in put.text
    async with plane.acting(ada).read() as session:
        row = (await session.scalars(sa.select(Integration))).one()
        assert row.credentials is not None
        assert row.credentials.reveal() == {"password": "hunter2-x"}
    assert (await mine.get("integrations/mail")).headers["etag"] == put.headers["etag"]
    kept = await mine.put("integrations/mail", json={"settings": {}, "enabled": False})
    assert (kept.json()["credentials"], kept.json()["enabled"]) == (True, False)
    for settings, field in (
        ({"folder": []}, "settings.folder"),
        ({"days_back": "30"}, "settings.days_back"),
    ):
        answer = await mine.put("integrations/mail", json={"settings": settings})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert (await mine.put("integrations/fax", json={})).status_code == 404
    assert (await mine.delete("integrations/mail")).status_code == 204
    assert (await mine.get("integrations/mail")).status_code == 404


async def test_configuration_is_typed_and_versioned(mine: httpx.AsyncClient) -> None:
    path = "configuration/answers.tone"
    first = await mine.put(path, json={"kind": "text", "value": "friendly"})
    assert first.json()["version"] == 1, first.text
    etag = first.headers["etag"]
    second = await mine.put(
        path, json={"kind": "decimal", "value": "0.25"}, headers={"If-Match": etag}
    )
    assert (second.json()["version"], second.json()["value"]) == (2, "0.25")
    stale = await mine.put(path, json={"kind": "text", "value": "x"}, headers={"If-Match": etag})
    assert stale.status_code == 412
    for kind, value in (
        ("text", 1),
        ("integer", 1.5),
        ("integer", "1"),
        ("decimal", 0.25),
        ("boolean", "true"),
        ("object", []),
        ("list", {}),
        ("text", None),
    ):
        answer = await mine.put(path, json={"kind": kind, "value": value})
        assert answer.status_code == 422, (kind, value, answer.text)
    assert (await mine.get(path)).json()["version"] == 2
    good: dict[str, Any] = {"integer": 3, "boolean": False, "object": {}, "list": [1]}
    for kind, value in good.items():
        assert (await mine.put(path, json={"kind": kind, "value": value})).status_code == 200
    assert (await mine.put("configuration/Bad Key", json={})).status_code == 422


async def test_what_a_model_made_is_found_by_its_meaning(
    plane: pp.Plane, mine: httpx.AsyncClient, client_as: ClientOf, ada: pp.Caller, bob: pp.Caller
) -> None:
    async with plane.acting(ada).write() as tx:
        document = Document(
            tenant_id=ada.tenant,
            owner_id=ada.user,
            source="upload",
            name="letter",
            state="failed",
            failure_code="empty",
            failure_reason="It is empty.",
        )
        tx.add(document)
    fields = {"model": "writer", "purpose": "summary", "cost": "0.00042"}
    kettle = await made(
        mine,
        "model-outputs",
        prompt="Summarize; use api_key=sk-abcdefgh12345678 at https://ada:hunter2hunter2@x.org",
        content="The kettle in the kitchen is broken and must be repaired.",
        document_ids=[str(document.id)],
        **fields,
    )
    assert kettle["cost"] == "0.00042000"
    assert kettle["document_ids"] == [str(document.id)]
    assert "hunter2" not in kettle["prompt"]
    assert "abcdefgh" not in kettle["prompt"]
    answer = await mine.post(
        "model-outputs", json={**fields, "prompt": "x", "content": "Invoices are due in March."}
    )
    settled = {"settled": answer.headers["polyplane-token"]}
    found = (
        await mine.get("model-outputs/search", params={"q": "no hot water for tea", **settled})
    ).json()
    assert found[0]["output"]["id"] == kettle["id"]
    assert len(found) == 2
    assert (await client_as(bob).get("model-outputs/search", params={"q": "tea"})).json() == []
    foreign = {**fields, "prompt": "x", "content": "x", "document_ids": [str(document.id)]}
    refused = await client_as(bob).post("model-outputs", json=foreign)
    assert (refused.status_code, refused.json()["field"]) == (422, "document_ids.0")
    gone = await mine.delete(f"model-outputs/{kettle['id']}")
    settled = {"settled": gone.headers["polyplane-token"]}
    found = (await mine.get("model-outputs/search", params={"q": "kettle", **settled})).json()
    assert kettle["id"] not in [it["output"]["id"] for it in found]
    assert (await plane.verify(ModelOutputs)).missing == 0


async def test_a_write_with_a_key_is_done_once(mine: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "matters-1"}
    accounts = [
        (await made(mine, "accounts", name=name, kind="asset", currency="EUR"))["id"]
        for name in ("cash", "food")
    ]
    entries = [
        {"account_id": account, "amount": amount}
        for account, amount in zip(accounts, ("-1.00", "1.00"), strict=True)
    ]
    first = await mine.post("transactions", json={"entries": entries}, headers=headers)
    again = await mine.post("transactions", json={"entries": entries}, headers=headers)
    assert first.json()["id"] == again.json()["id"], again.text
    assert len((await mine.get("transactions")).json()["items"]) == 1
