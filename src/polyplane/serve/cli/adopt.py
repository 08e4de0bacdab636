"""`polyplane adopt`: project the tables of an existing database, and take it back."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from polyplane.serve.adoption import (
    AdoptReport,
    RemoveReport,
    run_adopt,
    run_remove,
    settings_of,
)
from polyplane.serve.cli import logs
from polyplane.serve.cli.report import Home, Json, Report


def adopt(
    url: Annotated[str, typer.Argument(help="The database: postgresql://user@host/name")],
    tables: Annotated[
        list[str] | None, typer.Argument(help="Only these tables (default: all that can be).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The Python file to write (default: <name>_plane.py).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over that file.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take back all that was added to the database.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Project the tables of an existing database.

    Writes a Python file with a model and a first projection of each table, installs capture,
    fills the stores and proves that they agree. Adds a schema `polyplane` and triggers to the
    database, and changes no row of it.
    """
    with Report("adopt", as_json) as report:
        settings = settings_of(url, home)
        report.redactor = logs.configure(settings=settings)

        def tell(line: str) -> None:
            report.show(Text(line, "dim"))

        if remove:
            taken = asyncio.run(run_remove(settings, tell))
            report.data = asdict(taken)
            report.show(_removed(taken))
            return
        found = asyncio.run(run_adopt(settings, tables or [], out=out, force=force, tell=tell))
        report.data = asdict(found)
        report.show(*_adopted(found))
        if found.is_clean:
            report.next = f"DATABASE_URL={shlex.quote(url)} python {shlex.quote(str(found.out))}"
        else:
            report.status, report.exit_code = "drift", 1


def _adopted(found: AdoptReport) -> list[RenderableType]:
    table = Table("table", "projection", "rows", "items", "drift", box=None)
    for it in found.tables:
        table.add_row(it.table, it.projection, f"{it.rows:,}", f"{it.items:,}", f"{it.drift:,}")
    rows = sum(it.rows for it in found.tables)
    skipped = [
        Text(f"Not adopted: {name}: {why}.", "yellow") for name, why in found.skipped.items()
    ]
    timing = f"{rows:,} rows filled in {found.fill_s:g} s, verified in {found.verify_s:g} s."
    return [table, *skipped, Text(timing)]


def _removed(taken: RemoveReport) -> str:
    return (
        f"Taken back: capture of {len(taken.tables)} tables, {len(taken.collections)} collections,"
        f" {len(taken.streams)} streams and the schema polyplane. Your tables are as they were."
    )
