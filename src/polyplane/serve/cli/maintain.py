"""`polyplane maintain`: what engines are asked to do now and then."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.remote import Call, find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="Look after tables and stores; count and empty what may be emptied.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def cache(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only count.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Count the entries of the request cache; with --yes delete them, and nothing else."""
    with Report("maintain cache", as_json) as report:
        settings = Settings.load(home=home)
        remote = find_running(settings)
        if remote is not None:
            held = remote.get("cache")
            cleared = remote.post("cache/clear")["entries"] if yes else 0
        else:
            from polyplane.serve.cli.opening import OwnPlane  # loads every engine

            held, cleared = OwnPlane(report, ctx.obj, settings).cache(clear=yes)
        report.data = {"held": held, "cleared": cleared}
        told = f"{held['entries']:,} entries of {held['bytes']:,} bytes"
        report.show(f"{told}; {held['counting']:,} of them count.")
        if yes:
            report.show(f"{cleared:,} deleted.")
        elif held["entries"]:
            report.show("Nothing was changed. To delete them: polyplane maintain cache --yes")
        report.next = "polyplane status"


@app.command()
def truth(
    ctx: typer.Context,
    statistics_only: Annotated[
        bool, typer.Option("--statistics-only", help="Only ANALYZE: the planner's statistics.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """VACUUM and ANALYZE the tables of the plane and its applications; nobody is held up."""
    with Report("maintain truth", as_json) as report:

        async def work(call: Call) -> Any:
            asked = {"statistics_only": statistics_only}
            return await call("POST", "ops/maintain/truth", parameters=asked)

        report.data = as_operator(ctx, report, Settings.load(home=home), work)
        report.show(f"{report.data['tables']:,} tables were looked after.")
        report.next = "polyplane status"


@app.command()
def stores(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Compact what vector stores and graphs hold, by their engines' own means."""
    with Report("maintain stores", as_json) as report:

        async def work(call: Call) -> Any:
            return await call("POST", "ops/maintain/stores")

        report.data = as_operator(ctx, report, Settings.load(home=home), work)
        for kind, collections in report.data["collections"].items():
            report.show(f"{kind}: {collections:,} collections.")
        report.next = "polyplane verify"
