"""A whole plane of the agents with its graph in Neo4j.

tests/contract/test_graph_neo4j.py runs it: one file of tests has the server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from neo4j import AsyncDriver
from pydantic import SecretStr

import polyplane as pp
from polyplane.domains.agents import application, queries
from polyplane.domains.agents.learning import learn
from polyplane.domains.agents.learning.findings import concept_id
from polyplane.domains.agents.learning.searching import hybrid_search
from polyplane.domains.agents.projections import PROJECTIONS, AppearsIn, ConceptNodes, RelatesTo
from tests.conftest import PlaneOf
from tests.flow.agents.crew import crew
from tests.flow.agents.seed import DISCOVERY, NAVIGATION
from tests.neo4j_server import Neo4j

ADA: Final = pp.Caller("ada", "acme")
WITHIN_S: Final = 60.0


def kitchen(folder: Path) -> Path:
    """A package of three files, and a page."""
    package = folder / "kitchen"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""All about cooking."""\n')
    (package / "kettle.py").write_text(
        "from kitchen import lid\n\ndef boil():\n    lid.shut()\n    lid.open_up()\n"
    )
    (package / "lid.py").write_text("import json\n\ndef shut():\n    json.dumps(2)\n")
    (folder / "book.md").write_text("# Steam\n\nA steam kettle, which boils, is a steam kettle.\n")
    return folder


def known(name: str) -> str:
    """The key of a concept of Python."""
    return str(concept_id(ADA.tenant, "python", name))


class Past:
    """Neo4j itself, past the plane: `$$` in a text stands for its namespace."""

    def __init__(self, raw: AsyncDriver, namespace: str) -> None:
        self._raw = raw
        self._namespace = namespace

    async def ask(self, text: str, **given: Any) -> list[list[Any]]:
        """The rows."""
        query: Any = text.replace("$$", f"{self._namespace}.")
        return [list(it.values()) for it in (await self._raw.execute_query(query, given)).records]


async def taught(plane: pp.Plane, folder: Path) -> None:
    """The folder, as it is now, in all stores; and they agree."""
    report = await learn(plane, ADA, [folder])
    await plane.settled(report.token, timeout_s=WITHIN_S)
    drift = await plane.verify(*PROJECTIONS)
    assert drift.clean, drift


@pytest.mark.long
async def test_agents_on_neo4j(
    server: Neo4j, raw: AsyncDriver, own_settings: pp.Settings, plane_of: PlaneOf, tmp_path: Path
) -> None:
    """Learned, asked, harmed and mended; then a file is renamed, and all are erased."""
    settings = own_settings.model_copy(update={"graph_url": SecretStr(server.url)})
    plane = await plane_of(settings=settings, applications=[application])
    assert {it.role: it.engine for it in (await plane.health()).engines}["graph"] == "neo4j"
    past, folder = Past(raw, plane.namespace), kitchen(tmp_path / "house")
    await taught(plane, folder)
    await _asked(plane, past)
    await _mended(plane, past)

    (folder / "kitchen" / "lid.py").rename(folder / "kitchen" / "cover.py")
    await taught(plane, folder)
    names = [name for (name,) in await past.ask("MATCH (c:`$$Concept`) RETURN c.name")]
    assert "kitchen.cover.shut" in names and "kitchen.lid.shut" in names  # the kettle calls it
    [[kind]] = await past.ask("MATCH (c:`$$Concept` {name: 'kitchen.lid'}) RETURN c.category")
    assert kind == "name"  # and a module it is no more

    for path in [*folder.rglob("*.*")]:
        path.unlink()
    await taught(plane, folder)
    assert await past.ask("MATCH (c:`$$Concept`) RETURN count(c)") == [[0]]
    assert await past.ask("MATCH ()-[r:`$$RELATES_TO`]->() RETURN count(r)") == [[0]]


async def _asked(plane: pp.Plane, past: Past) -> None:
    """What people ask; and the seed's own words."""
    boil = concept_id(ADA.tenant, "python", "kitchen.kettle.boil")
    related = await queries.related_concepts(plane, ADA, boil)
    assert {it.name for it in related} == {"kitchen.lid.shut", "kitchen.lid.open_up"}
    table = await plane.graph.cypher(NAVIGATION, {"conceptId": str(boil)})
    assert {row[1:] for row in table.rows} == {(it.name, it.strength) for it in related}
    far = concept_id(ADA.tenant, "python", "json.dumps")
    way = await queries.concept_path(plane, ADA, boil, far)
    assert way is not None and len(way.nodes) == 3
    answer = await hybrid_search(plane, ADA, "boil")
    assert answer.degraded == "" and answer.hits[0].by_graph > 0
    agent, tools = await crew(plane, ADA, "drill")
    await plane.caught_up()
    found = await queries.tools_of(plane, ADA, agent)
    assert [(it.id, it.capability) for it in found] == [(tools["drill"], "drill")]
    table = await plane.graph.cypher(DISCOVERY, {"agentId": str(agent)})
    assert table.rows == [(str(tools["drill"]), "drill", "drill")]
    [[count]] = await past.ask("MATCH (:`$$Concept`)-[r:`$$RELATES_TO`]->() RETURN count(r)")
    drift = await plane.verify(RelatesTo)
    assert [it.items for it in drift.parts] == [count] and count > 5


async def _mended(plane: pp.Plane, past: Past) -> None:
    """One altered, one gone with all of its edges, an edge gone, and one that nobody knows."""
    lost, altered = known("kitchen.lid.shut"), known("kitchen.kettle")
    [[ties]] = await past.ask("MATCH (c:`$$Concept` {id: $id})-[r]-() RETURN count(r)", id=lost)
    assert ties >= 3
    await past.ask("MATCH (c:`$$Concept` {id: $id}) DETACH DELETE c", id=lost)
    await past.ask("MATCH (c:`$$Concept` {id: $id}) SET c.name = 'x'", id=altered)
    await past.ask(
        "MATCH (:`$$Concept` {name: 'kitchen'})-[r:`$$RELATES_TO`]->(:`$$Concept` {id: $id})"
        " WITH r LIMIT 1 DELETE r",
        id=altered,
    )
    await past.ask(
        "CREATE (:`$$Concept`:`$$Concept/any` {id: 'x', _key: 'x', _position: 1, _digest: 'x'})"
    )
    about = (ConceptNodes, RelatesTo, AppearsIn)
    drift = await plane.verify(*about, deep=True)
    assert (drift.missing, drift.stale, drift.extra) == (1 + ties + 1, 1, 1)
    mended = await plane.repair(*about, deep=True)
    assert mended.left.clean, mended
    assert (await plane.verify(*PROJECTIONS, deep=True)).clean
    assert await past.ask("MATCH (c:`$$Concept` {id: $id})-[r]-() RETURN count(r)", id=lost) == [
        [ties]
    ]
