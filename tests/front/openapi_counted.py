"""`python -m tests.front.openapi_counted [--examples N] [--seed S]`: the API against its document.

Schemathesis asks every operation of the OpenAPI document, on a real server with embedded engines
of its own: the examples, every boundary of every schema, random right and wrong requests, and
sequences that pass on what was answered; with, without and with wrong credentials. Writes
bench/results/openapi.json; exits 1 at any response 5xx, and at any that is not as documented.
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
from tests.attack.ground import DECLARED
from tests.front.exploring import PHASES, explore
from tests.front.serving import inhabited

RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "openapi.json"


async def run(home: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The report, with what it took."""
    began = monotonic()
    settings = pp.Settings.load(home=home, oauth=OAUTH)
    async with pp.Plane(settings=settings, **DECLARED) as plane, inhabited(plane) as served:
        found = await asyncio.to_thread(
            explore,
            served,
            seed=asked.seed,
            examples=asked.examples,
            phases=asked.phases.split(","),
            only=asked.only,
        )
    duration_s = round(monotonic() - began, 1)
    return {
        "seed": asked.seed,
        "examples": asked.examples,
        "duration_s": duration_s,
        **found.plain(),
    }


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--only", default="", help="a pattern of paths")
    parser.add_argument("--no-result", action="store_true", help="write no file of results")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.WARNING)
    home = Path(mkdtemp(prefix="polyplane-openapi-"))
    home.chmod(0o755)
    try:
        report = asyncio.run(run(home / "home", asked))
    finally:
        rmtree(home, ignore_errors=True)
    text = json.dumps(report, indent=1)
    print(text)
    if not asked.no_result:
        RESULT.write_text(text + "\n", encoding="utf-8")
    if report["server_errors"] or report["failures"] or report["errors"]:
        sys.exit(f"Not as documented. Again: --seed {asked.seed} --examples {asked.examples}")


if __name__ == "__main__":
    main()
