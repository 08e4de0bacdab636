"""`polyplane migrate`: the tables of truth, up and down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Annotated, TypeVar
from urllib.parse import unquote, urlsplit

import typer
from rich.table import Table
from rich.text import Text

from polyplane.embedded import Engines
from polyplane.errors import NotFound
from polyplane.ops.migrate import (
    CORE,
    Applied,
    Component,
    migrate_down,
    migrate_up,
    migration_status,
)
from polyplane.runtime.opening import LOGIN_SETTINGS
from polyplane.runtime.truth import guard_again, user_of
from polyplane.security.grants import roles_sql
from polyplane.security.logins import NAMES, Logins
from polyplane.serve.cli.program import Program
from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

T = TypeVar("T")
Urls = Mapping[str, str]

app = typer.Typer(
    help="Bring the tables of truth up or down.", no_args_is_help=True, add_completion=False
)


@app.command()
def up(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Run every migration that was not run yet, and guard rows as their models say.

    One transaction each: one that fails leaves nothing behind. Policies that somebody has changed
    are made again.
    """
    with Report("migrate up", as_json) as report:
        components = _components(ctx.obj)
        models = [model for it in ctx.obj.load_applications() for model in it.models]

        async def work(urls: Urls) -> tuple[list[Applied], list[str]]:
            applied = await migrate_up(urls["postgres"], components)
            return applied, await guard_again(models, urls)

        applied, guarded = _on_truth(Settings.load(home=home), work)
        _tell(report, applied)
        report.data["guarded"] = guarded
        for table in guarded:
            report.show(f"{table}: its policies were made.")
        report.next = "polyplane migrate status"


@app.command()
def down(
    ctx: typer.Context,
    component: Annotated[str, typer.Argument(help="core, or an application.")],
    to: Annotated[str, typer.Option(help="A revision, base for all, or -n for the last n.")] = "-1",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take migrations of one component back, with all that their tables hold."""
    with Report("migrate down", as_json) as report:
        known = {known.name: known for known in _components(ctx.obj)}
        if component not in known:
            raise NotFound(f"There is no {component!r}.", fix=f"Known: {', '.join(known)}.")
        chosen = known[component]
        settings = Settings.load(home=home)
        applied = _on_truth(settings, lambda urls: migrate_down(urls["postgres"], chosen, to))
        _tell(report, applied)
        report.next = "polyplane migrate up"


@app.command()
def status(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show where each component stands, and what waits."""
    with Report("migrate status", as_json) as report:
        components = _components(ctx.obj)
        settings = Settings.load(home=home)
        found = _on_truth(settings, lambda urls: migration_status(urls["postgres"], components))
        report.data = {"components": [asdict(one) for one in found]}
        table = Table("component", "revision", "waiting", box=None)
        for one in found:
            table.add_row(one.component, one.current or "none", ", ".join(one.pending) or "nothing")
        report.show(table)
        report.next = f"polyplane {'migrate up' if any(one.pending for one in found) else 'up'}"


@app.command()
def roles(home: Home = None, as_json: Json = False) -> None:
    """Print what makes the logins of fewer rights on a PostgreSQL of one's own.

    For a superuser, or whoever may create roles, to run once; then give each a password and set
    POLYPLANE_DATABASE_APP_URL and the others. An embedded PostgreSQL has them already.
    """
    with Report("migrate roles", as_json) as report:
        settings = Settings.load(home=home)
        url = settings.url("database_url")
        if url is None:
            raise NotFound("The embedded PostgreSQL makes its logins itself.")
        owner = user_of(url)
        names = {
            name: user_of(settings.url(f"database_{name}_url") or "") or f"{owner}_{name}"
            for name in NAMES
        }
        database = unquote(urlsplit(url).path.removeprefix("/"))
        lines = roles_sql(Logins(owner, **names), database)
        report.data = {"statements": lines}
        for line in lines if not as_json else ():
            # As it is: a line that is broken in a name is another statement.
            report.console.print(Text(line), soft_wrap=True)


def _components(program: Program) -> list[Component]:
    applications = program.load_applications()
    return [CORE, *(Component(a.name, a.migrations) for a in applications if a.migrations)]


def _tell(report: Report, applied: list[Applied]) -> None:
    report.data = {"applied": [asdict(one) for one in applied]}
    for one in applied:
        report.show(f"{one.component} {one.direction} {one.revision}: {one.doc}")
    if not applied:
        report.show("Nothing to do.")


def _on_truth(settings: Settings, work: Callable[[Urls], Awaitable[T]]) -> T:
    """Do `work` on the database: the one of the settings, of a running `up`, or started for it."""
    return asyncio.run(_work_on_truth(settings, work))


async def _work_on_truth(settings: Settings, work: Callable[[Urls], Awaitable[T]]) -> T:
    if url := settings.url("database_url"):
        named = {it: settings.url(name) for it, name in LOGIN_SETTINGS.items()}
        return await work({"postgres": url, **{it: at for it, at in named.items() if at}})
    if (remote := find_running(settings)) is not None:
        return await work(remote.get("urls"))
    engines = Engines(settings.home, wanted=("postgres",))
    await engines.start()
    try:
        return await work({**engines.urls, **engines.logins})
    finally:
        await engines.stop()
