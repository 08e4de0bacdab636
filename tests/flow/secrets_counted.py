"""`python -m tests.flow.secrets_counted [--count N]`: ciphertexts changed and swapped so often.

Each must be refused, and no value may lie in any file of the home afterwards. What secrets cost is
measured besides. Writes bench/results/secrets.json; exits 1 when anything was read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa
import structlog

import polyplane as pp
from polyplane.marks import Secret
from polyplane.model.digest import canonical
from polyplane.security.cipher import parse, seal, unseal
from tests.flow.tampering import swaps, tamperings
from tests.flow.vault import MODELS, Account, AccountNames, AccountSearch, Diary

RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "secrets.json"
ROWS: Final = 10_000
BATCH: Final = 1_000
RUNS: Final = 3
PEOPLE: Final = 200
MARK: Final = "kettle-of-gold"
"""In every value, and nowhere else."""


def _rate(count: int, work: Callable[[int], Any]) -> int:
    began = perf_counter()
    for n in range(count):
        work(n)
    return round(count / (perf_counter() - began))


def _cipher() -> dict[str, int]:
    """Values of 100 bytes, in one thread."""
    key, place, value = bytes(range(32)), canonical(["t", "c", "id", "tenant"]), "x" * 100
    text = seal(value, "id", key, place)
    return {
        "sealed_per_s": _rate(20_000, lambda _: seal(value, "id", key, place)),
        "unsealed_per_s": _rate(20_000, lambda _: unseal(parse(text), key, place)),
    }


async def _written(plane: pp.Plane, row: Callable[[int], pp.Model]) -> float:
    began = perf_counter()
    for start in range(0, ROWS, BATCH):
        async with plane.write(actor="count") as tx:
            tx.add_all([row(n) for n in range(start, start + BATCH)])
    return perf_counter() - began


async def _rows(plane: pp.Plane) -> dict[str, float]:
    """Rows of a model with one secret against rows of one without, and what reading them costs."""
    plain, secret = [], []
    for run in range(RUNS):  # in turns: the machine may be busy with something else
        plain.append(await _written(plane, lambda n: Diary(id=uuid4(), title=f"plain text {n}")))
        secret.append(
            await _written(
                plane,
                lambda n: Account(owner_id=f"p{n % PEOPLE}", token=Secret(f"{MARK} {n}")),
            )
        )
        if run + 1 < RUNS:
            async with plane.write(actor="count") as tx:
                await tx.execute(sa.delete(Account))
    plain_s, secret_s = median(plain), median(secret)
    began = perf_counter()
    async with plane.read() as session:
        found = (await session.scalars(sa.select(Account))).all()
    read_s = perf_counter() - began
    began = perf_counter()
    assert all(row.token.reveal().startswith(MARK) for row in found)
    return {
        "rows": ROWS,
        "people": PEOPLE,
        "plain_rows_written_per_s": round(ROWS / plain_s),
        "secret_rows_written_per_s": round(ROWS / secret_s),
        "secret_rows_read_per_s": round(ROWS / read_s),
        "revealed_per_s": round(ROWS / (perf_counter() - began)),
    }


def _holding(home: Path) -> tuple[list[str], int]:
    """The files that hold a value, and how many bytes were looked at."""
    forms = [MARK.encode(), MARK.encode("utf-16-le"), MARK.encode().hex().encode()]
    found, size = [], 0
    for path in home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            size += len(content)
            if any(form in content for form in forms):
                found.append(str(path.relative_to(home)))
    return found, size


async def count(home: Path, times: int, seed: int) -> dict[str, Any]:
    """All of it, on engines of its own."""
    rng = random.Random(seed)
    settings = pp.Settings.load(environ={}, home=home)
    projections = [AccountNames, AccountSearch]
    async with pp.Plane(models=MODELS, settings=settings, flows=False) as plane:
        rows = await _rows(plane)  # while nothing is projected
    async with pp.Plane(models=MODELS, projections=projections, settings=settings) as plane:
        async with plane.write(actor="count") as tx:
            await tx.execute(sa.delete(Account).where(Account.owner_id != "p0"))
            kept = (await tx.scalars(sa.select(Account))).all()
            for row in kept:
                row.more = Secret(f"{MARK} more")
        outcome = {"swaps": await swaps(plane, rng, times)}
        outcome["tamperings"] = await tamperings(plane, rng, times)
        await plane.caught_up()
        assert (await plane.verify()).clean
    holding, size = _holding(home)
    return {
        "seed": seed,
        **outcome,
        "files_with_a_value": holding,
        "bytes_searched": size,
        "cipher": _cipher(),
        "rows": rows,
        "cpus": os.cpu_count(),
    }


def main() -> int:
    """Count, write down, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    home = Path(tempfile.mkdtemp(prefix="polyplane-secrets-"))
    home.chmod(0o755)
    try:
        found = asyncio.run(count(home / "home", asked.count, asked.seed))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    text = json.dumps(found, indent=1)
    sys.stdout.write(text + "\n")
    RESULT.write_text(text + "\n", encoding="utf-8")
    read = found["swaps"]["read"] + found["tamperings"]["read"]
    return 1 if read or found["files_with_a_value"] else 0


if __name__ == "__main__":
    sys.exit(main())
