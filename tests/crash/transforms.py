"""`python -m tests.crash.transforms [--rows 4000] [--kills 30]`: three processes are killed over
transformations, round after round, while somebody writes to the source.

Writes bench/results/transforms_crash.json. Exits 1 when a row was taken twice or not at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
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
from tests.crash import forms
from tests.crash.children import Child, Died, Life
from tests.crash.nursery import Nursery
from tests.crash.points import named_steps

PROCESSES: Final = 3
ROUND_S: Final = 120.0
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "transforms_crash.json"
ENGINES: Final = ("postgres", "nats", "valkey", "seaweedfs")


class Ring:
    """One database, some processes that work on it, and what kills them."""

    def __init__(self, home: Path, urls: Mapping[str, str], kills: int, seed: int) -> None:
        self.home, self.urls, self.kills = home, dict(urls), kills
        self.chance, self.name = random.Random(seed), f"forms{uuid4().hex[:12]}"
        self.steps = [it for it in named_steps() if it.startswith("transform.")]
        self.nursery = Nursery(home)
        self.lives = [Life(self.nursery.bear, self._order, print) for _ in range(PROCESSES)]

    @property
    def killed(self) -> int:
        return sum(life.deaths["SIGKILL"] for life in self.lives)

    @property
    def blown(self) -> Counter[str]:
        return sum((life.blown for life in self.lives), start=Counter[str]())

    def settings(self) -> pp.Settings:
        """Those of every process here."""
        return pp.Settings.load(
            environ={},
            home=self.home,
            namespace=self.name,
            database_url=self.urls["postgres"],
            nats_url=self.urls["nats"],
            cache_url=self.urls["valkey"],
            objects_url=self.urls["s3"],
        )

    def _order(self) -> dict[str, Any]:
        """Those steps first at which nobody has died yet."""
        step = ""
        if self.killed < self.kills and self.chance.random() < 0.8:
            blown = self.blown
            step = min(self.steps, key=lambda it: (blown[it], self.chance.random()))
        where = {"home": str(self.home), "role": "transforms", "namespace": self.name}
        nth = 1 if step.endswith(("again", "ended", "claimed")) else self.chance.choice((1, 2, 5))
        return where | {"urls": self.urls, "step": step, "nth": nth}

    async def round(self, plane: pp.Plane) -> None:
        """Both, from their first row to the end."""
        began = monotonic()
        await plane.transformations.start(forms.Count, anew=True)
        is_late = not self.blown["transform.again"] or self.chance.random() < 0.4
        if not (is_late and await forms.begin_after_a_day(self.urls["postgres"])):
            await plane.transformations.start(forms.ToMail, anew=True)
        while any(it.state == "running" for it in await plane.transformations.records()):
            if monotonic() - began > ROUND_S:
                raise AssertionError(
                    f"not done in {ROUND_S} s: {await plane.transformations.records()}"
                )
            await asyncio.sleep(self.chance.uniform(0.05, 0.3))
            if self.killed < self.kills and self.chance.random() < 0.1:
                self.chance.choice(self.lives).kill()


async def run(
    home: Path, urls: Mapping[str, str], *, rows: int, kills: int, seed: int
) -> dict[str, Any]:
    """Rounds until so many were killed; then what is wrong. `urls` of the engines."""
    ring = Ring(home, urls, kills, seed)
    application = forms.APPLICATION
    async with pp.Plane(settings=ring.settings(), applications=[application], flows=False) as plane:
        await forms.fill(urls["postgres"], rows)
        await ring.nursery.start()
        for life in ring.lives:
            life.begin()
        writing = asyncio.create_task(
            forms.keep_writing(urls["postgres"], rows, random.Random(seed))
        )
        rounds = 0
        while ring.killed < kills:
            await ring.round(plane)
            rounds += 1
        writing.cancel()
        await asyncio.wait([writing])
        for life in ring.lives:
            with suppress(Died, TimeoutError):
                await asyncio.wait_for(life.open.wait(), 60)
                assert isinstance(life.now, Child)
                await life.now.ask("arm", "answer", 10)
        last = await plane.transformations.run(forms.ToMail, timeout_s=ROUND_S)
        for life in ring.lives:
            await life.stop()
        await ring.nursery.stop()
        wrong = await forms.faults(urls["postgres"], rounds)
    return {
        "seed": seed,
        "rows": rows,
        "rounds": rounds,
        "processes": PROCESSES,
        "kills": ring.killed,
        "killed_at_steps": dict(sorted(ring.blown.items())),
        "taken_again_in_the_last_round": last.again,
        "dead_letters": last.dead,
        "wrong": wrong,
    }


async def main(rows: int, kills: int, seed: int) -> dict[str, Any]:
    """On engines of its own."""
    home = Path(mkdtemp(prefix="polyplane-forms-"))
    engines = SharedEngines(home / "engines", wanted=ENGINES)
    try:
        await engines.start()
        urls = dict(engines.urls)
        for name in ("postgres", "nats", "valkey"):
            urls[name] = make_url(urls[name]).render_as_string(hide_password=False)
        return await run(home, urls, rows=rows, kills=kills, seed=seed)
    finally:
        await engines.stop()
        rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.crash.transforms", description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    asked = parser.parse_args()
    report = asyncio.run(main(asked.rows, asked.kills, asked.seed))
    text = json.dumps(report, indent=1)
    print(text)
    RESULT.write_text(text + "\n")
    if report["wrong"]:
        sys.exit("Wrong.")
