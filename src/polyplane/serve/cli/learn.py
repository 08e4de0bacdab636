"""`polyplane agents learn`: files that are read here become knowledge on the plane."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from polyplane.errors import Refused
from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.program import Program, load
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings


def learn(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files and folders (default: Python's standard library)."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose: an organization's short name.")] = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Learn concepts and how they relate from Python, Markdown and text files.

    Only what is new or has changed is learned; what was learned from files that are gone is
    forgotten. Files that cannot be learned are told of and stop nothing.
    """
    with Report("agents learn", as_json) as report:
        program: Program = ctx.obj
        if not program.learn:
            raise Refused("No application of this program learns.")
        run = load(program.learn)

        async def work(call: Call) -> Any:
            return await run(call, tenant, paths or [], tell=report.show)

        done = as_operator(ctx, report, Settings.load(home=home), work)
        report.data = asdict(done) | {
            "skipped_files": [it._asdict() for it in done.skipped_files],
            "token": done.token and str(done.token),
        }
        report.show(
            f"{done.files:,} files: {done.changed:,} learned, {done.removed:,} gone,"
            f" {done.skipped:,} not to be learned; {done.duration_s:.1f} s."
        )
        if done.touched:
            table = Table("rows written", "", box=None)
            for name, rows in done.touched.items():
                table.add_row(name.replace("_", " "), f"{rows:,}")
            report.show(table)
        report.show(f"{done.concepts:,} concepts and {done.relations:,} relations are known.")
        report.next = 'polyplane search --hybrid "how do I ..."'
