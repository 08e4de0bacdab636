"""Health: every engine asked at once, each with its own deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Literal

from polyplane.errors import PolyplaneError

Status = Literal["healthy", "degraded", "failed"]

PING_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One engine and how to ask it: `ping` returns when it answers and raises when not.

    Without an `essential` engine nothing works; without another, a part does not. An engine that
    is not `durable` may lose items by design (a cache) or can give no barrier. `note` says what
    else is known of it, as that it was restarted.
    """

    engine: str
    role: str
    ping: Callable[[], Awaitable[None]]
    essential: bool = False
    durable: bool = True
    note: str = ""


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
class Health:
    """The whole: failed without an essential engine, degraded without another one."""

    status: Status
    engines: tuple[EngineHealth, ...]


async def examine(checks: Sequence[Check], *, timeout_s: float = PING_TIMEOUT_S) -> Health:
    """Ask every engine at once. Never raises for an engine that is down: that is the answer."""
    engines = await asyncio.gather(*(_ask(check, timeout_s) for check in checks))
    down = [check for check, it in zip(checks, engines, strict=True) if it.status == "failed"]
    if any(check.essential for check in down):
        return Health("failed", tuple(engines))
    return Health("degraded" if down else "healthy", tuple(engines))


async def _ask(check: Check, timeout_s: float) -> EngineHealth:
    started = perf_counter()
    status: Status = "healthy"
    detail = check.note
    try:
        async with asyncio.timeout(timeout_s):
            await check.ping()
    except TimeoutError:
        status, detail = "failed", f"No answer within {timeout_s:g} s."
    except (PolyplaneError, OSError) as error:
        status, detail = "failed", str(error)
    latency_ms = (perf_counter() - started) * 1e3
    return EngineHealth(check.engine, check.role, status, latency_ms, check.durable, detail)
