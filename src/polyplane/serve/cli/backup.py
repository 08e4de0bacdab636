"""`polyplane backup`: copy a home that is at rest, check a copy, put one back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from polyplane.errors import Misconfigured, Refused
from polyplane.ops import backup
from polyplane.security.key_file import NAME as KEYS
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Copy a home, check a copy, put one back."
)

Folder = Annotated[Path, typer.Argument(help="The folder of the backup.")]
_EXTERNAL: Final = ("database_url", "nats_url", "objects_url", "vector_url", "series_url")


@app.command()
def create(folder: Folder, home: Home = None, as_json: Json = False) -> None:
    """Stop every engine of the home and copy all of it to a new folder.

    Refused while `up` runs. Engines that have a URL in the settings are not part of a home.
    """
    with Report("backup create", as_json) as report:
        settings = _settings(home)

        async def work() -> backup.Backup:
            async with backup.at_rest(settings.home):
                with _bar(report, "copying") as progress:
                    return await asyncio.to_thread(backup.create, settings.home, folder, progress)

        report.data = asdict(asyncio.run(work()))
        report.show(_told(report.data))
        if (settings.home / KEYS).is_file():
            report.show(f"The encryption keys are not in it: keep a copy of {KEYS} elsewhere.")
        report.next = f"polyplane backup check {folder}"


@app.command()
def check(folder: Folder, as_json: Json = False) -> None:
    """Read a backup back: every file is there and is what was saved."""
    with Report("backup check", as_json) as report:
        with _bar(report, "checking") as progress:
            report.data = asdict(backup.check(folder, progress))
        report.show(_told(report.data))
        report.next = f"polyplane backup restore {folder} --yes"


@app.command()
def restore(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Really put it in the home's place.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check a backup and put it in the place of the home, which is kept beside it.

    The next start begins a new epoch and derives every derived store anew from the restored truth.
    """
    with Report("backup restore", as_json) as report:
        settings = _settings(home)
        with _bar(report, "checking") as progress:
            found = backup.check(folder, progress)
        if not yes:
            at = datetime.fromisoformat(found.created_at).astimezone(UTC)
            raise Refused(
                f"This puts {found.files:,} files of {at:%Y-%m-%d %H:%M} UTC in the place of"
                f" {settings.home}.",
                fix="Add --yes.",
            )

        async def work() -> Path | None:
            async with backup.at_rest(settings.home):
                with _bar(report, "copying") as progress:
                    return await asyncio.to_thread(backup.restore, folder, settings.home, progress)

        kept = asyncio.run(work())
        report.data = {**asdict(found), "kept": str(kept) if kept else None}
        report.show(_told(report.data), *([f"What was there is in {kept}."] if kept else []))
        report.next = "polyplane up, then polyplane verify"


def _settings(home: Path | None) -> Settings:
    settings = Settings.load(home=home)
    outside = [name.upper() for name in _EXTERNAL if settings.url(name)]
    if outside:
        raise Misconfigured(
            f"{outside[0]} is set: that engine is not part of the home, and a copy without it"
            " would not fit.",
            fix="Back the servers up with their own means, or unset it.",
        )
    return settings


@contextmanager
def _bar(report: Report, doing: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar in bytes, for who watches."""
    columns = (TextColumn(doing), BarColumn(), DownloadColumn())
    quiet = report.as_json or not report.console.is_terminal
    with Progress(*columns, console=report.console, disable=quiet, transient=True) as bars:
        task = bars.add_task(doing)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _told(data: dict[str, object]) -> str:
    size = f"{data['files']:,} files, {int(str(data['bytes'])) / 1e6:,.1f} MB"
    return f"{size}, of {data['created_at']}: {data['folder']}"
