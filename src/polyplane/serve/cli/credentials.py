"""`polyplane credentials`: who comes to the engines, as whom."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from polyplane.embedded.supervisor import rotate as rotate_secrets
from polyplane.errors import Misconfigured, NotFound, Refused
from polyplane.ops.backup import at_rest
from polyplane.ops.credentials import PRINTED, nats, sender_rights
from polyplane.security.realm import Sender
from polyplane.serve.cli.program import Program
from polyplane.serve.cli.remote import find_running, nats_url_of
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="Show, make and renew what engines are come to with.",
    no_args_is_help=True,
    add_completion=False,
)

Tenant = Annotated[str, typer.Option(help="Whose messages and points it sends.")]
To = Annotated[str, typer.Option("--application", help="What it sends to.")]


@app.command("print")
def print_(
    ctx: typer.Context,
    engine: Annotated[str, typer.Argument(help=f"One of {', '.join(PRINTED)}.")],
    sender: Annotated[
        str, typer.Option(help="Only the user of a program outside, by its name (nats).")
    ] = "",
    tenant: Tenant = "default",
    application: To = "laboratory",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Print what gives a plane a credential of few rights on a server of one's own.

    For the server's administrator, who puts in the passwords. PostgreSQL: migrate roles. The
    embedded engines have all of it already.
    """
    with Report("credentials print", as_json) as report:
        settings = Settings.load(home=home)
        if engine not in PRINTED:
            raise NotFound(f"There is no {engine!r}.", fix=f"Known: {', '.join(PRINTED)}.")
        if sender and engine != "nats":
            raise Refused("Only NATS knows programs outside.", field="sender")
        if sender:
            program: Program = ctx.obj
            who = Sender(application, tenant, sender)
            rights = sender_rights(program.load_applications(), settings.namespace, who)
            lines = nats(settings, (who, rights))
        else:
            lines = PRINTED[engine](settings)
        report.data = {"lines": lines}
        _show(report, lines)


@app.command()
def sender(
    name: Annotated[str, typer.Argument(help="Its name, as in its subjects.")],
    tenant: Tenant = "default",
    application: To = "laboratory",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let a program outside come to the NATS of a running up; print the URL it is to use.

    The URL holds its password, and is for nobody else. It may send as that name and tenant only.
    Asked again, it is the same.
    """
    with Report("credentials sender", as_json) as report:
        settings = Settings.load(home=home)
        if settings.url("nats_url"):
            fix = f"Make a user there: polyplane credentials print nats --sender {name}."
            raise Misconfigured("NATS is not one of this home's engines.", fix=fix)
        url = nats_url_of(settings, find_running(settings), application, tenant, name)
        report.data = {"url": url}
        _show(report, [url])


@app.command()
def rotate(
    yes: Annotated[bool, typer.Option("--yes", help="Really renew them.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Renew the passwords of the home's NATS, Valkey and S3, and forget every sender.

    Refused while `up` runs; the next start makes new ones. PostgreSQL's are not renewed.
    """
    with Report("credentials rotate", as_json) as report:
        settings = Settings.load(home=home)
        if not yes:
            raise Refused("Whoever has a URL of these engines needs a new one.", fix="Add --yes.")
        asyncio.run(_rotate(settings))
        report.show("The next start makes new passwords.")
        report.next = "polyplane up"


def _show(report: Report, lines: list[str]) -> None:
    """Print what is to be copied: not broken where the terminal ends."""
    if not report.as_json:
        for line in lines:
            report.console.print(Text(line), soft_wrap=True)


async def _rotate(settings: Settings) -> None:
    async with at_rest(settings.home):
        rotate_secrets(settings.home)
