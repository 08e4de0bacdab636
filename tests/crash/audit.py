"""`python -m tests.crash.audit --count 1000 [--seed 7]`: audit on a real PostgreSQL, tampered with.

Six kinds in turn; each must be found, and after each the books are put back and must be whole.
Writes bench/results/audit_tampering.json, exits 1 when anything was missed or found falsely.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
from collections import Counter
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final

import structlog

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.flow.seal_places import FILE_NAME, SealFile
from polyplane.flow.sealing import Sealer
from polyplane.model.caller import Caller
from polyplane.runtime.sealing import sealing_key, trusted_keys
from polyplane.truth.audit import Trail
from tests.flow.audit_tampering import KINDS
from tests.flow.books import put_back, read_books

WINDOWS: Final = 60
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "audit_tampering.json"


async def run(home: Path, seed: int, count: int) -> dict[str, Any]:
    """The report."""
    engines = Engines(home, wanted=("postgres", "nats"))
    await engines.start()
    try:
        settings = pp.Settings.load(
            environ={},
            home=home,
            database_url=engines.urls["postgres"],
            nats_url=engines.urls["nats"],
        )
        async with pp.Plane(settings=settings, flows=False) as plane:
            return await _tampered(plane, random.Random(seed), seed, count)
    finally:
        await engines.stop()


async def _tampered(
    plane: pp.Plane, chance: random.Random, seed: int, count: int
) -> dict[str, Any]:
    await _fill(plane, chance)
    books = await read_books(plane)
    tried, found, kinds = Counter[str](), Counter[str](), Counter[str]()
    falsely, began = 0, monotonic()
    for n in range(count):
        kind = list(KINDS)[n % len(KINDS)]
        tampered = books.copy()
        KINDS[kind](tampered, chance)
        await put_back(plane, tampered)
        proven = await plane.audit.verify()
        tried[kind] += 1
        found[kind] += not proven.is_whole
        kinds.update(f"{kind} as {it}" for it in proven.kinds)
        await put_back(plane, books)
        falsely += not (await plane.audit.verify()).is_whole
        if proven.is_whole:
            print(f"MISSED: {kind}, the {n}th of seed {seed}", flush=True)
    return {
        "seed": seed,
        "rows": len(books.rows),
        "seals": len(books.seals),
        "tampered": dict(tried),
        "found": dict(found),
        "missed": count - found.total(),
        "whole_books_doubted": falsely,
        "of_whole_books": count,
        "found_as": dict(sorted(kinds.items())),
        "minutes": round((monotonic() - began) / 60, 1),
    }


async def _fill(plane: pp.Plane, chance: random.Random) -> None:
    """Transactions of one line or some, a few under each seal."""
    opened = plane.opened
    sealer = Sealer(
        Trail(opened.database),
        opened.journal,
        sealing_key(plane.settings),
        trusted_keys(plane.settings),
        [SealFile(plane.settings.home / FILE_NAME)],
        epoch=lambda: opened.epoch,
        limit=7,
    )
    for _ in range(WINDOWS):
        for _ in range(chance.randrange(1, 6)):
            caller = Caller(f"user:{chance.randrange(9)}", address="10.0.0.9")
            thing = str(chance.randrange(99))
            await plane.audit(caller, "door.opened", "door", thing, {"n": chance.random()})
        await sealer.round()


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.audit", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--no-result", action="store_true", help="write no file of results")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    home = Path(mkdtemp(prefix="polyplane-audit-"))
    try:
        report = asyncio.run(run(home, asked.seed, asked.count))
    finally:
        rmtree(home, ignore_errors=True)
    text = json.dumps(report, indent=1)
    print(text)
    if not asked.no_result:
        RESULT.write_text(text + "\n")
    if report["missed"] or report["whole_books_doubted"]:
        sys.exit("Wrong.")


if __name__ == "__main__":
    main()
