"""`python -m tests.crash --minutes 5 [--seed 7]`: the crash ring, as long as you like.

The seed gives the same faults in the same order again; how they fall into the work is the
machine's affair. Writes bench/results/crash.json, exits 1 when anything was wrong, or nobody
died at some step, and then leaves the home with every log and journal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final

from tests.crash.ring import Ring, never_taken
from tests.crash.walk import walk

STORM_S: Final = 45.0
PAUSE_S: Final = (0.1, 1.2)
RECOVERY_MAX_S: Final = 20.0
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "crash.json"


async def run(home: Path, seed: int, minutes: float) -> dict[str, Any]:
    """Each step and engine in its turn, then storms and checks by turns; the report."""
    ring = Ring(home, seed, lambda line: print(line, flush=True))
    began = monotonic()
    try:
        await ring.start()
        never = await walk(ring)
        found = await ring.check(RECOVERY_MAX_S)
        await ring.resume()
        while not found.wrong:
            left_s = minutes * 60 - (monotonic() - began)
            await ring.storm(min(STORM_S, max(5.0, left_s)), PAUSE_S)
            found = await ring.check(RECOVERY_MAX_S)
            if left_s <= STORM_S:
                break
            await ring.resume()
    finally:
        await ring.stop()
    report = ring.report()
    report["wrong"] += [f"nobody died at {step}" for step in never]
    report["wrong"] += [f"never taken: {way}" for way in never_taken(report)]
    return {"minutes": round((monotonic() - began) / 60, 1), **report}


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--no-result", action="store_true", help="write no file of results")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    home = Path(mkdtemp(prefix="polyplane-crash-"))
    report = asyncio.run(run(home, asked.seed, asked.minutes))
    text = json.dumps(report, indent=1)
    print(text)
    if not asked.no_result:
        RESULT.write_text(text + "\n")
    if report["wrong"]:
        sys.exit(f"Wrong. Again: make crash SEED={asked.seed}. What is left: {home}")
    rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
