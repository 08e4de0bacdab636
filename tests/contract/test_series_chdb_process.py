"""chdb as a guest in our process: restarts, kill -9, deadlines, signals, a path that is taken."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from polyplane.errors import Misconfigured, StoreDown
from polyplane.stores.series import clickhouse
from polyplane.testing.samples import ALL

CHILD = """
import asyncio, os, signal, sys
from polyplane.stores.series import clickhouse
from polyplane.testing.readings import Reading, batch
from polyplane.testing.samples import ALL
from polyplane.testing.samples import ALL

async def main():
    store = await clickhouse.connect("chdb://" + sys.argv[1], database="lab")
    await store.prepare(Reading)
{body}

asyncio.run(main())
"""


def child(folder: Path, body: str) -> subprocess.Popen[str]:
    """A process of its own that runs `body` on the store in `folder`."""
    indented = "\n".join(f"    {line}" for line in dedent(body).strip().splitlines())
    source = CHILD.format(body=indented)
    return subprocess.Popen(
        [sys.executable, "-c", source, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # of its own, and not an orphan: those are not stopped from a terminal
    )


def answer(folder: Path, body: str) -> str:
    """What `body` prints."""
    process = child(folder, body)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    first = 0
    for _ in range(3):
        process = child(
            tmp_path,
            f"""
            for i in range({first}, 10_000):
                await store.append(Reading, batch(f"b{{i}}", 50), token=f"b{{i}}")
                print(i, flush=True)
            """,
        )
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(15)]
        process.kill()
        out, err = process.communicate(timeout=60)
        seen += out.splitlines()
        assert seen[-1], err
        appended = int(seen[-1]) + 1
        # The last ones, and the one that was in flight, come again as the feed would bring them.
        found = answer(
            tmp_path,
            f"""
            before = (await store.count(Reading, ALL)).points
            for i in range({appended} - 3, {appended} + 1):
                await store.append(Reading, batch(f"b{{i}}", 50), token=f"b{{i}}")
            print(before, (await store.count(Reading, ALL)).points)
            await store.close()
            """,
        )
        before, after = map(int, found.split())
        assert appended * 50 <= before <= (appended + 1) * 50
        assert after == (appended + 1) * 50
        first = appended + 1


def test_the_process_keeps_its_signals(tmp_path: Path) -> None:
    found = answer(
        tmp_path,
        """
        got = []
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, got.append, int(number))
            os.kill(os.getpid(), number)
        await store.ping()
        await asyncio.sleep(0.1)
        print(got == [signal.SIGINT, signal.SIGTERM])
        print(signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL)
        await store.close()
        """,
    )
    assert found.split() == ["True", "True"]


def test_ctrl_z_stops_the_process(tmp_path: Path) -> None:
    process = child(
        tmp_path,
        """
        print("open", flush=True)
        await asyncio.sleep(60)
        """,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        os.kill(process.pid, signal.SIGTSTP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_process_that_forgets_to_close_ends(tmp_path: Path) -> None:
    points = 'await store.append(Reading, batch("b", 50), token="b"); print("appended")'
    assert answer(tmp_path, points) == "appended"
    counted = "print((await store.count(Reading, ALL)).points); await store.close()"
    assert answer(tmp_path, counted) == "50"


def test_a_path_belongs_to_one_process(tmp_path: Path) -> None:
    first = child(tmp_path, 'print("open", flush=True); await asyncio.sleep(60)')
    try:
        assert first.stdout is not None and first.stdout.readline() == "open\n"
        second = child(tmp_path, "await store.close()")
        _, err = second.communicate(timeout=60)
        assert second.returncode != 0
        assert "Misconfigured" in err and "One process" in err
    finally:
        first.kill()
        first.communicate(timeout=60)


async def test_the_event_loop_runs_while_the_engine_works(running_chdb_url: str) -> None:
    store = await clickhouse.connect(running_chdb_url, database="busy")
    try:
        work = asyncio.create_task(
            store.query(ALL, "SELECT sum(sipHash64(number)) AS n FROM numbers(100000000)", {})
        )
        turns, longest, last = 0, 0.0, asyncio.get_running_loop().time()
        while not work.done():
            await asyncio.sleep(0.001)
            now = asyncio.get_running_loop().time()
            turns, longest, last = turns + 1, max(longest, now - last), now
        await work
        assert turns > 20
        assert longest < 0.25
    finally:
        await store.close()


async def test_a_query_has_a_deadline(running_chdb_url: str) -> None:
    store = await clickhouse.connect(running_chdb_url, database="slow", timeout_s=1)
    try:
        with pytest.raises(StoreDown):
            await store.query(ALL, "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)", {})
        await store.ping()
        assert (await store.query(ALL, "SELECT 1 AS n", {}))["n"].to_pylist() == [1]
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("chdb://relative/path", {}),
        ("chdb://", {}),
        ("chdb:///tmp/x", {"database": "no; drop"}),
        ("chdb:///tmp/x", {"colour": "red"}),
    ],
)
async def test_urls_that_cannot_work(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        await clickhouse.connect(url, **options)


async def test_a_server_that_does_not_answer(unused_tcp_port: int) -> None:
    with pytest.raises(StoreDown) as down:
        url = f"clickhouse://ada:s3cret@127.0.0.1:{unused_tcp_port}/lab"
        await clickhouse.connect(url, timeout_s=1)
    assert "s3cret" not in str(down.value)
