"""What the flow needs of a feed, and how subjects are spelt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote

from polyplane.model.message import Message


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish; `message_id` lets the server drop a quick repetition."""

    subject: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Ack(NamedTuple):
    """A durable publish: its sequence in the stream; `duplicate`: the id was known already."""

    sequence: int
    duplicate: bool


class Bounds(NamedTuple):
    """The first and last sequence of a stream; `last` counts on when messages are let go of.

    `created` tells a stream from one that was made anew under its name.
    """

    first: int
    last: int
    created: str


class Reader(Protocol):
    """Messages of a stream in strict order, from a given sequence on."""

    async def batch(self, limit: int, *, wait_s: float) -> list[Message]:
        """At least one message when one comes within `wait_s`, at most `limit`; else none."""
        ...

    async def close(self) -> None:
        """Let go of what the server keeps for this reader."""
        ...


class Feed(Protocol):
    """Changes in transit. Every call is bounded in time and raises `FeedDown` when it is up."""

    async def ensure(self, stream: str, subjects: Sequence[str], *, keep: bool) -> None:
        """Create the stream. `keep`: hold the only copies, refuse new ones rather than drop."""
        ...

    async def bounds(self, stream: str) -> Bounds:
        """Where the stream begins and ends."""
        ...

    async def get(self, stream: str, sequence: int) -> Message | None:
        """One message, or None when it is gone."""
        ...

    async def publish(self, message: Outgoing) -> Ack:
        """Publish durably."""
        ...

    async def publish_fenced(self, stream: str, messages: Sequence[Outgoing], after: int) -> int:
        """Publish all, in order, if and only if the stream's last sequence is `after`.

        Nobody else's messages get between them; their ids are of their content.

        The last sequence. Raises `Fenced` when somebody else has written meanwhile; then, and
        after any other error, a beginning of `messages` may be there.
        """
        ...

    def reader(self, stream: str, subjects: Sequence[str], start: int) -> Reader:
        """Read `subjects` of `stream` from sequence `start` on."""
        ...

    async def let_go(self, stream: str, through: int) -> None:
        """Delete everything up to and including sequence `through`."""
        ...

    async def hint(self) -> None:
        """Tell relays that there is work; may be lost."""
        ...

    def hints(self, wake: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Call `wake` at each hint while the block lasts."""
        ...

    async def ping(self) -> None:
        """Return when the feed answers."""
        ...

    async def close(self) -> None:
        """Close the connection. Safe to call twice."""
        ...


def token(text: str) -> str:
    """`text` as one NATS subject token: what is special there is percent-encoded."""
    return quote(text, safe="").replace(".", "%2E") or "%"


def told(part: str) -> str:
    """The text of a NATS subject token that `token` has made."""
    return "" if part == "%" else unquote(part)


class Subjects:
    """The streams and subjects of a namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.changes = f"{namespace}-changes"
        self.events = f"{namespace}-events"
        self.all_changes = f"{namespace}.changes.>"
        self.all_events = f"{namespace}.events.>"
        self.hint = f"{namespace}.hint"

    def change(self, table: str, bucket: int | str) -> str:
        """Where the changes of a table (`schema.table`) in a bucket go; `*` for all buckets."""
        schema, _, name = table.partition(".")
        return f"{self.namespace}.changes.{token(schema)}.{token(name)}.{bucket}"

    def event(self, tenant: str, kind: str, subject: str) -> str:
        """Where a domain event goes: `events.<tenant>.<application>.<type>[.<subject>]`."""
        end = f".{token(subject)}" if subject else ""
        return f"{self.namespace}.events.{token(tenant)}.{kind}{end}"

    def stream(self, name: str) -> tuple[str, str]:
        """The stream that holds the points of series `name`, and its subject."""
        return f"{self.namespace}-streams-{name}", f"{self.namespace}.streams.{name}"

    def points(self, name: str, tenant: str) -> str:
        """Where the points of a tenant go, of a series whose points belong to tenants."""
        return f"{self.namespace}.streams.{name}.{token(tenant)}"

    def all_points(self, name: str, *, of_tenants: bool) -> list[str]:
        """Where points of a series come from; those that say no tenant are refused there."""
        subject = f"{self.namespace}.streams.{name}"
        return [subject, f"{subject}.*"] if of_tenants else [subject]

    def inbound(self, application: str, name: str) -> tuple[str, str]:
        """The stream that holds what comes from outside, and its subjects."""
        return (
            f"{self.namespace}-inbound-{application}-{name}",
            f"{self.namespace}.inbound.{application}.{name}.>",
        )
