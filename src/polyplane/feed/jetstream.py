"""The feed on NATS JetStream.

Readers are ordered: an ephemeral consumer without acknowledgements, whose delivery count must go
up by one; at any gap it is made anew after the last message read. What has been done is remembered
by whoever does it, in PostgreSQL, so that there is one memory and not two that may disagree.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from polyplane.errors import FeedDown, Fenced, TooLarge
from polyplane.feed.core import CoreChannels
from polyplane.feed.protocol import Ack, Bounds, Outgoing, Subjects
from polyplane.feed.reading import OrderedReader
from polyplane.model.message import Message

_log = structlog.get_logger(__name__)

_WRONG_LAST = (10070, 10071)  # message id, sequence
_CALL_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 10.0
_IN_FLIGHT_MAX = 512
_TRANSPORT_AGE_S = 7 * 24 * 3600
_SOLE_COPY_BYTES = 1 << 30  # reserved by the server at once, for each stream
_DEDUPE_WINDOW_S = 120
_TAKEN_S = 30.0
"""What was taken and not acknowledged for so long is given out again."""
_OPTIONS: dict[str, Any] = {
    "name": "polyplane",
    "connect_timeout": 2,
    "reconnect_time_wait": 0.25,
    "max_reconnect_attempts": -1,
    "allow_reconnect": True,
    "ping_interval": 20,
    "max_outstanding_pings": 2,
    "pending_size": 64 << 20,
}
_FIX = "Check that NATS runs with JetStream and that NATS_URL names it; then try again."


@contextmanager
def in_our_words() -> Iterator[None]:
    """Faults of the client and of the server become `FeedDown`; `TooLarge` what it never takes."""
    try:
        yield
    except nats.errors.MaxPayloadError as error:
        raise TooLarge("The message is larger than NATS takes (max_payload).") from error
    except (nats.errors.Error, TimeoutError, OSError) as error:
        told = str(error) or type(error).__name__
        raise FeedDown(f"NATS JetStream does not answer ({told}).", fix=_FIX) from error


class JetStream:
    """A connection to NATS with JetStream. Make it with `connect`."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self.subjects = subjects
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=_CALL_TIMEOUT_S)
        self.channels = CoreChannels(client, subjects.namespace)

    async def ensure(self, stream: str, subjects: Sequence[str], *, keep: bool) -> None:
        """See `Feed.ensure`."""
        config = api.StreamConfig(
            name=stream,
            subjects=list(subjects),
            retention=api.RetentionPolicy.LIMITS,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.NEW if keep else api.DiscardPolicy.OLD,
            max_age=0 if keep else _TRANSPORT_AGE_S,
            max_bytes=_SOLE_COPY_BYTES if keep else -1,
            duplicate_window=_DEDUPE_WINDOW_S,
            allow_direct=True,
        )
        with in_our_words():
            try:
                found = await self._js.stream_info(stream)
            except nats.js.errors.NotFoundError:
                await self._js.add_stream(config)
                return
            held = found.config.subjects or []
            if not set(subjects) <= set(held):  # a declaration that has gained some
                wider = replace(found.config, subjects=[*held, *sorted(set(subjects) - set(held))])
                await self._js.update_stream(wider)

    async def hold(self, durable: str, subject: str) -> None:
        """Hold events on `subject` for a program outside until it has acknowledged each, one at a
        time. Safe to repeat.
        """
        config = api.ConsumerConfig(
            name=durable,
            durable_name=durable,
            filter_subject=subject,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=_TAKEN_S,
            max_ack_pending=1,
        )
        with in_our_words():
            await self._js.add_consumer(self.subjects.events, config)

    async def bounds(self, stream: str) -> Bounds:
        """The first and last sequence."""
        with in_our_words():
            found = await self._js.stream_info(stream)
            return Bounds(found.state.first_seq, found.state.last_seq, str(found.created))

    async def get(self, stream: str, sequence: int) -> Message | None:
        """See `Feed.get`."""
        with in_our_words():
            try:
                found = await self._js.get_msg(stream, seq=sequence)
            except nats.js.errors.NotFoundError:
                return None
        return Message(
            found.subject or "", found.data or b"", dict(found.headers or {}), found.seq or sequence
        )

    async def publish(self, message: Outgoing) -> Ack:
        """See `Feed.publish`."""
        with in_our_words():
            ack = await self._js.publish(
                message.subject,
                message.body,
                timeout=_CALL_TIMEOUT_S,
                headers={**message.headers, "Nats-Msg-Id": message.message_id},
            )
            return Ack(ack.seq, bool(ack.duplicate))

    async def publish_fenced(self, stream: str, messages: Sequence[Outgoing], after: int) -> int:
        """See `Feed.publish_fenced`. All are on their way at once; tasks begin in their order.

        A sequence alone is no fence for those behind the first: another relay's messages may have
        brought the stream to just the sequence that one of them expects. So each names the
        message before it, too. And the sequence is part of its name, lest a server whose stream was
        purged take it for the one it had there.
        """
        found: list[Ack | BaseException] = []
        named = [
            replace(message, message_id=f"{message.message_id}@{sequence}")
            for sequence, message in enumerate(messages, start=after + 1)
        ]
        behind = ["", *(message.message_id for message in named)]
        for start in range(0, len(messages), _IN_FLIGHT_MAX):
            found += await asyncio.gather(
                *(
                    self._publish_after(after + index, behind[index], stream, message)
                    for index, message in enumerate(named[start : start + _IN_FLIGHT_MAX], start)
                ),
                return_exceptions=True,
            )
        for sequence, ack in enumerate(found, start=after + 1):
            if isinstance(ack, BaseException):
                raise ack
            if ack.sequence != sequence:  # as when the stream was purged a moment ago
                raise FeedDown(f"{stream} takes a message for an earlier one.", fix="It passes.")
        return after + len(messages)

    async def _publish_after(self, last: int, last_id: str, stream: str, message: Outgoing) -> Ack:
        """Publish if the stream's last message is number `last`, and `last_id`; else Fenced."""
        with in_our_words():
            try:
                ack = await self._js.publish(
                    message.subject,
                    message.body,
                    timeout=_CALL_TIMEOUT_S,
                    stream=stream,
                    headers={
                        **message.headers,
                        "Nats-Msg-Id": message.message_id,
                        "Nats-Expected-Last-Sequence": str(last),
                        **({"Nats-Expected-Last-Msg-Id": last_id} if last_id else {}),
                    },
                )
            except nats.js.errors.APIError as error:
                if error.err_code in _WRONG_LAST:
                    raise Fenced(f"Another relay has written to {stream}.") from error
                raise
        return Ack(ack.seq, bool(ack.duplicate))

    def reader(self, stream: str, subjects: Sequence[str], start: int) -> OrderedReader:
        """See `Feed.reader`."""
        return OrderedReader(self._client, self._js, stream, subjects, start)

    async def let_go(self, stream: str, through: int) -> None:
        """See `Feed.let_go`."""
        with in_our_words():
            await self._js.purge_stream(stream, seq=through + 1)

    async def hint(self) -> None:
        """See `Feed.hint`; a lost connection loses the hint and nothing else."""
        with suppress(nats.errors.Error, OSError):
            if self._client.is_connected:
                await self._client.publish(self.subjects.hint)

    @asynccontextmanager
    async def hints(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        """See `Feed.hints`."""

        async def heard(_: Msg) -> None:
            wake()

        subscription = await self._client.subscribe(self.subjects.hint, cb=heard)
        try:
            yield
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def ping(self) -> None:
        """Return when JetStream answers."""
        with in_our_words():
            await self._js.account_info()

    async def delete(self, stream: str) -> None:
        """Delete a stream with all it holds; nothing when it is not there."""
        with in_our_words():
            try:
                await self._js.delete_stream(stream)
            except nats.js.errors.NotFoundError:
                return

    async def close(self) -> None:
        """Flush and close the connection."""
        if not self._client.is_closed:
            await self._client.close()


def inbox_of(url: str) -> str:
    """Below which subject who comes with `url` gets answers: nobody else may listen there."""
    user = urlsplit(url).username or ""
    return f"_INBOX.{user}" if re.fullmatch(r"[\w~%-]+", user) else "_INBOX"


async def connect(url: str, namespace: str) -> JetStream:
    """Connect to NATS at `url` (several, comma-separated, for a cluster); FeedDown if it fails."""

    async def failed(error: Exception) -> None:
        _log.warning("feed.error", error=type(error).__name__)

    async def lost() -> None:
        if not client.is_closed:
            _log.warning("feed.disconnected")

    async def back() -> None:
        _log.info("feed.reconnected")

    client = Client()
    servers = url.split(",")
    try:
        # Without end it would try: max_reconnect_attempts counts for the first connection too.
        with in_our_words():
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await client.connect(
                    servers,
                    inbox_prefix=inbox_of(servers[0]),
                    error_cb=failed,
                    disconnected_cb=lost,
                    reconnected_cb=back,
                    **_OPTIONS,
                )
    except BaseException:
        await client.close()
        raise
    return JetStream(client, Subjects(namespace))
