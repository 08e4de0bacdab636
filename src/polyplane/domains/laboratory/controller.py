"""A controller: a program of its own that speaks only NATS and measures on the machine it is on.

It takes work orders from the events stream, performs their activities, publishes the telemetry and
reports what became of each. A work order is acknowledged when all of it is done, so a controller
that dies leaves it to the next one; what was done already has the same ids then and counts once.
docs/laboratory.md describes the subjects and messages for controllers in other languages.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import nats
import nats.errors
import pyarrow as pa
import stamina
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig
from nats.js.errors import Error as JetStreamError

import polyplane as pp
from polyplane.domains.laboratory import measurement, wire
from polyplane.domains.laboratory.lifecycle import Kind
from polyplane.domains.laboratory.measurement import Reading
from polyplane.domains.laboratory.wire import Activity, Report, WorkOrder

CALL_TIMEOUT_S: Final = 5.0
FETCH_TIMEOUT_S: Final = 0.5
"""How long one look for work takes, hence how long a stop may take when there is none."""
RETRY_PAUSE_S: Final = 2.0
RETRY_S_MAX: Final = 120.0
"""How long a message is tried before the work order is left to be delivered again."""
ACK_WAIT_S: Final = 30.0
REMEMBERED_MAX: Final = 10_000
ARROW: Final = "application/vnd.apache.arrow.stream"
JSON: Final = "application/cloudevents+json"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Controller:
    """One connected controller. `stop` is looked at between activities."""

    controller_id: str
    namespace: str
    tenant: str
    feed: JetStreamContext
    stop: asyncio.Event
    is_admitted: bool = False
    """Whether it comes as a sender, who finds its consumer made and may make none."""
    done: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    """Message id -> body of the newest outcomes, to send again instead of measuring again."""

    async def serve(self, idle_exit_s: float | None) -> int:
        """Perform work orders until `stop` or until none came for `idle_exit_s`; their number."""
        orders, busy_at, subscription = 0, time.monotonic(), None
        while not self.stop.is_set():
            if idle_exit_s is not None and time.monotonic() - busy_at > idle_exit_s:
                break
            try:
                subscription = subscription or await self._subscribe()
                message = (await subscription.fetch(1, timeout=FETCH_TIMEOUT_S))[0]
            except nats.errors.TimeoutError:
                continue
            except (nats.errors.Error, JetStreamError) as error:
                log.warning("no work orders to be had; trying again", reason=str(error))
                subscription = None
                await _pause(self.stop, RETRY_PAUSE_S)
                continue
            orders += await self._perform(message)
            busy_at = time.monotonic()
        return orders

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        subject = wire.orders_subject(self.namespace, self.tenant, self.controller_id)
        durable = f"{wire.TAKER}-{self.tenant}-{self.controller_id}"
        if self.is_admitted:
            return await self.feed.pull_subscribe_bind(
                consumer=durable, stream=f"{self.namespace}-events"
            )
        return await self.feed.pull_subscribe(
            subject,
            durable=durable,
            stream=await self.feed.find_stream_name_by_subject(subject),
            config=ConsumerConfig(ack_wait=ACK_WAIT_S, max_ack_pending=1),
        )

    async def _perform(self, message: Msg) -> int:
        """Perform the work order in `message`; 1 when all of it is done and acknowledged."""
        try:
            order = wire.parse_order(message.data)
            for activity in order.activities:
                if self.stop.is_set():
                    await message.nak()
                    return 0
                await self._activity(order, activity, message)
            await message.ack_sync(timeout=CALL_TIMEOUT_S)
            return 1
        except ValueError as error:
            log.error("a work order that cannot be read is dropped", reason=str(error))
            await message.term()
        except (nats.errors.Error, JetStreamError) as error:
            # Not acknowledged: it is delivered again, and what is done already counts once.
            log.warning("a work order is left for later", reason=str(error))
        return 0

    async def _activity(self, order: WorkOrder, activity: Activity, message: Msg) -> None:
        name = f"{activity.activity_id}.{activity.attempt}"
        if (outcome := self.done.get(name)) is not None:
            await self._publish_report(outcome, f"{name}.again")
            return
        await self._report("started", activity)
        readings: list[list[Reading]] = []
        try:
            for number in range(1, measurement.PASSES + 1):
                await message.in_progress()
                readings.append(await asyncio.to_thread(_one_pass, activity))
                fraction = number / measurement.PASSES
                await self._report("progress", activity, sequence=number, progress=fraction)
            points = telemetry(order, activity, self.controller_id, readings)
        except (nats.errors.Error, JetStreamError):
            raise
        except Exception as error:
            # Whatever went wrong with a measurement is the laboratory's to know and to decide on.
            await self._report("failed", activity, error=f"{type(error).__name__}: {error}")
            return
        subject = wire.telemetry_subject(self.namespace, self.tenant)
        await self._publish(subject, _arrow(points), name, ARROW)
        result = {
            "points": points.num_rows,
            "passes": measurement.PASSES,
            "blocks": measurement.BLOCKS,
            "sample_sha256": measurement.sample_digest(),
        }
        self.done[name] = await self._report("completed", activity, result=result)
        if len(self.done) > REMEMBERED_MAX:
            self.done.popitem(last=False)

    async def _report(self, kind: Kind, activity: Activity, **said: object) -> bytes:
        """Report and return what was sent."""
        report = Report.model_validate(
            {"activity_id": activity.activity_id, "attempt": activity.attempt, **said}
        )
        event = wire.cloud_event(
            kind,
            report,
            controller_id=self.controller_id,
            tenant=self.tenant,
            time=datetime.now(UTC),
        )
        body = event.model_dump_json(exclude_none=True).encode()
        await self._publish_report(body, event.id)
        return body

    async def _publish_report(self, body: bytes, message_id: str) -> None:
        subject = wire.reports_subject(self.namespace, self.tenant, self.controller_id)
        await self._publish(subject, body, message_id, JSON)

    async def _publish(self, subject: str, body: bytes, message_id: str, content: str) -> None:
        """Return when JetStream holds the message; tries again while the connection is lost.

        `message_id` is unique in the tenant; what JetStream drops repetitions by must be in all.
        """
        headers = {"Nats-Msg-Id": f"{self.tenant}:{message_id}", "Content-Type": content}
        async for attempt in stamina.retry_context(
            on=(nats.errors.Error, JetStreamError), attempts=None, timeout=RETRY_S_MAX
        ):
            with attempt:
                await self.feed.publish(subject, body, timeout=CALL_TIMEOUT_S, headers=headers)


async def run_controller(
    nats_url: str,
    controller_id: str,
    *,
    namespace: str = "pp",
    tenant: str = "default",
    idle_exit_s: float | None = None,
    stop: asyncio.Event | None = None,
) -> int:
    """Perform the work orders of `controller_id` until SIGTERM or SIGINT; the number done.

    With `idle_exit_s` it also ends when no work order came for so long. A caller that brings its
    own `stop` keeps its own signals. Raises Misconfigured for an id that fits into no subject,
    Unavailable when NATS cannot be reached at the start; later a lost connection is waited for.
    """
    if not re.fullmatch(wire.SUBJECT_TOKEN, controller_id):
        raise pp.Misconfigured(
            f"{controller_id!r} cannot be a controller's id.",
            fix="Use letters, digits, - and _, at most 64: --id bench-1",
        )
    stop = stop or _stopped_by_signals()
    connection = await _connect(nats_url, controller_id)
    try:
        feed = connection.jetstream(timeout=CALL_TIMEOUT_S)
        controller = Controller(
            controller_id, namespace, tenant, feed, stop, "~" in _user(nats_url)
        )
        return await controller.serve(idle_exit_s)
    finally:
        await connection.close()


def telemetry(
    order: WorkOrder,
    activity: Activity,
    controller_id: str,
    passes: Sequence[Sequence[Reading]],
) -> pa.Table:
    """The points of one activity, one per reading and metric, in the columns of the stream."""
    points = [
        {
            "time": datetime.fromtimestamp(reading.at_s, UTC),
            "experiment_id": str(order.experiment_id),
            "activity_id": activity.activity_id,
            "controller_id": controller_id,
            "metric_name": metric,
            "value": value,
            "unit": measurement.UNITS[metric],
            "tags": json.dumps(
                {
                    "codec": activity.parameters["codec"],
                    "level": activity.parameters["level"],
                    "attempt": activity.attempt,
                    "pass": number,
                    "block": reading.block,
                }
            ),
        }
        for number, readings in enumerate(passes, 1)
        for reading in readings
        for metric, value in reading.values.items()
    ]
    return pa.Table.from_pylist(points)


def _one_pass(activity: Activity) -> list[Reading]:
    codec, level = activity.parameters.get("codec"), activity.parameters.get("level")
    if not isinstance(codec, str) or not isinstance(level, int):
        raise ValueError("the parameters must have a codec (text) and a level (integer)")
    return list(measurement.measure(codec, level))


def _arrow(points: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, points.schema) as writer:
        writer.write_table(points)
    return bytes(sink.getvalue())


async def _connect(nats_url: str, controller_id: str) -> Client:
    connecting = nats.connect(
        nats_url,
        name=f"controller {controller_id}",
        inbox_prefix=f"_INBOX.{_user(nats_url)}".rstrip("."),
        connect_timeout=CALL_TIMEOUT_S,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=FETCH_TIMEOUT_S,
        error_cb=_note,
    )
    try:
        # It would try for ever: whoever starts a controller is to be told.
        return await asyncio.wait_for(connecting, CALL_TIMEOUT_S)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise pp.Unavailable(
            f"NATS does not answer ({error or type(error).__name__}).",
            fix="Is `polyplane up` running?",
        ) from error


def _user(nats_url: str) -> str:
    """Who it comes as, if that is a name that fits into a subject."""
    user = urlsplit(nats_url).username or ""
    return user if re.fullmatch(r"[\w~%-]+", user) else ""


async def _note(error: Exception) -> None:
    """What the connection meets; it reconnects by itself."""
    log.warning("the connection to NATS", reason=str(error) or type(error).__name__)


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _pause(stop: asyncio.Event, timeout_s: float) -> None:
    """Until `stop`, but not longer than `timeout_s`."""
    try:
        await asyncio.wait_for(stop.wait(), timeout_s)
    except TimeoutError:
        return
