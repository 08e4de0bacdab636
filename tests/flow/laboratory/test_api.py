"""The laboratory over HTTP: what it stores, what it refuses, and that it stores nothing of that."""

from __future__ import annotations

import re
from typing import Any

import pytest
from httpx import AsyncClient

DRAFT = {"name": "Sintering", "hypothesis": "Higher temperature improves density"}


async def made(client: AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    """What a POST created."""
    answer = await client.post(path, json=fields)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def test_an_experiment_is_created_read_listed_changed_and_deleted(
    client: AsyncClient,
) -> None:
    user = await made(client, "users", name="Ada", email="ada@example.org")
    created = await client.post("experiments", json={**DRAFT, "created_by": user["id"]})
    assert created.status_code == 201
    experiment, token = created.json(), created.headers["Polyplane-Token"]
    assert (experiment["status"], experiment["risk_level"]) == ("draft", "R1")
    path = f"experiments/{experiment['id']}"

    read = await client.get(path)
    assert read.json() == experiment
    assert read.headers["ETag"] == created.headers["ETag"]
    cached = await client.get(path, params={"cached": True, "settled": token})
    assert cached.json() == experiment

    changed = await client.patch(path, json={"description": "at 1,250 °C"})
    assert changed.json()["description"] == "at 1,250 °C"
    assert changed.json()["updated_at"] > experiment["updated_at"]
    assert changed.headers["ETag"] != created.headers["ETag"]
    assert (await client.get(path)).headers["ETag"] == changed.headers["ETag"]
    newer = {"Polyplane-Token": changed.headers["Polyplane-Token"]}
    cached = await client.get(path, params={"cached": True}, headers=newer)
    assert cached.json() == changed.json()

    listed = (await client.get("experiments", params={"status": "draft"})).json()
    assert listed["items"] == [changed.json()]
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_a_list_from_the_request_cache(client: AsyncClient) -> None:
    """It is the tenant's own, a write that is named ends it, the operator sees and empties it."""
    first = await client.post("experiments", json=DRAFT)
    given: dict[str, Any] = {"cached": True, "settled": first.headers["Polyplane-Token"]}

    async def hits() -> float:
        page = (await client.get("http://127.0.0.1/metrics")).text
        found = re.search(r'request_cache_reads_total\{result="hit"\} (\S+)', page)
        assert found is not None
        return float(found[1])

    for _ in range(2_000):  # until somebody vouches for what is kept
        before = await hits()
        listed = (await client.get("experiments", params=given)).json()
        if await hits() > before:
            break
    else:
        raise AssertionError("Nothing is kept.")
    assert listed["items"] == [first.json()]
    other = {"X-Tenant": "another"}
    theirs = (await client.get("experiments", params=given, headers=other)).json()
    assert theirs == {"items": [], "next": None}
    second = await client.post("experiments", json=DRAFT)
    given["settled"] = second.headers["Polyplane-Token"]
    listed = (await client.get("experiments", params=given)).json()
    assert listed["items"] == [second.json(), first.json()]
    told = (await client.get("http://127.0.0.1/health/metrics")).json()["cacheEfficiency"]
    assert told["hitRate"] + told["missRate"] == pytest.approx(1)
    assert told["evictionRate"] == 0
    held = (await client.get("http://127.0.0.1/api/v1/ops/cache")).json()
    assert held["entries"] >= held["counting"]
    cleared = await client.post("http://127.0.0.1/api/v1/ops/cache/clear")
    assert cleared.json()["entries"] >= 1
    assert (await client.get("http://127.0.0.1/api/v1/ops/cache")).json()["entries"] == 0
    proof = await client.post(
        "http://127.0.0.1/api/v1/ops/verify", params={"projection": "requests"}
    )
    assert proof.json()["requests"][0]["stale"] == []


async def test_an_etag_that_is_no_longer_true_is_refused(client: AsyncClient) -> None:
    path = f"experiments/{(await made(client, 'experiments', **DRAFT))['id']}"
    first = {"If-Match": (await client.get(path)).headers["ETag"]}
    assert (await client.patch(path, json={"name": "One"}, headers=first)).status_code == 200
    late = await client.patch(path, json={"name": "Two"}, headers=first)
    assert late.status_code == 412
    assert (await client.delete(path, headers=first)).status_code == 412
    assert (await client.get(path)).json()["name"] == "One"


async def test_materials_and_how_much_of_them_an_experiment_uses(client: AsyncClient) -> None:
    experiment = await made(client, "experiments", **DRAFT)
    material = await made(
        client, "materials", name="Aluminiumoxid α", type="ceramic", properties={"grain_µm": 0.4}
    )
    use = f"experiments/{experiment['id']}/materials/{material['id']}"
    put = await client.put(use, json={"quantity": "0.1", "unit": "kg", "role": "sample"})
    assert put.status_code == 200
    listed = (await client.get(f"experiments/{experiment['id']}/materials")).json()["items"]
    assert [(each["quantity"], each["role"]) for each in listed] == [("0.1", "sample")]
    assert (await client.delete(f"materials/{material['id']}")).status_code == 409
    again = await client.put(use, json={"quantity": "0.2"})
    assert (again.json()["quantity"], again.json()["role"]) == ("0.2", None)
    assert (await client.delete(use)).status_code == 204
    assert (await client.delete(use)).status_code == 404
    assert (await client.delete(f"materials/{material['id']}")).status_code == 204


async def test_a_learning_is_found_by_meaning_filtered_corrected_and_forgotten(
    client: AsyncClient,
) -> None:
    experiment = await made(client, "experiments", **DRAFT)
    about = {"experiment_id": experiment["id"]}
    texts = {
        "Higher sintering temperature improves density": 0.92,
        "Finer powder shrinks more in the furnace": 0.6,
        "The alarm rang twice during the night shift": 0.9,
    }
    for insight, confidence in texts.items():
        answer = await client.post(
            "learnings",
            json={**about, "type": "process", "insight": insight, "confidence": confidence},
        )
    token = {"Polyplane-Token": answer.headers["Polyplane-Token"]}

    async def ask(**more: Any) -> list[str]:
        question = {"question": "do hotter kilns give denser parts?", **about, **more}
        found = await client.post("learnings/search", json=question, headers=token)
        assert found.status_code == 200, found.text
        return [hit["insight"] for hit in found.json()["hits"]]

    assert (await ask())[0] == "Higher sintering temperature improves density"
    assert len(await ask()) == 3
    assert len(await ask(min_confidence=0.9)) == 2
    assert await ask(type="safety") == []
    assert len(await ask(limit=1)) == 1

    listed = (await client.get("learnings", params=about)).json()["items"]
    path = f"learnings/{listed[0]['id']}"
    changed = await client.patch(path, json={"insight": "The alarm rang once", "type": "safety"})
    token["Polyplane-Token"] = changed.headers["Polyplane-Token"]
    assert await ask(type="safety") == ["The alarm rang once"]
    forgotten = await client.delete(path)
    token["Polyplane-Token"] = forgotten.headers["Polyplane-Token"]
    assert await ask(type="safety") == []


async def test_tenants_do_not_see_each_other(client: AsyncClient) -> None:
    experiment = await made(client, "experiments", **DRAFT)
    material = await made(client, "materials", name="Zirconia", type="ceramic")
    other = {"X-Tenant": "other"}
    path = f"experiments/{experiment['id']}"
    for answer in (
        await client.get(path, headers=other),
        await client.get(path, headers=other, params={"cached": True}),
        await client.patch(path, json={"name": "mine"}, headers=other),
        await client.delete(path, headers=other),
        await client.get(f"{path}/summary", headers=other),
        await client.get(f"{path}/activities", headers=other),
        await client.get(f"{path}/telemetry/latest", headers=other),
        await client.put(f"{path}/materials/{material['id']}", json={}, headers=other),
    ):
        assert answer.status_code == 404
    learning = {"experiment_id": experiment["id"], "type": "process", "insight": "x"}
    stolen = await client.post("learnings", json={**learning, "confidence": 1}, headers=other)
    assert (stolen.status_code, stolen.json()["field"]) == (422, "experiment_id")
    assert (await client.get("experiments", headers=other)).json()["items"] == []


async def test_pages_neither_repeat_nor_skip_while_rows_come_and_go(client: AsyncClient) -> None:
    names = [f"Material {number}" for number in range(7)]
    rows = [await made(client, "materials", name=name, type="metal") for name in names]
    seen: list[str] = []
    after = None
    while True:
        params = {"limit": 2} | ({"after": after} if after else {})
        page = (await client.get("materials", params=params)).json()
        seen += [item["name"] for item in page["items"]]
        await made(client, "materials", name=f"Later {len(seen)}", type="metal")
        if len(seen) == 4:
            await client.delete(f"materials/{rows[0]['id']}")
        if (after := page["next"]) is None:
            break
    assert seen == names[:0:-1]


@pytest.mark.parametrize(
    "text", ["Ünïcødé", "材料科学", "نص عربي", "👩🏽‍🔬 emoji", "a\u0301 combining"]
)
async def test_text_of_any_script_comes_back_as_it_went(client: AsyncClient, text: str) -> None:
    experiment = await made(client, "experiments", name=text, hypothesis=text)
    read = (await client.get(f"experiments/{experiment['id']}")).json()
    assert (read["name"], read["hypothesis"]) == (text, text)
    learning = await client.post(
        "learnings",
        json={
            "experiment_id": experiment["id"],
            "type": "material",
            "insight": text,
            "confidence": 0.5,
        },
    )
    found = await client.post(
        "learnings/search",
        json={"question": text},
        headers={"Polyplane-Token": learning.headers["Polyplane-Token"]},
    )
    assert found.json()["hits"][0]["insight"] == text
