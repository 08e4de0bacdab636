"""How each engine of an open plane is asked whether it is well, and what the plane is at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from polyplane.embedded import EngineHealth
from polyplane.errors import PolyplaneError
from polyplane.ops.health import PING_TIMEOUT_S, Check, Work, promptly
from polyplane.runtime.opening import Open
from polyplane.stores.catalog import engine_of

SAGA_DUE_S: Final = 30.0
"""A process that dies leaves its sagas for a few seconds."""


def checks_of(opened: Open) -> list[Check]:
    """One check per engine that is in use; embedded ones tell of their restarts too."""
    kept = opened.engines.health() if opened.engines else {}
    checks = [
        Check("postgresql", "truth", opened.database.ping, True, note=_note(kept, "postgres")),
        Check("nats", "feed", opened.feed.ping, True, note=_note(kept, "nats")),
    ]
    for role, store in (
        ("vector", opened.stores.vector),
        ("series", opened.stores.series),
        ("cache", opened.stores.cache),
    ):
        if store is not None:
            name = engine_of(store)
            durable = getattr(store, "durable", True)
            checks.append(Check(name, role, store.ping, durable=durable, note=_note(kept, name)))
    if opened.stores.objects is not None:
        name = "seaweedfs" if "seaweedfs" in kept else "s3"
        ping = opened.stores.objects.ping
        checks.append(Check(name, "objects", ping, note=_note(kept, name)))
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
    if opened.epochs_ended:
        yield Work(f"epoch {opened.epoch}", "begun", opened.epochs_ended[-1])


async def sagas_of(opened: Open) -> list[Work]:
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


def _of(rows: int, of_rows: int) -> str:
    return f"{rows:,} of {of_rows:,} rows" if of_rows else ""


def _note(kept: Mapping[str, EngineHealth], name: str) -> str:
    known = kept.get(name)
    if known is None or not known.restarts:
        return ""
    return f"Restarted {known.restarts} times; last: {known.last_error}"
