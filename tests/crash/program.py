"""What the ring kills: a plane that moves data, and writes through `plane.write`.

`python -m tests.crash.program SOCKET` loads what it needs; each connection to the socket is given a
fork of it, which waits for its order, one line of JSON. Each line after that is a question.
"""

from __future__ import annotations

import polyplane.steps
from polyplane.model.scope import Scope
from tests.crash.points import Fuse, tell

FUSE = Fuse()
polyplane.steps.step = FUSE.step  # before the rest takes the one that does nothing

# ruff: noqa: E402
import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import structlog
from sqlalchemy import make_url

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.errors import PolyplaneError, Unavailable
from polyplane.model.items import Item
from polyplane.stores.catalog import adapter
from tests.crash import forms, naive, trips
from tests.crash.declared import AREA, NAMESPACE, Heat, Thing, ThingCard, ThingSearch, body_of
from tests.crash.journal import Journal
from tests.crash.nursery import nurse
from tests.flow.things import DIMENSIONS, embedding_of

ENGINES = ("postgres", "nats", "valkey")
WRITER = 9
"""The number of the writer in here."""
DAMAGED = 2**52
"""A position ahead of every change."""


@dataclass(frozen=True)
class Order:
    """What this process is to be. `ports`: the proxies before the engines it supervises.

    Its log and its writer's journal are in `notes`, else in the home.
    """

    home: str
    notes: str = ""
    role: str = "owner"
    number: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    namespace: str = NAMESPACE
    step: str = ""
    nth: int = 1
    signal: str = "SIGKILL"
    naive: str = ""
    cards: bool = True
    engines: tuple[str, ...] = ENGINES

    @property
    def told(self) -> Path:
        """Where it writes down what it does."""
        return Path(self.notes or self.home)


def warm() -> None:
    """Import what takes seconds, so that the order need not wait for it."""
    urls = {"vector": "lancedb", "graph": "ladybug", "series": "chdb", "cache": "redis"}
    for kind, scheme in urls.items():
        adapter(kind, f"{scheme}://")


def log_to(path: Path) -> None:
    """Every event of the product, as a line of JSON."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.PrintLoggerFactory(path.open("a", buffering=1)),
    )


async def engines_of(order: Order, stack: AsyncExitStack) -> tuple[dict[str, str], Engines | None]:
    """Where this plane finds its engines: those it supervises, through the proxies, or given."""
    if order.urls:
        return order.urls, None
    engines = Engines(Path(order.home), wanted=order.engines)
    await engines.start()
    stack.push_async_callback(engines.stop)
    return {name: through(order, name, url) for name, url in engines.urls.items()}, engines


def through(order: Order, name: str, url: str) -> str:
    """`url` by way of the proxy before its engine, if there is one."""
    found = make_url(url)
    return found.set(port=order.ports.get(name) or found.port).render_as_string(hide_password=False)


def plane_of(order: Order, urls: dict[str, str]) -> pp.Plane:
    """A worker has no stream and no graph: one process owns those stores."""
    settings = pp.Settings.load(
        environ={},
        **({"objects_url": urls["s3"]} if order.role == "transforms" else {}),
        home=Path(order.home),
        namespace=order.namespace,
        database_url=urls["postgres"],
        nats_url=urls["nats"],
        cache_url=urls["valkey"],
        vector_url=f"lancedb://{order.home}/lancedb",
        graph_url=f"ladybug://{order.home}/graph",
        series_url=f"chdb://{order.home}/clickhouse",
        db_max_connections=20 if order.role in ("owner", "worker") else 8,
    )
    if order.role == "transforms":
        forms.hurried()
        return pp.Plane(settings=settings, applications=[forms.APPLICATION], worker=True)
    if order.role == "sagas":
        return pp.Plane(settings=settings, models=[trips.Effect], sagas=[trips.Trip], worker=True)
    streams = [Heat] if order.role == "owner" else []
    projections: list[Any] = [ThingSearch, ThingCard] if order.cards else [ThingSearch]
    if order.role == "owner":
        projections += [trips.EffectNodes, trips.After]
    return pp.Plane(
        settings=settings,
        models=[Thing, trips.Effect],
        projections=projections,
        streams=streams,
        sagas=[trips.Trip],
    )


async def write(plane: pp.Plane, notes: Path, chance: random.Random) -> None:
    """Rows and events through the plane. A row whose fate is unknown is not touched again."""
    journal = Journal(notes / "writer-plane.jsonl")
    tx = max([WRITER * AREA, *(entry["tx"] for entry in journal.entries())]) + 1
    mine: list[int] = []
    while True:
        key = chance.choice(mine) if mine and chance.random() < 0.6 else tx
        gone = key != tx and chance.random() < 0.3
        journal.begun(tx, [(key, key, None if gone else tx)])
        try:
            async with asyncio.timeout(10), plane.write(actor="ring") as write:
                row = await write.get(Thing, key, for_update=True)
                if row is None:
                    write.add(Thing(id=key, body=body_of(key, tx), version=tx))
                elif gone:
                    await write.delete(row)
                else:
                    row.body, row.version = body_of(key, tx), tx
                write.emit("ring.written", {"tx": tx})
                write.audit("ring.written", "tx", str(tx))
            journal.ended(tx, "ok")
            mine = [*(it for it in mine[-50:] if it != key), *([] if gone else [key])]
        except (PolyplaneError, TimeoutError):
            journal.ended(tx, "unknown")
            mine = [it for it in mine if it != key]
            await asyncio.sleep(0.2)
        tx += 1
        await asyncio.sleep(chance.random() * 0.04)


class Questions:
    """What the ring asks a plane, by name."""

    def __init__(self, plane: pp.Plane, order: Order) -> None:
        self._plane = plane
        self._order = order
        self._writing: list[asyncio.Task[None]] = []

    async def answer(self, line: str) -> dict[str, Any]:
        """The answer to one line: a name, and JSON behind it or nothing."""
        name, _, rest = line.partition(" ")
        ask: Callable[..., Awaitable[dict[str, Any]]] = getattr(self, f"ask_{name}")
        try:
            return await ask(**json.loads(rest or "{}"))
        except (PolyplaneError, TimeoutError, psycopg.Error) as error:
            is_down = isinstance(error, Unavailable)
            return {"error": f"{type(error).__name__}: {error}", "is_down": is_down}

    async def ask_write(self, on: bool) -> dict[str, Any]:
        """Begin or end writing through the plane."""
        if on and not self._writing:
            chance, told = random.Random(self._order.number), self._order.told
            writers = (write, trips.keep_starting)
            self._writing = [asyncio.create_task(it(self._plane, told, chance)) for it in writers]
        elif not on and self._writing:
            for task in self._writing:
                task.cancel()
            await asyncio.wait(self._writing)
            self._writing = []
        return {"writing": on}

    async def ask_arm(
        self, step: str = "", nth: int = 1, by: str = "SIGKILL", then: str = ""
    ) -> dict[str, Any]:
        """End (or pause, and then end) at a step, or at none any more."""
        FUSE.set(step, nth, by, then)
        return {"armed": step}

    async def ask_leading(self) -> dict[str, Any]:
        """Whether its relay is the one that publishes."""
        relay = self._plane.opened.relay
        return {"leading": relay is not None and relay.leading}

    async def ask_repair(self, damage: bool = False) -> dict[str, Any]:
        """Repair; with `damage`, after putting in what nothing derives and no change can win."""
        if damage:
            vector = pp.Vector("damage", {"version": 0}, embedding_of("damage"))
            target = self._plane.opened.targets[ThingSearch.name]
            items = [Item("damage", "damage", vector)]
            await target.store.apply(target.collection, items, [], DAMAGED)
        mended = await self._plane.repair(ThingSearch)
        return {"left": mended.left.missing + mended.left.stale + mended.left.extra}

    async def ask_rebuild(self, graph: bool = False) -> dict[str, Any]:
        """Build the vectors, or the graph, beside those that are read; joins who is at it."""
        await self._plane.rebuild(trips.EffectNodes if graph else ThingSearch)
        return {"rebuilt": True}

    async def ask_compact(self) -> dict[str, Any]:
        """Compact the vectors and the graph, whether it pays or not."""
        for name in (ThingSearch.name, trips.EffectNodes.name):
            target = self._plane.opened.targets[name]
            await target.store.maintain(target.collection, full=True)
        return {"compacted": True}

    async def ask_graph(self) -> dict[str, Any]:
        """All nodes and edges that readers are given: one process has the files."""
        return await trips.seen(self._plane)

    async def ask_health(self) -> dict[str, Any]:
        """What the plane says of itself."""
        found = await self._plane.health()
        return {
            "health": found.status,
            "engines": {it.engine: [it.status, it.detail] for it in found.engines},
            "work": [[it.what, it.state, it.detail] for it in found.work],
        }

    async def ask_read(self, keys: list[str]) -> dict[str, Any]:
        """What readers of the plane are told: an answer, or an error, of each kind."""
        search, card = self._plane[ThingSearch], self._plane[ThingCard]

        async def found() -> dict[str, Any]:
            hits = await search.search([1.0] * DIMENSIONS, limit=1_000)
            return {hit.key: [hit.text, hit.tags["version"]] for hit in hits}

        async def got() -> dict[str, Any]:
            return {hit.key: [hit.text, hit.tags["version"]] for hit in await search.get(keys)}

        async def cards() -> dict[str, Any]:
            return {key: await card.get(int(key)) for key in keys}

        async def points() -> list[int]:
            series = self._plane.opened.stores.series
            assert series is not None
            told = await series.query(
                Scope.everything, "SELECT count() AS c, sum(n) AS s FROM heat", {}
            )
            return [await self._plane[Heat].count(), told["c"][0].as_py(), told["s"][0].as_py()]

        answers: dict[str, Any] = {}
        for ask in (found, got, cards, points):
            try:
                answers[ask.__name__] = await ask()
            except (PolyplaneError, psycopg.Error) as error:
                answers[ask.__name__] = f"error: {error}"
        return answers

    async def ask_caught_up(self, timeout_s: float) -> dict[str, Any]:
        """Wait until projections and the stream have nothing left to do."""
        async with asyncio.timeout(timeout_s):
            await self._plane.caught_up(timeout_s=timeout_s)
            if self._order.role == "owner":
                await self._drained()
                await self._ended()
        return {"caught_up": True}

    async def _drained(self) -> None:
        """All points that are acknowledged by now have left the feed."""
        feed = self._plane.opened.feed
        name, _ = feed.subjects.stream(Heat.name)
        last = (await feed.bounds(name)).last
        while last and (await feed.bounds(name)).first <= last:
            await asyncio.sleep(0.05)

    async def _ended(self) -> None:
        """All sagas that there are by now are done or undone, or left to people."""
        begun = {it.id for it in await self._plane.sagas.list(state="running", limit=200)}
        begun |= {it.id for it in await self._plane.sagas.list(state="undoing", limit=200)}
        for saga_id in begun:
            await self._plane.sagas.finished(saga_id, timeout_s=60)

    async def ask_check(self) -> dict[str, Any]:
        """What the plane says of itself: drift by projection, and the points it stores."""
        drift = await self._plane.verify(*self._plane.declared.projections)
        return {
            "drift": {
                part.projection: [part.missing, part.stale, part.extra] for part in drift.parts
            },
            **await self._points(),
            "faults": dict(self._plane.opened.crew.faults),
            "epoch": self._plane.opened.epoch,
            "collection": self._plane.opened.targets[ThingSearch.name].collection.target,
        }

    async def ask_audited(self, after: int = 0) -> dict[str, Any]:
        """What is not right with audit, once all of it is sealed and exported; and which of the
        transactions from `after` on are in it.
        """
        async with asyncio.timeout(20):
            while True:
                found = await self._plane.audit.verify()
                if found.found or (not found.waiting and found.outside == found.head):
                    break
                await asyncio.sleep(0.1)
        rows = await self._plane.opened.database.rows(
            "SELECT resource_id::bigint FROM polyplane.audit WHERE action = 'ring.written'"
            " AND resource_id::bigint > %(after)s",
            {"after": after},
        )
        whats = [f"{it.kind}: {it.what}" for it in found.findings]
        return {"wrong": whats, "rows": found.rows, "transactions": [it for (it,) in rows]}

    async def _points(self) -> dict[str, Any]:
        """What the plane says of the points it stores, or that it cannot."""
        series = self._plane.opened.stores.series
        if series is None:
            return {}
        try:
            proven = (await self._plane.verify(Heat)).streams[0]
            found = await series.query(
                Scope.everything, "SELECT uniqExact(n) AS d, max(n) AS m FROM heat", {}
            )
            count = await self._plane[Heat].count()
        except PolyplaneError as error:
            return {"points": -1, "different": -1, "refused": str(error)}
        return {
            "points": count,
            "different": found["d"][0].as_py(),
            "highest": found["m"][0].as_py(),
            "lost": proven.lost,
            "doubled": proven.doubled,
        }


async def main() -> None:
    """Run until told to stop, or killed."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    if not (line := (await reader.readline()).strip()):
        return
    order = Order(**json.loads(line))
    log_to(order.told / "program.log")
    naive.take(order.naive)
    FUSE.set(order.step, order.nth, order.signal)
    async with AsyncExitStack() as stack:
        urls, engines = await engines_of(order, stack)
        plane = plane_of(order, urls)
        await plane.open()
        plane.opened.engines = (
            engines  # it was given their URLs; health is to know them all the same
        )
        stack.push_async_callback(plane.close)
        admins = engines.admins if engines else {}
        every = urls | {name: through(order, name, url) for name, url in admins.items()}
        tell(open=True, role=order.role, urls=urls, admins=every)
        questions = Questions(plane, order)
        while (question := (await reader.readline()).decode().strip()) not in ("", "stop"):
            number, _, asked = question.partition(" ")
            tell(answer=await questions.answer(asked), to=int(number))
        await questions.ask_write(on=False)


if __name__ == "__main__":
    warm()
    nurse(Path(sys.argv[1]), main)
