"""Learning from real files into truth: what is there follows from the files, run after run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from httpx import AsyncClient

import polyplane as pp
from polyplane import graph
from polyplane.domains.agents import application
from polyplane.domains.agents.learning import learn
from polyplane.domains.agents.learning.findings import concept_id
from polyplane.domains.agents.learning.models import LearnedFileRow
from polyplane.domains.agents.learning.over_routes import learn_over
from polyplane.domains.agents.learning.searching import hybrid_search
from polyplane.domains.agents.models import (
    MODELS,
    SCHEMA,
    Concept,
    ConceptAppearance,
    ConceptRelation,
    Discussion,
)
from polyplane.domains.agents.projections import PROJECTIONS, ConceptSearch
from polyplane.serve.picture.choice import drawing_of
from polyplane.serve.picture.svg import svg_of
from polyplane.serve.token import ops_token
from tests.conftest import PlaneOf

ADA = pp.Caller("ada", "acme")
TABLES = (Concept, ConceptRelation, ConceptAppearance, Discussion, LearnedFileRow)

KNOWLEDGE = pp.Application(
    name="agents",
    schema=SCHEMA,
    models=(*MODELS, LearnedFileRow),
    projections=(ConceptSearch,),
    migrations="polyplane.domains.agents.migrations",
)
"""What is known, without a graph of it."""


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    return await plane_of(applications=[KNOWLEDGE])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package, a handbook, and much that nobody can learn from."""
    root = tmp_path / "home"
    kitchen = root / "kitchen"
    kitchen.mkdir(parents=True)
    (kitchen / "__init__.py").write_text('"""All about cooking."""\n')
    (kitchen / "kettle.py").write_text(
        '"""Kettles."""\nimport json\nfrom kitchen import lid\n\n'
        'def boil():\n    """Heat water."""\n    lid.shut()\n    json.dumps(1)\n'
    )
    (kitchen / "lid.py").write_text("import json\n\ndef shut():\n    json.dumps(2)\n")
    (root / "book.md").write_text("# Steam\n\nA steam kettle, which boils, is a steam kettle.\n")
    bad = root / "bad"
    bad.mkdir()
    (bad / "huge.py").write_bytes(b"#" * (1 << 21))
    (bad / "empty.md").write_bytes(b"")
    (bad / "binary.txt").write_bytes(b"\x7fELF\0\0")
    (bad / "latin.md").write_bytes("Gr\xf6\xdfe".encode("latin-1"))
    (bad / "two.py").write_text("print 'two'\n")
    (bad / "picture.png").write_bytes(b"\x89PNG")
    os.mkfifo(bad / "pipe.md")
    (bad / "link.md").symlink_to(root / "book.md")
    (bad / "\udcff.md").write_text("its name is no text")
    return root


async def rows(plane: pp.Plane, caller: pp.Caller = ADA) -> dict[str, list[str]]:
    """All that is known, without the moments."""
    found = {}
    async with plane.acting(caller).read() as session:
        for model in TABLES:
            columns = [it for it in model.__table__.c if not it.name.endswith("ed_at")]
            said = await session.execute(sa.select(*columns))
            found[model.__tablename__] = sorted(map(repr, said))
    return found


async def names(plane: pp.Plane) -> dict[str, tuple[str, int]]:
    async with plane.acting(ADA).read() as session:
        said = await session.execute(sa.select(Concept.name, Concept.category, Concept.mentions))
        return {name: (category, mentions) for name, category, mentions in said}


async def test_a_folder_is_learned_and_learned_again(plane: pp.Plane, folder: Path) -> None:
    told: list[str] = []
    first = await learn(plane, ADA, [folder], tell=told.append)
    assert first.changed == 4 and first.removed == 0
    assert {Path(it.path).name: it.why for it in first.skipped_files} == {
        "huge.py": "larger than 1 MiB",
        "empty.md": "empty",
        "binary.txt": "binary",
        "latin.md": "no UTF-8",
        "two.py": "no Python of this version: Missing parentheses in call to 'print'."
        " Did you mean print(...)?, line 1",
        "pipe.md": "no plain file",
        "link.md": "a symbolic link",
        "?.md": "its name is no text, or too long",
    }
    assert [line for line in told if "huge.py: larger than 1 MiB" in line]
    known = await names(plane)
    assert known["kitchen.kettle.boil"] == ("function", 1)
    assert known["kitchen.lid.shut"] == ("function", 2)
    assert known["json.dumps"] == ("name", 2)
    assert known["steam kettle"] == ("term", 1)
    assert (first.concepts, first.relations) == (len(known), first.touched["relations_new"])
    await plane.settled(first.token, ConceptSearch, timeout_s=60)
    [hit] = await plane.acting(ADA)[ConceptSearch].search("heat water", limit=1)
    assert hit.key == str(concept_id("acme", "python", "kitchen.kettle.boil"))

    before = await rows(plane)
    again = await learn(plane, ADA, [folder])
    assert (again.changed, again.touched, again.token) == (0, {}, None)
    assert await rows(plane) == before


async def test_what_changes_is_touched_and_nothing_else(plane: pp.Plane, folder: Path) -> None:
    await learn(plane, ADA, [folder])
    lid = folder / "kitchen" / "lid.py"
    lid.write_text("import json\n\ndef shut():\n    json.loads('2')\n\ndef open(): ...\n")
    changed = await learn(plane, ADA, [folder])
    assert changed.changed == 1
    assert changed.touched == {
        "concepts_new": 2,  # json.loads, kitchen.lid.open
        "concepts_changed": 1,  # json.dumps is mentioned less
        "relations_new": 2,
        "relations_gone": 1,
        "appearances": 3,
    }
    assert (await names(plane))["json.dumps"] == ("name", 1)

    lid.unlink()
    (folder / "book.md").unlink()
    gone = await learn(plane, ADA, [folder])
    assert gone.removed == 2
    known = await names(plane)
    assert "json.loads" not in known and "steam" not in known and "kitchen.lid.open" not in known
    assert known["kitchen.lid.shut"] == ("name", 1)  # the kettle calls it still
    assert known["json"] == ("name", 1)

    broken = folder / "kitchen" / "kettle.py"
    broken.write_text("def half(:\n")
    kept = await learn(plane, ADA, [folder])
    assert (kept.changed, kept.removed, kept.touched) == (0, 0, {})


async def test_what_is_known_does_not_depend_on_the_runs(plane: pp.Plane, folder: Path) -> None:
    """One by one, in another order, and by two at a time: the same rows."""
    for path in (folder / "kitchen" / "lid.py", folder / "book.md", folder / "kitchen"):
        await learn(plane, ADA, [path])
    await asyncio.gather(*(learn(plane, ADA, [folder]) for _ in range(3)))
    stepwise = await rows(plane)
    for part in ("kitchen", "book.md"):
        os.rename(folder / part, folder / f".{part}")
    emptied = await learn(plane, ADA, [folder])
    assert emptied.removed == 4 and emptied.concepts == 0
    assert not any((await rows(plane)).values())
    for part in ("kitchen", "book.md"):
        os.rename(folder / f".{part}", folder / part)
    await learn(plane, ADA, [folder])
    assert await rows(plane) == stepwise


async def test_tenants_know_what_is_theirs(plane: pp.Plane, folder: Path) -> None:
    grace = pp.Caller("grace", "other")
    await learn(plane, ADA, [folder / "book.md"])
    hers = await learn(plane, grace, [folder / "kitchen"])
    assert hers.concepts and "Steam" not in str(await rows(plane, grace))
    mine = await learn(plane, ADA, [folder / "book.md"])
    assert mine.touched == {} and mine.concepts < hers.concepts


async def test_a_path_where_nothing_is_nor_was(plane: pp.Plane, tmp_path: Path) -> None:
    with pytest.raises(pp.NotFound):
        await learn(plane, ADA, [tmp_path / "nothing"])
    assert (await learn(plane, ADA, [tmp_path])).files == 0


async def test_what_people_said_stays(plane: pp.Plane, folder: Path) -> None:
    """A relation of a person, with the ends and type of one that is learned, is left alone."""
    lid = folder / "kitchen" / "lid.py"
    await learn(plane, ADA, [folder / "kitchen" / "kettle.py"])
    ends = [concept_id("acme", "python", name) for name in ("kitchen.lid", "json")]
    async with plane.acting(ADA).write() as tx:
        said = ConceptRelation(
            tenant_id="acme", source_id=ends[0], target_id=ends[1], type="imports", strength=0.9
        )
        tx.add(said)
    for _ in range(2):
        await learn(plane, ADA, [folder])
        async with plane.acting(ADA).read() as session:
            found = await session.get(ConceptRelation, said.id)
            assert found is not None and (found.strength, found.mentions) == (0.9, 0)
        lid.unlink(missing_ok=True)


async def test_the_routes_learn_and_answer(
    plane_of: PlaneOf,
    client_of: Callable[[pp.Plane], AsyncClient],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the API, as the command does; with the graph, until the hybrid question is answered."""
    plane = await plane_of(applications=[application])
    client = client_of(plane)
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"

    async def call(method: str, path: str, **given: Any) -> Any:
        parameters = given.pop("parameters", None)
        answer = await client.request(method, f"/api/v1/{path}", params=parameters, **given)
        assert answer.is_success, answer.text
        return answer.json()

    report = await learn_over(call, "default", [folder])
    assert (report.changed, report.skipped) == (4, 8)
    again = await learn_over(call, "default", [folder])
    assert (again.changed, again.touched) == (0, {})
    operator = pp.Caller("ada")
    same = await learn(plane, operator, [folder])
    assert (same.touched, same.concepts) == ({}, report.concepts)

    await plane.settled(report.token, timeout_s=60)
    answer = await call(
        "POST",
        "agents/concepts/hybrid",
        json={"question": "heat water", "limit": 5},
        parameters={"settled": str(report.token)},
    )
    best, *rest = answer["hits"]
    assert best["name"] == "kitchen.kettle.boil" and answer["degraded"] == ""
    assert best["reasons"][0].startswith("means what is asked (")
    reasons = {it["name"]: " ".join(it["reasons"]) for it in rest}
    assert "kitchen.kettle.boil calls it (0.50)" in reasons["kitchen.lid.shut"]
    assert await _drawn(call, best["id"])
    (folder / "kitchen" / "kettle.py").unlink()
    gone = await learn_over(call, "default", [folder])
    assert gone.removed == 1
    await plane.settled(gone.token, timeout_s=60)
    assert (await plane.verify(*PROJECTIONS)).clean

    async def is_down(*_: object, **__: object) -> None:
        raise pp.Unavailable("It is dark.")

    monkeypatch.setattr(graph.Graph, "neighbours", is_down)
    poorer = await hybrid_search(plane, operator, "cooking")
    assert poorer.hits and poorer.degraded == "The graph does not answer: It is dark."


async def _drawn(call: Callable[..., Awaitable[Any]], key: str) -> bool:
    """What `graph draw` makes of it has the names of what is near."""
    schema = await call("GET", "graph")
    ends = {it["type"]: (it["source"], it["target"]) for it in schema["edges"]}
    answer = await call("POST", "graph/subgraph", json={"keys": {"Concept": [key]}, "hops": 1})
    drawing = drawing_of(answer, ends, ("Concept", key), limit=20)
    assert {"kitchen.lid.shut", "kitchen.kettle"} < {it.caption for it in drawing.dots}
    return "kitchen.lid.shut" in svg_of(drawing, "boil")
