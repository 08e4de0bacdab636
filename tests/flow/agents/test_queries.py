"""The seed's questions, and others, answered by the graph: whose they are, and as it changes."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.agents import queries
from polyplane.domains.agents.models import (
    Agent,
    AgentTool,
    Concept,
    ConceptAppearance,
    ConceptRelation,
    Discussion,
    DiscussionParticipant,
)
from tests.flow.agents.crew import crew, ended, started
from tests.flow.agents.seed import ACTIVE, DISCOVERY, NAVIGATION

NAMES = ("outbox", "relay", "stream", "cursor", "island")


async def known(plane: pp.Plane, caller: pp.Caller) -> dict[str, UUID]:
    """Concepts that relate in a chain, the first also weakly to the third; and one that is alone.

    outbox -> relay -> stream -> cursor, outbox -> stream; discussions `open` and `over`, where the
    first two appear.
    """
    tenant = caller.tenant
    ids = {name: uuid4() for name in (*NAMES, "open", "over")}
    ties = [("outbox", "relay", 0.9), ("relay", "stream", 0.8), ("stream", "cursor", 0.7)]
    ties += [("outbox", "stream", 0.2)]
    async with plane.acting(caller).write() as tx:
        tx.add_all(
            [Concept(id=ids[it], tenant_id=tenant, name=it, category="pattern") for it in NAMES]
        )
        tx.add_all(
            [
                Discussion(id=ids["open"], tenant_id=tenant, title="How?"),
                Discussion(id=ids["over"], tenant_id=tenant, title="Why?", status="closed"),
            ]
        )
        await tx.flush()
        tx.add_all(
            [
                ConceptRelation(
                    tenant_id=tenant,
                    source_id=ids[source],
                    target_id=ids[target],
                    type="feeds",
                    strength=strength,
                )
                for source, target, strength in ties
            ]
        )
        tx.add_all(
            [
                ConceptAppearance(tenant_id=tenant, concept_id=ids[it], discussion_id=ids[where])
                for it, where in (("outbox", "open"), ("relay", "open"), ("relay", "over"))
            ]
        )
    await plane.settled(tx.token)
    return ids


async def test_capability_discovery_both_ways(plane: pp.Plane, caller: pp.Caller) -> None:
    agent, tools = await crew(plane, caller, "drill", "concepts.search")
    await plane.caught_up()
    found = await queries.tools_of(plane, caller, agent)
    assert [(it.id, it.capability) for it in found] == [
        (tools["concepts.search"], "concepts.search"),
        (tools["drill"], "drill"),
    ]
    table = await plane.graph.cypher(DISCOVERY, {"agentId": str(agent)})
    assert sorted(table.rows) == sorted((str(it.id), it.name, it.capability) for it in found)
    [who] = await queries.agents_for(plane, caller, "drill")
    assert (who.id, who.type, who.tool.id) == (agent, "researcher", tools["drill"])
    assert await queries.agents_for(plane, caller, "flying") == []
    assert await queries.tools_cached(plane, caller, agent) == found
    async with plane.acting(caller).write() as tx:
        key = {"agent_id": agent, "tool_id": tools["drill"]}
        row = await tx.get(AgentTool, key)
        assert row is not None
        await tx.delete(row)
    await plane.settled(tx.token)
    await plane.request_cache.settled(tx.token)
    assert await queries.tools_of(plane, caller, agent) == found[:1]
    assert await queries.tools_cached(plane, caller, agent) == found[:1]
    with pytest.raises(pp.NotFound):
        await queries.tools_of(plane, caller, uuid4())
    with pytest.raises(pp.NotFound):  # another tenant's
        await queries.tools_of(plane, pp.Caller("x", "another"), agent)


async def test_active_discussions(plane: pp.Plane, caller: pp.Caller) -> None:
    ids = await known(plane, caller)
    agent, _ = await crew(plane, caller, "drill")
    async with plane.acting(caller).write() as tx:
        tx.add_all(
            [
                DiscussionParticipant(
                    tenant_id=caller.tenant, discussion_id=ids[it], agent_id=agent
                )
                for it in ("open", "over")
            ]
        )
    await plane.settled(tx.token)
    [found] = await queries.active_discussions(plane, caller)
    assert (found.agent_id, found.id, found.title) == (agent, ids["open"], "How?")
    table = await plane.graph.cypher(ACTIVE)
    assert [row for row in table.rows if row[0] == str(agent)] == [
        (str(agent), str(ids["open"]), "How?")
    ]
    assert await queries.active_discussions(plane, caller, agent_id=agent) == [found]
    [over] = await queries.active_discussions(plane, caller, agent_id=agent, status="closed")
    assert over.id == ids["over"]
    async with plane.acting(caller).write() as tx:
        row = await tx.get(Discussion, ids["open"])
        assert row is not None
        row.status = "paused"
    await plane.settled(tx.token)
    assert await queries.active_discussions(plane, caller) == []


async def test_concepts_by_strength_by_way_and_where_they_appear(
    plane: pp.Plane, caller: pp.Caller
) -> None:
    ids = await known(plane, caller)
    related = await queries.related_concepts(plane, caller, ids["outbox"])
    assert [(it.name, it.strength, it.type) for it in related] == [
        ("relay", 0.9, "feeds"),
        ("stream", 0.2, "feeds"),
    ]
    table = await plane.graph.cypher(NAVIGATION, {"conceptId": str(ids["outbox"])})
    assert table.rows == [(str(it.id), it.name, it.strength) for it in related]
    strong = await queries.related_concepts(plane, caller, ids["outbox"], min_strength=0.5)
    assert [it.name for it in strong] == ["relay"]
    assert await queries.related_concepts(plane, caller, ids["outbox"], type="eats") == []
    assert len(await queries.related_concepts(plane, caller, ids["outbox"], limit=1)) == 1
    path = await queries.concept_path(plane, caller, ids["outbox"], ids["cursor"])
    assert path is not None
    assert [it.properties["name"] for it in path.nodes] == ["outbox", "stream", "cursor"]
    assert await queries.concept_path(plane, caller, ids["outbox"], ids["island"]) is None
    appear = await queries.concepts_in(plane, caller, ids["open"])
    assert [it.name for it in appear] == ["outbox", "relay"]
    about = await queries.discussions_about(plane, caller, ids["relay"])
    assert [(it.title, it.status) for it in about] == [("How?", "active"), ("Why?", "closed")]
    for other in (pp.Caller("x", "another"),):
        with pytest.raises(pp.NotFound):
            await queries.related_concepts(plane, other, ids["outbox"])
    async with plane.acting(caller).write() as tx:
        row = await tx.get(Concept, ids["relay"])
        assert row is not None
        await tx.delete(row)  # and with it its relations
    await plane.settled(tx.token)
    related = await queries.related_concepts(plane, caller, ids["outbox"])
    assert [it.name for it in related] == ["stream"]
    drift = await plane.verify()
    assert (drift.missing, drift.stale, drift.extra) == (0, 0, 0)


async def test_an_operation_asks_what_is_known(plane: pp.Plane, caller: pp.Caller) -> None:
    """By meaning, then along the strongest relations of what was found."""
    ids = await known(plane, caller)
    agent, tools = await crew(plane, caller)
    operation = await started(
        plane,
        caller,
        agent,
        tools,
        ("concepts.search", {"question": "outbox", "limit": 1}),
        ("concepts.navigate", {"from_step": 1}),
        ("discussions.open", {"title": "What was found"}),
    )
    done = await ended(plane, caller, operation)
    assert done.results is not None, done.error
    assert [it["id"] for it in done.results["1"]["concepts"]] == [str(ids["outbox"])]
    assert [it["name"] for it in done.results["2"]["concepts"]] == ["relay", "stream"]
    await plane.caught_up()
    opened = await queries.active_discussions(plane, caller, agent_id=agent)
    assert [str(it.id) for it in opened] == [done.results["3"]["discussion_id"]]
    async with plane.acting(caller).read() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(Agent)) == 1
