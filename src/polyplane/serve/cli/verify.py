"""`polyplane verify`: the proof."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

KINDS = ("missing", "stale", "extra")
SHOWN_KEYS = 5


def verify(
    ctx: typer.Context,
    projections: Annotated[
        list[str] | None, typer.Argument(help="Only these projections (default: all).")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Prove that every store agrees with truth.

    Reads back what the stores really hold and compares it with what follows from truth. Exits 1
    when anything is missing, stale or extra.
    """
    with Report("verify", as_json) as report:
        settings = Settings.load(home=home)
        names = projections or []
        remote = find_running(settings)
        with report.waiting("comparing"):
            if remote is not None:
                drift = remote.post("verify", projection=names)
            else:
                from polyplane.serve.cli.opening import OwnPlane  # loads every engine

                drift = OwnPlane(report, ctx.obj, settings).verify(names)
        report.data = drift
        report.show(*table_of(drift))
        if any(drift[kind] for kind in KINDS):
            report.status, report.exit_code = "drift", 1
            report.show("To mend it: polyplane repair --yes")
        else:
            report.show(
                Text("0 drift: every store holds exactly what follows from truth.", "green")
            )
            report.next = "polyplane projections list"


def table_of(drift: dict[str, Any]) -> list[Table | Text]:
    """What was compared, and the first keys of each kind of drift."""
    table = Table("projection", "rows", "items", *KINDS, "digest", box=None)
    lines: list[Table | Text] = [table]
    for part in drift["parts"]:
        counts = [f"{len(part[kind]):,}" for kind in KINDS]
        rows, items = f"{part['rows']:,}", f"{part['items']:,}"
        table.add_row(part["projection"], rows, items, *counts, part["store_digest"][:12])
        for kind in KINDS:
            if part[kind]:
                keys = ", ".join(part[kind][:SHOWN_KEYS])
                more = " ..." if len(part[kind]) > SHOWN_KEYS else ""
                lines.append(Text(f"{part['projection']} {kind}: {keys}{more}", "red"))
    return lines
