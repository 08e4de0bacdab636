"""The demo of agents: they learn the standard library, and work with what they know.

Nothing here reaches past the API: what it shows, any user could have got.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import httpx
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

import polyplane as pp
from polyplane.domains.agents.demo_report import AgentsReport, Learned, Operated, render
from polyplane.domains.agents.learning.over_routes import learn_over

__all__ = ["AgentsReport", "render", "run_demo"]

CALL_TIMEOUT_S: Final = 60.0
SETTLE_TIMEOUT_S: Final = 120.0
OPERATIONS: Final = 20
OPERATIONS_TIMEOUT_S: Final = 120.0
LOOK_S: Final = 0.5
CLIENT: Final = "demo-agents"
KEY_S: Final = 3_600
TENANT: Final = "default"

QUESTION: Final = "wait for several things at the same time"
CONCEPT: Final = "asyncio.base_events"
FAR: Final = "email.message"
QUESTIONS: Final = (
    "read a compressed archive",
    "send a message over a socket",
    "parse dates and times",
    "run another program",
    "compare two texts",
    "store numbers in little memory",
    "walk through folders",
    "write rows with commas",
)
TOOLS: Final = {
    "Search": "concepts.search",
    "Navigator": "concepts.navigate",
    "Notebook": "concepts.note",
    "Forum": "discussions.open",
    "Ruler": "text.measure",
    "Fire drill": "drill",
}


class Api:
    """The plane's HTTP API as its clients see it; a problem document becomes an error of ours."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def __call__(self, method: str, path: str, **given: Any) -> Any:
        """What a route below `/api/v1/` answers: its JSON, or None.

        Raises Refused, Unavailable unless it succeeds; `also` lists further statuses that do.
        """
        also, asked = given.pop("also", ()), given.pop("parameters", None)
        try:
            answer = await self.http.request(method, path, params=asked, **given)
        except httpx.HTTPError as error:
            raise pp.Unavailable(f"The API does not answer: {error!r}.") from error
        if not answer.is_success and answer.status_code not in also:
            kind = pp.Refused if answer.status_code < 500 else pp.Unavailable
            raise kind(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    async def get(self, path: str, **query: Any) -> Any:
        """What a GET of the agents answers."""
        return await self("GET", f"agents/{path}", parameters=query)


async def run_demo(
    api_url: str,
    nats_url_of: Callable[[str], str],
    *,
    ops_token: str,
    namespace: str = "pp",
    paths: Sequence[Path] = (),
    console: Console | None = None,
) -> AgentsReport:
    """Learn, operate, ask and prove, on a plane that is up; with `console`, show progress there.

    It learns what is at `paths`, by default the standard library. `nats_url_of` and `namespace` are
    for demos with programs outside; here are none. Raises PolyplaneError when the plane refuses or
    a deadline passes.
    """
    started_s = time.monotonic()
    async with httpx.AsyncClient(
        base_url=f"{api_url}/api/v1/", timeout=CALL_TIMEOUT_S, trust_env=False
    ) as http:
        api = Api(http)
        operator = {"Authorization": f"Bearer {ops_token}"}
        async with _key(api, operator) as http.headers["Authorization"]:
            learned, settled_s = await _learn(api, paths, console)
            tools = await _crew(api)
            operated = await _operate(api, tools, console)
            return await _look(api, operator, learned, settled_s, operated, started_s)


@asynccontextmanager
async def _key(api: Api, operator: Mapping[str, str]) -> AsyncIterator[str]:
    """An API key of the demo's own, as the operator gives it to any program; revoked at the end."""
    path = "auth/api-keys"
    known = await api("GET", path, parameters={"every": True, "limit": 200}, headers=operator)
    for key in known["items"]:
        if key["client"] == CLIENT:  # of a demo that was killed
            await api("DELETE", f"{path}/{key['id']}", headers=operator, also=(404,))
    given = {"client": CLIENT, "role": "service_writer", "expires_s": KEY_S}
    made = await api("POST", path, json=given, headers=operator)
    try:
        yield f"Bearer {made['key']}"
    finally:
        with suppress(pp.Unavailable):  # the plane was stopped; the key ends within the hour
            await api("DELETE", f"{path}/{made['id']}", headers=operator, also=(404,))


async def _learn(api: Api, paths: Sequence[Path], console: Console | None) -> tuple[Learned, float]:
    """Learn what there is twice; and how long until all of it can be asked for."""

    def tell(line: str) -> None:
        if console is not None:
            console.print(line, style="dim", markup=False)

    first = await learn_over(api, TENANT, paths, tell=tell)
    began_s = time.monotonic()
    if first.token is not None:
        await _settled(api, str(first.token))
    settled_s = time.monotonic() - began_s
    again = await learn_over(api, TENANT, paths)
    learned = Learned(
        first.files,
        first.changed,
        again.concepts,
        again.relations,
        first.duration_s,
        again.changed,
        again.duration_s,
        is_whole=not paths,
    )
    return learned, round(settled_s, 2)


async def _settled(api: Api, token: str) -> None:
    """Return when graph and search show the write."""
    deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
    asked = {"question": QUESTION, "limit": 1}
    while time.monotonic() < deadline_s:
        path = "agents/concepts/hybrid"
        answer = await api("POST", path, json=asked, parameters={"settled": token}, also=(503, 504))
        if "hits" in answer:
            return
    raise pp.Unavailable(f"What was learned was not in the stores after {SETTLE_TIMEOUT_S:g} s.")


async def _crew(api: Api) -> dict[str, str]:
    """Two agents, their tools and a discussion, once; the tools' ids by capability."""
    agents = {"Researcher": list(TOOLS), "Clerk": ["Notebook", "Ruler"]}
    ids = {name: _fixed(name) for name in (*agents, *TOOLS, "discussion")}
    for name, capability in TOOLS.items():
        tool = {"id": ids[name], "name": name, "capability": capability}
        await api("POST", "agents/tools", json=tool, also=(409,))
    talk = {"id": ids["discussion"], "title": "What does the standard library know?"}
    await api("POST", "agents/discussions", json=talk, also=(409,))
    for name, usable in agents.items():
        agent = {"id": ids[name], "name": name, "type": "researcher"}
        await api("POST", "agents/agents", json=agent, also=(409,))
        for it in usable:
            await api("PUT", f"agents/agents/{ids[name]}/tools/{ids[it]}")
        await api("PUT", f"agents/discussions/{ids['discussion']}/agents/{ids[name]}")
    return {capability: ids[name] for name, capability in TOOLS.items()}


@dataclass(slots=True)
class _Followed:
    """What was heard of the operations, and what is to be heard."""

    wanted: dict[str, str] = field(default_factory=dict)
    """Id -> the status that it is to end with."""
    shares: dict[str, float] = field(default_factory=dict)
    told: int = 0


async def _operate(api: Api, tools: Mapping[str, str], console: Console | None) -> Operated:
    """Start all operations, follow them live, and look at how they ended."""
    began_s, heard = time.monotonic(), _Followed()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    bar = Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=console is None
    )
    ready = asyncio.Event()
    following = asyncio.create_task(_hear(api, heard, ready))
    try:
        with bar:
            await asyncio.wait_for(ready.wait(), CALL_TIMEOUT_S)
            for number in range(OPERATIONS):
                id, ends = await _start(api, tools, number)
                heard.wanted[id] = ends
            task = bar.add_task(f"{OPERATIONS} operations", total=float(OPERATIONS))
            over = await _all_over(api, heard, lambda done: bar.update(task, completed=done))
    finally:
        following.cancel()
        await asyncio.wait([following])
    return await _counted(api, heard, over, time.monotonic() - began_s)


async def _start(api: Api, tools: Mapping[str, str], number: int) -> tuple[str, str]:
    """Start one operation of 3 to 8 steps; its id, and how it is to end. Each fifth refuses."""
    refuses = number % 5 == 4
    question = QUESTIONS[number % len(QUESTIONS)]
    every: list[tuple[str, dict[str, Any]]] = [
        ("concepts.search", {"question": question, "limit": 3}),
        ("concepts.navigate", {"from_step": 1}),
        ("text.measure", {"text": question}),
        ("drill", {"failures": 1 + number % 2}),
        ("concepts.note", {"name": f"asked: {question}", "summary": "By the demo."}),
        ("discussions.open", {"title": question}),
        ("concepts.search", {"question": f"{question}, safely"}),
        ("text.measure", {"text": f"{number}"}),
    ]
    steps = every[: 3 + number % 6]
    if refuses:
        steps[-1] = ("drill", {"refuses": True})
    given = {
        "agent_id": _fixed("Researcher"),
        "type": "research",
        "context": {"question": question},
        "steps": [
            {"tool_id": tools[name], "name": name, "arguments": arguments}
            for name, arguments in steps
        ],
    }
    made = await api("POST", "agents/operations", json=given)
    return str(made["id"]), "failed" if refuses else "completed"


async def _hear(api: Api, heard: _Followed, ready: asyncio.Event) -> None:
    """Follow the live states of all operations, until cancelled."""
    asked = {"topic": "agents.operations"}
    async with api.http.stream("GET", "events", params=asked, timeout=CALL_TIMEOUT_S) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line == "event: ready":
                ready.set()
            if not line.startswith("data: ") or '"updates"' not in line:
                continue
            for update in orjson.loads(line[6:]).get("updates", ()):
                if state := update.get("state"):
                    heard.told += 1
                    heard.shares[update["key"]] = state["progress"]


async def _all_over(
    api: Api, heard: _Followed, show: Callable[[float], None]
) -> list[dict[str, Any]]:
    """The operations when all have ended; Unavailable when they do not in time."""
    deadline_s = time.monotonic() + OPERATIONS_TIMEOUT_S
    while time.monotonic() < deadline_s:
        listed = await api.get("operations", limit=200)
        mine = [it for it in listed["items"] if it["id"] in heard.wanted]
        over = [it for it in mine if it["completed_at"] is not None]
        if len(over) == OPERATIONS:
            return over
        ended = {it["id"] for it in over}
        going = sum(share for id, share in heard.shares.items() if id not in ended)
        show(len(over) + going)
        await asyncio.sleep(LOOK_S)
    raise pp.Unavailable(f"The operations were not over after {OPERATIONS_TIMEOUT_S:g} s.")


async def _counted(
    api: Api, heard: _Followed, over: Sequence[Mapping[str, Any]], duration_s: float
) -> Operated:
    """What their steps took, and which of them ended otherwise than it should have."""
    steps, wrong = [], []
    for it in over:
        page = await api.get(f"operations/{it['id']}/steps")
        steps += page["items"]
        numbers = sorted(step["step_number"] for step in page["items"])
        live = await api.get(f"operations/{it['id']}/progress")
        if (it["status"], live["status"]) != (heard.wanted[it["id"]],) * 2:
            wrong.append(f"{it['id']} is {it['status']}, and shown as {live['status']}.")
        if numbers != [*range(1, it["steps_total"] + 1)]:
            wrong.append(f"{it['id']} has the steps {numbers}.")
    return Operated(
        dict(Counter(it["status"] for it in over)),
        len(steps),
        sum(step["attempts"] for step in steps),
        sum(len(step["details"].get("failures", ())) for step in steps),
        sum(step["status"] == "undone" for step in steps),
        heard.told,
        wrong,
        round(duration_s, 2),
    )


async def _look(
    api: Api,
    operator: Mapping[str, str],
    learned: Learned,
    settled_s: float,
    operated: Operated,
    started_s: float,
) -> AgentsReport:
    """All there is to see, and the proof."""
    drift = await api("POST", "ops/verify", headers=operator)  # stores have caught up then
    researcher = _fixed("Researcher")
    concept = await _module(api)
    related = await api.get(f"concepts/{concept['id']}/related")
    far = (await api.get("concepts", name=FAR, category="module"))["items"][:1]
    way: list[str] = []
    if far:
        path = f"agents/concepts/{concept['id']}/path/{far[0]['id']}"
        found = await api("GET", path, also=(404,))
        way = [it["name"] for it in found.get("concepts", ())]
    asked = {"question": QUESTION, "limit": 8}
    hits = (await api("POST", "agents/concepts/hybrid", json=asked))["hits"]
    return AgentsReport(
        learned=learned,
        settled_s=settled_s,
        tools=await api.get(f"agents/{researcher}/tools"),
        able=await api.get("capabilities/concepts.note/agents"),
        active=await api.get("discussions/active"),
        operated=operated,
        concept=concept["name"],
        related=related,
        way=way,
        question=QUESTION,
        hits=hits,
        items={part["projection"]: part["items"] for part in drift["parts"]},
        missing=drift["missing"],
        stale=drift["stale"],
        extra=drift["extra"],
        duration_s=round(time.monotonic() - started_s, 2),
    )


async def _module(api: Api) -> Any:
    """The concept to look around: what is asked for, or another module, or any at all."""
    for asked in ({"name": CONCEPT, "category": "module"}, {"category": "module"}, {}):
        if found := (await api.get("concepts", limit=1, **asked))["items"]:
            return found[0]
    raise pp.Refused("Nothing was learned.", fix="Name files that tell something: --path docs")


def _fixed(name: str) -> str:
    """The same id at each run, so that the demo adds its agents and tools once."""
    return str(uuid5(NAMESPACE_URL, f"polyplane:demo:agents:{name}"))
