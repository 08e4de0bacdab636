"""`python -m tests.front.injected_counted [--count 4000] [--seed S]`: texts that mean something.

SQL, filters, LanceDB, ClickHouse, S3, NATS and the cache's protocol, through every operation of the
API and every verb that takes a text, on embedded engines of its own. Writes
bench/results/injection.json; exits 1 at any effect: something planted that is not what it was, a
tenant's text in another's answer, a response 5xx, a request that slept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final

import structlog

import polyplane as pp
from tests.attack.assisted import OAUTH
from tests.front.injection import inject
from tests.front.planted import DECLARED

RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "injection.json"


async def run(home: Path, count: int, seed: int) -> dict[str, Any]:
    """The report, with what it took."""
    began = monotonic()
    settings = pp.Settings.load(home=home, oauth=OAUTH)
    async with pp.Plane(settings=settings, **DECLARED) as plane:
        report = await inject(plane, count, seed)
    return {"seed": seed, "duration_s": round(monotonic() - began, 1), **report.plain()}


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-result", action="store_true", help="write no file of results")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.WARNING)
    home = Path(mkdtemp(prefix="polyplane-injected-"))
    home.chmod(0o755)
    try:
        report = asyncio.run(run(home / "home", asked.count, asked.seed))
    finally:
        rmtree(home, ignore_errors=True)
    text = json.dumps(report, indent=1)
    print(text)
    if not asked.no_result:
        RESULT.write_text(text + "\n", encoding="utf-8")
    if report["effects"]:
        sys.exit(f"Effects. Again: --seed {asked.seed} --count {asked.count}")


if __name__ == "__main__":
    main()
