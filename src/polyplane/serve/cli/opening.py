"""Doing a command's work on the plane: through a running `up`, or on one opened for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from polyplane.plane import Plane
from polyplane.serve.cli import logs
from polyplane.serve.cli.program import Program
from polyplane.serve.cli.report import Report
from polyplane.settings import Settings

T = TypeVar("T")


def on_plane(
    report: Report,
    program: Program,
    settings: Settings,
    work: Callable[[Plane], Awaitable[T]],
) -> T:
    """Open the plane of `settings` with every application, do `work`, close it.

    Raises HomeBusy when another process runs the home.
    """
    logs.configure()

    async def run() -> T:
        plane = Plane(applications=program.load_applications(), settings=settings)
        await plane.open(lambda line: report.show(f"[dim]{line}[/]"))
        try:
            return await work(plane)
        finally:
            await plane.close()

    return asyncio.run(run())
