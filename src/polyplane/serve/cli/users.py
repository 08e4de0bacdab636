"""`polyplane users`: people who may sign in, and what they are in organizations."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from polyplane.errors import Refused
from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.asking import asked_password
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="Add, list, disable people; give them roles.", no_args_is_help=True, add_completion=False
)

Email = Annotated[str, typer.Argument(help="Their e-mail address.")]
Tenant = Annotated[str, typer.Option(help="The organization; made when there is none.")]


@app.command()
def add(
    ctx: typer.Context,
    email: Email,
    name: Annotated[str, typer.Option(help="What they are called.")] = "",
    role: Annotated[
        str, typer.Option(help="viewer, auditor, editor, operator, admin or owner of --tenant.")
    ] = "",
    tenant: Tenant = "default",
    administrator: Annotated[
        bool, typer.Option("--administrator", help="Give them power over the whole plane.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Add somebody. The password is asked for, or the first line of standard input."""
    with Report("users add", as_json) as report:
        given = {
            "email": email,
            "password": asked_password(),
            "name": name,
            "is_administrator": administrator,
        }

        async def work(call: Call) -> dict[str, Any]:
            user: dict[str, Any] = await call("POST", "ops/users", json=given)
            if role:
                await _set_role(call, email, tenant, role)
            return user

        report.data = as_operator(ctx, report, Settings.load(home=home), work)
        report.show(f"{email} may sign in.")
        report.next = f"polyplane users role {email} editor" if not role else "polyplane users list"


@app.command("list")
def list_(
    ctx: typer.Context,
    after: Annotated[str | None, typer.Option(help="Only those after this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show everybody who has an account."""
    with Report("users list", as_json) as report:
        asked = {"limit": limit, **({"after": after} if after else {})}

        async def work(call: Call) -> dict[str, Any]:
            found: dict[str, Any] = await call("GET", "ops/users", parameters=asked)
            return found

        page = as_operator(ctx, report, Settings.load(home=home), work)
        report.data = {"users": page["items"], "next": page["next"]}
        table = Table("id", "e-mail", "name", "status", "administrator", box=None)
        for user in page["items"]:
            is_one = "yes" if user["is_administrator"] else ""
            table.add_row(user["id"], user["email"], user["name"], user["status"], is_one)
        report.show(table if page["items"] else "There is nobody.")
        more = f"polyplane users list --after {page['next']}"
        report.next = more if page["next"] else "polyplane users add EMAIL"


@app.command()
def disable(
    ctx: typer.Context,
    email: Email,
    undo: Annotated[bool, typer.Option("--undo", help="Let them in again.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let somebody in no more: their sessions end at once, their keys rest."""
    with Report("users disable", as_json) as report:
        change = {"status": "active" if undo else "disabled"}

        async def work(call: Call) -> dict[str, Any]:
            user = await _id_of(call, email)
            found: dict[str, Any] = await call("PATCH", f"ops/users/{user}", json=change)
            return found

        report.data = as_operator(ctx, report, Settings.load(home=home), work)
        report.show(f"{email} is {report.data['status']}.")
        report.next = "polyplane users list"


@app.command()
def role(
    ctx: typer.Context,
    email: Email,
    role: Annotated[
        str, typer.Argument(help="viewer, auditor, editor, operator, admin, owner; or none.")
    ],
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make somebody a member of an organization, change what they are, or take them out."""
    with Report("users role", as_json) as report:

        async def work(call: Call) -> None:
            if role == "none":
                user = await _id_of(call, email)
                await call("DELETE", f"organizations/{tenant}/members/{user}")
            else:
                await _set_role(call, email, tenant, role)

        as_operator(ctx, report, Settings.load(home=home), work)
        report.data = {"email": email, "tenant": tenant, "role": role}
        report.show(f"{email} is {role} in {tenant}.")
        report.next = "polyplane users list"


@app.command()
def identities(ctx: typer.Context, email: Email, home: Home = None, as_json: Json = False) -> None:
    """Show what providers call somebody, and when they last signed in by each."""
    with Report("users identities", as_json) as report:

        async def work(call: Call) -> list[dict[str, Any]]:
            path = f"ops/users/{await _id_of(call, email)}/identities"
            found: list[dict[str, Any]] = await call("GET", path)
            return found

        found = as_operator(ctx, report, Settings.load(home=home), work)
        report.data = {"email": email, "identities": found}
        table = Table("id", "issuer", "subject", "last used", box=None)
        for one in found:
            table.add_row(one["id"], one["issuer"], one["subject"], one["used_at"])
        report.show(table if found else f"{email} signs in by no provider.")
        report.next = f"polyplane users unlink {email} ID" if found else "polyplane users list"


@app.command()
def unlink(
    ctx: typer.Context,
    email: Email,
    identity: Annotated[str, typer.Argument(help="Its id, as `users identities` shows it.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let somebody sign in by a provider no more: all their sessions end at once."""
    with Report("users unlink", as_json) as report:

        async def work(call: Call) -> None:
            await call("DELETE", f"ops/users/{await _id_of(call, email)}/identities/{identity}")

        as_operator(ctx, report, Settings.load(home=home), work)
        report.data = {"email": email, "identity": identity}
        report.show(f"{email} signs in by it no more.")
        report.next = f"polyplane users identities {email}"


async def _id_of(call: Call, email: str) -> str:
    found = await call("GET", "ops/users", parameters={"email": email})
    return str(found["items"][0]["id"])


async def _set_role(call: Call, email: str, tenant: str, role: str) -> None:
    given = {"email": email, "role": role}
    try:
        await call("POST", f"organizations/{tenant}/members", json=given)
    except Refused as error:
        if "no such organization" not in error.message:
            raise
        await call("POST", "organizations", json={"id": tenant, "name": tenant})
        await call("POST", f"organizations/{tenant}/members", json=given)
