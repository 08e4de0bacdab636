"""The embedded engines when things go wrong: killed, robbed of a port, started anew."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from polyplane import embedded
from polyplane.embedded import Engines, running
from polyplane.embedded.account import Account, let_pass
from polyplane.errors import EngineFailed
from tests.flow.embedded_s3 import client_of

SOURCE = str(Path(embedded.__file__).parents[2])

# Starts the engines, says so, and waits to be killed.
OWNER = """
import asyncio, json, pathlib, sys
sys.path.insert(0, sys.argv[3])
from polyplane.embedded import Engines

async def main():
    engines = Engines(pathlib.Path(sys.argv[1]), wanted=json.loads(sys.argv[2]))
    await engines.start()
    print(json.dumps({name: h.pid for name, h in engines.health().items()}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await engines.stop()

asyncio.run(main())
"""

ALL = ("postgres", "nats", "valkey", "seaweedfs")


@pytest.fixture
def home() -> Iterator[Path]:
    # Not tmp_path: pytest closes the folders above it, now and then, to every other user.
    home = Path(tempfile.mkdtemp(prefix="polyplane-test-"))
    yield home
    assert servers_of(home) == []
    assert litter_of(home) == []
    shutil.rmtree(home)


@pytest.fixture
def nobody() -> Iterator[Account]:
    """An ordinary user, who for a while may pass through the folders above Python and us."""
    entry = pwd.getpwnam("nobody")
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    paths = [Path(sys.executable), Path(sys.executable).resolve(), Path(SOURCE)]
    modes = {folder: folder.stat().st_mode for path in paths for folder in path.parents}
    for path in paths:
        let_pass(path, account, print)
    yield account
    for folder, mode in modes.items():
        folder.chmod(stat.S_IMODE(mode))


def litter_of(home: Path) -> list[Path]:
    """What the servers left in /tmp; others' servers may have had the ports before."""
    ledger = next(home.rglob("engines.json"))
    ports = json.loads(ledger.read_text())["ports"].get("seaweedfs", {})
    engine = ledger.parent / "seaweedfs"
    owner = (engine if engine.exists() else home).stat().st_uid
    found = (path for port in ports.values() for path in Path("/tmp").glob(f"seaweedfs-*-{port}.*"))
    return [path for path in found if path.stat().st_uid == owner]


def servers_of(home: Path) -> list[psutil.Process]:
    """Every process that works inside the home."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(home):
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def start_owner(
    home: Path, wanted: tuple[str, ...], *, before: tuple[str, ...] = (), **options: Any
) -> tuple[subprocess.Popen[str], dict[str, int]]:
    """A process that holds the home, and the pids of its servers."""
    owner = subprocess.Popen(
        [*before, sys.executable, "-c", OWNER, str(home), json.dumps(wanted), SOURCE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    assert owner.stdout is not None
    for line in owner.stdout:
        if line.startswith("{"):  # what else it prints is its log
            return owner, json.loads(line)
    return pytest.fail(f"the owner did not start: {owner.wait(timeout=10)}")


def kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate(timeout=10)


def pids(engines: Engines) -> dict[str, int | None]:
    return {name: health.pid for name, health in engines.health().items()}


async def until(condition: Any, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_servers_of_a_killed_owner_are_adopted(home: Path) -> None:
    owner, left = start_owner(home, ALL)
    kill(owner)
    assert running(home) is None
    engines = Engines(home)
    told: list[str] = []
    await engines.start(told.append)
    try:
        assert pids(engines) == left
        assert sum("adopted" in line for line in told) == len(ALL)
        # An adopted server is watched like any other.
        os.kill(left["valkey"], signal.SIGKILL)
        await until(lambda: engines.health()["valkey"].restarts == 1)
    finally:
        await engines.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="for root only")
def test_root_of_a_container_adopts_too(home: Path) -> None:
    """Root without CAP_SYS_PTRACE, as in a container, sees less of its own servers."""
    owner, left = start_owner(home, ("postgres", "valkey"))
    kill(owner)
    contained = ("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace")
    owner, adopted = start_owner(home, ("postgres", "valkey"), before=contained)
    assert adopted == left
    owner.communicate("", timeout=30)
    assert owner.returncode == 0


async def test_strays_that_cannot_be_adopted_are_stopped(home: Path) -> None:
    owner, left = start_owner(home, ("nats", "valkey"))
    kill(owner)
    ledger = json.loads((home / "engines.json").read_text())
    ledger["records"]["nats"]["fingerprint"] = "of another configuration"
    (home / "engines.json").write_text(json.dumps(ledger))
    engines = Engines(home, wanted=["nats"])  # and Valkey is wanted no more
    await engines.start()
    try:
        assert pids(engines)["nats"] not in left.values()
        assert [process.pid for process in servers_of(home)] == [pids(engines)["nats"]]
    finally:
        await engines.stop()


async def test_strays_are_found_without_any_record(home: Path) -> None:
    owner, left = start_owner(home, ("postgres", "valkey"))
    kill(owner)
    (home / "engines.json").unlink()
    engines = Engines(home, wanted=["postgres", "valkey"])
    await engines.start()
    try:
        assert not set(pids(engines).values()) & set(left.values())
        heads = {process.pid for process in servers_of(home)}
        assert not heads & set(left.values())
    finally:
        await engines.stop()


async def test_a_recorded_pid_of_somebody_else_is_left_alone(home: Path) -> None:
    engines = Engines(home, wanted=["valkey"])
    await engines.start()
    await engines.stop()
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        record = {
            "identity": {"pid": stranger.pid, "started": 1, "boot": "an earlier one"},
            "fingerprint": "",
        }
        ledger = json.loads((home / "engines.json").read_text())
        (home / "engines.json").write_text(json.dumps({**ledger, "records": {"valkey": record}}))
        await engines.start()
        await engines.stop()
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_server_that_dies_is_restarted_and_health_says_so(home: Path) -> None:
    engines = Engines(home, wanted=["postgres", "seaweedfs"])
    await engines.start()
    urls = dict(engines.urls)
    try:
        with psycopg.connect(urls["postgres"], connect_timeout=5) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
        for health in engines.health().values():
            assert health.pid is not None
            os.kill(health.pid, signal.SIGKILL)
        await until(lambda: all(h.state == "restarting" for h in engines.health().values()))
        await until(lambda: all(h.state == "up" for h in engines.health().values()))
        for health in engines.health().values():
            assert (health.restarts, health.last_error) == (1, "killed by SIGKILL")
        assert dict(engines.urls) == urls
        with psycopg.connect(urls["postgres"], connect_timeout=5) as connection:
            assert connection.execute("SELECT id FROM kept").fetchone() == (1,)
    finally:
        await engines.stop()
    assert {health.state for health in engines.health().values()} == {"stopped"}


async def test_ports_are_kept_and_a_stolen_one_is_replaced(home: Path) -> None:
    engines = Engines(home, wanted=["nats", "seaweedfs"])
    await engines.start()
    first = dict(engines.urls)
    await engines.stop()
    await engines.start()
    assert dict(engines.urls) == first
    await engines.stop()
    stolen = {name: urlsplit(url).port or 0 for name, url in first.items()}
    with ExitStack() as thieves:
        for port in stolen.values():
            thieves.enter_context(socket.create_server(("127.0.0.1", port)))
        await engines.start()
        try:
            for name, port in stolen.items():
                assert urlsplit(engines.urls[name]).port != port
        finally:
            await engines.stop()


async def test_a_failed_start_says_why_and_leaves_nothing(home: Path) -> None:
    engines = Engines(home, wanted=["postgres", "valkey"])
    await engines.start()
    await engines.stop()
    (home / "engines" / "postgres" / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EngineFailed, match=r"PG_VERSION has 4 bytes, not 3\. Restore a backup"):
        await engines.start()
    (home / "engines" / "postgres.seal").unlink()  # as the error says, who did it on purpose
    with pytest.raises(EngineFailed, match=r"postgres.*\n.*version 9\.6"):
        await engines.start()
    assert servers_of(home) == []
    assert running(home) is None


async def test_a_cancelled_start_leaves_nothing(home: Path) -> None:
    engines = Engines(home)
    task = asyncio.create_task(engines.start())
    await until(lambda: any("initdb" in process.name() for process in servers_of(home)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert servers_of(home) == []
    assert running(home) is None
    again = Engines(home, wanted=["postgres"])
    await again.start()
    await again.stop()


async def test_a_home_of_any_name_will_do(home: Path) -> None:
    odd = home / 'it\'s ,"odd" = $HOME %s {0} 家'
    engines = Engines(odd)
    await engines.start()
    await engines.stop()
    assert {health.last_error for health in engines.health().values()} == {""}


async def test_objects_outlive_a_killed_server(home: Path) -> None:
    engines = Engines(home, wanted=["seaweedfs"])
    await engines.start()
    try:
        s3 = client_of(engines.admins["s3"])
        s3.create_bucket(Bucket="kept")
        for n in range(30):
            s3.put_object(Bucket="kept", Key=str(n), Body=str(n).encode() * 1_000)
        # As after a power cut that took the index: it is made anew from the volumes.
        data = home / "engines" / "seaweedfs" / "data"
        server = pids(engines)["seaweedfs"] or 0
        os.kill(server, signal.SIGSTOP)
        for index in data.glob("kept_*.idx"):
            os.truncate(index, 0)
        os.kill(server, signal.SIGKILL)
        await until(lambda: engines.health()["seaweedfs"].state == "restarting")
        await until(lambda: engines.health()["seaweedfs"].state == "up")
        for n in range(30):
            assert (
                s3.get_object(Bucket="kept", Key=str(n))["Body"].read() == str(n).encode() * 1_000
            )
    finally:
        await engines.stop()


async def test_a_deep_home_gets_short_sockets(home: Path) -> None:
    deep = home.joinpath(*["a-rather-long-name-of-a-folder"] * 5)
    engines = Engines(deep, wanted=["postgres"])
    await engines.start()
    await engines.stop()
    ledger = json.loads((deep / "engines.json").read_text())
    sockets = Path(ledger["sockets"])
    assert sockets.stat().st_mode & 0o077 == 0
    await engines.start()  # the same ones again
    await engines.stop()
    assert json.loads((deep / "engines.json").read_text())["sockets"] == str(sockets)
    shutil.rmtree(sockets)


@pytest.mark.skipif(os.geteuid() != 0, reason="we are an ordinary user: the other tests show it")
async def test_an_ordinary_user_runs_them_all(home: Path, nobody: Account) -> None:
    os.chown(home, nobody.uid, nobody.gid)
    options: dict[str, Any] = {
        "user": nobody.uid,
        "group": nobody.gid,
        "extra_groups": [],
        "cwd": "/",
    }
    owner, servers = start_owner(home, ALL, **options)
    assert set(servers) == set(ALL)
    assert {psutil.Process(pid).uids().real for pid in servers.values()} == {nobody.uid}
    owner.communicate("", timeout=30)
    assert owner.returncode == 0
    # Root after the user: the files stay the user's, and so do the servers.
    engines = Engines(home, wanted=["postgres"])
    await engines.start()
    try:
        assert psutil.Process(pids(engines)["postgres"]).uids().real == nobody.uid
    finally:
        await engines.stop()
    assert {path.owner() for path in (home, *home.rglob("*"))} == {"nobody"}
