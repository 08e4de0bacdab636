"""`python -m tests.crash.attack --probes 20000 [--seed 7]`: one tenant after the things of another.

Probes are made from the OpenAPI document, from the protocols of the stores and from what a caller
holds; on embedded engines of its own. Writes bench/results/attack.json, and exits 1 at any leak.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final

import structlog

import polyplane as pp
from tests.attack.assisted import OAUTH
from tests.attack.attack import attack
from tests.attack.ground import DECLARED

RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "attack.json"


async def run(home: Path, probes: int, seed: int) -> dict[str, Any]:
    """The report, with what it took."""
    began = monotonic()
    settings = pp.Settings.load(home=home, oauth=OAUTH)
    async with pp.Plane(settings=settings, **DECLARED) as plane:
        report = await attack(plane, probes, seed)
    return {"seed": seed, "duration_s": round(monotonic() - began, 1), **report.plain()}


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.attack", description=__doc__)
    parser.add_argument("--probes", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--no-result", action="store_true", help="write no file of results")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home = Path(mkdtemp(prefix="polyplane-attack-"))
    try:
        report = asyncio.run(run(home, asked.probes, asked.seed))
    finally:
        rmtree(home, ignore_errors=True)
    text = json.dumps(report, indent=1)
    print(text)
    if not asked.no_result:
        RESULT.write_text(text + "\n")
    if report["leaks"]:
        sys.exit(f"Leaks. Again: python -m tests.crash.attack --seed {asked.seed}")


if __name__ == "__main__":
    main()
