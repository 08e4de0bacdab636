"""The pool: children that hang, crash or lie harm one file, and end with the one that asked."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

import polyplane as pp
from polyplane.domains.assistant.parsing import pool, reader
from polyplane.domains.assistant.parsing.parsed import (
    ChunkOptions,
    Limits,
    Parsed,
    Source,
    Unreadable,
)
from polyplane.domains.assistant.parsing.pool import Parsers
from polyplane.domains.assistant.parsing.reader import PROGRAM
from polyplane.domains.assistant.parsing.wire import LENGTH, settings_text

SLOW: Source = ("slow.txt", None, b"a " * 2_400_000)
GONE_S = 30.0


@pytest.fixture(scope="module")
async def parsers() -> AsyncIterator[Parsers]:
    async with Parsers() as opened:
        yield opened


async def gone(processes: list[psutil.Process]) -> bool:
    deadline = time.monotonic() + GONE_S
    while any(it.is_running() and it.status() != psutil.STATUS_ZOMBIE for it in processes):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def test_many_files_come_back_in_order(parsers: Parsers) -> None:
    sources: list[Source] = [(f"{i}.md", None, f"# T{i}\n\ntext".encode()) for i in range(300)]
    results = await parsers.read(sources)
    assert [it.title for it in results if isinstance(it, Parsed)] == [f"T{i}" for i in range(300)]
    assert await parsers.read([]) == []


async def test_many_tasks_may_ask_at_once(parsers: Parsers) -> None:
    async def one(number: int) -> str:
        (found,) = await parsers.read([(f"{number}.txt", None, b"text")])
        assert isinstance(found, Parsed)
        return found.title

    assert await asyncio.gather(*(one(i) for i in range(30))) == [str(i) for i in range(30)]


async def test_what_takes_too_long_fails_alone() -> None:
    async with Parsers(processes=1, limits=Limits(cpu_s=1)) as parsers:
        fine: Source = ("a.md", None, b"text")
        results = await parsers.read([fine, SLOW, fine, ("empty.md", None, b""), fine])
    assert [type(it) for it in results] == [Parsed, Unreadable, Parsed, Unreadable, Parsed]
    assert isinstance(results[1], Unreadable)
    assert (results[1].code, results[1].reason) == (
        "timeout",
        "reading it takes more than 1 s of computing",
    )


async def test_a_child_that_stops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits()
    async with Parsers(processes=1, limits=limits) as parsers:
        assert isinstance((await parsers.read([("a.md", None, b"text")]))[0], Parsed)
        (child,) = children_of_one(parsers)
        child.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as sooner:
            sooner.setattr(reader, "LATE_S", 0.3 - limits.wall_s)
            (found,) = await parsers.read([("a.md", None, b"text")])
        assert isinstance(found, Unreadable)
        assert found.code == "timeout"
        assert isinstance((await parsers.read([("a.md", None, b"text")]))[0], Parsed)
        assert await gone([child])


def children_of_one(parsers: Parsers) -> list[psutil.Process]:
    readers = [it for it in vars(parsers._free)["_queue"] if it is not None]
    return [psutil.Process(it.pid) for it in readers]


async def test_a_child_that_is_killed_costs_no_file() -> None:
    async with Parsers(processes=1) as parsers:
        await parsers.read([("a.md", None, b"text")])
        for how in (signal.SIGKILL, signal.SIGSEGV):
            (child,) = children_of_one(parsers)
            child.send_signal(how)
            results = await parsers.read([("a.md", None, b"text")] * 3)
            assert [type(it) for it in results] == [Parsed] * 3


async def test_memory_is_bounded() -> None:
    async with Parsers(processes=1, limits=Limits(memory_bytes=200 << 20)) as parsers:
        large, small = await parsers.read([SLOW, ("b.md", None, b"text")])
    assert isinstance(large, Unreadable)
    assert (large.code, large.reason[:7]) == ("memory", "reading")
    assert isinstance(small, Parsed)


async def test_only_plain_files_are_read(parsers: Parsers, tmp_path: Path) -> None:
    plain, link, pipe = tmp_path / "a.md", tmp_path / "b.md", tmp_path / "c.md"
    plain.write_text("# A\n\ntext")
    link.symlink_to(plain)
    os.mkfifo(pipe)
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(10 << 30)
    paths = [plain, link, pipe, tmp_path, Path("/dev/zero"), tmp_path / "none.md", large]
    results = await parsers.read([(it.name, None, it) for it in paths])
    assert isinstance(results[0], Parsed)
    told = [(it.code, it.reason) for it in results[1:] if isinstance(it, Unreadable)]
    assert told == [
        ("unsupported", "a symbolic link"),
        ("unsupported", "a pipe"),
        ("unsupported", "a folder"),
        ("unsupported", "no plain file"),
        ("unreachable", "no such file or directory"),
        ("too_large", "it is larger than 64 MiB"),
    ]


async def test_a_read_that_is_given_up_leaves_the_pool_whole() -> None:
    async with Parsers(processes=1) as parsers:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await parsers.read([SLOW])
        (found,) = await parsers.read([("a.md", None, b"text")])
        assert isinstance(found, Parsed)
        assert found.media_type == "text/markdown"


async def test_a_closed_pool_has_no_children_and_reads_no_more() -> None:
    parsers = Parsers(processes=2)
    await parsers.read([("a.md", None, b"text")] * 2)
    started = children_of_one(parsers)
    await parsers.close()
    assert started
    assert await gone(started)
    with pytest.raises(pp.Unavailable):
        await parsers.read([("a.md", None, b"text")])


async def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_LIBRARIES", ("no_such_library",))
    with pytest.raises(pp.Misconfigured, match=r"no_such_library.*polyplane\[documents\]"):
        await Parsers().read([("a.md", None, b"text")])


async def test_a_process_nobody_could_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(pp.Unavailable, match="comes up"):
        await Parsers().read([("a.md", None, b"text")])


PARENT = """
import asyncio, os, sys, time
from polyplane.domains.assistant.parsing.pool import Parsers

async def main():
    parsers = Parsers(processes=1)
    await parsers.read([("a.md", None, b"text")])
    print([it.pid for it in parsers._free._queue][0], flush=True)
    time.sleep(600)

asyncio.run(main())
"""


async def test_children_end_with_the_one_that_asked() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        async with asyncio.timeout(60):
            child = psutil.Process(int(await parent.stdout.readline()))
    finally:
        parent.kill()
        await parent.wait()
    assert await gone([child])


TRIES = """
import os, socket, subprocess, sys
from polyplane.domains.assistant.parsing.confinement import confine
is_filtered = confine(os.getppid(), 1 << 30)

def told(what):
    try:
        what()
        return "done"
    except OSError as error:
        return error.strerror

print(is_filtered)
for what in (
    lambda: socket.socket(),
    lambda: subprocess.Popen(["/bin/true"]),
    lambda: os.fork(),
    lambda: os.kill(os.getppid(), 0),
    lambda: open(sys.argv[1], "w"),
    lambda: os.unlink(sys.argv[1]),
    lambda: os.rename(sys.argv[1], sys.argv[1] + "2"),
    lambda: os.chmod(sys.argv[1], 0),
    lambda: open(sys.argv[1]).close(),
):
    print(told(what))
"""


def test_a_child_has_given_up_files_programs_and_the_network(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    program = [sys.executable, "-c", TRIES, str(kept)]
    told = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True).stdout
    is_filtered, *tries, reading = told.splitlines()
    if is_filtered != "True":
        pytest.skip("this kernel lets nobody filter calls")
    assert tries == ["Operation not permitted"] * 8
    assert reading == "done"
    assert kept.read_text() == "kept"


def test_a_child_knows_nothing_of_our_environment_and_answers_in_frames() -> None:
    settings = settings_text(ChunkOptions(), Limits())
    program = [sys.executable, "-m", PROGRAM, settings, str(os.getpid())]
    asked = b"\0\0\0\x10" + b'[["a.md",null,4]]'[:16]
    done = subprocess.run(program, input=asked, capture_output=True, timeout=60, check=False)
    (size,) = LENGTH.unpack(done.stdout[: LENGTH.size])
    assert done.stdout[LENGTH.size :] == done.stdout[LENGTH.size :][:size]
    assert b"is_filtered" in done.stdout
