"""`polyplane projections`: list them, fill one anew."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from polyplane.errors import Refused
from polyplane.serve.cli import dead
from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(help="List and refill projections.", no_args_is_help=True, add_completion=False)
app.add_typer(dead.app, name="dead")


@app.command("list")
def list_(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show every projection: what it reads, where its items are, how far behind it is."""
    with Report("projections list", as_json) as report:
        settings = Settings.load(home=home)
        remote = find_running(settings)
        if remote is not None:
            found = remote.get("status")["projections"]
        else:
            from polyplane.serve.cli.opening import OwnPlane  # loads every engine

            found = OwnPlane(report, ctx.obj, settings).lag()
        report.data = {"projections": found}
        report.show(table_of(found))
        report.next = "polyplane verify"


@app.command()
def backfill(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The projection.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Derive all of one projection anew from truth, beside the running flow."""
    with Report("projections backfill", as_json) as report:
        settings = Settings.load(home=home)
        remote = find_running(settings)
        with report.waiting("deriving"):
            if remote is not None:
                report.data = remote.post(f"projections/{name}/backfill")
            else:
                from polyplane.serve.cli.opening import OwnPlane  # loads every engine

                report.data = OwnPlane(report, ctx.obj, settings).backfill(name)
        report.show(f"{report.data['items']:,} items of {name} derived.")
        report.next = f"polyplane verify {name}"


@app.command()
def prune(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(help="Only these projections (default: all).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Drop; without it, only show.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Drop the collections that were read before; then there is no way back to them."""
    with Report("projections prune", as_json) as report:
        settings = Settings.load(home=home)
        if not yes:
            raise Refused("This drops collections for good.", fix="Say so with --yes.")
        remote = find_running(settings)
        if remote is not None:
            dropped = remote.post("projections/prune", projection=names or [])["dropped"]
        else:
            from polyplane.serve.cli.opening import OwnPlane  # loads every engine

            dropped = OwnPlane(report, ctx.obj, settings).prune(names or [])
        report.data = {"dropped": dropped}
        report.show(f"Dropped: {', '.join(dropped)}" if dropped else "There is nothing to drop.")
        report.next = "polyplane projections list"


def table_of(projections: list[dict[str, Any]]) -> Table:
    """Projections as people read them."""
    table = Table("projection", "reads", "in", "applied", "published", "state", box=None)
    for it in projections:
        state = it["error"] or ("" if it["filled"] else _work(it) or "filling")
        state = state or (
            f"{it['buckets_behind']} buckets behind" if it["buckets_behind"] else "up"
        )
        if it["building"]:
            state += f", building {it['building']}: {_work(it) or 'elsewhere'}"
        state += f", {it['parked']:,} parked" if it["parked"] else ""
        where = f"{it['engine']} {it['collection']}"
        applied, published = f"{it['order']:,}", f"{it['published']:,}"
        table.add_row(it["projection"], it["table"], where, applied, published, state)
    return table


def _work(it: dict[str, Any]) -> str:
    """How far the process that answers is with building or filling; empty when it does neither."""
    if it["phase"] in ("filling", "proving"):
        return f"{it['phase']} {it['building_rows']:,} of {it['building_of_rows']:,} rows"
    return str(it["phase"])
