"""An ordered reader of a JetStream stream, by pulls on an ephemeral consumer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext, api

from polyplane.errors import FeedDown
from polyplane.model.message import Message

_log = structlog.get_logger(__name__)

_PULL_S = 30.0
_HEARTBEAT_S = 2.0
_SILENCE_S = 5.0
"""Without a message or a heartbeat for so long, the consumer is gone, or its server."""
_RETRY_S = 0.25
_IDLE_S = 90.0


class OrderedReader:
    """Messages in strict stream order; survives reconnects, restarts and lost deliveries.

    One caller at a time. Memory is bounded by the size of one pull.
    """

    def __init__(
        self,
        client: Client,
        js: JetStreamContext,
        stream: str,
        subjects: Sequence[str],
        start: int,
    ) -> None:
        self._client = client
        self._js = js
        self._stream = stream
        self._subjects = list(subjects)
        self._next = start
        self._incarnation = ""
        self._consumer: str | None = None
        self._delivered = 0
        self._expected = 0
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._inbox: Subscription | None = None
        self._deadline = 0.0
        self._reconnects = 0

    async def batch(self, limit: int, *, wait_s: float) -> list[Message]:
        """See `Reader.batch`. A fault of the server is waited out within `wait_s`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        found: list[Message] = []
        if self._consumer is not None and self._is_forgotten(loop.time()):
            await self._forget()
        while not found and loop.time() < until:
            try:
                await self._request(limit)
                async with asyncio.timeout_at(min(until, self._deadline)):
                    self._take(await self._arrived.get(), found)
                while len(found) < limit and not self._arrived.empty():
                    self._take(self._arrived.get_nowait(), found)
            except TimeoutError:
                if loop.time() >= self._deadline:
                    await self._forget()
            except (nats.errors.Error, OSError):
                await self._forget()
                if not found:
                    await asyncio.sleep(min(_RETRY_S, max(0.0, until - loop.time())))
        return found

    def _is_forgotten(self, now: float) -> bool:
        """Whether the server may know our pull no more: it was another connection's, or not even a
        heartbeat came between two calls.
        """
        is_silent = self._expected > 0 and self._arrived.empty() and now >= self._deadline
        return is_silent or self._client.stats["reconnects"] != self._reconnects

    async def close(self) -> None:
        """Let go of the consumer and the subscription."""
        await self._forget()

    async def _request(self, limit: int) -> None:
        """Have a consumer, and a pull under way."""
        if self._consumer is None:
            await self._begin()
        if self._expected > 0:
            return
        assert self._inbox is not None
        self._expected = limit
        self._deadline = asyncio.get_running_loop().time() + _SILENCE_S
        request = {
            "batch": limit,
            "expires": int(_PULL_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
            json.dumps(request).encode(),
            reply=self._inbox.subject,
        )

    async def _begin(self) -> None:
        if self._incarnation:
            _log.info("reader.begins_again", stream=self._stream, after=self._next - 1)
        self._reconnects = self._client.stats["reconnects"]
        await self._check()
        created = await self._js.add_consumer(
            self._stream,
            api.ConsumerConfig(
                ack_policy=api.AckPolicy.NONE,
                deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=max(1, self._next),
                filter_subjects=self._subjects,
                inactive_threshold=_IDLE_S,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        self._arrived = asyncio.Queue()
        arrived = self._arrived

        async def receive(message: Msg) -> None:
            arrived.put_nowait(message)

        self._inbox = await self._client.subscribe(self._client.new_inbox(), cb=receive)
        self._consumer = created.name
        self._delivered = 0
        self._expected = 0

    async def _check(self) -> None:
        """Raise FeedDown when the stream is another one by now, or has lost what was read of it.

        Else its reader would wait, for ever, for sequences that do not come.
        """
        found = await self._js.stream_info(self._stream)
        incarnation = str(found.created)
        if self._incarnation not in ("", incarnation):
            raise FeedDown(f"The stream {self._stream} was made anew.")
        self._incarnation = incarnation
        if self._next > found.state.last_seq + 1:
            raise FeedDown(
                f"The stream {self._stream} ends at {found.state.last_seq}, and it has been read"
                f" up to {self._next - 1}.",
                fix="Was it restored from an older copy? Start polyplane again.",
            )

    async def _forget(self) -> None:
        """Drop the consumer; the next batch makes one that begins after the last message read."""
        consumer, inbox = self._consumer, self._inbox
        self._consumer, self._inbox, self._expected = None, None, 0
        self._arrived = asyncio.Queue()
        try:
            if inbox is not None:
                await inbox.unsubscribe()
            if consumer is not None and self._client.is_connected:
                await self._js.delete_consumer(self._stream, consumer)
        except (nats.errors.Error, OSError, TimeoutError):
            return  # the server drops an idle consumer by itself

    def _take(self, message: Msg, found: list[Message]) -> None:
        """Sort one arrival: a status ends the pull, a message must be the next in line."""
        self._deadline = asyncio.get_running_loop().time() + _SILENCE_S
        headers = message.headers or {}
        if not message.reply:  # from the server itself; who publishes cannot take that off
            status = headers.get("Status", "")
            if status == "100":
                return
            self._expected = 0
            if status not in ("404", "408"):
                raise nats.js.errors.APIError(
                    code=int(status), description=headers.get("Description", "")
                )
            return
        meta = message.metadata
        if meta.sequence.consumer != self._delivered + 1:
            raise nats.errors.Error("a delivery was lost")
        self._delivered += 1
        self._expected -= 1
        self._next = meta.sequence.stream + 1
        found.append(Message(message.subject, message.data, dict(headers), meta.sequence.stream))
