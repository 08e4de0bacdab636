"""`polyplane rebuild`: builds a projection's collection anew beside the one that is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Annotated, Final

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from polyplane.errors import Unavailable
from polyplane.serve.cli.remote import Remote, find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

_LOOK_EVERY_S: Final = 0.3

Tell = Callable[[str, int], None]


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
        with _watched(report) as tell:
            if remote is not None:
                with _asked(remote, name, tell):
                    verb = "rollback" if rollback else "rebuild"
                    report.data = remote.post(f"projections/{name}/{verb}")
            else:
                from polyplane.serve.cli.opening import OwnPlane  # loads every engine

                report.data = OwnPlane(report, ctx.obj, settings).rebuild(name, rollback, tell)
        read, before = report.data["collection"], report.data["before"]
        report.show(Text(f"{read} equals truth, and is read instead of {before}.", "green"))
        report.next = f"polyplane rebuild {name} --rollback, or: polyplane projections prune {name}"


@contextmanager
def _watched(report: Report) -> Iterator[Tell]:
    """How far it is, when somebody watches."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    shown = not report.as_json and report.console.is_terminal
    with Progress(*columns, console=report.console, transient=True, disable=not shown) as bar:
        task = bar.add_task("starting")

        def tell(phase: str, rows: int) -> None:
            bar.update(task, description=f"{phase}: {rows:,} rows" if rows else phase)

        yield tell


@contextmanager
def _asked(remote: Remote, name: str, tell: Tell) -> Iterator[None]:
    """Ask a running `up` now and then how far it is, in a thread, until the block ends."""
    done = Event()

    def ask() -> None:
        while not done.wait(_LOOK_EVERY_S):
            try:
                found = remote.get("status")["projections"]
            except Unavailable:  # who waits for the answer itself is told
                continue
            for it in found:
                if it["projection"] == name and it["building"]:
                    tell(it["phase"] or f"building {it['building']}", it["building_rows"])

    thread = Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
