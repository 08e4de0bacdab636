"""`polyplane audit`: who did what; that nobody was at it; and lines of it with their proofs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from polyplane.errors import Refused
from polyplane.serve.cli.remote import Remote, find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.watching import watched
from polyplane.serve.token import OPERATOR_HERE
from polyplane.settings import Settings

app = typer.Typer(
    help="Search, prove and hand out who did what.", no_args_is_help=True, add_completion=False
)

Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
Actor = Annotated[str | None, typer.Option(help="Only what they did, as `user:<id>`.")]
Action = Annotated[str | None, typer.Option(help="Only this; `row.*` means all such.")]
Kind = Annotated[str | None, typer.Option("--type", help="Only of this kind of thing.")]
Id = Annotated[str | None, typer.Option("--id", help="Only of the thing with this id.")]
Since = Annotated[datetime | None, typer.Option(help="From then on, UTC.")]
Until = Annotated[datetime | None, typer.Option(help="Before then, UTC.")]
Keys = Annotated[
    list[str] | None, typer.Option("--public-key", help="A key that may have signed, besides ours.")
]


@app.command()
def search(
    ctx: typer.Context,
    tenant: Tenant = None,
    actor: Actor = None,
    action: Action = None,
    kind: Kind = None,
    thing: Id = None,
    since: Since = None,
    until: Until = None,
    after: Annotated[int | None, typer.Option(help="Only those before this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show who did what, the newest first."""
    with Report("audit search", as_json) as report:
        asked = _asked(tenant, actor, action, kind, thing, since, until)
        settings = Settings.load(home=home)
        remote = find_running(settings)
        if remote is not None:
            page = {"limit": limit, **({"after": after} if after else {})}
            found = remote.get("audit", **asked, **page)["items"]
        else:
            from polyplane.serve.cli.opening import OwnPlane  # loads every engine

            found = OwnPlane(report, ctx.obj, settings).audit(asked, after, limit)
        following = found[-1]["seq"] if len(found) == limit else None
        report.data = {"lines": found, "next": following}
        report.show(_table_of(found) if found else "There is no such line.")
        more = f"polyplane audit search --after {following}"
        report.next = more if following else "polyplane audit verify"


@app.command()
def verify(
    ctx: typer.Context,
    seals: Annotated[
        Path | None, typer.Option(help="Compare with the seals in this file, and not the home's.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Prove that nobody has edited, deleted, inserted, moved or cut off a line."""
    with Report("audit verify", as_json) as report:
        settings = Settings.load(home=home)
        remote = find_running(settings)
        if remote is not None and seals is None:
            with report.waiting("comparing"):
                _tell(report, remote.post("audit/verify"))
            return
        if seals is not None and not seals.exists():
            raise Refused(f"There is no file {seals}.", field="seals")
        with watched(report) as bar:
            from polyplane.serve.cli.opening import OwnPlane  # loads every engine

            def tell(done: int, about: int) -> None:
                bar.far("audit", done, about, "rows")

            if remote is not None:
                found = _verified_at(remote, settings, seals, tell)
            else:
                found = OwnPlane(report, ctx.obj, settings).verify_audit(seals, tell)
        _tell(report, found)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Exported seals, or what `export` has written.")],
    public_key: Keys = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check a file of seals, or of lines with proofs, without any database."""
    with Report("audit check", as_json) as report:
        from polyplane.runtime.sealing import check_file, trusted_keys  # loads every engine

        if not file.is_file():
            raise Refused(f"There is no file {file}.", field="file")
        keys = trusted_keys(Settings.load(home=home)) | set(public_key or ())
        if not keys:
            raise Refused("No key is known that may have signed.", fix="Give it: --public-key")
        with report.waiting("checking"):
            found = asyncio.run(check_file(file, keys))
        _tell(report, found.as_json())


@app.command()
def export(
    ctx: typer.Context,
    to: Annotated[Path, typer.Option(help="The new file to write.")],
    tenant: Tenant = None,
    actor: Actor = None,
    action: Action = None,
    kind: Kind = None,
    thing: Id = None,
    since: Since = None,
    until: Until = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write lines, each with the proof that it is under a seal, as JSON lines."""
    with Report("audit export", as_json) as report:
        if to.exists():
            raise Refused(f"{to} exists.", field="to", fix="Choose another one.")
        asked = _asked(tenant, actor, action, kind, thing, since, until)
        settings = Settings.load(home=home)
        remote = find_running(settings)
        part = to.with_name(f"{to.name}.part")
        with watched(report) as bar, part.open("wb") as file:

            def tell(rows: int, about: int) -> None:
                bar.say(f"{rows:,} of {about:,} lines or fewer")

            if remote is not None:
                for piece in remote.lines("audit/export", **asked):
                    file.write(piece)
            else:
                from polyplane.serve.cli.opening import OwnPlane  # loads every engine

                own = OwnPlane(report, ctx.obj, settings)
                own.export_audit(asked, OPERATOR_HERE, file.write, tell)
        part.rename(to)
        report.data = {"path": str(to), "bytes": to.stat().st_size}
        report.show(f"{to}  {to.stat().st_size:,} bytes")
        report.next = f"polyplane audit check {to}"


def _verified_at(
    remote: Remote, settings: Settings, seals: Path | None, tell: Any
) -> dict[str, Any]:
    """Past the `up` that runs: only its database is asked."""
    from polyplane.runtime.sealing import verify_at  # loads every engine

    url = str(remote.get("urls")["postgres"])
    return asyncio.run(verify_at(url, settings, seals, tell)).as_json()


def _asked(
    tenant: str | None,
    actor: str | None,
    action: str | None,
    kind: str | None,
    thing: str | None,
    since: datetime | None,
    until: datetime | None,
) -> dict[str, Any]:
    asked = {
        "tenant": tenant,
        "actor": actor,
        "action": action,
        "resource_type": kind,
        "resource_id": thing,
        "since": since and since.replace(tzinfo=UTC).isoformat(),
        "until": until and until.replace(tzinfo=UTC).isoformat(),
    }
    return {name: value for name, value in asked.items() if value is not None}


def _table_of(found: list[dict[str, Any]]) -> Table:
    table = Table("no", "at", "who", "action", "what", "id", "outcome", box=None)
    for it in found:
        who = it["actor"] if it["tenant"] == "default" else f"{it['actor']} ({it['tenant']})"
        at, thing = str(it["at"])[:19], str(it["resource_id"] or "")
        table.add_row(
            str(it["seq"]), at, who, it["action"], it["resource_type"], thing, it["outcome"]
        )
    return table


def _tell(report: Report, found: dict[str, Any]) -> None:
    report.data = found
    waiting = f", {found['waiting']:,} wait for their seal" if found["waiting"] else ""
    report.show(f"{found['rows']:,} rows under {found['seals']:,} seals{waiting}.")
    for it in found["findings"][:20]:
        report.show(f"{it['kind']}: {it['what']}")
    if found["found"]:
        report.show(f"{found['found']:,} things are not as they were sealed.")
        report.exit_code = 1
    else:
        report.show("Everything is as it was sealed.")
    report.next = "polyplane audit search"
