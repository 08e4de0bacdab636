"""The plane's figures as metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import structlog

from polyplane.errors import Misconfigured, Unavailable
from polyplane.ops.health import promptly
from polyplane.ops.metrics import Sample
from polyplane.plane import Plane

TRUTH_TIMEOUT_S: Final = 2.0

log = structlog.get_logger("polyplane.api")


async def samples(plane: Plane) -> list[Sample]:
    """Everything the plane can say about itself at this moment."""
    found, projections, evicted = await asyncio.gather(
        _engines(plane), _projections_if_any(plane), _evicted(plane)
    )
    return [*found, *_flow(plane), *evicted, *projections]


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
    yield from _requests(plane)
    yield from _embeddings(plane)
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


def _embeddings(plane: Plane) -> Iterator[Sample]:
    """What embedders that cost were asked for by this process."""
    for model, (spent, kept, cost) in plane.embeddings.spent().items():
        for name, told, value in (
            ("polyplane_embedding_requests", "Requests sent to the embedder.", spent.requests),
            ("polyplane_embedding_failed_requests", "Those that gave nothing.", spent.failed),
            ("polyplane_embedding_texts", "Texts embedded.", spent.texts),
            (
                "polyplane_embedding_kept_texts",
                "Texts not sent, since their vectors were kept.",
                kept,
            ),
            ("polyplane_embedding_tokens", "Tokens of the texts embedded.", spent.tokens),
            ("polyplane_embedding_cost", "What they cost, by the price that is set.", float(cost)),
        ):
            labels = (("model", model),)
            yield Sample(name, "counter", told, value, labels)


_READS: Final = ("hit", "miss", "direct", "stale")
_LOADS: Final = ("load", "failed", "early")


def _requests(plane: Plane) -> Iterator[Sample]:
    """What the request cache counts; what else it counts are fills that were refused, by why."""
    if plane.opened.requests is None:
        return
    counts = plane.opened.requests.loads.counts
    for result in _READS:
        told = "Reads of the request cache; of the misses some were answered past it, or stale."
        labels = (("result", result),)
        yield Sample("polyplane_request_cache_reads", "counter", told, counts[result], labels)
    for kind in _LOADS:
        told = "Loads for the request cache: all, those that failed, those before their time."
        labels = (("kind", kind),)
        yield Sample("polyplane_request_cache_loads", "counter", told, counts[kind], labels)
    for why, times in sorted(counts.items()):
        if why not in (*_READS, *_LOADS):
            told = "Loads that the request cache did not keep."
            labels = (("why", why),)
            yield Sample("polyplane_request_cache_refused", "counter", told, times, labels)


async def evictions(plane: Plane) -> tuple[int, float] | None:
    """How many keys the cache's server has let go of, of whatever kind, and in how many seconds;
    None when it does not say.
    """
    if plane.opened.requests is None:
        return None
    try:
        return await promptly(plane.opened.requests.store.evictions(), TRUTH_TIMEOUT_S)
    except (Misconfigured, Unavailable, TimeoutError):  # polyplane_engine_up says so
        return None


async def _evicted(plane: Plane) -> list[Sample]:
    found = await evictions(plane)
    told = "Keys that the cache's server evicted to make room, whoever's."
    if found is None:
        return []
    return [Sample("polyplane_cache_evicted_keys", "counter", told, found[0])]


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
