"""Which epoch it is, and when one is over.

Positions are comparable within an epoch only. It ends when what they count may have gone back: the
changes stream was lost or is an older copy, or PostgreSQL is. In the new one every position is
newer than all before it. PostgreSQL says which epoch it is; the home and the stream's own messages
remember it too, lest an older PostgreSQL begins one that has been there before.
"""

from __future__ import annotations

from pathlib import Path

import orjson
import structlog

from polyplane.embedded.files import read_json, write_file
from polyplane.embedded.home import EPOCH_FILE
from polyplane.feed.jetstream import JetStream
from polyplane.flow.packing import place_of
from polyplane.flow.relay import Over
from polyplane.runtime.declared import Declared
from polyplane.truth.journal import Journal
from polyplane.truth.scan import source_of

_log = structlog.get_logger(__name__)


async def ensure_streams(declared: Declared, feed: JetStream) -> None:
    """Create the streams that are not there."""
    subjects = feed.subjects
    await feed.ensure(subjects.changes, [subjects.all_changes], keep=False)
    await feed.ensure(subjects.events, [subjects.all_events], keep=False)
    for stream in declared.streams:
        name, _ = subjects.stream(stream.name)
        wanted = subjects.all_points(stream.name, of_tenants=bool(stream.tenant_column))
        await feed.ensure(name, wanted, keep=True)
    for application in declared.applications:
        for inbound in application.inbound:
            name, subject = subjects.inbound(application.name, inbound.name)
            await feed.ensure(name, [subject], keep=True)


async def settle_epoch(
    declared: Declared,
    journal: Journal,
    feed: JetStream,
    home: Path,
    *,
    over: Over | None = None,
    of: int = 0,
) -> int:
    """The epoch to work in: the present one, or a new one when it is over.

    `over` says why the epoch `of` is, when the caller knows; another process may have ended it
    already. When PostgreSQL went back, all collections are to be filled again: stores hold what it
    no longer knows.
    """
    epoch, is_ours = await journal.identity()
    over = over if epoch == of else None
    known = max(await _epoch_of_stream(feed), _epoch_of_home(home, feed.subjects.namespace))
    went_back = (over is not None and over.went_back) or not is_ours or known > epoch
    why = over.why if over else await why_over(declared, journal, feed)
    if went_back or why:
        changes = await feed.bounds(feed.subjects.changes)
        events = await feed.bounds(feed.subjects.events)
        old, epoch = (
            epoch,
            await journal.bump_epoch(
                epoch, changes.last, events.last, at_least=known + 1, refill=went_back
            ),
        )
        why = why or "PostgreSQL is another cluster, or an older copy"
        _log.warning("epoch.bumped", epoch=epoch, after=old, why=why, refill=went_back)
    _note(home, feed.subjects.namespace, epoch)
    return epoch


async def why_over(declared: Declared, journal: Journal, feed: JetStream) -> str:
    """Why the feed has ended the epoch, or nothing.

    That is so when the changes stream has lost what was published and is not known again by its
    end, or what a collection has not applied.
    """
    epoch, _ = await journal.identity()
    published = await journal.published_order(epoch)
    tables = {it.name: source_of(it.model).captured.name for it in declared.projections}
    reads = [
        (row.name, tables[row.projection])
        for row in await journal.collections.rows()
        if row.projection in tables and row.state != "retired"
    ]
    positions = await journal.positions()
    behind = await journal.behind(epoch, reads)
    # Last of all: a relay that runs elsewhere publishes more meanwhile, never less.
    bounds = await feed.bounds(feed.subjects.changes)
    if bounds.last < published:
        return f"the changes stream ends at {bounds.last}, but {published} was published"
    for collection, bucket, _ in behind:
        at = positions.get((collection, bucket))
        if at and at.epoch == epoch and at.order + 1 < bounds.first:
            return f"the changes stream begins at {bounds.first}; {collection} is at {at.order}"
    return ""


async def _epoch_of_stream(feed: JetStream) -> int:
    """The epoch of the last message of the changes stream; 0 when there is none."""
    bounds = await feed.bounds(feed.subjects.changes)
    message = await feed.get(feed.subjects.changes, bounds.last) if bounds.last else None
    place = place_of(message)
    return place.epoch if place else 0


def _epoch_of_home(home: Path, namespace: str) -> int:
    return int(read_json(home / EPOCH_FILE).get(namespace, 0))


def _note(home: Path, namespace: str, epoch: int) -> None:
    if not home.is_dir():  # every engine has a URL: the stream alone remembers
        return
    known = read_json(home / EPOCH_FILE)
    if known.get(namespace) != epoch:
        write_file(home / EPOCH_FILE, orjson.dumps(known | {namespace: epoch}).decode())
