"""(c) The outbox to JetStream: how many changed rows a second the relay publishes, packed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from time import perf_counter
from typing import Final

import nats

from bench.documents import Note, NoteCache
from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size, execute
from polyplane import Plane
from polyplane.feed import jetstream
from polyplane.flow.packing import keys_of
from polyplane.flow.relay import Relay
from polyplane.model.message import Message

PACKED_ROWS: Final = 300_000
STATEMENT_ROWS: Final = 1_000
SINGLE_ROWS: Final = 50_000
REQUIRED: Final = 100_000


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Rows changed by statements of 1,000 rows, then by statements of one row each."""
    rows, single = size.scaled(PACKED_ROWS), size.scaled(SINGLE_ROWS)
    packed, raw = await _several(ground, size, rows, STATEMENT_ROWS)
    found = [
        rates("rows, 1,000 a statement", "rows/s", rows, packed, required=REQUIRED),
        rates("the same bytes, published by hand", "rows/s", rows, raw),
    ]
    found.append(ratio("relay / by hand", found[0], found[1]))
    alone, raw = await _several(ground, size, single, 1)
    ours = rates("rows, one a statement", "rows/s", single, alone)
    by_hand = rates("the same bytes, published by hand", "rows/s", single, raw)
    return [*found, ours, by_hand, ratio("relay / by hand, one a statement", ours, by_hand)]


async def _several(
    ground: Ground, size: Size, rows: int, rows_a_statement: int
) -> tuple[list[float], list[float]]:
    """Seconds of the relay, and of publishing what it had published, of each run."""
    ours, raw = [], []
    for _ in range(size.runs):
        url = await ground.database()
        async with ground.plane(url, flows=False, models=[Note], projections=[NoteCache]) as plane:
            loop = (
                f"DO $$ BEGIN FOR i IN 1 .. {rows // rows_a_statement} LOOP"
                f" INSERT INTO note (owner, body) SELECT 'ada', 'x'"
                f" FROM generate_series(1, {rows_a_statement}); COMMIT; END LOOP; END $$"
            )
            await execute(url, ["SET synchronous_commit = off", loop, "ANALYZE polyplane.outbox"])
            await ground.calm()
            ours.append(await _relayed(plane, rows))
            messages = await _published(plane)
            keys = Counter(key for message in messages for key in keys_of(message)[1])
            assert len(keys) == rows and keys.total() == rows, (len(keys), keys.total(), rows)
            raw.append(await _by_hand(ground, [message.body for message in messages]))
    return ours, raw


async def _relayed(plane: Plane, rows: int) -> float:
    """Seconds from the start of a relay until the journal says that all is published."""
    opened = plane.opened

    async def never() -> bool:
        return False

    relay = Relay(
        opened.database,
        opened.journal,
        opened.feed,
        opened.feed.subjects,
        epoch=opened.epoch,
        all_applied=never,
    )
    started = perf_counter()
    task = asyncio.create_task(relay.run())
    try:
        async with asyncio.timeout(120):
            while relay.published_keys < rows or (await opened.journal.pending())[0]:
                await asyncio.sleep(0.005)
        return perf_counter() - started
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await relay.stop()


async def _published(plane: Plane) -> list[Message]:
    feed = plane.opened.feed
    last = (await feed.bounds(feed.subjects.changes)).last
    reader = feed.reader(feed.subjects.changes, [feed.subjects.all_changes], 1)
    found: list[Message] = []
    async with asyncio.timeout(60):
        while len(found) < last:
            found += await reader.batch(500, wait_s=5)
    await reader.close()
    return found


async def _by_hand(ground: Ground, bodies: list[bytes]) -> float:
    """Seconds to publish `bodies` to a stream of the same kind, pipelined, and be acknowledged."""
    feed = await jetstream.connect(ground.engines.admins["nats"], "byhand")
    await feed.ensure("byhand-changes", ["byhand.changes.>"], keep=False)
    client = await nats.connect(ground.engines.admins["nats"])
    js = client.jetstream(publish_async_max_pending=1024)
    started = perf_counter()
    acks = [await js.publish_async("byhand.changes.note", body) for body in bodies]
    await asyncio.wait_for(asyncio.gather(*acks), 120)
    took = perf_counter() - started
    assert (await feed.bounds("byhand-changes")).last == len(bodies)
    await client.close()
    await feed.delete("byhand-changes")
    await feed.close()
    return took
