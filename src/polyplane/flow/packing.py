"""How outbox rows become messages: pure, and the same every time, so that a relay can resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from zlib import crc32

import orjson

from polyplane.feed.protocol import Outgoing, Subjects
from polyplane.model.key import BUCKETS, bucket_of
from polyplane.model.message import Message
from polyplane.truth.outbox import Page

MESSAGE_KEYS: Final = 4_000
MESSAGE_BYTES: Final = 512 << 10
PLACE_HEADER: Final = "Polyplane-Page"
AFTER_HEADER: Final = "Polyplane-After"
CLEAR_HEADER: Final = "Polyplane-Clear"
_MARK_TABLE: Final = "polyplane.mark"
_GONE_BYTES: Final = 256 << 10
"""What a message says at most of whose deleted rows were; what says more says nothing of it."""


def change_messages(subjects: Subjects, epoch: int, page: Page) -> list[Outgoing]:
    """The messages of a page for the changes stream: one or more per (table, bucket).

    Never empty: a page without keys has one message, to a table that nobody reads, so that the
    stream's tail always tells how far the relay is.
    """
    tables: dict[tuple[str, bool], list[dict[str, None]]] = {}
    whose: dict[tuple[str, str], dict[str, None]] = {}
    for row in page.rows:
        if row.body is not None and row.op in "DT":
            for key in row.keys:
                whose.setdefault((row.tbl, key), {})[row.body] = None
        kind = (row.tbl, row.op == "C")
        if kind not in tables:
            tables[kind] = [{} for _ in range(BUCKETS)]
        buckets = tables[kind]
        for key in row.keys:
            buckets[bucket_of(key)][key] = None
    packed = [
        (table, clears, bucket, keys)
        for (table, clears), buckets in tables.items()
        for bucket, found in enumerate(buckets)
        for keys in _split(list(found))
    ] or [(_MARK_TABLE, False, 0, [])]
    found = []
    for index, (table, clears, bucket, keys) in enumerate(packed):
        content = {"table": table, "keys": keys, **_gone(table, keys, whose)}
        place = (epoch, page, index, len(packed))
        message = _outgoing(subjects.change(table, bucket), content, *place)
        found.append(replace(message, headers={CLEAR_HEADER: "1"}) if clears else message)
    return found


def event_messages(subjects: Subjects, epoch: int, page: Page) -> list[Outgoing]:
    """The messages of a page for the events stream: one per domain event, as it was written."""
    events = [row for row in page.rows if row.op == "E"]
    found = []
    for index, row in enumerate(events):
        event = orjson.loads(row.body or "{}")
        found.append(
            Outgoing(
                subject=subjects.event(event["tenant"], row.tbl, event.get("subject", "")),
                body=(row.body or "").encode(),
                message_id=f"{epoch}:e{row.seq}",
                headers={
                    "Content-Type": "application/cloudevents+json",
                    PLACE_HEADER: orjson.dumps(_place(epoch, page, index, len(events))).decode(),
                },
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a published message stands: message `index` of `count` of this page."""

    epoch: int
    prev: str
    cur: str
    after: int
    upto: int
    last: bool
    index: int
    count: int

    @property
    def completes_page(self) -> bool:
        """Whether it is the page's last message in its stream."""
        return self.index + 1 == self.count


def place_of(message: Message | None) -> Place | None:
    """Where in its page a message of either stream stands, if it is a relay's."""
    if message is None:
        return None
    written = message.headers.get(PLACE_HEADER)
    try:
        return Place(**(orjson.loads(written) if written else orjson.loads(message.body)["page"]))
    except (ValueError, KeyError, TypeError):
        return None


def done_of(messages: Sequence[Outgoing], last: Message | None) -> int:
    """How many of a page's messages its stream has, when `last` is the last that it has.

    None, if the page is packed otherwise by now: then all go out again, which is harmless for
    changes, since they are keys.
    """
    place = place_of(last)
    if last is None or place is None or place.index >= len(messages):
        return 0
    return place.index + 1 if messages[place.index].body == last.body else 0


def keys_of(message: Message) -> tuple[str, list[str]]:
    """(table, keys) of a change message; no keys in one that is none of a relay's."""
    try:
        body = orjson.loads(message.body)
        return body["table"], body["keys"]
    except (ValueError, KeyError, TypeError):
        return "", []


def gone_of(message: Message) -> list[tuple[str, str | None, str | None]]:
    """(key, tenant, owner) of deleted rows that a change message tells whose they were."""
    try:
        body = orjson.loads(message.body)
        keys = body["keys"]
        return [
            (keys[index], tenant, owner)
            for (tenant, owner), indexes in body.get("gone", ())
            for index in indexes
        ]
    except (ValueError, KeyError, TypeError, IndexError):
        return []


def epoch_of(message: Message) -> int | None:
    """The epoch in which a relay published a message of either stream; None: it is none's."""
    written = message.headers.get("Nats-Msg-Id", "").partition(":")[0]
    return int(written) if written.isdecimal() and len(written) < 10 else None


def _gone(
    table: str, keys: Sequence[str], whose: Mapping[tuple[str, str], Mapping[str, None]]
) -> dict[str, Any]:
    """Whose the deleted ones of `keys` were: `[[[tenant, owner], [places in keys]], ...]`."""
    found: dict[str, list[int]] = {}
    for index, key in enumerate(keys if whose else ()):
        for said in whose.get((table, key), ()):
            found.setdefault(said, []).append(index)
    gone = [[orjson.loads(said), indexes] for said, indexes in found.items()]
    return {"gone": gone} if gone and len(orjson.dumps(gone)) <= _GONE_BYTES else {}


def _place(epoch: int, page: Page, index: int, count: int) -> Place:
    return Place(epoch, page.prev, page.cur, page.after, page.upto, page.last, index, count)


def _outgoing(
    subject: str, content: dict[str, Any], epoch: int, page: Page, index: int, count: int
) -> Outgoing:
    body = orjson.dumps(content | {"page": _place(epoch, page, index, count)})
    # By its content too: what a relay of another version packs is another message.
    return Outgoing(subject, body, f"{epoch}:{page.cur}:{page.after}:{index}:{crc32(body):08x}")


def _split(keys: list[str]) -> Iterator[list[str]]:
    """Pieces of at most MESSAGE_KEYS keys and MESSAGE_BYTES bytes of JSON (at least one key)."""
    if len(keys) > 1 and (len(keys) > MESSAGE_KEYS or len(orjson.dumps(keys)) > MESSAGE_BYTES):
        half = len(keys) // 2
        yield from _split(keys[:half])
        yield from _split(keys[half:])
    elif keys:
        yield keys


def chained(messages: Sequence[Outgoing], first: int, ends: dict[str, int]) -> list[Outgoing]:
    """`messages`, published from sequence `first` on, each naming the one before on its subject.

    So whoever reads a subject notices when one is missing. `ends`, the last sequence of each
    subject, is moved on.
    """
    found = []
    for order, message in enumerate(messages, start=first):
        after = {AFTER_HEADER: str(ends.get(message.subject, 0))}
        found.append(replace(message, headers={**message.headers, **after}))
        ends[message.subject] = order
    return found


def after_of(message: Message) -> int:
    """The sequence of the message before, on the same subject; 0 when there was none."""
    written = message.headers.get(AFTER_HEADER, "")
    return int(written) if written.isdecimal() else 0


def is_clearing(message: Message) -> bool:
    """Whether the place of its keys is to be cleared first, where no change could win."""
    return CLEAR_HEADER in message.headers


def tails_of(rows: Sequence[Outgoing], first: int) -> dict[tuple[str, int], int]:
    """(table, bucket) -> last order, for messages published from sequence `first` on."""
    tails: dict[tuple[str, int], int] = {}
    for order, message in enumerate(rows, start=first):
        body = orjson.loads(message.body)
        bucket = int(message.subject.rpartition(".")[2])
        if body["keys"]:
            tails[body["table"], bucket] = order
    return tails
