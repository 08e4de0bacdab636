"""Two tenants with data that look alike, on one plane; and how a request says whose it is.

Every text of a tenant has its canary in it, which occurs nowhere else: what one of them is shown
must not hold the canary of the other, nor an id of its that was not in the question.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from httpx import AsyncClient

import polyplane as pp
from polyplane.domains import agents, assistant, laboratory
from polyplane.live import OPERATION
from tests.attack.assisted import ASSISTANT, THINGS, fill_matters
from tests.attack.crewed import AGENTS, LISTS, fill_agents
from tests.attack.documented import DOCUMENTS, fill_documents
from tests.flow.deeds import (
    Deed,
    DeedCard,
    DeedNodes,
    DeedSearch,
    Leads,
    Meter,
    Remark,
    caller,
    points,
)

LABORATORY: Final = "/api/v1/laboratory"
DECLARED: Final[dict[str, Any]] = {
    "applications": [laboratory.application, agents.application, assistant.application],
    "models": [Deed, Remark],
    "projections": [DeedSearch, DeedCard, DeedNodes, Leads],
    "streams": [Meter],
}
WITHIN_S: Final = 30.0


@dataclass(slots=True)
class Side:
    """One tenant: what it calls its things, and what tells them from the other's."""

    tenant: str
    canary: str = field(default_factory=lambda: f"canary{uuid4().hex[:12]}")
    ids: dict[str, str] = field(default_factory=dict)
    """By the name of the parameter that takes it."""
    cursors: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    deeds: list[int] = field(default_factory=list)
    blob: UUID | None = None
    blob_key: str = ""
    key: str = ""
    """What its program shows; its id is in it."""

    @property
    def headers(self) -> dict[str, str]:
        """How its requests say whose they are: the one place that knows."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def caller(self) -> pp.Caller:
        """A program of this tenant."""
        return caller(self.tenant)

    @property
    def secrets(self) -> set[str]:
        """What nobody else may be told."""
        return {self.canary, *self.ids.values()}


@dataclass(slots=True)
class Ground:
    """A plane with both, and a third one whose things may be used up."""

    plane: pp.Plane
    http: AsyncClient
    mine: Side
    theirs: Side

    async def snapshot(self) -> dict[str, Any]:
        """All that the other tenant is shown, to be compared after the attack."""
        found: dict[str, Any] = {}
        for name in ("users", "experiments", "materials", "learnings"):
            answer = await self._get(f"/{name}?limit=200", self.theirs)
            found[name] = answer
        experiment = self.theirs.ids["experiment_id"]
        for rest in ("summary", "activities", "materials", "telemetry/latest"):
            found[rest] = await self._get(f"/experiments/{experiment}/{rest}", self.theirs)
        for name in LISTS:
            found[f"agents: {name}"] = await self._get(f"/{name}?limit=200", self.theirs, AGENTS)
        for name in THINGS:
            found[f"assistant: {name}"] = await self._get(
                f"/{name}?limit=200", self.theirs, ASSISTANT
            )
        document = self.theirs.ids["document_id"]
        for path in ("?limit=200", f"/{document}/chunks", f"/{document}/text"):
            found[f"documents{path}"] = await self._get(path, self.theirs, DOCUMENTS)
        acting = self.plane.acting(self.theirs.caller)
        found["deeds"] = sorted(hit.key for hit in await acting[DeedSearch].search([1.0] * 4))
        around = await acting.graph.subgraph({DeedNodes: self.theirs.deeds}, hops=2)
        found["nodes"] = sorted(it.key for it in around.nodes)
        found["edges"] = sorted(it.key for it in around.edges)
        found["meter"] = await acting[Meter].count()
        found["blobs"] = [str(blob.id) for blob in await acting.blobs.list()]
        return found

    async def _get(self, path: str, side: Side, below: str = LABORATORY) -> Any:
        answer = await self.http.get(below + path, headers=side.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def ground(plane: pp.Plane, http: AsyncClient) -> Ground:
    """Fill both tenants."""
    mine, theirs = Side(f"acme{uuid4().hex[:8]}"), Side(f"other{uuid4().hex[:8]}")
    for number, side in enumerate((mine, theirs)):
        await fill(plane, http, side, number)
    await plane.caught_up()
    return Ground(plane, http, mine, theirs)


async def fill(plane: pp.Plane, http: AsyncClient, side: Side, number: int) -> None:
    """Everything a tenant can have, once; names are alike but for the canary."""
    everything = plane.identity.permissions.everything
    operator = pp.Caller("operator", side.tenant, None, everything)
    await plane.identity.members.add_organization(operator, side.tenant, side.tenant)
    role = "service_operator"
    made = await plane.identity.keys.make(operator, "attack", role=role, expires_s=3600)
    side.key = made.text

    async def post(path: str, body: Any) -> Any:
        answer = await http.post(LABORATORY + path, json=body, headers=side.headers)
        assert answer.is_success, answer.text
        if token := answer.headers.get("Polyplane-Token"):
            side.tokens.append(token)
        return answer.json()

    named = f"Sintering {side.canary}"
    user = await post("/users", {"name": named, "email": f"{side.canary}@example.org"})
    draft = {"name": named, "hypothesis": named, "created_by": user["id"]}
    experiment = (await post("/experiments", draft))["id"]
    await post("/experiments", draft)
    material = (await post("/materials", {"name": named, "type": side.canary}))["id"]
    used = f"{LABORATORY}/experiments/{experiment}/materials/{material}"
    answer = await http.put(used, json={"role": side.canary}, headers=side.headers)
    assert answer.is_success, answer.text
    learning = {"experiment_id": experiment, "type": "process", "insight": named, "confidence": 1}
    learned = (await post("/learnings", learning))["id"]
    await post("/learnings", learning)
    activity = f"heat-{side.canary}"
    activities = [{"activity_id": it, "name": named} for it in ("heat", activity)]
    order = {"controller_id": f"bench-{side.canary}", "activities": activities}
    await post(f"/experiments/{experiment}/start", {"work_orders": [order]})
    side.ids |= {
        "user_id": user["id"],
        "created_by": user["id"],
        "experiment_id": experiment,
        "material_id": material,
        "learning_id": learned,
        "activity_id": activity,
        "controller_id": f"bench-{side.canary}",
    }
    point = {
        "time": ["2026-01-01T12:00:00Z"] * 2,
        "experiment_id": [experiment] * 2,
        "metric_name": [side.canary] * 2,
        "value": [1.0, 2.0],
        "unit": [side.canary] * 2,
    }
    controlled = {"activity_id": [activity] * 2, "controller_id": [order["controller_id"]] * 2}
    await post("/telemetry", point | controlled)
    await post("/metrics", point)
    for path in ("experiments", "learnings", "users", "materials"):
        page = await http.get(f"{LABORATORY}/{path}?limit=1", headers=side.headers)
        if cursor := page.json()["next"]:
            side.cursors.append(cursor)
    side.ids |= await fill_agents(plane, http, side.headers, side.canary)
    side.ids |= await fill_matters(http, side.headers, side.canary)
    side.ids |= await fill_documents(http, side.headers, side.canary)
    await _beside(plane, side, number)


async def _beside(plane: pp.Plane, side: Side, number: int) -> None:
    """What the laboratory has not: owners, files, and a series of ours."""
    acting = plane.acting(side.caller)
    async with acting.write() as tx:
        for key in range(10 * number, 10 * number + 10):
            tx.add(Deed(id=key, whose=side.tenant, body=f"a deed {side.canary}"))
            side.deeds.append(key)
        for key in range(30):  # of deeds of others, too, and of some that are not there
            told = {"tenant_id": side.tenant, "body": side.canary}
            tx.add(Remark(id=100 * number + key, deed_id=key, **told))
    named = {"status": side.canary, "progress": 0.5}
    await acting.state.set(OPERATION, side.canary, **named)
    await acting.state.set(OPERATION, "same", **named)
    blob = await acting.blobs.put(side.canary.encode(), name=side.canary, key="the same")
    side.blob, side.blob_key = blob.id, blob.key
    await acting[Meter].publish(points(4) | {"place": [side.canary] * 4}, batch_id="the same")
    async with asyncio.timeout(WITHIN_S):
        while await acting[Meter].count() < 4:
            await asyncio.sleep(0.02)
