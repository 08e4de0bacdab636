"""`polyplane migrate`: the tables of truth, up and down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, TypeVar

import typer
from rich.table import Table

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
from polyplane.serve.cli.program import Program
from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    help="Bring the tables of truth up or down.", no_args_is_help=True, add_completion=False
)


@app.command()
def up(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Run every migration that was not run yet.

    One transaction each: one that fails leaves nothing behind.
    """
    with Report("migrate up", as_json) as report:
        components = _components(ctx.obj)
        applied = _on_truth(Settings.load(home=home), lambda url: migrate_up(url, components))
        _tell(report, applied)
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
        applied = _on_truth(Settings.load(home=home), lambda url: migrate_down(url, chosen, to))
        _tell(report, applied)
        report.next = "polyplane migrate up"


@app.command()
def status(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show where each component stands, and what waits."""
    with Report("migrate status", as_json) as report:
        components = _components(ctx.obj)
        found = _on_truth(Settings.load(home=home), lambda url: migration_status(url, components))
        report.data = {"components": [asdict(one) for one in found]}
        table = Table("component", "revision", "waiting", box=None)
        for one in found:
            table.add_row(one.component, one.current or "none", ", ".join(one.pending) or "nothing")
        report.show(table)
        report.next = f"polyplane {'migrate up' if any(one.pending for one in found) else 'up'}"


def _components(program: Program) -> list[Component]:
    applications = program.load_applications()
    return [CORE, *(Component(a.name, a.migrations) for a in applications if a.migrations)]


def _tell(report: Report, applied: list[Applied]) -> None:
    report.data = {"applied": [asdict(one) for one in applied]}
    for one in applied:
        report.show(f"{one.component} {one.direction} {one.revision}: {one.doc}")
    if not applied:
        report.show("Nothing to do.")


def _on_truth(settings: Settings, work: Callable[[str], Awaitable[T]]) -> T:
    """Do `work` on the database: the one of the settings, of a running `up`, or started for it."""
    return asyncio.run(_work_on_truth(settings, work))


async def _work_on_truth(settings: Settings, work: Callable[[str], Awaitable[T]]) -> T:
    url = settings.url("database_url")
    if url is None and (remote := find_running(settings)) is not None:
        url = str(remote.get("urls")["postgres"])
    if url is not None:
        return await work(url)
    engines = Engines(settings.home, wanted=("postgres",))
    await engines.start()
    try:
        return await work(engines.urls["postgres"])
    finally:
        await engines.stop()
