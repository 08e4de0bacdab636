"""Sagas under kills: what they do, who starts them, and how that is judged without their journal.

Each effect is a row. Where remote steps do theirs they are known by their keys, as it should be:
what was undone under a key is not done under it any more, by whoever wakes up late.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

import psycopg
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import graph, saga
from polyplane.errors import PolyplaneError
from tests.crash.journal import Journal

OFTEN: Final = saga.Retries(attempts_max=1_000, first_wait_s=0.05, last_wait_s=1.0)
"""An engine that is down for a while is no reason to be stuck."""
FIVE: Final = saga.Retries(attempts_max=5, first_wait_s=0.05, last_wait_s=0.5)
_FEW: Final = asyncio.Semaphore(4)
"""Remote steps have connections of their own, and PostgreSQL has not many."""
PAGE_ROWS: Final = 5_000
LOCAL: Final = ("take", "keep", "last")
REMOTE: Final = ("call", "tell")
MOODS: Final = ("well", "refused", "flaky", "unheard", "odd undo")


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Done(TypedDict):
    """Properties of a node."""

    step: str
    what: str


class Effect(Base):
    """What a step did (`do`), or its undo (`undo`)."""

    __tablename__ = "effect"
    id: Mapped[int] = mapped_column(primary_key=True)
    saga: Mapped[str]
    step: Mapped[str]
    what: Mapped[str]


class EffectNodes(pp.Nodes[Effect, Done]):
    """What was done, in a graph."""

    def derive(self, effect: Effect, /) -> graph.Node[Done]:
        """The step."""
        return graph.Node({"step": effect.step, "what": effect.what})


class After(pp.Edges[Effect]):
    """From an effect to the one before, which may not be there."""

    source = EffectNodes
    target = EffectNodes

    def derive(self, effect: Effect, /) -> graph.Edge:
        """By the number."""
        return graph.Edge(str(effect.id), str(effect.id - 1))


async def seen(plane: pp.Plane) -> dict[str, list[list[Any]]]:
    """All nodes (id, step, what) and edges (id, source, target) that readers are given."""
    edges = "MATCH (a:Effect)-[n:AFTER]->(b:Effect) WHERE b.id IS NOT NULL AND n.id > $after"
    return {
        "nodes": await _rows(plane, "MATCH (n:Effect) WHERE n.id > $after", "n.step, n.what"),
        "edges": await _rows(plane, edges, "a.id, b.id"),
    }


async def _rows(plane: pp.Plane, match: str, of: str) -> list[list[Any]]:
    """The id of each `n`, and what is asked of it, page by page."""
    rows, after = list[list[Any]](), ""
    text = f"{match} RETURN n.id, {of} ORDER BY n.id"
    while True:
        table = await plane.graph.cypher(text, {"after": after}, limit=PAGE_ROWS)
        rows += [list(row) for row in table.rows]
        if not table.truncated:
            return rows
        after = rows[-1][0]


def _local(name: str) -> saga.Step:
    async def do(tx: pp.Write, context: saga.Context[Any]) -> None:
        tx.add(Effect(saga=str(context.saga_id), step=name, what="do"))
        await tx.flush()
        mood = context.input["mood"]
        if mood == "flaky" and context.attempt == 1:
            raise RuntimeError("The first try fails, and leaves nothing.")
        if name == "last" and mood in ("refused", "odd undo"):
            raise saga.SagaRefused("No.")

    async def undo(tx: pp.Write, context: saga.Context[Any]) -> None:
        tx.add(Effect(saga=str(context.saga_id), step=name, what="undo"))
        await tx.flush()
        if context.input["mood"] == "odd undo" and context.attempt == 1:
            raise RuntimeError("The first try fails, and leaves nothing.")

    return saga.local(do, name=name, undo=undo, retries=FIVE, undo_retries=OFTEN)


_DO: Final = (
    "INSERT INTO effect (saga, step, what) SELECT %(saga)s::text, %(step)s::text, 'do'"
    " WHERE NOT EXISTS (SELECT FROM effect"
    " WHERE saga = %(saga)s::text AND step = %(step)s::text AND what = 'undo')"
)
_UNDO: Final = "INSERT INTO effect (saga, step, what) VALUES (%(saga)s, %(step)s, 'undo')"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext(%(saga)s::text))"


def _remote(name: str) -> saga.Step:
    async def at(context: saga.Context[Any], statement: str) -> None:
        """In a transaction of its own, which nobody else knows of."""
        url = context.plane.settings.url("database_url")
        named = {"saga": str(context.saga_id), "step": name}
        async with _FEW:
            connection = await psycopg.AsyncConnection.connect(url, connect_timeout=5)
            async with connection:
                await connection.execute(_LOCK, named)
                await connection.execute(statement.encode(), named)
        if context.input["mood"] == "flaky" and context.attempt == 1:
            raise RuntimeError("It was done, but nobody hears of it.")

    async def do(context: saga.Context[Any]) -> None:
        await at(context, _DO)

    async def undo(context: saga.Context[Any]) -> None:
        await at(context, _UNDO)

    return saga.remote(do, name=name, undo=undo, retries=FIVE, undo_retries=OFTEN, timeout_s=8)


class Trip(pp.Saga[dict[str, Any]]):
    """Steps of every kind."""

    steps = (
        _local("take"),
        _remote("call"),
        saga.signal("go", deadline_s=2.0),
        saga.pause("rest", 0.05),
        _local("keep"),
        _remote("tell"),
        _local("last"),
    )


async def start(plane: pp.Plane, n: int) -> None:
    """Start the `n`th, and signal it if that is its mood; raises what the plane raises."""
    mood = MOODS[n % len(MOODS)]
    saga_id = await plane.sagas.start(Trip, {"n": n, "mood": mood}, key=str(n))
    if mood != "unheard":
        await plane.sagas.signal(saga_id, "go", n)


async def keep_starting(plane: pp.Plane, home: Path, chance: random.Random) -> None:
    """One after the other, each acknowledged in a journal outside of what is killed."""
    journal = Journal(home / "trips.jsonl")
    n = max([0, *(entry["tx"] for entry in journal.entries())]) + 1
    while True:
        journal.begun(n, [])
        try:
            async with asyncio.timeout(10):
                await start(plane, n)
            journal.ended(n, "ok")
        except (PolyplaneError, TimeoutError):
            journal.ended(n, "unknown")
            await asyncio.sleep(0.2)
        n += 1
        await asyncio.sleep(chance.random() * 0.3)


def acknowledged(home: Path) -> set[str]:
    """The keys of sagas whose start was acknowledged."""
    entries = Journal(home / "trips.jsonl").entries()
    return {str(entry["tx"]) for entry in entries if entry.get("end") == "ok"}


async def judge(url: str, keys: set[str]) -> tuple[dict[str, int], list[str]]:
    """How many sagas ended how, and what is wrong: by the effects, not by the journal of steps."""
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=10) as connection:
        cursor = await connection.execute("SELECT id::text, key, state, input FROM polyplane.saga")
        sagas = await cursor.fetchall()
        cursor = await connection.execute("SELECT saga, step, what FROM effect ORDER BY id")
        effects: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for saga_id, step, what in await cursor.fetchall():
            effects[saga_id].append((step, what))
    counts: dict[str, int] = defaultdict(int)
    missing = keys - {key for _, key, _, _ in sagas}
    wrong = [f"acknowledged and never begun: {sorted(missing)[:5]}"] if missing else []
    for saga_id, _, state, asked in sagas:
        counts[state] += 1
        who = f"{saga_id} ({state}, {asked['mood']})"
        found = faults(state, asked, effects[saga_id])
        wrong += [f"{who}: {fault}: {effects[saga_id]}" for fault in found]
    return dict(counts), wrong


def faults(state: str, asked: Mapping[str, Any], effects: list[tuple[str, str]]) -> list[str]:
    """What is wrong with one saga."""
    done = [step for step, what in effects if what == "do"]
    undone = [step for step, what in effects if what == "undo"]
    found = [f"{step} done twice" for step in LOCAL if done.count(step) > 1]
    found += [f"{step} undone twice" for step in LOCAL if undone.count(step) > 1]
    order = [*dict.fromkeys(done)]
    if order != [step for step in ("take", "call", "keep", "tell", "last") if step in done]:
        found.append("done in another order")
    if state == "done":
        if len(order) != len(LOCAL) + len(REMOTE) or undone:
            found.append("not done whole")
        if asked["mood"] in ("refused", "unheard", "odd undo"):
            found.append("done, and should not be")
    elif state == "undone":
        back = [step for step in dict.fromkeys(undone) if step in done]
        if back != order[::-1]:
            found.append("not undone in reverse")
        if any(
            ("do", "undo").index(what) < ("do", "undo").index(before)
            for before, what in _of_each(effects)
        ):
            found.append("done after it was undone")
        found += [
            f"{step} undone and never done" for step in LOCAL if step in undone and step not in done
        ]
    else:
        found.append("neither done nor undone")
    return found


def _of_each(effects: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What followed what, per step."""
    last: dict[str, str] = {}
    found = []
    for step, what in effects:
        found.append((last.get(step, "do"), what))
        last[step] = what
    return found
