"""`python -m tests.crash.sagas [--sagas 1500] [--kills 30]`: three processes are killed over sagas.

Writes bench/results/sagas_crash.json. Exits 1 when a local step was done twice, an undo is missing,
or a saga has not ended 30 s after the last kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import make_url

import polyplane as pp
from tests.conftest import SharedEngines
from tests.crash import trips
from tests.crash.children import Child, Died, Life
from tests.crash.nursery import Nursery
from tests.crash.points import named_steps
from tests.flow.things import by_hand

PROCESSES: Final = 3
END_S: Final = 30.0
SLOW_S: Final = 120.0
SHARE_KILLED: Final = 0.8
"""The share of the sagas that has ended by the last kill, about."""
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "sagas_crash.json"


async def run(
    home: Path, urls: Mapping[str, str], *, sagas: int, kills: int, seed: int
) -> dict[str, Any]:
    """Start them all, kill at named steps and at any time, and judge; `urls` of the engines."""
    chance, name = random.Random(seed), f"sagas{uuid4().hex[:12]}"
    settings = pp.Settings.load(
        environ={},
        home=home,
        namespace=name,
        database_url=urls["postgres"],
        nats_url=urls["nats"],
        cache_url=urls["valkey"],
    )
    plane = pp.Plane(settings=settings, models=[trips.Effect], sagas=[trips.Trip], flows=False)
    steps = [it for it in named_steps() if it.startswith("saga.") and it != "saga.started"]
    killed, share = 0, 0.0

    def is_due() -> bool:
        """Kills are spread over the work: a backlog that nobody works at says nothing of them."""
        return killed < kills and killed <= kills * share / SHARE_KILLED

    def order() -> dict[str, Any]:
        armed = chance.choice(steps) if is_due() and chance.random() < 0.7 else ""
        where = {"home": str(home), "role": "sagas", "namespace": name, "urls": dict(urls)}
        return where | {"step": armed, "nth": chance.choice((3, 10, 30))}

    async with plane:
        nursery = Nursery(home)
        await nursery.start()
        lives = [Life(nursery.bear, order, lambda line: None) for _ in range(PROCESSES)]
        for life in lives:
            life.begin()
        starting = asyncio.create_task(_start(plane, sagas))
        began = monotonic()
        while killed < kills and monotonic() - began < SLOW_S * 3:
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            share = 1 - await _open(plane, sagas) / sagas
            if is_due() and chance.random() < 0.3:
                chance.choice(lives).kill()
            killed = sum(life.deaths["SIGKILL"] for life in lives)
        last = monotonic()
        for life in lives:
            with suppress(Died, TimeoutError):
                await asyncio.wait_for(life.open.wait(), 30)
                assert isinstance(life.now, Child)
                await life.now.ask("arm", "answer", 10)
        await starting
        ended_s = await _all_ended(plane, last)
        killed = sum(life.deaths["SIGKILL"] for life in lives)
        blown = sum((life.blown for life in lives), start=lives[0].blown.__class__())
        for life in lives:
            await life.stop()
        await nursery.stop()
        found, wrong = await trips.judge(urls["postgres"], {str(n) for n in range(sagas)})
    if ended_s > END_S:
        wrong.append(f"{ended_s:.1f} s from the last kill to the last end")
    return {
        "seed": seed,
        "sagas": found,
        "processes": PROCESSES,
        "kills": killed,
        "killed_at_steps": dict(sorted(blown.items())),
        "ended_s": round(ended_s, 2),
        "wrong": wrong,
    }


async def _start(plane: pp.Plane, sagas: int) -> None:
    left = iter(range(sagas))

    async def one() -> None:
        for n in left:
            await trips.start(plane, n)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one() for _ in range(4)))


async def _open(plane: pp.Plane, sagas: int) -> int:
    """How many have not ended; of `sagas`, or of all that are begun by now."""
    [row] = await by_hand(plane, "SELECT count(*), count(ended_at) FROM polyplane.saga")
    begun, ended = map(int, row)
    return max(begun, sagas) - ended


async def _all_ended(plane: pp.Plane, last: float) -> float:
    """How long after `last` all have ended; or SLOW_S."""
    while monotonic() - last < SLOW_S:
        if await _open(plane, 0) == 0:
            break
        await asyncio.sleep(0.1)
    return monotonic() - last


async def main(sagas: int, kills: int, seed: int) -> dict[str, Any]:
    """On engines of its own."""
    home = Path(mkdtemp(prefix="polyplane-sagas-"))
    engines = SharedEngines(home / "engines", wanted=("postgres", "nats", "valkey"))
    try:
        await engines.start()
        urls = dict(engines.urls)
        for name in ("postgres", "nats", "valkey"):
            urls[name] = make_url(urls[name]).render_as_string(hide_password=False)
        return await run(home, urls, sagas=sagas, kills=kills, seed=seed)
    finally:
        await engines.stop()
        rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.crash.sagas", description=__doc__)
    parser.add_argument("--sagas", type=int, default=1_500)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    asked = parser.parse_args()
    report = asyncio.run(main(asked.sagas, asked.kills, asked.seed))
    text = json.dumps(report, indent=1)
    print(text)
    RESULT.write_text(text + "\n")
    if report["wrong"]:
        sys.exit("Wrong.")
