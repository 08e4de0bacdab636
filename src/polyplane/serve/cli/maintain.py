"""`polyplane maintain`: what engines are asked to do now and then."""

from __future__ import annotations

from typing import Annotated

import typer

from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="Count and empty what may be emptied.", no_args_is_help=True, add_completion=False
)


@app.callback()
def _group() -> None:
    """More engines follow."""


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
