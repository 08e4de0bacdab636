"""`polyplane worker`: one more process that projects, beside `up`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import typer
import uvloop
from rich.text import Text

from polyplane.errors import HomeBusy, Misconfigured
from polyplane.plane import Plane
from polyplane.runtime.opening import LOGIN_SETTINGS
from polyplane.serve.cli import logs
from polyplane.serve.cli.program import Program
from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.up import SIGNALS
from polyplane.settings import Settings

_URLS: Final = {
    "postgres": "database_url",
    "nats": "nats_url",
    "valkey": "cache_url",
    "s3": "objects_url",
    **LOGIN_SETTINGS,
}
"""What `up` calls an engine -> the setting."""


def worker(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Help a running up to project.

    Takes a fair share of the projections whose engines several processes may use, and of the
    sagas, and stands by to publish. When it dies or hangs, others take its share over within
    seconds. SIGTERM or Ctrl-C gives it back at once. Engines are found through the home's `up`,
    or by URLs in the settings.
    """
    with Report("worker", as_json) as report:
        settings = _settings(home)
        report.redactor = logs.configure(logging.INFO, settings)
        uvloop.run(_until_stopped(report, ctx.obj, settings))
        report.show("Stopped.")


def _settings(home: Any) -> Settings:
    """The settings, and for engines without a URL where the `up` of the home has them."""
    settings = Settings.load(home=home)
    try:
        remote = find_running(settings)
    except HomeBusy as error:
        raise Misconfigured(error.message, fix="Wait until `up` serves; then try again.") from error
    known = remote.get("urls") if remote else {}
    missing = {
        setting: known[name]
        for name, setting in _URLS.items()
        if name in known and settings.url(setting) is None
    }
    return Settings.load(home=home, **missing)


async def _until_stopped(report: Report, program: Program, settings: Settings) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        plane = Plane(applications=program.load_applications(), settings=settings, worker=True)
        await plane.open(lambda line: report.show(Text(line, "dim")))
        try:
            report.data = {"projections": sorted(plane.opened.targets)}
            report.show(f"Projecting {', '.join(report.data['projections'])}. Ctrl-C stops it.")
            report.next = "polyplane projections list"
            report.tell()
            await stopped.wait()
        finally:
            await plane.close()
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
