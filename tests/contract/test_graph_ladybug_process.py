"""Ladybug in a process that is killed: what a barrier has said is there, and nothing else is.

Stricter than a barrier promises: after a kill the store is as it was after some batch, no earlier
than the last that was said to be durable, no later than the last that was begun. So no batch is
there in part, or without one before it, whichever of them are in the log and which are in none.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from polyplane.model.items import Stamp
from polyplane.stores.graph.ladybug_graph import LadybugStore
from polyplane.stores.graph.ladybug_lane import Session
from polyplane.testing.graph_samples import VIEW
from polyplane.testing.samples import ALL
from tests.contract.graph_plan import COLLECTIONS, State, opened, planned

ROOT: Final = Path(__file__).parents[2]
LINES_MAX: Final = 14
"""So many lines a process may say at most, before it is killed."""
DELAY_MAX_S: Final = 0.06
"""So much later it may be: about as long as a bulk load, a barrier, or ten logged batches."""
CHILD_TIMEOUT_S: Final = 60.0


class Life:
    """One plan, and the processes that follow it, one after the other."""

    def __init__(self, folder: Path, seed: int, count: int) -> None:
        self.folder = folder / "graph"
        self.batches = planned(seed, count)
        self.durable = 0
        self.begun = -1
        self.is_over = False
        self._said = folder / "said"
        self._words = [str(self.folder), str(seed), str(count)]
        folder.mkdir()

    def run(self, lines: int, delay_s: float, *how: str) -> None:
        """Let a process go on from what is durable, and kill it."""
        self._said.write_text("")
        command = [sys.executable, "-m", "tests.contract.graph_plan", *self._words]
        with self._said.open("a") as said:
            process = subprocess.Popen(
                [*command, str(self.durable), *how],
                cwd=ROOT,
                env=dict(os.environ),
                stdout=said,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        try:
            ends = time.monotonic() + CHILD_TIMEOUT_S
            while process.poll() is None and len(self._lines()) < lines:
                assert time.monotonic() < ends, self._lines()
                time.sleep(0.002)
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
            process.wait(CHILD_TIMEOUT_S)
        said_last = self._lines()[-20:]
        assert process.returncode in (0, -9), (process.returncode, said_last)
        self.is_over = process.returncode == 0
        for words in map(str.split, self._lines()):
            if words[0] == "durable":
                self.durable = int(words[1])
            elif words[0] == "begun":
                self.begun = max(self.begun, int(words[1]))

    def _lines(self) -> list[str]:
        return [line for line in self._said.read_text().splitlines(keepends=True) if "\n" in line]


async def _stamps(store: LadybugStore) -> dict[str, dict[str, Stamp]]:
    """All that `scan` tells."""
    found = {}
    for collection in COLLECTIONS:
        told = [stamp async for some in store.scan(collection) for stamp in some]
        found[collection.name] = {stamp.key: stamp for stamp in told}
        assert list(found[collection.name]) == sorted(stamp.key for stamp in told)
    return found


def _differ(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Any]:
    """Where they do, the first few."""
    keys = [k for k in sorted({*held, *wanted}) if held.get(k) != wanted.get(k)]
    return [len(keys), *((key, held.get(key), wanted.get(key)) for key in keys[:4])]


async def check(store: LadybugStore, life: Life, first: int, last: int) -> int:
    """That `store` is as after some of the first batches, from `first` to `last`; how many."""
    found = await _stamps(store)
    wrong = []
    for count in range(first, last + 1):
        state = State(life.batches[:count])
        if found == state.stamps:
            await _check_contents(store, state)
            await _check_ends(store, state)
            return count
        wrong.append((count, {it: _differ(found[it], state.stamps[it]) for it in found}))
    raise AssertionError(wrong)


async def _check_contents(store: LadybugStore, state: State) -> None:
    for collection in COLLECTIONS:
        wanted = state.contents[collection.name]
        held = await store.contents(collection, list(wanted))
        assert len(held) == len(wanted)
        told = {it.stamp.key: it.content for it in held}
        assert told == wanted, _differ(told, wanted)
        stamps = state.stamps[collection.name]
        assert {it.stamp.key: it.stamp for it in held} == stamps


async def _check_ends(store: LadybugStore, state: State) -> None:
    """Every edge has both ends, its place beside the relation says the same, and what is to be
    seen is seen from either end, and nothing else.
    """

    def asked(session: Session) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
        nodes = session.rows("MATCH (n:Person) RETURN n.`_key`")
        by_key = "UNWIND $keys AS k MATCH (n:Person {`_key`: k}) RETURN n.`_key`"
        return (
            nodes,
            session.rows(by_key, keys=[key for (key,) in nodes]),
            session.rows("MATCH (a)-[r:KNOWS]->(b) RETURN r.id, a.`_key`, b.`_key`"),
            session.rows(
                "MATCH (n:_ends_KNOWS) WHERE n.`_source` IS NOT NULL"
                " RETURN n.`_key`, n.`_source`, n.`_target`"
            ),
        )

    nodes, by_key, edges, beside = await store._lane.read(asked)
    there = Counter(key for (key,) in nodes)
    assert set(there.values()) <= {1}
    assert {key for (key,) in by_key} == set(there)
    wanted = sorted([key, *ends] for key, ends in state.edges().items())
    assert sorted(edges) == wanted
    assert sorted(beside) == wanted
    assert all(source in there and target in there for _, source, target in edges)
    seen = state.seen()
    for key in sorted({key for ends in seen.values() for key in ends})[:8] or ["s1"]:
        out = await store.neighbours(VIEW, ALL, "KNOWS", key, limit=10_000)
        into = await store.neighbours(VIEW, ALL, "KNOWS", key, direction="in", limit=10_000)
        assert [it.edge.key for it in out] == sorted(k for k, e in seen.items() if e[0] == key)
        assert [it.edge.key for it in into] == sorted(k for k, e in seen.items() if e[1] == key)


async def survived(life: Life, copy: Path) -> None:
    """What the last kill has left is right, and takes the rest. Looks at a copy, so that what is
    killed next begins with what a kill has left.
    """
    if life.folder.exists():
        shutil.copytree(life.folder, copy)
    store = await opened(str(copy))
    try:
        await check(store, life, life.durable, life.begun + 1)
        for batch in life.batches[life.durable :]:
            await store.apply(*batch)
        await store.barrier()
        await check(store, life, len(life.batches), len(life.batches))
    finally:
        await store.close()
    shutil.rmtree(copy)


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    ("kills", "batches"), [(1, 6), pytest.param(100, 20, marks=pytest.mark.long)]
)
async def test_kill_9_leaves_what_was_durable_and_nothing_in_part(
    kills: int, batches: int, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    life = None
    for number in range(kills):
        if life is None or life.is_over:
            life = Life(tmp_path / str(number), dice.randrange(2**32), batches)
        # The first line comes before it is opened.
        lines, delay_s = dice.randint(1, LINES_MAX), dice.uniform(0, DELAY_MAX_S)
        await asyncio.to_thread(life.run, lines, delay_s)
        print(
            f"{number}: {lines} lines, {delay_s:.3f} s, {life.durable} durable, begun {life.begun}"
        )
        await survived(life, tmp_path / "copy")


async def test_a_barrier_that_does_nothing_is_noticed(tmp_path: Path) -> None:
    """Both batches are bulk loads, which are in no log."""
    life = Life(tmp_path / "loose", 1, 2)
    await asyncio.to_thread(life.run, LINES_MAX, DELAY_MAX_S, "loosely")
    assert (life.durable, life.is_over) == (2, False)
    with pytest.raises(AssertionError):
        await survived(life, tmp_path / "copy")
