"""How a command acts as the operator: over routes of a running `up`, or of a plane of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import typer

from polyplane.serve.cli.remote import Call, find_running
from polyplane.serve.cli.report import Report
from polyplane.settings import Settings

T = TypeVar("T")


def as_operator(
    ctx: typer.Context, report: Report, settings: Settings, work: Callable[[Call], Awaitable[T]]
) -> T:
    """What `work` comes to, given the routes of this home's plane."""
    remote = find_running(settings)
    if remote is None:
        from polyplane.serve.cli.opening import OwnPlane  # loads every engine

        return OwnPlane(report, ctx.obj, settings).asked(work)

    async def call(method: str, path: str, **given: Any) -> Any:
        return await asyncio.to_thread(remote.call, method, path, **given)

    async def run() -> T:
        return await work(call)

    return asyncio.run(run())
