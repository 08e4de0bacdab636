"""`polyplane sagas`: list, show, cancel and retry them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table

from polyplane.errors import Refused
from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="List, show, cancel and retry sagas.", no_args_is_help=True, add_completion=False
)

SagaId = Annotated[UUID, typer.Argument(help="The saga, as `list` shows it.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(help="running, undoing, done, undone, stuck or changed."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only sagas of this name.")] = None,
    after: Annotated[UUID | None, typer.Option(help="Only those after this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show sagas, the latest first."""
    with Report("sagas list", as_json) as report:
        asked = {"state": state, "name": name, "after": after, "limit": limit}
        asked = {name: value for name, value in asked.items() if value is not None}
        settings = Settings.load(home=home)
        remote = find_running(settings)
        if remote is not None:
            found = remote.get("sagas", **asked)["items"]
        else:
            from polyplane.serve.cli.opening import OwnPlane  # loads every engine

            found = OwnPlane(report, ctx.obj, settings).sagas("list", **asked)
        following = str(found[-1]["id"]) if len(found) == limit else None
        report.data = {"sagas": found, "next": following}
        report.show(_table_of(found) if found else "There are no such sagas.")
        more = f"polyplane sagas list --after {following}"
        report.next = more if following else "polyplane sagas show ID"


@app.command()
def show(ctx: typer.Context, saga_id: SagaId, home: Home = None, as_json: Json = False) -> None:
    """Show one saga: its steps, what is undone, what it is at and why."""
    with Report("sagas show", as_json) as report:
        found = _one(report, ctx, home, "show", saga_id)
        report.data = found
        report.show(*_lines_of(found))
        waits = found["state"] in ("stuck", "changed")
        report.next = f"polyplane sagas retry {saga_id}" if waits else "polyplane sagas list"


@app.command()
def cancel(
    ctx: typer.Context,
    saga_id: SagaId,
    why: Annotated[str, typer.Option(help="To be shown.")] = "Cancelled.",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Undo a saga, wherever it is."""
    with Report("sagas cancel", as_json) as report:
        if not yes:
            found = _one(report, ctx, home, "show", saga_id)
            done = sum(step["undone_at"] is None for step in found["steps"])
            raise Refused(
                f"This undoes {found['name']} {saga_id}: {done} steps.", fix="Say --yes to do it."
            )
        report.data = _one(report, ctx, home, "cancel", saga_id, why=why)
        report.show(f"{report.data['name']} {saga_id} is being undone.")
        report.next = f"polyplane sagas show {saga_id}"


@app.command()
def retry(
    ctx: typer.Context,
    saga_id: SagaId,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Go on by what is declared now.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Try again at once what waits or is stuck."""
    with Report("sagas retry", as_json) as report:
        report.data = _one(report, ctx, home, "retry", saga_id, anyway=anyway)
        report.show(f"{report.data['name']} {saga_id} is due.")
        report.next = f"polyplane sagas show {saga_id}"


def _one(
    report: Report, ctx: typer.Context, home: Any, verb: str, saga_id: UUID, **asked: Any
) -> dict[str, Any]:
    """What a verb says of one saga, from the running `up` or a plane opened for it."""
    settings = Settings.load(home=home)
    remote = find_running(settings)
    found: dict[str, Any]
    if remote is not None:
        path = f"sagas/{saga_id}"
        found = remote.get(path) if verb == "show" else remote.post(f"{path}/{verb}", **asked)
        return found
    from polyplane.serve.cli.opening import OwnPlane  # loads every engine

    found = OwnPlane(report, ctx.obj, settings).sagas(verb, saga_id, **asked)
    return found


def _table_of(found: list[dict[str, Any]]) -> Table:
    table = Table("id", "saga", "state", "at", "tries", "started", "error", box=None)
    for it in found:
        error = it["undo_error"] or it["error"]
        started = str(it["started_at"])[:19]
        tries = f"{it['attempt']:,}"
        table.add_row(str(it["id"]), it["name"], it["state"], it["at"], tries, started, error[:60])
    return table


def _lines_of(found: dict[str, Any]) -> list[Any]:
    shown = [
        "id",
        "name",
        "key",
        "tenant",
        "actor",
        "state",
        "at",
        "attempt",
        "error",
        "undo_error",
        "started_at",
        "next_at",
    ]
    shown += ["ended_at", "input"]
    lines: list[Any] = [f"{name}: {found[name]}" for name in shown if found[name] not in ("", None)]
    table = Table("step", "version", "outcome", "tries", "at", "undone", box=None)
    for step in found["steps"]:
        dates = str(step["at"])[:19], str(step["undone_at"] or "")[:19]
        table.add_row(
            step["name"], str(step["version"]), step["outcome"], str(step["attempts"]), *dates
        )
    return [*lines, table] if found["steps"] else lines
