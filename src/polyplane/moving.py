"""What moves data in this process, in one epoch: relay, projectors, ingest and followers."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from polyplane.access import decode_message
from polyplane.declared import Declared
from polyplane.flow.backfill import backfill
from polyplane.flow.inbound import Follower
from polyplane.flow.ingest import Ingest
from polyplane.flow.projector import Projector
from polyplane.flow.relay import Relay
from polyplane.opening import Open


def start_flow(declared: Declared, opened: Open, plane: Any, stack: AsyncExitStack) -> None:
    """Start relay, projectors, ingest and inbound followers in this process."""
    subjects, feed, journal = opened.feed.subjects, opened.feed, opened.journal

    async def all_applied() -> bool:
        return not await journal.behind(opened.epoch, opened.reads())

    opened.relay = Relay(
        opened.database, journal, feed, subjects, epoch=opened.epoch, all_applied=all_applied
    )
    stack.push_async_callback(opened.relay.stop)
    stack.push_async_callback(opened.crew.stop)  # runs first: the last one pushed
    opened.crew.add("relay", opened.relay.run)
    for name, target in opened.targets.items():
        projector = Projector(target, opened.database, journal, feed, subjects, epoch=opened.epoch)
        opened.projectors[name] = projector
        opened.crew.add(f"projector {name}", partial(_fill_and_project, opened, projector))
    for stream in declared.streams:
        assert opened.stores.series is not None
        ingest = Ingest(
            stream,
            opened.stores.series,
            journal,
            feed,
            subjects,
            decode_message,
            epoch=opened.epoch,
        )
        opened.ingests[stream.name] = ingest
        opened.crew.add(f"ingest {stream.name}", ingest.run)
    for application in declared.applications:
        for inbound in application.inbound:
            follower = Follower(application.name, inbound, plane, feed, subjects)
            opened.followers[follower.name] = follower
            opened.crew.add(f"inbound {follower.name}", follower.run)


async def _fill_and_project(opened: Open, projector: Projector) -> None:
    """Backfill a collection that was never filled, then follow the changes."""
    target = projector.target
    row = (await opened.journal.collections()).get(target.collection.target)
    if row is None or row.filled_at is None:
        await backfill(
            target,
            opened.database,
            opened.journal,
            opened.feed,
            opened.feed.subjects,
            epoch=opened.epoch,
            progress=projector.filling,
        )
    await projector.run()
