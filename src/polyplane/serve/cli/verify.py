"""`polyplane verify`: the proof."""

from __future__ import annotations

from pathlib import Path
from random import randrange
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from polyplane.errors import Refused
from polyplane.ops.testimony import read_report, write_report
from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.watching import asking, proofs_of, watched
from polyplane.settings import Settings

KINDS = ("missing", "stale", "extra")
SHOWN_KEYS = 5

Deep = Annotated[
    bool, typer.Option("--deep", help="Compare texts, tags and vectors too, embedded anew.")
]


def verify(
    ctx: typer.Context,
    projections: Annotated[
        list[str] | None,
        typer.Argument(help="Only these projections, streams, or blobs (default: all)."),
    ] = None,
    deep: Deep = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the verify that was interrupted.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Only so many rows of each, chosen at random.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="What chooses them; it is shown, to look again.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write a signed report to this file.")
    ] = None,
    check_file: Annotated[
        Path | None, typer.Option("--check", help="Only check that a report is as it was signed.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Prove that every store agrees with truth.

    Reads back what the stores really hold and compares it with what follows from truth; and counts
    and digests what streams hold. Exits 1 when anything is missing, stale or extra. Interrupted, or
    killed, it is gone on with by --resume, also when `up` did the work.
    """
    with Report("verify", as_json) as report:
        settings = Settings.load(home=home)
        if check_file is not None:
            _check(report, check_file, settings)
            return
        names = projections or []
        asked: dict[str, Any] = {"deep": deep, "resume": resume}
        if resume and sample is not None:
            raise Refused("A sample cannot be resumed.", fix="Leave out --sample, or --resume.")
        if sample is not None:
            asked |= {"sample": sample, "seed": randrange(2**31) if seed is None else seed}
            report.show(f"A sample of {sample:,} rows of each, of seed {asked['seed']}.")
        remote = find_running(settings)
        report.if_interrupted = "To go on: polyplane verify --resume" if sample is None else ""
        with watched(report) as bar:
            if remote is not None:
                with asking(proofs_of(remote, bar)):
                    drift = remote.post("verify", projection=names, **asked)
            else:
                from polyplane.serve.cli.opening import OwnPlane  # loads every engine

                drift = OwnPlane(report, ctx.obj, settings).verify(names, bar.far, **asked)
        drift |= {"sample": sample, "seed": asked.get("seed")}
        report.data = drift
        report.show(*table_of(drift))
        if report_file is not None:
            write_report(report_file, drift, home=settings.home, namespace=settings.namespace)
            report.show(f"Signed report: {report_file}")
        if any(drift[kind] for kind in KINDS):
            report.status, report.exit_code = "drift", 1
            if any(part[kind] for part in drift["parts"] for kind in KINDS):
                report.show("To mend it: polyplane repair --yes")
            report.show(*advice(drift))
        else:
            report.show(
                Text("0 drift: every store holds exactly what follows from truth.", "green")
            )
            report.next = "polyplane projections list"


def _check(report: Report, path: Path, settings: Settings) -> None:
    """Say what a report says, if it is as this home has signed it."""
    found = read_report(path, home=settings.home)
    report.data = found
    streams = [it["stream"] for it in found.get("streams", ())]
    streams += [it["bucket"] for it in found.get("blobs", ())]
    names = ", ".join([*(part["projection"] for part in found["projections"]), *streams])
    outcome = "0 drift" if found["clean"] else "drift"
    report.show(f"{path} is as it was signed: {outcome} at {found['at']} in {names}.")
    report.next = "polyplane verify"


def table_of(drift: dict[str, Any]) -> list[Table | Text]:
    """What was compared, and the first keys of each kind of drift."""
    table = Table("projection", "rows", "items", *KINDS, "digest", box=None)
    lines: list[Table | Text] = [table]
    beside = {"parked": "wait in the dead letters", "moving": "never rested and were not judged"}
    for part in drift["parts"]:
        counts = [f"{len(part[kind]):,}" for kind in KINDS]
        rows, items = f"{part['rows']:,}", f"{part['items']:,}"
        table.add_row(part["projection"], rows, items, *counts, part["store_digest"][:12])
        for kind in KINDS:
            if part[kind]:
                keys = ", ".join(part[kind][:SHOWN_KEYS])
                more = " ..." if len(part[kind]) > SHOWN_KEYS else ""
                lines.append(Text(f"{part['projection']} {kind}: {keys}{more}", "red"))
        for kind, what in beside.items():
            if part[kind]:
                lines.append(Text(f"{part['projection']}: {len(part[kind]):,} {what}", "yellow"))
    return lines + _streams(drift["streams"]) + _blobs(drift["blobs"]) + _requests(drift)


def _requests(drift: dict[str, Any]) -> list[Table | Text]:
    """What the request cache holds, and the first entries that are stale."""
    lines: list[Table | Text] = []
    for it in drift["requests"]:
        if it["entries"]:
            table = Table("request cache", "count", "stale", "unproven", box=None)
            figures = it["entries"], it["count"], len(it["stale"]), it["unproven"]
            table.add_row(*(f"{figure:,}" for figure in figures))
            lines.append(table)
        lines += [Text(f"entry {name}: stale", "red") for name in it["stale"][:SHOWN_KEYS]]
    return lines


def _streams(streams: list[dict[str, Any]]) -> list[Table | Text]:
    """What the streams hold, and the first batches in which points are lost or doubled."""
    if not streams:
        return []
    table = Table("stream", "partitions", "points", "known", "lost", "doubled", box=None)
    lines: list[Table | Text] = [table]
    for it in streams:
        points = sum(partition["points"] for partition in it["partitions"])
        figures = len(it["partitions"]), points, it["known_points"], it["lost"], it["doubled"]
        table.add_row(it["stream"], *(f"{figure:,}" for figure in figures))
        for broken in it["broken"][:SHOWN_KEYS]:
            wrong = f"{broken['lost']:,} lost, {broken['doubled']:,} doubled"
            lines.append(Text(f"{it['stream']}, batch {broken['batch']}: {wrong}", "red"))
    return lines


def _blobs(blobs: list[dict[str, Any]]) -> list[Table | Text]:
    """What the bucket holds, and the first blobs and objects that are not right."""
    if not blobs:
        return []
    table = Table("bucket", "blobs", "objects", "bytes", "lost", "damaged", "orphans", box=None)
    lines: list[Table | Text] = [table]
    for it in blobs:
        counts = it["rows"], it["objects"], it["bytes"], len(it["lost"]), len(it["damaged"])
        table.add_row(it["bucket"], *(f"{count:,}" for count in (*counts, it["orphaned"])))
        for kind in ("lost", "damaged"):
            lines += [Text(f"blob {key}: {kind}", "red") for key in it[kind][:SHOWN_KEYS]]
        for orphan in it["orphans"][:SHOWN_KEYS]:
            what = f"{orphan['key']} {orphan['version']}: an object that no blob refers to"
            lines.append(Text(what, "red"))
        if it["expired"]:
            lines.append(Text(f"{it['expired']:,} blobs are pending beyond their time", "yellow"))
    return lines


def advice(drift: dict[str, Any]) -> list[str]:
    """What to do about streams and blobs that are not right."""
    lines, blobs = [], drift["blobs"]
    if any(it["broken"] for it in drift["streams"]):
        lines.append("A stream is its own truth: what it lost is in a backup, or nowhere.")
    if any(it["lost"] or it["damaged"] for it in blobs):
        lines.append(
            "A blob is its own truth: its object is in a backup, or nowhere."
            " To tell its readers: polyplane repair blobs --yes"
        )
    if any(it["orphaned"] for it in blobs):
        lines.append("To take objects of nobody away: polyplane blobs collect --yes")
    return lines
