"""How each engine of an open plane is asked whether it is well, and what the plane is at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from polyplane.embedded import EngineHealth
from polyplane.errors import PolyplaneError, StoreDown
from polyplane.model.transformation import TransformationRecord
from polyplane.ops.health import PING_TIMEOUT_S, Check, Work, promptly
from polyplane.runtime.opening import Open
from polyplane.stores.catalog import engine_of

Records = Callable[[], Awaitable[Sequence[TransformationRecord]]]
"""How far each transformation is."""

SAGA_DUE_S: Final = 30.0
"""A process that dies leaves its sagas for a few seconds."""


def checks_of(opened: Open) -> list[Check]:
    """One check per engine that is in use; embedded ones tell of their restarts too."""
    kept = opened.engines.health() if opened.engines else {}
    engines = opened.engines

    def check(
        name: str, role: str, ping: Callable[[], Awaitable[None]], kept_as: str = "", **how: Any
    ) -> Check:
        known = kept.get(kept_as or name)
        if engines is not None and known is not None:
            how["folder"] = engines.folder(known.name)
        note = " ".join(filter(None, (_note(known), *opened.damage.get(name, ()))))
        return Check(name, role, ping, note=note, **how)

    checks = [
        check("postgresql", "truth", opened.database.ping, "postgres", essential=True),
        check("nats", "feed", opened.feed.ping, essential=True),
    ]
    for role, store in (
        ("vector", opened.stores.vector),
        ("graph", opened.stores.graph),
        ("series", opened.stores.series),
        ("cache", opened.stores.cache),
    ):
        if store is not None:
            durable = getattr(store, "durable", True)
            folder = getattr(store, "folder", None)
            name = engine_of(store)
            checks.append(check(name, role, store.ping, durable=durable, folder=folder))
    if opened.stores.objects is not None:
        name = "seaweedfs" if "seaweedfs" in kept else "s3"
        checks.append(check(name, "objects", opened.stores.objects.ping))
    elif "seaweedfs" in kept:
        checks.append(check("seaweedfs", "objects", _supervised(kept["seaweedfs"])))
    return checks


def work_of(opened: Open) -> Iterator[Work]:
    """What this process is at besides following the changes; from its memory alone."""
    for name, projector in opened.projectors.items():
        fault = opened.crew.faults.get(f"projector {name}", "")
        if not projector.is_running:
            done = _of(projector.filled_rows, projector.filled_of_rows)
            yield Work(name, "filling", "; ".join(filter(None, (done, fault))))
        elif projector.last_error:
            yield Work(name, "waiting", projector.last_error, projector.waits_s)
    for name, rebuild in opened.rebuilds.items():
        fault = opened.crew.faults.get(f"rebuild {name}", "")
        done = _of(rebuild.rows, rebuild.of_rows)
        yield Work(name, rebuild.phase, "; ".join(filter(None, (done, fault))))
    for name, ingest in opened.ingests.items():
        if ingest.lost_messages:
            lost = (
                f"{ingest.lost_messages:,} messages are gone from the feed, and nobody had stored"
            )
            yield Work(f"stream {name}", "lost", f"{lost} them.")
        if ingest.last_error:
            yield Work(f"stream {name}", "waiting", ingest.last_error)
    for place, times in sorted(opened.alarms.violations.items()):
        told = f"{times:,} answers held what is not the caller's; none was given. See the log."
        yield Work(place, "violated", told)
    if opened.recorder is not None and opened.recorder.last_error:
        yield Work("request cache", "waiting", opened.recorder.last_error)
    if opened.sealer is not None and opened.sealer.fault:
        yield Work("audit", "waiting", opened.sealer.fault)
    if opened.epochs_ended:
        yield Work(f"epoch {opened.epoch}", "begun", opened.epochs_ended[-1])


async def noted_of(opened: Open, records: Records) -> list[Work]:
    """What this and other processes are at, by truth."""
    sagas, transformed = await asyncio.gather(_sagas(opened), _transformed(records))
    return [*sagas, *transformed]


async def _sagas(opened: Open) -> list[Work]:
    """What sagas wait for people, or for a process that does them; nothing while truth is down."""
    found = []
    if opened.runner is not None and opened.runner.fault:
        found.append(Work("sagas", "waiting", opened.runner.fault))
    try:
        counts = await promptly(opened.sagas.counts(), PING_TIMEOUT_S)
    except (PolyplaneError, TimeoutError):
        return found  # its own check says so
    for it in counts:
        if it.state in ("stuck", "changed"):
            told = f"{it.sagas:,} {it.state}; see: polyplane sagas list --state {it.state}"
            found.append(Work("sagas", "stuck", told, it.oldest_s))
        elif it.due_s > SAGA_DUE_S:
            told = f"One has been due for {it.due_s:.0f} s, and no process takes it up."
            found.append(Work("sagas", "waiting", told, it.due_s))
    return found


async def _transformed(records: Records) -> list[Work]:
    """What is transformed, or was to be and is not; nothing while truth is down."""
    try:
        known = await promptly(records(), PING_TIMEOUT_S)
    except (PolyplaneError, TimeoutError):
        return []  # its own check says so
    found = []
    for it in known:
        what, dead = f"transformation {it.name}", f"{it.dead:,} dead" if it.dead else ""
        if it.state == "failed":
            told = f"{it.error} When that is mended: polyplane transform run {it.name}"
            found.append(Work(what, "stuck", told))
        elif it.state == "running" and it.error:
            found.append(Work(what, "waiting", it.error))
        elif it.state == "running":
            done = _of(it.read, max(it.about, it.read)) or it.phase
            found.append(Work(what, "transforming", ", ".join(filter(None, (done, dead)))))
    return found


def _of(rows: int, of_rows: int) -> str:
    return f"{rows:,} of {of_rows:,} rows" if of_rows else ""


def _note(known: EngineHealth | None) -> str:
    if known is None:
        return ""
    restarts = known.restarts and f"Restarted {known.restarts} times; last: {known.last_error}"
    return " ".join(filter(None, (restarts or "", known.note)))


def _supervised(known: EngineHealth) -> Callable[[], Awaitable[None]]:
    """What its supervisor knows, for an engine that this plane does not speak to."""

    async def ping() -> None:
        if known.state != "up":
            raise StoreDown(f"{known.name} is {known.state}: {known.last_error}")

    return ping
