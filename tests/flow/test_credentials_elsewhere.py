"""What is printed for servers of one's own, put to the test on them, or on what is nearest."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import bcrypt
import nats
import nats.errors
import nats.js.errors
import pytest
import redis
from redis.exceptions import NoPermissionError
from typer.testing import CliRunner

from polyplane import Settings
from polyplane.__main__ import PROGRAM
from polyplane.domains.laboratory import application
from polyplane.embedded import Engines
from polyplane.embedded.ports import choose
from polyplane.feed.jetstream import connect
from polyplane.ops import credentials
from polyplane.ops.credentials import HASH, PRINTED, sender_rights
from polyplane.security import series_rights
from polyplane.security.realm import Sender
from polyplane.serve.cli.credentials import app
from tests.flow.told import server, spoken

PASSWORD: Final = "of-an-administrators-own-choice"
CHILD_S: Final = 60.0


def settings(namespace: str, **given: Any) -> Settings:
    return Settings.load(environ={}, namespace=namespace, **given)


def for_two_planes() -> str:
    """What is printed for two planes and for a sender of one of them, as one puts it together."""
    one, two = (credentials.nats(settings(name)) for name in ("one", "two"))
    sender = Sender("laboratory", "acme", "b")
    rights = sender_rights([application], "one", sender)
    (user, _) = credentials.nats(settings("one"), (sender, rights))
    outside = one.index("  one-outside: {") + 2
    one[outside:outside] = [user]
    end = one.index("  SYS: {")
    one[end:end] = two[two.index("  two: {") : two.index("  SYS: {")]
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    return "\n".join(one).replace(HASH, hashed)


async def test_two_planes_on_one_nats_are_not_there_for_each_other(tmp_path: Path) -> None:
    port = choose(["client"], {}, [])["client"]

    def url(user: str) -> str:
        return f"nats://{user}:{PASSWORD}@127.0.0.1:{port}"

    async with server(tmp_path, port, for_two_planes()):
        one, two = [await connect(url(f"{name}-plane"), name) for name in ("one", "two")]
        admin = await nats.connect(url("one-admin"))
        try:
            await two.ensure("two-events", ["two.events.>"], keep=True)
            # Not even who may do everything in the one's account: it is another account.
            stream = admin.jetstream(timeout=5)
            with pytest.raises(nats.js.errors.NotFoundError):
                await stream.stream_info("two-events")
            with pytest.raises(nats.js.errors.NoStreamResponseError):
                await stream.publish("two.events.x", b"forged")
            await stream.add_stream(name="two-events", subjects=["two.events.>"])
            await stream.publish("two.events.x", b"its own")
            assert (await two.bounds("two-events")).last == 0
            assert (await one.bounds("two-events")).last == 1
            await one.ping()
        finally:
            for feed in (one, two):
                await feed.close()
            await admin.close()
        async with spoken(url("one~laboratory~acme~b")) as sender:
            assert await sender.may("pub", "one.inbound.laboratory.activity.acme.b")
            assert not await sender.may("pub", "one.inbound.laboratory.activity.acme.c")
        for strange in (url("three-plane"), url("one-plane").replace(PASSWORD, "guess")):
            with pytest.raises(PermissionError):
                async with spoken(strange):
                    pass


def test_two_planes_on_one_valkey_do_not_read_each_other(engines: Engines) -> None:
    lines = credentials.valkey(settings("one")) + credentials.valkey(settings("two"))
    with redis.Redis.from_url(engines.urls["valkey"], socket_timeout=5) as admin:
        seen = admin.acl_getuser("observer")
        for line in lines:
            words = line.replace("PASSWORD", PASSWORD).split()
            if words[:2] == ["ACL", "SETUSER"] and words[2] != "observer":
                assert admin.execute_command(*words) in ("OK", b"OK")
        try:
            port = admin.connection_pool.connection_kwargs["port"]
            for own, other in (("one", "two"), ("two", "one")):
                with redis.Redis(port=port, username=f"{own}-plane", password=PASSWORD) as plane:
                    assert plane.set(f"{own}:default:1", own, ex=60)
                    with pytest.raises(NoPermissionError):
                        plane.get(f"{other}:default:1")
        finally:
            admin.acl_deluser("one-plane", "two-plane")
            assert admin.acl_getuser("observer") == seen


def test_what_is_printed_names_the_planes_own(tmp_path: Path) -> None:
    given = settings(
        "lab_2",
        objects_bucket="files-of-lab",
        series_url="clickhouse://u:secret@h/points",
        nats_url="nats://u:secret@h",
        vector_api_key="secret",
    )
    text = {engine: "\n".join(print_(given)) for engine, print_ in PRINTED.items()}
    assert not any("secret" in it for it in text.values())
    assert "lab_2-plane" in text["nats"] and "~lab_2:*" in text["valkey"]
    assert text["s3"].count("arn:aws:s3:::files-of-lab") == 5
    assert "ON `points`.* TO `lab_2-plane`" in text["clickhouse"]
    assert "read_only_api_key" in text["qdrant"]


def test_the_command_prints_and_leaves_passwords_alone_unless_told(tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, dict[str, Any]]:
        given = [*words, "--json", "--home", str(tmp_path / "home")]
        done = CliRunner().invoke(app, given, obj=PROGRAM)
        return done.exit_code, json.loads(done.stdout)["data"]

    code, printed = run("print", "nats", "--sender", "b", "--tenant", "acme")
    assert code == 0
    assert "pp~laboratory~acme~b" in printed["lines"][0]
    assert printed["lines"][1].startswith("# nats consumer add pp-events controller-acme-b ")
    for words in (("print", "mysql"), ("print", "s3", "--sender", "b"), ("rotate",)):
        assert run(*words)[0] != 0
    code, told = run("sender", "b")
    assert code != 0 and "polyplane up" in told["fix"]


# ClickHouse in process knows no users but the one it comes as, whose grants its files may say.
CHILD: Final = """
import asyncio, json, sys
from polyplane.errors import Misconfigured, PolyplaneError, StoreDown
from polyplane.model.scope import Scope
from polyplane.stores.series import clickhouse
from polyplane.testing.readings import Reading, batch

REFUSED = [
    "SELECT * FROM theirs.t", "INSERT INTO theirs.t VALUES (1)", "DROP TABLE theirs.t",
    "CREATE DATABASE more", "CREATE TABLE theirs.u (a Int32) ENGINE = Memory",
    "DROP TABLE lab.reading", "DROP DATABASE lab", "TRUNCATE TABLE lab.reading",
    "ALTER TABLE lab.reading DELETE WHERE 1", "ALTER TABLE lab.reading DROP COLUMN note",
    "CREATE USER x", "GRANT SELECT ON theirs.* TO default", "SYSTEM FLUSH LOGS",
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
]

async def main(folder, users):
    store = await clickhouse.connect(f"chdb://{folder}?config-file={users}", database="lab")
    await store.prepare(Reading)
    await store.prepare(Reading)
    await store.append(Reading, batch("b", 30), token="b")
    counted = await store.count(Reading, Scope.everything)
    found = {"points": int(counted if isinstance(counted, int) else counted[0])}
    found["months"] = await store.partitions(Reading)
    found["allowed"] = []
    for sql in REFUSED:
        try:
            await store._writer.run(lambda client: client.command(sql))
        except PolyplaneError as error:
            told = str(error.__cause__ or error)
            if "ACCESS_DENIED" not in told and "Not enough privileges" not in told:
                found["allowed"].append([sql, told[:300]])
        else:
            found["allowed"].append([sql, ""])
    await store.close()
    print(json.dumps(found))

asyncio.run(main(*sys.argv[1:]))
"""
BESIDE: Final = """
import sys, chdb
c = chdb.connect(sys.argv[1])
c.query("CREATE DATABASE theirs")
c.query("CREATE TABLE theirs.t (a Int32) ENGINE = MergeTree ORDER BY a")
c.close()
"""
USERS: Final = """<clickhouse>
<profiles><default/></profiles><quotas><default/></quotas><users><default>
<password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
<grants><query>{grant}</query></grants></default></users></clickhouse>"""


async def test_the_grants_for_clickhouse_are_enough_and_no_more(tmp_path: Path) -> None:
    (grant,) = series_rights.grants("lab", to="default")
    users, config, folder = (tmp_path / it for it in ("users.xml", "config.xml", "data"))
    users.write_text(USERS.format(grant=grant.rpartition(" TO ")[0]))
    config.write_text(f"<clickhouse><users_config>{users}</users_config></clickhouse>")
    await printed_by(BESIDE, str(folder))
    found = json.loads(await printed_by(CHILD, str(folder), str(config)))
    assert found["allowed"] == []
    assert found["points"] == 30 and found["months"]


async def printed_by(source: str, *words: str) -> str:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", source, *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(CHILD_S):
        out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    return out.decode()
