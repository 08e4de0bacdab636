"""Health: every engine asked at once, each with its own deadline; and what else goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal, TypeVar

from polyplane.errors import PolyplaneError

Status = Literal["healthy", "degraded", "failed"]

State = Literal[
    "waiting",
    "filling",
    "proving",
    "switching",
    "transforming",
    "begun",
    "lost",
    "stuck",
    "violated",
]

WAITS_S_MAX: Final = 10.0
"""A collection that nothing could be applied to for longer is no passing fault."""
PING_TIMEOUT_S: Final = 0.8
"""Below the second that probes usually wait: a hanging engine must not make us look dead."""

ROOM_BYTES_MIN: Final = 32 << 20
"""With less on its disk an engine is about to refuse writes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """One engine and how to ask it: `ping` returns when it answers and raises when not.

    Without an `essential` engine nothing works; without another, a part does not. An engine that
    is not `durable` may lose items by design (a cache) or can give no barrier. `note` says what
    else is known of it, as that it was restarted. `folder` is where its files are, when they are
    ours.
    """

    engine: str
    role: str
    ping: Callable[[], Awaitable[None]]
    essential: bool = False
    durable: bool = True
    note: str = ""
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """What one engine answered, and how fast."""

    engine: str
    role: str
    status: Status
    latency_ms: float
    durable: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What this process does that is more, or less, than to follow the changes.

    A collection (`what`) is filled, proven, switched to or, since `waits_s` seconds, waits for a
    fault to pass; a stream waits, or has lost messages; an epoch was begun; rows are transformed;
    or sagas, or a transformation that has failed, are stuck until somebody looks at them. A store
    that gave what a caller may not see has violated their scope. `detail` says how far it is, or
    why.
    """

    what: str
    state: State
    detail: str = ""
    waits_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """The whole: failed without an essential engine; degraded without another one, when one has
    no room left on its disk, when a collection has waited for longer than WAITS_S_MAX, a saga or a
    transformation is stuck, or a scope was violated.
    """

    status: Status
    engines: tuple[EngineHealth, ...]
    work: tuple[Work, ...] = ()


async def examine(
    checks: Sequence[Check], work: Sequence[Work] = (), *, timeout_s: float = PING_TIMEOUT_S
) -> Health:
    """Ask every engine at once. Never raises for an engine that is down: that is the answer."""
    engines = await asyncio.gather(*(_ask(check, timeout_s) for check in checks))
    down = [check for check, it in zip(checks, engines, strict=True) if it.status == "failed"]
    narrow = any(it.status == "degraded" for it in engines)
    status: Status = "degraded" if down or narrow or _stand_still(work) else "healthy"
    if any(check.essential for check in down):
        status = "failed"
    return Health(status, tuple(engines), tuple(work))


def _stand_still(work: Sequence[Work]) -> bool:
    return any(it.waits_s > WAITS_S_MAX or it.state in ("stuck", "violated") for it in work)


async def promptly(call: Awaitable[T], timeout_s: float) -> T:
    """What `call` returns, or TimeoutError at the deadline, whether it obeys its end or not.

    A driver that is cancelled asks a hanging server to cancel, too, and waits for that.
    """
    task = asyncio.ensure_future(call)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.add_done_callback(_let_go)
        task.cancel()
        raise TimeoutError
    return task.result()


def _let_go(task: asyncio.Future[Any]) -> None:
    """Look at the fault of a call nobody waits for any more; else Python complains of it."""
    if not task.cancelled():
        task.exception()


async def _ask(check: Check, timeout_s: float) -> EngineHealth:
    started = perf_counter()
    status: Status = "healthy"
    detail = check.note
    try:
        await promptly(check.ping(), timeout_s)
    except TimeoutError:
        status, detail = "failed", f"No answer within {timeout_s:g} s."
    except (PolyplaneError, OSError) as error:
        status, detail = "failed", str(error)
    latency_ms = (perf_counter() - started) * 1e3
    if status == "healthy" and (narrow := _without_room(check.folder)):
        status, detail = "degraded", " ".join(filter(None, (narrow, detail)))
    return EngineHealth(check.engine, check.role, status, latency_ms, check.durable, detail)


def _without_room(folder: Path | None) -> str:
    """What is wrong with the disk below `folder`, or nothing."""
    try:
        found = os.statvfs(folder) if folder is not None else None
    except OSError as error:
        return f"Its disk does not answer: {error}."
    free = found.f_bavail * found.f_frsize if found else ROOM_BYTES_MIN
    return "" if free >= ROOM_BYTES_MIN else f"No room: {free >> 20} MB are free in {folder}."
