"""`polyplane init`: the settings' file and the home folder."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from polyplane.errors import Conflict, Misconfigured
from polyplane.serve.cli.asking import asked_password
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

FILE: Final = Path("polyplane.toml")

_TEXT: Final = """\
# Settings of polyplane; docs/settings.md lists them all. A variable POLYPLANE_<NAME> wins over this
# file, and so do the usual names (DATABASE_URL, REDIS_URL ...). An engine without a URL runs
# embedded under `home`.

home = {home}
# namespace = "pp"
# api_port = 8765

# database_url = "postgresql://user@host:5432/name"
# nats_url = "nats://host:4222"
# vector_url = "lancedb://var/vectors"      # or qdrant://host:6333
# series_url = "clickhouse://host:8123/name"
# cache_url = "redis://host:6379/0"
"""


def init(
    admin_email: Annotated[
        str | None, typer.Option(help="The first administrator; their password is asked for.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write polyplane.toml and make the home folder.

    Does nothing to what is there already. The password of the first administrator is asked for, or
    is the first line of standard input; `polyplane up` makes them at its next start.
    """
    with Report("init", as_json) as report:
        is_new = not FILE.exists()
        folder = home or Settings.load().home
        if not is_new and folder != Settings.load().home:
            raise Conflict(
                f"{FILE} is there already, with another home.", fix=f"Change `home` in {FILE}."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if is_new:
                FILE.write_text(_TEXT.format(home=_quoted(str(folder))), encoding="utf-8")
        except OSError as error:
            raise Misconfigured(
                f"{error.filename} cannot be written: {error.strerror}.",
                fix="Choose another folder with --home.",
            ) from error
        report.data = {"settings": str(FILE.absolute()), "is_new": is_new, "home": str(folder)}
        if admin_email is None and is_new and not as_json and sys.stdin.isatty():
            asked = "E-mail of the first administrator (empty: later)"
            admin_email = typer.prompt(asked, default="", show_default=False) or None
        if admin_email is not None:
            from polyplane.access.first import name_first  # loads the way to truth

            asyncio.run(name_first(folder, admin_email, asked_password()))
            report.data["administrator"] = admin_email
            report.show(f"{admin_email} will be the administrator, from the next start on.")
        report.show(f"{'Wrote' if is_new else 'Kept'} {FILE}; the engines live in {folder}.")
        report.next = "polyplane up"


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
