"""`polyplane rebuild`: builds a projection's collection anew beside the one that is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.text import Text

from polyplane.serve.cli.remote import Remote, find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.watching import Watched, asking, watched
from polyplane.settings import Settings


def rebuild(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The projection.")],
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the collection that was read before.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Build a projection anew beside the one that is read.

    The new collection is filled from truth while writes go on, compared with truth, and read only
    when it is equal. The one before is kept, and kept up, for a while: --rollback goes back to it.
    """
    with Report("rebuild", as_json) as report:
        settings = Settings.load(home=home)
        remote = find_running(settings)
        with watched(report) as bar:
            tell = _told(bar)
            if remote is not None:
                with asking(_asked(remote, name, tell)):
                    verb = "rollback" if rollback else "rebuild"
                    report.data = remote.post(f"projections/{name}/{verb}")
            else:
                from polyplane.serve.cli.opening import OwnPlane  # loads every engine

                report.data = OwnPlane(report, ctx.obj, settings).rebuild(name, rollback, tell)
        read, before = report.data["collection"], report.data["before"]
        report.show(Text(f"{read} equals truth, and is read instead of {before}.", "green"))
        report.next = f"polyplane rebuild {name} --rollback, or: polyplane projections prune {name}"


def _told(bar: Watched) -> Callable[[str, int], None]:
    """Say how far a rebuild is."""
    return lambda phase, rows: bar.say(f"{phase}: {rows:,} rows" if rows else phase)


def _asked(remote: Remote, name: str, tell: Callable[[str, int], None]) -> Callable[[], None]:
    """Ask a running `up` how far it is."""

    def ask() -> None:
        for it in remote.get("status")["projections"]:
            if it["projection"] == name and it["building"]:
                tell(it["phase"] or f"building {it['building']}", it["building_rows"])

    return ask
