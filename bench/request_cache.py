"""(q) The request cache: a hit beside the raw client's GET, and 500 callers who miss at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, time
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size
from bench.program import ask

READS: Final = 20_000
AT_ONCE: Final = (1, 32)
PROCESSES: Final = 5
CALLERS: Final = 100
"""In each process."""
OPENING_S: Final = 20.0
REQUIRED: Final = 0.7
BODY: Final = {"items": [{"id": n, "name": f"experiment {n}", "score": n / 7} for n in range(20)]}


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Shown(Base):
    """What is shown often."""

    __tablename__ = "shown"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


class ShownCard(pp.Cached[Shown]):
    """What has the plane tell of changes."""

    def derive(self, shown: Shown, /) -> pp.Entry:
        return pp.Entry(shown.body)


DECLARED: Final[dict[str, Any]] = {"models": [Shown], "projections": [ShownCard]}


@dataclass(frozen=True, slots=True)
class Task:
    """What a process of its own is to do: open a plane, and ask for `key` at `at` (seconds)."""

    home: str
    namespace: str
    database_url: str
    nats_url: str
    cache_url: str
    key: str
    at: float
    callers: int


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Hits in turn with the raw client, one caller and many; then the stampedes."""
    reads, found = size.scaled(READS), []
    async with ground.plane(await ground.database(), **DECLARED) as plane:
        async with plane.write(actor="bench") as tx:
            tx.add(Shown(id=1, body="a"))
        await plane.request_cache.settled(tx.token)
        url = ground.engines.admins["valkey"]
        async with Redis.from_url(url) as raw:
            name = await _filled(plane)
            for at_once in AT_ONCE:
                ours, theirs = [], []
                for _ in range(size.runs):
                    theirs.append(await _timed(lambda: raw.get(name), reads, at_once))
                    ours.append(await _timed(lambda: _hit(plane), reads, at_once))
                told = f"{at_once} at once"
                mine = rates(f"hits, {told}", "reads/s", reads, ours)
                other = rates(f"GET of the raw client, {told}", "reads/s", reads, theirs)
                found += [mine, other, ratio(f"ratio, {told}", mine, other, required=REQUIRED)]
        loads = [await _stampede(ground, plane, run) for run in range(size.runs)]
    told = f"loads for {PROCESSES * CALLERS} callers in {PROCESSES} processes"
    return [*found, Figure(told, "loads", tuple(map(float, loads)), required=2, at_most=True)]


async def _body() -> Any:
    return BODY


def _hit(plane: pp.Plane) -> Awaitable[Any]:
    cache = plane.request_cache
    return cache.get_or_load("hit", _body, ttl_s=3_600, depends=[(Shown, 1)])


async def _filled(plane: pp.Plane) -> str:
    """The name of an entry that is there and counts."""
    for _ in range(1_000):
        if (await _hit(plane)).origin == "cache":
            return f"{plane.namespace}:%-:cache:hit"
        await asyncio.sleep(0.01)
    raise RuntimeError("The request cache keeps nothing.")


async def _timed(read: Callable[[], Awaitable[Any]], reads: int, at_once: int) -> float:
    """The seconds that so many reads take, by so many at once; each must have found something."""

    async def some() -> None:
        for _ in range(reads // at_once):
            if not await read():
                raise RuntimeError("A read found nothing.")

    started = perf_counter()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return (perf_counter() - started) * reads / (reads // at_once * at_once)


async def _stampede(ground: Ground, plane: pp.Plane, run: int) -> int:
    """How often a value was loaded that nobody had, and all ask for at once."""
    settings, urls = plane.settings, ground.engines.admins
    task = Task(
        str(settings.home),
        settings.namespace,
        settings.url("database_url") or "",
        urls["nats"],
        urls["valkey"],
        f"stampede {run}",
        time() + OPENING_S,
        CALLERS,
    )
    asked = (ask("bench.requester", asdict(task), timeout_s=120) for _ in range(PROCESSES))
    answers = await asyncio.gather(*asked)
    origins = sum((Counter(it["origins"]) for it in answers), Counter[str]())
    if any(it["late"] for it in answers) or origins.keys() - {"load", "cache"}:
        raise RuntimeError(f"Not all asked at once, or not of the cache: {answers}")
    return sum(it["loads"] for it in answers)
