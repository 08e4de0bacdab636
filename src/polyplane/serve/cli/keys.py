"""`polyplane keys`: the keys of secrets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from polyplane.errors import Refused
from polyplane.serve.cli.remote import Remote, find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.watching import Watched, asking, watched
from polyplane.serve.token import OPERATOR_HERE
from polyplane.settings import Settings

app = typer.Typer(
    help="List, rotate and destroy the keys of secrets.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("list")
def list_(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show every encryption key, and how many data keys it wraps. No key is shown."""
    with Report("keys list", as_json) as report:
        settings = Settings.load(home=home)
        remote = find_running(settings)
        found = remote.get("keys") if remote else _own(report, ctx, settings, "list")
        report.data = found
        report.show(_table_of(found))
        report.show(f"{found['destroyed']:,} data keys are destroyed.")
        report.next = "polyplane keys rotate"


@app.command()
def rotate(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Make a new primary encryption key and wrap every data key with it, while everything runs.

    Goes on with a rotation that was interrupted. Of keys that are set in the environment, or kept
    by a key service, the primary one is what it is there. Rows are not touched.
    """
    with Report("keys rotate", as_json) as report:
        report.if_interrupted = "Go on with: polyplane keys rotate"
        settings = Settings.load(home=home)
        remote = find_running(settings)
        with watched(report) as bar:
            if remote is not None:
                with _asking(remote, bar):
                    found = remote.post("keys/rotate")
            else:
                found = _own(report, ctx, settings, "rotate", progress=_teller(bar))
        report.data = found
        report.show(f"{found['wrapped']:,} data keys are wrapped with {found['primary']} now.")
        report.next = "polyplane keys list"


@app.command()
def destroy(
    ctx: typer.Context,
    person: Annotated[
        str | None, typer.Option(help="The person, as owner columns have them.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="The tenant; with a person: only theirs in it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Destroy; without it, only show.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Destroy the data keys of a person or a tenant: their secrets can never be read again.

    Not by anybody, in no store and no backup, once the encryption key that had wrapped them is gone
    too. What projections made of those secrets goes as well.
    """
    with Report("keys destroy", as_json) as report:
        if not person and not tenant:
            raise Refused("Say whose.", field="person", fix="Give --person ID or --tenant ID.")
        settings = Settings.load(home=home)
        remote = find_running(settings)
        asked: dict[str, Any] = {"person": person, "tenant": tenant, "dry": not yes}
        given = {name: value for name, value in asked.items() if value is not None}
        if remote is not None:
            found = remote.post("keys/destroy", **given)
        else:
            found = _own(report, ctx, settings, "destroy", **asked)
        rows = ", ".join(f"{count:,} rows of {name}" for name, count in found["rows"].items())
        if not yes:
            raise Refused(
                f"This destroys {found['keys']:,} data keys ({rows or 'no rows'}); what they have"
                " encrypted is lost.",
                fix="Say --yes to do it.",
            )
        report.data = found
        report.show(f"{found['keys']:,} data keys are destroyed.")
        if rows:
            report.show(f"Derived again without them: {rows}.")
        report.next = "polyplane verify"


def _own(
    report: Report, ctx: typer.Context, settings: Settings, verb: str, **asked: Any
) -> dict[str, Any]:
    from polyplane.plane import Plane  # both load every engine
    from polyplane.serve.cli.opening import OwnPlane

    async def work(plane: Plane) -> dict[str, Any]:
        do = getattr(plane.keys, verb)
        if verb == "list" or asked.get("dry"):
            return asdict(await do(**asked))
        detail = {name: asked.get(name) for name in ("person", "tenant")}
        async with plane.audit.act(OPERATOR_HERE, f"keys.{verb}", "keys", detail=detail):
            found = asdict(await do(**asked))
        if verb == "destroy":
            await plane.caught_up()  # what was derived from them is gone when this ends
        return found

    return OwnPlane(report, ctx.obj, settings).on(work)


def _teller(bar: Watched) -> Callable[[int, int], None]:
    return lambda done, of: bar.count("wrapping", done, of, "data keys")


def _asking(remote: Remote, bar: Watched) -> AbstractContextManager[None]:
    """Ask how many data keys the primary key wraps by now, and say it."""
    tell = _teller(bar)

    def ask() -> None:
        keys = remote.get("keys")["keys"]
        done = sum(key["keys"] for key in keys if key["primary"])
        tell(done, sum(key["keys"] for key in keys))

    return asking(ask)


def _table_of(found: dict[str, Any]) -> Table:
    table = Table("key", "", "data keys", "tenants", "persons", "since", box=None)
    for key in found["keys"]:
        state = "primary" if key["primary"] else "decrypts" if key["keys"] else "unused"
        numbers = (f"{key[name]:,}" for name in ("keys", "tenants", "persons"))
        table.add_row(key["id"], state, *numbers, str(key["since"] or ""))
    return table
