"""`python -m tests.front.ssrf_counted [--count 1000] [--seed S]`: URLs that lead inwards.

Addresses in every writing, names that change their meaning, redirects, parts that programs read
differently. Writes bench/results/ssrf.json; exits 1 when any was fetched, or when anybody came to
the server that nobody should reach.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from time import monotonic
from typing import Any, Final

from tests.front.lures import web
from tests.front.ssrf import lure

RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "ssrf.json"


async def run(count: int, seed: int) -> dict[str, Any]:
    """The report, with what it took."""
    began = monotonic()
    async with web() as found:
        report = await lure(found, count, seed)
    return {"seed": seed, "duration_s": round(monotonic() - began, 1), **report.plain()}


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    report = asyncio.run(run(asked.count, asked.seed))
    text = json.dumps(report, indent=1)
    print(text)
    RESULT.write_text(text + "\n", encoding="utf-8")
    if report["fetched"] or report["canary_visits"] or report["defects"]:
        sys.exit("Somebody was led inwards.")


if __name__ == "__main__":
    main()
