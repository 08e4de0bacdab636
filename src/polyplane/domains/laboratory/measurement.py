"""The shipped experiment: what does compressing a fixed sample cost at each codec and level?

Everything here is measured on the machine it runs on; nothing is made up.
"""

from __future__ import annotations

import bz2
import lzma
import sysconfig
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

SAMPLE_BYTES: Final = 1 << 20
BLOCK_BYTES: Final = 16 * 1024
BLOCKS: Final = SAMPLE_BYTES // BLOCK_BYTES
PASSES: Final = 2

LEVELS: Final[dict[str, range]] = {"zlib": range(1, 10), "bz2": range(1, 10), "lzma": range(0, 7)}
"""Every codec and the levels it is measured at: 25 activities."""

UNITS: Final[dict[str, str]] = {
    "throughput_mb_s": "MB/s",
    "decompress_mb_s": "MB/s",
    "ratio": "1",
    "compressed_bytes": "B",
    "cpu_ms": "ms",
    "decompress_cpu_ms": "ms",
    "rss_mb": "MB",
    "temperature": "°C",
}
"""The unit of every metric (MB: a million bytes). All but temperature are measured per block."""

BLOCK_METRICS: Final = len(UNITS) - 1
"""Metrics of each block and pass."""


class _Moment(NamedTuple):
    """Clocks, in seconds: of the wall, and of this thread's computing."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one pass over one block gave; `at_s` is Unix time in seconds."""

    at_s: float
    block: int
    values: dict[str, float]


@cache
def sample() -> bytes:
    """1 MiB of Python source: the standard library's own modules, in the order of their names."""
    folder = Path(sysconfig.get_path("stdlib"))
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    if len(text) < SAMPLE_BYTES:
        raise FileNotFoundError(f"{folder} has only {len(text):,} bytes of Python source")
    return text[:SAMPLE_BYTES]


def sample_digest() -> str:
    """SHA-256 of the sample, so that results of different samples are not compared."""
    return sha256(sample()).hexdigest()


def measure(codec: str, level: int) -> Iterator[Reading]:
    """Compress and decompress each block of the sample once. ValueError for an unknown codec.

    About 10 (zlib) to 350 ms (lzma 6) of computing for the 64 readings.
    """
    compress, decompress = _codec(codec, level)
    process = psutil.Process()
    for block in range(BLOCKS):
        plain = sample()[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
        began = _now()
        packed = compress(plain)
        packed_at = _now()
        restored = decompress(packed)
        ended = _now()
        if restored != plain:
            raise ArithmeticError(f"{codec} level {level} does not give block {block} back")
        yield Reading(
            time.time(),
            block,
            {
                "throughput_mb_s": len(plain) / (packed_at.wall_s - began.wall_s) / 1e6,
                "decompress_mb_s": len(plain) / (ended.wall_s - packed_at.wall_s) / 1e6,
                "ratio": len(plain) / len(packed),
                "compressed_bytes": float(len(packed)),
                "cpu_ms": (packed_at.cpu_s - began.cpu_s) * 1e3,
                "decompress_cpu_ms": (ended.cpu_s - packed_at.cpu_s) * 1e3,
                "rss_mb": process.memory_info().rss / 1e6,
            }
            | (_temperature() if block == 0 else {}),
        )


def _now() -> _Moment:
    return _Moment(time.perf_counter(), time.thread_time())


def _codec(name: str, level: int) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    if level not in LEVELS.get(name, ()):
        raise ValueError(f"there is no codec {name!r} with a level {level!r}")
    match name:
        case "zlib":
            return lambda plain: zlib.compress(plain, level), zlib.decompress
        case "bz2":
            return lambda plain: bz2.compress(plain, level), bz2.decompress
        case _:
            return lambda plain: lzma.compress(plain, preset=level), lzma.decompress


def _temperature() -> dict[str, float]:
    """The hottest sensor in degrees Celsius; nothing where there is none (virtual machines)."""
    sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    found = [sensor.current for group in sensors.values() for sensor in group]
    return {"temperature": max(found)} if found else {}
