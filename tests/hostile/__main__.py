"""`python -m tests.hostile [--files N] [--seed S]`: read hostile files, and say what came of each.

Writes bench/results/hostile.json. Exits 1 when a file came to no end, or to one that is not right,
when one took more than 10 s, or when it cost the process that asked more memory than it may.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import time
from collections import Counter
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from rich.progress import track

from polyplane.domains.assistant.parsing.parsed import Parsed, Unreadable
from polyplane.domains.assistant.parsing.pool import Parsers
from tests.hostile.bombs import ANY, Hostile, bombs
from tests.hostile.mutants import mutants

RESULT: Final = Path(__file__).resolve().parents[2] / "bench" / "results" / "hostile.json"
HANG_S: Final = 10.0
MEMORY_MORE_MAX: Final = 512 << 20
"""What all of it may cost the process that asks, in bytes."""


async def attack(files: int, seed: int) -> dict[str, Any]:
    """Read so many files, one at a time, and tell of all of them."""
    me = psutil.Process()
    before = largest = me.memory_info().rss
    told, began = list[dict[str, Any]](), time.perf_counter()
    async with Parsers() as parsers:
        await parsers.read([("first.txt", None, b"text")])
        for hostile in track(
            islice(chain(bombs(), mutants(seed)), files), total=files, console=Console(stderr=True)
        ):
            start = time.perf_counter()
            (result,) = await parsers.read([hostile[:3]])
            told.append(_told(hostile, result, time.perf_counter() - start))
            largest = max(largest, me.memory_info().rss)
    return {
        "files": len(told),
        "seed": seed,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "duration_s": round(time.perf_counter() - began, 1),
        "crashes_of_the_pool": 0,
        "hangs_over_10_s": sum(it["s"] > HANG_S for it in told),
        "slowest_s": max(it["s"] for it in told),
        "memory_more_mb": (largest - before) >> 20,
        "wrong": [it["name"] for it in told if not it["is_right"]],
        "outcomes": dict(Counter(it["outcome"] for it in told).most_common()),
        "each": told,
    }


def _told(hostile: Hostile, result: Parsed | Unreadable, seconds: float) -> dict[str, Any]:
    outcome = result.code if isinstance(result, Unreadable) else "read"
    if isinstance(result, Unreadable):
        reason, is_named = result.reason, bool(result.reason.strip())
    else:
        reason, is_named = f"{result.media_type}, {len(result.chunks)} chunks", is_whole(result)
    return {
        "name": hostile.name,
        "bytes": len(hostile.content),
        "outcome": outcome,
        "reason": reason,
        "s": round(seconds, 3),
        "is_right": is_named and (hostile.right == ANY or outcome in hostile.right),
    }


def is_whole(result: Parsed) -> bool:
    """Whether chunks cover the text, nothing of scripts is in it, and a database takes it."""
    end = 0
    for chunk in result.chunks:
        if not chunk.start <= end < chunk.end or len(chunk.text) != chunk.end - chunk.start:
            return False
        if "\0" in chunk.text or (result.media_type == "text/html" and "never(" in chunk.text):
            return False
        end = chunk.end
    return end == result.text_length > 0


def main() -> int:
    """See the module."""
    asked = argparse.ArgumentParser(prog="python -m tests.hostile")
    asked.add_argument("--files", type=int, default=1_000)
    asked.add_argument("--seed", type=int, default=8)
    asked.add_argument("--result", type=Path, default=RESULT)
    given = asked.parse_args()
    found = asyncio.run(attack(given.files, given.seed))
    given.result.write_text(json.dumps(found, indent=1, ensure_ascii=True) + "\n")
    shown = {name: value for name, value in found.items() if name != "each"}
    Console().print_json(json.dumps(shown))
    is_bounded = found["memory_more_mb"] << 20 <= MEMORY_MORE_MAX
    return 0 if not found["wrong"] and not found["hangs_over_10_s"] and is_bounded else 1


if __name__ == "__main__":
    sys.exit(main())
