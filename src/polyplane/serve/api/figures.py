"""The plane's figures as metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import structlog

from polyplane.errors import Unavailable
from polyplane.ops.health import promptly
from polyplane.ops.metrics import Sample
from polyplane.plane import Plane

TRUTH_TIMEOUT_S: Final = 2.0

log = structlog.get_logger("polyplane.api")


async def samples(plane: Plane) -> list[Sample]:
    """Everything the plane can say about itself at this moment."""
    found, projections = await asyncio.gather(_engines(plane), _projections_if_any(plane))
    return [*found, *_flow(plane), *projections]


async def _engines(plane: Plane) -> list[Sample]:
    return [
        Sample(
            "polyplane_engine_up",
            "gauge",
            "Whether the engine answers.",
            float(engine.status != "failed"),
            (("engine", engine.engine), ("role", engine.role)),
        )
        for engine in (await plane.health()).engines
    ]


async def _projections_if_any(plane: Plane) -> list[Sample]:
    try:
        return await promptly(_projections(plane), TRUTH_TIMEOUT_S)
    except (Unavailable, TimeoutError):  # polyplane_engine_up says so, and matters the more
        log.warning("figures_incomplete")
        return []


async def _sagas(plane: Plane) -> list[Sample]:
    found = []
    for it in await plane.sagas.counts():
        labels = (("state", it.state),)
        found += [
            Sample("polyplane_sagas", "gauge", "Sagas that have not ended.", it.sagas, labels),
            Sample(
                "polyplane_saga_oldest_seconds",
                "gauge",
                "Age of the oldest of them.",
                it.oldest_s,
                labels,
            ),
            Sample(
                "polyplane_saga_due_seconds",
                "gauge",
                "For how long one has been due without being taken up.",
                it.due_s,
                labels,
            ),
        ]
    runner = plane.opened.runner
    if runner is not None:
        told = "Sagas at work in this process."
        found.append(Sample("polyplane_sagas_in_flight", "gauge", told, runner.in_flight))
    return found


def _flow(plane: Plane) -> Iterator[Sample]:
    followers = float(len(plane.opened.live.hub.followers))
    yield Sample("polyplane_live_followers", "gauge", "Who follows live updates here.", followers)
    relay = plane.opened.relay
    if relay is not None:
        yield Sample(
            "polyplane_relay_leading",
            "gauge",
            "Whether this process publishes the outbox.",
            float(relay.leading),
        )
        yield Sample(
            "polyplane_relay_published_keys",
            "counter",
            "Changed rows published by this process.",
            relay.published_keys,
        )
        yield Sample(
            "polyplane_relay_published_events",
            "counter",
            "Domain events published by this process.",
            relay.published_events,
        )
    for place, times in plane.opened.alarms.violations.items():
        yield Sample(
            "polyplane_scope_violations",
            "counter",
            "Answers of a store that held what is not the caller's; none was given.",
            times,
            (("place", place),),
        )
    for name, ingest in plane.opened.ingests.items():
        yield Sample(
            "polyplane_ingest_points",
            "counter",
            "Points stored by this process.",
            ingest.stored_points,
            (("stream", name),),
        )
    for name, follower in plane.opened.followers.items():
        yield Sample(
            "polyplane_inbound_messages",
            "counter",
            "Inbound messages handled by this process.",
            follower.handled_messages,
            (("inbound", name),),
        )


async def _projections(plane: Plane) -> list[Sample]:
    opened = plane.opened
    waiting_rows, waiting_s = await opened.journal.pending()
    found = [
        Sample("polyplane_outbox_waiting_rows", "gauge", "Rows not published yet.", waiting_rows),
        Sample("polyplane_outbox_waiting_seconds", "gauge", "Age of the oldest.", waiting_s),
    ]
    found += await _sagas(plane)
    for lag in await plane.lag():
        labels = (("projection", lag.projection),)
        found += [
            Sample(
                "polyplane_projection_published_order",
                "gauge",
                "The last order published for the projection's table.",
                lag.published,
                labels,
            ),
            Sample(
                "polyplane_projection_building",
                "gauge",
                "Whether a collection is built beside the one that is read.",
                int(bool(lag.building)),
                labels,
            ),
            Sample(
                "polyplane_projection_applied_order",
                "gauge",
                "The order up to which the store is durable.",
                lag.order,
                labels,
            ),
            Sample(
                "polyplane_projection_buckets_behind",
                "gauge",
                "Buckets with changes that are not applied.",
                lag.buckets_behind,
                labels,
            ),
            Sample(
                "polyplane_projection_parked_rows",
                "gauge",
                "Bad rows that are left aside and tried again from time to time.",
                lag.parked,
                labels,
            ),
            Sample(
                "polyplane_projection_items",
                "counter",
                "Items applied by this process.",
                lag.applied_items,
                labels,
            ),
        ]
    return found
