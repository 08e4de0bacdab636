"""`polyplane ingest`: files that are read here become documents on the plane."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from polyplane.errors import Refused
from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.program import Program, load
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.watching import watched
from polyplane.settings import Settings

SHOWN_MAX: Final = 20
"""Failures in the table; `--json` has up to 1,000."""


def ingest(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    glob: Annotated[
        list[str] | None, typer.Option(help="Only files whose name or path matches, as *.md.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Leave out files and folders that match.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read every file, also those that seem unchanged.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Have known contents parsed and cut anew.")
    ] = False,
    remove_gone: Annotated[
        bool, typer.Option("--remove-gone", help="Remove documents whose file is gone.")
    ] = False,
    tenant: Annotated[str, typer.Option(help="Whose: an organization's short name.")] = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take in files and folders as documents, and wait until they can be found.

    Only what is new or has changed is read. A file that cannot be read is told of, and stops
    nothing; then it ends with 1. Ctrl-C: what was taken in stays, and the same command goes on.
    """
    with Report("ingest", as_json) as report:
        program: Program = ctx.obj
        if not program.ingest:
            raise Refused("No application of this program takes in documents.")
        words = load(program.ingest)
        done = words.IngestReport()
        asked: dict[str, Any] = {"check": check, "again": again, "remove_gone": remove_gone}
        asked |= {"globs": glob or ()} | ({"ignore": ignore} if ignore else {})
        try:
            with watched(report) as bar:

                def tell(far: Any) -> None:
                    line = (
                        f"{far.taken:,} taken in, {far.ready:,} read, {far.unchanged:,} unchanged"
                    )
                    bar.count(line, far.ready + far.failed + far.unchanged, far.files, "files")

                async def work(call: Call) -> Any:
                    wanted = words.Wanted(**asked)
                    return await words.ingest_over(
                        call, tenant, paths, wanted, tell=tell, report=done
                    )

                as_operator(ctx, report, Settings.load(home=home), work)
        except KeyboardInterrupt:
            report.if_interrupted = _interrupted(done)
            raise
        report.data = words.as_json(done)
        report.show(*_told(done))
        if not done.is_clean:
            report.status, report.exit_code = "failed", 1
        report.next = 'polyplane search --app assistant "how do I ..."'


def _interrupted(done: Any) -> str:
    under_way = done.taken - done.ready - done.failed
    return (
        f"{done.taken:,} files were taken in and stay: {done.ready:,} are read, {under_way:,} are"
        f" going to be. {done.unchanged:,} were known. Of the rest nothing was taken; the same"
        " command goes on."
    )


def _told(done: Any) -> list[Any]:
    rate = done.taken / done.duration_s if done.duration_s else 0.0
    lines: list[Any] = [
        f"{done.files:,} files, {done.bytes / 2**20:,.1f} MiB: {done.new:,} new,"
        f" {done.changed:,} changed, {done.again:,} read again, {done.unchanged:,} unchanged;"
        f" {done.duration_s:.1f} s, {rate:,.0f} documents/s.",
        f"Chunks: {done.chunks_new:,} new, {done.chunks_moved:,} moved, {done.chunks_same:,} the"
        f" same, {done.chunks_gone:,} gone.",
    ]
    if done.gone:
        removed = f"{done.removed:,} of them removed" if done.removed else "--remove-gone removes"
        lines.append(f"{done.gone:,} documents have no file any more ({removed}).")
    if done.still_failed:
        lines.append(f"{done.still_failed:,} unchanged files could not be read before.")
    if done.failures:
        count = done.failed + done.skipped
        table = Table("file", "why", "", title=f"{count:,} files could not be read", box=None)
        for it in done.failures[:SHOWN_MAX]:
            table.add_row(Text(it.name), it.code, Text(it.reason))
        if count > SHOWN_MAX:
            table.add_row(f"and {count - SHOWN_MAX:,} more: see --json", "", "")
        lines.append(table)
    return lines
