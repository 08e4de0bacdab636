"""What moves data in this process, in one epoch: relay, projectors, ingest and followers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from polyplane.errors import PolyplaneError, StoreDown
from polyplane.flow.inbound import Follower
from polyplane.flow.ingest import Ingest
from polyplane.flow.projector import Target
from polyplane.flow.recording import Recorder
from polyplane.flow.relay import Over, Relay
from polyplane.flow.tenure import Tenure
from polyplane.flow.witness import went_back
from polyplane.runtime.access import decode_message
from polyplane.runtime.declared import Declared
from polyplane.runtime.epochs import ensure_streams, settle_epoch, why_over
from polyplane.runtime.generations import REFRESH_S, Generations
from polyplane.runtime.keeping import Keeper
from polyplane.runtime.opening import Open
from polyplane.runtime.sagas import start_sagas
from polyplane.runtime.sealing import start_sealing
from polyplane.runtime.sweeping import start_sweeping
from polyplane.runtime.transformations import start_transformations
from polyplane.stores.catalog import engine_of
from polyplane.truth.journal import Journal

_log = structlog.get_logger(__name__)

_LOOK_EVERY_S: Final = 2.0
"""How often to look whether the epoch is over."""
_LOOK_AT_STORES_EVERY_S: Final = 20.0
"""How often to look whether a store went back."""


async def start_flow(
    declared: Declared, opened: Open, plane: Any, home: Path, stack: AsyncExitStack
) -> None:
    """Move data in this process until the stack unwinds, in one epoch after the other."""
    stack.push_async_callback(_end, opened)
    await _begin(declared, opened, plane)
    keeper = asyncio.create_task(_keep(declared, opened, plane, home), name="epochs")
    stack.push_async_callback(_cancelled, keeper)
    start_sealing(opened, plane.settings, stack)
    start_sweeping(opened, stack)
    start_transformations(declared, opened, stack)
    start_sagas(declared, opened, plane, stack)  # stopped first: the last one pushed


def start_watching(opened: Open, stack: AsyncExitStack) -> None:
    """Follow what other processes switch readers to, until the stack unwinds."""
    opened.crew.add("generations", partial(_watch, opened.generations))
    stack.push_async_callback(opened.crew.stop)


async def _watch(generations: Generations) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            await generations.refresh()
        except PolyplaneError as error:
            _log.warning("generations.unknown", error=error.message)


async def _end(opened: Open) -> None:
    await opened.crew.stop()
    opened.projectors.clear()
    opened.rebuilds.clear()
    if opened.relay is not None:
        await opened.relay.stop()
    if opened.tenure is not None:
        await opened.tenure.stop()


async def _cancelled(task: asyncio.Task[None]) -> None:
    while not task.done():  # again and again: libraries swallow a cancellation now and then
        task.cancel()
        await asyncio.wait([task], timeout=_LOOK_EVERY_S)


async def _keep(declared: Declared, opened: Open, plane: Any, home: Path) -> None:
    """Begin again whenever the epoch is over, whoever finds that out."""
    while True:
        try:
            over, ended = await _when_over(declared, opened), opened.epoch
            _log.warning("epoch.over", epoch=ended, why=over.why)
            await _end(opened)
            while True:
                try:
                    await ensure_streams(declared, opened.feed)
                    opened.epoch = await settle_epoch(
                        declared,
                        opened.journal,
                        opened.feed,
                        home,
                        over=None if over.within else over,
                        of=ended,
                    )
                    await _begin(declared, opened, plane)
                    break
                except (PolyplaneError, TimeoutError) as error:
                    await _end(opened)
                    _log.warning("epoch.waiting", error=str(error) or type(error).__name__)
                    await asyncio.sleep(_LOOK_EVERY_S)
            opened.epochs_ended.append(over.why)
        except (PolyplaneError, TimeoutError) as error:
            _log.info("epoch.unknown", error=str(error) or type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY_S)


async def _when_over(declared: Declared, opened: Open) -> Over:
    """Return when the epoch is over, or all must begin again within it; and why."""
    loop = asyncio.get_running_loop()
    looked = loop.time()
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        if opened.relay is not None and opened.relay.over is not None:
            return opened.relay.over
        epoch, is_ours = await opened.journal.identity()
        if epoch != opened.epoch:
            return Over(f"another process has begun epoch {epoch}", went_back=False)
        if not is_ours:
            return Over("PostgreSQL is another cluster", went_back=True)
        await ensure_streams(declared, opened.feed)
        if why := await why_over(declared, opened.journal, opened.feed):
            return Over(why, went_back=False)
        if loop.time() - looked > _LOOK_AT_STORES_EVERY_S:
            looked = loop.time()
            await _hold(opened)
            if lost := [it.collection.target for it in await _lost(opened)]:
                return Over(f"{', '.join(lost)} went back", went_back=False, within=True)


async def _hold(opened: Open) -> None:
    """Have what programs outside take events from, also in a stream that was made anew."""
    for durable, subject in (opened.engines.taken if opened.engines else {}).items():
        await opened.feed.hold(durable, subject)


async def _lost(opened: Open) -> list[Target]:
    """The filled collections that are gone or an older copy; a store that is down is neither.

    A worker leaves that to `up`, which fills them again.
    """
    if opened.is_worker:
        return []
    filled = {row.name for row in await opened.journal.collections.rows() if row.filled}
    lost = []
    for target in opened.generations.targets.values():
        if target.collection.target in filled:
            with suppress(StoreDown, TimeoutError):
                await opened.generations.prepare(target)
                if await went_back(target, opened.journal):
                    lost.append(target)
    return lost


async def _begin(declared: Declared, opened: Open, plane: Any) -> None:
    """Start relay, projectors, ingest and inbound followers in the present epoch."""
    subjects, feed, journal = opened.feed.subjects, opened.feed, opened.journal
    keeper = Keeper(opened, keep_s=plane.settings.retired_keep_s)

    async def all_applied() -> bool:
        return not await journal.behind(opened.epoch, keeper.reads())

    opened.relay = Relay(
        opened.truth.relay,
        Journal(opened.truth.relay),
        feed,
        subjects,
        epoch=opened.epoch,
        all_applied=all_applied,
    )
    opened.crew.add("relay", opened.relay.run)
    await _hold(opened)
    opened.tenure = Tenure(journal.leases, epoch=opened.epoch)
    opened.crew.add("tenure", opened.tenure.run)
    await opened.generations.refresh()
    for target in await _lost(opened):
        name = target.collection.target
        _log.warning("collection.went_back", collection=name)
        await journal.unfill(name)
        said = f"{name}: was gone, or an older copy; it is filled again."
        opened.damage.setdefault(engine_of(target.store), []).append(said)
    await opened.generations.refresh()
    await keeper.adjust()
    opened.crew.add("generations", keeper.run)
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
    if opened.requests is not None and not opened.is_worker:
        store = opened.requests.store
        opened.recorder = Recorder(store, feed, subjects, epoch=opened.epoch)
        opened.crew.add("requests", opened.recorder.run)
    for application in declared.applications:
        for inbound in application.inbound:
            follower = Follower(application.name, inbound, plane, feed, subjects)
            opened.followers[follower.name] = follower
            opened.crew.add(f"inbound {follower.name}", follower.run)
