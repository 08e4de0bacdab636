"""`polyplane repair`: mends what `verify` finds."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.verify import KINDS, Deep, table_of
from polyplane.serve.cli.watching import asking, proofs_of, watched
from polyplane.settings import Settings


def repair(
    ctx: typer.Context,
    projections: Annotated[
        list[str] | None, typer.Argument(help="Only these projections (default: all).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Mend; without it, only show.")] = False,
    deep: Deep = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Mend what verify finds, and nothing else.

    Has exactly the keys that are missing, stale or extra derived anew from truth, as if they had
    been written, and looks at them again. Exits 1 when anything drifts in the end, or when --yes
    is not given and anything is to be mended.
    """
    with Report("repair", as_json) as report:
        settings = Settings.load(home=home)
        names = projections or []
        remote = find_running(settings)
        with watched(report) as bar:
            if remote is not None:
                with asking(proofs_of(remote, bar)):
                    asked = {"projection": names, "deep": deep, "dry": not yes}
                    outcome = remote.post("repair", **asked)
            else:
                from polyplane.serve.cli.opening import OwnPlane  # loads every engine

                own = OwnPlane(report, ctx.obj, settings)
                outcome = own.repair(names, bar.far, deep=deep, dry=not yes)
        found, left = outcome["found"], outcome["left"]
        report.data = {"found": found, "left": left, "mended": _count(found) - _count(left)}
        report.show(*table_of(found))
        if not _count(found):
            report.show(Text("There is nothing to mend.", "green"))
            report.next = "polyplane verify"
        elif not yes:
            report.status, report.exit_code = "drift", 1
            report.show("Nothing was changed. To mend it: polyplane repair --yes")
        elif _count(left):
            report.status, report.exit_code = "drift", 1
            report.show(Text("After mending:"), *table_of(left))
        else:
            report.show(Text(f"{_count(found):,} mended, and looked at again.", "green"))
            report.next = "polyplane verify"


def _count(drift: dict[str, Any]) -> int:
    return sum(drift[kind] for kind in KINDS)
