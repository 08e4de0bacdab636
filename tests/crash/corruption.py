"""Damage to the files of every embedded engine: `python -m tests.crash.corruption [ENGINE ...]`.

A home with a little of everything in it is copied, one thing in the copy is damaged, and a plane is
started on it, while a reader asks without pause. It must heal, fill again what is derived, or
refuse and name what to do; and never answer with what is not true. Writes
bench/results/corruption.json, exits 1 when anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import rmtree
from signal import SIGKILL
from tempfile import mkdtemp
from time import monotonic, sleep
from typing import Any, Final

import psycopg

from tests.crash.children import Child, Died
from tests.crash.golden import MESSAGES, OBJECTS, POINTS, Homes, Stage, expected, golden
from tests.crash.harm import HARMS
from tests.crash.objects import BUCKET, content_of
from tests.flow.embedded_s3 import client_of

RECOVERY_MAX_S: Final = 60.0
SAMPLE: Final = 40
READS: Final = 4
READ_S: Final = 6.0
OBJECTS_S: Final = 12.0
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "corruption.json"


@dataclass
class Cell:
    """What came of one kind of damage to one engine."""

    engine: str
    kind: str
    state: str
    harm: str = ""
    outcome: str = ""
    said: str = ""
    ready_s: float = 0.0
    whole_s: float = 0.0
    answers: int = 0
    errors: int = 0
    wrong: list[str] = field(default_factory=list)


async def play(stage: Stage, homes: Homes, engine: str, kind: str, state: str) -> Cell:
    """Damage a copy, start a plane on it, and see."""
    cell = Cell(engine, kind, state)
    stage.put_back(homes.killed if state == "killed" else homes.clean)
    try:
        cell.harm = HARMS[engine][kind](stage.home, homes)
    except LookupError as error:
        cell.outcome = f"nothing there: {error}"
        return cell
    errors = stage.folder / "program.err"
    before = errors.stat().st_size if errors.exists() else 0
    began = monotonic()
    child = await stage.program()
    try:
        told = await child.hear("open", RECOVERY_MAX_S + 20)
    except Died:
        cell.ready_s = round(monotonic() - began, 1)
        _refused(cell, errors.read_bytes()[before:].decode(errors="replace"))
        return cell
    except TimeoutError:
        cell.wrong.append("did not open")
        child.send(SIGKILL)
        return cell
    try:
        cell.ready_s = round(monotonic() - began, 1)
        await _judged(cell, child, told["admins"], expected(state == "killed"), began)
    finally:
        await child.end()
    return cell


def _refused(cell: Cell, said: str) -> None:
    """It does not start: right, when it says what is damaged and what to do."""
    last = [line for line in said.strip().splitlines() if line.startswith("polyplane.errors.")]
    cell.outcome = "refused"
    cell.said = " ".join(said.strip().splitlines()[-6:])[-700:] if not last else last[-1]
    if cell.engine != "postgres" or "Restore a backup" not in said:
        cell.wrong.append("does not start")


async def _judged(
    cell: Cell,
    child: Child,
    urls: Mapping[str, str],
    wanted: Mapping[str, tuple[str, int]],
    began: float,
) -> None:
    """Read without pause from the first moment on; then compare everything."""
    try:
        await _read_on(cell, child, wanted)
        caught_up = await child.ask('caught_up {"timeout_s": 60}', "answer", 90)
        await _look_at_truth(cell, urls["postgres"], wanted)
        if await _written(urls["postgres"]):
            caught_up = await child.ask('caught_up {"timeout_s": 60}', "answer", 90)
        told = await child.ask("check", "answer", 90)
        cell.whole_s = round(monotonic() - began, 1)
        health = await child.ask("health", "answer", 30)
    except (Died, TimeoutError) as error:
        cell.wrong.append(f"{type(error).__name__}: {error}")
        return
    details = [f"{name}: {it[1]}" for name, it in health.get("engines", {}).items() if it[1]]
    details += [f"{it[0]} {it[1]}: {it[2]}" for it in health.get("work", [])]
    cell.said = "; ".join(details)[:700]
    truth_says = [it for it in cell.said.split("; ") if "postgres" in it]
    for found in (caught_up, told):
        if "error" in found and not (cell.engine == "postgres" or truth_says):
            cell.wrong.append(found["error"])
    if "drift" in told:
        drift = {name: parts for name, parts in told["drift"].items() if any(parts)}
        if drift:
            cell.wrong.append(f"drift: {drift}")
        _judge_points(cell, told)
    await asyncio.to_thread(_look_at_objects, cell, urls["s3"])
    if cell.whole_s > RECOVERY_MAX_S:
        cell.wrong.append(f"slow: {cell.whole_s} s")
    cell.outcome = cell.outcome or ("said, whole" if cell.said else "healed")


def _judge_points(cell: Cell, told: Mapping[str, Any]) -> None:
    sent = 2 * MESSAGES * POINTS
    if told.get("points") == sent == told.get("different"):
        return
    if "refused" in told and "heat" in cell.said and cell.engine == "clickhouse":
        cell.outcome = f"owned, refused and said: {told['refused']}"[:200]
    elif "heat" in cell.said and ("lost" in cell.said or "cannot be read" in cell.said):
        cell.outcome = f"owned, lost and said: {told.get('points')} of {sent} points"
    else:
        cell.wrong.append(f"points lost silently: {told.get('points')} of {sent}")


async def _read_on(cell: Cell, child: Child, wanted: Mapping[str, tuple[str, int]]) -> None:
    """Ask for everything, again and again; an error is an answer, a wrong one is not.

    At least READS times, and until there is no error any more, or READ_S are over.
    """
    keys = [*list(wanted)[:: len(wanted) // SAMPLE], "999999"]
    order = json.dumps({"keys": keys})
    until, reads = monotonic() + READ_S, 0
    while monotonic() < until and len(cell.wrong) <= 5:
        answers = await child.ask(f"read {order}", "answer", 60)
        errors = [it for it in answers.values() if isinstance(it, str)]
        reads += 1
        cell.answers += len(answers)
        cell.errors += len(errors)
        for kind, answer in answers.items():
            if not isinstance(answer, str) and (why := _why_wrong(kind, answer, keys, wanted)):
                cell.wrong.append(f"a reader was told: {kind}: {why}")
        if reads >= READS and not errors:
            return


def _why_wrong(
    kind: str, answer: Any, keys: list[str], wanted: Mapping[str, tuple[str, int]]
) -> str:
    """What is not true in an answer, or nothing."""
    if kind == "points":
        n = 2 * MESSAGES * POINTS
        return "" if answer == [n, n, n * (n - 1) // 2] else str(answer)
    if kind == "cards":
        right = {k: {"body": wanted[k][0], "version": wanted[k][1]} for k in keys if k in wanted}
        told = {k: it for k, it in answer.items() if it is not None or k in wanted}
        odd = {k: it for k, it in told.items() if it != right.get(k)}
        return f"{len(odd)}, such as {dict(list(odd.items())[:2])}" if odd else ""
    of = wanted if kind == "found" else {k: wanted[k] for k in keys if k in wanted}
    vectors = {k: list(it) for k, it in of.items()}
    lacking, odd = vectors.keys() - answer.keys(), answer.keys() - vectors.keys()
    other = {k: it for k, it in answer.items() if k in vectors and it != vectors[k]}
    if not (lacking or odd or other):
        return ""
    return f"{len(lacking)} lacking, {len(odd)} strange, {len(other)} other"


async def _look_at_truth(cell: Cell, url: str, wanted: Mapping[str, tuple[str, int]]) -> None:
    """Rows by scan and by key: right, or an error of the engine."""
    right = dict(wanted.items())
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        for what, query in (
            ("scan", "SELECT id, body, version FROM public.thing"),
            ("keys", "SELECT id, body, version FROM public.thing WHERE id BETWEEN 10 AND 9999"),
        ):
            cell.answers += 1
            try:
                cursor = await connection.execute(query.encode())
                found = {str(k): (body, v) for k, body, v in await cursor.fetchall() if k > 9}
            except psycopg.Error as error:
                cell.errors += 1
                cell.outcome = f"refused: {error}"[:200]
                continue
            if found != right:
                cell.wrong.append(f"truth by {what}: {len(found)} of {len(right)} rows")


async def _written(url: str) -> bool:
    """Write one row more, so that changes have to flow again; whether truth took it."""
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("INSERT INTO public.thing VALUES (500000, 'new 1', 1)")
    except psycopg.Error:
        return False
    return True


def _look_at_objects(cell: Cell, url: str) -> None:
    """Each is what it was, or cannot be read; a name that is lost is found by who knows it.

    The server knows its volumes some seconds after it serves.
    """
    client, until = client_of(url), monotonic() + OBJECTS_S
    missing = list(range(2 * OBJECTS))
    why = ""
    while missing:
        left = []
        for number in missing:
            if monotonic() > until:
                left.append(number)
                continue
            cell.answers += 1
            try:
                found = client.get_object(Bucket=BUCKET, Key=f"o{number}")["Body"].read()
            except Exception as error:
                cell.errors += 1
                left.append(number)
                why = why or f"{type(error).__name__}: {error}"
                continue
            if found != content_of(number):
                cell.wrong.append(f"another content: o{number}")
        missing = left
        if monotonic() > until:
            break
        if missing:
            sleep(0.5)
    if missing:
        cell.outcome = f"owned, cannot be read: {len(missing)} of {2 * OBJECTS} objects ({why})"
        if cell.engine != "seaweedfs":
            cell.wrong.append(f"{len(missing)} objects are lost")


async def run(
    engines: list[str], states: list[str], only: str, note: Callable[[list[Cell]], None]
) -> list[Cell]:
    """Every cell, one after the other; `note` is told of all so far after each."""
    folder = Path(mkdtemp(prefix="polyplane-power-"))
    folder.chmod(0o755)
    stage = Stage(folder)
    cells: list[Cell] = []
    try:
        await stage.nursery.start()
        homes = await golden(stage)
        for engine in engines:
            for kind in HARMS[engine]:
                for state in states if only in kind else ():
                    cell = await play(stage, homes, engine, kind, state)
                    cells.append(cell)
                    note(cells)
                    mark = "WRONG " if cell.wrong else ""
                    print(
                        f"{mark}{engine}, {kind} ({state}; {cell.harm}): {cell.outcome}"
                        f" [{cell.ready_s}/{cell.whole_s} s, {cell.answers} answers,"
                        f" {cell.errors} errors] {cell.said} {cell.wrong[:3] or ''}",
                        flush=True,
                    )
    finally:
        await stage.nursery.stop()
        stage.end()
        if not any(cell.wrong for cell in cells):
            rmtree(folder, ignore_errors=True)
    return cells


def report(cells: list[Cell]) -> dict[str, Any]:
    """All that was found."""
    played = [cell for cell in cells if cell.harm]
    return {
        "cells": len(played),
        "kinds": len({(cell.engine, cell.kind) for cell in played}),
        "wrong": sum(bool(cell.wrong) for cell in played),
        "answers": sum(cell.answers for cell in played),
        "errors": sum(cell.errors for cell in played),
        "whole_s_max": max((cell.whole_s for cell in played), default=0),
        "found": [asdict(cell) for cell in cells],
    }


def _others(cells: list[Cell]) -> list[Cell]:
    """What was found earlier of the cells that were not played now."""
    if not RESULT.exists():
        return []
    earlier = [Cell(**it) for it in json.loads(RESULT.read_text())["found"]]
    played = {(cell.engine, cell.kind, cell.state) for cell in cells}
    return [it for it in earlier if (it.engine, it.kind, it.state) not in played]


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.corruption", description=__doc__)
    parser.add_argument("engines", nargs="*", help=f"any of: {', '.join(HARMS)}; default all")
    parser.add_argument("--state", choices=["clean", "killed"], help="default both")
    parser.add_argument("--only", default="", help="kinds that have this in their name")
    parser.add_argument("--no-result", action="store_true", help="write no file of results")
    asked = parser.parse_args()
    states = [asked.state] if asked.state else ["clean", "killed"]

    def note(cells: list[Cell]) -> None:
        if not asked.no_result:
            RESULT.write_text(json.dumps(report([*cells, *_others(cells)]), indent=1) + "\n")

    found = report(asyncio.run(run(asked.engines or list(HARMS), states, asked.only, note)))
    print(json.dumps({name: it for name, it in found.items() if name != "found"}))
    if found["wrong"]:
        sys.exit("Wrong.")


if __name__ == "__main__":
    main()
