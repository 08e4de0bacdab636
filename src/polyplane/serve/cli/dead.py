"""`polyplane projections dead`: the rows that nothing can be made of, and what to do with them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from polyplane.errors import NotFound, Refused
from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="Rows that nothing can be made of: list, show, retry, drop them.",
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(help="The projection.")]
Keys = Annotated[list[str] | None, typer.Argument(help="Keys of rows; none: all.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 100,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the dead letters of a projection: why, how often tried, when again."""
    with Report("projections dead list", as_json) as report:
        letters = _letters(report, ctx, Settings.load(home=home), name, None, limit)
        report.data = {"projection": name, "letters": letters}
        table = Table("key", "error", "attempts", "since", "next try", box=None)
        for it in letters:
            dates = str(it["first_at"])[:19], str(it["next_try_at"])[:19]
            table.add_row(it["key"], it["error"], f"{it['attempts']:,}", *dates)
        report.show(table if letters else f"{name} has no dead letters.")
        report.next = f"polyplane projections dead retry {name}" if letters else "polyplane verify"


@app.command()
def show(
    ctx: typer.Context,
    name: Name,
    key: Annotated[str, typer.Argument(help="The key of the row.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter in full."""
    with Report("projections dead show", as_json) as report:
        letters = _letters(report, ctx, Settings.load(home=home), name, [key], 1)
        if not letters:
            raise NotFound(f"{name} has no dead letter {key}.", field="key")
        report.data = letters[0]
        report.show("\n".join(f"{field}: {value}" for field, value in letters[0].items()))
        report.next = f"polyplane projections dead retry {name} {key}"


@app.command()
def retry(
    ctx: typer.Context, name: Name, keys: Keys = None, home: Home = None, as_json: Json = False
) -> None:
    """Try dead letters again now; what works leaves the list within seconds."""
    with Report("projections dead retry", as_json) as report:
        settings = Settings.load(home=home)
        remote = find_running(settings)
        if remote is not None:
            report.data = remote.post(f"projections/{name}/dead/retry", key=keys or [])
        else:
            from polyplane.serve.cli.opening import OwnPlane  # loads every engine

            report.data = OwnPlane(report, ctx.obj, settings).retry_dead(name, keys or None)
        report.show(f"{report.data['rows']:,} rows of {name} are due.")
        report.next = f"polyplane projections dead list {name}"


@app.command()
def drop(
    ctx: typer.Context,
    name: Name,
    keys: Keys = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Forget dead letters: the store stays as it is until the row changes again."""
    with Report("projections dead drop", as_json) as report:
        settings = Settings.load(home=home)
        if not yes:
            which = f"{len(keys):,} dead letters" if keys else "all dead letters"
            raise Refused(f"This forgets {which} of {name}.", fix="Say --yes to do it.")
        remote = find_running(settings)
        if remote is not None:
            report.data = remote.post(f"projections/{name}/dead/drop", key=keys or [])
        else:
            from polyplane.serve.cli.opening import OwnPlane  # loads every engine

            report.data = OwnPlane(report, ctx.obj, settings).drop_dead(name, keys or None)
        report.show(f"{report.data['rows']:,} dead letters of {name} forgotten.")
        report.next = f"polyplane verify {name}"


def _letters(
    report: Report,
    ctx: typer.Context,
    settings: Settings,
    name: str,
    keys: list[str] | None,
    limit: int,
) -> list[dict[str, Any]]:
    remote = find_running(settings)
    if remote is not None:
        found = remote.get(f"projections/{name}/dead", key=keys or [], limit=limit)
        return list(found)
    from polyplane.serve.cli.opening import OwnPlane  # loads every engine

    return OwnPlane(report, ctx.obj, settings).dead(name, keys, limit)
