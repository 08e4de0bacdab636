"""(n) Eight writers on the same rows, while somebody else's transaction is idle for 3 s at a time.

Each commit changes one row of few, or one of another table that belongs to it, and emits an event
that says whose and which one it is. Whoever reads the events must see each once, in the order of
its writer, and soon; and a cache of the rows with what belongs to them must equal truth in the end.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, ClassVar, Final
from uuid import UUID

import orjson
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from bench.documents import Base, Note, Plain
from bench.figures import Figure, percentile, ratio
from bench.ground import Ground, Size, connect, execute
from polyplane import Plane

WRITERS: Final = 8
ROWS: Final = 200
SECONDS: Final = 12.0
IDLE_S: Final = 3.0
FRESH_MS_MAX: Final = 250.0
RATE_MIN: Final = 0.85
PATIENCE_S: Final = 60.0


class Remark(Base):
    """What belongs to a note."""

    __tablename__ = "remark"
    id: Mapped[UUID] = pp.key()
    note_id: Mapped[UUID] = mapped_column(index=True)
    body: Mapped[str]


class RemarkedCache(pp.Cached[Note]):
    """Notes with their remarks."""

    touches: ClassVar[Mapping[str, Any]] = {"remarks": Remark.note_id}

    def derive(self, note: Note, /, remarks: Sequence[Remark] = ()) -> pp.Entry | None:
        """How often each was changed."""
        return pp.Entry({"note": note.body, "remarks": [remark.body for remark in remarks]})


@dataclass(slots=True)
class Seen:
    """What the writers have committed, when, and when a reader of the events saw it."""

    committed: dict[tuple[int, int], float] = field(default_factory=dict)
    arrived: dict[tuple[int, int], float] = field(default_factory=dict)
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    seconds: float = 0.0

    def faults(self) -> dict[str, int]:
        """How many events were lost, came twice, or behind a later one of the same writer."""
        late, last = 0, Counter[int]()
        for writer, number in self.arrivals:
            late += number < last[writer]
            last[writer] = max(last[writer], number)
        return {
            "lost": len(self.committed.keys() - self.arrived.keys()),
            "twice": len(self.arrivals) - len(set(self.arrivals)),
            "out of order": late,
        }

    def fresh_ms(self) -> float:
        """The 99th percentile from a commit to the sight of its event."""
        took = [1000 * (self.arrived[at] - begun) for at, begun in self.committed.items()]
        return percentile(took, 0.99)


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Without the idle transaction and with it, in turn."""
    seconds = 3.0 if size.quick else SECONDS
    seen: dict[bool, list[Seen]] = {False: [], True: []}
    url = await ground.database()
    async with ground.plane(
        url, models=[Note, Remark, Plain], projections=[RemarkedCache]
    ) as plane:
        keys = [UUID(int=n + 1) for n in range(ROWS)]
        notes = ", ".join(f"('{key}', 'o', '0')" for key in keys)
        remarks = ", ".join(f"('{key}', '{key}', '0')" for key in keys)
        await execute(
            url,
            [
                f"INSERT INTO note (id, owner, body) VALUES {notes}",
                f"INSERT INTO remark (id, note_id, body) VALUES {remarks}",
            ],
        )
        for _ in range(size.runs):
            for idles, runs in seen.items():
                await plane.caught_up()
                await ground.calm()
                runs.append(await _run(plane, url, seconds, idles=idles))
                drift = await plane.verify()
                assert drift.clean and drift.parts[0].items == ROWS, drift
    rates = {
        idles: tuple(len(run.committed) / run.seconds for run in runs)
        for idles, runs in seen.items()
    }
    alone = Figure(f"{WRITERS} writers", "commits/s", rates[False])
    beside = Figure(f"{WRITERS} writers, one more idle for {IDLE_S:g} s", "commits/s", rates[True])
    figures = [alone, beside, ratio("beside / alone", beside, alone, required=RATE_MIN)]
    for idles, where in ((False, "alone"), (True, "beside the idle one")):
        fresh = tuple(run.fresh_ms() for run in seen[idles])
        figures.append(Figure(f"event seen p99, {where}", "ms", fresh, FRESH_MS_MAX, at_most=True))
    for what in ("lost", "twice", "out of order"):
        found = tuple(float(run.faults()[what]) for runs in seen.values() for run in runs)
        figures.append(Figure(f"events {what}", "events", found, 0, at_most=True))
    return figures


async def _run(plane: Plane, url: str, seconds: float, *, idles: bool) -> Seen:
    seen = Seen()
    async with _reading(plane, seen), _idle(url) if idles else _nobody():
        started = perf_counter()
        writing = (_write(plane, seen, writer, started + seconds) for writer in range(WRITERS))
        await asyncio.gather(*writing)
        seen.seconds = perf_counter() - started
        async with asyncio.timeout(PATIENCE_S):
            while seen.committed.keys() - seen.arrived.keys():
                await asyncio.sleep(0.01)
    return seen


async def _write(plane: Plane, seen: Seen, writer: int, until: float) -> None:
    dice, number = random.Random(writer), 0
    while perf_counter() < until:
        number += 1
        async with plane.write(actor="bench") as tx:
            key, model = UUID(int=dice.randrange(ROWS) + 1), dice.choice((Note, Note, Remark))
            row: Note | Remark | None = await tx.get(model, key, for_update=True)
            assert row is not None
            row.body = str(int(row.body) + 1)
            tx.emit("bench.written", {"writer": writer, "number": number})
        seen.committed[writer, number] = perf_counter()


@asynccontextmanager
async def _reading(plane: Plane, seen: Seen) -> AsyncIterator[None]:
    feed = plane.opened.feed
    start = (await feed.bounds(feed.subjects.events)).last + 1
    reader = feed.reader(feed.subjects.events, [feed.subjects.all_events], start)

    async def read() -> None:
        while True:
            for message in await reader.batch(1_000, wait_s=1.0):
                data = orjson.loads(message.body)["data"]
                at = (data["writer"], data["number"])
                seen.arrivals.append(at)
                seen.arrived.setdefault(at, perf_counter())

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await reader.close()


@asynccontextmanager
async def _idle(url: str) -> AsyncIterator[None]:
    """Somebody else's transaction, which has written, does nothing for seconds, again and again."""

    async def rest() -> None:
        while True:
            async with connection.transaction():
                await connection.execute("INSERT INTO plain (owner, body) VALUES ('o', 'b')")
                await asyncio.sleep(IDLE_S)

    async with await connect(url) as connection:
        resting = asyncio.create_task(rest())
        try:
            yield
        finally:
            resting.cancel()
            with suppress(asyncio.CancelledError):
                await resting


@asynccontextmanager
async def _nobody() -> AsyncIterator[None]:
    yield
