"""The agents over HTTP: what is stored, shown by the graph, refused; each tenant's own."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient, Response

from tests.flow.agents.crew import made
from tests.flow.things import becomes

NOBODY = "019b76da-a800-7000-8000-000000000001"
WITHIN_S = 30.0


def refusal(answer: Response, status: int, field: str) -> None:
    """Assert that `answer` is a problem document of `status` about `field`."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field", "") == field, answer.text


async def staffed(client: AsyncClient) -> tuple[str, str, str]:
    """An agent with a tool, and the token of the last write."""
    agent = await made(client, "agents", name="Ada", type="researcher")
    tool = await made(client, "tools", name="Drill", capability="drill")
    use = await client.put(f"agents/{agent['id']}/tools/{tool['id']}")
    assert use.status_code == 200
    return agent["id"], tool["id"], use.headers["Polyplane-Token"]


async def test_an_agent_its_tools_and_who_can_do_what(client: AsyncClient) -> None:
    agent, tool, token = await staffed(client)
    wanted = [{"id": tool, "name": "Drill", "capability": "drill"}]
    for cached in (False, True):
        asked: dict[str, Any] = {"settled": token, "cached": cached}
        found = await client.get(f"agents/{agent}/tools", params=asked)
        assert found.json() == wanted
    able = (await client.get("capabilities/drill/agents")).json()
    assert [(it["id"], it["tool"]["id"]) for it in able] == [(agent, tool)]
    again = await client.put(f"agents/{agent}/tools/{tool}")
    assert again.status_code == 200  # it is said once, however often
    changed = await client.patch(f"agents/{agent}", json={"name": "Countess"})
    stale = {"If-Match": '"old"'}
    assert (await client.delete(f"agents/{agent}", headers=stale)).status_code == 412
    able = await client.get(
        "capabilities/drill/agents", params={"settled": changed.headers["Polyplane-Token"]}
    )
    assert able.json()[0]["name"] == "Countess"
    assert (await client.delete(f"agents/{agent}/tools/{tool}")).status_code == 204
    assert (await client.delete(f"agents/{agent}/tools/{tool}")).status_code == 404
    gone = await client.delete(f"agents/{agent}")
    asked = {"settled": gone.headers["Polyplane-Token"]}
    assert (await client.get(f"agents/{agent}/tools", params=asked)).status_code == 404
    assert (await client.get("tools", params={"capability": "drill"})).json()["items"]
    assert (await client.get("tools", params={"capability": "other"})).json()["items"] == []


async def test_concepts_are_related_navigated_connected_and_found(client: AsyncClient) -> None:
    ids = {
        name: (await made(client, "concepts", name=name, category="pattern"))["id"]
        for name in ("outbox", "relay", "stream")
    }
    for source, target, strength in (("outbox", "relay", 0.4), ("relay", "stream", 1)):
        path = f"concepts/{ids[source]}/related/{ids[target]}/feeds"
        assert (await client.put(path, json={"strength": strength})).status_code == 200
    path = f"concepts/{ids['outbox']}/related/{ids['relay']}/feeds"
    last = await client.put(path, json={"strength": 0.9})
    asked = {"settled": last.headers["Polyplane-Token"]}
    related = await client.get(f"concepts/{ids['outbox']}/related", params=asked)
    assert related.json() == [
        {
            "id": ids["relay"],
            "name": "relay",
            "category": "pattern",
            "strength": 0.9,
            "type": "feeds",
        }
    ]
    way = await client.get(f"concepts/{ids['outbox']}/path/{ids['stream']}")
    assert [it["name"] for it in way.json()["concepts"]] == ["outbox", "relay", "stream"]
    assert [it["strength"] for it in way.json()["relations"]] == [0.9, 1.0]
    talk = await made(client, "discussions", title="How?")
    put = await client.put(f"concepts/{ids['relay']}/discussions/{talk['id']}")
    asked = {"settled": put.headers["Polyplane-Token"]}
    seen = await client.get(f"discussions/{talk['id']}/concepts", params=asked)
    assert [it["name"] for it in seen.json()] == ["relay"]
    seen = await client.get(f"concepts/{ids['relay']}/discussions")
    assert [it["title"] for it in seen.json()] == ["How?"]
    hits = await client.post("concepts/search", json={"question": "relay", "limit": 1})
    assert [it["id"] for it in hits.json()] == [ids["relay"]]
    for answer in (
        await client.get(f"concepts/{ids['outbox']}/related", headers={"X-Tenant": "other"}),
        await client.put(path, json={"strength": 0.1}, headers={"X-Tenant": "other"}),
        await client.delete(path, headers={"X-Tenant": "other"}),
    ):
        assert answer.status_code == 404
    deleted = await client.delete(path)
    asked = {"settled": deleted.headers["Polyplane-Token"]}
    related = await client.get(f"concepts/{ids['outbox']}/related", params=asked)
    assert related.json() == []
    nowhere = await client.get(f"concepts/{ids['outbox']}/path/{ids['stream']}")
    refusal(nowhere, 404, "target_id")


async def test_discussions_go_only_where_they_can(client: AsyncClient) -> None:
    agent, *_ = await staffed(client)
    talk = await made(client, "discussions", title="How?")
    path = f"discussions/{talk['id']}"
    joined = await client.put(f"{path}/agents/{agent}")
    asked = {"settled": joined.headers["Polyplane-Token"]}
    active = await client.get("discussions/active", params=asked)
    assert [(it["id"], it["agent_id"]) for it in active.json()] == [(talk["id"], agent)]
    assert (await client.get(f"agents/{agent}/discussions")).json() == active.json()
    closed = await client.patch(path, json={"status": "closed"})
    asked = {"settled": closed.headers["Polyplane-Token"]}
    assert (await client.get("discussions/active", params=asked)).json() == []
    refusal(await client.patch(path, json={"status": "paused"}), 409, "status")
    refusal(await client.patch(path, json={"status": "exploded"}), 422, "status")
    assert (await client.patch(path, json={"status": "archived"})).status_code == 200
    refusal(await client.patch(path, json={"status": "active"}), 409, "status")
    assert (await client.delete(f"{path}/agents/{agent}")).status_code == 204
    assert (await client.get("discussions", params={"status": "archived"})).json()["items"]


async def test_an_operation_asked_for_twice_is_done_once_and_followed(client: AsyncClient) -> None:
    agent, tool, _ = await staffed(client)
    steps = [{"tool_id": tool, "name": "try", "arguments": {"failures": 1}}]
    given = {"agent_id": agent, "type": "exercise", "steps": steps}
    once = {"Idempotency-Key": str(uuid4())}
    first = await client.post("operations", json=given, headers=once)
    assert first.status_code == 202, first.text
    again = await client.post("operations", json=given, headers=once)
    assert again.json() == first.json()
    path = f"operations/{first.json()['id']}"

    async def look() -> Any:
        return (await client.get(f"{path}/progress")).json()["status"]

    await becomes(look, "completed", within_s=WITHIN_S)
    done = (await client.get(path)).json()
    assert (done["status"], done["results"], done["steps_done"]) == (
        "completed",
        {"1": {"attempt": 2}},
        1,
    )
    [step] = (await client.get(f"{path}/steps")).json()["items"]
    assert (step["status"], step["attempts"], step["step_number"]) == ("completed", 2, 1)
    listed = (await client.get("operations", params={"status": "completed"})).json()["items"]
    assert listed == [done]
    assert (await client.get("operations", params={"type": "other"})).json()["items"] == []
    refusal(await client.post(f"{path}/cancel"), 409, "status")
    refusal(await client.delete(f"agents/{agent}"), 409, "agent_id")
    refusal(await client.delete(f"tools/{tool}"), 409, "tool_id")
    for rest in ("", "/steps", "/progress"):
        other = await client.get(f"{path}{rest}", headers={"X-Tenant": "other"})
        assert other.status_code == 404, rest
    assert (await client.post(f"{path}/cancel", headers={"X-Tenant": "other"})).status_code == 404


async def test_databases_are_told_of_as_the_seed_has_it(client: AsyncClient) -> None:
    agent, *_ = await staffed(client)
    await client.get(f"agents/{agent}/tools", params={"cached": True})
    health = (await client.get("http://127.0.0.1/health/databases")).json()
    assert {name: it["status"] for name, it in health.items()} == dict.fromkeys(
        ("postgres", "neo4j", "redis"), "healthy"
    )
    assert set(health["postgres"]["connectionPool"]) == {"active", "idle", "waiting"}
    assert health["postgres"]["connectionPool"]["idle"] >= 1
    assert (health["neo4j"]["engine"], health["neo4j"]["connections"]) == ("ladybug", 1)
    assert health["neo4j"]["queryTime"] > 0
    assert health["redis"]["usedMemory"] > 0 and 0 <= health["redis"]["hitRate"] <= 1
    told = (await client.get("http://127.0.0.1/health/metrics")).json()
    latency = told["queryLatency"]
    assert 0 < latency["p95"] <= latency["p99"] and latency["avg"] > 0
    assert 0 <= told["connectionPool"]["utilization"] <= 1
    assert told["connectionPool"]["waitTime"] >= 0
    assert set(told["cacheEfficiency"]) == {"hitRate", "missRate", "evictionRate"}


async def test_the_methods_of_an_address_are_its_own(client: AsyncClient) -> None:
    for path, methods in (
        ("concepts/hybrid", "POST"),
        ("discussions/active", "GET"),
        (f"concepts/{NOBODY}", "DELETE, GET, PATCH"),
    ):
        answer = await client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("agents", {"name": " ", "type": "x"}, "name"),
    ("agents", {"name": "x", "type": "x" * 51}, "type"),
    ("tools", {"name": "x", "capability": ""}, "capability"),
    ("discussions", {"title": "x", "status": "closed"}, "status"),
    ("concepts", {"name": "x" * 501, "category": "x"}, "name"),
    ("concepts", {"name": "nul \0", "category": "x"}, "name"),
    ("operations", {"agent_id": NOBODY, "type": "x", "steps": []}, "steps"),
    (
        "operations",
        {"agent_id": NOBODY, "type": "x", "steps": [{"tool_id": NOBODY, "name": "x"}]},
        "agent_id",
    ),
    ("concepts/search", {"question": ""}, "question"),
]


@pytest.mark.parametrize(("path", "given", "field"), WRONG)
async def test_what_is_wrong_is_named(
    client: AsyncClient, path: str, given: dict[str, Any], field: str
) -> None:
    refusal(await client.post(path, json=given), 422, field)
