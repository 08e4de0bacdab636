"""`python -m tests.crash.context [--count 10000] [--seed 7]`: whose context a transaction has.

Transactions of five tenants, direct and by way of a PgBouncer in transaction mode, with errors and
cancellations at random moments; each looks at what it sees. Writes bench/results/context.json and
exits 1 when anything was seen by whom it is not for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final

import polyplane as pp
from tests.conftest import SharedEngines, settings_in
from tests.flow.bouncer import bouncer, through
from tests.flow.mixing import fill, mix
from tests.flow.owned import Letter, Stamp, apart

RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "context.json"


async def run(count: int, seed: int) -> dict[str, Any]:
    """`count` transactions each way; the report."""
    place = Path(mkdtemp(prefix="polyplane-context-"))
    place.chmod(0o755)
    engines = SharedEngines(place / "home")
    try:
        await engines.start()
        report: dict[str, Any] = {"seed": seed}
        async with bouncer(engines, place) as port:
            for way in ("direct", "pgbouncer"):
                folder = place / way
                folder.mkdir()
                given = apart(await settings_in(folder, engines, f"chdb://{place}/chdb"), engines)
                settings = through(given, port) if way == "pgbouncer" else given
                report[way] = await _one_way(settings, count, seed)
                print(way, report[way], flush=True)
        return report
    finally:
        await engines.stop()
        rmtree(place, ignore_errors=True)


async def _one_way(settings: pp.Settings, count: int, seed: int) -> dict[str, Any]:
    async with pp.Plane(settings=settings, models=[Letter, Stamp], flows=False) as plane:
        await fill(plane)
        began = monotonic()
        mixed = await mix(plane, count, seed)
        seconds = round(monotonic() - began, 1)
    return {
        "transactions": sum(mixed.done.values()),
        **mixed.done,
        "leaks": len(mixed.leaks),
        "first_leaks": mixed.leaks[:5],
        "seconds": seconds,
    }


def main() -> None:
    """The program."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--count", type=int, default=10_000)
    words.add_argument("--seed", type=int, default=7)
    asked = words.parse_args()
    report = asyncio.run(run(asked.count, asked.seed))
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(report[way]["leaks"] for way in ("direct", "pgbouncer")))


if __name__ == "__main__":
    main()
