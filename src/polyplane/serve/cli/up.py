"""`polyplane up`: engines, flows and API in one process, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
import uvloop
from rich.table import Table
from rich.text import Text

from polyplane.access.first import check_first, make_first
from polyplane.embedded import Engines
from polyplane.plane import Plane
from polyplane.serve.api.app import create_app
from polyplane.serve.api.server import Server, bind
from polyplane.serve.cli import logs
from polyplane.serve.cli.exposed import check_address, check_people, names_of, origins_of
from polyplane.serve.cli.program import Program
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What asks us to stop: a supervisor, Ctrl-C, the terminal that is closed."""

Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port of the API; without it, a taken one is replaced."),
]


def up(
    ctx: typer.Context,
    port: Port = None,
    home: Home = None,
    as_json: Json = False,
    with_stdin: Annotated[
        bool, typer.Option("--with-stdin", help="Stop, too, when standard input ends.")
    ] = False,
) -> None:
    """Run the engines, the flows and the API until stopped.

    Engines that have a URL in the settings are used, the others run embedded under the home.
    SIGTERM or Ctrl-C finishes the requests at hand, stops everything in order and exits 0. With
    `--json` the envelope is printed once all is ready.
    """
    with Report("up", as_json) as report:
        settings = Settings.load(home=home, api_port=port)
        check_address(settings)
        report.redactor = logs.configure(logging.INFO, settings)
        uvloop.run(_Run(report, ctx.obj, settings).until_stopped(port is None, with_stdin))
        report.show("Stopped.")


class _Run:
    """One run of `up`. A signal gives up what is being opened, or ends what is being served."""

    def __init__(self, report: Report, program: Program, settings: Settings) -> None:
        self._report = report
        self._program = program
        self._settings = settings
        self._opening: asyncio.Task[None] | None = None
        self._server: Server | None = None
        self._is_stopping = False

    async def until_stopped(self, may_move: bool, with_stdin: bool) -> None:
        """Open everything, serve until a signal, close everything."""
        check_first(*self._first())
        applications = self._program.load_applications()
        plane = Plane(applications=applications, settings=self._settings)
        host = self._settings.api_host
        with self._signals(with_stdin), bind(host, self._settings.api_port, or_any=may_move) as at:
            self._opening = asyncio.current_task()
            try:
                async with AsyncExitStack() as stack:
                    await plane.open(lambda line: self._report.show(Text(line, "dim")))
                    stack.push_async_callback(plane.close)
                    url = _url(at.getsockname())
                    self._report.redactor.learn(logs.known_secrets(self._settings))
                    await self._make_first(plane)
                    await check_people(self._settings, plane.identity.people)
                    (await self._held_home(plane, stack)).publish_owner(url)
                    app = create_app(
                        plane,
                        applications,
                        hosts=names_of(self._settings),
                        origins=origins_of(self._settings),
                    )
                    proxies, hub = self._settings.api_proxies, plane.opened.live.hub
                    self._server = Server(app, proxies=proxies, hub=hub)
                    self._announce(plane, url)
                    await self._server.serve(sockets=[at])
            except asyncio.CancelledError:
                if not self._is_stopping:
                    raise

    def stop(self) -> None:
        """Stop in order; asked again, do not wait for requests at hand."""
        if self._server is not None:
            self._server.force_exit = self._is_stopping
            self._server.should_exit = True
        elif not self._is_stopping and self._opening is not None:
            self._opening.cancel()
        self._is_stopping = True

    @contextmanager
    def _signals(self, with_stdin: bool) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)
        if with_stdin:
            loop.add_reader(sys.stdin.fileno(), self._on_stdin)
        try:
            yield
        finally:
            if with_stdin:
                loop.remove_reader(sys.stdin.fileno())
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _on_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.stop()

    async def _make_first(self, plane: Plane) -> None:
        """The first administrator, if one is named and there is none."""
        people = plane.identity.people
        made = await make_first(self._settings.home, people, *self._first())
        if made is not None:
            self._report.show(f"{made.email} is the administrator of this plane.")

    def _first(self) -> tuple[str, str]:
        settings = self._settings
        return settings.init_admin_email, settings.url("init_admin_password") or ""

    async def _held_home(self, plane: Plane, stack: AsyncExitStack) -> Engines:
        """The engines of the home; when every engine has a URL, none, but the home is ours."""
        if plane.opened.engines is not None:
            return plane.opened.engines
        engines = Engines(self._settings.home, wanted=())
        await engines.start()
        stack.push_async_callback(engines.stop)
        return engines

    def _announce(self, plane: Plane, url: str) -> None:
        shown = {
            name: without_secrets(engine)
            for name, engine in plane.opened.urls.items()
            if "." not in name  # a login of an engine
        }
        self._report.data = {
            "api_url": url,
            "home": str(self._settings.home),
            "engines": shown,
        }
        table = Table("engine", "where", box=None)
        for name, engine in shown.items():
            table.add_row(name, engine)
        self._report.show(table, f"API {url}, its documentation {url}/docs. Ctrl-C stops it all.")
        self._report.next = "polyplane demo (in another terminal), or polyplane status"
        self._report.tell()


def without_secrets(url: str) -> str:
    """`url` without its user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _url(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
