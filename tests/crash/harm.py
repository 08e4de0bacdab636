"""The kinds of damage to the files of each engine, as explicit lists. Pure but for the files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.crash.golden import Homes

Harm = Callable[[Path, Homes], str]
"""Does the harm to a home, and says to what; raises LookupError where there is nothing to harm."""


def flip(path: Path, at: float = 0.5) -> str:
    """One bit of a byte, at this share of the file."""
    content = bytearray(path.read_bytes())
    place = min(int(len(content) * at), len(content) - 1)
    content[place] ^= 0x10
    _rewrite(path, bytes(content))
    return f"bit of byte {place} of {len(content)}: {path.name}"


def other_values(path: Path) -> str:
    """A bit of each JSON body that is in it: still JSON, and something else."""
    content, count = bytearray(path.read_bytes()), 0
    place = content.find(b'"body":"')
    while place >= 0:
        content[place + 8] ^= 1  # a digit, and another one
        count += 1
        place = content.find(b'"body":"', place + 9)
    if not count:
        raise LookupError("no values")
    _rewrite(path, bytes(content))
    return f"{count} values: {path.name}"


def zero(path: Path) -> str:
    """As many zeros as there were bytes."""
    _rewrite(path, bytes(path.stat().st_size))
    return f"zeros: {path.name}"


def cut(path: Path, share: float = 0.5) -> str:
    """Only the beginning is left, or nothing."""
    size = path.stat().st_size
    os.truncate(path, int(size * share))
    return f"{int(size * share)} of {size} bytes: {path.name}"


def _rewrite(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:  # the same file: owner and mode stay
        file.write(content)


def one(home: Path, pattern: str, *, newest: bool = False) -> Path:
    """The largest file of the pattern, or the last by its time of change."""
    found = [path for path in home.glob(pattern) if path.is_file()]
    if not found:
        raise LookupError(pattern)
    return max(found, key=lambda it: it.stat().st_mtime_ns if newest else it.stat().st_size)


def of(pattern: str, harm: Callable[[Path], str]) -> Harm:
    """`harm` to the largest file of the pattern."""
    return lambda home, _: harm(one(home, pattern))


def every(pattern: str, harm: Callable[[Path], str]) -> Harm:
    """`harm` to all files of the pattern."""

    def act(home: Path, _: Homes) -> str:
        found = [path for path in home.glob(pattern) if path.is_file() and path.stat().st_size]
        if not found:
            raise LookupError(pattern)
        return f"{len(found)} files, such as {next(harm(path) for path in found)}"

    return act


def gone(path: Path) -> str:
    """Not there any more, with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return f"gone: {path.name}"


def folder_gone(name: str) -> Harm:
    """A folder of the home is deleted."""
    return lambda home, _: gone(home / name)


def older(name: str) -> Harm:
    """A folder of the home is as it was half-way."""

    def act(home: Path, homes: Homes) -> str:
        shutil.rmtree(home / name)
        os.system(f"cp -a '{homes.older / name}' '{home / name}'")
        return f"older: {name}"

    return act


def part_gone(home: Path, _: Homes) -> str:
    """The folder of the largest part of a table."""
    return gone(one(home, "clickhouse/store/*/*/2026*/data.bin").parent)


def head(harm: Callable[[Path], str]) -> Harm:
    """`harm` to the newest manifest of the vectors: names count down."""

    def act(home: Path, _: Homes) -> str:
        found = sorted(home.glob("lancedb/thing_search.lance/_versions/*.manifest"))
        return harm(found[0])

    return act


def heap(harm: Callable[[Path], str]) -> Harm:
    """`harm` to the file of the table."""
    return lambda home, homes: harm(home / "engines/postgres/data" / homes.heap)


def index(harm: Callable[[Path], str]) -> Harm:
    """`harm` to the file of its key."""
    return lambda home, homes: harm(home / "engines/postgres/data" / homes.index)


def heap_older(home: Path, homes: Homes) -> str:
    """The table's file as it was half-way."""
    name = f"engines/postgres/data/{homes.heap}"
    with (home / name).open("r+b") as file:
        content = (homes.older / name).read_bytes()
        file.truncate(len(content))
        file.write(content)
    return f"older: {homes.heap}"


_LANCE: Final = "lancedb/thing_search.lance"
_PART: Final = "clickhouse/store/*/*/2026*"
_CHANGES: Final = "engines/nats/jetstream/**/pp-changes"
_HEAT: Final = "engines/nats/jetstream/**/pp-streams-heat"
_PG: Final = "engines/postgres/data"
_WEED: Final = "engines/seaweedfs/data"
_AOF: Final = "engines/valkey/appendonlydir"

HARMS: Final[dict[str, dict[str, Harm]]] = {
    "lancedb": {
        "zeroed head manifest": head(zero),
        "empty head manifest": head(lambda path: cut(path, 0)),
        "flipped head manifest": head(flip),
        "all manifests empty": every(f"{_LANCE}/_versions/*", lambda path: cut(path, 0)),
        "data truncated": of(f"{_LANCE}/data/*", cut),
        "data missing": of(f"{_LANCE}/data/*", gone),
        "data flipped": of(f"{_LANCE}/data/*", flip),
        "all data flipped": every(f"{_LANCE}/data/*", lambda path: flip(path, 0.3)),
        "all data empty": every(f"{_LANCE}/data/*", lambda path: cut(path, 0)),
        "index flipped": of(f"{_LANCE}/_indices/*/*", flip),
        "index missing": of(f"{_LANCE}/_indices/*/*", gone),
        "table older": older(_LANCE),
        "table gone": folder_gone(_LANCE),
        "folder gone": folder_gone("lancedb"),
    },
    "clickhouse": {
        "data flipped": of(f"{_PART}/data.bin", flip),
        "data truncated": of(f"{_PART}/data.bin", cut),
        "marks missing": of(f"{_PART}/data.*mrk*", gone),
        "primary index flipped": of(f"{_PART}/primary.*idx", flip),
        "checksums empty": of(f"{_PART}/checksums.txt", lambda path: cut(path, 0)),
        "all parts empty": every(f"{_PART}/*.*", lambda path: cut(path, 0)),
        "part gone": part_gone,
        "table definition gone": of("clickhouse/metadata/*/heat.sql", gone),
        "table definition zeroed": of("clickhouse/metadata/*/heat.sql", zero),
        "folder older": older("clickhouse"),
        "folder gone": folder_gone("clickhouse"),
    },
    "nats": {
        "block flipped": of(f"{_CHANGES}/msgs/*.blk", flip),
        "block truncated": of(f"{_CHANGES}/msgs/*.blk", cut),
        "block empty": of(f"{_CHANGES}/msgs/*.blk", lambda path: cut(path, 0)),
        "block gone": of(f"{_CHANGES}/msgs/*.blk", gone),
        "index gone": of(f"{_CHANGES}/msgs/index.db", gone),
        "index zeroed": of(f"{_CHANGES}/msgs/index.db", zero),
        "definition zeroed": of(f"{_CHANGES}/meta.inf", zero),
        "inbound block flipped": of(f"{_HEAT}/msgs/*.blk", flip),
        "folder older": older("engines/nats/jetstream"),
        "folder gone": folder_gone("engines/nats/jetstream"),
    },
    "valkey": {
        "file flipped": of(f"{_AOF}/*.incr.aof", flip),
        "file flipped early": of(f"{_AOF}/*.incr.aof", lambda path: flip(path, 0.01)),
        "values flipped": of(f"{_AOF}/*.incr.aof", other_values),
        "file truncated": of(f"{_AOF}/*.incr.aof", cut),
        "file empty": of(f"{_AOF}/*.incr.aof", lambda path: cut(path, 0)),
        "file gone": of(f"{_AOF}/*.incr.aof", gone),
        "base flipped": of(f"{_AOF}/*.base.rdb", flip),
        "list of files zeroed": of(f"{_AOF}/*.manifest", zero),
        "list of files gone": of(f"{_AOF}/*.manifest", gone),
        "folder older": older(_AOF),
        "folder gone": folder_gone("engines/valkey"),
    },
    "seaweedfs": {
        "volume flipped": of(f"{_WEED}/**/*.dat", flip),
        "volume truncated": of(f"{_WEED}/**/*.dat", cut),
        "volume gone": of(f"{_WEED}/**/*.dat", gone),
        "index flipped": of(f"{_WEED}/**/*.idx", flip),
        "index empty": of(f"{_WEED}/**/*.idx", lambda path: cut(path, 0)),
        "index gone": of(f"{_WEED}/**/*.idx", gone),
        "names: head gone": of(f"{_WEED}/**/CURRENT", gone),
        "names: manifest zeroed": of(f"{_WEED}/**/MANIFEST*", zero),
        "names: log flipped": every(f"{_WEED}/**/*.log", flip),
        "folder older": older(_WEED),
        "folder gone": folder_gone(_WEED),
    },
    "postgres": {
        "control file zeroed": of(f"{_PG}/global/pg_control", zero),
        "table flipped": heap(flip),
        "table truncated": heap(cut),
        "table empty": heap(lambda path: cut(path, 0)),
        "table gone": heap(gone),
        "table older": heap_older,
        "index flipped": index(flip),
        "index empty": index(lambda path: cut(path, 0)),
        "log of writes gone": every(f"{_PG}/pg_wal/0*", gone),
        "log of writes flipped": every(f"{_PG}/pg_wal/0*", lambda path: flip(path, 0.01)),
        "transactions gone": of(f"{_PG}/pg_xact/*", gone),
        "data gone": folder_gone(_PG),
    },
}
