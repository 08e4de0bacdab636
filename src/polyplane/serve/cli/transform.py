"""`polyplane transform`: have rows of one model made into rows of another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.table import Table

from polyplane.errors import NotFound, PolyplaneError, Refused
from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.watching import Watched, watched
from polyplane.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    help="Make rows of one model into rows of another.",
    no_args_is_help=True,
    add_completion=False,
)
dead = typer.Typer(
    help="Rows that nothing can be made of: list, show, retry, drop them.",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(dead, name="dead")

Name = Annotated[str, typer.Argument(help="The transformation.")]
Keys = Annotated[list[str] | None, typer.Argument(help="Keys of rows; none: all.")]
_POLL_S: Final = 0.3
_WHERE: Final = "ops/transformations"


@app.command("list")
def list_(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show the transformations, and how far they are."""
    with Report("transform list", as_json) as report:
        found = _asked(report, ctx, home, "GET", "")
        report.data = {"transformations": found}
        table = Table("transformation", "state", "read", "written", "dead", "of", box=None)
        for it in found:
            counts = [f"{it[name]:,}" for name in ("read", "written", "dead")]
            state = it["state"] or "never run"
            table.add_row(it["name"], state, *counts, f"{it['source']} -> {it['target']}")
        report.show(table if found else "This plane declares no transformations.")
        report.next = f"polyplane transform run {found[0]['name']}" if found else ""


@app.command()
def run(
    ctx: typer.Context,
    name: Name,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would come of it.")
    ] = False,
    rows: Annotated[
        int, typer.Option(min=1, max=100_000, help="Rows of a dry run, at most.")
    ] = 10_000,
    anew: Annotated[bool, typer.Option("--anew", help="From the first row.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Have it run, from where it was. Interrupted: `up` goes on with it, else the next command."""
    with Report("transform run", as_json) as report:
        if dry_run:
            report.data = _asked(
                report, ctx, home, "POST", f"/{name}/dry-run", parameters={"rows": rows}
            )
            report.show(*_dry_lines(report.data))
            report.next = f"polyplane transform run {name}"
            return
        report.if_interrupted = f"To go on: polyplane transform run {name}"
        with watched(report) as bar:
            report.data = _operated(report, ctx, home, lambda call: _run(call, name, anew, bar))
        report.show(*_lines(report.data))
        if report.data["state"] == "failed":
            fix = f"When that is mended: polyplane transform run {name}"
            raise PolyplaneError(report.data["error"], fix=fix)
        report.next = _next(report.data)


async def _run(call: Call, name: str, anew: bool, bar: Watched) -> Any:
    """Start it, and look until it has ended."""
    found = await call("POST", f"{_WHERE}/{name}/run", parameters={"anew": anew})
    while found["state"] == "running":
        done, unit = found["read"], f"rows, {found['dead']:,} dead"
        bar.count(f"{name} ({found['phase']})", done, max(found["about"], done), unit)
        await asyncio.sleep(_POLL_S)
        found = await call("GET", f"{_WHERE}/{name}")
    return found


@app.command()
def status(ctx: typer.Context, name: Name, home: Home = None, as_json: Json = False) -> None:
    """Show how far one is."""
    with Report("transform status", as_json) as report:
        report.data = _asked(report, ctx, home, "GET", f"/{name}")
        report.show(*_lines(report.data))
        report.next = _next(report.data)


@app.command()
def stop(ctx: typer.Context, name: Name, home: Home = None, as_json: Json = False) -> None:
    """Stop one where it is; `run` goes on with it."""
    with Report("transform stop", as_json) as report:
        report.data = _asked(report, ctx, home, "POST", f"/{name}/stop")
        report.show(*_lines(report.data))
        report.next = f"polyplane transform run {name}"


@dead.command("list")
def dead_list(
    ctx: typer.Context,
    name: Name,
    after: Annotated[str, typer.Option(help="Only keys behind this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 100,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the dead letters of a transformation: why, and how often they were tried."""
    with Report("transform dead list", as_json) as report:
        asked = {"limit": limit} | ({"after": after} if after else {})
        letters = _asked(report, ctx, home, "GET", f"/{name}/dead", parameters=asked)
        report.data = {"transformation": name, "letters": letters}
        table = Table("key", "error", "attempts", "since", "", box=None)
        for it in letters:
            is_due = "due" if it["due"] else ""
            since = str(it["first_at"])[:19]
            table.add_row(it["key"], it["error"], f"{it['attempts']:,}", since, is_due)
        report.show(table if letters else f"{name} has no dead letters.")
        more = (
            f"polyplane transform dead list {name} --after {letters[-1]['key']}" if letters else ""
        )
        again = f"polyplane transform dead retry {name}" if letters else ""
        report.next = more if len(letters) == limit else again


@dead.command("show")
def dead_show(
    ctx: typer.Context,
    name: Name,
    key: Annotated[str, typer.Argument(help="The key of the row.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter in full."""
    with Report("transform dead show", as_json) as report:
        letters = _asked(report, ctx, home, "GET", f"/{name}/dead", parameters={"key": [key]})
        if not letters:
            raise NotFound(f"{name} has no dead letter {key}.", field="key")
        report.data = letters[0]
        report.show("\n".join(f"{field}: {value}" for field, value in letters[0].items()))
        report.next = f"polyplane transform dead retry {name} {key}"


@dead.command("retry")
def dead_retry(
    ctx: typer.Context, name: Name, keys: Keys = None, home: Home = None, as_json: Json = False
) -> None:
    """Try dead letters again; what works leaves the list."""
    with Report("transform dead retry", as_json) as report:

        async def work(call: Call) -> Any:
            asked = {"key": keys or []}
            done = await call("POST", f"{_WHERE}/{name}/dead/retry", parameters=asked)
            if done["rows"]:
                while (await call("GET", f"{_WHERE}/{name}"))["state"] == "running":
                    await asyncio.sleep(_POLL_S)
            found = await call("GET", f"{_WHERE}/{name}")
            return done | {"dead": found["dead"], "state": found["state"]}

        report.data = _operated(report, ctx, home, work)
        tried, left = report.data["rows"], report.data["dead"]
        report.show(f"{tried:,} rows of {name} were tried again; {left:,} are dead letters now.")
        report.next = f"polyplane transform dead list {name}"


@dead.command("drop")
def dead_drop(
    ctx: typer.Context,
    name: Name,
    keys: Keys = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Forget dead letters: the target stays as it is."""
    with Report("transform dead drop", as_json) as report:
        if not yes:
            which = f"{len(keys):,} dead letters" if keys else "all dead letters"
            raise Refused(f"This forgets {which} of {name}.", fix="Say --yes to do it.")
        asked = {"key": keys or []}
        report.data = _asked(report, ctx, home, "POST", f"/{name}/dead/drop", parameters=asked)
        report.show(f"{report.data['rows']:,} dead letters of {name} forgotten.")
        report.next = f"polyplane transform status {name}"


def _asked(
    report: Report, ctx: typer.Context, home: Any, method: str, path: str, **given: Any
) -> Any:
    """What one route answers."""

    async def work(call: Call) -> Any:
        return await call(method, f"{_WHERE}{path}", **given)

    return _operated(report, ctx, home, work)


def _operated(
    report: Report, ctx: typer.Context, home: Any, work: Callable[[Call], Awaitable[T]]
) -> T:
    return as_operator(ctx, report, Settings.load(home=home), work)


def _lines(found: dict[str, Any]) -> list[str]:
    shown = [it for it in found if found[it] not in ("", None, 0, False) or it == "dead"]
    return [
        f"{it}: {found[it]:,}" if type(found[it]) is int else f"{it}: {found[it]}" for it in shown
    ]


def _dry_lines(found: dict[str, Any]) -> list[str]:
    of = "all rows" if found["is_whole"] else "the first rows"
    told = (
        f"Of {of}, {found['read']:,}: {found['would_write']:,} would be written,"
        f" {found['would_skip']:,} skipped, {found['would_die']:,} dead."
    )
    return [told, *(f"{key}: {error}" for key, error in found["errors"])]


def _next(found: dict[str, Any]) -> str:
    name = found["name"]
    if found["dead"]:
        return f"polyplane transform dead list {name}"
    return "polyplane verify" if found["state"] == "done" else f"polyplane transform run {name}"
