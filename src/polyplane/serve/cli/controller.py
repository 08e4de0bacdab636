"""`polyplane controller`: the laboratory's hands."""

from __future__ import annotations

import asyncio
import platform
from typing import Annotated

import typer

from polyplane.serve.cli import logs
from polyplane.serve.cli.program import Program, load
from polyplane.serve.cli.remote import find_running, nats_url_of
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings


def controller(
    ctx: typer.Context,
    identity: Annotated[
        str, typer.Option("--id", help="Its name (default: this machine's).")
    ] = platform.node(),
    nats_url: Annotated[
        str | None, typer.Option(help="NATS (default: the setting, or the home's own).")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose work orders it takes.")] = "default",
    idle_exit_s: Annotated[
        float | None, typer.Option(min=1, help="End when no work order came for so many seconds.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Carry out the laboratory's work orders on this machine.

    Speaks only NATS. Runs until it is stopped (SIGTERM or Ctrl-C), and finishes the activity at
    hand first.
    """
    with Report("controller", as_json) as report:
        program: Program = ctx.obj
        settings = Settings.load(home=home, nats_url=nats_url)
        url = nats_url_of(settings, find_running(settings), "laboratory", tenant, identity)
        report.redactor = logs.configure(settings=settings)
        report.show(f"Controller {identity} waits for work orders; Ctrl-C stops it.")
        run = load(program.controller)
        work = run(
            url, identity, namespace=settings.namespace, tenant=tenant, idle_exit_s=idle_exit_s
        )
        done = asyncio.run(work)
        report.data = {"id": identity, "work_orders": done}
        report.show(f"{done} work orders done.")
        report.next = "polyplane status"
