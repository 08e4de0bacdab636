"""`python -m tests.contract.graph_plan FOLDER SEED COUNT FIRST`: a process that may be killed.

It applies a plan to a graph in Ladybug and says what it does: `begun 7`, and after each barrier
`durable 8`, when the batches before the eighth are. Plans are the same wherever they are made.

With a fifth word, `loosely`, its barriers do nothing, and it kills itself in the end.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from polyplane.model.collection import Collection
from polyplane.model.graph import Edge, Node
from polyplane.model.items import Item, Stamp
from polyplane.stores.graph import ladybug_graph
from polyplane.stores.graph.ladybug_graph import LadybugStore
from polyplane.stores.graph.ladybug_writing import COPY_ROWS
from polyplane.testing.graph_samples import KNOWS, PEOPLE, VIEW, edge, node
from polyplane.testing.samples import ALL

COLLECTIONS: Final = (PEOPLE, KNOWS)
LOGGED_ROWS: Final = (1, 5, 40, 700)
"""One statement for each, one for all, and so many that old edges are looked for everywhere."""
SMALL: Final = 400
"""Keys that are put again and again, by nodes and edges each."""
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Batch(NamedTuple):
    """What is applied at once."""

    collection: Collection
    puts: list[Item]
    drops: list[str]
    position: int


class State:
    """What a store holds after some batches: for each collection key -> stamp and content."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.stamps: dict[str, dict[str, Stamp]] = {it.name: {} for it in COLLECTIONS}
        self.contents: dict[str, dict[str, Node | Edge | None]] = {
            it.name: {} for it in COLLECTIONS
        }
        for collection, puts, drops, position in batches:
            stamps, contents = self.stamps[collection.name], self.contents[collection.name]
            stamps |= {it.key: Stamp(it.key, position, it.digest) for it in puts}
            stamps |= {key: Stamp(key, position, None) for key in drops}
            contents |= {it.key: it.content for it in puts} | dict.fromkeys(drops)

    def edges(self) -> dict[str, tuple[str, str]]:
        """Key -> source and target of each edge that is held, seen or not."""
        held = self.contents[KNOWS.name]
        return {key: (it.source, it.target) for key, it in held.items() if isinstance(it, Edge)}

    def seen(self) -> dict[str, tuple[str, str]]:
        """The same of those whose ends are there."""
        living = {key for key, it in self.contents[PEOPLE.name].items() if it is not None}
        return {key: ends for key, ends in self.edges().items() if living.issuperset(ends)}


def planned(seed: int, count: int) -> list[Batch]:
    """The batches, of which bulk loads are new throughout, each at a newer position."""
    dice = random.Random(seed)
    kinds = [(PEOPLE, True), (KNOWS, True), (PEOPLE, False), (KNOWS, False)]
    first = [0, 1, 3, 2]  # each kind comes, whatever the dice say
    more = dice.choices(range(4), weights=[1, 2, 3, 4], k=max(0, count - 4))
    chosen = [kinds[it] for it in [*first, *more]][:count]
    return [
        (_bulk if in_bulk else _logged)(dice, collection, number)
        for number, (collection, in_bulk) in enumerate(chosen, 1)
    ]


def _bulk(dice: random.Random, collection: Collection, number: int) -> Batch:
    puts = [_item(dice, collection, f"b{number}-{i}", number) for i in range(COPY_ROWS)]
    return Batch(collection, puts, [], number)


def _logged(dice: random.Random, collection: Collection, number: int) -> Batch:
    size = dice.choice(LOGGED_ROWS)
    keys = list(dict.fromkeys(_key(dice, number) for _ in range(size)))
    gone = dice.randrange(len(keys) + 1) // 2
    puts = [_item(dice, collection, key, number) for key in keys[gone:]]
    return Batch(collection, puts, keys[:gone], number)


def _key(dice: random.Random, number: int) -> str:
    """Of a few, or of those that were loaded, or may have been."""
    if dice.random() < 0.5:
        return f"s{dice.randrange(SMALL)}"
    return f"b{dice.randrange(1, max(2, number))}-{dice.randrange(COPY_ROWS)}"


def _item(dice: random.Random, collection: Collection, key: str, number: int) -> Item:
    properties: dict[str, Any]
    if collection.ends:
        properties = {"since": number, "weight": dice.random()}
        if dice.random() < 0.5:
            properties["how"] = "'`\\\n" * dice.randrange(1, 9)
        return edge(key, _key(dice, number), _key(dice, number), **properties)
    properties = {"stars": number, "owner": dice.choice(["ada", "Grace Ü"])}
    if dice.random() < 0.5:
        properties |= {"score": dice.random(), "done": dice.random() < 0.5}
        properties["seen"] = _START + timedelta(microseconds=dice.randrange(10**12))
    return node(key, **properties)


async def opened(folder: str) -> LadybugStore:
    """The store in `folder`, prepared."""
    store = await ladybug_graph.connect(f"ladybug://{folder}")
    for collection in COLLECTIONS:
        await store.prepare(collection)
    return store


async def _read(store: LadybugStore) -> None:
    """Be in the way of checkpoints, until it is enough."""
    while True:
        await store.find(VIEW, ALL, "Person", where={"owner": "ada"}, limit=20)
        await store.neighbours(VIEW, ALL, "KNOWS", "s1")
        await store.stamps(PEOPLE, ["s1", "b1-1"])


def _say(*words: object) -> None:
    print(*words, flush=True)


async def _follow(folder: str, batches: list[Batch], first: int, *, durable: bool) -> None:
    dice = random.Random(first)
    _say("open")
    store = await opened(folder)
    store.durable = durable
    reading = asyncio.create_task(_read(store))
    for number, batch in enumerate(batches[first:], first):
        _say("begun", number)
        await store.apply(*batch)
        if dice.random() < 0.1:
            _say("maintain")
            await store.maintain(batch.collection)
        if dice.random() < 0.4 or number == len(batches) - 1:
            _say("barrier")
            await store.barrier()
            _say("durable", number + 1)
    if not durable:
        os.kill(os.getpid(), signal.SIGKILL)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    _say("close")
    await store.close()


if __name__ == "__main__":
    _folder, _seed, _count, _first, *_how = sys.argv[1:]
    _plan = planned(int(_seed), int(_count))
    asyncio.run(_follow(_folder, _plan, int(_first), durable=_how != ["loosely"]))
