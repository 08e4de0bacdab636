"""(p) Sagas of three local steps against a loop written by hand that commits five times for each.

The loop notes the beginning, each step with its effect, and the end, as somebody would who keeps a
journal; nobody goes on with what it leaves when it dies. Both write the same rows, and all of them
must be there in the end, once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Mapped

import polyplane as pp
from bench.figures import Figure, ratio
from bench.ground import Ground, Size, connect, execute
from bench.program import ROOT, given
from polyplane import saga

SAGAS: Final = 1_500
"""In a run, one after the other; and so many again by several at once."""
AT_ONCE: Final = 8
RATE_MIN: Final = 300.0
RATIO_MIN: Final = 0.6
STEPS: Final = ("reserve", "charge", "ship")


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Effect(Base):
    """What a step does."""

    __tablename__ = "effect"
    id: Mapped[UUID] = pp.key()
    run: Mapped[str]
    step: Mapped[str]


_EFFECT: Final = sa.text("INSERT INTO effect (run, step) VALUES (:run, :step)")


def _step(name: str) -> saga.Step:
    async def do(tx: pp.Write, context: saga.Context[Any]) -> dict[str, str]:
        await tx.execute(_EFFECT, {"run": context.input["run"], "step": name})
        return {"did": name}

    async def undo(tx: pp.Write, context: saga.Context[Any]) -> None:
        await tx.execute(sa.delete(Effect).where(Effect.run == context.input["run"]))

    return saga.local(do, name=name, undo=undo)


class Order(pp.Saga[dict[str, Any]]):
    """Three local steps."""

    steps = tuple(map(_step, STEPS))


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Loop and sagas in turn, by one at a time and by several at once."""
    url, count = await ground.database(), size.scaled(SAGAS)
    seen: dict[tuple[str, int], list[float]] = {
        (who, many): [] for who in ("loop", "sagas") for many in (1, AT_ONCE)
    }
    shared: list[float] = []
    async with ground.plane(url, models=[Effect], sagas=[Order]) as plane:
        await execute(
            url,
            [
                "CREATE TABLE workflow (id uuid PRIMARY KEY, state text, input jsonb)",
                "CREATE TABLE workflow_step (workflow uuid, step text, result jsonb,"
                " PRIMARY KEY (workflow, step))",
            ],
        )
        await make(plane, 50, AT_ONCE)
        for _ in range(size.runs):
            for (who, many), rates in seen.items():
                await ground.calm()
                await execute(url, ["TRUNCATE effect"])
                run = _loop(url, count, many) if who == "loop" else make(plane, count, many)
                rates.append(count / await run)
                await _check(url, count)
        async with _second(plane) as second:
            for _ in range(size.runs):
                await ground.calm()
                await execute(url, ["TRUNCATE effect"])
                shared.append(count / await _shared(plane, second, count))
                await _check(url, count)
    found = {at: Figure(_name(*at), "sagas/s", tuple(rates)) for at, rates in seen.items()}
    by_two = Figure(
        f"sagas of 3 local steps, {AT_ONCE} at once by 2 processes",
        "sagas/s",
        tuple(shared),
        required=RATE_MIN,
    )
    loop, alone, beside = found["loop", 1], found["sagas", 1], found["sagas", AT_ONCE]
    return [
        loop,
        Figure(alone.name, alone.unit, alone.runs, required=RATE_MIN),
        ratio("sagas / loop, both one at a time", alone, loop, required=RATIO_MIN),
        Figure(beside.name, beside.unit, beside.runs, required=RATE_MIN),
        ratio(f"sagas, {AT_ONCE} at once / loop, one at a time", beside, loop, required=RATIO_MIN),
        found["loop", AT_ONCE],
        ratio(f"sagas / loop, both {AT_ONCE} at once", beside, found["loop", AT_ONCE]),
        by_two,
    ]


def _name(who: str, many: int) -> str:
    what = "loop of 5 commits" if who == "loop" else "sagas of 3 local steps"
    return f"{what}, {'one at a time' if many == 1 else f'{many} at once'}"


async def make(plane: pp.Plane, count: int, many: int) -> float:
    """So many sagas, by `many` callers; seconds until the last one has ended."""
    left = iter(range(count))

    async def one() -> None:
        for _ in left:
            saga_id = await plane.sagas.start(Order, {"run": str(uuid4())})
            ended = await plane.sagas.finished(saga_id)
            assert ended.state == "done", ended

    started = perf_counter()
    await asyncio.gather(*(one() for _ in range(many)))
    return perf_counter() - started


@asynccontextmanager
async def _second(plane: pp.Plane) -> AsyncIterator[Process]:
    """Another process that starts sagas and does them, ready and warm."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.saga_runner"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await _say(process, json.dumps(given(plane.settings), default=str))
        await _heard(process, "ready")
        await _say(process, "50")
        await _heard(process, "done")
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)


async def _shared(plane: pp.Plane, second: Process, count: int) -> float:
    """Half of the sagas by each process."""
    started = perf_counter()
    await _say(second, str(count - count // 2))
    await make(plane, count // 2, AT_ONCE // 2)
    await _heard(second, "done")
    return perf_counter() - started


async def _say(process: Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()


async def _heard(process: Process, word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(120):
        while (line := (await process.stdout.readline()).decode().strip()) != word:
            if not line and process.stdout.at_eof():
                raise RuntimeError("The second process has ended.")


async def _loop(url: str, count: int, many: int) -> float:
    started = perf_counter()
    with ThreadPoolExecutor(many) as threads:
        run = asyncio.get_running_loop().run_in_executor
        await asyncio.gather(*(run(threads, _by_hand, url, count // many) for _ in range(many)))
        if rest := count % many:
            await run(threads, _by_hand, url, rest)
    return perf_counter() - started


def _by_hand(url: str, count: int) -> None:
    with psycopg.connect(url) as connection:
        for _ in range(count):
            workflow, text = uuid4(), '{"run": "by hand"}'
            with connection.transaction():
                connection.execute(
                    "INSERT INTO workflow VALUES (%s, 'running', %s)", (workflow, text)
                )
            for step in STEPS:
                with connection.transaction():
                    connection.execute(
                        "INSERT INTO effect (run, step) VALUES (%s, %s)", (str(workflow), step)
                    )
                    connection.execute(
                        "INSERT INTO workflow_step VALUES (%s, %s, %s)",
                        (workflow, step, f'{{"did": "{step}"}}'),
                    )
            with connection.transaction():
                connection.execute("UPDATE workflow SET state = 'done' WHERE id = %s", (workflow,))


async def _check(url: str, count: int) -> None:
    """Each effect is there once."""
    async with await connect(url) as connection:
        cursor = await connection.execute(
            "SELECT count(*), count(DISTINCT (run, step)), count(DISTINCT run) FROM effect"
        )
        assert await cursor.fetchone() == (count * len(STEPS), count * len(STEPS), count)
