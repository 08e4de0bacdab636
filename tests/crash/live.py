"""Live updates over the death of who serves them: `python -m tests.crash.live [--kills N]`.

A process that relays and serves is killed again and again, while events are emitted and rows
written, and followers reconnect with the last id they had. In the end each of them has each event
once, in order, and was told of the last change of each row. Writes bench/results/live_kills.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Final

import httpx
import sqlalchemy as sa
import structlog

import polyplane as pp
from polyplane.serve.api.server import bind
from polyplane.serve.token import ops_token
from tests.conftest import SharedEngines, settings_in
from tests.flow.deeds import Deed, caller
from tests.flow.live_things import application

ROOT: Final = Path(__file__).parents[2]
RESULT: Final = ROOT / "bench" / "results" / "live_kills.json"
FOLLOWERS: Final = 4
ROWS: Final = 50
DRAIN_S: Final = 60.0
LIVES_S: Final = (0.3, 3.0)
"""How long the process lives after it serves."""


@dataclass(slots=True)
class Told:
    """What one follower was told over all its connections."""

    events: list[str] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)
    """Key -> what was in the row when it was read, as everybody does who is told of it."""
    unread: set[str] = field(default_factory=set)
    connections: int = 0
    resets: int = 0
    position: str = ""


@dataclass(slots=True)
class Written:
    """What was committed."""

    events: list[str] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)
    is_enough: bool = False


async def follow(at: str, token: str, told: Told) -> None:
    """Follow for ever, over any number of connections."""
    while True:
        headers = {"Authorization": f"Bearer {token}", "X-Tenant": "acme"}
        if told.position:
            headers["Last-Event-ID"] = told.position
        query = {"topic": ["deeds.happened", "deeds.deeds"]}
        with suppress(httpx.HTTPError):
            async with (
                httpx.AsyncClient(base_url=at, timeout=httpx.Timeout(30.0)) as client,
                client.stream("GET", "/api/v1/events", params=query, headers=headers) as answer,
            ):
                if answer.status_code == 200:
                    told.connections += 1
                    await _read(answer, told)
        await asyncio.sleep(0.05)


async def _read(answer: httpx.Response, told: Told) -> None:
    kind, data, position = "", "", ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        match name:
            case "event":
                kind = value
            case "data":
                data = value
            case "id":
                position = value
            case "":
                if data:
                    _note(kind, json.loads(data), told)
                told.position = position or told.position
                kind, data, position = "", "", ""


def _note(kind: str, content: Any, told: Told) -> None:
    told.resets += kind in ("reset", "lagged")
    for update in content.get("updates", ()) if kind == "updates" else ():
        if "event" in update:
            told.events.append(update["key"])
        else:
            told.unread.add(update["key"])


async def read(plane: pp.Plane, told: Told) -> None:
    """Read the rows that were told of, for ever."""
    while True:
        keys, told.unread = told.unread, set()
        if keys:
            async with plane.acting(caller("acme")).read() as session:
                rows = sa.select(Deed.id, Deed.body).where(Deed.id.in_(map(int, keys)))
                told.rows |= {str(id): body for id, body in await session.execute(rows)}
        await asyncio.sleep(0.02)


async def write(plane: pp.Plane, written: Written, dice: random.Random) -> None:
    """Emit and write until it is enough; what is committed is noted."""
    acme, number = caller("acme"), 0
    while not written.is_enough:
        number, key = number + 1, dice.randrange(ROWS)
        async with plane.acting(acme).write() as tx:
            tx.emit("deeds.done", {"n": number}, subject=f"e{number}")
            await tx.execute(sa.update(Deed).where(Deed.id == key).values(body=f"{number}"))
        written.events.append(f"e{number}")
        written.rows[str(key)] = f"{number}"
        await asyncio.sleep(0.01)


async def kill_and_start(env: dict[str, str], at: str, port: int, kills: int, seed: int) -> None:
    """So many lives of the process that serves; the last one goes on."""
    dice = random.Random(seed)
    for number in range(kills + 1):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.crash.live_server", str(port)), cwd=ROOT, env=env
        )
        try:
            await _serves(at)
            if number == kills:
                env["POLYPLANE_TEST_PID"] = str(process.pid)
                return
            await asyncio.sleep(dice.uniform(*LIVES_S))
        finally:
            if number < kills:
                process.kill()
                await process.wait()


async def _serves(at: str) -> None:
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=at) as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def run(kills: int, seed: int) -> dict[str, Any]:
    """All of it; what came of it."""
    with TemporaryDirectory(prefix="polyplane-live-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        engines = SharedEngines(home / "engines")
        await engines.start()
        try:
            (home / "plane").mkdir()
            settings = await settings_in(home / "plane", engines, f"chdb://{home / 'chdb'}")
            return await _run(settings, kills, seed)
        finally:
            await engines.stop()


async def _run(settings: pp.Settings, kills: int, seed: int) -> dict[str, Any]:
    with bind("127.0.0.1", 0, or_any=False) as free:
        port = free.getsockname()[1]
    at = f"http://127.0.0.1:{port}"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("database_url", "nats_url", "cache_url", "objects_url"):
        env[f"POLYPLANE_{name.upper()}"] = settings.url(name) or ""
    env |= {"POLYPLANE_HOME": str(settings.home), "POLYPLANE_NAMESPACE": settings.namespace}
    written, told = Written(), [Told() for _ in range(FOLLOWERS)]
    plane = pp.Plane(applications=[application], settings=settings, flows=False)
    async with plane:
        operator = pp.Caller("operator", "acme", None, plane.identity.permissions.everything)
        await plane.identity.members.add_organization(operator, "acme", "acme")
        async with plane.acting(caller("acme")).write() as tx:
            tx.add_all([Deed(id=n, whose="acme", body="0") for n in range(ROWS)])
        token = ops_token(settings.home)
        following = [asyncio.create_task(follow(at, token, it)) for it in told]
        following += [asyncio.create_task(read(plane, it)) for it in told]
        killing = asyncio.create_task(kill_and_start(env, at, port, kills, seed))
        while not all(it.position for it in told):  # from here on nothing may be missed
            await asyncio.sleep(0.01)
        writing = asyncio.create_task(write(plane, written, random.Random(seed)))
        await killing
        written.is_enough = True
        await writing
        until = monotonic() + DRAIN_S
        while monotonic() < until and wrong(written, told):
            await asyncio.sleep(0.1)
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        os.kill(int(env["POLYPLANE_TEST_PID"]), 9)
    return {
        "kills": kills,
        "seed": seed,
        "followers": len(told),
        "events": len(written.events),
        "connections": sum(it.connections for it in told),
        "resets": sum(it.resets for it in told),
        "wrong": wrong(written, told),
    }


def wrong(written: Written, told: list[Told]) -> list[str]:
    """What is not as it is promised, in words."""
    found = []
    for number, it in enumerate(told):
        if it.events != written.events:
            lost = len(set(written.events) - set(it.events))
            twice = len(it.events) - len(set(it.events))
            found.append(f"follower {number}: {lost} events lost, {twice} twice, or out of order")
        late = [key for key, body in written.rows.items() if it.rows.get(key) != body]
        if late:
            found.append(f"follower {number}: {len(late)} rows whose last change was not told")
    return found


def main() -> None:
    """Parse, run, write, exit 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.live", description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=20)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("httpx").setLevel(logging.ERROR)
    result = asyncio.run(run(asked.kills, asked.seed))
    print(json.dumps(result, indent=1))
    if not result["wrong"]:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
