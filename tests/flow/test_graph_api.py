"""The graph over HTTP and in the command line: the same answers, for whoever may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

import pytest
from click.exceptions import Exit as ClickExit
from httpx import AsyncClient

import polyplane as pp
from polyplane.serve.cli.program import command_of
from polyplane.serve.cli.remote import error_of
from polyplane.serve.token import ops_token
from tests.conftest import PlaneOf
from tests.flow.things import by_hand
from tests.flow.towns import DECLARED, Town, fill

GRAPH: Final = "/api/v1/graph"
TIMEOUT_S: Final = 60.0
ClientOf = Callable[[pp.Plane], AsyncClient]


@pytest.fixture
async def api(plane_of: PlaneOf, client_of: ClientOf) -> AsyncIterator[AsyncClient]:
    """The ring of towns, as its operator asks for it."""
    plane = await plane_of(**DECLARED)
    await fill(plane)
    client = client_of(plane)
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    yield client


async def asked(api: AsyncClient, verb: str, status: int = 200, **given: Any) -> Any:
    """What a question is answered with."""
    answer = await api.post(f"{GRAPH}/{verb}", json=given)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_questions_and_answers(api: AsyncClient) -> None:
    schema = (await api.get(GRAPH)).json()
    assert {it["label"]: it["properties"] for it in schema["nodes"]} == {
        "Town": {"name": "str", "people": "int", "founded": "datetime"},
        "Person": {},
    }
    roads = next(it for it in schema["edges"] if it["type"] == "ROAD")
    assert (roads["source"], roads["target"], roads["projection"]) == ("Town", "Town", "roads")
    town = (await api.get(f"{GRAPH}/nodes/Town/7")).json()
    assert (town["key"], town["properties"]["name"]) == ("7", "town 7")
    assert (await api.get(f"{GRAPH}/nodes/Town/7000")).status_code == 404

    moment = "2001-02-03T05:05:06.789+01:00"
    where: dict[str, Any] = {"people": {"ge": 300, "lt": 600}, "founded": {"ge": moment}}
    found = await asked(api, "find", label="Town", where=where)
    assert [it["key"] for it in found["items"]] == ["3", "4", "5"]
    found = await asked(api, "find", label="Town", where={"founded": moment, "name": ["town 9"]})
    assert [it["key"] for it in found["items"]] == ["9"]
    [near] = (await asked(api, "neighbours", edge="ROAD", key="3", of={"people": 400}))["items"]
    assert (near["edge"]["properties"], near["node"]["key"]) == ({"miles": 1.5}, "4")
    reached = await asked(api, "within", label="Person", key="p3", hops=2, edges=["LIVES_IN"])
    assert [(it["hops"], it["node"]["key"]) for it in reached["items"]] == [(1, "3")]
    ends: dict[str, Any] = {
        "source": {"label": "Town", "key": "3"},
        "target": {"label": "Town", "key": "5"},
    }
    way = await asked(api, "path", **ends, edges=["ROAD"], weight="miles")
    assert (way["cost"], [it["key"] for it in way["nodes"]]) == (3.5, ["3", "4", "5"])
    assert (await asked(api, "path", **ends, edges=["LIVES_IN"]))["nodes"] == []
    steps = [{"label": "Person", "where": {"id": "p3"}}, {"type": "LIVES_IN"}, {"label": "Town"}]
    order = {"step": 2, "property": "name"}
    [[_, edge, there]] = (await asked(api, "match", steps=steps, order_by=order))["items"]
    assert (edge["type"], there["key"]) == ("LIVES_IN", "3")
    around = await asked(api, "subgraph", keys={"Town": ["3"]}, edges=["ROAD"])
    assert sorted(it["key"] for it in around["nodes"]) == ["2", "3", "4"]
    free = "MATCH (t:Town {id: $id}) RETURN t, t.founded, [t.people, null] AS n"
    rows = await asked(api, "cypher", text=free, parameters={"id": "3"})
    assert rows["columns"][2] == "n" and rows["rows"][0][2] == [300, None]
    assert rows["rows"][0][0]["key"] == "3"
    await _refused(api)


async def _refused(api: AsyncClient) -> None:
    """Questions that are none."""
    for verb, status, given in (
        ("find", 404, {"label": "Village"}),
        ("find", 422, {"label": "Town", "where": {"age": 1}}),
        ("find", 422, {"label": "Town", "where": {"people": "many"}}),
        ("find", 422, {"label": "Town", "where": {"founded": "yesterday"}}),
        ("find", 422, {"label": "Town", "limit": 0}),
        ("neighbours", 422, {"edge": "ROAD", "key": "1", "order_by": "name"}),
        ("neighbours", 422, {"edge": "LIVES_IN", "key": "p1", "direction": "both"}),
        ("within", 422, {"label": "Town", "key": "1", "hops": 99}),
        ("within", 404, {"label": "Town", "key": "1", "edges": ["RAIL"]}),
        ("match", 422, {"steps": [{"label": "Town"}, {"type": "ROAD"}]}),
        ("cypher", 422, {"text": "MATCH (t:Town) SET t.name = 'x'"}),
        ("cypher", 422, {"text": "MATCH (t:Town) RETURN"}),
    ):
        problem = await asked(api, verb, status, **given)
        assert problem["type"].endswith("refused" if status == 422 else "not-found"), problem
    del api.headers["Authorization"]
    for verb in ("find", "cypher"):
        await asked(api, verb, 401, label="Town", text="RETURN 1")


class Through:
    """The way to a plane of this process, as `Remote` is to an `up`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    def call(self, method: str, path: str, **given: Any) -> Any:
        asked = self._client.request(method, f"/api/v1/{path}", **given)
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result(TIMEOUT_S)
        if answer.is_error:
            raise error_of(answer)
        return answer.json()


async def test_commands_ask_what_routes_answer(
    api: AsyncClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    through = Through(api)
    monkeypatch.setattr("polyplane.serve.cli.acting.find_running", lambda _: through)
    capsys.readouterr()  # what was logged until here

    async def told(*words: str) -> str:
        with suppress(SystemExit, ClickExit):
            await asyncio.to_thread(command_of("graph").main, [*words], standalone_mode=False)
        shown = capsys.readouterr()
        return shown.out + shown.err

    async def data(*words: str) -> Any:
        return json.loads(await told(*words, "--json"))["data"]

    assert "Town -> Town" in await told("schema")
    found = await data("find", "Town", "--where", "people>=300", "--where", "people<500")
    assert [it["key"] for it in found["nodes"]] == ["3", "4"]
    assert (await data("node", "Town", "9"))["properties"]["name"] == "town 9"
    near = await data("neighbours", "ROAD", "9", "--order-by", "miles", "--descending")
    assert [it["node"]["key"] for it in near["neighbours"]] == ["10"]
    assert "p3" in await told("within", "Town", "3", "--hops", "1", "--edge", "LIVES_IN")
    way = await data("path", "Person", "p3", "Town", "4", "--weight", "miles", "--edge", "ROAD")
    assert way["nodes"] == []
    assert "town 4" in await told("path", "Person", "p3", "Town", "4")
    both = await data("match", "Person -LIVES_IN-> Town <-ROAD- Town", "--limit", "2")
    assert [len(row) for row in both["matches"]] == [5, 5]
    free = "MATCH (t:Town) WHERE t.people > $n RETURN count(t) AS c"
    assert (await data("cypher", free, "--parameter", "n=5900"))["rows"] == [[1]]
    assert (await data("match", "Town ROAD Town"))["error"] == "refused"
    assert (await data("find", "Town", "--where", "people"))["error"] == "refused"
    assert (await data("node", "Town", "none"))["error"] == "refused"


async def test_a_question_waits_for_the_write_it_names(
    plane_of: PlaneOf, client_of: ClientOf
) -> None:
    """And a free query leaves a line in the audit."""
    plane = await plane_of(**DECLARED)
    client = client_of(plane)
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    for number in range(5):
        async with plane.write(actor="test") as tx:
            tx.add(Town(id=number, name=f"n{number}"))
        assert tx.token is not None
        path = f"{GRAPH}/nodes/Town/{number}"
        assert (await client.get(path, params={"settled": str(tx.token)})).status_code == 200
    await asked(client, "cypher", text="MATCH (t:Town) RETURN count(t)")
    rows = await by_hand(
        plane, "SELECT detail->>'text' FROM polyplane.audit WHERE action = 'graph.cypher'"
    )
    assert rows and all(text == "MATCH (t:Town) RETURN count(t)" for (text,) in rows)
