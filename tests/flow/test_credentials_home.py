"""Credentials of a home over time: made before there were any, renewed, cut short."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import nats
import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from polyplane.domains.laboratory import application
from polyplane.embedded import Engines
from polyplane.embedded.account import engine_account
from polyplane.embedded.ports import choose
from polyplane.embedded.supervisor import rotate
from polyplane.feed.jetstream import connect
from polyplane.ops.backup import at_rest
from polyplane.ops.credentials import sender_rights
from polyplane.security.realm import Realm, Sender, bucket_of
from tests.flow.embedded_s3 import client_of
from tests.flow.told import server, spoken

MINE: Final = Realm("mine", bucket_of("mine"))
OLD: Final = "0123456789abcdef" * 3
"""The one password of each engine of a home that was made before."""
BEFORE: Final = {
    "nats": {"name": "that-of-before", "password": OLD},
    "valkey": {"password": OLD},
    "seaweedfs": {"access_key": OLD, "secret_key": OLD},
}


@pytest.fixture
def home() -> Iterator[Path]:
    # Not tmp_path: pytest closes the folders above it, now and then, to every other user.
    home = Path(mkdtemp(prefix="polyplane-test-"))
    yield home
    shutil.rmtree(home)


async def made_before(home: Path) -> None:
    """A home as it was: one user of NATS, who comes to no account, and its streams; killed."""
    engines = home / "engines"
    nats_folder = engines / "nats"
    nats_folder.mkdir(parents=True)
    (home / "secrets.json").write_text(json.dumps(BEFORE))
    port = choose(["client"], {}, [])["client"]
    said = f'authorization {{ user: polyplane, password: "{OLD}" }}'
    async with server(nats_folder, port, said):
        client = await nats.connect(f"nats://polyplane:{OLD}@127.0.0.1:{port}")
        stream = client.jetstream()
        for name in ("mine-inbound-a-b", "mine-streams-c", "theirs-streams-c"):
            await stream.add_stream(name=name, subjects=[f"{name.replace('-', '.')}.>"])
            for n in range(3):
                await stream.publish(f"{name.replace('-', '.')}.x", str(n).encode())
        await client.close()
    (nats_folder / "js").rename(nats_folder / "jetstream")
    if account := engine_account(engines):
        for path in (engines, *engines.rglob("*")):
            os.chown(path, account.uid, account.gid)


@pytest.mark.parametrize("cut_short", [False, True])
async def test_a_home_of_before_opens_with_all_it_held_and_with_new_credentials(
    home: Path, cut_short: bool
) -> None:
    await made_before(home)
    if cut_short:  # killed when one of two streams had been moved
        files = home / "engines" / "nats" / "jetstream" / "jetstream"
        (files / "mine" / "streams").mkdir(parents=True)
        moved = "streams/mine-streams-c"
        (files / "$G" / moved).rename(files / "mine" / moved)
    engines = Engines(home, wanted=("nats", "valkey", "seaweedfs"), realm=MINE)
    await engines.start()
    try:
        feed = await connect(engines.urls["nats"], "mine")
        for name in ("mine-inbound-a-b", "mine-streams-c"):
            assert (await feed.bounds(name))[:2] == (1, 3)
            assert (await feed.get(name, 2) or pytest.fail()).body == b"1"
        await feed.close()
        assert OLD not in (home / "secrets.json").read_text()
        old = engines.urls["nats"].rpartition("@")[2]
        for user in ("polyplane", "mine-plane"):
            with pytest.raises(PermissionError):
                async with spoken(f"nats://{user}:{OLD}@{old}"):
                    pass
        assert client_of(engines.admins["s3"]).list_buckets()["Buckets"] == []
    finally:
        await engines.stop()
    # What is another namespace's waits for it, and is not there for ours.
    theirs = Engines(home, wanted=("nats",), realm=Realm("theirs", bucket_of("theirs")))
    await theirs.start()
    try:
        feed = await connect(theirs.urls["nats"], "theirs")
        assert (await feed.bounds("theirs-streams-c"))[:2] == (1, 3)
        await feed.close()
    finally:
        await theirs.stop()


async def admitted(engines: Engines) -> str:
    sender = Sender("laboratory", "acme", "bench-1")
    return await engines.admit(sender.user("mine"), sender_rights([application], "mine", sender))


async def test_rotated_credentials_are_new_and_the_old_ones_are_refused(home: Path) -> None:
    engines = Engines(home, wanted=("nats", "valkey"), realm=MINE)
    await engines.start()
    sender = await admitted(engines)
    old = {**engines.urls, **engines.admins}
    feed = await connect(old["nats"], "mine")
    await feed.ensure("mine-events", ["mine.events.>"], keep=False)
    await feed.close()
    await engines.stop()
    async with at_rest(home):
        rotate(home)
    await engines.start()
    try:
        feed = await connect(engines.urls["nats"], "mine")
        assert (await feed.bounds("mine-events")).created  # what is kept stays
        await feed.close()
        for url in (old["nats"], sender):
            with pytest.raises(PermissionError):
                async with spoken(url):
                    pass
        client = redis.Redis.from_url(old["valkey"], retry=Retry(NoBackoff(), 0))
        with client, pytest.raises(AuthenticationError):
            client.ping()
    finally:
        await engines.stop()
