"""(a) Single-row commits with capture and without, by four clients of pgbench."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import harmonic_mean
from typing import Any, Final

from sqlalchemy import make_url

from bench.documents import Note, NoteCache, Plain
from bench.figures import Figure, ratio
from bench.ground import Ground, Size, execute
from polyplane.embedded.postgres import Postgres

CLIENTS: Final = 4
SLICES: Final = 6
SLICE_COMMITS: Final = 2_000
"""A run is many short slices on each table in turn, so that what else the machine and its disk do
disturbs both alike; so many commits by each client in a slice, so that connecting weighs little."""
ROWS: Final = 10_000
"""Rows there are for updates."""
REQUIRED: Final = 0.85
GOAL: Final = 0.95

_BODY: Final = "the kettle is broken and so on, " * 3
SCRIPTS: Final = {
    "insert": f"INSERT INTO {{table}} (owner, body) VALUES ('ada', '{_BODY}');\n",
    "update": (
        f"\\set n random(1, {ROWS})\n"
        f"UPDATE {{table}} SET body = '{_BODY}' WHERE id = lpad(:n::text, 32, '0')::uuid;\n"
    ),
}


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Inserts and updates on both tables in turn; then inserts while the plane follows, too."""
    url = await ground.database()
    declared: dict[str, Any] = {"models": [Plain, Note], "projections": [NoteCache]}
    found: list[Figure] = []
    async with ground.plane(url, flows=False, **declared):
        await _fill(url)
        for verb in SCRIPTS:
            raw, ours = await _side_by_side(ground, size, url, verb)
            name = f"{verb}s, with / without capture"
            found += [raw, ours, ratio(name, ours, raw, required=REQUIRED, goal=GOAL)]
    await _fill(url)
    async with ground.plane(url, **declared) as plane:
        await plane.caught_up(timeout_s=300)
        _, followed = await _side_by_side(ground, size, url, "insert")
        await plane.caught_up(timeout_s=300)
        drift = await plane.verify()
        assert drift.clean, drift
        found.append(Figure("inserts, while a cache follows", followed.unit, followed.runs))
    return found


async def _fill(url: str) -> None:
    rows = f"SELECT lpad(n::text, 32, '0')::uuid, 'ada', 'x' FROM generate_series(1, {ROWS}) n"
    for table in ("plain", "note"):
        await execute(url, [f"TRUNCATE {table}", f"INSERT INTO {table} {rows}"])


async def _side_by_side(ground: Ground, size: Size, url: str, verb: str) -> tuple[Figure, Figure]:
    """Commits a second on the plain and on the captured table."""
    seen: dict[str, list[float]] = {"plain": [], "note": []}
    for _ in range(size.runs):
        await ground.calm()
        slices: dict[str, list[float]] = {"plain": [], "note": []}
        for turn in range(size.scaled(SLICES)):
            for table in sorted(slices, reverse=bool(turn % 2)):
                slices[table].append(await _pgbench(ground, url, verb, table))
        for table, rates in slices.items():
            seen[table].append(harmonic_mean(rates))
    return (
        Figure(f"{verb}s without capture", "commits/s", tuple(seen["plain"])),
        Figure(f"{verb}s with capture", "commits/s", tuple(seen["note"])),
    )


async def _pgbench(ground: Ground, url: str, verb: str, table: str) -> float:
    """Commits a second in one slice; raises RuntimeError when any of them failed."""
    script: Path = ground.folder / f"{verb}-{table}.sql"
    script.write_text(SCRIPTS[verb].format(table=table))
    at = make_url(url)
    process = await asyncio.create_subprocess_exec(
        Postgres().program.with_name("pgbench"),
        *("-h", str(at.host), "-p", str(at.port), "-U", str(at.username)),
        *("-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2"),
        *("-t", str(SLICE_COMMITS), "-f", script, str(at.database)),
        env={**os.environ, "PGPASSWORD": str(at.password)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    rate = re.search(rb"tps = ([\d.]+)", out)
    if process.returncode or not rate or b"failed transactions: 0 " not in out:
        raise RuntimeError(f"pgbench: {out.decode()}{err.decode()}")
    return float(rate[1])
