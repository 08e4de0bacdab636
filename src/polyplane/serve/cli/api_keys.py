"""`polyplane api-keys`: what programs come in with."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.table import Table

from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="Make, list and revoke API keys.", no_args_is_help=True, add_completion=False
)

Tenant = Annotated[str, typer.Option(help="For which organization.")]
DAY_S: Final = 86_400


@app.command()
def make(
    ctx: typer.Context,
    client: Annotated[str, typer.Argument(help="What it is for; two at most of one client.")],
    role: Annotated[
        str, typer.Option(help="service_reader, service_writer or service_operator.")
    ] = "service_reader",
    scope: Annotated[
        list[str] | None, typer.Option(help="Only this permission; as often as needed.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it lives.")] = 90,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a key for a program. It is shown once; only its hash is kept."""
    with Report("api-keys make", as_json) as report:
        given = {
            "client": client,
            "role": role,
            "scopes": scope or None,
            "expires_s": days * DAY_S,
        }
        report.data = _asked(ctx, report, home, tenant, "POST", "auth/api-keys", json=given)
        report.show(report.data["key"])
        report.next = f"polyplane api-keys list --tenant {tenant}"


@app.command("list")
def list_(
    ctx: typer.Context,
    after: Annotated[str, typer.Option(help="Only those after this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 50,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the keys of an organization, without their secrets."""
    with Report("api-keys list", as_json) as report:
        asked = {"every": True, "after": after, "limit": limit}
        page = _asked(ctx, report, home, tenant, "GET", "auth/api-keys", parameters=asked)
        report.data = {"keys": page["items"], "next": page["next"]}
        table = Table("id", "client", "role", "expires", "last used", box=None)
        for key in page["items"]:
            whose = key["role"] or f"user {key['user_id']}"
            used = key["used_at"] or "never"
            table.add_row(key["id"], key["client"], whose, key["expires_at"], used)
        report.show(table if page["items"] else "There are no keys.")
        more = f"polyplane api-keys list --tenant {tenant} --after {page['next']}"
        report.next = more if page["next"] else "polyplane api-keys make CLIENT"


@app.command()
def revoke(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The id, as `list` shows it.")],
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """End a key, everywhere and at once."""
    with Report("api-keys revoke", as_json) as report:
        _asked(ctx, report, home, tenant, "DELETE", f"auth/api-keys/{key_id}")
        report.data = {"id": key_id}
        report.show(f"{key_id} opens nothing any more.")
        report.next = f"polyplane api-keys list --tenant {tenant}"


def _asked(
    ctx: typer.Context, report: Report, home: Any, tenant: str, method: str, path: str, **given: Any
) -> Any:
    async def work(call: Call) -> Any:
        return await call(method, path, headers={"X-Tenant": tenant}, **given)

    return as_operator(ctx, report, Settings.load(home=home), work)
