"""`polyplane agents`: what agents can do, are at, and know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from polyplane.errors import Refused
from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.learn import learn
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="What agents can do, are at, and know.", no_args_is_help=True, add_completion=False
)
app.command()(learn)


Tenant = Annotated[str, typer.Option(help="Whose: an organization's short name.")]
Limit = Annotated[int, typer.Option(min=1, max=200, help="At most so many.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    tenant: Tenant = "default",
    limit: Limit = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the agents, the newest first."""
    with Report("agents list", as_json) as report:
        found = _asked(ctx, report, home, tenant, "agents", limit=limit)["items"]
        report.data = {"agents": found}
        report.show(_table(found, "id", "name", "type"))
        report.next = "polyplane agents tools AGENT"


@app.command()
def tools(
    ctx: typer.Context,
    agent: Annotated[UUID, typer.Argument(help="As `agents list` shows it.")],
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what an agent can use, as the graph has it."""
    with Report("agents tools", as_json) as report:
        found = _asked(ctx, report, home, tenant, f"agents/{agent}/tools")
        report.data = {"tools": found}
        report.show(_table(found, "id", "name", "capability"))
        report.next = "polyplane agents able CAPABILITY"


@app.command()
def able(
    ctx: typer.Context,
    capability: Annotated[str, typer.Argument(help="As `agents tools` shows it.")],
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show who can do something, as the graph has it."""
    with Report("agents able", as_json) as report:
        found = _asked(ctx, report, home, tenant, f"capabilities/{capability}/agents")
        report.data = {"agents": found}
        report.show(_table(found, "id", "name", "type"))
        report.next = "polyplane agents operations"


@app.command()
def discussions(
    ctx: typer.Context, tenant: Tenant = "default", home: Home = None, as_json: Json = False
) -> None:
    """Show who takes part in which active discussion, as the graph has it."""
    with Report("agents discussions", as_json) as report:
        found = _asked(ctx, report, home, tenant, "discussions/active")
        report.data = {"discussions": found}
        report.show(_table(found, "agent_id", "id", "title"))
        report.next = "polyplane agents list"


@app.command()
def related(
    ctx: typer.Context,
    concept: Annotated[str, typer.Argument(help="Its name, or its id.")],
    tenant: Tenant = "default",
    limit: Limit = 10,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what a concept relates to, the strongest first."""
    with Report("agents related", as_json) as report:

        async def ask(call: Call) -> Any:
            headers = {"X-Tenant": tenant}
            key = await _concept(call, concept, headers)
            path = f"agents/concepts/{key}/related"
            return await call("GET", path, parameters={"limit": limit}, headers=headers)

        found = as_operator(ctx, report, Settings.load(home=home), ask)
        report.data = {"related": found}
        report.show(_table(found, "id", "name", "type", "strength"))
        report.next = "polyplane graph within Concept ID"


@app.command()
def operations(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only queued, running, completed ...")] = None,
    tenant: Tenant = "default",
    limit: Limit = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show operations, the newest first."""
    with Report("agents operations", as_json) as report:
        asked = {"limit": limit} | ({"status": status} if status else {})
        found = _asked(ctx, report, home, tenant, "operations", **asked)["items"]
        report.data = {"operations": found}
        report.show(_table(found, "id", "type", "status", "steps_done", "steps_total"))
        report.next = "polyplane agents operation ID"


@app.command()
def operation(
    ctx: typer.Context,
    operation_id: Annotated[UUID, typer.Argument(help="As `agents operations` shows it.")],
    cancel: Annotated[bool, typer.Option("--cancel", help="Undo it, wherever it is.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --cancel: do it.")] = False,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show one operation and its steps; or have it undone."""
    with Report("agents operation", as_json) as report:
        if cancel and not yes:
            raise Refused("This undoes what the operation has done.", fix="Say --yes to do it.")

        async def ask(call: Call) -> tuple[Any, Any]:
            path, headers = f"agents/operations/{operation_id}", {"X-Tenant": tenant}
            if cancel:
                await call("POST", f"{path}/cancel", headers=headers)
            found = await call("GET", path, headers=headers)
            return found, await call("GET", f"{path}/steps", headers=headers)

        found, steps = as_operator(ctx, report, Settings.load(home=home), ask)
        report.data = {"operation": found, "steps": steps["items"]}
        report.show(f"{found['type']}: {found['status']}. {found['error'] or ''}")
        rows = sorted(steps["items"], key=lambda it: it["step_number"])
        report.show(_table(rows, "step_number", "name", "status", "attempts", "error"))
        report.next = "polyplane agents operations"


def _asked(
    ctx: typer.Context, report: Report, home: Any, tenant: str, path: str, **asked: Any
) -> Any:
    """What a GET of the agents answers, for one tenant."""

    async def ask(call: Call) -> Any:
        headers = {"X-Tenant": tenant}
        return await call("GET", f"agents/{path}", parameters=asked, headers=headers)

    return as_operator(ctx, report, Settings.load(home=home), ask)


async def _concept(call: Call, named: str, headers: dict[str, str]) -> str:
    """The id of a concept that is given by id, or by a name that only one has."""
    try:
        return str(UUID(named))
    except ValueError:
        asked = {"name": named, "limit": 2}
        page = await call("GET", "agents/concepts", parameters=asked, headers=headers)
    if len(page["items"]) != 1:
        count = "no concept is" if not page["items"] else "several concepts are"
        raise Refused(f"In {headers['X-Tenant']}, {count} named {named!r}.", field="concept")
    return str(page["items"][0]["id"])


def _table(rows: Sequence[dict[str, Any]], *columns: str) -> Table:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text("" if row[it] is None else str(row[it])) for it in columns))
    return table
