"""The embedded engines as their clients see them: all of them, on one home."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import psutil
import psycopg
import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from polyplane.embedded import Engines, running
from polyplane.errors import HomeBusy
from tests.flow.embedded_s3 import client_of


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not tmp_path: pytest closes the folders above it, now and then, to every other user.
    home = Path(tempfile.mkdtemp(prefix="polyplane-test-"))
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="module")
async def engines(home: Path) -> AsyncIterator[Engines]:
    engines = Engines(home)
    await engines.start()
    yield engines
    await engines.stop()


@pytest.fixture(scope="module")
def s3(engines: Engines) -> Any:
    return client_of(engines.admins["s3"])


async def test_postgres_is_safe_and_owned_by_an_ordinary_role(engines: Engines) -> None:
    url = engines.urls["postgres"]
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
        settings = "data_checksums fsync full_page_writes summarize_wal synchronous_commit TimeZone"
        shown = {
            name: (await (await connection.execute(f"SHOW {name}")).fetchone() or [""])[0]
            for name in settings.split()
        }
        role = await connection.execute(
            "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        assert await role.fetchone() == (False, True)
        await connection.execute("CREATE TABLE made_by_owner (id int)")
    assert shown.pop("TimeZone") == "UTC"
    assert set(shown.values()) == {"on"}


async def test_postgres_wants_the_password_on_its_socket_too(engines: Engines, home: Path) -> None:
    url = urlsplit(engines.urls["postgres"])
    for host in ("127.0.0.1", home / "engines" / "run"):
        where = f"host={host} port={url.port} user=polyplane dbname=polyplane connect_timeout=5"
        with psycopg.connect(where, password=url.password) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(where, password="guessed")


async def test_nats_keeps_streams_and_refuses_strangers(engines: Engines) -> None:
    url = engines.admins["nats"]
    client = await nats.connect(url, connect_timeout=5)
    try:
        stream = client.jetstream()
        await stream.add_stream(name="kept", subjects=["kept"])
        assert (await stream.publish("kept", b"x" * 2**20)).seq == 1
        assert client.max_payload == 8 * 2**20
    finally:
        await client.close()
    with pytest.raises(nats.errors.Error, match="Authorization"):
        await nats.connect(
            f"nats://127.0.0.1:{urlsplit(url).port}", allow_reconnect=False, connect_timeout=5
        )


async def test_valkey_appends_and_refuses_strangers(engines: Engines) -> None:
    url = engines.admins["valkey"]
    async with redis.from_url(url, socket_timeout=5) as client:
        await client.set("key", "value")
        assert await client.get("key") == b"value"
        config = await client.config_get("append*")
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
    port = urlsplit(url).port or 0
    once = Retry(NoBackoff(), 0)
    async with redis.Redis(host="127.0.0.1", port=port, socket_timeout=5, retry=once) as stranger:
        with pytest.raises(redis.AuthenticationError):
            await stranger.get("key")


def test_s3_keeps_versions(s3: Any) -> None:
    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="versions", Key="k", Body=b"1")["VersionId"]
    s3.put_object(Bucket="versions", Key="k", Body=b"2")
    assert s3.get_object(Bucket="versions", Key="k")["Body"].read() == b"2"
    s3.delete_object(Bucket="versions", Key="k")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="versions", Key="k")
    assert s3.get_object(Bucket="versions", Key="k", VersionId=first)["Body"].read() == b"1"


def test_nobody_reads_objects_without_keys(s3: Any, home: Path) -> None:
    s3.create_bucket(Bucket="private")
    s3.put_object(Bucket="private", Key="k", Body=b"1")
    ports = json.loads((home / "engines.json").read_text())["ports"]["seaweedfs"]
    doors = {"s3.port": "/private/k", "filer.port": "/buckets/private/k", "volume.port": "/1,1"}
    for door, path in doors.items():
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"http://127.0.0.1:{ports[door]}{path}", timeout=5)
        assert refusal.value.code in (401, 403)


def test_nothing_listens_beyond_loopback(engines: Engines) -> None:
    listening = []
    for health in engines.health().values():
        assert health.pid is not None
        server = psutil.Process(health.pid)
        for process in (server, *server.children(recursive=True)):
            listening += [
                socket_.laddr.ip
                for socket_ in process.net_connections("inet")
                if socket_.status == psutil.CONN_LISTEN
                or (socket_.type == socket.SOCK_DGRAM and not socket_.raddr)
            ]
    assert len(listening) >= len(engines.urls)
    assert set(listening) == {"127.0.0.1"}


def test_servers_run_in_sessions_of_their_own(engines: Engines) -> None:
    sessions = {os.getsid(health.pid or 0) for health in engines.health().values()}
    assert sessions == {health.pid for health in engines.health().values()}


def test_secrets_are_for_our_eyes_only(engines: Engines, home: Path) -> None:
    known = (*engines.urls.values(), *engines.logins.values(), *engines.admins.values())
    secrets = [urlsplit(url).password or "" for url in known]
    assert all(len(secret) >= 32 for secret in secrets)
    holders = [
        path
        for path in home.rglob("*")
        if path.is_file()
        and path.stat().st_size < 2**20
        and any(secret in path.read_bytes().decode(errors="replace") for secret in secrets)
    ]
    assert holders
    for path in (*holders, home / "owner.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_second_start_is_refused_and_names_the_first(engines: Engines, home: Path) -> None:
    owner = running(home)
    assert owner is not None
    with pytest.raises(HomeBusy) as refusal:
        await Engines(home).start()
    assert refusal.value.pid == owner.pid == os.getpid()
    assert owner.started_at.isoformat(timespec="seconds") in str(refusal.value)
    assert {health.state for health in engines.health().values()} == {"up"}


def test_other_processes_see_who_holds_the_home(engines: Engines, home: Path) -> None:
    engines.publish_owner("http://127.0.0.1:8000")
    script = (
        "import sys, pathlib, polyplane.embedded as e;"
        "owner = e.running(pathlib.Path(sys.argv[1])); print(owner.pid, owner.api_url)"
    )
    seen = subprocess.run(
        [sys.executable, "-c", script, str(home)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert seen.stdout.split() == [str(os.getpid()), "http://127.0.0.1:8000"]


def test_nobody_holds_a_home_that_was_never_used(tmp_path: Path) -> None:
    assert running(tmp_path) is None
    assert running(tmp_path / "absent") is None
    assert not (tmp_path / "absent").exists()
