"""What the API promises for every application, on a real plane: pages, versions, tokens, proof."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from polyplane import Plane
from polyplane.serve.token import ops_token
from polyplane.truth.dead import Bad
from tests.conftest import PlaneOf
from tests.flow.notebook import application

NOTES = "/api/v1/notebook/notes"
CLIENT = Callable[[Plane], httpx.AsyncClient]


@pytest.fixture
async def plane(plane_of: PlaneOf) -> Plane:
    """A plane with the notebook."""
    return await plane_of(applications=[application])


@pytest.fixture
async def api(plane: Plane, client_of: CLIENT) -> AsyncIterator[httpx.AsyncClient]:
    """Its API, as the operator."""
    client = client_of(plane)
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    yield client


async def create(api: httpx.AsyncClient, body: str) -> httpx.Response:
    """Write one note."""
    answer = await api.post(NOTES, json={"body": body})
    assert answer.status_code == 201
    return answer


async def test_pages_hold_every_row_once_newest_first(api: httpx.AsyncClient) -> None:
    bodies = [f"note {n}" for n in range(7)]
    for body in bodies:
        await create(api, body)
    seen: list[str] = []
    after: str | None = None
    while True:
        query = {"limit": "3"} | ({"after": after} if after else {})
        page = (await api.get(NOTES, params=query)).json()
        assert len(page["items"]) <= 3
        seen += [item["body"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
        await create(api, "comes meanwhile")
    assert seen == bodies[::-1]


@pytest.mark.parametrize("after", ["x", "AAAA", "e30", "WzEsMl0", "W251bGwsbnVsbF0", "%00", "é"])
async def test_a_cursor_that_is_none_is_refused(api: httpx.AsyncClient, after: str) -> None:
    answer = await api.get(f"{NOTES}?after={after}")
    assert answer.status_code == 422
    assert answer.json()["field"] == "after"


@pytest.mark.parametrize("limit", ["0", "201", "x"])
async def test_a_page_has_bounds(api: httpx.AsyncClient, limit: str) -> None:
    answer = await api.get(NOTES, params={"limit": limit})
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")


async def test_a_version_that_is_gone_changes_nothing(api: httpx.AsyncClient) -> None:
    url = f"{NOTES}/{(await create(api, 'first')).json()['id']}"
    etag = (await api.get(url)).headers["etag"]
    assert (await api.get(url)).headers["etag"] == etag
    first = await api.put(url, json={"body": "second"}, headers={"If-Match": f'"x", {etag}'})
    assert first.status_code == 200
    late = await api.put(url, json={"body": "third"}, headers={"If-Match": etag})
    assert late.status_code == 412
    assert late.json()["fix"]
    shown = await api.get(url)
    assert shown.json()["body"] == "second"
    assert shown.headers["etag"] != etag
    for anyway in ({"If-Match": "*"}, {}):
        assert (await api.put(url, json={"body": "fourth"}, headers=anyway)).status_code == 200


async def test_a_change_behind_the_applications_back_is_another_version(
    plane: Plane, api: httpx.AsyncClient
) -> None:
    url = f"{NOTES}/{(await create(api, 'mine')).json()['id']}"
    etag = (await api.get(url)).headers["etag"]
    database_url = plane.settings.url("database_url")
    assert database_url is not None
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("UPDATE cli_note SET owner = 'psql'")
    assert (await api.get(url)).headers["etag"] != etag


async def test_a_read_with_the_token_sees_the_write(api: httpx.AsyncClient) -> None:
    for number in range(5):
        token = (await create(api, f"note {number}")).headers["polyplane-token"]
        by = (
            {"params": {"settled": token}}
            if number % 2
            else {"headers": {"Polyplane-Token": token}}
        )
        assert f"note {number}" in (await api.get("/api/v1/notebook/search", **by)).json()  # type: ignore[arg-type]
    answer = await api.get("/api/v1/notebook/search", params={"settled": "1.x"})
    assert (answer.status_code, answer.json()["field"]) == (422, "settled")


async def test_health_names_every_engine(api: httpx.AsyncClient) -> None:
    health = (await api.get("/healthz")).json()
    assert health["status"] == "healthy"
    assert {"postgresql", "nats", "lancedb"} <= health["database"].keys()
    assert set(health["database"].values()) == {"healthy"}
    ready = (await api.get("/readyz")).json()
    assert {engine["role"] for engine in ready["engines"]} >= {"truth", "feed", "vector"}


async def test_metrics_tell_how_far_everything_is(api: httpx.AsyncClient) -> None:
    token = (await create(api, "counted")).headers["polyplane-token"]
    await api.get("/api/v1/notebook/search", params={"settled": token})
    families = {
        family.name: family
        for family in text_string_to_metric_families((await api.get("/metrics")).text)
    }
    values = {
        name: {tuple(s.labels.values()): s.value for s in family.samples}
        for name, family in families.items()
    }
    assert set(values["polyplane_engine_up"].values()) == {1.0}
    assert values["polyplane_relay_leading"] == {(): 1.0}
    assert values["polyplane_relay_published_keys"][()] >= 1
    assert values["polyplane_projection_items"]["note_search",] >= 1
    assert values["polyplane_projection_buckets_behind"]["note_search",] == 0
    assert values["polyplane_outbox_waiting_rows"][()] == 0


async def test_the_operator_proves_and_refills(api: httpx.AsyncClient) -> None:
    token = (await create(api, "proven")).headers["polyplane-token"]
    await api.get("/api/v1/notebook/search", params={"settled": token})
    proof = (await api.post("/api/v1/ops/verify", params={"projection": "note_search"})).json()
    assert (proof["missing"], proof["stale"], proof["extra"]) == (0, 0, 0)
    assert [(part["rows"], part["items"]) for part in proof["parts"]] == [(1, 1)]
    assert proof["parts"][0]["truth_digest"] == proof["parts"][0]["store_digest"]
    mended = (await api.post("/api/v1/ops/repair", params={"deep": True})).json()
    assert (mended["found"]["missing"], mended["left"]["parts"][0]["rows"]) == (0, 0)
    filled = await api.post("/api/v1/ops/projections/note_search/backfill")
    assert filled.json() == {"projection": "note_search", "items": 1}
    status = (await api.get("/api/v1/ops/status")).json()
    assert (status["status"], status["relay"]["leading"]) == ("healthy", True)
    for unknown in ("/api/v1/ops/verify?projection=x", "/api/v1/ops/projections/x/backfill"):
        answer = await api.post(unknown)
        assert (answer.status_code, answer.json()["fix"]) == (404, "Known: note_search.")


async def test_the_operator_sees_to_dead_letters(plane: Plane, api: httpx.AsyncClient) -> None:
    at, dead = "/api/v1/ops/projections/note_search/dead", plane.opened.journal.dead
    collection = plane.opened.targets["note_search"].collection.target
    await dead.park(collection, [Bad(key, 1, "ValueError") for key in ("a/b", "c d", "é")])
    listed = (await api.get(at)).json()
    assert [(it["key"], it["error"], it["attempts"]) for it in listed] == [
        (key, "ValueError", 1) for key in ("a/b", "c d", "é")
    ]
    assert [
        it["key"] for it in (await api.get(at, params={"after": "a/b", "limit": 1})).json()
    ] == ["c d"]
    [lag] = (await api.get("/api/v1/ops/projections")).json()
    assert lag["parked"] == 3
    assert "polyplane_projection_parked_rows" in (await api.get("/metrics")).text
    answer = await api.post(f"{at}/drop", params={"key": ["é", "z"]})
    assert answer.json() == {"projection": "note_search", "rows": 1}
    assert (await api.post(f"{at}/retry")).json()["rows"] == 2
    assert (await api.get(at.replace("note_search", "x"))).status_code == 404


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "projections/note_search/dead"),
        ("POST", "projections/note_search/dead/retry"),
        ("POST", "projections/note_search/dead/drop"),
        ("GET", "status"),
        ("GET", "urls"),
        ("GET", "projections"),
        ("POST", "verify"),
        ("POST", "projections/note_search/backfill"),
    ],
)
async def test_every_route_of_the_operator_needs_the_token(
    plane: Plane, client_of: CLIENT, method: str, path: str
) -> None:
    api = client_of(plane)
    for headers in ({}, {"Authorization": "Bearer x"}):
        answer = await api.request(method, f"/api/v1/ops/{path}", headers=headers)
        assert answer.status_code == 401
        assert "postgresql://" not in answer.text
