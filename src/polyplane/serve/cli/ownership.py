"""`polyplane ownership`: which store owns what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from polyplane.errors import NotFound
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings


def ownership(
    ctx: typer.Context,
    application: Annotated[
        str | None, typer.Argument(help="Only this application (default: all).")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show which store owns what, and what only follows from it."""
    with Report("ownership", as_json) as report:
        from polyplane.runtime.declared import Declared  # the help needs no declarations
        from polyplane.runtime.ownership import ownership_of

        applications = ctx.obj.load_applications()
        if application is not None:
            applications = [it for it in applications if it.name == application]
            if not applications:
                raise NotFound(
                    f"There is no application {application!r}.",
                    fix=f"There are: {', '.join(ctx.obj.applications)}.",
                )
        found = ownership_of(Declared.of(applications, (), (), ()), Settings.load(home=home))
        report.data = {"holdings": [{**asdict(it), "is_owned": it.is_owned} for it in found]}
        table = Table("what", "in", "application", "owned, or follows from", box=None)
        for column in table.columns:
            column.overflow = "fold"
        for it in found:
            source = "owned" if it.is_owned else ", ".join(it.follows_from)
            table.add_row(it.what, f"{it.store} {it.kind}", it.application, source)
        report.show(table)
        report.next = "polyplane verify"
