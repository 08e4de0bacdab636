"""A chdb folder on a small disk that is filled again and again while points come and are merged:
`python -m tests.crash.full_series FOLDER SEED ROUNDS compact|wide`, where the folder is that disk.

Every batch is sent until it is taken, as ingest does. Prints, as JSON, how many points were taken,
how many are there, how often a batch had to wait, and how many answers were wrong on the way.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

from polyplane.errors import StoreDown
from polyplane.model.scope import Scope
from polyplane.stores.series import clickhouse
from polyplane.stores.series.clickhouse import ClickHouseSeries
from polyplane.testing.readings import START, Reading, batch
from tests.crash.ground import empty, fill

POINTS = 20
SUMS = "SELECT count() AS n, sum(level) AS levels, countIf(good) AS good FROM reading"


class Sender:
    """Sends batches one after the other, each until it is taken."""

    def __init__(self, store: ClickHouseSeries, chance: random.Random) -> None:
        self.store, self.chance = store, chance
        self.taken = self.waited = self.wrong = 0
        self.sums = {"n": 0, "levels": 0, "good": 0}

    async def send(self) -> None:
        """One batch, whatever it takes; and now and then a look at all there is."""
        points = batch(f"b{self.taken}", POINTS, first=START + timedelta(minutes=self.taken))
        while True:
            try:
                await self.store.append(Reading, points, token=f"b{self.taken}")
                await self.store.barrier()
                break
            except StoreDown:
                self.waited += 1
                await asyncio.sleep(0.02)
        self.taken += 1
        rows = points.to_pylist()
        self.sums["n"] += POINTS
        self.sums["levels"] += sum(row["level"] or 0 for row in rows)
        self.sums["good"] += sum(bool(row["good"]) for row in rows)
        if self.chance.random() < 0.2:
            with suppress(StoreDown):
                await self.look()

    async def look(self) -> dict[str, Any]:
        """What is there; an answer that is not what was taken is wrong."""
        found = (await self.store.query(Scope.everything, SUMS, {})).to_pylist()[0]
        self.wrong += found != self.sums
        return dict(found)

    async def merge(self) -> None:
        """Have it merge what it has."""
        with suppress(StoreDown):
            await self.store._writer.run(lambda it: it.command("OPTIMIZE TABLE lab.reading"))


def hold(disk: Path, seconds: float) -> None:
    """Leave no room for so long."""
    over = Event()

    def keep() -> None:
        while not over.wait(0.02):
            fill(disk)

    keeper = Thread(target=keep)
    keeper.start()
    over.wait(seconds)
    over.set()
    keeper.join()
    empty(disk)


async def main(disk: Path, seed: int, rounds: int, kind: str) -> None:
    """All of it."""
    chance = random.Random(seed)
    store = await clickhouse.connect(f"chdb://{disk / 'clickhouse'}", database="lab")
    await store.prepare(Reading)
    if kind == "wide":
        wide = "ALTER TABLE lab.reading MODIFY SETTING min_bytes_for_wide_part = 0"
        await store._writer.run(lambda it: it.command(wide))
    await store.inspect()
    sender = Sender(store, chance)
    for _ in range(rounds):
        for _ in range(chance.randrange(10, 30)):
            await sender.send()
        filling = asyncio.create_task(asyncio.to_thread(hold, disk, chance.uniform(0.2, 1.5)))
        until = monotonic() + chance.uniform(0.0, 0.1)
        while monotonic() < until:
            await sender.merge()
        while not filling.done():
            await asyncio.gather(sender.send(), sender.merge())
        await filling
    found = await sender.look()
    parts = await store.inspect()
    await store.close()
    report = {"taken": sender.sums, "found": found, "waited": sender.waited, "wrong": sender.wrong}
    print(json.dumps({**report, "damage": parts}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
