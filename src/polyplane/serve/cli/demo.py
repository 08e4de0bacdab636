"""`polyplane demo`: an application, end to end, on a plane that it starts unless one runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from polyplane.errors import Refused, Unavailable
from polyplane.serve.cli import logs
from polyplane.serve.cli.child import child_up
from polyplane.serve.cli.exposed import mark_demo
from polyplane.serve.cli.program import Program, load
from polyplane.serve.cli.remote import Remote, find_running, nats_url_of
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.token import ops_token
from polyplane.settings import Settings


def demo(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(help="The application: laboratory, agents or assistant.")
    ] = "laboratory",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run a real experiment through every store.

    That of the laboratory; `agents` learns Python's standard library and works with it; `assistant`
    takes in thousands of documents of this machine, and finds them. Starts
    `up` on the home unless it runs already, and stops what it started. Ctrl-C at any moment
    leaves nothing running.
    """
    with Report("demo", as_json) as report:
        program: Program = ctx.obj
        if what not in program.demo:
            raise Refused(
                f"There is no demo of {what!r}.", fix=f"One of {', '.join(program.demo)}."
            )
        settings, module = Settings.load(home=home), program.demo[what]
        report.redactor = logs.configure(settings=settings)
        with _plane_up(report, settings) as wait_for:
            # A second of imports, while the engines start.
            run_demo, render = load(f"{module}:run_demo"), load(f"{module}:render")
            remote = wait_for()
            mark_demo(settings.home)
            report.show(f"The {what} at work ...")
            done = asyncio.run(
                run_demo(
                    remote.api_url,
                    partial(nats_url_of, settings, remote, what, "default"),
                    ops_token=ops_token(settings.home),
                    namespace=settings.namespace,
                    console=None if as_json else report.console,
                )
            )
        report.data = asdict(done)
        report.show(*render(done))
        if not done.proven:
            report.status, report.exit_code = "drift", 1
        report.next = "polyplane up, then open http://127.0.0.1:8765/docs"


@contextmanager
def _plane_up(report: Report, settings: Settings) -> Iterator[Callable[[], Remote]]:
    """The running `up` of the home, or one of our own for as long as the block lasts.

    Yields a function that waits until it is ready.
    """
    running = find_running(settings)
    if running is not None:
        report.show(f"Using what runs at {running.api_url}.")
        yield lambda: running
        return
    report.show(f"Starting the engines under {settings.home} ...")
    with child_up(settings.home) as wait_until_ready:

        def started() -> Remote:
            wait_until_ready()
            remote = find_running(settings)
            if remote is None:
                raise Unavailable("up ended while it was needed.")
            return remote

        yield started
        report.show("Stopping the engines ...")
